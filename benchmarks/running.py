"A tiny training that has just begun, for the scripts that time what a callback adds to its batches"
from fastai.vision.all import *

class _Keep(Callback):
    "Keep the wrapped loader of a training that begins, and end it"
    order = 90
    def before_batch(self):
        self.kept = self.learn.dl
        raise CancelFitException

def begun(cb, n_epoch=1, device='cpu', **kwargs):
    "A learner with `cb`, whose fit has ended in its first batch, and the loader of that fit; `kwargs` go to the `DataBlock`"
    block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: np.zeros((64,64,3), dtype=np.uint8), get_y=lambda i: i%2, splitter=IndexSplitter([0,1]), **kwargs)
    dls,keep = block.dataloaders(range(16), bs=2, num_workers=0, device=device),_Keep()
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3,2)), cbs=[cb,keep])
    with learn.no_bar(): learn.fit(n_epoch)
    return learn,keep.kept
