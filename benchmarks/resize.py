"""What resizing a batch costs: `python benchmarks/resize.py`

On 2 CPU cores (AMD EPYC), PyTorch 2.15.0: `interpolate` takes 12 ms, 0.95 of bare `F.interpolate`; `lowpass` 28 ms, 0.18 of the
same by FFT; `crop` 1 ms. `results/resize-cpu-2026-11-21.json`

64 images of 3×224×224 float32, to 112×112 on the CPU; medians over the rounds.
"""
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from fastcore.script import call_parse

from record import checked, head, interleaved, publish
from fastresize.resize import resize_batch

n_warm = 3
x,size = torch.rand(64,3,224,224),(112,112)

def by_fft(x, size):
    "The low frequencies of images, by Fourier transform"
    (H,W),(h,w) = x.shape[-2:],size
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2,-1))
    low = spectrum[..., H//2-h//2:, W//2-w//2:][..., :h,:w]
    return torch.fft.ifft2(torch.fft.ifftshift(low, dim=(-2,-1))).real * (h*w)/(H*W)

def bare(antialias): return lambda: F.interpolate(x, size=size, mode='bilinear', antialias=antialias)
def ours(method, **kwargs): return lambda: resize_batch(x, size=size, method=method, **kwargs)

# what, the function, and what it is compared with
ways = [('F.interpolate, antialiased', bare(True), None),
        ('resize_batch interpolate', ours('interpolate'), 'F.interpolate, antialiased'),
        ('F.interpolate, not antialiased', bare(False), None),
        ('resize_batch interpolate, not antialiased', ours('interpolate', antialias=False), 'F.interpolate, not antialiased'),
        ('low frequencies by FFT', lambda: by_fft(x, size), None),
        ('resize_batch lowpass', ours('lowpass'), 'low frequencies by FFT'),
        ('resize_batch crop', ours('crop'), None)]

def measure(rounds):
    "Median milliseconds of every way, and their ratio to what it is compared with"
    ms = {what: [] for what,_,_ in ways}
    for r,order in interleaved(ways, n_warm+rounds):
        for what,f,_ in order:
            start = perf_counter()
            f()
            if r>=n_warm: ms[what].append((perf_counter()-start)*1e3)
    mid = {what: median(v) for what,v in ms.items()}
    return [dict(what=what, ms=mid[what], ratio=mid[what]/mid[base] if base else None, base=base) for what,_,base in ways]

@call_parse
def main(
    rounds:int=40, # How often everything is timed
    out:str='benchmarks/results', # Folder for resize-cpu-<date>.json and .csv
):
    "Measure what resizing a batch costs"
    with checked('resize', out, rounds=rounds): publish(out, 'resize cpu', head(dict(rounds=rounds)), measure(rounds))
