"The other implementations of progressive resizing that `compare.py` measures"
import subprocess, sys
from pathlib import Path

import fasttransform
import torch.nn.functional as F
from fastai.callback.fp16 import MixedPrecision
from fastai.vision.all import Callback, defaults

class SecondResize(Callback):
    """Composer's way: the loader makes full-size batches, and every training batch below full size is resized once more

    By nearest neighbour, as in its code; what is not trained on is not resized. Its sizes would be those of
    `SizeSchedule.from_fractions`; here they are those of `schedule`, so that only the way of resizing differs."""
    order = MixedPrecision.order+2
    def __init__(self, schedule): self.schedule = schedule
    def before_batch(self):
        size = self.schedule.size_at(self.pct_train)
        if self.training and size!=tuple(self.x.shape[-2:]): self.learn.xb = (F.interpolate(self.x, size=size, mode='nearest'),)

def load_fastxtend(
    folder:Path, # Folder that has the package in it, or gets it from the package index
): # A function from 'batch' or 'epoch' and `increase_by` to its callbacks, and its version
    "fastxtend 0.1.7, for this process only. Raises `ImportError` where it can be neither found nor installed"
    if not (folder/'fastxtend').is_dir():
        pip = subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', folder, 'fastxtend==0.1.7'], capture_output=True, text=True)
        why = [o for o in pip.stderr.splitlines() if o.startswith('ERROR')] or pip.stderr.splitlines()
        if pip.returncode: raise ImportError(f'pip could not install fastxtend==0.1.7 ({why[-1]})')
    sys.path.append(str(folder))
    for old in 'dispatch','transform': sys.modules.setdefault(f'fastcore.{old}', fasttransform)  # where fastai 2.8 has what fastxtend looks for there
    import fastxtend
    from fastxtend.callback.progresize import ProgressiveResize
    from fastxtend.callback.utils import LogDispatch
    defaults.callbacks.remove(LogDispatch)  # its import gives this to every learner; the other modes do without
    def cbs(mode, increase_by):
        return [LogDispatch(), ProgressiveResize(initial_size=0.5, start=0.5, finish=0.75, increase_by=increase_by, increase_mode=mode, verbose=False)]
    return cbs,fastxtend.__version__
