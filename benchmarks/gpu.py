"""What only a GPU can show: `python benchmarks/gpu.py`

Latest result: results/gpu-memory-nvidia-h200-2026-11-28.json, three settings of the first part on an NVIDIA H200.

Runs from a bare checkout, with PyTorch and fastai installed; without a CUDA device it says so and exits with 2. Three parts,
and after each of them the .json is written anew:

- Trainings in fresh processes: with the dry run on and off, with `expandable_segments` of PyTorch's allocator on and off, and
  with `torch.backends.cudnn.benchmark` on and off (PyTorch's default, which fastai 2.8 leaves alone), all crossed; and at full
  size beside them. Memory: new segments and allocation retries from the dry run, the first and the second batch on (the
  optimizer's state is allocated between these two) to the end of the training, and the peak. Each of them leaves a snapshot
  for https://pytorch.org/memory_viz in the folder `--snapshots`. Time, by CUDA events from the end of one step to the end of
  the next, in repeats without a snapshot if there are any: the first step of every size less the median of its others, which
  is what a new size costs, and the slowest of the others.
- Seconds and images/s at full size and in Batch mode, in float32, bfloat16, channels_last, and both.
- The same with `torch.compile`, where every new size may be compiled anew: in as few sizes as fit `recompile_limit`.

The second and third part train without validation, after one short training that visits every size, so that nothing which
happens once a process is in the seconds; it stands in the column `first (s)`, with compiling. Their rounds train everything once,
in another order each. Unless `--data` names a folder, the pictures are random bytes that lie on the device: no loader is waited for.

It is not called cuda.py because a script's folder comes first on Python's path, and PyTorch itself imports a package `cuda`.
"""
import gc, itertools, os, warnings
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest import mock

import torch
from fastai.vision.all import *
from fastcore.script import call_parse

from record import head, interleaved, own_process, report, stem, table
from fastresize import bench, rehearsal
from fastresize.all import *
from fastresize.throughput import mark, seconds_between

# Data and learners

def get_dls(device, size, bs, n, data=None):
    "A folder's pictures, or `n` random ones of 10 classes that lie on the device"
    if data: return bench.get_dls(bench.find_data(data, size), size, bs)
    x,y = torch.randint(256, (n,3,size,size), dtype=torch.uint8, device=device),torch.arange(n, device=device)%10
    class OnDevice(TfmdDL):
        def do_item(self, i): return i or 0
        def do_batch(self, b):
            i = torch.tensor(b, device=device)
            return TensorImage(x[i]),TensorCategory(y[i])
    block = DataBlock((ImageBlock,CategoryBlock), get_y=lambda i: i%10, splitter=lambda o: (range(n),range(bs)),
                      batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)])
    return block.dataloaders(range(n), bs=bs, num_workers=0, device=device, dl_type=OnDevice)

def get_learner(dls, arch, config='plain'):
    "An untrained model, with any of bf16, channels_last and compile, joined by +"
    learn = bench.get_learner(dls, arch)
    if 'channels_last' in config: learn.to_channelslast(use_amp=False)
    if 'bf16' in config: learn.add_cb(MixedPrecision(amp_mode='bf16'))
    if 'compile' in config: learn.model = torch.compile(learn.model)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

# Allocator

def wait(device):
    if device.type=='cuda': torch.cuda.synchronize()

def allocator(device):
    "Segments that were ever asked of CUDA, and how often there was no room for one at first"
    if device.type!='cuda': return None
    s = torch.cuda.memory_stats(device)
    return dict(segments=s['segment.all.allocated'], retries=s['num_alloc_retries'])

def peaks(device):
    "The most bytes in tensors and in the allocator's hands"
    if device.type!='cuda': return None
    return dict(allocated=torch.cuda.max_memory_allocated(device), reserved=torch.cuda.max_memory_reserved(device))

class Watch(Callback):
    "Marks the training steps, and looks at the allocator before the first and the second, and at the end"
    order = 100 # behind all others
    def __init__(self, on): self.on,self.steps,self.seen = on,[],{}
    def look(self, when): self.seen[when] = allocator(self.on)
    def before_batch(self):
        if not self.training: return
        if self.train_iter<2: self.look(('first_batch','second_batch')[self.train_iter])
        if self.iter==0: self.since = mark(self.on)   # the start of an epoch's loader is no part of a step
    def after_batch(self):
        if not self.training: return
        now = mark(self.on)
        self.steps.append((tuple(self.x.shape[-2:]), self.since, now))
        self.since = now
    def after_fit(self): self.look('end')

    @contextmanager
    def rehearsing(self, name, when):
        "Look at the allocator behind the part `name` of the rehearsal too, which is no part of the first step"
        f = getattr(rehearsal, name)
        def g(*args):
            res = f(*args)
            self.look(when)
            self.since = mark(self.on)
            return res
        with mock.patch.object(rehearsal, name, g): yield

@contextmanager
def recorded(path, device):
    "Write a snapshot of CUDA's memory, with all that was allocated in this context, to `path`"
    if path is None or device.type!='cuda':
        yield
        return
    torch.cuda.memory._record_memory_history(max_entries=200_000, stacks='python')
    try: yield
    finally:
        torch.cuda.memory._dump_snapshot(str(path))
        torch.cuda.memory._record_memory_history(enabled=None)

# Part 1: trainings in fresh processes

alloc_conf = 'PYTORCH_ALLOC_CONF','PYTORCH_CUDA_ALLOC_CONF' # the second is what PyTorch before 2.10 reads

def conf(expandable=None):
    "What this process has told PyTorch's allocator"
    return {k: os.environ.get(k) for k in alloc_conf}

def watched(device, mode, dry_run, expandable, benchmark, snapshot, arch, size, bs, epochs, increase_by, n, data=None):
    "One training in this process: its steps in ms, what the allocator did, and the peak of memory"
    torch.backends.cudnn.benchmark = benchmark
    learn,watch = get_learner(get_dls(device, size, bs, n, data), arch),Watch(device)
    cbs = [] if mode=='full' else [ProgressiveResize(increase_by=increase_by, preallocate=dry_run, verbose=False)]
    start = perf_counter()
    with recorded(snapshot, device), watch.rehearsing('dry_run', 'dry_run'), watch.rehearsing('try_sizes', 'first_batch'):
        learn.fit_one_cycle(epochs, 1e-3, cbs=[*cbs,watch])
        wait(device)
        took = perf_counter()-start
    return dict(mode=mode, dry_run=dry_run, expandable=expandable, benchmark=benchmark, snapshot=snapshot and Path(snapshot).name,
                conf=conf(), seconds=took, allocator=watch.seen, peak=peaks(device),
                steps=[(size, 1000*seconds_between(a, b)) for size,a,b in watch.steps])

def fresh(f, expandable, **kwargs):
    """`f` in a process of its own, whose allocator is told before PyTorch is imported

    What cuDNN has tried, it remembers as long as its process lives."""
    told = dict.fromkeys(alloc_conf, f'expandable_segments:{expandable}')
    return own_process(f, told, expandable=expandable, **kwargs)

def by_size(steps):
    "For each size: ms of its first step, the median and the slowest of its others"
    rows = []
    for size in dict.fromkeys(s for s,_ in steps):
        first,*others = [ms for s,ms in steps if s==size]
        mid,slowest = (median(others),max(others)) if others else (None,None)
        rows.append(dict(size=size, n=len(others)+1, first=first, median=mid, slowest=slowest))
    return rows

def stalls(run):
    "Adds to a training of `watched`: its `sizes`, and the `stall` in ms of the first steps at the initial size and at the others"
    rows = by_size(run['steps'])
    over = [r['first']-r['median'] for r in rows if r['n']>1]
    return {**run, 'sizes': rows, 'stall_first': over[0] if over else 0., 'stall_growths': sum(over[1:]),
            'slowest': max((r['slowest']/r['median'] for r in rows if r['n']>1), default=None)}

def on_off(x): return 'on' if x else 'off'

crossed = [dict(mode=m, dry_run=d, expandable=e, benchmark=b)
           for m,d,e,b in itertools.product(('batch','full'), (True,False), (False,True), (True,False)) if m=='batch' or not d]

def words(o):
    return f'{o["mode"]}, dry run {on_off(o["dry_run"])}, expandable {on_off(o["expandable"])}, cuDNN benchmark {on_off(o["benchmark"])}'

def watched_runs(device, repeats, snapshots, **kwargs):
    "A training of every setting, with a snapshot in the folder `snapshots`, and more of the usual settings, whose steps are timed without"
    runs = []
    for r,order in interleaved(crossed, repeats):
        for o in order:
            if r and (o['mode']=='full' or o['expandable'] or not o['dry_run']): continue
            print(words(o), flush=True)
            name = words(o).replace(',', '').replace(' ', '-').lower()
            snapshot = None if r or device.type!='cuda' else str(Path(snapshots)/f'{name}.pickle')
            runs.append(stalls(fresh(watched, device=device, snapshot=snapshot, **o, **kwargs)))
    return runs

# Goals

def growth(run, key, since):
    "How much `key` of the allocator grew from `since` to the end of the training, or None where that was not seen"
    then,end = run['allocator'].get(since),run['allocator']['end']
    return None if then is None or end is None else end[key]-then[key]

def goal(what, found, most, unit=''):
    "A row of the table; `found` is None where there was nothing to measure"
    return dict(what=what, goal=f'{"at most " if most else ""}{most}{unit}', found=None if found is None else f'{found:.3g}{unit}',
                met=None if found is None else bool(found<=most))

def worst(xs):
    "The largest of what was measured"
    return max((x for x in xs if x is not None), default=None)

def untraced(runs):
    "Those without a snapshot, which takes time, if there are any"
    return [r for r in runs if not r['snapshot']] or runs

def goals(runs):
    "What is asked for, and what was found: the worst of all repeats"
    rows = []
    for on,expandable in itertools.product((True,False), (False,True)):
        alike = [r for r in runs if r['benchmark']==on and r['expandable']==expandable]
        ours,full = [r for r in alike if r['dry_run']],next(r for r in alike if r['mode']=='full')
        note = f'cuDNN benchmark {on_off(on)}, expandable {on_off(expandable)}'
        for since in ('dry_run','first_batch','second_batch'):
            for key in ('segments','retries'):
                what = f'new {key} from the {since.replace("_", " ")} to the end, {note}'
                rows.append(goal(what, worst(growth(r, key, since) for r in ours), 0))
        for key in ('allocated','reserved'):
            off = [abs(r['peak'][key]/full['peak'][key]-1)*100 if r['peak'] else None for r in ours]
            rows.append(goal(f'peak memory ({key}) away from full-size training, {note}', worst(off), 1, ' %'))
        what = f'slowest step but the first of its size, by its median, {note}'
        rows.append(goal(what, worst(r['slowest'] for r in untraced(ours)), 3, 'x'))
    return rows

# Parts 2 and 3: seconds

class NoValid(Callback):
    "Leaves validation out"
    order = 60 # behind the recorder, which gets ready for it
    def before_validate(self): raise CancelValidException

def few_sizes(size, limit):
    "The smallest `increase_by`, a multiple of 16, whose sizes can all be compiled for training and for validation"
    gap = size-size//2
    return next((by for by in range(16, gap, 16) if 2*(math.ceil(gap/by)+1)<=limit), gap)

def seconds(learn, device, epochs, *cbs):
    "Of one training without validation"
    gc.collect()
    wait(device)
    start = perf_counter()
    learn.fit_one_cycle(epochs, 1e-3, cbs=[NoValid(),*cbs])
    wait(device)
    return perf_counter()-start

def times(device, configs, repeats, arch, size, bs, epochs, increase_by, n, data=None):
    "A row for each of `configs` and mode; all of them train once a round"
    dls = get_dls(device, size, bs, n, data)
    rows = []
    for config in configs:
        learn = get_learner(dls, arch, config)
        by = few_sizes(size, torch._dynamo.config.recompile_limit) if 'compile' in config else increase_by
        for mode in ('full','batch'):
            print(f'{config}, {mode}: first training', flush=True)
            cbs = [] if mode=='full' else [ProgressiveResize(increase_by=by, start=.05, finish=.95, verbose=False)]
            first = seconds(learn, device, 1, *cbs)
            rows.append(dict(config=config, mode=mode, increase_by=by if cbs else None, learn=learn, first=first, seconds=[]))
    for i,order in interleaved(rows, repeats):
        print(f'round {i+1} of {repeats}', flush=True)
        for r in order:
            cbs = [] if r['mode']=='full' else [ProgressiveResize(increase_by=r['increase_by'], verbose=False)]
            r['seconds'].append(seconds(r['learn'], device, epochs, *cbs))
    return [summary(r, len(dls.train)*bs*epochs, size, epochs) for r in rows]

def summary(r, n_image, size, epochs):
    "The row with its median, images/s, and the pixels it trained on as a share of full size"
    by,took = r['increase_by'],median(r['seconds'])
    return {**{k: v for k,v in r.items() if k!='learn'}, 'median': took, 'images_per_s': n_image/took,
            'pixels': size_schedule(size, epochs, increase_by=by).cost if by else 1.}

def compiled(device, config, **kwargs):
    "`times` of one compiled config, with nothing left of what was compiled before, and the number of its graphs"
    from torch._dynamo.utils import counters
    torch._dynamo.reset()
    counters.clear()
    rows = times(device, [config], **kwargs)
    return [{**r, 'graphs': counters['stats']['unique_graphs']} for r in rows]

# Tables

def settings(r):
    return {'mode': r['mode'], 'dry run': on_off(r['dry_run']), 'expandable': on_off(r['expandable']),
            'cuDNN benchmark': on_off(r['benchmark'])}

def stall_table(runs):
    def row(r):
        first,growths = r['stall_first'],r['stall_growths']
        return {**settings(r), 'seconds': f'{r["seconds"]:.1f}',
                'first step (ms)': f'{first:.0f}', 'first steps at new sizes (ms)': f'{growths:.0f}', 'sizes': str(len(r['sizes'])),
                'of the training': f'{(first+growths)/r["seconds"]/10:.1f} %', 'snapshot': r['snapshot'] or ''}
    return table([row(r) for r in runs if r['mode']=='batch'])

def memory_table(runs):
    "What the allocator did, of every run; empty cells where nothing was measured"
    def cell(v, unit=1): return '' if v is None else f'{v/unit:.0f}'
    def new(r, since): return {f'new {k} from the {since.replace("_", " ")}': cell(growth(r, k, since)) for k in ('segments','retries')}
    def peak(r): return {f'peak {k} (MiB)': cell(r['peak'] and r['peak'][k], 2**20) for k in ('allocated','reserved')}
    return table([{**settings(r), **new(r, 'dry_run'), **new(r, 'second_batch'), **peak(r)} for r in runs])

def time_table(rows):
    full = {r['config']: r['median'] for r in rows if r['mode']=='full'}
    def row(r):
        return {'config': r['config'], 'mode': r['mode'], 'increase by': str(r['increase_by'] or ''),
                'first (s)': f'{r["first"]:.1f}', 'seconds': f'{r["median"]:.2f}', 'images/s': f'{r["images_per_s"]:.0f}',
                'speedup': f'{full[r["config"]]/r["median"]:.2f}x', 'pixels': f'{r["pixels"]:.0%}', 'graphs': str(r.get('graphs', ''))}
    return table([row(r) for r in rows])

def goal_table(rows):
    met = {True: 'yes', False: 'NO', None: 'not measured'}
    return table([{**r, 'found': r['found'] or '', 'met': met[r['met']]} for r in rows])

# All of it

def run(device, out, repeats, minutes, configs, args, snapshots='build/snapshots'):
    "Everything on `device`; `args` are those of `watched` and `times`"
    start,left_out = perf_counter(),[]
    path = stem(bench.out_folder(out), f'cuda {bench.device_name()}')
    arguments = dict(repeats=repeats, minutes=minutes, configs=configs, **{**args, 'data': args['data'] and Path(args['data']).name})
    cudnn = torch.backends.cudnn
    result = dict(head(bench.device_name(), arguments, cuda=torch.version.cuda, cudnn=cudnn.version()), default_benchmark=cudnn.benchmark,
                  recompile_limit=torch._dynamo.config.recompile_limit, left_out=left_out)
    def save(**parts):
        result.update(parts, minutes_taken=(perf_counter()-start)/60)
        report(path, result)
    runs = watched_runs(device, repeats, bench.out_folder(snapshots), **args)
    save(runs=runs, goals=goals(runs))
    print(f'\n{goal_table(result["goals"])}\n\n{memory_table(runs)}\n\n{stall_table(runs)}\n', flush=True)
    rows = []
    for part in [[c for c in configs if 'compile' not in c], *[[c] for c in configs if 'compile' in c]]:
        if not part: continue
        if perf_counter()-start>60*minutes: left_out += part
        else: rows += compiled(device, *part, repeats=repeats, **args) if 'compile' in part[0] else times(device, part, repeats, **args)
        save(times=rows)
    if rows: print(f'\n{time_table(rows)}')
    if left_out: print(f'\nleft out, because {minutes} minutes were over: {", ".join(left_out)}')
    print(f'\n{args["size"]} px, {args["arch"]}, batches of {args["bs"]}, {result["device"]}, torch {torch.__version__}, '
          f'{result["minutes_taken"]:.1f} minutes\nwrote {path}.json')
    return result

all_configs = 'plain,bf16,channels_last,bf16+channels_last,bf16+channels_last+compile,compile'

@call_parse
def main(
    arch:str='xresnext50', # Model: one of fastai's or torchvision's, untrained
    size:int=224, # Final height and width in pixels
    bs:int=64, # Images per batch
    epochs:int=4, # Epochs of a training
    increase_by:int=16, # Pixels a growth; compiled models grow in larger steps
    n:int=2048, # Random pictures to train on
    data:str=None, # A folder with `train` and `val` in it, or `imagenette`, instead of random pictures
    repeats:int=3, # How often each training is timed
    configs:str=all_configs, # What is timed: any of bf16, channels_last and compile, joined by +
    minutes:float=5.5, # Begin no further part after this time
    snapshots:str='build/snapshots', # Folder for a memory snapshot of every setting
    out:str='benchmarks/results', # Folder for cuda-<device>-<date>.json
):
    "Measure memory, stalls and speed of progressive and full-size training on a GPU"
    warnings.filterwarnings('ignore', category=FutureWarning)
    args = dict(arch=arch, size=size, bs=bs, epochs=epochs, increase_by=increase_by, n=n, data=data)
    with bench.in_one_line('gpu.py'):
        unknown = {o for c in configs.split(',') for o in c.split('+')}-{'plain','bf16','channels_last','compile'}
        known = 'plain, or any of bf16, channels_last and compile joined by +'
        if unknown: raise bench.BenchError(f'--configs {configs}: expected {known}; found {", ".join(sorted(unknown))}')
        bench.check_numbers(dict(size=size, bs=bs, epochs=epochs, increase_by=increase_by, n=n, repeats=repeats, minutes=minutes))
        if n<bs: raise bench.BenchError(f'--n {n}: expected at least a batch of --bs {bs}')
        if data: bench.find_data(data, size)
        if not torch.cuda.is_available(): raise bench.BenchError('no CUDA device found; this benchmark measures what only a GPU can show')
        run(torch.device('cuda', torch.cuda.current_device()), out, repeats, minutes, configs.split(','), args, snapshots)
