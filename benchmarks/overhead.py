"""What the callback costs a batch between growths: `python benchmarks/overhead.py`

Calls what `ProgressiveResize` adds to each batch (naming the size, setting it in the transforms, putting it back),
around a loader that does nothing, and beside it an empty fastai callback's share of a batch.
"""
from statistics import median
from time import perf_counter

from fastai.vision.all import *
from fastresize.all import *
from running import begun

learn,sized = begun(ProgressiveResize(verbose=False), n_epoch=4, batch_tfms=aug_transforms())

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
