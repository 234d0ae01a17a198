"""What `ThroughputMonitor` costs a batch: `python benchmarks/monitor.py`

Calls what the monitor adds to each batch (two marks, the size, the number of images) around a loader that does nothing,
and what it does with the marks at the end of an epoch, shared out over the batches. On a machine with CUDA, there too.
"""
from statistics import median
from time import perf_counter

import torch
from fastresize.all import *
from running import begun

def cost(device, n=2000, rounds=10):
    "Median microseconds a batch: in the loop, and at the end of the epoch"
    learn,timed = begun(ThroughputMonitor(verbose=False), device=device)
    b,us = learn.dls.one_batch(),[]
    for _ in range(rounds):
        start = perf_counter()
        for _ in range(n): timed.make(lambda: b, None)
        made = perf_counter()
        learn.throughput_monitor.to_df()
        us.append(((made-start)/n*1e6, (perf_counter()-made)/n*1e6))
        learn.throughput_monitor._rows.clear()
    return [median(u) for u in zip(*us)]

print(f'torch {torch.__version__}, median of 10 rounds of 2000 batches, microseconds a batch')
print(f'{"device":<10}{"in the loop":>14}{"at its end":>14}')
for device in ['cpu']+['cuda']*torch.cuda.is_available(): print(f'{device:<10}' + ''.join(f'{u:>14.1f}' for u in cost(device)))
