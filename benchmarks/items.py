"""What `resize_items=True` gives a training that waits for its pictures: `python benchmarks/items.py`

`items`: the CPU time of an item, from opening the file to the tensor, by fastai alone, and by `resize_items` at full size and at
half of it, there also from decoded pictures that were kept (`cache_items`); and over the default schedule, which is small for half
of a training and grows in the next quarter.

`fits`: whole trainings of a model that takes next to no time, with `--workers` loader processes, so that reading the pictures is
all that there is to wait for: at full size, progressively, and progressively with `resize_items=True`, without and with
`cache_items`; and of each the epochs at the initial size but the first.

Photographs of 500×375 pixels are drawn, with noise and detail at every scale as photographs have it, and saved as JPEG of quality
90; `--data` takes any folder of real ones. Medians of the rounds, and ratios within a round.
"""
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
from fastai.vision.all import *
from fastcore.script import call_parse

from record import checked, head, interleaved, publish, table
from fastresize.all import *
from fastresize.backends import SizeRatio, items_at
from fastresize.bench import BenchError
from fastresize.items import DecodeCache

full,sizes = 224,(112,128,160,192,224)
pipelines = dict(Resize=lambda: Resize(full), RandomResizedCrop=lambda: RandomResizedCrop(full, min_scale=.35))

def photograph(rng, h=375, w=500):
    "Noise whose amplitude falls with its frequency, as that of photographs does, and a few edges"
    fy,fx = np.meshgrid(np.fft.fftfreq(h), np.fft.rfftfreq(w), indexing='ij')
    amplitude = 1/np.maximum(np.hypot(fy, fx), 1/w)**1.1
    gray,*colors = [np.fft.irfft2(amplitude*np.exp(2j*np.pi*rng.random(amplitude.shape)), s=(h,w)) for _ in range(3)]
    a = np.stack([gray + .3*c for c in (colors[0],colors[1],-colors[0])], -1)
    for _ in range(12):
        y,x = rng.integers(0, h-60),rng.integers(0, w-60)
        a[y:y+rng.integers(20,60), x:x+rng.integers(20,60)] += rng.normal(0, a.std(), 3)
    return Image.fromarray((128 + 50*(a-a.mean())/a.std() + rng.normal(0, 3, a.shape)).clip(0,255).astype(np.uint8))

def draw(folder, n):
    for i in range(n):
        f = Path(folder)/'ab'[i%2]/f'{i}.jpg'
        f.parent.mkdir(exist_ok=True)
        photograph(np.random.default_rng(i)).save(f, quality=90)
    return folder

# ---- items

def seconds_of_items(files, tfm, size_ratio):
    "CPU seconds of an item, always with the same random numbers"
    pipe = Pipeline([PILImage.create, tfm(), ToTensor()], split_idx=0)
    random.seed(0)
    start = process_time()
    for batch in chunked(files, 32):
        with items_at(size_ratio):
            for f in batch: pipe(f)
    return (process_time()-start)/len(files)

def items(files, rounds):
    "A row for each pipeline: milliseconds of an item, and how many times as fast"
    what,cache = [(p,s) for p in pipelines for s in (None,*sizes,'kept')],DecodeCache(10e9).open()
    took = {k: [] for k in what}
    for r,order in interleaved(what, rounds+1):
        for p,s in order:
            size_ratio = SizeRatio((sizes[0],)*2, (full,full), cache) if s=='kept' else s and SizeRatio((s,s), (full,full))
            t = seconds_of_items(files, pipelines[p], size_ratio)
            if r: took[p,s].append(t)   # the round before the first one fills what is kept
    cache.close()
    return [row(p, {s: np.array(took[p,s]) for q,s in what if q==p}) for p in pipelines]

def row(name, took):
    "A row, from the seconds of every round; sizes of the schedule between those that were timed are interpolated"
    seen = [h for h,_ in size_schedule(full, 20).sizes_of(0, 1, 1000)]
    over = [np.interp(seen, sizes, o).mean() for o in zip(*(took[s] for s in sizes))]
    ways = dict(full=took[full], half=took[sizes[0]], kept=took['kept'], schedule=np.array(over))
    return dict(items=name, plain_ms=1e3*median(took[None]), **{f'{k}_ms': 1e3*median(v) for k,v in ways.items()},
                **{k: median(took[None]/v) for k,v in ways.items()})

# ---- whole trainings

modes = {'full size': None, 'progressive': dict(resize_items=False), 'resize_items': dict(resize_items=True),
         'cache_items': dict(resize_items=True, cache_items=10e9)}

class Epochs(Callback):
    "When each epoch ends"
    def before_fit(self): self.ends = []
    def after_epoch(self): self.ends.append(perf_counter())

def fit_once(files, args, workers, epochs):
    "Seconds of a training, and of its epochs at the initial size but the first"
    block = DataBlock((ImageBlock,CategoryBlock), get_y=lambda f: len(f.name)%2, splitter=RandomSplitter(.1, seed=0),
                      item_tfms=Resize(full), batch_tfms=[])
    dls = block.dataloaders(files, bs=32, num_workers=workers, device='cpu')
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3, 2))
    cbs = [] if args is None else [ProgressiveResize(increase_by=16, verbose=False, **args)]
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), cbs=[*cbs,Epochs()])
    with learn.no_bar(), learn.no_logging():
        start = perf_counter()
        learn.fit(epochs)
        ends = learn.epochs.ends
        return perf_counter()-start,ends[epochs//2-1]-ends[0]

def fits(files, rounds, workers, epochs):
    "Seconds of every mode, one a round; and of its small epochs"
    took = {m: [] for m in modes}
    for _,order in interleaved(modes, rounds):
        for m in order: took[m].append(fit_once(files, modes[m], workers, epochs))
    return [{m: [t[i] for t in ts] for m,ts in took.items()} for i in (0,1)]

def gains(took, suffix):
    "A row for each pair of modes: how many times as fast"
    pairs = ('full size','progressive'), *((a,b) for b in ('resize_items','cache_items') for a in ('full size','progressive'))
    ratios = {f'{a} / {b}{suffix}': [x/y for x,y in zip(took[a], took[b])] for a,b in pairs}
    return [{'times as fast': k, 'median': median(v), 'least': min(v), 'most': max(v)} for k,v in ratios.items()]

@call_parse
def main(
    data:str=None, # Folder of photographs, at any depth; by default they are drawn
    n:int=400, # Photographs, at most
    rounds:int=5, # How often everything is measured
    workers:int=2, # Loader processes of the trainings
    epochs:int=4, # Length of a training
    out:str='benchmarks/results', # Folder for items-<date>.json and .csv
):
    "Measure what making items small saves"
    with checked('items', out, n=n, rounds=rounds, epochs=epochs), TemporaryDirectory() as tmp:
        if epochs<4: raise BenchError(f'--epochs {epochs}: expected 4 or more, so that two are at the initial size')
        files = get_image_files(data or draw(tmp, n)).sorted()[:n]
        if not files: raise BenchError(f'--data {data}: expected a folder with photographs in it')
        torch.set_num_threads(1)
        took,small = fits(files, rounds, workers, epochs)
        print(table([{'training': m, 'seconds': median(t)} for m,t in took.items()]))
        print(table([*gains(took, ''), *gains(small, ', small epochs but the first')]))
        args = dict(data=bool(data), n=len(files), mean_size=np.mean([Image.open(f).size for f in files], 0).tolist(),
                    bytes=int(np.mean([f.stat().st_size for f in files])), rounds=rounds, workers=workers, epochs=epochs)
        result = dict(head(args), fits=took, small_epochs=small)
        publish(out, 'items photographs' if data else 'items drawn', result, items(files[:200], rounds))
