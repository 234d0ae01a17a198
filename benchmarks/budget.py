"""Do trainings take the time that they were given? `python benchmarks/budget.py`

Ten small set-ups on drawn pictures, each trained by `learn.fit_minutes` with the same budget: progressively or at full size,
light and heavy models, small and large batches, with and without augmentation. What is timed is the call, with the preview
that measures beforehand. A set-up passes if it took within 10 % of the budget.

On 2 CPU cores (AMD EPYC) that another training used as well, 15 seconds each, 10 of 10 passed, the farthest 4 % below: `results/budget-2-cpu-cores-amd-epyc-2026-11-22.json`.
By the prediction alone, without the look at the clock after every epoch, 5 of 10 did on the same day, of 60 seconds: such a machine is at times
half as fast as at others. `results/budget-by-prediction-2-cpu-cores-amd-epyc-2026-11-22.json`.
"""
from pathlib import Path
from time import perf_counter

import torch
from fastai.vision.all import AdaptiveAvgPool, Callback, ConvLayer, Flatten, ImageDataLoaders, Learner, Resize, accuracy, aug_transforms, nn, set_seed
from fastcore.script import call_parse

from record import head, report, stem, table
from fastresize import bench
from fastresize.demo import demo_data
from fastresize.progressive import ProgressiveResize
import fastresize.recipes

def net(width, depth):
    layers = [ConvLayer(3 if i==0 else width, width, stride=2 if i<2 else 1) for i in range(depth)]
    return nn.Sequential(*layers, AdaptiveAvgPool(), Flatten(), nn.Linear(width, 5))

setups = { # size, images a batch, width and depth of the model, arguments of `ProgressiveResize` or None, augmentation
    'small':                (64, 16, 8, 2, {}, True),
    'small, full size':     (64, 16, 8, 2, None, True),
    'deeper':               (64, 16, 16, 4, {}, True),
    'deeper, full size':    (64, 16, 16, 4, None, True),
    'large':                (96, 16, 16, 3, {}, True),
    'large batches':        (64, 64, 16, 3, {}, True),
    'small batches':        (64, 8, 8, 3, {}, True),
    'epoch mode':           (64, 16, 16, 3, dict(increase_mode='epoch'), True),
    'full-size validation': (64, 16, 16, 3, dict(resize_valid=False), True),
    'no augmentation':      (64, 16, 16, 3, {}, False)}

def get_learner(path, size, bs, width, depth, args, augment):
    set_seed(42)
    tfms = aug_transforms() if augment else None
    dls = ImageDataLoaders.from_folder(path, valid='val', item_tfms=Resize(size), batch_tfms=tfms, bs=bs, num_workers=0)
    cbs = [] if args is None else ProgressiveResize(increase_by=8, verbose=False, **args)
    return Learner(dls, net(width, depth), metrics=accuracy, cbs=cbs)

class Began(Callback):
    "When the training began"
    def before_fit(self): self.at = perf_counter()

def one(learn, minutes):
    "Of a training that was given so many minutes: seconds with the preview and of the preview, seconds that were predicted for the rest, and epochs"
    with learn.no_bar(), learn.no_logging(), learn.added_cbs(Began()):
        start = perf_counter()
        p = learn.fit_minutes(minutes, 3e-3, verbose=False)
        seconds,grows = perf_counter()-start,hasattr(learn, 'progressive_resize')
        predicted = (p if grows else p.at_full_size().lasting(p.n_full)).seconds
        return dict(seconds=seconds, preview=learn.began.at-start, predicted=predicted, epochs=len(learn.recorder.values))

@call_parse
def main(
    minutes:float=.25, # The budget of each training
    out:str='benchmarks/results', # Folder for the results
    device_name:str=None, # What to call the machine (default: its own name)
):
    "Train ten small set-ups for so many minutes each, and count those that took about that"
    with bench.in_one_line('budget'):
        bench.check_numbers(dict(minutes=minutes))
        bench.out_folder(out)
    torch.set_num_threads(1)
    path,device,rows = demo_data(n_train=32, n_valid=8),device_name or bench.device_name(),[]
    get_learner(path, *setups['small']).preview_resize(1, n_batch=1, show_plot=False)   # what is slow the first time
    for name,setup in setups.items():
        r = one(get_learner(path, *setup), minutes)
        off = r['seconds']/(60*minutes)-1
        rows.append(dict(setup=name, **r, off=off, within=abs(off)<=.1))
        print(f'{name:<22}{r["seconds"]:6.1f} s of {60*minutes:.1f}, {r["epochs"]} epochs, {off:+.0%}', flush=True)
    n = sum(r['within'] for r in rows)
    files = report(stem(Path(out), f'budget-{device}'), dict(head(device, dict(minutes=minutes)), within=n, of=len(rows), runs=rows), rows)
    print(f'{n} of {len(rows)} within 10 %\nwrote {", ".join(map(str, files))}')
