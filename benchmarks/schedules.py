"""Which size, when, and what else an experiment trains with: schedules and callbacks of other projects and papers, and remedies

A schedule is what its source says about sizes alone, as fractions of training: batch size, augmentation and optimizer are those of
the experiment. Sizes that are drawn at random are drawn by the number of the epoch, so that every seed trains on the same."""
import math, random, sys
from itertools import islice

import fasttransform
import torch.nn.functional as F
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.schedule import ParamScheduler
from fastai.vision import augment
from fastai.vision.all import Callback, defaults
from torch.optim.swa_utils import update_bn

from fastresize.recipes import GrowWithSize
from fastresize.schedule import SizeSchedule

# ---- schedules

def shares_of(full, shares): return [(round(full*o),)*2 for o in shares]

def composer(full):
    "Composer's `ProgressiveResizing` with its defaults"
    return SizeSchedule.from_fractions(.5, delay_fraction=.5, finetune_fraction=.2, final_size=full)

def efficient_train(full):
    "EfficientTrain++ (arXiv 2405.08768): 96, 160 and 224 of 224 px, with 20, 40 and 40 % of the compute"
    return SizeSchedule.from_compute(shares_of(full, (96/224,160/224,1)), (.2,.4,.4))

def at_once(share, pct):
    """One size for a fraction of training, then full size

    Half of it for 0.75 in FastDINOv2 (arXiv 2507.03779), 84 of 224 px for 0.95 of the pictures in CLIPA-v2 (arXiv 2306.15658)."""
    return lambda full: SizeSchedule(shares_of(full, (share,1)), (pct,))

class Drawn(SizeSchedule):
    "The size of every batch is drawn, each with its weight; `pcts` are not used"
    @classmethod
    def of(cls, full, shares=(.5,.625,.75,.875,1)):
        n = len(shares)
        return cls(shares_of(full, shares), [i/n for i in range(1, n)])

    def weights(self, epoch, n_epoch): return [1]*len(self.sizes)

    def sizes_of(self, epoch, n_epoch, n_batch):
        return random.Random(epoch).choices(self.sizes, self.weights(epoch, n_epoch), k=n_batch)

class Decrement(Drawn):
    """Temporally Resolution Decrement (arXiv 2112.00954): half size in 90 % of training, in no order

    It draws whole epochs, of which a short training has too few; drawn here are batches."""
    @classmethod
    def of(cls, full): return super().of(full, (.5,1))
    def weights(self, epoch, n_epoch): return .9,.1

class Window(Drawn):
    """timm's progressive loader (`timm/data/scheduled_sampler.py`)

    A Gaussian window moves over the sizes, epoch by epoch; 10 % of the batches have any of them."""
    spread,mix = .65,.1
    def weights(self, epoch, n_epoch):
        n = len(self.sizes)
        middle = (n-1)*(epoch/(n_epoch-1) if n_epoch>1 else 1)
        w = [math.exp(-.5*((i-middle)/self.spread)**2) for i in range(n)]
        return [(1-self.mix)*o/sum(w) + self.mix/n for o in w]

class Mixed(SizeSchedule):
    "A fifth of the batches have another of the schedule's sizes, drawn by the number of the epoch (as timm's scheduled loaders and MixSize do)"
    @classmethod
    def of(cls, schedule): return cls(schedule.sizes, schedule.pcts)

    def sizes_of(self, epoch, n_epoch, n_batch):
        draw = random.Random(epoch)
        return [draw.choice(self.sizes) if draw.random()<.2 else size for size in super().sizes_of(epoch, n_epoch, n_batch)]

# ---- other implementations

class SecondResize(Callback):
    """Composer's way: the loader makes full-size batches, and every training batch below full size is resized once more

    By nearest neighbor, as in its code. Its sizes would be those of `composer`; here they are those of `schedule`, so that only the
    way of resizing differs."""
    order = MixedPrecision.order+2
    def __init__(self, schedule): self.schedule = schedule
    def before_train(self): self.sizes = self.schedule.sizes_of(self.epoch, self.n_epoch, len(self.dl))
    def before_batch(self):
        if not self.training: return
        size = self.sizes[self.iter]
        if size!=tuple(self.x.shape[-2:]): self.learn.xb = (F.interpolate(self.x, size=size, mode='nearest'),)

def fastxtend(mode, increase_by):
    "The callbacks of fastxtend 0.1.7; what it looks for in fastcore, fastai 2.8 has in `fasttransform`"
    for old in 'dispatch','transform': sys.modules.setdefault(f'fastcore.{old}', fasttransform)
    from fastxtend.callback.progresize import ProgressiveResize
    from fastxtend.callback.utils import LogDispatch
    if LogDispatch in defaults.callbacks: defaults.callbacks.remove(LogDispatch)   # its import gives this to every learner
    return [LogDispatch(), ProgressiveResize(initial_size=.5, start=.5, finish=.75, increase_by=increase_by, increase_mode=mode, verbose=False)]

# ---- what might win back the points that small pictures cost

def gentle():
    "Rotation, zoom, warp and lighting of `aug_transforms` at a third of their probability on the smallest pictures"
    owners = augment.rotate_mat,augment.zoom_mat,augment._WarpCoord,augment._BrightnessLogit,augment._ContrastLogit
    return GrowWithSize({(o,'p'): (.25,.75) for o in owners})

class RenewNorm(Callback):
    "When the training is over, the statistics of normalization are taken anew, from `n` full-size training batches (as MixSize does)"
    def __init__(self, n=20): self.n = n
    def after_fit(self): update_bn(islice(self.dls.train, self.n), self.model, self.dls.device)

class WarmAfterGrowth(Callback):
    "The learning rate begins anew from next to nothing after each growth, and is the scheduler's again after `n` batches"
    order = ParamScheduler.order+1
    def __init__(self, n=10): self.n = n
    def before_fit(self): self.size,self.since = None,self.n
    def before_batch(self):
        if not self.training: return
        size = self.x.shape[-1]
        if self.size not in (None,size): self.since = 0
        self.size,self.since = size,self.since+1
        if self.since<self.n:
            for h in self.opt.hypers: h['lr'] *= self.since/self.n
