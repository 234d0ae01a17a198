"""What only a GPU can show: `python benchmarks/gpu.py`

On an NVIDIA H200 with 16 CPU cores: `results/gpu-steps-nvidia-h200-2026-11-28.json`, `results/gpu-memory-nvidia-h200-2026-11-28.json`.

`steps`: bare steps on batches that lie on the device, in several formats and with fastai's Adam or PyTorch's fused AdamW: the first
step of a size (with `torch.compile`, it compiles there), the median of its others, and how long the processor takes to launch one.
With `--data` also the pictures a second that the loaders deliver, whole and with items of half the size.

`memory`: trainings in bfloat16 and channels-last, in fresh processes: with the dry run on and off, with `expandable_segments` of
PyTorch's allocator on and off, and with `torch.backends.cudnn.benchmark` on and off, all crossed; and at full size beside them. New
segments and allocation retries from the dry run, the first and the second batch on (the optimizer's state is allocated between
these two) to the end of the training, and the peak. By CUDA events from the end of one step to the end of the next, the stalls: the
first step of every size less the median of its others, and the slowest of the others.

It is not called cuda.py because a script's folder comes first on Python's path, and PyTorch itself imports a package `cuda`.
"""
import itertools, os
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from unittest import mock

from fastai.vision.all import *
from fastcore.script import call_parse

from experiments import fused
from record import checked, head, own_process, publish, sync
from fastresize import bench, rehearsal
from fastresize.all import *
from fastresize.backends import SizeRatio, items_at
from fastresize.log import mark, seconds_between

def get_dls(device, size, bs, n):
    "`n` random pictures of 10 classes that lie on the device"
    x,y = torch.randint(256, (n,3,size,size), dtype=torch.uint8, device=device),torch.arange(n, device=device)%10
    class OnDevice(TfmdDL):
        def do_item(self, i): return i or 0
        def do_batch(self, b):
            i = torch.tensor(b, device=device)
            return TensorImage(x[i]),TensorCategory(y[i])
    block = DataBlock((ImageBlock,CategoryBlock), get_y=lambda i: i%10, splitter=lambda o: (range(n),range(bs)),
                      batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)])
    return block.dataloaders(range(n), bs=bs, num_workers=0, device=device, dl_type=OnDevice)

# ---- steps

def get_step(dls, arch, config, opt):
    "A function that makes one step on a batch of images and targets"
    learn = bench.get_learner(dls, arch, **({} if opt=='adam' else dict(opt_func=fused)))
    model = learn.model.to(dls.device, memory_format=torch.channels_last if 'channels_last' in config else torch.contiguous_format)
    learn.create_opt()
    forward = torch.compile(model) if 'compile' in config else model
    def step(x, y):
        with torch.autocast(dls.device.type, torch.bfloat16, enabled='bf16' in config): loss = learn.loss_func(forward(x), y)
        loss.backward()
        learn.opt.step()
        learn.opt.zero_grad()
    return step

def time_steps(step, x, y, n):
    "Milliseconds of the first step, the median of `n` others, and the median of launching one"
    took,launched = [],[]
    for _ in range(n+3):
        sync()
        start = perf_counter()
        step(x, y)
        launched.append(1e3*(perf_counter()-start))
        sync()
        took.append(1e3*(perf_counter()-start))
    return dict(first_ms=took[0], step_ms=median(took[3:]), launch_ms=median(launched[3:]))

def steps(device, arch, size, bs, configs, n=20):
    "A row for every format, optimizer, and size: the largest first, as the dry run has it"
    dls,rows = get_dls(device, size, 2, 2),[]
    for config,opt in itertools.product(configs, ('adam','fused')):
        step = get_step(dls, arch, config, opt)
        for s in (size,size*3//4,size//2):
            x,y = torch.randn(bs, 3, s, s, device=device),torch.randint(dls.c, (bs,), device=device)
            if 'channels_last' in config: x = x.to(memory_format=torch.channels_last)
            rows.append(dict(config=config, opt=opt, size=s, bs=bs, **time_steps(step, x, y, n)))
            print(rows[-1], flush=True)
    return rows

def loading(path, size, bs, workers):
    "Pictures a second of an epoch's loader but for its first batch, with items of full size and of half of it"
    res = {}
    for what,s in (('whole items',size), ('items at half size',size//2)):
        dl = bench.get_dls(path, size, bs, workers).train.new(after_batch=noop)
        with items_at(SizeRatio((s,s), (size,size))): times = [perf_counter() for _ in dl]   # workers that are forked know of it
        res[what] = (len(dl)-1)*bs/(times[-1]-times[0])
    return res

# ---- memory

def allocator(device):
    "Segments that were ever asked of CUDA, and how often there was no room for one at first"
    if device.type!='cuda': return None
    s = torch.cuda.memory_stats(device)
    return dict(segments=s['segment.all.allocated'], retries=s['num_alloc_retries'])

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
        self.steps.append((self.x.shape[-1], self.since, now))
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

def watched(device, mode, dry_run, expandable, benchmark, arch, size, bs, epochs, increase_by, n):
    "A row for one training in this process: what the allocator did, the peak of memory, and the stalls"
    torch.backends.cudnn.benchmark = benchmark
    learn,watch = bench.get_learner(get_dls(device, size, bs, n), arch),Watch(device)
    if device.type=='cuda':
        learn.to_channelslast(use_amp=False)
        learn.add_cb(MixedPrecision(amp_mode='bf16'))
    cbs = [] if mode=='full' else [ProgressiveResize(increase_by=increase_by, preallocate=dry_run, verbose=False)]
    start = perf_counter()
    with learn.no_bar(), learn.no_logging(), watch.rehearsing('dry_run', 'dry_run'), watch.rehearsing('try_sizes', 'first_batch'):
        learn.fit_one_cycle(epochs, 1e-3, cbs=[*cbs,watch])
    sync()
    seen,gib = watch.seen,2**30
    row = dict(mode=mode, dry_run=dry_run, expandable=expandable, benchmark=benchmark, seconds=perf_counter()-start)
    if device.type=='cuda':
        for since in ('dry_run','first_batch','second_batch'):
            if since in seen: row |= {f'new {k} since {since}': seen['end'][k]-seen[since][k] for k in seen['end']}
        row |= dict(allocated_gib=torch.cuda.max_memory_allocated(device)/gib, reserved_gib=torch.cuda.max_memory_reserved(device)/gib)
    return {**row, **stalls([(s, 1000*seconds_between(a, b)) for s,a,b in watch.steps])}

def stalls(steps):
    "Of the milliseconds of steps, by size: what first ones take beyond a usual one, and the slowest of the others by the usual one"
    by_size = [[ms for s,ms in steps if s==size] for size in dict.fromkeys(s for s,_ in steps)]
    over = [first-median(rest) for first,*rest in by_size if rest]
    return dict(sizes=len(by_size), stall_first_ms=over[0], stall_growths_ms=sum(over[1:]),
                slowest=max(max(rest)/median(rest) for _,*rest in by_size if rest))

alloc_conf = 'PYTORCH_ALLOC_CONF','PYTORCH_CUDA_ALLOC_CONF' # the second is what PyTorch before 2.10 reads

def fresh(f, expandable, **kwargs):
    """`f` in a process of its own, whose allocator is told before PyTorch is imported

    What cuDNN has tried, it remembers as long as its process lives."""
    return own_process(f, dict.fromkeys(alloc_conf, f'expandable_segments:{expandable}'), expandable=expandable, **kwargs)

def conf(expandable=None):
    "What this process has told PyTorch's allocator"
    return {k: os.environ.get(k) for k in alloc_conf}

def memory(device, **kwargs):
    "A row for every setting"
    rows = []
    for mode,dry_run,expandable,benchmark in itertools.product(('batch','full'), (True,False), (False,True), (True,False)):
        if mode=='full' and dry_run: continue
        rows.append(fresh(watched, expandable=expandable, device=device, mode=mode, dry_run=dry_run, benchmark=benchmark, **kwargs))
        print(rows[-1], flush=True)
    return rows

# ---- the command

formats = 'plain','channels_last','bf16','compile'

@call_parse
def main(
    part:str='steps,memory', # Any of these, separated by commas
    arch:str='xresnet50', # Model: one of fastai's or torchvision's, untrained
    size:int=224, # Final height and width in pixels
    bs:int=64, # Images per batch
    configs:str='plain,bf16+channels_last,bf16+channels_last+compile', # Formats of the steps: any of bf16, channels_last and compile, joined by +
    epochs:int=4, # Epochs of a training whose memory is watched
    increase_by:int=16, # Pixels a growth in it
    n:int=2048, # Random pictures in it
    data:str=None, # A folder with `train` and `val` in it, whose pictures are loaded
    workers:int=16, # Loader processes
    out:str='benchmarks/results', # Folder for gpu-<part>-<device>-<date>.json and .csv
):
    "Measure steps, memory and stalls on a GPU"
    arguments = {k: v for k,v in locals().items() if k not in ('data','out')}
    with checked('gpu', out, size=size, bs=bs, epochs=epochs, increase_by=increase_by, n=n, workers=workers):
        names,asked = configs.split(','),part.split(',')
        wrong = [o for o in asked if o not in ('steps','memory')]
        if wrong: raise bench.BenchError(f'--part {part}: expected any of steps, memory; found {wrong[0]}')
        wrong,known = [o for c in names for o in c.split('+') if o not in formats],', '.join(formats)
        if wrong: raise bench.BenchError(f'--configs {configs}: expected {known}, or some of the last three joined by +; found {wrong[0]}')
        if n<bs: raise bench.BenchError(f'--n {n}: expected at least a batch of --bs {bs}')
        path = data and bench.find_data(data, size)
        if not torch.cuda.is_available(): raise bench.BenchError('no CUDA device found; this benchmark measures what only a GPU can show')
        measure(torch.device('cuda', torch.cuda.current_device()), asked, names, path, arguments, out)

def measure(device, parts, configs, path, a, out):
    "Measure, and write a file for each part"
    result = head(a, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    if path: result['loading'] = loading(path, a['size'], a['bs'], a['workers'])
    what = {k: a[k] for k in ('arch','size','bs')}
    training = {k: a[k] for k in ('epochs','increase_by','n')}
    if 'steps' in parts: publish(out, f'gpu steps {bench.device_name()}', result, steps(device, **what, configs=configs))
    if 'memory' in parts: publish(out, f'gpu memory {bench.device_name()}', result, memory(device, **what, **training))
