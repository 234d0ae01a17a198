"""The other implementations of progressive resizing that `compare.py` measures

On 2 CPU cores (AMD EPYC), 1,470 flowers at 96 pixels, three seeds: ours took 1.03 of fastxtend's time in Batch mode (0.96 to
1.10) and 0.98 in Epoch mode (0.85 to 1.15), which this machine cannot tell from 1; Batch mode was 1.35 times as fast as full
size (1.33 to 1.62), Composer's way 1.16 times (1.08 to 1.43). `results/2-cpu-cores-amd-epyc-2026-11-20.json`
"""
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
    def before_train(self): self.sizes = self.schedule.sizes_of(self.epoch, self.n_epoch, len(self.dl))
    def before_batch(self):
        if not self.training: return
        size = self.sizes[self.iter]
        if size!=tuple(self.x.shape[-2:]): self.learn.xb = (F.interpolate(self.x, size=size, mode='nearest'),)

def load_fastxtend(
    folder:Path, # Folder that has the package in it, or gets it from the package index
): # A function from 'batch' or 'epoch' and `increase_by` to its callbacks, and its version
    "fastxtend 0.1.7, for this process only. Raises `ImportError` where it can be neither found nor installed"
    if not (folder/'fastxtend').is_dir():
        cmd = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', folder, 'fastxtend==0.1.7']
        pip = subprocess.run(cmd, capture_output=True, text=True)
        why = [o for o in pip.stderr.splitlines() if o.startswith('ERROR')] or pip.stderr.splitlines()
        if pip.returncode: raise ImportError(f'pip could not install fastxtend==0.1.7 ({why[-1]})')
    sys.path.append(str(folder))
    # fastai 2.8 has in `fasttransform` what fastxtend looks for there
    for old in 'dispatch','transform': sys.modules.setdefault(f'fastcore.{old}', fasttransform)
    import fastxtend
    from fastxtend.callback.progresize import ProgressiveResize
    from fastxtend.callback.utils import LogDispatch
    defaults.callbacks.remove(LogDispatch)  # its import gives this to every learner; the other modes do without
    def cbs(mode, increase_by):
        args = dict(initial_size=0.5, start=0.5, finish=0.75, increase_by=increase_by, increase_mode=mode)
        return [LogDispatch(), ProgressiveResize(**args, verbose=False)]
    return cbs,fastxtend.__version__
