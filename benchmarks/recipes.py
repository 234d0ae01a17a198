"""The recipes, side by side: `python benchmarks/recipes.py --data path/to/pictures`

What it found on photographs of flowers: `results/recipes-2-cpu-cores-amd-epyc-2026-11-22.json`, told in the chapter on recipes.

Trains one model on the same pictures and from the same seeds by every recipe of the list below: all of them for one seed, then
all for the next, each time in another order, so that what else the machine does meets all alike. The first training of the
process is a short one that does not count.

What is timed is the training and nothing else: nothing is validated in it, first loaders and learner are new for each and made
before; the loaders of later stages are part of it. Accuracy is measured after it, outside of the timing, with validation pictures at full size,
and at `--test-size` of them (a quarter larger), where FixRes is meant to be used. Differences are paired: each seed's
training against that seed's `plain`, at equal epochs; `equal time` is `plain` with as many epochs as come nearest to the
seconds of the recipe that took longest, by the first seed.

Results are written after every seed: `<out>/recipes-<device>-<date>.json` with everything, `.csv` with one line a run.
"""
import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from types import SimpleNamespace

import pandas as pd
import torch
from fastai.vision.all import Callback, L, MixUp, RandomResizedCrop, Resize, rotate_mat, set_seed
from fastcore.script import call_parse
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from record import head, interleaved, report, stem, sync, table
from gpu import NoValid
from compare import cell, get_dls, get_learner, one_line, spread, subset
import fastresize.preview
from fastresize import bench
from fastresize.progressive import ProgressiveResize
from fastresize.recipes import GrowWithSize, Stage
from fastresize.schedule import SizeSchedule

# ---- the recipes

def grown(a, **kwargs): return ProgressiveResize(increase_by=a.increase_by, verbose=False, **kwargs)

def fit(*cbs): return lambda a, learn: learn.fit_one_cycle(a.epochs, a.lr, cbs=[o(a) for o in cbs])

def thirds(a):
    "Sizes of three stages"
    return [round(a.size*k/8)*2 for k in (2,3,4)]

def stages(a, follow):
    "Half of the epochs at half of the size, a quarter at three quarters of it, the rest at full size"
    sizes,n = thirds(a),[a.epochs//2, a.epochs//4]
    n.append(a.epochs-sum(n))
    def bs(s): return max(8, int(a.bs*(a.size/s)**2)//8*8) if follow else a.bs
    res = [Stage(s, bs(s), k) for s,k in zip(sizes, n) if k]
    for s in res: s.lr = a.lr*s.bs/a.bs
    return res

def by_stages(follow):
    def train(a, learn):
        learn.fit_stages(stages(a, follow), lambda size, bs: get_dls(SimpleNamespace(**{**vars(a), 'bs':bs}), size), verbose=False)
    return train

def strength(first): return lambda a: GrowWithSize({(MixUp,'alpha'): (first*.4,.4), (rotate_mat,'max_deg'): (10.+20*first,30.)})

def fixres(a, learn):
    n = max(1, a.epochs//5)
    learn.fit_one_cycle(a.epochs-n, a.lr, cbs=[grown(a)])
    learn.fit_fixres(a.test_size, n, a.lr/4)

def crops(a, learn):
    "Trained on random crops, of a third of a picture or more, where the others see all of its middle"
    for dl in learn.dls.loaders: dl.after_item.fs = L(RandomResizedCrop(a.size, min_scale=.35) if isinstance(f, Resize) else f for f in dl.after_item.fs)
    learn.fit_one_cycle(a.epochs, a.lr, cbs=[grown(a)])
    learn.dls = get_dls(a, a.size)

def crops_fixres(a, learn):
    crops(a, learn)
    learn.fit_fixres(a.test_size, 1, a.lr/4)

def averaged(a, learn):
    mean = AveragedModel(learn.model, multi_avg_fn=get_ema_multi_avg_fn(.99), use_buffers=True)
    class Average(Callback):
        def after_step(self): mean.update_parameters(self.model)
    learn.fit_one_cycle(a.epochs, a.lr, cbs=[grown(a), Average()])
    learn.model = mean.module

@dataclass
class Recipe:
    "A way to train"
    words:str
    train:Callable # Of the arguments and a learner

recipes = {
    'full':         Recipe('full size from the first batch to the last', fit()),
    'plain':        Recipe('`ProgressiveResize()`', fit(grown)),
    'stages':       Recipe('`fit_stages`: half of the epochs at half of the size, a quarter at three quarters, the rest at full size; the same batch size', by_stages(False)),
    'stages bs':    Recipe('the same, with as many pixels a batch as at full size, and learning rates that follow', by_stages(True)),
    'strong':       Recipe('`plain` with MixUp(0.4) and rotation up to 30 degrees', fit(grown, lambda a: MixUp(), strength(1))),
    'growing':      Recipe('the same, growing with the size: mixup from 0, rotation from 10 degrees', fit(grown, lambda a: MixUp(), strength(0))),
    'fixres':       Recipe('`plain`, with the last fifth of the epochs as `fit_fixres` at the test size', fixres),
    'from_compute': Recipe('`SizeSchedule.from_compute`: 20, 40 and 40 % of the compute at a half, three quarters and the whole of the size',
                           fit(lambda a: ProgressiveResize(schedule=SizeSchedule.from_compute(thirds(a), (.2,.4,.4)), verbose=False))),
    'max_bs':       Recipe('`plain` with `max_bs` of four times the batch size', fit(lambda a: grown(a, max_bs=4*a.bs))),
    'averaged':     Recipe('`plain`, and of its weights the moving average (0.99 a step)', averaged),
    'crops':        Recipe('`plain` on random crops of a third of each picture or more', crops),
    'crops fixres': Recipe('the same, and after it an epoch of `fit_fixres` at the test size', crops_fixres),
    'equal time':   Recipe('`plain`, with as many epochs as come nearest to the seconds of the slowest of the others but `full`',
                           lambda a, learn: learn.fit_one_cycle(a.equal_epochs, a.lr, cbs=[grown(a)]))}

# ---- one training

def train(a, name, seed):
    set_seed(seed)
    learn = get_learner(a, get_dls(a, a.size))
    with learn.no_bar(), learn.no_logging():
        learn.add_cb(NoValid())
        sync()
        start = perf_counter()
        recipes[name].train(a, learn)
        sync()
        seconds = perf_counter()-start
        learn.remove_cb(NoValid)
        learn.dls = get_dls(a, a.size)
        def accuracy(size):
            with learn.at_test_size(size): return learn.validate()[1]
        return dict(epochs=a.equal_epochs if name=='equal time' else a.epochs, seconds=seconds, accuracy=accuracy(a.size), accuracy_larger=accuracy(a.test_size))

def try_one(a, name, seed):
    gc.collect()
    if torch.cuda.is_available(): torch.cuda.empty_cache()
    try: r = train(a, name, seed)
    except Exception as e: r = dict(error=one_line(e))
    print(f'{name:<16}', r.get('error') or f'{r["seconds"]:8.1f} s, accuracy {r["accuracy"]:.1%}, at {a.test_size} px {r["accuracy_larger"]:.1%}', flush=True)
    return dict(seed=seed, recipe=name, **r)

def run_seed(a, order, seed, runs):
    "Add the row of every recipe, in this order, to `runs`"
    if not runs: order.sort(key='equal time'.__eq__)   # it needs the first seed's seconds of the others
    for i,name in enumerate(order):
        if name=='equal time' and a.equal_epochs is None:
            seconds = {r['recipe']: r['seconds'] for r in runs if 'seconds' in r}
            most = max(v for k,v in seconds.items() if k!='full')
            a.equal_epochs = max(a.epochs, round(a.epochs*most/seconds['plain']))
        runs.append(dict(order=i+1, **try_one(a, name, seed)))

# ---- what came out

columns = ['seed','order','recipe','epochs','seconds','accuracy','accuracy_larger','error']

means = partial(spread, middle='mean')

def summary(runs, names):
    "Numbers of each recipe over the seeds; whatever compares it with `plain` does so seed by seed"
    df = pd.DataFrame(runs).reindex(columns=columns)
    sec,acc,larger = (df.pivot(index='seed', columns='recipe', values=k).astype(float) for k in ('seconds','accuracy','accuracy_larger'))
    none = pd.Series(float('nan'), index=sec.index)
    def one(m):
        return dict(runs=int(sec[m].notna().sum()), seconds=means(sec[m]), time_to_plain=means(sec[m]/sec.get('plain', none)),
                    accuracy=means(acc[m]), accuracy_to_plain=means(acc[m]-acc.get('plain', none)),
                    accuracy_larger=means(larger[m]), accuracy_larger_to_plain=means(larger[m]-larger.get('plain', none)))
    return {m: one(m) for m in names if m in sec}

def summary_table(summary):
    "One row a recipe: the mean of the seeds, and in brackets the smallest and the largest"
    return table([{'recipe': m, 'seconds': cell(o['seconds'], '{:.1f}'), 'of the time of plain': cell(o['time_to_plain'], '{:.2f}'),
                   'accuracy': cell(o['accuracy'], '{:.1%}'), 'to plain': cell(o['accuracy_to_plain'], '{:+.1%}'),
                   'accuracy, larger': cell(o['accuracy_larger'], '{:.1%}'), 'larger, to plain': cell(o['accuracy_larger_to_plain'], '{:+.1%}')}
                  for m,o in summary.items() if o['runs']])

# ---- the command

def check(a, names):
    "Raise `BenchError` for arguments that cannot work"
    for m in names:
        if m not in recipes: raise bench.BenchError(f'--recipes: expected a list of {", ".join(recipes)}; found {m}')
    if 'equal time' in names and not ('plain' in names and len({*names}-{'full','equal time'})>1):
        raise bench.BenchError('--recipes: expected `plain` and another one beside `equal time`, which goes by their seconds')
    def values(*names): return {k: getattr(a, k) for k in names}
    bench.check_numbers(values('size','epochs','bs','increase_by','lr','seeds'), values('workers','n_train'))
    if a.epochs<4: raise bench.BenchError(f'--epochs {a.epochs}: expected 4 or more, for three stages')
    bench.out_folder(a.out)

def warm_up(a):
    "What is slow the first time"
    learn = get_learner(a, get_dls(a, a.size))
    if not len(learn.dls.train): raise bench.BenchError(f'--bs {a.bs}: expected at most the number of training images, {len(learn.dls.train_ds)}')
    with learn.no_bar(), learn.no_logging(): learn.preview_resize(1, n_batch=1, show_plot=False)

@call_parse
def main(
    data:str='demo', # `demo`, `imagenette`, or a folder with `train` and `val` in it
    arch:str='xresnet18', # Model: one of fastai's or torchvision's, untrained
    size:int=128, # Final height and width in pixels
    epochs:int=8, # Epochs
    bs:int=32, # Images per batch
    increase_by:int=16, # Pixels a growth
    lr:float=3e-3, # Highest learning rate of the one cycle
    seeds:int=3, # How many seeds, from 42 on
    workers:int=None, # Loader processes (default: fastai's choice)
    recipes:str=','.join(recipes), # Which of these, separated by commas
    n_train:int=0, # At most so many training pictures, evenly over the classes; 0 for all
    device_name:str=None, # What to call the machine (default: its own name)
    out:str='benchmarks/results', # Folder for the results
):
    "Train by every recipe, seed by seed, and compare time and accuracy"
    device = device_name or bench.device_name()
    a = SimpleNamespace(**{**locals(), 'out': Path(out), 'cached': False, 'test_size': round(size*1.25), 'equal_epochs': None})
    args = {k: v for k,v in {**vars(a), 'data': Path(data).name}.items() if k not in ('out','device','device_name','cached','equal_epochs')}
    names,runs = [*dict.fromkeys(m.strip() for m in recipes.split(','))],[]
    with bench.in_one_line('recipes'):
        check(a, names)
        with TemporaryDirectory() as tmp:
            path = bench.find_data(data, size)
            a.path = subset(path, n_train, Path(tmp)) if n_train else path
            warm_up(a)
            results = dict(head(device, args), recipes={k: globals()['recipes'][k].words for k in names}, runs=runs)
            file = stem(a.out, f'recipes-{device}')
            for seed,order in interleaved(names, seeds, first=42):
                print(f'\nseed {seed}')
                run_seed(a, order, seed, runs)
                results['summary'] = summary(runs, names)
                files = report(file, results, pd.DataFrame(runs).reindex(columns=columns))
    print(f'\n{summary_table(results["summary"])}\n\n{size} px, {arch}, {seeds} seed{"s"*(seeds!=1)}, {device}\nwrote {", ".join(map(str, files))}')
