"What the tests share: drawn pictures, small models, and a callback that writes down every batch"
import math
import numpy as np
import torch
from fastai.vision.all import *

from fastresize.all import *

for _n in [n for n in globals() if n.startswith('test')]: del globals()[_n]  # fastai brings fastcore's, which pytest would collect

def picture(i, size=(64,64)):
    "A picture of class `i%2`: a bright upper or left half, and some noise"
    rng = np.random.default_rng(i)
    a = rng.integers(0, 90, (*size,3), dtype=np.uint8)
    a[(slice(None),slice(size[1]//2))[i%2] if i%2 else slice(size[0]//2)] += 120
    return PILImage.create(a)

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
    return DataLoaders(torch.utils.data.DataLoader(train, batch_size=bs, shuffle=True, **kwargs), torch.utils.data.DataLoader(valid, batch_size=bs, **kwargs))

def small_model(n_out=2): return nn.Sequential(nn.Conv2d(3,8,3,2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,n_out))
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
    learn = Learner(dls, model or small_model(), cbs=[*cbs,Seen()], **kwargs)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

def due(n_batch, final=64, initial=32, by=8, start=0.5, finish=0.75):
    "By hand: the size of each of `n_batch` batches in Batch mode"
    n = math.ceil((final-initial)/by)
    at = [math.ceil((start + (finish-start)*k/(n-1))*n_batch - 1e-6) if n>1 else math.ceil(finish*n_batch - 1e-6) for k in range(n)]
    return [(min(final, initial + by*sum(i>=a for a in at)),)*2 for i in range(n_batch)]
