"Run by `test_progressive_distributed.py`, once per rank: a fit under fastai's `distrib_ctx`, on the CPU over gloo"
import json, os, sys
import fastresize.auto, fastresize.log
from conftest import Clock
from util import *
import torch.distributed as dist
from fastai.distributed import *
from fastai.distributed import DistributedDL

def _broadcast(self, t, rank):
    "fastai's own, without its `.cuda()`"
    t = torch.LongTensor(t)
    dist.broadcast(t, rank)
    return t.tolist()
DistributedDL._broadcast = _broadcast

calls = []
def counted(f, name):
    def _f(*args, **kwargs):
        calls.append(name)
        return f(*args, **kwargs)
    return _f
for name in ('all_reduce','broadcast','all_gather','all_gather_into_tensor','barrier','reduce','scatter','gather'):
    setattr(dist, name, counted(getattr(dist, name), name))

class DryCalls(Callback):
    "Collective calls of `ProgressiveResize.before_fit`, and those that DDP's reducer makes"
    order = ProgressiveResize.order-1
    def before_fit(self): self.before,self.work = len(calls),reductions()
class DryCallsEnd(Callback):
    order = ProgressiveResize.order+1
    def before_fit(self): out['dry_calls'],out['reductions'] = calls[self.dry_calls.before:],reductions()-self.dry_calls.work

out = {}
def reductions():
    "Gradient buckets that this rank has handed to DDP's reducer"
    return len(out.setdefault('hook', []))

class Hook(Callback):
    order = 11.5 # after the model is wrapped
    def before_fit(self):
        def hook(state, bucket):
            out['hook'].append(1)
            fut = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
            return fut.then(lambda f: f.value()[0]/dist.get_world_size())
        self.learn.model.register_comm_hook(None, hook)
out['hook'] = []

set_seed(1)
learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), Hook(), DryCalls(), DryCallsEnd())
with learn.distrib_ctx(sync_bn=False):
    learn.fit(4)

class Came(Transform):
    "Writes down what comes from the loader"
    order,sizes = -10,[]
    def encodes(self, x:TensorImage):
        self.sizes.append(tuple(x.shape[-2:]))
        return x

small = learner(make_dls(Came(), item_tfms=Resize(64), workers=1), ProgressiveResize(increase_by=8, resize_items=True, verbose=False))
with small.distrib_ctx(sync_bn=False): small.fit(4)
n = len(small.seen.train)+len(small.seen.valid)
out.update(small=small.seen.train, came=[s for e in range(4) for s in Came.sizes[-n:][e*(n//4):][:len(small.seen.train)//4]])

class Batches(Callback):
    "Size and first pixel of every picture of every batch"
    def __init__(self): self.seen = []
    def before_batch(self):
        if self.training: self.seen.append((self.x.shape[-1],len(self.x)))

larger = learner(make_dls(item_tfms=Resize(64), workers=1), ProgressiveResize(increase_by=8, max_bs=16, verbose=False), Batches())
with larger.distrib_ctx(sync_bn=False): larger.fit(4)
out.update(larger=larger.batches.seen)

rank = int(os.environ['RANK'])

class UnevenNet(nn.Module):
    "Slower in the second process"
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x):
        time.sleep(.01*(1+rank))
        return self.m(x)

timed = learner(make_dls(), ProgressiveResize(increase_by=8, verbose=False), model=UnevenNet())
with timed.distrib_ctx(sync_bn=False): p = timed.fit_minutes(.25, fit='fit', n_batch=2, verbose=False)
out.update(expected=p.n_epoch, epochs=len(timed.recorder.values), batches=len(timed.seen.train)/len(timed.recorder.values), expected_batches=p.n_batches[0])

clock = Clock()   # what the machine does beside this decides nothing
for module in (fastresize.log, fastresize.auto): module.perf_counter = clock

class OddNet(nn.Module):
    "In the first process a step takes as long as there are pixels, in the second one always as long"
    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(*(ConvLayer(4 if i else 3, 4, stride=2) for i in range(5)), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(4,2))
    def forward(self, x):
        clock.sleep(.15 if rank else .2*x.shape[-1]**2/128**2)
        return self.m(x)

auto = learner(make_dls(size=(128,128)), ProgressiveResize('auto', verbose=False), model=OddNet())
with auto.distrib_ctx(sync_bn=False): auto.fit(1)
out.update(auto=auto.seen.train, chosen=auto.progressive_resize.chosen.arguments)
weights = [p.flatten().tolist() for p in learn.model.parameters()]
out.update(world=dist.get_world_size(), train=learn.seen.train, hook=len(out['hook']), weights=weights)
with open(f'rank{rank}.json', 'w') as f: json.dump(out, f)

# gloo's threads can outlive the interpreter and abort it; the result is written, so end without its teardown
sys.stdout.flush()
dist.barrier()
dist.destroy_process_group()
os._exit(0)
