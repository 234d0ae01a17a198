"""What the callback costs, in three parts: `python benchmarks/cost.py`

On 2 CPU cores (AMD EPYC), PyTorch 2.15.0, fastai 2.8.12: a step takes 71 to 113 µs, and a growth no more than any other (at
most 2 µs). `results/cost-cpu-2026-11-20.json`. In a whole training, as fastai calls it, the callback adds 124 µs a batch, an empty
one 79 (medians of 400 trainings each). `results/cost-against-cpu-2026-11-21.json`.

`sweep`: how it grows with size, growths, depth and batch size. Everything is timed inside running trainings, between real
steps of a model, so the processor's caches are as cold as they are for a user. What the model takes is outside of every
interval. The loader is fastai's, and its `AffineCoordTfm` is steered; but it hands out one ready batch again and again.

- A step: setting the size in the transforms and putting it back, that is the time of a batch without the time in the loader
  itself; and the callback's share of the events of a batch, which is the time between a mark before it and a mark behind it,
  less that to a third mark behind nothing. Not in it: that fastai sorts one more callback into the line at every event.
- A growth: what the batch that changes the size takes more than the second one after it, which has the same size. The
  training has other sizes than the schedule's: every three batches those of another stage, so that there are many growths to
  measure, and each is as new to the callback as a growth is. Not in it: a look at the size of the batch inside its step.
- A fit: planning, trying every size on the model, and the full-size dry run, which happen once and are timed as they are.

`fits`: what a callback adds to a batch of a real training, whatever it goes into: the time from the end of one batch to the
end of the next, less that of a training without it, whose transforms make the same small size by themselves.

`calls`: the calls alone, in a loop that does nothing else, which is faster: what `ProgressiveResize`, an empty callback and
`ThroughputMonitor` add to a batch.

A number is the median over the rounds, in the sweep of a round's median.
"""
import warnings
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from unittest import mock

from fastai.vision.all import *
from fastcore.script import call_parse

from record import checked, head, interleaved, publish, table
from fastresize import rehearsal
from fastresize.all import *
from fastresize.learner import SizedDL

# ---- the sweep

factors = dict(size=(96,128,160,224,320), growths=(1,7,14,28,56), layers=(2,5,10,20,50), bs=(4,8,16,32,64))
usual = dict(size=224, growths=7, layers=10, bs=16)
n_batch,n_stay = 72,3 # batches of a training, and how many of them one after another have the same size

def data(size, bs, n, dl_type, **kwargs):
    "Loaders of `n` training batches and a validation batch, with `aug_transforms(**kwargs)`"
    ready = dict(x=TensorImage(torch.rand(bs, 3, size, size)), y=TensorCategory(torch.arange(bs)%2))
    block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: np.zeros((size,size,3), dtype=np.uint8), get_y=lambda i: i%2,
                      splitter=IndexSplitter(range(bs)), batch_tfms=aug_transforms(**kwargs))
    dls = block.dataloaders(range((n+1)*bs), bs=bs, num_workers=0, device='cpu', dl_type=type(dl_type.__name__, (dl_type,), ready))
    for dl in dls.loaders: dl.inside = []
    return dls

def quiet(learn):
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

class Ready(TfmdDL):
    "Hands out views of one ready batch, at the size that the transform has been told"
    def __iter__(self):
        tfm = next(f for f in self.after_batch.fs if isinstance(f, AffineCoordTfm))
        x,y = [o.as_subclass(torch.Tensor) for o in (self.x,self.y)]
        for _ in range(len(self)):
            start = perf_counter()
            h,w = tfm.size or x.shape[-2:]
            b = x[..., :h,:w],y
            self.inside.append(perf_counter()-start)
            yield b

def stack(layers):
    convs = [ConvLayer(3, 8, ks=8, stride=8), *[ConvLayer(8, 8) for _ in range(layers-1)]]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8, 2))

class Mark(Callback):
    "Writes down when it is its turn at each event"
    def __init__(self, order): self.order,self.at = order,[]
    def __call__(self, event_name): self.at.append((event_name, perf_counter()))

class Hop(Callback):
    "Has the training hop from stage to stage, and times the asking for its batches"
    order = ProgressiveResize.order+1
    def before_fit(self):
        ours = self.progressive_resize
        n,self.asking = len(ours.schedule.sizes),[]
        self.stages = [(self.first+i//n_stay)%n for i in range(n_batch)]
        self.sizes = [ours.schedule.sizes[s] for s in self.stages]
        ours.training_run.epoch_sizes = lambda epoch, n_batch: (self.sizes,None)
    def before_train(self): self.sized_dl = SizedDL(self.learn, self.ask)
    def after_train(self): self.sized_dl.leave()
    def ask(self, get, i):
        if i%n_stay==0: self.as_if_new()
        start = perf_counter()
        b = get()
        self.asking.append(perf_counter()-start)
        return b
    def as_if_new(self):
        "Have the next size be one that the callback has not seen in this training"
        self.progressive_resize.first_steps.known_sizes.clear()

def get_learner(size, growths, layers, bs):
    "A learner whose training has this many growths, and the three marks around its callback"
    by,n = math.ceil(math.ceil(size/2)/growths),ProgressiveResize.order
    marks = [Mark(o) for o in (n-.1, n+.1, n+.2)]
    ours = ProgressiveResize(increase_by=by, start=.05, finish=.95, verbose=False)
    dls = data(size, bs, n_batch, Ready)
    return quiet(Learner(dls, stack(layers), loss_func=nn.CrossEntropyLoss(), cbs=[*marks, ours, Hop()])),marks

def event_times(marks):
    "The callback's share of every event, and the share of every training batch's events together; in seconds"
    shares = [(event, (b-a)-(c-b)) for (event,a),(_,b),(_,c) in zip(*[m.at for m in marks])]
    train = shares[[e for e,_ in shares].index('before_train'):[e for e,_ in shares].index('after_train')]
    batches = []
    for event,t in train[1:]:
        if event=='before_batch': batches.append(0.)
        batches[-1] += t
    return dict(shares),batches

@contextmanager
def timed(name, into):
    "Write the seconds of the function that the first steps know by `name` to `into[name]`"
    f = getattr(rehearsal, name)
    def g(*args, **kwargs):
        start = perf_counter()
        try: return f(*args, **kwargs)
        finally: into[name] = perf_counter()-start
    with mock.patch.object(rehearsal, name, g): yield

@contextmanager
def unwarned():
    "These trainings end at any size, as they are meant to"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield

def train_once(learn, marks, first):
    "One training that begins at stage `first`: µs of a step and of a growth, ms of the parts of a fit and of the model's step"
    ms,dl = {},learn.dls.train
    dl.inside.clear()
    for m in marks: m.at.clear()
    learn.hop.first = first
    with timed('try_sizes', ms), timed('dry_run', ms), unwarned(): learn.fit(1)
    shares,events = event_times(marks)
    us = [(a-i+e)*1e6 for a,i,e in zip(learn.hop.asking, dl.inside, events, strict=True)]
    stages = learn.hop.stages
    grown = [i for i in range(n_stay, n_batch, n_stay) if stages[i]>stages[i-1]]
    steady = [us[i] for i in range(n_stay-1, n_batch, n_stay)]
    begun,ended = [[t for e,t in marks[0].at if e==k] for k in ('before_batch','after_batch')]
    return dict(step_us=median(steady), growth_us=median(us[i]-us[i+n_stay-1] for i in grown),
                plan_ms=shares['before_fit']*1e3, try_ms=ms['try_sizes']*1e3, dry_ms=ms['dry_run']*1e3,
                model_ms=median(b-a for a,b in zip(begun[:n_batch], ended))*1e3)

def sweep(rounds, factors=factors):
    "A row for every value of every factor, while the others have their usual one; a round before the others warms up"
    points = [(f, {**usual, f: v}) for f,vs in factors.items() for v in vs]
    learners,runs = [get_learner(**p) for _,p in points],[[] for _ in points]
    for r,order in interleaved(range(len(points)), rounds+1):
        for i in order: runs[i] += [train_once(*learners[i], first=r*n_batch//n_stay)][:r]
    return [dict(factor=f, **p, **{k: median(r[k] for r in o) for k in o[0]}) for (f,p),o in zip(points, runs)]

# ---- real trainings

small,full,n_fit,n_skip = 32,64,50,5 # sizes, batches of a training, and how many of them come before the first that counts

class Augmented(TfmdDL):
    "Augments one ready batch again and again"
    def do_item(self, i): return i or 0
    def do_batch(self, b): return self.x[:len(b)],self.y[:len(b)]

class Empty(Callback): "Does nothing"

class Ends(Callback):
    "Writes down when each training batch has ended"
    order = 100
    def before_fit(self): self.at = []
    def after_batch(self):
        if self.training: self.at.append(perf_counter())

def at_small():
    "The callback, at one small size"
    return ProgressiveResize(schedule=SizeSchedule(((small,small),(full,full)), (1.,)), verbose=False)

added = {'nothing': lambda: [], 'an empty callback': lambda: [Empty()], 'ProgressiveResize': lambda: [at_small()],
         'ThroughputMonitor': lambda: [ThroughputMonitor(verbose=False)]}

def tiny_learner():
    "A model and transforms that take little time beside what is measured"
    dls = data(full, 2, n_fit, Augmented, max_rotate=0, max_zoom=1, max_warp=0, max_lighting=0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3, 2))
    return quiet(Learner(dls, model, loss_func=nn.CrossEntropyLoss(), opt_func=SGD))

def fit_once(learn, name):
    "Median microseconds from the end of one training batch to the end of the next, with what `name` names"
    tfm,ends = next(f for f in learn.dls.train.after_batch.fs if isinstance(f, AffineCoordTfm)),Ends()
    tfm.size = None if name=='ProgressiveResize' else (small,small)
    with unwarned(): learn.fit(1, cbs=[*added[name](), ends])
    return median(b-a for a,b in zip(ends.at[n_skip:], ends.at[n_skip+1:]))*1e6

def fits(rounds):
    "Microseconds of a batch by what is added, one number a round; a round before them warms up"
    learn,us = tiny_learner(),{k: [] for k in added}
    for r,order in interleaved(added, rounds+1):
        for k in order: us[k] += [fit_once(learn, k)][:r]
    return us

def extra(us):
    "Microseconds of a batch, and what is added to it"
    return {'nothing (the whole batch)': median(us['nothing']),
            **{k: median(a-b for a,b in zip(v, us['nothing'])) for k,v in us.items() if k!='nothing'}}

# ---- the calls alone

batch_events = 'before_batch after_pred after_loss before_backward after_backward before_step after_step after_batch'.split()

class InFirst(Callback):
    "Calls `f` with the learner in the first batch of a training, and ends it"
    order = 100
    def __init__(self, f): self.f = f
    def before_batch(self):
        self.found = self.f(self.learn)
        raise CancelFitException

def per_call(learn, name, n):
    "Microseconds of a batch's calls, of `n` batches in a row, and of what the monitor does with them at the end"
    cb,b = {'ProgressiveResize': 'progressive_resize', 'an empty callback': 'empty'}.get(name),learn.xb+learn.yb
    start = perf_counter()
    for i in range(n):
        if name!='an empty callback': learn.dl.make(lambda: b, i%n_fit if cb else i)
        if cb:
            for e in batch_events: getattr(learn, cb)(e)
    if not cb: learn.throughput_monitor.to_df()
    return (perf_counter()-start)/n*1e6

def calls(rounds, n=2000):
    "Median microseconds a batch of the calls alone"
    learn,us = tiny_learner(),{k: [] for k in added if k!='nothing'}
    for _,order in interleaved(us, rounds):
        for k in order:
            inside = InFirst(lambda learn: per_call(learn, k, n))
            with unwarned(): learn.fit(1, cbs=[*added[k](), inside])
            us[k].append(inside.found)
    return {k: median(v) for k,v in us.items()}

# ---- the command

@call_parse
def main(
    rounds:int=5, # Trainings of every point of the sweep, after one that warms up; four times as many in the other parts
    out:str='benchmarks/results', # Folder for cost-cpu-<date>.json and .csv
):
    "Measure what `ProgressiveResize` adds to a step, a growth and a fit"
    warnings.filterwarnings('ignore', category=FutureWarning)
    torch.set_num_threads(1)   # threads of the model that still spin would be in the callback's way
    with checked('cost', out, rounds=rounds):
        us,of_calls = fits(4*rounds),calls(4*rounds)
        for name,o in (('added', extra(us)), ('calls', of_calls)): print(f'{table([{name: k, "µs a batch": v} for k,v in o.items()])}\n')
        publish(out, 'cost cpu', dict(head(dict(rounds=rounds)), fits=us, calls=of_calls, usual=usual), sweep(rounds))
