"""What `ProgressiveResize('auto')` costs, and what it chooses: `python benchmarks/auto.py --data <folder>`

An xresnet18 is about to train on photographs of the folder (`train` and `val` in it) for 8 epochs, at several sizes and with several
numbers of loader workers. Timed is the choice, and full-size steps of the same training before it: what a step of the model takes whose
batch lies ready. The share is that of a training of 1,000 such steps; the goal is 3 % or less. Medians of the rounds, interleaved.
"""
import warnings
from statistics import median
from time import perf_counter

from fastcore.script import call_parse

from experiments import classify
from fastresize.auto import choose
from fastresize.bench import find_data
from fastresize.progressive import ProgressiveResize
from record import checked, head, interleaved, publish

def learner(path, size, workers, bs, n):
    a = dict(arch='xresnet18', data=path, size=size, bs=bs, workers=workers, n_train=n, n_valid=n//4)
    return classify(a, cbs=ProgressiveResize('auto'))

def seconds_a_step(learn, n=3):
    "Seconds of a step on a batch that lies ready, the median of `n` after one that does not count"
    xb,yb = learn.dls.one_batch()
    learn.model.to(learn.dls.device)
    learn.create_opt()
    def step():
        start = perf_counter()
        learn.loss_func(learn.model(xb), yb).backward()
        learn.opt.step()
        learn.opt.zero_grad()
        return perf_counter()-start
    return median([step() for _ in range(n+1)][1:])

def measured(path, size, workers, bs, n):
    learn = learner(path, size, workers, bs, n)
    step = seconds_a_step(learn)
    start = perf_counter()
    found = choose(learn, learn.progressive_resize, 8)
    took = perf_counter()-start
    return dict(step=step, took=took, steps=took/step, share=took/step/1000, chosen=found.call or 'full size', why='; '.join(found.reasons))

@call_parse
def main(
    data:str='imagenette', # Folder with the pictures, in `train` and `val`, or `imagenette`, which is downloaded
    sizes:str='64,96,128', # Sizes in pixels
    workers:str='0,2', # Numbers of loader workers
    bs:int=32, # Images per batch
    n:int=640, # Images to train on
    rounds:int=3, # How often everything is timed
    out:str='benchmarks/results', # Folder for auto-<device>-<date>.json and .csv
):
    "Time the choice of `ProgressiveResize('auto')`"
    with checked('auto', out, rounds=rounds), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = find_data(data)
        ways = {(int(s),int(w)): None for s in sizes.split(',') for w in workers.split(',')}
        took = [{f'{s} px, {w} workers': measured(path, s, w, bs, n) for s,w in order} for _,order in interleaved(ways, rounds)]
        rows = [dict(training=k, **{v: median(r[k][v] for r in took) for v in ('step','took','steps','share')},
                     chosen=' or '.join(dict.fromkeys(r[k]['chosen'] for r in took))) for k in (f'{s} px, {w} workers' for s,w in ways)]
        publish(out, 'auto cpu', dict(head(dict(sizes=sizes, workers=workers, bs=bs, n=n, rounds=rounds)), rounds=took), rows)
