"""What the callback costs, in three parts: `python benchmarks/cost.py`

On 2 CPU cores (AMD EPYC), PyTorch 2.15.0, fastai 2.8.12: a step takes 71 to 113 µs, and a growth no more than any other (at
most 2 µs). `results/cost-cpu-2026-11-20.json`, of commit 9f1d61f. In a whole training, as fastai calls it, the callback adds 124 µs
a batch, that of commit 6a75ad6 116, an empty one 79 (medians of 400 trainings each, in one process by turns); pair by pair the
difference has a median of -4 µs and quartiles of -69 and 85, so the two cannot be told apart: `results/cost-against-cpu-2026-11-21.json`.

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
end of the next, less that of a training without it, whose transforms make the same small size by themselves. `aug_transforms()`
run as they do for a user. With `--against <folder>` the package of another checkout is measured beside this one, in one process
and by turns.

`calls`: the calls alone, in a loop that does nothing else, which is faster: what `ProgressiveResize` and `ThroughputMonitor`
add to a batch, and an empty callback beside them.

Every round measures everything once, in an order of its own. A number is the median over the rounds; of the sweep, of a round's
median, and the bars in the plot reach from the first to the third quartile of the rounds.
"""
import importlib, sys, warnings
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest import mock

from fastai.vision.all import *
from fastcore.script import call_parse, store_true
from record import commit, head, interleaved, report, stem, table
import fastresize
from fastresize.all import *
from fastresize.bench import BenchError, check_numbers, device_name, in_one_line, out_folder
from fastresize.learner import SizedDL

# ---- the sweep

factors = dict(size=(96,128,160,224,320), growths=(1,7,14,28,56), layers=(2,5,10,20,50), bs=(4,8,16,32,64))
usual = dict(size=224, growths=7, layers=10, bs=16)
words = dict(size='final size (px)', growths='growths in the training', layers='layers of the model', bs='batch size (images)')
least = dict(size=96, growths=7, layers=2, bs=4)
n_batch,n_stay = 72,3 # batches of a training, and how many of them one after another have the same size

def data(size, bs, n, device, dl_type, **kwargs):
    "Loaders of `n` training batches and a validation batch, with `aug_transforms(**kwargs)`"
    ready = dict(x=TensorImage(torch.rand(bs, 3, size, size, device=device)), y=TensorCategory(torch.arange(bs, device=device)%2))
    block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: np.zeros((size,size,3), dtype=np.uint8), get_y=lambda i: i%2,
                      splitter=IndexSplitter(range(bs)), batch_tfms=aug_transforms(**kwargs))
    dls = block.dataloaders(range((n+1)*bs), bs=bs, num_workers=0, device=device, dl_type=type(dl_type.__name__, (dl_type,), ready))
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
    def before_train(self): self.loop = SizedDL(self.learn, self.ask)
    def after_train(self): self.loop.leave()
    def ask(self, get, i):
        if i%n_stay==0: self.as_if_new()
        start = perf_counter()
        b = get()
        self.asking.append(perf_counter()-start)
        return b
    def as_if_new(self):
        "Have the next size be one that the callback has not seen in this training"
        ours = self.progressive_resize
        for known in (ours.training_run.train.verified_sizes, ours.first_steps.known_sizes): known.clear()

def get_learner(size, growths, layers, bs, device):
    "A learner whose training has this many growths, and the three marks around its callback"
    by,n = math.ceil(math.ceil(size/2)/growths),ProgressiveResize.order
    marks = [Mark(o) for o in (n-.1, n+.1, n+.2)]
    ours = ProgressiveResize(increase_by=by, start=.05, finish=.95, verbose=False)
    dls = data(size, bs, n_batch, device, Ready)
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
    from fastresize import rehearsal
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

def sweep(points, rounds, device):
    "`rounds` trainings of every point; the round before them warms up"
    learners = [get_learner(**p, device=device) for p in points]
    runs = [[] for _ in points]
    for r,order in interleaved(range(len(points)), rounds+1):
        for i in order:
            run = train_once(*learners[i], first=r*n_batch//n_stay)
            if r: runs[i].append(run)
    return runs

def summary(point, runs):
    "Medians over the rounds, and quartiles of what is plotted"
    row = {**point, **{k: median(r[k] for r in runs) for k in runs[0]}}
    for k in ('step_us','growth_us'): row[f'{k}_q1'],row[f'{k}_q3'] = np.quantile([r[k] for r in runs], (.25,.75)).tolist()
    return row

def by_factor(rows, values):
    "The rows of every factor's sweep, each with the factor's name"
    others = lambda r, f: all(r[k]==v for k,v in usual.items() if k!=f)
    return [dict(factor=f, **r) for f in values for r in sorted(rows, key=lambda r: r[f]) if others(r, f)]

def swept(rounds, device, quick):
    "The part `sweep` of the result"
    values = {f: sorted({v[0],usual[f],v[-1]}) if quick else v for f,v in factors.items()}
    points = [dict(o) for o in dict.fromkeys(tuple({**usual, f: v}.items()) for f,vs in values.items() for v in vs)]
    runs = sweep(points, rounds, device)
    rows = by_factor([summary(p, r) for p,r in zip(points, runs)], values)
    return dict(usual=usual, rows=rows, runs=[dict(point=p, rounds=r) for p,r in zip(points, runs)])

def sweep_table(rows):
    heads = dict(step_us='step (µs)', growth_us='growth (µs)', plan_ms='planning (ms)', try_ms='trying sizes (ms)',
                 dry_ms='dry run (ms)', model_ms="model's step (ms)")
    return table([{'factor': words[r['factor']], 'value': r[r['factor']], **{h: f'{r[k]:.1f}' for k,h in heads.items()}} for r in rows])

def plot(rows, device):
    "A panel for each factor: microseconds of a step and of a growth"
    from matplotlib.figure import Figure   # not pyplot: a figure that no window has to show
    fig,names = Figure(figsize=(11,3.2), layout='constrained'),[*dict.fromkeys(r['factor'] for r in rows)]
    axs = fig.subplots(1, len(names), sharey=True)
    lines = dict(step_us=('a step', '#0072b2', 'o', '-'), growth_us=('a growth, on top of its step', '#d55e00', 's', '--'))
    for ax,f in zip(axs, names):
        own = [r for r in rows if r['factor']==f]
        for k,(label,color,marker,style) in lines.items():
            y,lo,hi = (np.array([r[c] for r in own]) for c in (k,f'{k}_q1',f'{k}_q3'))
            ax.errorbar(range(len(own)), y, np.maximum(0, (y-lo,hi-y)), label=label, color=color, marker=marker, linestyle=style, capsize=3)
        ax.set_xticks(range(len(own)), [r[f] for r in own])
        ax.set_xlabel(words[f])
        ax.margins(x=.1)
        ax.grid(axis='y', alpha=.3)
    top,low = [f(r[f'{k}_{q}'] for r in rows for k in lines) for f,q in ((max,'q3'),(min,'q1'))]
    axs[0].set(ylabel='time (µs)', ylim=(min(0, low)-.06*top, 1.1*top))   # room for the markers that lie on 0
    fig.legend(*axs[0].get_legend_handles_labels(), loc='outside upper right', ncols=2, frameon=False)
    fig.suptitle(f'What ProgressiveResize adds, on {device}', x=.01, ha='left', fontsize=11)
    return fig

# ---- real trainings; all of this part works with other versions of the package too

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

def at_small(package=fastresize):
    "The callback of `package`, at one small size"
    return package.ProgressiveResize(schedule=package.SizeSchedule(((small,small),(full,full)), (1.,)), verbose=False)

added = {
    'nothing':           lambda: [],
    'an empty callback': lambda: [Empty()],
    'ProgressiveResize': lambda: [at_small()],
    'ThroughputMonitor': lambda: [ThroughputMonitor(verbose=False)],
}

def tiny_learner(device):
    "A model and transforms that take little time beside what is measured"
    dls = data(full, 2, n_fit, device, Augmented, max_rotate=0, max_zoom=1, max_warp=0, max_lighting=0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3, 2))
    return quiet(Learner(dls, model, loss_func=nn.CrossEntropyLoss(), opt_func=SGD))

def fit_once(learn, name):
    "Median microseconds from the end of one training batch to the end of the next, with what `name` names"
    tfm,ends = next(f for f in learn.dls.train.after_batch.fs if isinstance(f, AffineCoordTfm)),Ends()
    tfm.size = None if name in ('ProgressiveResize','the other') else (small,small)
    with unwarned(): learn.fit(1, cbs=[*added[name](), ends])
    return median(b-a for a,b in zip(ends.at[n_skip:], ends.at[n_skip+1:]))*1e6

def fits(rounds, device='cpu', names=tuple(added)):
    "Microseconds of a batch by what is added, one number a round; a round before them warms up"
    learn = tiny_learner(device)
    us = {k: [] for k in names}
    for r,order in interleaved(names, rounds+1):
        for k in order: us[k] += [fit_once(learn, k)][:r]
    return us

def extra(us): return {k: median(a-b for a,b in zip(v, us['nothing'])) for k,v in us.items() if k!='nothing'}

def fits_table(us):
    found = {'nothing (the whole batch)': median(us['nothing']), **extra(us)}
    return table([{'added': k, 'µs a batch': f'{v:.1f}'} for k,v in found.items()])

@contextmanager
def _set_aside():
    "The package that is imported is not, in this context"
    def ours(): return {k: sys.modules.pop(k) for k in [*sys.modules] if k.split('.')[0]=='fastresize'}
    mine,patched = ours(),{c: {**vars(c)} for c in (Learner,Recorder)}
    try: yield
    finally:
        ours()
        sys.modules.update(mine)
        for c,was in patched.items():
            for k in [k for k,v in vars(c).items() if v is not was.get(k)]: setattr(c, k, was[k]) if k in was else delattr(c, k)

def package(folder):
    "What `fastresize.all` of the checkout in `folder` gives, beside the package that is imported"
    sys.path.insert(0, str(folder))
    try:
        with _set_aside():
            res = importlib.import_module('fastresize.all')
            found = Path(sys.modules['fastresize'].__file__).parents[1]
    except ImportError as e: raise BenchError(f'--against {folder}: its package cannot be imported ({e})')
    finally: sys.path.pop(0)
    if found!=folder: raise BenchError(f'--against {folder}: expected a folder with `fastresize` in it')
    return res

def both(other, rounds):
    "`fits` with the package of the checkout in the folder `other`, and with this one, by turns"
    theirs = package(Path(other).resolve())
    added['the other'] = lambda: [at_small(theirs)]
    us = fits(rounds, names=('nothing','an empty callback','the other','ProgressiveResize'))
    difference = [a-b for a,b in zip(us['ProgressiveResize'], us['the other'])]
    quartiles = dict(zip(('q1','median','q3'), map(float, np.quantile(difference, (.25,.5,.75)))))
    return dict(commits=dict(other=commit(Path(other)), this=commit()), batch_us=median(us['nothing']), added_us=extra(us),
                this_less_other_us=quartiles, rounds_us=us)

def both_table(o):
    d = o['this_less_other_us']
    rows = [{'added': k, 'µs a batch': f'{v:.1f}'} for k,v in o['added_us'].items()]
    return table([{'added': 'nothing (the whole batch)', 'µs a batch': f'{o["batch_us"]:.1f}'}, *rows,
                  {'added': 'ProgressiveResize less the other', 'µs a batch': f'{d["median"]:.1f} (quartiles {d["q1"]:.1f} to {d["q3"]:.1f})'}])

# ---- the calls alone

batch_events = 'before_batch after_pred after_loss before_backward after_backward before_step after_step after_batch'.split()

class InFirst(Callback):
    "Calls `f` with the learner in the first batch of a training, and ends it"
    order = 100
    def __init__(self, f): self.f = f
    def before_batch(self):
        self.found = self.f(self.learn)
        raise CancelFitException

def per_call(f, n):
    "Microseconds of one `f(i)`, of `n` in a row"
    start = perf_counter()
    for i in range(n): f(i)
    return (perf_counter()-start)/n*1e6

def of_ours(learn, n):
    make,b = learn.dl.make,learn.xb+learn.yb
    def batch(i):
        make(lambda: b, i%n_fit)
        for e in batch_events: learn.progressive_resize(e)
    return {'ProgressiveResize': per_call(batch, n)}

def of_none(learn, n):
    def batch(i):
        for e in batch_events: learn.empty(e)
    return {'an empty callback': per_call(batch, n)}

def of_monitor(learn, n):
    make,b = learn.dl.make,learn.xb+learn.yb
    us = per_call(lambda i: make(lambda: b, i), n)
    start = perf_counter()
    learn.throughput_monitor.to_df()
    return {'ThroughputMonitor, in the loop': us, 'ThroughputMonitor, at its end': (perf_counter()-start)/n*1e6}

callers = {'ProgressiveResize': of_ours, 'an empty callback': of_none, 'ThroughputMonitor': of_monitor}

def calls(rounds, device='cpu', n=2000):
    "Median microseconds a batch of the calls alone"
    learn = tiny_learner(device)
    us = {}
    for _,order in interleaved(callers, rounds):
        for k in order:
            inside = InFirst(lambda learn: callers[k](learn, n))
            with unwarned(): learn.fit(1, cbs=[*added[k](), inside])
            for name,v in inside.found.items(): us.setdefault(name, []).append(v)
    return {k: median(v) for k,v in us.items()}

def calls_table(us): return table([{'calls': k, 'µs a batch': f'{v:.1f}'} for k,v in us.items()])

# ---- the command

parts = 'sweep','fits','calls'

def measure(part, rounds, device, quick):
    "A part of the result, and its table"
    if part=='sweep':
        found = swept(rounds, device, quick)
        return found,sweep_table(found['rows'])
    found = {part: dict(fits=fits, calls=calls)[part](4*rounds, device)}
    return found,dict(fits=fits_table, calls=calls_table)[part](found[part])

def name_of(device): return 'CPU' if device.type=='cpu' and torch.cuda.is_available() else device_name()

def write(result, device, out, name='cost'):
    "The .json, and of the sweep the .csv and the .png"
    rows = result.get('rows')
    path = stem(out, f'{name} {torch.cuda.get_device_name() if device.type=="cuda" else device.type}')
    return report(path, result, rows, plot(rows, result['device']) if rows else None)

def check(parts_asked, rounds, device, other, out):
    "Raise `BenchError` for arguments that cannot work"
    for p in parts_asked:
        if p not in parts: raise BenchError(f'--part {p}: expected any of {", ".join(parts)}, separated by commas')
    if device not in (None,'cpu','cuda'): raise BenchError(f'--device {device}: expected cpu or cuda')
    if device=='cuda' and not torch.cuda.is_available(): raise BenchError('--device cuda: no CUDA device found')
    if other and not (Path(other)/'fastresize').is_dir(): raise BenchError(f'--against {other}: expected a folder with `fastresize` in it')
    check_numbers(dict(rounds=rounds))
    out_folder(out)

@call_parse
def main(
    rounds:int=5, # Trainings of every point of the sweep, after one that warms up; four times as many in the other parts
    part:str='sweep,fits,calls', # Any of these, separated by commas
    against:str=None, # Folder of another checkout: measure only what its callback and this one add to a batch, by turns
    out:str='benchmarks/results', # Folder for cost-<device>-<date>.json, .csv and .png
    device:str=None, # cpu or cuda; by default fastai's choice
    quick:store_true=False, # Three values a factor, and two rounds
):
    "Measure what `ProgressiveResize` adds to a step, a growth and a fit"
    warnings.filterwarnings('ignore', category=FutureWarning)
    names,start,rounds = part.split(','),perf_counter(),2 if quick else rounds
    torch.set_num_threads(1)   # threads of the model that still spin would be in the callback's way
    with in_one_line('cost'):
        check(names, rounds, device, against, out)
        device = torch.device('cpu' if against else device) if against or device else default_device()
        result = head(name_of(device), dict(rounds=rounds, quick=quick, part='against' if against else part))
        if against:
            result.update(both(against, 4*rounds))
            print(both_table(result))
        for p in () if against else names:
            found,text = measure(p, rounds, device, quick)
            result.update(found)
            print(f'{text}\n')
    files = write(result, device, out, 'cost against' if against else 'cost')
    others = ', '.join(f'{words[k]} {v}' for k,v in usual.items())
    print(f'\nmedian of {rounds} rounds, {n_batch} batches a training of the sweep and {n_fit} of the others, '
          f'torch {torch.__version__}, {perf_counter()-start:.0f} s; in each sweep the other factors are {others}')
    print(f'wrote {", ".join(map(str, files))}')
