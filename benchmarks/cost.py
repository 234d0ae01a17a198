"""How the callback's cost grows with size, growths, depth and batch size: `python benchmarks/cost.py`

Everything is timed inside running trainings, between real steps of a model, so the processor's caches are as cold as they
are for a user; a loop that does nothing else, as in `overhead.py`, is faster. What the model takes is outside of every
interval. The loader is fastai's, and its `AffineCoordTfm` is steered; but it hands out one ready batch again and again.

- A step: asking the schedule, setting the size in the transforms and putting it back, that is the time of a batch without
  the time in the loader itself; and the callback's share of the events of a batch, which is the time between a mark before
  it and a mark behind it, less that to a third mark behind nothing. Not in it: that fastai sorts one more callback into the
  line at every event, 10 to 20 µs a batch by trainings with and without the callback.
- A growth: what the batch that changes the size takes more than the second one after it, which has the same size. The
  progress of the training hops from one stage of its schedule to the next every three batches, so that there are many
  growths to measure. With a single growth from half to full size, the step before it is so much smaller that the caches
  are warmer at the growth than later: some µs too few.
- A fit: planning, trying every size on the model, and the full-size dry run, which happen once and are timed as they are.

Every round trains every point once, in another order. A number is the median over the rounds of a round's median; the bars
in the plot reach from the first to the third quartile of the rounds.
"""
import csv, json, random, warnings
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from unittest import mock

from fastai.vision.all import *
from fastcore.script import call_parse, store_true
from record import stem, versions, with_suffix
from fastresize import progressive
from fastresize.all import *
from fastresize.bench import BenchError, check_numbers, device_name, in_one_line, out_folder
from fastresize.steer import SizedDL

factors = dict(size=(96,128,160,224,320), growths=(1,7,14,28,56), layers=(2,5,10,20,50), bs=(4,8,16,32,64))
usual = dict(size=224, growths=7, layers=10, bs=16)
words = dict(size='final size (px)', growths='growths in the training', layers='layers of the model', bs='batch size (images)')
n_batch,n_stay = 72,3 # batches of a training, and how many of them one after another have the same size

class Ready(TfmdDL):
    "Hands out views of one ready batch, at the size that the transform has been told"
    def __iter__(self):
        tfm = next(f for f in self.after_batch.fs if isinstance(f, AffineCoordTfm))
        for _ in range(len(self)):
            start = perf_counter()
            h,w = tfm.size or self.x.shape[-2:]
            b = self.x[..., :h,:w],self.y
            self.inside.append(perf_counter()-start)
            yield b

def ready_dls(size, bs, device):
    block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: np.zeros((size,size,3), dtype=np.uint8), get_y=lambda i: i%2,
                      splitter=IndexSplitter(range(bs)), batch_tfms=aug_transforms())
    dls = block.dataloaders(range((n_batch+1)*bs), bs=bs, num_workers=0, device=device, dl_type=Ready)
    for dl in dls.loaders: dl.x,dl.y,dl.inside = torch.rand(bs, 3, size, size, device=device),torch.arange(bs, device=device)%2,[]
    return dls

def stack(layers): return nn.Sequential(ConvLayer(3, 8, ks=8, stride=8), *[ConvLayer(8, 8) for _ in range(layers-1)], nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8, 2))

class Mark(Callback):
    "Writes down when it is its turn at each event"
    def __init__(self, order): self.order,self.at = order,[]
    def __call__(self, event_name): self.at.append((event_name, perf_counter()))

class Hop(Callback):
    "Has the training hop from stage to stage, and times the asking for its batches"
    order = ProgressiveResize.order+1
    def before_fit(self):
        edges = [0., *self.progressive_resize.schedule.pcts, 1.]
        middles,self.asking = [(a+b)/2 for a,b in zip(edges, edges[1:])],[]
        self.stages = [(self.first+i//n_stay)%len(middles) for i in range(n_batch)]
        self.pcts = [middles[s] for s in self.stages]+[1.]
    def before_train(self):
        self.learn.pct_train = self.pcts[0]
        self.learn.dl = SizedDL(self.dl, lambda: None, self.ask)
    def after_batch(self):
        if self.training: self.learn.pct_train = self.pcts[self.iter+1]
    def ask(self, get, _):
        start = perf_counter()
        b = get()
        self.asking.append(perf_counter()-start)
        return b

def get_learner(size, growths, layers, bs, device):
    "A learner whose training has this many growths, and the three marks around its callback"
    by,n = math.ceil(math.ceil(size/2)/growths),ProgressiveResize.order
    marks = [Mark(o) for o in (n-.1, n+.1, n+.2)]
    learn = Learner(ready_dls(size, bs, device), stack(layers), loss_func=nn.CrossEntropyLoss(),
                    cbs=[*marks, ProgressiveResize(increase_by=by, start=.05, finish=.95, verbose=False), Hop()])
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn,marks

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
    "Write the seconds of the function that the callback knows by `name` to `into[name]`"
    f = getattr(progressive, name)
    def g(*args, **kwargs):
        start = perf_counter()
        try: return f(*args, **kwargs)
        finally: into[name] = perf_counter()-start
    with mock.patch.object(progressive, name, g): yield

def train_once(learn, marks, first):
    "One training that begins at stage `first`: microseconds of a step and of a growth, milliseconds of the parts of a fit and of the model's step"
    ms,dl = {},learn.dls.train
    dl.inside.clear()
    for m in marks: m.at.clear()
    learn.hop.first = first
    with timed('try_sizes', ms), timed('dry_run', ms): learn.fit(1)
    shares,events = event_times(marks)
    us = [(a-i+e)*1e6 for a,i,e in zip(learn.hop.asking, dl.inside, events, strict=True)]
    stages = learn.hop.stages
    grown = [i for i in range(n_stay, n_batch, n_stay) if stages[i]>stages[i-1]]
    steady = [us[i] for i in range(n_stay-1, n_batch, n_stay)]
    begun,ended = [[t for e,t in marks[0].at if e==k] for k in ('before_batch','after_batch')]
    return dict(step_us=median(steady), growth_us=median(us[i]-us[i+n_stay-1] for i in grown),
                plan_ms=(shares['before_fit']-sum(ms.values()))*1e3, try_ms=ms['try_sizes']*1e3, dry_ms=ms['dry_run']*1e3,
                model_ms=median(b-a for a,b in zip(begun[:n_batch], ended))*1e3)

def sweep(points, rounds, device):
    "`rounds` trainings of every point, in another order each round; the round before them warms up"
    learners = [get_learner(**p, device=device) for p in points]
    runs = [[] for _ in points]
    for r in range(rounds+1):
        for i in random.sample(range(len(points)), len(points)):
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

def table(rows):
    heads = dict(step_us='step (µs)', growth_us='growth (µs)', plan_ms='planning (ms)', try_ms='trying sizes (ms)', dry_ms='dry run (ms)', model_ms="model's step (ms)")
    df = pd.DataFrame([{'factor': words[r['factor']], 'value': r[r['factor']], **{h: f'{r[k]:.1f}' for k,h in heads.items()}} for r in rows])
    return df.to_string(index=False)

def plot(rows, values, device):
    "A panel for each factor: microseconds of a step and of a growth"
    from matplotlib.figure import Figure   # not pyplot: a figure that no window has to show
    fig = Figure(figsize=(11,3.2), layout='constrained')
    axs = fig.subplots(1, len(values), sharey=True)
    lines = dict(step_us=('a step', '#0072b2', 'o', '-'), growth_us=('a growth, on top of its step', '#d55e00', 's', '--'))
    for ax,f in zip(axs, values):
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

def write(rows, runs, values, device, args):
    "The .json, the .csv and the .png"
    name = torch.cuda.get_device_name() if device.type=='cuda' else device.type
    out = stem(args['out'], f'cost {name}')
    result = dict(device='CPU' if device.type=='cpu' and torch.cuda.is_available() else device_name(), versions=versions(), args={k: v for k,v in args.items() if k!='out'}, usual=usual, rows=rows, runs=runs)
    with_suffix(out, '.json').write_text(json.dumps(result, indent=1)+'\n')
    with open(with_suffix(out, '.csv'), 'w', newline='') as f:
        w = csv.DictWriter(f, rows[0])
        w.writeheader()
        w.writerows(rows)
    plot(rows, values, result['device']).savefig(with_suffix(out, '.png'), dpi=150)
    return out

@call_parse
def main(
    rounds:int=5, # Trainings of every point, after one that warms up
    out:str='benchmarks/results', # Folder for cost-<device>-<date>.json, .csv and .png
    device:str=None, # cpu or cuda; by default fastai's choice
    quick:store_true=False, # Three values a factor, and two rounds
):
    "Measure what `ProgressiveResize` adds to a step, a growth and a fit, one factor at a time"
    warnings.filterwarnings('ignore', category=FutureWarning)
    args,start = dict(rounds=2 if quick else rounds, out=out, quick=quick),perf_counter()
    with in_one_line('cost'):
        if device not in (None,'cpu','cuda'): raise BenchError(f'--device {device}: expected cpu or cuda')
        if device=='cuda' and not torch.cuda.is_available(): raise BenchError('--device cuda: no CUDA device found')
        check_numbers(dict(rounds=rounds))
        out_folder(out)
    device = torch.device(device) if device else default_device()
    torch.set_num_threads(1)   # threads of the model that still spin would be in the callback's way
    values = {f: sorted({v[0],usual[f],v[-1]}) if quick else v for f,v in factors.items()}
    points = [dict(o) for o in dict.fromkeys(tuple({**usual, f: v}.items()) for f,vs in values.items() for v in vs)]
    runs = sweep(points, args['rounds'], device)
    rows = by_factor([summary(p, r) for p,r in zip(points, runs)], values)
    path = write(rows, [dict(point=p, rounds=r) for p,r in zip(points, runs)], values, device, args)
    print(table(rows))
    print(f'\nmedian of {args["rounds"]} rounds, torch {torch.__version__}, {perf_counter()-start:.0f} s; in each sweep the other factors are '
          f'{", ".join(f"{words[k]} {v}" for k,v in usual.items())}\nwrote {path}.json, .csv and .png')
