"""Which size, when: the schedules of other projects and papers, as `run.py schedules` trains them

Each is what its source says about sizes alone, as fractions of training: batch size, augmentation and optimizer are those of the
experiment. Sizes that are drawn at random are drawn by the number of the epoch, so that every seed trains on the same."""
import math, random

from fastresize.schedule import SizeSchedule

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
