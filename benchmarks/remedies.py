"""What might win back the points that small pictures cost, one thing at a time, as `compare.py` trains it

Each mode of `--modes batch,filtered,larger,renewed,warm,gentle,mixed` is `batch` but for one thing; `filtered` leaves the aliases out.

Flowers at 96 pixels, 1,470 to train on, four epochs, five paired seeds: from three quarters of the size instead of half, 2.0 ± 1.0
points above `batch`; without aliases 0.2 ± 0.7, with statistics renewed 0.2 ± 0.4, with a warm-up after each growth -0.4 ± 0.7;
`results/2-cpu-cores-amd-epyc-remedies-2026-11-21.json`. With augmentation that grows 1.4 ± 1.6, with a fifth of the batches at another
size -0.1 ± 1.4; `results/2-cpu-cores-amd-epyc-gentle-mixed-2026-11-22.json`. Without aliases at 128 pixels -0.4 ± 1.2;
`results/2-cpu-cores-amd-epyc-aliases-128-px-2026-11-22.json`."""
import random
from itertools import islice

from fastai.callback.schedule import ParamScheduler
from fastai.vision import augment
from fastai.vision.all import Callback
from torch.optim.swa_utils import update_bn

from fastresize.recipes import GrowWithSize
from fastresize.schedule import SizeSchedule

def gentle():
    "Rotation, zoom, warp and lighting of `aug_transforms` at a third of their probability on the smallest pictures"
    owners = augment.rotate_mat,augment.zoom_mat,augment._WarpCoord,augment._BrightnessLogit,augment._ContrastLogit
    return GrowWithSize({(o,'p'): (.25,.75) for o in owners})

class RenewNorm(Callback):
    "When the training is over, the statistics of normalisation are taken anew, from `n` full-size training batches (as MixSize does)"
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

class Mixed(SizeSchedule):
    "A fifth of the batches have another of the schedule's sizes, drawn by the number of the epoch (as timm's scheduled loaders and MixSize do)"
    @classmethod
    def of(cls, schedule): return cls(schedule.sizes, schedule.pcts)

    def sizes_of(self, epoch, n_epoch, n_batch):
        draw = random.Random(epoch)
        return [draw.choice(self.sizes) if draw.random()<.2 else size for size in super().sizes_of(epoch, n_epoch, n_batch)]
