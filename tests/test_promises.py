"What is promised at every door: fastai's learner, Lightning's trainer, a loop of one's own"
import dataclasses, itertools, json, logging, os, pickle, subprocess, sys, warnings
from collections import UserDict, namedtuple
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
import torch.nn.functional as F, torch.utils.data as tud
import torch.utils.checkpoint, torchvision.transforms as T
from PIL import Image
from util import *
L = pytest.importorskip('lightning.pytorch')
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging, Timer
from fastresize.lightning import ProgressiveResizeCallback

for name in ('lightning.pytorch','lightning.fabric'): logging.getLogger(name).setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:lightning', 'ignore:.*log_every_n_steps', 'ignore:.*num_workers', 'ignore:.*litlogger',
                                        'ignore:.*bitwise copy', 'ignore:.*lr_scheduler.step')

# ---- the doors

class Anything(nn.Module):
    "A model that takes anything"
    def __init__(self): super().__init__(); self.w = nn.Parameter(torch.zeros(1))
    def forward(self, *args, **kwargs): return self.w

def w_sum(pred, *yb): return pred.sum()

class Noted(Callback):
    "Keeps every batch as the model gets it, and counts steps"
    order = 100
    def __init__(self): self.got,self.steps = [],0
    def before_batch(self):
        if self.training: self.got.append((*self.xb,*self.yb))
    def after_pred(self):
        if self.training: self.got[-1] = (*self.xb,*self.yb)
    def after_step(self): self.steps += 1

class Module(L.LightningModule):
    "Keeps every batch; the first part of it is for the model, the rest for the loss"
    def __init__(self, model=None, loss=w_sum): super().__init__(); self.model,self.loss,self.got,self.steps = model or Anything(),loss,[],0
    def forward(self, *xb): return self.model(*xb)
    def training_step(self, b, i):
        self.got.append(b)
        x,*y = b if isinstance(b, (tuple,list)) else [b]
        return self.loss(self.model(x), *y)
    def on_before_zero_grad(self, opt): self.steps += 1
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), .01)

def trainer(*cbs, **kwargs):
    kwargs = {**({} if 'max_steps' in kwargs or 'max_time' in kwargs else dict(max_epochs=4)), **kwargs}
    return L.Trainer(callbacks=[*cbs], accelerator='cpu', logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **kwargs)

def load(items, collate=None, bs=2, **kwargs): return tud.DataLoader(items, batch_size=bs, collate_fn=collate, **kwargs)

def by_fastai(dl, res, model=None, loss=w_sum, n_epoch=4, valid=None, metrics=(), **kwargs):
    wrapped = not isinstance(next(iter(dl)), (tuple,list))   # a `Learner` takes apart what it gets
    if wrapped:
        collate,dl = dl.collate_fn,copy(dl)
        dl.__dict__['collate_fn'] = lambda items: (collate(items),torch.zeros(len(items)))
    learn = Learner(DataLoaders(dl, valid or dl), model or Anything(), loss_func=loss, metrics=metrics, cbs=[ProgressiveResize(**kwargs), Noted()])
    res.on,res.noted,learn.logger = learn,learn.noted,noop
    learn.remove_cb(ProgressCallback)
    try: learn.fit(n_epoch)
    finally: res.got,res.steps = [b[0] if wrapped else b for b in learn.noted.got],learn.noted.steps

def by_lightning(dl, res, model=None, loss=w_sum, n_epoch=4, cbs=(), **kwargs):
    res.module,res.cb = Module(model, loss),ProgressiveResizeCallback(**kwargs)
    res.on = trainer(res.cb, *cbs, max_epochs=n_epoch)
    try: res.on.fit(res.module, dl)
    finally: res.got,res.steps = res.module.got,res.module.steps

_growth = 'initial_size','start','finish','increase_by','increase_mode','multiple_of'

def by_loop(dl, res, model=None, loss=None, n_epoch=4, final_size=64, verbose=None, **kwargs):
    s = size_schedule(final_size, n_epoch, **{k: kwargs.pop(k) for k in _growth if k in kwargs})
    res.got,res.steps = [],0
    res.on = sized_loader(dl, s, n_epoch, model=model, **kwargs)
    for _ in range(n_epoch):
        for b in res.on:
            res.got.append(b)
            res.steps += 1

doors = dict(fastai=by_fastai, lightning=by_lightning, loop=by_loop)
everywhere = pytest.mark.parametrize('door', doors)

def fit(door, items, collate=None, bs=2, loader={}, **kwargs):
    "Train on `items`; has the batches that the model got, what was said, and what was raised"
    res = SimpleNamespace(error=None, got=[], steps=0)
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        try: doors[door](items if isinstance(items, tud.DataLoader) else load(items, collate, bs, **loader), res, **{'increase_by':8, 'verbose':False, **kwargs})
        except Exception as e: res.error = e
    res.words = [str(w.message) for w in ws]
    return res

def trained_on(*args, **kwargs):
    "The batches that the model got"
    res = fit(*args, **kwargs)
    if res.error: raise res.error
    return res.got

def size(t): return tuple(t.shape[-2:])
def sizes(batches): return [size(b[0]) for b in batches]
def image(i, s=(64,64)): return torch.rand(3, *s, generator=torch.Generator().manual_seed(i))

pairs = [(image(i),i%2) for i in range(8)]

# ---- every batch has its scheduled size

@everywhere
def test_every_batch_has_its_scheduled_size(door): assert sizes(trained_on(door, pairs))==due(16)

class Slow(tud.Dataset):
    "Every second batch is late, so that others overtake it where they may"
    def __init__(self, late=.02): self.transform,self.late = T.Compose([T.Resize((64,64)), T.ToTensor()]),late
    def __len__(self): return 16
    def __getitem__(self, i):
        if i%4==0: time.sleep(self.late)
        return self.transform(picture(i, (80,100))),i

@pytest.mark.slow
@everywhere
@pytest.mark.parametrize('small', [False,True])
def test_batches_out_of_order(door, small):
    dl = load(Slow(), num_workers=2, in_order=False, multiprocessing_context='fork')
    got = trained_on(door, dl, multiple_of=16, increase_by=16, start=.6, finish=.8, n_epoch=2, resize_items=small, **(dict(valid=load(Slow(0))) if door=='fastai' else {}))
    expected = [(s,s) for s in size_list(16, 2)]
    assert sorted(sizes(got))==sorted(expected)   # in whatever order
    assert all(sorted(torch.cat([b[1] for b in got[8*e:8*e+8]]).tolist())==[*range(16)] for e in range(2))

def size_list(n, n_epoch):
    s = size_schedule(64, n_epoch, multiple_of=16, increase_by=16, start=.6, finish=.8)
    return [o[0] for e in range(n_epoch) for o in s.sizes_of(e, n_epoch, n//n_epoch)]

@pytest.mark.parametrize('how', ['plain','items','workers','persistent','larger',
                                 'stream'])
def test_a_loop_resumes_in_mid_epoch(how):
    w = dict(workers=dict(num_workers=2), persistent=dict(num_workers=2, persistent_workers=True)).get(how, {})
    class Stream(tud.IterableDataset):
        def __iter__(self): return iter((image(i),i) for i in range(16))
    dl = load(Stream()) if how=='stream' else load(Slow(0), **w)
    def new(): return sized_loader(dl, size_schedule(64, 4, increase_by=8), 4, resize_items=how=='items', n_batch=8 if how=='stream' else None, max_bs=4 if how=='larger' else None)
    def note(loader): return [(size(x),i.tolist()) for x,i in loader]
    loader = new()
    whole = [note(loader) for _ in range(4)]
    again = new()
    again.set_epoch(2, skip=3)
    assert [note(again),note(again)]==[whole[2][3:],whole[3]]
    if how!='larger': assert [s for e in whole for s,_ in e]==due(32)

def test_a_loop_resumes_after_the_last_batch_of_an_epoch():
    loader = sized_loader(load(pairs), size_schedule(64, 4, increase_by=8), 4)
    loader.set_epoch(1, skip=4)   # as a checkpoint says that was saved there
    assert [len(sizes(loader)) for _ in range(3)] == [0,4,4]
    assert loader.epoch==3

def test_accelerate_skipping_batches_is_refused_in_words():
    accelerate = pytest.importorskip('accelerate')
    loader = sized_loader(load(pairs), size_schedule(64, 4), 4)
    with pytest.raises((TypeError,ValueError,AttributeError), match='set_epoch.*skip'): accelerate.skip_first_batches(loader, 3)

@pytest.mark.parametrize('stop', [5,10,13])
def test_lightning_resumes_in_mid_epoch(stop, tmp_path):
    def fitted(path=None, **kwargs):
        module,t = Module(),trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), **kwargs)
        t.fit(module, load(pairs), ckpt_path=path, weights_only=False)
        return module,t
    class Stop(L.Callback):
        def on_train_batch_end(self, t, *args):
            if t.global_step==stop:
                t.save_checkpoint(tmp_path/'last.ckpt')
                raise Boom()
    module,t = Module(),trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), Stop())
    with pytest.raises(Boom): t.fit(module, load(pairs))
    rest,_ = fitted(tmp_path/'last.ckpt')
    assert sizes(module.got)+sizes(rest.got)==due(16)

# pictures of several shapes

shapes = (64,48),(48,64)
def several(every=2): return [(image(i, shapes[i%every>0]),i) for i in range(8)]
def as_lists(items): return tuple(map(list, zip(*items)))

@everywhere
def test_pictures_of_several_shapes(door):
    kwargs = dict(final_size=(64,48)) if door=='loop' else {}
    got = [[size(x) for x in b[0]] for b in trained_on(door, several(), as_lists, start=.4, finish=.6, **kwargs)]
    assert got[0]==[(32,24),(24,32)] and got[-1]==[(64,48),(48,64)] and len(got)==16

@pytest.mark.parametrize('every', [3, 2])
@pytest.mark.parametrize('final', [(48,64),64,48])
def test_pictures_of_several_shapes_end_as_they_are(final, every):
    res = fit('loop', several(every), as_lists, final_size=final)
    if res.error: assert isinstance(res.error, ValueError) and 'schedule' in str(res.error)
    else:
        assert [size(x) for x in res.got[-1][0]]==[shapes[i%every>0] for i in (6,7)]
        assert [size(x) for x in res.got[0][0]]==[tuple(s//2 for s in shapes[i%every>0]) for i in (0,1)]

@everywhere
def test_a_last_smaller_batch_and_one_of_a_single_item(door):
    got = trained_on(door, pairs[:7])
    assert sizes(got)==due(16) and [len(b[0]) for b in got[:4]]==[2,2,2,1]

# batches of an epoch that change

@pytest.mark.parametrize('small', [False,True])
@pytest.mark.parametrize('bs', [(8,8,4,2),(2,2,8,8),(4,1,8,2)], ids=str)
def test_lightning_makes_its_loaders_anew(bs, small):
    class Reloads(Module):
        def train_dataloader(self): return load(Slow(0), bs=bs[self.trainer.current_epoch])
    module = Reloads()
    trainer(ProgressiveResizeCallback(increase_by=8, verbose=False, resize_items=small), reload_dataloaders_every_n_epochs=1).fit(module)
    s = size_schedule(64, 4, increase_by=8)
    assert sizes(module.got)==[o for e in range(4) for o in s.sizes_of(e, 4, 16//bs[e])]

def test_a_loop_over_a_loader_that_changes_its_length():
    class Batches:
        n = 8
        def __len__(self): return self.n
        def __iter__(self): return iter([(torch.rand(2,3,64,64),0)]*self.n)
    dl,s = Batches(),size_schedule(64, 4, increase_by=8)
    loader,got,expected = sized_loader(dl, s, 4),[],[]
    for e,n in enumerate((8,4,16,2)):
        dl.n = n
        got += sizes(loader)
        expected += s.sizes_of(e, 4, n)
    assert got==expected

# ---- a look is not an epoch

def loop(n_epoch=4, **kwargs): return sized_loader(load(pairs), size_schedule(64, n_epoch, increase_by=8), n_epoch, **kwargs)

def a_batch(loader): next(iter(loader))
def a_few(loader): [*itertools.islice(loader, 2)]
def but_one(loader): [*itertools.islice(loader, 3)]
def without_gradients(loader):
    with torch.no_grad(): return sizes(loader)
def in_inference(loader):
    with torch.inference_mode(): return sizes(loader)
def broken_off(loader):
    with pytest.raises(Boom):
        for b in loader: raise Boom
def the_length(loader): return len(loader),repr(loader),loader.sizes(3)

@pytest.mark.parametrize('look', [a_batch,a_few,but_one,without_gradients,in_inference,broken_off,the_length], ids=lambda f: f.__name__)
def test_a_look_is_not_an_epoch(look):
    loader,got = loop(),[]
    look(loader)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(4):
            got += sizes(loader)
            if look in (without_gradients,in_inference): look(loader)   # after each epoch, as some have it
    assert got==due(16)

def test_the_training_accuracy_is_measured_at_the_size_of_the_epoch_to_come_or_the_last():
    loader = loop()
    for e in range(4):
        last = sizes(loader)[-1]
        assert last<=without_gradients(loader)[-1]
    assert without_gradients(loader)==[(64,64)]*4

@pytest.mark.parametrize('skip', [0,1])
def test_the_training_accuracy_is_that_of_all_items(skip):
    loader = loop()
    loader.set_epoch(1, skip=skip)
    assert len(without_gradients(loader))==4 and len(sizes(loader))==4-skip and len(without_gradients(loader))==4

def test_a_pass_of_just_its_batches_is_an_epoch():
    loader = loop()
    assert [s for _ in range(4) for s in sizes(b for _,b in zip(range(4), loader))]==due(16)   # which never asks for a fifth

def test_more_passes_than_epochs_are_said_once():
    loader = loop(2)
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        got = [sizes(loader) for _ in range(5)]
    assert len(ws)==1 and '`n_epoch`=2' in str(ws[0].message) and 'set_epoch' in str(ws[0].message) and got[-1]==[(64,64)]*4

def test_who_sets_the_epoch_is_believed():
    loader,got = loop(),[]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for e in range(4):
            loader.set_epoch(e)
            got += sizes(loader)
            loader.set_epoch(0)
            assert sizes(loader)==[(32,32)]*4
    assert got==due(16)

def test_passes_that_are_always_left_early_are_said():
    loader = loop()
    with pytest.warns(UserWarning, match='breaks before the last batch.*`n_batch`'):
        for _ in range(4): a_few(loader)

def test_a_look_after_the_training_is_no_pass():
    loader = loop()
    for _ in range(4): sizes(loader)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        a_batch(loader)

def test_one_endless_pass_grows_or_is_refused_in_words():
    class Endless(tud.IterableDataset):
        def __iter__(self): return ((image(0),0) for _ in itertools.count())
    loader = sized_loader(load(Endless()), size_schedule(64, 4, increase_by=8), 4, n_batch=4)
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        got = sizes(itertools.islice(loader, 16))
    assert got==due(16) or any('n_batch' in str(w.message) for w in ws)

# ---- what lies over pixels follows

@dataclasses.dataclass
class Batch:
    image:torch.Tensor
    mask:torch.Tensor
    label:torch.Tensor=None
@dataclasses.dataclass(frozen=True)
class Frozen:
    image:torch.Tensor
    mask:torch.Tensor
class Nested:
    def __init__(self, tensors, mask): self.tensors,self.mask = tensors,mask
Named = namedtuple('Named', 'image mask')

def stack(items): return [torch.stack(o) for o in zip(*items)]
def into(make):
    def collate(items): return make(*stack(items))
    return collate

containers = { # how a batch is made of images and masks, and what it is asked for
    'tuple':            (lambda x,m: (x,m), lambda b: (b[0],b[1])),
    'list':             (lambda x,m: [x,m], lambda b: (b[0],b[1])),
    'dict':             (lambda x,m: dict(image=x, mask=m), lambda b: (b['image'],b['mask'])),
    'mask first':       (lambda x,m: dict(mask=m, image=x), lambda b: (b['image'],b['mask'])),
    'nested':           (lambda x,m: dict(inputs=dict(pixels=x), targets=dict(mask=m, label=torch.arange(len(x)))), lambda b: (b['inputs']['pixels'],b['targets']['mask'])),
    'dict in a tuple':  (lambda x,m: (x,dict(mask=m, label=torch.arange(len(x)))), lambda b: (b[0],b[1]['mask'])),
    'pair in a tuple':  (lambda x,m: (x,(torch.arange(len(x)),m)), lambda b: (b[0],b[1][1])),
    'two dicts':        (lambda x,m: (dict(image=x),dict(mask=m)), lambda b: (b[0]['image'],b[1]['mask'])),
    'dataclass':        (lambda x,m: Batch(x, m, torch.arange(len(x))), lambda b: (b.image,b.mask)),
    'frozen':           (Frozen, lambda b: (b.image,b.mask)),
    'object':           (Nested, lambda b: (b.tensors,b.mask)),
    'namedtuple':       (Named, lambda b: (b[0],b[1])),
}

def label_map(dtype=torch.int64, channel=False):
    "Classes 0 and 2, and what is to be ignored where the dtype has it; and the values"
    m = torch.zeros(64, 64)
    m[16:48,17:49] = 2
    values = {0,2}
    if dtype==torch.bool: m,values = m>0,{0,1}
    else:
        m[:8] = 255
        if dtype!=torch.uint8: m[56:] = -1
        values |= {255} if dtype==torch.uint8 else {255,-1}
    return (m[None] if channel else m).to(dtype),values

dtypes = torch.int64,torch.int32,torch.uint8,torch.bool,torch.float32,torch.float64
kinds = [(d,c) for d in dtypes for c in (True,False)]

def pixels(kind):
    def f(i): return (image(i)*255).to(torch.uint8) if kind=='bytes' else image(i)[:1] if kind=='gray' else image(i)
    return f

def maps_follow(door, container, dtype, channel, picture='floats', **kwargs):
    m,values = label_map(dtype, channel)
    make,parts = containers[container]
    got = [parts(b) for b in trained_on(door, [(pixels(picture)(i),m) for i in range(4)], into(make), n_epoch=2, **kwargs)]
    for (x,y),s in zip(got, due(4)):
        assert size(x)==size(y)==s and y.dtype==dtype and y.ndim==3+channel, (size(x),size(y),s)
        assert {*y.flatten().tolist()}==values
    return len(got)==4

@pytest.mark.parametrize('dtype,channel', kinds, ids=str)
@pytest.mark.parametrize('container', containers)
def test_label_maps_follow_in_a_loop(container, dtype, channel): assert maps_follow('loop', container, dtype, channel)

@pytest.mark.parametrize('door', ['fastai','lightning'])
@pytest.mark.parametrize('container', containers)
def test_label_maps_follow_at_the_other_doors(door, container):
    if (door,container) in (('lightning','frozen'),('fastai','namedtuple')): pytest.skip('which the library itself does not take')
    for dtype,channel in ((torch.uint8,True), (torch.float32,False)): assert maps_follow(door, container, dtype, channel)

@pytest.mark.parametrize('dtype,channel', kinds, ids=str)
@pytest.mark.parametrize('picture', ['bytes','gray'])
@pytest.mark.parametrize('container', ['tuple','dict','mask first','dataclass'])
def test_label_maps_beside_pictures_of_other_kinds(container, picture, dtype, channel): assert maps_follow('loop', container, dtype, channel, picture)

def gray_bytes(i): return (image(i)[:1]*255).to(torch.uint8)

@pytest.mark.parametrize('first,kwargs', [('image',{}), ('image',dict(pictures='image')), ('mask',dict(pictures='image')),
                                          ('mask', {})], ids=str)
def test_bytes_of_one_channel_beside_bytes_of_one_channel(first, kwargs):
    m,values = label_map(torch.uint8, True)
    def make(x, m): return dict(image=x, mask=m) if first=='image' else dict(mask=m, image=x)
    for b in trained_on('loop', [(gray_bytes(i),m) for i in range(8)], into(make), **kwargs):
        assert {*b['mask'].flatten().tolist()}==values and size(b['mask'])==size(b['image'])

@everywhere
@pytest.mark.parametrize('dtype', [torch.float32,torch.uint8])
def test_the_first_maps_may_be_empty(door, dtype):
    m,values = label_map(dtype, True)
    items = [(image(i),m*0 if i<9 else m) for i in range(12)]
    got = trained_on(door, items, n_epoch=2)
    assert all(size(x)==size(y) and {*y.flatten().tolist()}<=values for x,y in got)

@pytest.mark.parametrize('steered', [True,False])
@pytest.mark.parametrize('dtype', [torch.float32,torch.uint8,torch.int64])
def test_label_maps_that_are_plain_tensors_in_fastais_own_loader(dtype, steered):
    m,values = label_map(dtype, True)
    dls = make_dls(*aug_transforms(max_rotate=0, max_warp=0, max_zoom=1), y=TransformBlock, get_y=lambda i: m, n=20, bs=4)
    learn = Learner(dls, Anything(), loss_func=w_sum, cbs=[ProgressiveResize(increase_by=8, verbose=False, add_resize=not steered), Noted()])
    with learn.no_bar(), learn.no_logging(): learn.fit(4)
    got = learn.noted.got
    assert sizes(got)==due(16)
    for x,y in got: assert size(x)==size(y) and {*y.flatten().tolist()}==values

@pytest.mark.parametrize('kind', ['int64','bool'])
def test_a_class_map_for_each_class(kind):
    m = F.one_hot(label_map()[0].clamp(0,2), 3).permute(2,0,1)
    got = trained_on('loop', [(image(i),m.to(getattr(torch, kind))) for i in range(4)], n_epoch=2)
    for x,y in got: assert size(x)==size(y) and (y.long().sum(1)==1).all()

@everywhere
def test_images_with_objects_of_torchvision(door):
    def item(i):
        m = torch.zeros(2,64,64, dtype=torch.uint8)
        m[0,8:24,8:24] = m[1,32:,32:] = 1
        return image(i),dict(boxes=torch.tensor([[8.,8,24,24],[32,32,64,64]]), labels=torch.tensor([1,2]), masks=m)
    res = fit(door, [item(i) for i in range(8)], as_lists)
    assert not res.error and sum('boxes or points in pixels' in w for w in res.words)>=1
    for b,s in zip(res.got, due(16)):
        for x,t in zip(*b):
            assert size(x)==size(t['masks'])==s and {*t['masks'].flatten().tolist()}=={0,1}
            assert t['boxes'].tolist()==[[8,8,24,24],[32,32,64,64]] and t['labels'].tolist()==[1,2]

# what does not lie over pixels

def in_a_loop(names, *others):
    "Each of `names` in a loop, and `others` at the other doors; `names` are parameters too"
    return [pytest.param(door, *n.values, marks=n.marks) for n in (o if isinstance(o, type(pytest.param())) else pytest.param(o) for o in names)
            for door in doors if door=='loop' or n.values[0] in others]

labels = {'anchors':(5,36), 'boxes':(10,5), 'grid':(7,7), 'classes':(10,), 'one':(), 'text':(77,), 'sequence':(16,512), 'volume':(7,7,30), 'features':(9,7,7), 'attention':(1,9,9), 'colours':(3,7,7)}
values = {'floats': torch.rand, 'ints': lambda s: torch.randint(0, 9, s), 'whole': lambda s: torch.randint(0, 2, s).float()}

@pytest.mark.parametrize('kind', values)
@everywhere
def test_labels_reach_the_loss_to_the_bit(door, kind):
    torch.manual_seed(0)
    items = [(image(i),*(values[kind](s) for s in labels.values())) for i in range(4)]
    got = trained_on(door, items, into(lambda x,*ys: (x,dict(zip(labels, ys)))), n_epoch=2)
    for b,(a,*_),s in zip(got, itertools.cycle((items[:2],items[2:])), due(4)):
        assert size(b[0])==s
        for k,v in zip(labels, a[1:]): assert torch.equal(b[1][k][0], v), k

@pytest.mark.parametrize('door,name', in_a_loop([*[o for o in labels if o!='colours'], 'colours'], 'grid', 'colours'))
def test_a_label_alone_reaches_the_loss_to_the_bit(door, name):
    torch.manual_seed(0)
    items = [(image(i),torch.rand(labels[name])) for i in range(4)]
    for b,i in zip(trained_on(door, items, n_epoch=2), (0,2,0,2)): assert torch.equal(b[1], torch.stack([items[i][1],items[i+1][1]]))

@pytest.mark.parametrize('door,name', [o for o in in_a_loop([o if o in ('classes','one','text') else o for o in labels], 'boxes', 'volume') if o.values[0]!='fastai'])
def test_a_label_in_the_dict_of_its_picture_reaches_the_loss_to_the_bit(door, name):
    torch.manual_seed(0)
    items = [(image(i),torch.rand(labels[name])) for i in range(4)]
    got = trained_on(door, items, into(lambda x,y: dict(image=x, label=y)), n_epoch=2)
    for b,i in zip(got, (0,2,0,2)): assert torch.equal(b['label'], torch.stack([items[i][1],items[i+1][1]]))

# heatmaps

def heatmap(at, s=(16,16), sigma=1.5):
    y,x = torch.meshgrid(*(torch.arange(float(n)) for n in s), indexing='ij')
    return torch.exp(-((y-at[0])**2 + (x-at[1])**2)/(2*sigma**2))

@pytest.mark.parametrize('door,sigma', in_a_loop([.4,1.5,2.], 1.5))
@pytest.mark.parametrize('n', [17,1,3,None])
def test_heatmaps_keep_their_peaks(door, n, sigma):
    def item(i): return image(i),torch.stack([heatmap((5+i%4,5+(3*k)%7), sigma=sigma) for k in range(n or 1)])[slice(None) if n else 0]
    for x,y in trained_on(door, [item(i) for i in range(4)], n_epoch=2):
        assert [4*o for o in y.shape[-2:]]==[*x.shape[-2:]]
        assert (y.amax((-2,-1))==1).all()

@pytest.mark.parametrize('stride', [1,2,8])
def test_heatmaps_of_any_stride_keep_their_peaks(stride):
    s = 64//stride
    for x,y in trained_on('loop', [(image(i),heatmap((s//2,s//3), (s,s), 1)[None].repeat(17,1,1)) for i in range(4)], n_epoch=2):
        assert stride*y.shape[-1]==x.shape[-1] and (y.amax((-2,-1))==1).all()

@pytest.mark.parametrize('n', [17,1])
@everywhere
def test_heatmaps_where_the_first_pictures_have_no_objects(door, n):
    h = heatmap((7,7))[None].repeat(n,1,1)
    items = [(image(i),h if i in (1,3,5,7) else 0*h) for i in range(8)]
    for x,y in trained_on(door, items): assert 4*y.shape[-1]==x.shape[-1] and y[1].max()==1 and y[0].max()==0

@pytest.mark.parametrize('n,kwargs', [(17,dict(pictures='image')), (1,dict(pictures='image')), (3, dict(pictures='image')),
                                      *[(n, {}) for n in (17,3,1)]], ids=str)
@pytest.mark.parametrize('door', ['lightning','loop'])
def test_heatmaps_in_the_dict_of_their_picture_keep_their_peaks(door, n, kwargs):
    items = [(image(i),heatmap((7,7))[None].repeat(n,1,1)) for i in range(4)]
    for b in trained_on(door, items, into(lambda x,y: dict(image=x, heat=y)), n_epoch=2, **kwargs):
        assert 4*b['heat'].shape[-1]==b['image'].shape[-1] and (b['heat'].amax((-2,-1))==1).all()

def test_heatmaps_by_name():
    def item(i): return image(i),heatmap((7,7))[None].repeat(3,1,1),torch.rand(2,16,16)
    got = trained_on('loop', [item(i) for i in range(4)], into(lambda x,h,o: dict(image=x, heat=h, offset=o)), n_epoch=2, resize_targ=dict(heat='max', offset='nearest'), pictures='image')
    for b in got: assert 4*b['heat'].shape[-1]==4*b['offset'].shape[-1]==b['image'].shape[-1] and b['heat'].amax()==1

# what the user says

soft = [(image(i),image(100+i)[:1]) for i in range(4)]   # for instance an alpha matte or a depth
def as_dict(x, y): return dict(image=x, depth=y)

@pytest.mark.parametrize('container', ['tuple','dict in a tuple'])
@everywhere
def test_targets_stay_where_the_user_says_so(door, container):
    make,parts = containers[container]
    for wish in (False, {1:False}, dict(mask=False)):
        if container=='tuple' and isinstance(wish, dict) and 'mask' in wish: continue
        got = trained_on(door, soft, into(make), n_epoch=2, resize_targ=wish)
        for b,s,i in zip(got, due(4), (0,2,0,2)):
            x,y = parts(b)
            assert size(x)==s and torch.equal(y, torch.stack([soft[i][1],soft[i+1][1]]))

def expected_of(mode, y, s):
    if mode=='max': return F.adaptive_max_pool2d(y, s)
    return F.interpolate(y, s, mode=mode, antialias=mode in ('bilinear','bicubic'))

@pytest.mark.parametrize('mode', ['nearest','nearest-exact','bilinear','bicubic','area','max'])
@pytest.mark.parametrize('how', ['plain','position','key'])
def test_targets_are_resized_as_the_user_says(mode, how):
    make = into(lambda x,y: (x,dict(depth=y))) if how=='key' else None
    wish = dict(plain=mode, position={1:mode}, key=dict(depth=mode))[how]
    for b in trained_on('loop', soft, make, n_epoch=2, resize_targ=wish)[:2]:
        y = b[1]['depth'] if how=='key' else b[1]
        i = 0 if torch.equal(y, expected_of(mode, torch.stack([o[1] for o in soft[:2]]), (32,32))) else 2
        assert torch.equal(y, expected_of(mode, torch.stack([o[1] for o in soft[i:i+2]]), (32,32)))

@pytest.mark.parametrize('door', ['fastai','lightning'])
def test_modes_at_the_other_doors(door):
    for b in trained_on(door, soft, n_epoch=2, resize_targ={1:'nearest'})[:1]: assert torch.equal(b[1], torch.stack([o[1] for o in soft[:2]])[...,::2,::2])

@pytest.mark.parametrize('wish', [dict(depth='nearest'),dict(depth=False)], ids=str)
@pytest.mark.parametrize('door', ['lightning','loop'])
def test_what_a_dict_holds_is_treated_as_the_user_says_by_its_key(door, wish):
    b = trained_on(door, soft, into(as_dict), n_epoch=2, resize_targ=wish)[0]
    whole = torch.stack([o[1] for o in soft[:2]])
    assert size(b['image'])==(32,32) and torch.equal(b['depth'], whole if wish['depth'] is False else whole[...,::2,::2])

@everywhere
@pytest.mark.parametrize('wish', ['best',3,{'mask':'best'}], ids=str)
def test_a_wish_that_means_nothing_is_refused_in_words(door, wish):
    res = fit(door, soft, resize_targ=wish)
    assert isinstance(res.error, ValueError) and '`resize_targ`' in str(res.error) and res.steps==0

@everywhere
def test_a_name_that_is_not_in_the_batch_is_pointed_out(door):
    def said(names): return ' '.join(fit(door, soft, into(lambda x,y: (x,dict(depth=y))), n_epoch=2, resize_targ=names).words)
    assert "`resize_targ` names 'deph', which is not in the batch; it has 'depth'" in said(dict(deph='nearest'))
    assert '`resize_targ`' not in said(dict(depth='nearest'))

@everywhere
@pytest.mark.parametrize('method', ['crop','lowpass'])
def test_images_smaller_than_the_final_size_are_enlarged(door, method):
    got = trained_on(door, pairs, final_size=96, increase_by=16, method=method)
    assert sizes(got)==[(48,48)]*8+[(64,64)]*2+[(80,80)]*2+[(96,96)]*4

@everywhere
@pytest.mark.parametrize('kwargs,message', [(dict(per_batch=True),'`per_batch`=True: expected False without `set_size`')])
def test_arguments_that_would_do_nothing_are_refused(door, kwargs, message):
    assert message in str(fit(door, pairs, **kwargs).error)

@pytest.mark.parametrize('door', ['fastai','lightning'])
def test_a_sized_loader_is_not_sized_twice(door):
    loader = sized_loader(load(pairs), size_schedule(64, 4, increase_by=8), 4)
    with pytest.raises(ValueError, match='expected one that is not a `SizedLoader` already'): doors[door](loader, SimpleNamespace(), increase_by=8, verbose=False)

lines = torch.zeros(64,64); lines[:,[9,20,31,42]] = 1.   # vessels, cracks or lanes, a pixel wide
tiles = F.one_hot((torch.arange(64)//7)[:,None].expand(64,64), 10).permute(2,0,1).float()

@everywhere
def test_binary_masks_of_several_classes_stay_binary_and_as_thin(door):
    for mask in (torch.stack([lines,lines.T]),tiles):
        for x,y in trained_on(door, [(image(i),mask) for i in range(4)], n_epoch=2)[:2]:
            assert size(y)==size(x) and {*y.unique().tolist()}=={0.,1.} and y.mean().item()==pytest.approx(mask.mean().item(), abs=.02)
            if mask is tiles: assert (y.sum(1)==1).all()

@everywhere
def test_keypoints_of_a_single_pixel_are_kept(door):
    points = torch.zeros(17,16,16)
    points[torch.arange(17),(torch.arange(17)*3)%16,(torch.arange(17)*5)%16] = 1.
    for x,y in trained_on(door, [(image(i),points) for i in range(4)], n_epoch=2): assert (y.amax((-2,-1))==1).all()

def test_crowded_keypoints_of_a_single_pixel_are_kept():
    "Some happen to touch"
    points = torch.zeros(5,64,64)
    for i in range(80): points[i%5,(i*37)%61,(i*53)%59] = 1.
    points[0,20,20:22] = 1.
    n = int(points.sum())
    for x,y in trained_on('loop', [(image(i),points) for i in range(4)], n_epoch=2)[:1]: assert y[0].sum()>=.9*n

def test_a_binary_input_that_is_not_named_is_left_alone():
    guide = torch.stack([lines,lines.T])
    for x,g,y in trained_on('loop', [(image(i),guide,i) for i in range(4)], n_epoch=2, pictures=0): assert size(g)==(64,64) and size(x)<=(64,64)

class Endless(tud.IterableDataset):
    def __iter__(self): yield from ((image(i),dict(depth=soft[i][1])) for i in range(4))

@everywhere
def test_a_name_that_is_not_in_a_batch_that_cannot_be_looked_at_before(door):
    class Data(Endless):
        def __len__(self): return 4
    said = ' '.join(fit(door, tud.DataLoader(Data(), batch_size=2), n_epoch=2, resize_targ=dict(deph='nearest')).words)
    assert "`resize_targ` names 'deph', which is not in the batch; it has 'depth'" in said

# views

@pytest.mark.parametrize('views', [(64,64),(64,64,64),(64,64,32,32,32)], ids=str)
@everywhere
def test_views_without_a_label_are_all_made_small(door, views):
    got = trained_on(door, [[image(i*9+k, (s,s)) for k,s in enumerate(views)] for i in range(8)])
    for b,(s,_) in zip(got, due(16)): assert [v.shape[-1] for v in b]==[round(o*s/64) for o in views]

@pytest.mark.parametrize('make', [lambda a,b: dict(a=a, b=b), lambda a,b: ([a,b],torch.arange(len(a))), lambda a,b: (a,b,torch.arange(len(a))), lambda a,b: (torch.stack([a,b], 1),torch.arange(len(a)))],
                         ids=['dict','nested','labelled','stacked'])
@everywhere
def test_views_in_other_shapes_are_all_made_small(door, make):
    got = trained_on(door, [(image(i),image(i+50)) for i in range(4)], into(make), n_epoch=2)
    from fastresize.batch import leaves
    for b,s in zip(got, due(4)): assert {size(t) for t in leaves(b) if t.ndim>2}=={s}

@everywhere
def test_pictures_of_bytes_and_views_of_bytes(door):
    got = trained_on(door, [(gray_bytes(i),gray_bytes(i+50)) for i in range(4)], n_epoch=2)
    for a,b in got: assert size(a)==size(b) and len(b.unique())>50

# channels last

@everywhere
@pytest.mark.parametrize('dtype', [torch.float32,torch.uint8])
def test_channels_last_are_refused_in_words_or_left_alone(door, dtype):
    items = [((image(i)*200).permute(1,2,0).to(dtype),i) for i in range(4)]
    res = fit(door, items, n_epoch=2)
    said = ' '.join([*res.words, str(res.error)])
    assert 'channels last' in said and 'permute' in said
    for b in res.got: assert b[0].shape[1:]==(64,64,3)
    assert door=='loop' or len(res.got)==4

@everywhere
def test_labels_over_pixels_beside_channels_last_are_left_alone(door):
    items = [(image(i).permute(1,2,0),label_map()[0]) for i in range(4)]
    for b in fit(door, items, n_epoch=2).got: assert b[0].shape[1:]==(64,64,3) and b[1].shape[1:]==(64,64)

@everywhere
def test_targets_with_channels_last_are_left_alone(door):
    items = [(image(i),torch.rand(64,64,2)) for i in range(4)]
    for b,i in zip(trained_on(door, items, n_epoch=2), (0,2,0,2)): assert torch.equal(b[1], torch.stack([items[i][1],items[i+1][1]]))

# boxes

boxes = {'boxes':(image(0),torch.tensor([[8.,8,24,24]])), 'points':(image(0),torch.tensor([[8.,8],[20,30]])), 'one box':(image(0),torch.tensor([8.,8,24,24])),
         'with scores':(image(0),torch.tensor([[8.,8,24,24,1]]))}

@pytest.mark.parametrize('door', ['fastai','loop','lightning'])
@pytest.mark.parametrize('kind', boxes)
def test_boxes_in_pixels_are_warned_of_once(door, kind):
    res = fit(door, [boxes[kind]]*4, n_epoch=2)
    assert not res.error and sum('boxes or points in pixels' in w for w in res.words)==1
    assert all(torch.equal(b[1][0], boxes[kind][1]) for b in res.got) and sizes(res.got)==due(4)

@everywhere
def test_boxes_that_need_no_warning(door):
    assert not any('boxes' in w for w in fit(door, [boxes['boxes']]*4, n_epoch=2, resize_targ=False).words)
    shares = [(image(0),torch.rand(3,4))]*4
    assert not any('boxes' in w for w in fit(door, shares, n_epoch=2).words)

# ---- what a model cannot take is found before the first step

def cross_entropy(pred, y): return F.cross_entropy(pred, y)

def of_one_size(): return nn.Sequential(nn.Flatten(), nn.Linear(3*64*64,2))

class OnPatches(nn.Module):
    "Like a ViT that takes any number of whole patches"
    def __init__(self): super().__init__(); self.patches,self.head = nn.Conv2d(3,8,16,16),nn.Linear(8,2)
    def forward(self, x):
        assert not x.shape[-1]%16, f'width {x.shape[-1]} is no multiple of the patch'
        return self.head(self.patches(x).mean((-2,-1)))

@pytest.mark.parametrize('small', [False,True])
@pytest.mark.parametrize('model', [of_one_size,OnPatches])
@everywhere
def test_a_size_that_the_model_cannot_take_is_found_first(door, model, small):
    res = fit(door, Slow(0) if small else pairs, model=model(), loss=lambda p,y: F.cross_entropy(p, y%2), resize_items=small)
    assert type(res.error).__name__=='SizeError' and res.steps==0
    assert ('[32, 32]' if model is of_one_size else '[40, 40]') in str(res.error) and '`multiple_of=16`' in str(res.error)

@everywhere
def test_a_model_on_patches_trains_as_the_message_says(door):
    res = fit(door, pairs, model=OnPatches(), loss=cross_entropy, multiple_of=16, increase_by=16)
    assert not res.error and {*sizes(res.got)}=={(32,32),(48,48),(64,64)}

class InWords(nn.Module):
    "Takes keywords, as models of Hugging Face do"
    def __init__(self): super().__init__(); self.model = of_one_size()
    def forward(self, pixel_values, labels): return self.model(pixel_values)

def test_a_loop_over_dicts_tries_the_model_with_keywords():
    res = fit('loop', pairs, keyed, model=InWords())
    assert type(res.error).__name__=='SizeError' and res.steps==0

def keyed(items): return dict(pixel_values=torch.stack([x for x,_ in items]), labels=torch.tensor([y for _,y in items]))

class OfItsOwn(Module):
    "A module that is no more than its `training_step`"
    how = 'plain'
    forward = L.LightningModule.forward
    def training_step(self, b, i):
        if self.how=='trainer': assert self.trainer.global_step>=0
        if self.how=='log': self.log('loss', 0., prog_bar=True)
        loss = F.cross_entropy(self.model(b['pixel_values']), b['labels'])
        if self.how=='manual':
            opt = self.optimizers()
            opt.zero_grad(); self.manual_backward(loss); opt.step()
        self.steps += 1
        return loss

@pytest.mark.parametrize('how', ['plain','log','trainer','manual'])
def test_lightning_finds_it_in_any_module(how):
    module = OfItsOwn(OnPatches())
    module.how,module.automatic_optimization = how,how!='manual'
    with pytest.raises(ValueError, match='cannot take images of'): trainer(ProgressiveResizeCallback(verbose=False)).fit(module, load(pairs, keyed))
    assert module.steps==0

def test_a_trial_in_a_loop_leaves_no_trace():
    model = small_model().eval()
    before,rng = {k: v.clone() for k,v in model.state_dict().items()},torch.get_rng_state()
    with torch.autocast('cpu', torch.bfloat16): loop(model=model)
    assert all(torch.equal(v, before[k]) for k,v in model.state_dict().items()) and torch.equal(rng, torch.get_rng_state())
    assert not any(m.training for m in model.modules()) and not any(p.grad is not None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

def test_a_loop_over_a_stream_says_that_nothing_is_tried():
    class Stream(tud.IterableDataset):
        def __iter__(self): return iter(pairs)
    with pytest.warns(UserWarning, match='`model`: sizes are not tried beforehand'):
        sized_loader(load(Stream()), size_schedule(64, 4), 4, n_batch=4, model=of_one_size())

# metrics

def picky(p, y):
    assert p.shape[-1]>60, 'images should be larger than 60'
    return p.mean()
class Picky(AccumMetric):
    def __init__(self): super().__init__(picky, flatten=False)
class OwnMetric(Metric):
    def reset(self): pass
    def accumulate(self, learn): picky(learn.pred, learn.y)
    @property
    def value(self): return 0.
def to_itself(items): return torch.stack([x for x,_ in items]),torch.stack([x for x,_ in items])
def mse(p, y): return F.mse_loss(p, y)

@pytest.mark.parametrize('metric', [lambda: picky, Picky, OwnMetric], ids=['function','accumulated','own'])
def test_a_metric_that_wants_a_size_is_found_first_or_the_remedy_is_said(metric):
    res = fit('fastai', pairs, to_itself, model=nn.Conv2d(3,3,3,padding=1), loss=mse, metrics=metric())
    assert res.error is not None and (res.steps==0 or 'resize_valid=False' in str(res.error))

def test_a_metric_that_wants_a_size_is_content_with_validation_at_full_size():
    res = fit('fastai', pairs, to_itself, model=nn.Conv2d(3,3,3,padding=1), loss=mse, metrics=picky, resize_valid=False)
    assert not res.error and sizes(res.got)==due(16)

def test_a_validation_step_that_wants_a_size_is_found_first_or_the_remedy_is_said():
    class Validates(Module):
        def validation_step(self, b, i): picky(self(b[0]), b[0])
    module = Validates(nn.Conv2d(3,3,3,padding=1), mse)
    with pytest.raises(Exception) as e: trainer(ProgressiveResizeCallback(verbose=False)).fit(module, load(pairs, to_itself), load(pairs, to_itself))
    assert module.steps==0 and '`resize_valid=False` validates at full size' in str(e.value)

# a loss that takes targets at full size alone

class Upsamples(nn.Module):
    def __init__(self): super().__init__(); self.conv = nn.Conv2d(3,4,3,padding=1)
    def forward(self, x): return F.interpolate(self.conv(x), (64,64))

class SameSize(Upsamples):
    def forward(self, x): return self.conv(x)

maps = [(image(i),label_map(torch.int64)[0].clamp(0,2)) for i in range(8)]

@pytest.mark.parametrize('door', ['fastai','lightning'])
def test_targets_stay_where_the_loss_takes_them_at_full_size_alone(door):
    got = trained_on(door, maps, model=Upsamples(), loss=cross_entropy)
    assert sizes(got)==due(16) and {size(b[1]) for b in got}=={(64,64)}

@pytest.mark.parametrize('door', ['fastai','lightning'])
def test_targets_follow_where_the_loss_takes_them(door):
    assert [size(b[1]) for b in trained_on(door, maps, model=SameSize(), loss=cross_entropy)]==due(16)

@pytest.mark.parametrize('door', ['fastai','lightning'])
@pytest.mark.parametrize('model,wish', [(Upsamples,True),(SameSize,False)])
def test_a_loss_that_cannot_take_what_the_user_says_is_found_first(door, model, wish):
    res = fit(door, maps, model=model(), loss=cross_entropy, resize_targ=wish)
    assert type(res.error).__name__=='SizeError' and 'resize_targ' in str(res.error) and res.steps==0

# ---- how long a training is

@pytest.mark.parametrize('kwargs', [dict(swa_epoch_start=.5),dict(swa_epoch_start=1),dict(swa_epoch_start=.5, annealing_epochs=1)], ids=str)
def test_averaging_weights_does_not_stretch_the_schedule(kwargs):
    module = Module(small_model(), cross_entropy)
    trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), StochasticWeightAveraging(swa_lrs=.01, **kwargs)).fit(module, load(pairs))
    assert sizes(module.got)[:16]==due(16)

class Steps(Module):
    "Keeps the step of each batch"
    def __init__(self, *args): super().__init__(*args); self.at = []
    def training_step(self, b, i):
        self.at.append(self.global_step)
        return super().training_step(b, i)

def by_steps(scheduling, steps):
    module = Steps()
    cbs,kwargs = ([GradientAccumulationScheduler(scheduling)],{}) if isinstance(scheduling, dict) else ([],dict(accumulate_grad_batches=scheduling))
    trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), *cbs, max_epochs=-1, max_steps=steps, **kwargs).fit(module, load(pairs*2))
    return module

@pytest.mark.parametrize('scheduling,steps', [({0:4,2:1},20), ({2:4},20), ({0:1,1:3},9), ({0:4,1:2,2:1},14)], ids=str)
def test_sizes_follow_the_steps_where_accumulation_changes(scheduling, steps):
    module,s = by_steps(scheduling, steps),size_schedule(64, 1, increase_by=8)
    assert sizes(module.got)==[s.size_at(k/steps) for k in module.at] and sizes(module.got)[-1]==(64,64)

@pytest.mark.parametrize('accumulates', [2,4,{0:2}], ids=str)
def test_sizes_follow_the_batches_where_accumulation_does_not_change(accumulates):
    got = sizes(by_steps(accumulates, 8).got)
    assert len(got) in (16,32) and got==due(len(got))

def test_epochs_that_end_before_the_steps_count_where_accumulation_changes():
    module = Steps()
    trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), GradientAccumulationScheduler({0:2,1:1}), max_epochs=4, max_steps=1000).fit(module, load(pairs))
    assert sizes(module.got)==due(16)

class ByBatches(Timer):
    "A clock that goes on by a second with every batch"
    def time_elapsed(self, *args): return float(len(self.module.got))

def timed(duration, n=8, **kwargs):
    module,timer = Module(),ByBatches(duration=dict(seconds=duration), interval='step')
    timer.module = module
    trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), timer, **kwargs).fit(module, load(pairs*2 if n==8 else pairs))
    return sizes(module.got)

def test_a_training_of_so_much_time(): assert timed(24, max_epochs=-1)[:24]==due(24)
def test_time_that_is_over_before_the_epochs(): assert timed(16, max_epochs=100)[:16]==due(16)
def test_epochs_that_are_over_before_the_time(): assert timed(10**5)==due(32)

def prolonged(first, then, path, stop=None):
    "Sizes of a training, of the same prolonged, and what was said"
    class Stop(L.Callback):
        def on_train_batch_end(self, t, *args):
            if stop and t.global_step==stop: t.should_stop = True
    def fitted(n, ckpt=None, *cbs):
        module,t = Module(),trainer(ProgressiveResizeCallback(increase_by=8, verbose=False), *cbs, max_epochs=n)
        with warnings.catch_warnings(record=True) as ws:
            warnings.simplefilter('always')
            t.fit(module, load(pairs), ckpt_path=ckpt, weights_only=False)
        return t,module,[str(w.message) for w in ws]
    t,a,_ = fitted(first, None, Stop())
    t.save_checkpoint(path)
    _,b,words = fitted(then, path)
    return sizes(a.got),sizes(b.got),words

@pytest.mark.parametrize('first,then,stop', [(4,8,None),(4,5,None),(2,8,None),(4,12,10)], ids=str)
def test_a_training_that_is_prolonged_does_not_shrink(first, then, stop, tmp_path):
    a,b,_ = prolonged(first, then, tmp_path/'last.ckpt', stop)
    assert b and all(p<=q for p,q in zip([a[-1],*b], b)) and b[-1]==(64,64)

@pytest.mark.parametrize('workers', [0,1])
def test_a_training_with_small_items_that_is_prolonged_does_not_shrink(workers, tmp_path):
    def fitted(n, ckpt=None):
        module,t = Module(),trainer(ProgressiveResizeCallback(increase_by=8, verbose=False, resize_items=True), max_epochs=n)
        t.fit(module, load(Slow(0), num_workers=workers), ckpt_path=ckpt, weights_only=False)
        return module,t
    a,t = fitted(4)
    t.save_checkpoint(tmp_path/'last.ckpt')
    assert sizes(a.got)==due(32) and {*sizes(fitted(6, tmp_path/'last.ckpt')[0].got)}=={(64,64)}

def test_the_same_trainer_prolonged_does_not_shrink():
    module,t = Module(),trainer(ProgressiveResizeCallback(increase_by=8, verbose=False))
    t.fit(module, load(pairs))
    t.fit_loop.max_epochs = 8
    t.fit(module, load(pairs))
    got = sizes(module.got)
    assert len(got)==32 and got[:16]==due(16) and {*got[16:]}=={(64,64)}

def test_another_training_with_the_same_callback_begins_small():
    cb = ProgressiveResizeCallback(increase_by=8, verbose=False)
    for _ in range(2):
        module = Module()
        trainer(cb).fit(module, load(pairs))
        assert sizes(module.got)==due(16)

def test_a_learner_that_goes_on_does_not_shrink():
    res = fit('fastai', pairs)
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        with res.on.no_bar(), res.on.no_logging(): res.on.fit(8, start_epoch=4)
    got = sizes(res.noted.got)
    assert len(got)==32 and ({*got[16:]}=={(64,64)} or any('smaller' in str(w.message) for w in ws))

# ---- two processes

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "What each of two processes saw"
    pytest.importorskip('accelerate')
    here,path = Path(__file__).parent,tmp_path_factory.mktemp('two')
    env = {**os.environ, 'ACCELERATE_USE_CPU':'true', 'PYTHONPATH':f'{here.parent}:{os.environ.get("PYTHONPATH","")}', 'PYTHONWARNINGS':'ignore'}
    cmd = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', str(here/'two_loops.py')]
    r = subprocess.run(cmd, cwd=path, env=env, capture_output=True, text=True, timeout=300)
    assert r.returncode==0, r.stderr[-3000:]
    res = [json.loads((path/f'rank{k}.json').read_text()) for k in (0,1)]
    assert all(o['world']==2 for o in res)
    return res

@pytest.mark.slow
@pytest.mark.parametrize('how', ['after','alone'])
def test_a_loop_that_would_train_on_all_items_in_every_process_is_refused_in_words(two, how):
    for o in two: assert o[how].startswith('ValueError: `sized_loader`: each of 2 processes would train on all items') and 'accelerator.prepare(loader)' in o[how]

@pytest.mark.slow
@pytest.mark.parametrize('how', ['before','small'])
def test_a_loop_over_what_accelerate_makes_of_a_loader(two, how):
    for o in two: assert o[how]['sizes']==[s for s,_ in due(32)] and o[how]['length']==8
    assert all(sorted(p+q)==[*range(32)] for p,q in zip(*(o[how]['items'] for o in two)))

def test_a_loop_over_what_accelerate_makes_of_a_loader_resumes(two):
    for o in two:
        assert [s for s,_ in o['resumed']]==[s for s,_ in due(32)][19:24]
        assert [i for ids in o['resumed_alone'] for i in ids]==[*range(6,32)]

def test_larger_batches_of_what_accelerate_makes_of_a_loader_or_a_refusal(two):
    for o in two:
        if isinstance(o['larger'], str): assert '`max_bs`' in o['larger']
        else: assert all(n==len(b) and [i for ids in b for i in ids]==[*range(32)] for n,b in o['larger']) and max(map(len, o['larger'][0][1]))==8

# ---- larger batches in a loop

many = [(image(i),i) for i in range(36)]

def larger(max_bs=16, bs=4, n_epoch=4, opt=None, loader={}, **kwargs):
    return sized_loader(load(many, bs=bs, **loader), size_schedule(64, n_epoch, increase_by=8), n_epoch, max_bs=max_bs, optimizer=opt, **kwargs)

class Rates(torch.optim.SGD):
    "Keeps the learning rate of every step"
    def __init__(self, lr=.1): self.lrs = []; super().__init__([nn.Parameter(torch.zeros(1))], lr)
    def step(self, closure=None):
        self.lrs.append(self.param_groups[0]['lr'])
        return super().step(closure)

def stepped(opt, loader, scheduler=None, n_epoch=4, each='batch'):
    "Steps with every batch; what the learning rate should be multiplied by in each"
    factors = []
    for _ in range(n_epoch):
        for b in loader:
            factors.append(loader.lr_factor)
            opt.zero_grad()
            opt.param_groups[0]['params'][0].sum().backward()
            opt.step()
            if scheduler and each=='batch': scheduler.step()
        if scheduler and each=='epoch': scheduler.step()
    return factors

@pytest.mark.parametrize('scale,power', [('sqrt',.5),('linear',1),(None,0)])
def test_learning_rates_follow_larger_batches_and_are_put_back(scale, power):
    opt = Rates()
    loader = larger(opt=opt, scale_lr=scale)
    expected = [(n/4)**power for e in range(4) for n in [k for _,k in loader.schedule.batches_of(e, 4, 36, 4, 16, False)]]
    got = []
    for _ in range(4):
        got += stepped(opt, loader, n_epoch=1)
        assert opt.param_groups[0]['lr']==.1 and loader.lr_factor==1
    full = [loader.run.larger_batches.lr_factor(s) for e in range(4) for s in loader.sizes(e)]
    assert got==pytest.approx(full) and opt.lrs==pytest.approx([.1*k for k in full])
    assert all(k==pytest.approx(e) for k,e in zip(got[:2], expected)) and got[-1]==1   # the last batch of an epoch may have fewer images

@pytest.mark.parametrize('end', [Boom,KeyboardInterrupt,None])
def test_learning_rates_are_put_back_where_a_pass_ends_early(end):
    opt = Rates()
    def train():
        for b in larger(opt=opt):
            opt.step()
            if end: raise end()
            break
    if end:
        with pytest.raises(end): train()
    else: train()
    assert opt.param_groups[0]['lr']==.1 and opt.lrs==pytest.approx([.2])

lr_scheduler = torch.optim.lr_scheduler
schedulers = {'one cycle': lambda o: lr_scheduler.OneCycleLR(o, .1, total_steps=100), 'lambda': lambda o: lr_scheduler.LambdaLR(o, lambda k: .9**k),
              'steps': lambda o: lr_scheduler.StepLR(o, 2, .5), 'exponential': lambda o: lr_scheduler.ExponentialLR(o, .9),
              'cosine': lambda o: lr_scheduler.CosineAnnealingLR(o, 100), 'warmup': lambda o: lr_scheduler.LinearLR(o, .1, 1., 10),
              'polynomial': lambda o: lr_scheduler.PolynomialLR(o, 100)}

def follows_a_scheduler(name, each):
    opt,alone = Rates(),Rates()
    factors = stepped(opt, larger(opt=opt), schedulers[name](opt), each=each)
    stepped(alone, larger(), schedulers[name](alone), each=each)
    assert opt.lrs==pytest.approx([lr*k for lr,k in zip(alone.lrs, factors)]) and len({*factors})>1
    assert opt.param_groups[0]['lr']==pytest.approx(alone.param_groups[0]['lr'])

@pytest.mark.parametrize('name', schedulers)
def test_a_scheduler_that_steps_after_every_batch(name): follows_a_scheduler(name, 'batch')

@pytest.mark.parametrize('name', schedulers)
def test_a_scheduler_that_steps_after_every_epoch(name): follows_a_scheduler(name, 'epoch')

def test_an_optimizer_saved_in_mid_epoch_resumes_with_its_own_rate():
    opt = Rates()
    for b in larger(opt=opt):
        opt.step()
        saved = opt.state_dict()
        break
    opt = Rates()
    opt.load_state_dict(saved)
    loader = larger(opt=opt)
    loader.set_epoch(0, skip=1)
    factors = stepped(opt, loader, n_epoch=1)
    assert opt.lrs==pytest.approx([.1*k for k in factors])

# loaders whose batches do not come from their batch sampler anew

class Again:
    "A batch sampler that begins again and again"
    def __init__(self, batches): self.batches = batches
    def __iter__(self):
        while True: yield from self.batches
class KeepsIterating(tud.DataLoader):
    "One iterator for all epochs, so that workers persist"
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__['batch_sampler'] = Again(self.batch_sampler)
        self.batches = super().__iter__()
    def __len__(self): return len(self.batch_sampler.batches)
    def __iter__(self): return (next(self.batches) for _ in range(len(self)))

def sixteen(): return KeepsIterating([(image(i),i) for i in range(16)], batch_size=2)
def keeps_iterating(**kwargs): return sized_loader(sixteen(), size_schedule(64, 4, increase_by=8), 4, **kwargs)

@pytest.mark.parametrize('small', [False,True])
@pytest.mark.parametrize('door', ['fastai','lightning','loop'])
def test_a_loader_that_keeps_iterating(door, small): assert sizes(trained_on(door, sixteen(), resize_items=small))==due(32)

def test_a_loader_that_keeps_iterating_resumes():
    loader = keeps_iterating()
    loader.set_epoch(2, skip=3)
    assert [(x.shape[-1],i[0].item()) for x,i in loader]==[*zip([s for s,_ in due(32)][19:24], range(6,16,2))]
    assert [(x.shape[-1],i[0].item()) for x,i in loader]==[*zip([s for s,_ in due(32)][24:], range(0,16,2))]

def test_larger_batches_of_a_loader_that_keeps_iterating_or_a_refusal():
    try: loader = keeps_iterating(max_bs=8)
    except ValueError as e: assert '`max_bs`' in str(e)
    else: assert [len(i) for _,i in loader][:3]==[8,8,0]

# ---- everything is put back, however it ends

def resizes():
    data = Slow(0)
    return data,[t for t in data.transform.transforms if hasattr(t, 'size')]

ends = dict(whole=None, error=Boom, interrupt=KeyboardInterrupt, memory=torch.OutOfMemoryError)

@pytest.mark.parametrize('workers', [0,1])
@pytest.mark.parametrize('end', ends)
def test_a_loop_puts_everything_back(end, workers):
    data,tfms = resizes()
    dl = load(data, num_workers=workers)
    before = {**dl.__dict__}
    def train():
        for e in range(4):
            for k,b in enumerate(sized_loader(dl, size_schedule(64, 4), 4, resize_items=True)):
                if ends[end] and k==2: raise ends[end]()
    if ends[end]:
        with pytest.raises(ends[end]): train()
    else: train()
    assert all(f.size==(64,64) for f in tfms) and {k: v for k,v in dl.__dict__.items() if k!='_iterator'}=={k: v for k,v in before.items() if k!='_iterator'}
    assert type(dl.batch_sampler) is tud.BatchSampler and sizes(dl)==[(64,64)]*8

def test_a_loop_puts_everything_back_where_an_item_fails():
    class Fails(Slow):
        def __getitem__(self, i):
            if i==5: raise Boom()
            return super().__getitem__(i)
    data = Fails(0)
    dl = load(data)
    loader = sized_loader(dl, size_schedule(64, 4), 4, resize_items=True)
    with pytest.raises(Boom): sizes(loader)
    assert data.transform.transforms[0].size==(64,64) and size(data[0][0])==(64,64) and type(dl.batch_sampler) is tud.BatchSampler

@pytest.mark.parametrize('end', ends)
@pytest.mark.parametrize('small', [False,True])
def test_lightning_puts_everything_back(end, small):
    data,tfms = resizes()
    dl,cb = load(data),ProgressiveResizeCallback(verbose=False, resize_items=small)
    class Ending(Module):
        def training_step(self, b, i):
            if ends[end] and self.global_step==10: raise ends[end]()
            return super().training_step(b, i)
    t = trainer(cb)
    strategy,hooks = t.strategy,{*t.strategy.__dict__}
    if ends[end]:
        with pytest.raises((ends[end],SystemExit)): t.fit(Ending(), dl)
    else: t.fit(Ending(), dl)
    assert all(f.size==(64,64) for f in tfms) and sizes(dl)==[(64,64)]*8 and type(dl.batch_sampler) is tud.BatchSampler
    assert not {'batch_to_device','process_dataloader'} & {*strategy.__dict__} and cb.run is None
    assert all(o is dl for o in t.fit_loop._combined_loader.flattened)

@pytest.mark.slow
@pytest.mark.parametrize('end', [o for o in ends if o!='memory'])
@pytest.mark.parametrize('small', [False,True])
def test_fastai_puts_everything_back(end, small):
    dls = make_dls(*aug_transforms(size=64), item_tfms=Resize(80), n=40)
    item,batch = dls.train.after_item.fs,dls.train.after_batch.fs
    before = [(f,{k: v for k,v in f.__dict__.items() if k in ('size','mode','before_call','crop_size')}) for f in (*item,*batch)]
    class Late(Callback):
        order = 70
        def after_batch(self):
            if ends[end] and self.learn.training and self.train_iter==10: raise ends[end]('b')
    learn = learner(dls, ProgressiveResize(verbose=False, resize_items=small), Late())
    if ends[end]:
        with pytest.raises(ends[end]): learn.fit(4)
    else: learn.fit(4)
    assert [{k: v for k,v in f.__dict__.items() if k in ('size','mode','before_call','crop_size')} for f,_ in before]==[o for _,o in before]
    assert size(dls.train.one_batch()[0])==size(dls.valid.one_batch()[0])==(64,64)
    assert '_do_one_batch' not in learn.__dict__ and type(learn.dl).__name__!='SizedDL' and type(dls.train).__name__!='SizedDL'

# ---- items are made small only where that is asked for

class Cutout:
    "A square of 16 pixels, wherever the picture ends"
    def __call__(self, x):
        i,j = (int(torch.randint(0, s-15, ())) for s in x.shape[-2:])
        x[:, i:i+16, j:j+16] = 0
        return x

class Cut(tud.Dataset):
    def __init__(self): self.transform = T.Compose([T.Resize((64,64)), T.ToTensor(), Cutout()])
    def __len__(self): return 8
    def __getitem__(self, i): return self.transform(Image.fromarray(np.full((80,100,3), 200, dtype=np.uint8))),i%2

@everywhere
def test_a_square_in_pixels_covers_the_same_share_throughout(door):
    got = trained_on(door, load(Cut()))
    assert sizes(got)==due(16)
    for b in got: assert (1-b[0].mean()/(200/255)).item()==pytest.approx(16**2/64**2, abs=.01)

@everywhere
def test_where_small_items_are_asked_for_the_dataset_makes_them(door):
    class Told(Slow):
        def __getitem__(self, i):
            x,_ = super().__getitem__(i)
            return x,x.shape[-1]
    got = trained_on(door, load(Told(0)), resize_items=True)
    assert sizes(got)==due(32) and all((b[1]==b[0].shape[-1]).all() for b in got)

# ---- in company

@everywhere
def test_workers_that_persist(door):
    got = trained_on(door, pairs, loader=dict(num_workers=2, persistent_workers=True, multiprocessing_context='fork'))
    assert sizes(got)==due(16)

class Checkpointed(nn.Module):
    def __init__(self): super().__init__(); self.body,self.head = nn.Sequential(nn.Conv2d(3,8,3,2), nn.ReLU()),nn.Linear(8,2)
    def forward(self, x): return self.head(torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False).mean((-2,-1)))

@pytest.mark.parametrize('door', ['fastai','lightning'])
def test_gradient_checkpointing(door, capsys):
    res = fit(door, pairs, model=Checkpointed(), loss=cross_entropy, verbose=True)
    assert not res.error and res.steps==16 and sizes(res.got)==due(16) and 'not tried' not in capsys.readouterr().out

def trained_in_a_loop(model, context=nullcontext, ema=None, n_epoch=4):
    opt = torch.optim.SGD(model.parameters(), .1)
    loader = sized_loader(load(pairs), size_schedule(64, n_epoch, increase_by=8), n_epoch, model=model)
    got = []
    for _ in range(n_epoch):
        for x,y in loader:
            with context(): loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step(); opt.zero_grad()
            if ema: ema.update_parameters(model)
            got.append((size(x),loss.item()))
        if ema:
            with torch.no_grad(): assert all(ema(x).shape==(len(x),2) for x,_ in loader)   # which is no epoch
    return got

def test_gradient_checkpointing_in_a_loop(): assert [s for s,_ in trained_in_a_loop(Checkpointed())]==due(16)

def test_mixed_precision_in_a_loop():
    got = trained_in_a_loop(small_model(), partial(torch.autocast, 'cpu', torch.bfloat16))
    assert [s for s,_ in got]==due(16) and all(math.isfinite(l) for _,l in got)

@pytest.mark.parametrize('dtype', [torch.float16,torch.bfloat16])
def test_pictures_of_half_precision(dtype):
    got = trained_on('loop', [(image(i).to(dtype),i) for i in range(8)])
    assert sizes(got)==due(16) and all(b[0].dtype==dtype for b in got)

def test_an_average_of_the_weights_in_a_loop():
    model = small_model()
    ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(.9), use_buffers=True)
    assert [s for s,_ in trained_in_a_loop(model, ema=ema)]==due(16) and ema.n_averaged==16
    assert [s for s,_ in trained_in_a_loop(torch.optim.swa_utils.AveragedModel(small_model()))]==due(16)   # which is tried as any other

def test_an_average_of_the_weights_of_a_learner():
    class EMA(Callback):
        order = 90
        def before_fit(self): self.ema = torch.optim.swa_utils.AveragedModel(self.model)
        def after_step(self): self.ema.update_parameters(self.model)
    learn = learner(make_dls(*aug_transforms(), n=40), ProgressiveResize(increase_by=8, verbose=False), EMA())
    learn.fit(4)
    assert learn.seen.train==due(16) and learn.ema.ema.n_averaged==16

@pytest.mark.parametrize('fitted', [False,True])
def test_the_callback_of_lightning_is_pickled(fitted):
    cb = ProgressiveResizeCallback(increase_by=8, verbose=False)
    if fitted: trainer(cb).fit(Module(), load(pairs))
    cb = pickle.loads(pickle.dumps(cb))
    module = Module()
    trainer(cb).fit(module, load(pairs))
    assert sizes(module.got)==due(16)

def test_a_learner_is_exported(tmp_path):
    learn = learner(make_dls(*aug_transforms(), item_tfms=Resize(64), n=20), ProgressiveResize(verbose=False))
    learn.remove_cb(learn.seen)
    learn.fit(2)
    learn.export(tmp_path/'learn.pkl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = load_learner(tmp_path/'learn.pkl')
    with again.no_bar(), again.no_logging(): assert again.predict(picture(0))[2].shape==(2,)
    learn.fit(1)   # the learner itself trains on

@pytest.mark.slow
def test_a_loop_loads_neither_fastai_nor_pandas_nor_matplotlib():
    code = ("import sys; from fastresize import sized_loader, size_schedule; sized_loader, size_schedule; "
            "print(*[m for m in ('fastai','pandas','matplotlib','lightning') if m in sys.modules], 'end')")
    env = {**os.environ, 'PYTHONPATH':f'{Path(__file__).parent.parent}:{os.environ.get("PYTHONPATH","")}'}
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, timeout=300)
    assert r.stdout.split()==['end'], r.stdout+r.stderr

# ---- more of what batches are made of

@everywhere
def test_a_label_map_among_the_inputs_follows(door):
    m,values = label_map(torch.uint8, True)
    got = trained_on(door, [(image(i),m,i) for i in range(4)], n_epoch=2)
    for (x,y,_),s in zip(got, due(4)): assert size(x)==size(y)==s and {*y.flatten().tolist()}==values

@pytest.mark.parametrize('door,name', in_a_loop([o if len(labels[o])<3 else o for o in labels], 'grid', 'features'))
def test_features_among_the_inputs_reach_the_model_to_the_bit(door, name):
    torch.manual_seed(0)
    items = [(image(i),torch.rand(labels[name]),i) for i in range(4)]
    for b,i in zip(trained_on(door, items, n_epoch=2), (0,2,0,2)): assert torch.equal(b[1], torch.stack([items[i][1],items[i+1][1]]))

@everywhere
def test_label_maps_at_several_scales_follow(door):
    def item(i): return (image(i),[label_map()[0].clamp(0)[::k,::k] for k in (1,2,4)])
    got = trained_on(door, [item(i) for i in range(4)], scales, n_epoch=2)
    for (x,ys),(s,_) in zip(got, due(4)): assert [y.shape[-1] for y in ys]==[s,s//2,s//4] and all({*y.flatten().tolist()}=={0,2,255} for y in ys)

def scales(items): return torch.stack([x for x,_ in items]),[*map(torch.stack, zip(*(ms for _,ms in items)))]

@everywhere
def test_clips_and_their_label_maps(door):
    m = label_map()[0].clamp(0)[None].repeat(4,1,1)
    got = trained_on(door, [(image(i)[:,None].repeat(1,4,1,1),m) for i in range(4)], n_epoch=2)
    for (x,y),s in zip(got, due(4)): assert x.shape==(2,3,4,*s) and y.shape==(2,4,*s) and {*y.flatten().tolist()}=={0,2,255}

class Features(UserDict): "As processors of Hugging Face give them"

@pytest.mark.parametrize('door', ['lightning','loop'])
def test_dicts_of_another_class(door):
    got = trained_on(door, maps, into(lambda x,y: Features(pixel_values=x, labels=y)))
    assert all(type(b) is Features for b in got) and [size(b['pixel_values']) for b in got]==[size(b['labels']) for b in got]==due(16)

makes = {k: containers[k] for k in ('tuple','dict','nested','dataclass','object')}

@pytest.mark.parametrize('container', makes)
def test_a_batch_of_the_users_stays_as_it_is(container):
    make,parts = makes[container]
    class Kept(list): pass
    kept = Kept(make(torch.rand(2,3,64,64), torch.zeros(2,64,64).long()) for _ in range(4))
    s = size_schedule(64, 4)
    for b in sized_loader(kept, s, 4): assert size(parts(b)[0])==size(parts(b)[1])==(32,32)
    assert all(size(t)==(64,64) for b in kept for t in parts(b))

@pytest.mark.parametrize('pictures', [None,'image',0])
@pytest.mark.parametrize('door', ['lightning','loop'])
def test_pictures_by_name_in_dataclasses(door, pictures):
    got = trained_on(door, maps, into(Batch), pictures=pictures)
    assert [size(b.image) for b in got]==due(16)

@everywhere
def test_pictures_by_position(door):
    items = [(image(i),image(i+20),image(i+40)[:1],i) for i in range(4)]
    for a,b,c,_ in trained_on(door, items, n_epoch=2, pictures=[0,2])[:1]: assert size(a)==size(c)==(32,32) and torch.equal(b, torch.stack([o[1] for o in items[:2]]))

class Batches(tud.Dataset):
    "Whole batches, as they come from a database"
    def __len__(self): return 8
    def __getitem__(self, i): return torch.stack([image(2*i),image(2*i+1)]),torch.tensor([2*i,2*i+1])
class Stream(tud.IterableDataset):
    "Whole batches, as they come from shards"
    def __iter__(self): return iter([Batches()[i] for i in range(8)])
    def __len__(self): return 8

@pytest.mark.parametrize('small', [False,True])
@pytest.mark.parametrize('data', [Batches,Stream])
@pytest.mark.parametrize('door', ['fastai','lightning','loop'])
def test_batches_that_a_dataset_makes(door, data, small):
    got = trained_on(door, tud.DataLoader(data(), batch_size=None), resize_items=small)
    assert sizes(got)==due(32) and [b[1].tolist() for b in got[:8]]==[[2*i,2*i+1] for i in range(8)]

@pytest.mark.parametrize('data', [Batches,Stream])
def test_a_loop_over_batches_that_a_dataset_makes_resumes(data):
    loader = sized_loader(tud.DataLoader(data(), batch_size=None), size_schedule(64, 4, increase_by=8), 4)
    loader.set_epoch(2, skip=3)
    assert [y[0].item() for _,y in loader]==[6,8,10,12,14]

def test_a_loader_that_gives_fewer_batches_than_it_says():
    class Fewer:
        def __len__(self): return 5
        def __iter__(self): return iter([(torch.rand(2,3,64,64),0)]*4)
    loader = sized_loader(Fewer(), size_schedule(64, 4, increase_by=8), 4)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        got = [sizes(loader) for _ in range(4)]
    assert got[0]==[(32,32)]*4 and got[3]==[(64,64)]*4
