"""How good small pictures are: `python benchmarks/pixels.py <folder of photographs>`

Every photograph is cropped to a square and made `size` pixels small in several ways, with and without a rotation and a zoom as
`aug_transforms` makes them. Each way is compared with the ideal: the same region of the original by the Lanczos filter; with the
augmentation, the original warped at twice the full size and then reduced so. PSNR in dB, of bytes, higher is nearer;
*sharpness* is the mean slope between neighbors as a share of the ideal's, and above 1 where there are aliases.

- `full size`: training at full size, against the ideal at full size: what a user has without progressive resizing.
- `steered`: the batch transform makes the size, from items of full size (the default).
- `filtered, steered`: the batch is reduced with a filter, and then sampled at that size.
- `extra resize`, `lowpass`: the finished batch is resized once, by interpolation or by its low frequencies.
- `items`: the items are made at the size by the loader (`resize_items=True`), with Pillow's bilinear or bicubic filter, at the size of
  the batch or at 1.25 times it.
"""
import math, random
from statistics import mean

import numpy as np
from fastai.vision.all import *
from fastcore.script import call_parse

from record import checked, head, publish
from fastresize.backends import SizeRatio, items_at
from fastresize.bench import BenchError
from fastresize.items import View, _ImageFile
from fastresize.resize import interpolate, lowpass

def square(view):
    "The middle of a picture, as `Resize` takes it"
    w,h = view.size
    s = min(w, h)
    l,t = (w-s)//2,(h-s)//2
    return view.part((l,t,l+s,t+s), (s,s))

def original(f):
    "The square of a photograph, in its own pixels"
    im = PILImage.create(f)
    return square(View.of(_ImageFile(f, 'RGB'))).pixels((min(im.size),)*2)

def lanczos(im, s): return tensor(im.resize((s,s), Image.LANCZOS)).permute(2,0,1).float()[None]
def reduced(x, s):
    im = Image.fromarray(x[0].clamp(0,255).round().permute(1,2,0).byte().numpy())
    return lanczos(im, s)

def item(f, s, full):
    "What `Resize(full)` gives, made at `s`"
    pipe = Pipeline([PILImage.create, Resize(full), ToTensor()], split_idx=1)
    with items_at(SizeRatio((s,s), (full,full))): return pipe(f)[None].float().as_subclass(Tensor)

def item_by(f, s, resample):
    "The same with another filter than the package's own"
    view = square(View.of(_ImageFile(f, 'RGB')))
    w = view.source.size[0]*s/view.size[0]
    im,scale = view.source.decoded(w, view.source.size[1]*s/view.size[1])
    return tensor(im.resize((s,s), resample, box=tuple(o/scale for o in view.box))).permute(2,0,1).float()[None]

def warped(x, s, mat, mode='bilinear'):
    "What an `AffineCoordTfm` of size `s` makes"
    return TensorImage(x).affine_coord(mat=mat, sz=(s,s), mode=mode).as_subclass(Tensor)

def a_warp(rng):
    "A rotation by up to 10 degrees and a zoom by up to 1.1"
    a,z = math.radians(rng.uniform(-10,10)),1/rng.uniform(1,1.1)
    return tensor([[z*math.cos(a),-z*math.sin(a),0],[z*math.sin(a),z*math.cos(a),0]])[None]

def ways(f, s, full, mat):
    "The ideal, and what every way makes of file `f`"
    big,x = original(f),item(f, full, full)
    def at(y, size=s): return y if mat is None and y.shape[-1]==size else warped(y, size, mat)
    def ideal(size): return lanczos(big, size) if mat is None else reduced(warped(lanczos(big, 2*full), 2*full, mat, 'bicubic'), size)
    yield 'full size',ideal(full),at(x, full)
    best = ideal(s)
    yield 'steered',best,at(x)
    yield 'filtered, steered',best,at(interpolate(x, (s,s)))
    yield 'extra resize',best,interpolate(at(x, full), (s,s))
    yield 'lowpass',best,lowpass(at(x, full), (s,s))
    yield 'items',best,at(item(f, s, full))
    yield 'items, bilinear',best,at(item_by(f, s, Image.BILINEAR))
    yield 'items, lanczos',best,at(item_by(f, s, Image.LANCZOS))
    if mat is not None: yield 'items, 1.25 times',best,at(item_by(f, round(1.25*s), Image.BICUBIC))

def psnr(a, b): return float(10*torch.log10(255**2/(a-b).pow(2).mean().clamp(min=1e-3)))
def slope(a): return float(a.diff(dim=-1).abs().mean() + a.diff(dim=-2).abs().mean())

def measure(files, sizes, full):
    "A row for each size, with and without augmentation, and each way: means over the photographs"
    found = {}
    for i,f in enumerate(files):
        for s in sizes:
            for augmented in (False,True):
                mat = a_warp(random.Random(i)) if augmented else None
                for way,best,x in ways(f, s, full, mat): found.setdefault((s,augmented,way), []).append((psnr(x, best), slope(x)/slope(best)))
    return [dict(size=s, augmented=a, way=w, psnr=mean(p for p,_ in v), psnr_se=float(np.std([p for p,_ in v])/len(v)**.5),
                 sharpness=mean(q for _,q in v), n=len(v)) for (s,a,w),v in found.items()]

@call_parse
def main(
    data:str, # Folder of photographs, at any depth
    sizes:str='112', # Pixels, separated by commas
    full:int=224, # Pixels at full size
    n:int=500, # Photographs, at most
    out:str='benchmarks/results', # Folder for pixels-<full>-px-<date>.json and .csv
):
    "Measure how far small pictures are from ideal ones"
    small = [int(s) for s in sizes.split(',')]
    with checked('pixels', out, full=full, n=n, sizes=min(small)):
        files = [f for f in sorted(get_image_files(data)) if min(Image.open(f).size)>=full and Image.open(f).mode=='RGB'][:n]
        if not files: raise BenchError(f'{data}: expected a folder with photographs of {full} pixels or more in it')
        publish(out, f'pixels {full} px', head(dict(sizes=small, full=full, n=len(files))), measure(files, small, full))
