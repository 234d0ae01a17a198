"""What only a GPU can show: `python benchmarks/gpu.py`

Runs from a bare checkout, with PyTorch and fastai installed; without a CUDA device it says so and exits with 2. Three parts,
and after each of them the .json is written anew:

- Trainings in fresh processes, progressive and at full size, with `torch.backends.cudnn.benchmark` on and off (PyTorch's
  default, which fastai 2.8 leaves alone). Memory: new segments and allocation retries from the dry run, the first and the
  second batch on (the optimizer's state is allocated between these two) to the end of the training, and the peak. Time, by
  CUDA events from the end of one step to the end of the next: the first step of every size less the median of its others,
  which is what a new size costs, and the slowest of the others.
- Seconds and images/s at full size and in Batch mode, in float32, bfloat16, channels_last, and both.
- The same with `torch.compile`, where every new size may be compiled anew: in as few sizes as fit `recompile_limit`.

The second and third part train without validation, after one short training that visits every size, so that nothing which
happens once a process is in the seconds; it stands in the column `first (s)`, with compiling. Their rounds train everything once,
in another order each. Unless `--data` names a folder, the pictures are random bytes that lie on the device: no loader is waited for.

It is not called cuda.py because a script's folder comes first on Python's path, and PyTorch itself imports a package `cuda`.
"""
import gc, json, random, warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from fastai.vision.all import *
from fastcore.script import call_parse

from record import stem, versions, with_suffix
from fastresize import bench
from fastresize.all import *
from fastresize.throughput import _mark, _seconds

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
    def __init__(self, on): self.on = on
    def before_fit(self): self.steps,self.seen = [],dict(dry_run=allocator(self.on))
    def before_batch(self):
        if not self.training: return
        if self.train_iter<2: self.seen[('first_batch','second_batch')[self.train_iter]] = allocator(self.on)
        if self.iter==0: self.since = _mark(self.on)   # the start of an epoch's loader is no part of a step
    def after_batch(self):
        if not self.training: return
        now = _mark(self.on)
        self.steps.append((tuple(self.x.shape[-2:]), self.since, now))
        self.since = now
    def after_fit(self): self.seen['end'] = allocator(self.on)

# Part 1: trainings in fresh processes

def watched(device, mode, benchmark, arch, size, bs, epochs, increase_by, n, data=None):
    "One training in this process: its steps in ms, what the allocator did, and the peak of memory"
    torch.backends.cudnn.benchmark = benchmark
    learn,watch = get_learner(get_dls(device, size, bs, n, data), arch),Watch(device)
    cbs = [] if mode=='full' else [ProgressiveResize(increase_by=increase_by, verbose=False)]
    start = perf_counter()
    learn.fit_one_cycle(epochs, 1e-3, cbs=[*cbs,watch])
    wait(device)
    return dict(mode=mode, benchmark=benchmark, seconds=perf_counter()-start, allocator=watch.seen, peak=peaks(device),
                steps=[(size, 1000*_seconds(a, b)) for size,a,b in watch.steps])

def fresh(f, **kwargs):
    "`f(**kwargs)` in a process of its own: what cuDNN has tried, it remembers as long as its process lives"
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool: return pool.submit(f, **kwargs).result()

def by_size(steps):
    "For each size: ms of its first step, the median and the slowest of its others"
    rows = []
    for size in dict.fromkeys(s for s,_ in steps):
        first,*others = [ms for s,ms in steps if s==size]
        rows.append(dict(size=size, n=len(others)+1, first=first, median=median(others) if others else None, slowest=max(others, default=None)))
    return rows

def stalls(run):
    "Adds to a training of `watched`: its `sizes`, and the `stall` in ms of the first steps at the initial size and at the others"
    rows = by_size(run['steps'])
    over = [r['first']-r['median'] for r in rows if r['n']>1]
    return {**run, 'sizes': rows, 'stall_first': over[0] if over else 0., 'stall_growths': sum(over[1:]),
            'slowest': max((r['slowest']/r['median'] for r in rows if r['n']>1), default=None)}

def watched_runs(device, repeats, **kwargs):
    "Progressive trainings with cuDNN's benchmark on and off in turn, and one of each at full size for its memory"
    todo = [(mode, on) for r in range(repeats) for mode in (('batch',) if r else ('batch','full')) for on in (True,False)]
    runs = []
    for mode,on in todo:
        print(f'{mode}, cuDNN benchmark {"on" if on else "off"}', flush=True)
        runs.append(stalls(fresh(watched, device=device, mode=mode, benchmark=on, **kwargs)))
    return runs

# Goals

def growth(run, key, since):
    "How much `key` of the allocator grew from `since` to the end of the training"
    return None if run['allocator']['end'] is None else run['allocator']['end'][key]-run['allocator'][since][key]

def goal(what, found, most, unit=''):
    "A row of the table; `found` is None where there was nothing to measure"
    return dict(what=what, goal=f'{"at most " if most else ""}{most}{unit}', found=None if found is None else f'{found:.3g}{unit}',
                met=None if found is None else bool(found<=most))

def worst(xs):
    "The largest of what was measured"
    return max((x for x in xs if x is not None), default=None)

def goals(runs):
    "What is asked for, and what was found: the worst of all repeats"
    rows = []
    for on in (True,False):
        ours = [r for r in runs if r['mode']=='batch' and r['benchmark']==on]
        full = next(r for r in runs if r['mode']=='full' and r['benchmark']==on)
        note = f'cuDNN benchmark {"on" if on else "off"}'
        for since in ('dry_run','first_batch','second_batch'):
            for key in ('segments','retries'):
                rows.append(goal(f'new {key} from the {since.replace("_", " ")} to the end, {note}', worst(growth(r, key, since) for r in ours), 0))
        for key in ('allocated','reserved'):
            off = [abs(r['peak'][key]/full['peak'][key]-1)*100 if r['peak'] else None for r in ours]
            rows.append(goal(f'peak memory ({key}) away from full-size training, {note}', worst(off), 1, ' %'))
        rows.append(goal(f'slowest step but the first of its size, by its median, {note}', worst(r['slowest'] for r in ours), 3, 'x'))
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
        learn,by = get_learner(dls, arch, config),few_sizes(size, torch._dynamo.config.recompile_limit) if 'compile' in config else increase_by
        for mode in ('full','batch'):
            print(f'{config}, {mode}: first training', flush=True)
            cbs = [] if mode=='full' else [ProgressiveResize(increase_by=by, start=.05, finish=.95, verbose=False)]
            rows.append(dict(config=config, mode=mode, increase_by=by if cbs else None, learn=learn, first=seconds(learn, device, 1, *cbs), seconds=[]))
    for i in range(repeats):
        print(f'round {i+1} of {repeats}', flush=True)
        for r in random.sample(rows, len(rows)):
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

def stall_table(runs):
    rows = [{'cuDNN benchmark': 'on' if r['benchmark'] else 'off', 'seconds': f'{r["seconds"]:.1f}', 'first step (ms)': f'{r["stall_first"]:.0f}',
             'first steps at new sizes (ms)': f'{r["stall_growths"]:.0f}', 'sizes': len(r['sizes']), 'of the training': f'{(r["stall_first"]+r["stall_growths"])/r["seconds"]/10:.1f} %'}
            for r in runs if r['mode']=='batch']
    return pd.DataFrame(rows).to_string(index=False)

def time_table(rows):
    full = {r['config']: r['median'] for r in rows if r['mode']=='full'}
    return pd.DataFrame([{'config': r['config'], 'mode': r['mode'], 'increase by': r['increase_by'] or '', 'first (s)': f'{r["first"]:.1f}',
                          'seconds': f'{r["median"]:.2f}', 'images/s': f'{r["images_per_s"]:.0f}', 'speedup': f'{full[r["config"]]/r["median"]:.2f}x',
                          'pixels': f'{r["pixels"]:.0%}', 'graphs': r.get('graphs', '')} for r in rows]).to_string(index=False)

def goal_table(rows):
    met = {True: 'yes', False: 'NO', None: 'not measured'}
    return pd.DataFrame([{**r, 'found': r['found'] or '', 'met': met[r['met']]} for r in rows]).to_string(index=False)

# All of it

def run(device, out, repeats, minutes, configs, args):
    "Everything on `device`; `args` are those of `watched` and `times`"
    start,left_out = perf_counter(),[]
    path = with_suffix(stem(bench.out_folder(out), f'cuda {bench.device_name()}'), '.json')
    result = dict(device=bench.device_name(), versions=versions(cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version()), args=dict(repeats=repeats, minutes=minutes, configs=configs, **{**args, 'data': args['data'] and Path(args['data']).name}),
                  default_benchmark=torch.backends.cudnn.benchmark, recompile_limit=torch._dynamo.config.recompile_limit, left_out=left_out)
    def save(**parts):
        result.update(parts, minutes_taken=(perf_counter()-start)/60)
        path.write_text(json.dumps(result, indent=1)+'\n')
    runs = watched_runs(device, repeats, **args)
    save(runs=runs, goals=goals(runs))
    print(f'\n{goal_table(result["goals"])}\n\n{stall_table(runs)}\n', flush=True)
    rows = []
    for part in [[c for c in configs if 'compile' not in c], *[[c] for c in configs if 'compile' in c]]:
        if not part: continue
        if perf_counter()-start>60*minutes: left_out += part
        else: rows += compiled(device, *part, repeats=repeats, **args) if 'compile' in part[0] else times(device, part, repeats, **args)
        save(times=rows)
    if rows: print(f'\n{time_table(rows)}')
    if left_out: print(f'\nleft out, because {minutes} minutes were over: {", ".join(left_out)}')
    print(f'\n{args["size"]} px, {args["arch"]}, batches of {args["bs"]}, {result["device"]}, torch {torch.__version__}, {result["minutes_taken"]:.1f} minutes\nwrote {path}')
    return result

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
    configs:str='plain,bf16,channels_last,bf16+channels_last,bf16+channels_last+compile,compile', # What is timed: any of bf16, channels_last and compile, joined by +
    minutes:float=5.5, # Begin no further part after this time
    out:str='benchmarks/results', # Folder for cuda-<device>-<date>.json
):
    "Measure memory, stalls and speed of progressive and full-size training on a GPU"
    warnings.filterwarnings('ignore', category=FutureWarning)
    args = dict(arch=arch, size=size, bs=bs, epochs=epochs, increase_by=increase_by, n=n, data=data)
    with bench.in_one_line('gpu.py'):
        unknown = {o for c in configs.split(',') for o in c.split('+')}-{'plain','bf16','channels_last','compile'}
        if unknown: raise bench.BenchError(f'--configs {configs}: expected plain, or any of bf16, channels_last and compile joined by +; found {", ".join(sorted(unknown))}')
        bench.check_numbers(dict(size=size, bs=bs, epochs=epochs, increase_by=increase_by, n=n, repeats=repeats, minutes=minutes))
        if n<bs: raise bench.BenchError(f'--n {n}: expected at least a batch of --bs {bs}')
        if data: bench.find_data(data, size)
        if not torch.cuda.is_available(): raise bench.BenchError('no CUDA device found; this benchmark measures what only a GPU can show')
        run(torch.device('cuda', torch.cuda.current_device()), out, repeats, minutes, configs.split(','), args)
