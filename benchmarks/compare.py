"""Full size, ours, and the other ways, side by side: `python benchmarks/compare.py --data path/to/pictures`

On 2 CPU cores (AMD EPYC), PyTorch 2.15.0, fastai 2.8.12: on 2,934 flowers at 128 pixels, four seeds, Batch mode was 1.72 times as
fast as full size (1.70 to 1.75) and Epoch mode 2.01 times (1.78 to 2.07), at 71.9 % and 71.3 % to its 71.6 %;
`results/2-cpu-cores-amd-epyc-all-flowers-2026-11-20.json`. Against the others: `results/2-cpu-cores-amd-epyc-2026-11-20.json`.
Where the model is the bottleneck, 1.91 and 2.13 times: `results/2-cpu-cores-amd-epyc-compute-2026-11-20.json`.

Trains one model on the same pictures, from the same seeds and through the same pipeline, in every mode of the list
below: all modes for one seed, then all for the next, each time in another order, so that what else the machine does
meets all alike. The first training of the process is a short one that does not count.

What is timed is the call of `fit_one_cycle` and nothing else: loaders and learner are new for every training and made
before. It includes the validation after every epoch, at the size that a mode validates at: the current one, but full
size for `full` and `composer`. Accuracy is measured after the fit and outside of the timing, at full size for all.
Differences are paired: each seed's training against that seed's full-size training.

The floor is what the same steps cost with everything taken away that is not the model: as many forward and backward
passes and optimizer steps, and validation passes, at the same sizes, with batches that lie ready on the device, no
loader, no transforms, no callback. *Efficiency* is the seconds of the floor over those of the training.

Waiting is the share of the time between two training batches that goes into making the next: `ThroughputMonitor`, in
every mode alike. It includes the batch transforms, and does not include the resize in `composer`, which is part of its step.

Needs fastai, and for `fastxtend` the package index, or that package in `build/peers`. Results are written after every
seed: `<out>/<device>-<date>.json` with everything, `.csv` with one line a run, `.png` with the seconds and the accuracies.
"""
import gc, math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from types import SimpleNamespace

import pandas as pd
import torch
from fastai.vision.all import Callback, CancelFitException, get_image_files, no_random, noop, set_seed
from fastcore.script import call_parse

from record import head, interleaved, report, root, stem, sync, table
import fastresize.preview  # for `learn.preview_resize`
from fastresize import bench
from fastresize.progressive import ProgressiveResize
from fastresize.schedule import SizeSchedule, size_schedule
from fastresize.throughput import ThroughputMonitor
from peers import SecondResize, load_fastxtend
from remedies import Mixed, RenewNorm, WarmAfterGrowth, gentle

n_sample,n_warm = 20,2

# ---- what is trained

@lru_cache(None)
def items(path, size, workers):
    "What the loaders make of every picture before it is part of a batch: uint8 tensors, by loader"
    dls = bench.get_dls(path, size, 64, workers)
    dls.to('cpu')
    whole = [dl.new(shuffle=False, drop_last=False, after_batch=noop) for dl in dls.loaders]
    with no_random(reproducible=False): return [[tuple(t.clone() for t in item) for b in dl for item in zip(*b)] for dl in whole]

def get_dls(a, size):
    dls = bench.get_dls(a.path, size, a.bs, a.workers)
    if a.cached:
        for dl,o in zip(dls.loaders, items(a.path, size, a.workers)): dl.do_item = o.__getitem__
    return dls

def get_learner(a, dls):
    learn = bench.get_learner(dls, a.arch)
    learn.model.to(dls.device)
    return learn

def subset(path, n, folder):
    "Links in `folder` to at most `n` training pictures of `path`, evenly over the classes, and to all for validation"
    classes = sorted({o.parent.name for o in get_image_files(path/'train')})
    if n<len(classes): raise bench.BenchError(f'--n-train {n}: expected at least one picture for each of the {len(classes)} classes')
    for i,c in enumerate(classes):
        (folder/'train'/c).mkdir(parents=True)
        share = n*(i+1)//len(classes) - n*i//len(classes)
        for o in sorted(get_image_files(path/'train'/c))[:share]: (folder/'train'/c/o.name).symlink_to(o.resolve())
    (folder/'val').symlink_to((path/'val').resolve(), target_is_directory=True)
    return folder

def schedule_of(a, mode): return size_schedule(a.size, a.epochs, increase_by=a.increase_by, increase_mode=mode)

def ours(a, **kwargs): return [ProgressiveResize(increase_by=a.increase_by, verbose=False, **kwargs)]

def at_once(a): return [(a.size, a.epochs)]

def stage_by_stage(a):
    "Size and number of epochs of each stage of `epoch`'s schedule"
    s = schedule_of(a, 'epoch')
    return [*Counter(s.sizes_of(e, a.epochs, 1)[0][0] for e in range(a.epochs)).items()]

# ---- the modes

@dataclass
class Mode:
    "A way to train; without a colour it is none, but something to compare with"
    words:str
    callbacks:Callable = lambda a: []
    floor:str = None # Whose bare steps are the same
    colour:str = None
    marker:str = None
    fits:Callable = at_once # Size and number of epochs of each fit of a training
    usual:bool = True # Whether it is trained without being asked for

modes = {
    'full':            Mode('full size from the first batch to the last', floor='full', colour='#777777', marker='o'),
    'by hand':         Mode("as in fastbook's chapter 7: new loaders and another `fit_one_cycle` for each size of `epoch`'s schedule, one learner",
                            floor='epoch', colour='#000000', marker='X', fits=stage_by_stage),
    'fastxtend batch': Mode("fastxtend's `ProgressiveResize`, arguments as in `batch`; its `fastcore.dispatch` and `.transform` are pointed at `fasttransform`",
                            lambda a: a.fastxtend('batch', a.increase_by), colour='#e69f00', marker='o'),
    'fastxtend epoch': Mode('the same, arguments as in `epoch`',
                            lambda a: a.fastxtend('epoch', a.increase_by), colour='#e69f00', marker='s'),
    'composer':        Mode("Composer's way: full-size batches, resized once more by nearest neighbour, at the sizes of `batch`; validates at full size",
                            lambda a: [SecondResize(schedule_of(a, 'batch'))], colour='#cc79a7', marker='D'),
    'batch':           Mode('`ProgressiveResize()`', ours, 'batch', '#0072b2', 'o'),
    'epoch':           Mode("`ProgressiveResize(increase_mode='epoch')`",
                            lambda a: ours(a, increase_mode='epoch'), 'epoch', '#0072b2', 's'),
    'items':           Mode('`ProgressiveResize(resize_items=True)`', lambda a: ours(a, resize_items=True), 'batch', '#0072b2', 'P'),
    'items epoch':     Mode('the same, arguments as in `epoch`',
                            lambda a: ours(a, increase_mode='epoch', resize_items=True), 'epoch', '#0072b2', 'X', usual=False),
    'cache':           Mode('`ProgressiveResize(resize_items=True, cache_items=4e9)`', lambda a: ours(a, resize_items=True, cache_items=4e9),
                            'batch', '#0072b2', '*', usual=False),
    'smaller':         Mode('`ProgressiveResize(final_size=..., resize_valid=False)`: to 0.8 of the size, validated at the whole of it',
                            lambda a: ours(a, final_size=round(.8*a.size), resize_valid=False), colour='#d55e00', marker='o', usual=False),
    'filtered':        Mode('`batch` with one extra resize of the finished batch, which has a filter, in place of sampling',
                            lambda a: ours(a, add_resize=True), colour='#009e73', marker='o', usual=False),
    'larger':          Mode('`batch` from three quarters of the size instead of half',
                            lambda a: ours(a, initial_size=.75), colour='#009e73', marker='s', usual=False),
    'renewed':         Mode('`batch`, with the statistics of normalisation taken anew at full size, from 20 batches, at the end',
                            lambda a: [*ours(a), RenewNorm()], colour='#009e73', marker='^', usual=False),
    'warm':            Mode('`batch`, with ten batches of warm-up after each growth',
                            lambda a: [*ours(a), WarmAfterGrowth()], colour='#009e73', marker='v', usual=False),
    'gentle':          Mode('`batch`, with augmentation that grows with the size: its probabilities from a third of what they are at full size',
                            lambda a: [*ours(a), gentle()], colour='#009e73', marker='D', usual=False),
    'mixed':           Mode('`batch`, with a fifth of the batches at another of its sizes',
                            lambda a: ours(a, schedule=Mixed.of(schedule_of(a, 'batch'))), colour='#009e73', marker='X', usual=False),
    'max_bs':          Mode('`ProgressiveResize(max_bs=...)`: up to four times the images a batch while they are small', lambda a: ours(a, max_bs=4*a.bs),
                            colour='#009e73', marker='P', usual=False),
    'crop':            Mode("`ProgressiveResize(method='crop')`", lambda a: ours(a, method='crop'), 'batch', '#56b4e9', '^'),
    'lowpass':         Mode("`ProgressiveResize(method='lowpass')`", lambda a: ours(a, method='lowpass'), 'batch', '#56b4e9', 'v'),
    'equal time':      Mode('`batch`, with the number of epochs that comes nearest to the seconds of `full`, by the first seed, and at least one epoch more',
                            ours, colour='#009e73', marker='P', fits=lambda a: [(a.size, a.equal_epochs())]),
    'preview':         Mode('no training: what `learn.preview_resize` predicts for `batch` and `epoch`'),
    'floor':           Mode('the bare steps of `full`, `batch` and `epoch`; 20 steps of each size are timed, after 2 that are not, and scaled up to their number')}

# ---- one training

class Seen(Callback):
    "The image sizes that the model is trained on, in order of appearance"
    def __init__(self): self.sizes = {}
    def after_pred(self):
        if self.training: self.sizes[self.x.shape[-1]] = True

def fit(learn, epochs, lr, cbs):
    "Seconds of a fit; seconds of it in which it waited and stepped, as far as measured; and CUDA's peak memory in MiB"
    monitor = ThroughputMonitor(verbose=False)
    sync()
    start = perf_counter()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr, cbs=[monitor,*cbs])
    sync()
    seconds = perf_counter()-start
    df = monitor.to_df()
    wait,step = [(df[k]*(df.batches-1)).sum()/1000 for k in ('wait_ms','step_ms')]
    if not torch.cuda.is_available(): return seconds,wait,step,None
    return seconds,wait,step,max(torch.cuda.max_memory_allocated()/2**20, df.peak_mib.max())  # the monitor resets CUDA's own

def train(a, mode, seed):
    "Train once; what was measured"
    set_seed(seed)
    todo,cbs,seen = modes[mode].fits(a),modes[mode].callbacks(a),Seen()
    all_dls = [get_dls(a, size) for size,_ in todo]
    learn,fits = get_learner(a, all_dls[0]),[]
    for dls,(_,epochs) in zip(all_dls, todo):
        learn.dls = dls
        fits.append(fit(learn, epochs, a.lr, [seen,*cbs]))
    loss = learn.recorder.values[-1][0]
    with learn.no_bar(), learn.no_logging(): acc = learn.validate(dl=a.check.valid)[1]  # a loader that no mode has touched
    seconds,wait,step,peak = zip(*fits)
    wait,step,sizes = sum(wait),sum(step),list(seen.sizes)
    return dict(epochs=sum(n for _,n in todo), seconds=sum(seconds), accuracy=acc, train_loss=loss if math.isfinite(loss) else None,
                peak_mib=max(peak) if peak[0] else None, waiting=wait/(wait+step) if wait+step else None,
                first_size=sizes[0], last_size=sizes[-1])

# ---- the floor

def step_seconds(learn, size, bs, n_class, train, n=n_sample):
    "Seconds of one bare step of `bs` images of `size`: the mean of `n` in a row"
    device = learn.dls.device
    ready = [(torch.randn(bs, 3, *size, device=device), torch.randint(n_class, (bs,), device=device)) for _ in range(3)]
    learn.model.train(train)
    def step(x, y):
        with torch.set_grad_enabled(train): pred = learn.model(x)
        if not train: return
        learn.loss_func(pred, y).backward()
        learn.opt.step()
        learn.opt.zero_grad()
    for i in range(n_warm+n):
        if i==n_warm:
            sync()
            start = perf_counter()
        step(*ready[i%3])
    sync()
    return (perf_counter()-start)/n

def floor(a, seed):
    "Seconds of all bare steps, by schedule"
    set_seed(seed)
    learn = get_learner(a, a.check)
    learn.create_opt()
    train,valid = learn.dls.loaders[:2]
    @lru_cache(None)
    def step(size, training): return step_seconds(learn, size, train.bs if training else valid.bs, learn.dls.c, training)
    def seconds(schedule):
        epochs = [schedule.sizes_of(e, a.epochs, len(train)) for e in range(a.epochs)]
        steps,valids = Counter(size for sizes in epochs for size in sizes),Counter(sizes[-1] for sizes in epochs)
        trained = sum(k*step(size, True) for size,k in steps.items())
        return trained + sum(k*len(valid.dataset)/valid.bs*step(size, False) for size,k in valids.items())
    return {'full': seconds(SizeSchedule(((a.size,a.size),))), **{m: seconds(schedule_of(a, m)) for m in ('batch','epoch')}}

def preview(a, seed, mode):
    "How many times as fast a training is, as predicted"
    set_seed(seed)
    learn = get_learner(a, get_dls(a, a.size))
    args = dict(increase_by=a.increase_by, increase_mode=mode, verbose=False)
    with learn.no_bar(): return learn.preview_resize(a.epochs, show_plot=False, **args).speedup

class FirstBatches(Callback):
    "End the fit after 4 batches"
    order = 100
    def after_batch(self):
        if self.iter==3: raise CancelFitException

def warm_up(a):
    "What is slow the first time: a few batches of a training, and a step of every size"
    learn = get_learner(a, a.check)
    if not len(a.check.train):
        raise bench.BenchError(f'--bs {a.bs}: expected at most the number of training images, {len(a.check.train_ds)}')
    fit(learn, 1, a.lr, [FirstBatches()])
    for size in {*schedule_of(a, 'batch').sizes, *schedule_of(a, 'epoch').sizes}:
        for train in (True,False): step_seconds(learn, size, min(a.bs, len(a.check.train_ds)), a.check.c, train, n=1)

# ---- all trainings

def one_line(e): return f'{type(e).__name__}: {" ".join(str(e).split())}'[:300]

def said(r):
    if 'error' in r or 'predicted' in r: return r.get('error') or f'{r["predicted"]:8.2f}x predicted'
    return f'{r["seconds"]:8.1f} s' + (f', accuracy {r["accuracy"]:.1%}' if 'accuracy' in r else '')

def try_one(a, mode, seed):
    "The rows of one mode and seed; what goes wrong is in the row"
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        if mode=='floor':     rows = [dict(mode=f'floor {k}', epochs=a.epochs, seconds=v) for k,v in floor(a, seed).items()]
        elif mode=='preview': rows = [dict(mode=f'preview {m}', epochs=a.epochs, predicted=preview(a, seed, m)) for m in ('batch','epoch')]
        else:                 rows = [dict(mode=mode, **train(a, mode, seed))]
    except Exception as e: rows = [dict(mode=mode, error=one_line(e))]
    for r in rows: print(f'{r["mode"]:<16}', said(r), flush=True)
    return [dict(seed=seed, **r) for r in rows]

def run_seed(a, order, seed, runs):
    "Add the rows of every mode, in this order, to `runs`"
    if not runs: order.sort(key='equal time'.__eq__)  # it needs the first seed's seconds of the others
    def epochs():
        full,batch = [next(r for r in runs if r['mode']==m) for m in ('full','batch')]
        if 'error' in full or 'error' in batch: raise RuntimeError('no seconds of `full` and `batch` to go by')
        return max(a.epochs+1, round(a.epochs*full['seconds']/batch['seconds']))
    a.equal_epochs = epochs
    for i,mode in enumerate(order): runs += [dict(order=i+1, **r) for r in try_one(a, mode, seed)]

# ---- what came out

columns = ['seed','order','mode','epochs','seconds','predicted','accuracy','train_loss','peak_mib','waiting',
           'first_size','last_size','error']

def floor_of(m): return modes[m].floor if m in modes else None

def spread(s, middle='median'):
    s = s.dropna()
    return {middle: s.agg(middle), 'min': s.min(), 'max': s.max()} if len(s) else None

def cell(o, f):
    "A `spread` as text: the middle, and in brackets the smallest and the largest"
    if not o: return ''
    mid,low,high = [f.format(v) for v in o.values()]
    return mid if low==high else f'{mid} ({low} to {high})'

def summary(runs, names):
    "Numbers of each mode over the seeds; whatever compares two modes does it seed by seed"
    df = pd.DataFrame(runs).reindex(columns=columns)
    def by_mode(k): return df.pivot(index='seed', columns='mode', values=k).astype(float)
    sec,acc,predicted = map(by_mode, ('seconds','accuracy','predicted'))
    none = pd.Series(float('nan'), index=sec.index)
    def one(m):
        rows = df[(df['mode']==m) & df.error.isna()]
        if not len(rows): return dict(runs=0)
        last,seconds = rows.iloc[-1],sec[m]
        return dict(runs=len(rows), epochs=int(last.epochs), seconds=spread(seconds),
                    speedup=spread(sec.get('full', none)/seconds), predicted=spread(predicted.get(f'preview {m}', none)),
                    accuracy=spread(acc[m], 'mean'), accuracy_to_full=spread(acc[m]-acc.get('full', none), 'mean'),
                    sizes=None if pd.isna(last.first_size) else [int(last.first_size), int(last.last_size)],
                    peak_mib=None if rows.peak_mib.isna().all() else float(rows.peak_mib.max()), waiting=spread(rows.waiting.astype(float)),
                    efficiency=spread(sec.get(f'floor {floor_of(m)}', none)/seconds),
                    seconds_to_fastxtend=spread(seconds/sec.get(f'fastxtend {m}', none)))
    floors = [f'floor {m}' for m in ('full','batch','epoch')]
    return {m: one(m) for m in [o for o in names if o not in ('floor','preview')] + floors*('floor' in names)}

def summary_table(summary):
    "One row a mode: the middle of the seeds, and in brackets the smallest and the largest"
    def row(m, o):
        return {'mode': m, 'epochs': o['epochs'], 'seconds': cell(o['seconds'], '{:.1f}'),
                'speedup': cell(o['speedup'], '{:.2f}x'), 'predicted': cell(o['predicted'], '{:.2f}x'),
                'accuracy': cell(o['accuracy'], '{:.1%}'), 'to full': cell(o['accuracy_to_full'], '{:+.1%}'),
                'waiting': f'{o["waiting"]["median"]:.0%}' if o['waiting'] else '',
                'efficiency': cell(o['efficiency'], '{:.0%}'), 'time of fastxtend': cell(o['seconds_to_fastxtend'], '{:.2f}'),
                'px': '{} to {}'.format(*o['sizes']) if o['sizes'] else '', 'MiB': f'{o["peak_mib"]:.0f}' if o['peak_mib'] else ''}
    return table([row(m, o) for m,o in summary.items() if o['runs']])

def plot(results):
    "Seconds by mode, with a mark for the floor, and accuracy over seconds; a dot is a training"
    from matplotlib.figure import Figure   # not pyplot: a figure that no window has to show
    fig = Figure(figsize=(10,4), layout='constrained')
    left,right = fig.subplots(1, 2)
    df,stats = pd.DataFrame(results['runs']).reindex(columns=['mode','seconds','accuracy']),results['summary']
    names = [m for m,o in modes.items() if o.colour and stats.get(m, {}).get('runs')]
    dots = dict(markersize=8, alpha=.8, markeredgecolor='white', markeredgewidth=.7)
    for y,m in enumerate(names):
        rows,s,color,marker = df[df['mode']==m].dropna(),stats[m]['seconds'],modes[m].colour,modes[m].marker
        left.plot([s['min'],s['max']], [y,y], color=color, linewidth=2, alpha=.5)
        for ax,values in ((left,[y]*len(rows)), (right,100*rows.accuracy)): ax.plot(rows.seconds, values, marker, color=color, **dots)
        left.annotate(f'{s["median"]:.3g} s', (s['max'],y), xytext=(8,0), textcoords='offset points', va='center', fontsize=9)
        floor = stats.get(f'floor {floor_of(m)}', {}).get('seconds')
        if floor: left.plot(floor['median'], y, '|', color='black', markersize=14, markeredgewidth=2)
    labels = [f'{m}, {stats[m]["epochs"]} epochs' if m=='equal time' else m for m in names]
    longest = df[df['mode'].isin(names)].seconds.max()
    left.set(yticks=range(len(names)), yticklabels=labels, xlabel='training time (s)', xlim=(0, 1.2*longest))
    left.invert_yaxis()
    right.set(xlabel='training time (s)', ylabel='accuracy at full size (%)')
    words = ['a mark is a seed, the number their median' + ('; | the floor' if 'floor full' in stats else ''), 'marks as on the left']
    for ax,w in zip((left,right), words):
        ax.set_title(w, fontsize=9)
        ax.grid(axis='x', color='#dddddd')
        ax.set_axisbelow(True)
    return fig

def write(path, results):
    "Write the files; their paths"
    rows = pd.DataFrame(results['runs']).reindex(columns=columns).astype({k: 'Int64' for k in columns if k.endswith('_size')})
    return report(path, results, rows, plot(results) if any('accuracy' in r for r in results['runs']) else None)

# ---- the command

def check(a, names):
    "Raise `BenchError` for arguments that cannot work"
    for m in names:
        if m not in modes: raise bench.BenchError(f'--modes: expected a list of {", ".join(modes)}; found {m}')
    if 'equal time' in names and not {'full','batch'}<={*names}:
        raise bench.BenchError('--modes: expected `full` and `batch` beside `equal time`, which goes by their seconds')
    def values(*names): return {k: getattr(a, k) for k in names}
    bench.check_numbers(values('size','epochs','bs','increase_by','lr','seeds'), values('workers','n_train'))
    try: schedule_of(a, 'batch'), schedule_of(a, 'epoch')
    except ValueError as e: raise bench.BenchError(e) from e
    bench.out_folder(a.out)

def peers(a, names):
    "Load fastxtend where it is asked for; the modes that are left out for want of it, and why"
    theirs = [m for m in names if m.startswith('fastxtend')]
    a.fastxtend,a.fastxtend_version = None,None
    if not theirs: return {}
    try: a.fastxtend,a.fastxtend_version = load_fastxtend(root/'build'/'peers')
    except Exception as e: return {m: one_line(e) for m in theirs}
    return {}

def compare(a, names, args):
    "Every mode for every seed, and the files"
    left_out = {**{m: 'not asked for' for m in modes if m not in names}, **(missing := peers(a, names))}
    for m,why in missing.items(): print(f'left out: {m} ({why})')
    names = [m for m in names if m not in missing]
    a.check = get_dls(a, a.size)
    warm_up(a)
    pictures = {'train': len(a.check.train_ds), 'val': len(a.check.valid_ds), 'classes': a.check.c}
    results = dict(head(a.device, args, fastxtend=a.fastxtend_version), pictures=pictures,
                   modes={k: m.words for k,m in modes.items()}, left_out=left_out, runs=[])
    path = stem(a.out, a.device)
    for seed,order in interleaved(names, a.seeds, first=42):
        print(f'\nseed {seed}')
        run_seed(a, order, seed, results['runs'])
        results['summary'] = summary(results['runs'], names)
        left_out.update({r['mode']: r['error'] for r in results['runs'] if 'error' in r})
        files = write(path, results)
    return files,results

@call_parse
def main(
    data:str='demo', # `demo`, `imagenette`, or a folder with `train` and `val` in it
    arch:str='xresnet18', # Model: one of fastai's or torchvision's, untrained
    size:int=128, # Final height and width in pixels
    epochs:int=4, # Epochs
    bs:int=32, # Images per batch
    increase_by:int=16, # Pixels a growth (in Epoch mode the fewest)
    lr:float=3e-3, # Highest learning rate of the one cycle
    seeds:int=3, # How many seeds, from 42 on
    workers:int=None, # Loader processes (default: fastai's choice)
    modes:str=','.join(m for m,o in modes.items() if o.usual), # Which of these, separated by commas
    n_train:int=0, # At most so many training pictures, evenly over the classes; 0 for all
    cached:bool=False, # Keep in memory what the loaders make of each picture before it is part of a batch; its random crop stays the same
    device_name:str=None, # What to call the machine (default: its own name)
    out:str='benchmarks/results', # Folder for the results
):
    "Train in every mode, seed by seed, and compare time and accuracy"
    a = SimpleNamespace(**{**locals(), 'out': Path(out), 'device': device_name or bench.device_name()})
    args = {k: v for k,v in {**vars(a), 'data': Path(data).name}.items() if k not in ('out','device','device_name')}
    names = [*dict.fromkeys(m.strip() for m in modes.split(','))]
    with bench.in_one_line('compare'):
        check(a, names)
        with TemporaryDirectory() as tmp:
            path = bench.find_data(data, size)
            a.path = subset(path, n_train, Path(tmp)) if n_train else path
            files,results = compare(a, names, args)
    print(f'\n{summary_table(results["summary"])}\n')
    for m in [m for m in results['modes'] if m in names]:
        print(f'{m:<16} {results["modes"][m]}' + (f'; LEFT OUT OR FAILED: {results["left_out"][m]}' if m in results['left_out'] else ''))
    print(f'\n{size} px, {arch}, {a.seeds} seed{"s"*(a.seeds!=1)}, {a.device}\nwrote {", ".join(map(str, files))}')
