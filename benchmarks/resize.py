"""What resizing a batch costs: `python benchmarks/resize.py`

64 images of 3×224×224 float32, to 112×112 on the CPU. Every round times everything once, each round in
another order, so that what else the machine does meets all alike; the table has the medians over the rounds.
"""
import platform, random
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from fastresize.resize import resize_batch

n_round,n_warm = 40,3
x,size = torch.rand(64,3,224,224),(112,112)

def by_fft(x, size):
    "The low frequencies of images, by Fourier transform"
    (H,W),(h,w) = x.shape[-2:],size
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2,-1))
    low = spectrum[..., H//2-h//2:, W//2-w//2:][..., :h,:w]
    return torch.fft.ifft2(torch.fft.ifftshift(low, dim=(-2,-1))).real * (h*w)/(H*W)

def resized(method, **kwargs): return lambda: resize_batch(x, size=size, method=method, **kwargs)[0]

# what, the function, and what it is compared with
rows = [
    ('F.interpolate, antialiased',     lambda: F.interpolate(x, size=size, mode='bilinear', antialias=True), None),
    ('resize_batch interpolate',       resized('interpolate'), 'F.interpolate, antialiased'),
    ('F.interpolate, not antialiased', lambda: F.interpolate(x, size=size, mode='bilinear'), None),
    ('resize_batch interpolate, not antialiased', resized('interpolate', antialias=False), 'F.interpolate, not antialiased'),
    ('low frequencies by FFT',         lambda: by_fft(x, size), None),
    ('resize_batch lowpass',           resized('lowpass'), 'low frequencies by FFT'),
    ('resize_batch crop',              resized('crop'), None),
]

def main():
    ms = {what: [] for what,_,_ in rows}
    for i in range(n_warm + n_round):
        for what,f,_ in random.sample(rows, len(rows)):
            start = perf_counter()
            f()
            if i>=n_warm: ms[what].append((perf_counter()-start)*1e3)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {platform.machine()}; '
          f'{tuple(x.shape)} {x.dtype} to {size}, median of {n_round}\n')
    print(f'{"what":<43}{"ms":>8}{"ratio":>8}')
    for what,_,base in rows:
        ratio = f'{median(ms[what])/median(ms[base]):8.3f}  of {base}' if base else ''
        print(f'{what:<43}{median(ms[what]):8.2f}{ratio}')

if __name__=='__main__': main()
