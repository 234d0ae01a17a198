"""What the callback costs a batch between growths: `python benchmarks/overhead.py`

Calls what `ProgressiveResize` adds to each batch (naming the size, setting it in the transforms, putting it back),
around a loader that does nothing, and beside it an empty fastai callback's share of a batch.
"""
from statistics import median
from time import perf_counter

from fastai.vision.all import *
from fastresize.all import *

block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: np.zeros((64,64,3), dtype=np.uint8), get_y=lambda i: i%2,
                  splitter=IndexSplitter([0,1]), batch_tfms=aug_transforms())
dls = block.dataloaders(range(16), bs=2, num_workers=0, device='cpu')

class Stop(Callback):
    "Keep the wrapped loader of a running training"
    order = 90
    def before_batch(self):
        global sized
        sized = self.learn.dl
        raise CancelFitException

learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3,2)), cbs=[ProgressiveResize(verbose=False),Stop()])
with learn.no_bar(): learn.fit(4)

class Empty(Callback): pass
empty,events = Empty(),'before_batch after_pred after_loss before_backward after_backward before_step after_step after_batch'.split()
empty.learn = learn

def per_call(f, n=2000):
    "Microseconds of one `f()`, of `n` in a row"
    start = perf_counter()
    for _ in range(n): f()
    return (perf_counter()-start)/n*1e6

def ours():
    sized.make(lambda: None, sized.size())
    for e in events: learn.progressive_resize(e)
def an_empty_callback():
    for e in events: empty(e)

us = {f.__name__: [] for f in (ours,an_empty_callback)}
for _ in range(20):
    for f in (ours,an_empty_callback): us[f.__name__].append(per_call(f))
print(f'torch {torch.__version__}, current size {learn.progressive_resize.current_size}, median of 20 rounds of 2000 batches')
for k,v in us.items(): print(f'{k:<20}{median(v):7.1f} microseconds a batch')
