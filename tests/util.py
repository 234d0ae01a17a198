"What the tests share: drawn pictures, small models, a callback that writes down every batch, the state of a learner, and ways to fail"
import math, random, warnings
from collections import UserList
import numpy as np
import pytest, torch
from fastai.vision.all import *

from fastresize.all import *

for _n in [n for n in globals() if n.startswith('test')]: del globals()[_n]  # fastai brings fastcore's, which pytest would collect

def picture(i, size=(64,64)):
    "A picture of class `i%2`: a bright upper or left half, and some noise"
    rng = np.random.default_rng(i)
    a = rng.integers(0, 90, (*size,3), dtype=np.uint8)
    a[(slice(None),slice(size[1]//2))[i%2] if i%2 else slice(size[0]//2)] += 120
    return PILImage.create(a)

Spy = UserList   # it also keeps what happens in trials, which restore the usual lists

def mask(i, size=(64,64)):
    a = np.zeros(size, dtype=np.uint8)
    a[8:40,10:50] = 1 + i%3
    return PILMask.create(a)

def points(i): return [[10.,20.],[30.,40.],[50.+i%5,12.]]

def make_dls(*batch_tfms, y=CategoryBlock, get_y=lambda i: i%2, size=(64,64), n=80, bs=8, item_tfms=(), workers=0, **kwargs):
    "64 pictures to train on (8 batches of 8) and 16 to validate on"
    block = DataBlock((ImageBlock,y), get_x=partial(picture, size=size), get_y=get_y, splitter=IndexSplitter(range(n*4//5, n)),
                      item_tfms=item_tfms, batch_tfms=batch_tfms, **kwargs)
    return block.dataloaders(range(n), bs=bs, num_workers=workers, device='cpu')

def seg_dls(*batch_tfms, **kwargs): return make_dls(*batch_tfms, y=MaskBlock(codes=range(4)), get_y=mask, **kwargs)
def point_dls(*batch_tfms, **kwargs): return make_dls(*batch_tfms, y=PointBlock, get_y=points, **kwargs)

def torch_dls(n=80, size=(64,64), bs=8, **kwargs):
    "The same in plain PyTorch"
    x,y = torch.rand(n,3,*size),torch.arange(n)%2
    train,valid = (torch.utils.data.TensorDataset(x[s],y[s]) for s in (slice(0,n*4//5),slice(n*4//5,n)))
    load = partial(torch.utils.data.DataLoader, batch_size=bs, **kwargs)
    return DataLoaders(load(train, shuffle=True), load(valid))

def small_model(n_out=2):
    body = nn.Conv2d(3,8,3,2),nn.BatchNorm2d(8),nn.ReLU(),nn.Dropout(0.1)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,n_out))

def mask_model(): return nn.Sequential(nn.Conv2d(3,8,3,padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8,4,1))

class Seen(Callback):
    "Writes down what the model gets: the size of every batch, of its target, and `pct_train`; and counts the steps of the optimizer"
    order = 100
    def __init__(self): self.clear()
    def clear(self): self.train,self.valid,self.pcts,self.targs,self.steps = [],[],[],[],0
    def after_step(self): self.steps += 1
    def before_batch(self):
        (self.train if self.training else self.valid).append(tuple(self.x.shape[-2:]))
        if self.training: self.pcts.append(self.pct_train)
        if len(self.yb): self.targs.append(tuple(self.yb[0].shape[-2:]))

def learner(dls, *cbs, model=None, **kwargs):
    "A learner without a progress bar; `learner.seen` has the sizes"
    kwargs.setdefault('loss_func', nn.CrossEntropyLoss())
    learn = Learner(dls, small_model() if model is None else model, cbs=[*cbs,Seen()], **kwargs)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

def mask_learner(dls, *cbs): return learner(dls, *cbs, model=mask_model(), loss_func=CrossEntropyLossFlat(axis=1))

def trained(dls=None, **kwargs):
    learn = learner(dls or make_dls(*aug_transforms()), **kwargs)
    learn.fit(1)
    return learn

def due(n_batch, final=64, initial=32, by=8, start=0.5, finish=0.75):
    "By hand: the size of each of `n_batch` batches in Batch mode"
    n = math.ceil((final-initial)/by)
    at = [math.ceil((start + (finish-start)*k/(n-1))*n_batch - 1e-6) if n>1 else math.ceil(finish*n_batch - 1e-6) for k in range(n)]
    return [(min(final, initial + by*sum(i>=a for a in at)),)*2 for i in range(n_batch)]

def due_batches(n, max_bs, bs=8, n_epoch=4, drop_last=False):
    "By hand: size and images of the batches of each epoch, with `max_bs`; 32 to 64 pixels by 8, from 0.5 to 0.75 of `n` images"
    epochs = []
    for e in range(n_epoch):
        left,epoch = n,[]
        while left>=(bs if drop_last else 1):
            pct = (e + (n-left)/n)/n_epoch
            size = 32 + 8*sum(pct>=p-1e-9 for p in (.5, .5+.25/3, .5+.5/3, .75))
            k = min(left, max(bs, min(max_bs, bs*64**2//size**2)//8*8))
            epoch.append(((size,size),k))
            left -= k
        epochs.append(epoch)
    return epochs

# ---- what a training changes

def state(learn):
    "Every bit that could have changed"
    m,opt = learn.model,learn.opt
    return dict(params=[p.detach().clone() for p in m.parameters()], buffers=[b.clone() for b in m.buffers()],
                grads=[None if p.grad is None else p.grad.clone() for p in m.parameters()],
                flags=[x.training for x in m.modules()],
                opt=[{k: v.clone() if isinstance(v, Tensor) else v for k,v in opt.state[p].items()} for p in m.parameters()],
                hypers=[dict(h) for h in opt.hypers],
                rng=(random.getstate(), [o.tolist() if isinstance(o, np.ndarray) else o for o in np.random.get_state()], torch.get_rng_state()),
                dls=[dl.rng.getstate() for dl in learn.dls.loaders])

def same(a, b):
    if isinstance(a, dict): return a.keys()==b.keys() and all(same(a[k],b[k]) for k in a)
    if isinstance(a, (list,tuple)): return len(a)==len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a==b

# ---- what ends a training early

class Boom(Exception): pass

class Fault(Callback):
    "Raises `exc` at an event, in epoch 1"
    order = 80
    def __init__(self, event, exc, training=None): self.on,self.exc,self.phase = event,exc,training
    def __call__(self, name):
        if name!=self.on or self.epoch!=1 or self.phase not in (None,self.learn.training): return
        if name not in ('before_batch','after_batch') or self.iter==1: raise self.exc

faults = { # event, exception, and whether in training, in validation or in either
    'cancel fit':             ('before_batch', CancelFitException(), True),
    'cancel train':           ('before_batch', CancelTrainException(), True),
    'cancel epoch':           ('after_batch', CancelEpochException(), True),
    'cancel batch':           ('before_batch', CancelBatchException(), True),
    'cancel valid':           ('before_batch', CancelValidException(), False),
    'callback in training':   ('after_batch', Boom('b'), True),
    'callback in validation': ('before_batch', Boom('b'), False),
    'callback after train':   ('after_train', Boom('b'), None),
    'callback after epoch':   ('after_epoch', Boom('b'), None),
    'callback before train':  ('before_train', Boom('b'), None),
    'ctrl-c in training':     ('after_batch', KeyboardInterrupt(), True),
    'ctrl-c in validation':   ('before_batch', KeyboardInterrupt(), False),
    'out of memory':          ('after_pred', torch.OutOfMemoryError('CUDA out of memory.'), True),
}

def run_with_fault(name, *cbs):
    dls = make_dls(*aug_transforms(), item_tfms=Resize(64))
    event,exc,phase = faults[name]
    learn = learner(dls, *cbs, Fault(event, exc, phase), loss_func=CrossEntropyLossFlat())
    plain = isinstance(exc, (Boom,KeyboardInterrupt,torch.OutOfMemoryError))
    if plain:
        with pytest.raises(type(exc)): learn.fit(4)
    else: learn.fit(4)
    return learn,dls
