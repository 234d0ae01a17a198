"""What it gives a CPU under Linux to keep the memory of a step: `python benchmarks/memory.py`

glibc gives large blocks back to the system as soon as they are free, and fetches them anew, page by page, in the next step. With
`MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=4294967296` in the environment it keeps them. Here the bare steps of an
xresnet18 (batches of 16, Adam) are timed at four sizes, in processes of their own, one with the setting and one without in each
round, in changing order. Medians of the rounds, and ratios within a round.
"""
import os
from statistics import median
from time import perf_counter

import torch
from fastai.vision.models.xresnet import xresnet18
from fastcore.script import call_parse

from record import checked, head, interleaved, own_process, publish

kept = dict(MALLOC_MMAP_THRESHOLD_='33554432', MALLOC_TRIM_THRESHOLD_='4294967296')
sizes = 32,64,96,128

def steps(n=12, sizes=sizes):
    "Milliseconds of a step at each size, the median of `n` after three that do not count"
    torch.manual_seed(0)
    model,res = xresnet18(n_out=10),{}
    opt = torch.optim.Adam(model.parameters())
    for s in sizes:
        x,y,took = torch.rand(16,3,s,s),torch.randint(10, (16,)),[]
        for _ in range(n+3):
            start = perf_counter()
            opt.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            opt.step()
            took.append(1e3*(perf_counter()-start))
        res[s] = median(took[3:])
    return res

def rows_of(rounds):
    "A row a size, from the milliseconds of every round"
    def mid(f): return median(f(r['given back'], r['kept']) for r in rounds)
    full = max(rounds[0]['kept'])
    return [dict(size=s, given_back_ms=mid(lambda a,b: a[s]), kept_ms=mid(lambda a,b: b[s]), times_as_fast=mid(lambda a,b: a[s]/b[s]),
                 of_full_size_given_back=mid(lambda a,b: a[s]/a[full]), of_full_size_kept=mid(lambda a,b: b[s]/b[full])) for s in rounds[0]['kept']]

@call_parse
def main(
    rounds:int=5, # How often everything is timed
    out:str='benchmarks/results', # Folder for memory-cpu-<date>.json and .csv
):
    "Time steps with and without memory that is kept"
    with checked('memory', out, rounds=rounds):
        for k in kept: os.environ.pop(k, None)   # as `make` may have set them
        ways = {'given back': {}, 'kept': kept}
        took = [{w: own_process(steps, ways[w]) for w in order} for _,order in interleaved(ways, rounds)]
        publish(out, 'memory cpu', dict(head(dict(rounds=rounds)), rounds=took), rows_of(took))
