"The scripts that measure the recipes: that they run, and that what they write down is what they saw"
import json
from functools import partial
import pytest, torch
from fastresize.demo import demo_data

def test_recipes_are_paired_with_plain(module, tmp_path, capsys):
    demo_data(tmp_path/'pics', n_train=8, n_valid=2, size=40)
    names = ['plain','stages bs','fixres','crops fixres','max_bs','averaged','equal time']
    module('recipes').main(data=str(tmp_path/'pics'), size=32, epochs=4, bs=8, seeds=2, workers=0, increase_by=8, arch='shufflenet_v2_x0_5', recipes=','.join(names), out=str(tmp_path), device_name='Some machine')
    r = json.loads(next(tmp_path.glob('recipes-some-machine-*.json')).read_text())
    runs = {(o['recipe'],o['seed']): o for o in r['runs']}
    assert not [o for o in r['runs'] if 'error' in o] and {*runs}=={(m,s) for m in names for s in (42,43)}
    for m in ('fixres','crops fixres'):
        off = [runs[m,s]['accuracy_larger']-runs['plain',s]['accuracy_larger'] for s in (42,43)]
        assert r['summary'][m]['accuracy_larger_to_plain']==pytest.approx(dict(mean=sum(off)/2, min=min(off), max=max(off)))
    assert runs['equal time',42]['epochs']>=4 and r['arguments']['test_size']==40 and str(tmp_path) not in json.dumps(r)
    out = capsys.readouterr().out
    for word in (*names,'of the time of plain','larger, to plain','Some machine'): assert word in out

@pytest.mark.parametrize('args,words', [
    (dict(recipes='plain,fast'), '--recipes: expected a list of full, plain'), (dict(recipes='full,equal time'), '--recipes: expected `plain` and another one'),
    (dict(epochs=3), '--epochs 3: expected 4 or more'), (dict(seeds=0), '--seeds 0: expected a number above 0'), (dict(data='nowhere'), '--data nowhere: expected')])
def test_mistakes_are_one_line(module, capsys, args, words):
    with pytest.raises(SystemExit) as e: module('recipes').main(**args)
    err = capsys.readouterr().err
    assert e.value.code==2 and words in err and len(err.strip().splitlines())==1

class Costly(torch.nn.Module):
    "Takes 5 ms a batch of 64 px and channel of `net`"
    def __init__(self, net, width, depth, clock): super().__init__(); self.net,self.width,self.clock = net(width, depth),width,clock
    def forward(self, x):
        self.clock.sleep(.005*self.width*x.shape[-1]**2/64**2)
        return self.net(x)

def test_budget_counts_those_within_ten_percent(module, tmp_path, monkeypatch, capsys, clock):
    "One takes about all of the time; the epochs of the other are so long that what is left is too short for another one"
    budget = module('budget')
    monkeypatch.setattr(budget, 'perf_counter', clock)
    monkeypatch.setattr(budget, 'net', partial(Costly, budget.net, clock=clock))
    monkeypatch.setattr(budget, 'demo_data', lambda **kwargs: demo_data(tmp_path/'pics', n_train=16, n_valid=4, size=64))
    monkeypatch.setattr(budget, 'setups', {'small': budget.setups['small'], 'wide': (64, 16, 12, 2, None, True)})
    budget.main(minutes=.06, out=str(tmp_path), device_name='Some machine')
    r = json.loads(next(tmp_path.glob('budget-some-machine-*.json')).read_text())
    small,wide = r['runs']
    assert (r['within'],r['of'])==(1,2) and [o['within'] for o in r['runs']]==[abs(o['seconds']/3.6-1)<=.1 for o in r['runs']]==[True,False]
    assert small['epochs']>wide['epochs']>0 and small['seconds']+wide['seconds']<=clock.now
    for o in r['runs']: assert 0<o['preview']<o['seconds']<=3.6 and o['preview']+o['predicted']==pytest.approx(o['seconds'], rel=.1)
    assert '1 of 2 within 10 %' in capsys.readouterr().out
