"Lightning's trainer: the size of every batch in real fits, resumed, interrupted, of every length, and in two processes"
import csv, json, logging, os, subprocess, sys, warnings
import torch.nn.functional as F, torch.utils.data as tud
import torchvision.transforms as v1
from util import *
L = pytest.importorskip('lightning.pytorch')
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader
from fastresize.batch import leaves
from fastresize.lightning import ProgressiveResizeCallback
from fastresize.preflight import SizeError

for name in ('lightning.pytorch','lightning.fabric'): logging.getLogger(name).setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:lightning', 'ignore:.*log_every_n_steps', 'ignore:.*num_workers', 'ignore:.*litlogger')

class Drawn(tud.Dataset):
    def __init__(self, n=80): self.n,self.transform = n,v1.Compose([v1.RandomResizedCrop(64), v1.ToTensor()])
    def __len__(self): return self.n
    def __getitem__(self, i):
        x = self.transform(picture(i, (100,80)))
        return x,i%2,torch.tensor([*x.shape[-2:]])

def loaders(workers=0, shuffle=True, **kwargs):
    load = partial(tud.DataLoader, batch_size=10, num_workers=workers, persistent_workers=workers>0, **kwargs)
    return load(Drawn(), shuffle=shuffle),load(Drawn(20))

def tensors(n=80, size=(64,64)): return tud.DataLoader(tud.TensorDataset(torch.rand(n,3,*size), torch.arange(n)%2), batch_size=10)

class Module(L.LightningModule):
    def __init__(self): super().__init__(); self.model,self.train_sizes,self.made,self.valid_sizes,self.other = small_model(),[],[],[],[]
    def forward(self, x): return self.model(x)
    def training_step(self, batch, i):
        x,y,*made = batch
        self.train_sizes.append(tuple(x.shape[-2:]))
        self.made += [tuple(m[0].tolist()) for m in made]
        loss = F.cross_entropy(self(x), y)
        self.log('loss', loss)
        return loss
    def validation_step(self, batch, i):
        (self.valid_sizes if self.trainer.state.fn=='fit' and not self.trainer.sanity_checking else self.other).append(tuple(batch[0].shape[-2:]))
        self.log('valid_loss', F.cross_entropy(self(batch[0]), batch[1]))
    def test_step(self, batch, i): self.other.append(tuple(batch[0].shape[-2:]))
    def predict_step(self, batch, i): self.other.append(tuple(batch[0].shape[-2:]))
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), .01)

quiet = dict(accelerator='cpu', enable_progress_bar=False, enable_model_summary=False)

def resize(**kwargs): return ProgressiveResizeCallback(**{**({} if kwargs.get('schedule') else {'increase_by':8}), 'verbose':False, **kwargs})
def trainer(*cbs, **kwargs):
    kwargs = dict(logger=False, enable_checkpointing=False, **quiet, **kwargs)
    if 'max_epochs' not in kwargs and 'max_steps' not in kwargs: kwargs['max_epochs'] = 4
    return L.Trainer(callbacks=[*cbs], **kwargs)

def fitted(cb=None, data=None, module=None, **kwargs):
    module,cb = module or Module(),cb or resize()
    t = trainer(cb, **kwargs)
    t.fit(module, *(data or (tensors(),tensors(20))))
    return module,t,cb

def untouched(t, cb, *loaders):
    assert cb.trainer is None and not {'batch_to_device','process_dataloader'} & {*t.strategy.__dict__}
    for dl in loaders: assert type(dl.batch_sampler) is tud.BatchSampler and next(iter(dl))[0].shape[-2:]==(64,64)

# ---- the sizes

def by_fastai():
    learn = learner(make_dls(*aug_transforms(), n=100, bs=10), ProgressiveResize(increase_by=8, verbose=False))
    learn.fit(4)
    return learn.seen.train
def by_loop(workers=0):
    loader = sized_loader(loaders(workers)[0], size_schedule(64, 4, increase_by=8), 4, resize_items=True)
    return [tuple(b[0].shape[-2:]) for _ in range(4) for b in loader]
def by_lightning(workers=None, **kwargs): return fitted(resize(**kwargs), workers if workers is None else loaders(workers))[0].train_sizes

@pytest.mark.slow
@pytest.mark.parametrize('run', [by_fastai, by_loop, partial(by_loop, 2), by_lightning, partial(by_lightning, 0, resize_items=True),
                                 partial(by_lightning, 2, resize_items=True), partial(by_lightning, 2)])
def test_the_same_sizes_in_every_loop(run): assert run()==due(32)

@pytest.mark.parametrize('workers', [0,2])
def test_items_come_small_from_the_loader(workers):
    data = loaders(workers)
    module,t,cb = fitted(resize(resize_items=True), data)
    assert module.made==module.train_sizes==due(32)
    assert module.valid_sizes==[s for s in due(32)[7::8] for _ in range(2)]
    untouched(t, cb, *data)
    assert t.train_dataloader is data[0] and t.val_dataloaders is data[1]

def test_random_numbers_are_those_without_the_callback():
    def run(*cbs):
        L.seed_everything(3, verbose=False)
        module = Module()
        module.model[3] = nn.Identity()   # dropout draws a number for every pixel
        trainer(*cbs, max_epochs=2).fit(module, *loaders())
        return torch.get_rng_state(),random.getstate()
    a,b = run(),run(resize(resize_items=True, initial_size=.9))
    assert torch.equal(a[0], b[0]) and a[1]==b[1]

def test_validation_and_all_that_is_no_training():
    module,t,cb = fitted()
    assert module.valid_sizes==[s for s in due(32)[7::8] for _ in range(2)]
    assert module.other==[(64,64)]*2   # the sanity check
    module.other.clear()
    for f in (t.validate, t.test): f(module, tensors(20), verbose=False)
    t.predict(module, tensors(20))
    assert module.other==[(64,64)]*6
    assert fitted(resize(resize_valid=False))[0].valid_sizes==[(64,64)]*8
    assert fitted(resize(resize_valid=False, resize_items=True), loaders())[0].valid_sizes==[(64,64)]*8

def test_validation_in_mid_epoch():
    module,*_ = fitted(val_check_interval=2)
    assert module.valid_sizes==[s for s in due(32)[1::2] for _ in range(2)]

# ---- the length

@pytest.mark.parametrize('n,kwargs', {
    'accumulate':   (32, dict(accumulate_grad_batches=3)),
    'precision':    (32, dict(precision='bf16-mixed')),
    'true':         (32, dict(precision='bf16-true')),
    'limit':        (20, dict(limit_train_batches=5)),
    'share':        (16, dict(limit_train_batches=.5)),
    'overfit':      (8,  dict(overfit_batches=2)),
    'max_steps':    (20, dict(max_steps=20)),
    'few steps':    (5,  dict(max_steps=5)),
    'both':         (20, dict(max_steps=20, max_epochs=9)),
    'steps of 3':   (22, dict(max_steps=8, accumulate_grad_batches=3)),   # 3 in an epoch of 8 batches, and then two of three
}.values(), ids=str)
@pytest.mark.slow
@pytest.mark.parametrize('items', [False,True])
def test_trainings_of_every_length(n, kwargs, items):
    module,*_ = fitted(resize(resize_items=items), loaders() if items else None, **kwargs)
    assert module.train_sizes==due(n)

def test_fast_dev_run():
    module,t,cb = fitted(fast_dev_run=True)
    assert len(module.train_sizes)==1 and module.train_sizes[0]==(32,32)
    untouched(t, cb)

class Stream(tud.IterableDataset):
    def __iter__(self): return ((torch.rand(3,64,64),0) for i in range(80))

def test_epochs_of_unknown_length(capsys):
    data = tud.DataLoader(Stream(), batch_size=10),
    module,*_ = fitted(resize(verbose=True), data, max_steps=32)
    assert module.train_sizes==due(32)
    out = capsys.readouterr().out
    assert 'Starting at step 16 and finishing at step 24' in out and 'from step  size (px)\n        0  32\n       16  40\n' in out
    assert fitted(data=data, limit_train_batches=8)[0].train_sizes==due(32)
    with pytest.raises(ValueError, match='`max_steps`=-1'): fitted(data=data)
    with pytest.raises(ValueError, match='`max_epochs`=-1'): fitted(max_epochs=-1)

def test_the_table_ends_where_the_training_ends(capsys):
    "In the middle of its second epoch, at 48 pixels"
    schedule = SizeSchedule(((32,32),(48,48),(64,64)), (.5,1.))
    fitted(resize(schedule=schedule, verbose=True), max_steps=12, max_epochs=4)
    assert capsys.readouterr().out.split('size (px)\n')[1].splitlines()[1].split()==['1','48']

def test_epoch_mode_and_epochs_as_numbers():
    module,*_ = fitted(resize(increase_mode='epoch', increase_by=16, start=1, finish=3))
    assert module.train_sizes==[(s,s) for s in (32,32,48,64) for _ in range(8)]
    assert fitted(resize(start=1, finish=3), max_steps=32)[0].train_sizes==due(32, start=.25, finish=.75)
    assert fitted(resize(start=1, finish=3), max_steps=30)[0].train_sizes==due(32, start=.25, finish=.75)[:30]
    assert fitted(resize(start=1, finish=.75), max_steps=17)[0].train_sizes==due(17, start=8/17, finish=.75)   # 2.125 epochs
    assert fitted(resize(increase_mode='epoch'), max_steps=17)[0].train_sizes==[(32,32)]*8+[(64,64)]*9

class Manual(Module):
    def __init__(self): super().__init__(); self.automatic_optimization = False
    def training_step(self, batch, i):
        loss = super().training_step(batch, i)
        for opt in self.optimizers():
            opt.zero_grad()
        self.manual_backward(loss)
        for opt in self.optimizers(): opt.step()
    def configure_optimizers(self): return [torch.optim.SGD(self.model[:1].parameters(), .01),torch.optim.SGD(self.model[1:].parameters(), .01)]

def test_a_module_that_steps_its_optimizers_itself():
    assert fitted(module=Manual())[0].train_sizes==due(32)
    assert fitted(module=Manual(), max_steps=64)[0].train_sizes==due(32)   # two steps a batch

# ---- going on

class Stop(L.Callback):
    def __init__(self, at): self.at = at
    def on_train_batch_end(self, trainer, module, *_):
        if len(module.train_sizes)==self.at: raise KeyboardInterrupt

epochs,steps = dict(max_epochs=4),dict(max_steps=32)
@pytest.mark.slow
@pytest.mark.parametrize('length,every,stop', [(epochs,1,13), (epochs,3,14), (epochs,4,16), (epochs,8,17), (steps,1,18), (steps,8,17),
    (dict(max_steps=20),1,13), (dict(max_steps=20),4,16), (dict(accumulate_grad_batches=2, **epochs),1,19)], ids=str)
@pytest.mark.parametrize('items', [False,True])
def test_resumes_from_a_checkpoint_at_the_size_of_its_batch(tmp_path, length, every, stop, items):
    "The batches that were trained up to the checkpoint, and those after it, are those of an uninterrupted training"
    data = lambda: loaders() if items else None
    whole = fitted(resize(resize_items=items), data(), **length)[0].train_sizes
    save = ModelCheckpoint(tmp_path, every_n_train_steps=every, save_top_k=-1, filename='{step}')
    first = Module()
    kwargs = dict(logger=False, **quiet, **length)
    with pytest.raises(SystemExit): L.Trainer(callbacks=[resize(resize_items=items),save,Stop(stop)], **kwargs).fit(first, *(data() or (tensors(),tensors(20))))
    last = max(tmp_path.glob('*.ckpt'), key=lambda f: int(f.stem.split('=')[1]))
    done = int(last.stem.split('=')[1])*length.get('accumulate_grad_batches', 1)
    assert 0<stop-done<=2*every
    then = Module()
    L.Trainer(callbacks=[resize(resize_items=items),save], **kwargs).fit(then, *(data() or (tensors(),tensors(20))), ckpt_path=last)
    assert first.train_sizes==whole[:stop] and then.train_sizes==whole[done:]
    assert then.made==then.train_sizes*items   # with items made small, by the loader

class Plans(Module):
    def configure_optimizers(self):
        opt = torch.optim.SGD(self.parameters(), .01)
        return [opt],[dict(scheduler=torch.optim.lr_scheduler.OneCycleLR(opt, .1, total_steps=self.trainer.estimated_stepping_batches), interval='step')]

def test_a_loader_that_was_begun_before_the_checkpoint_was_read(tmp_path):
    "`estimated_stepping_batches` begins the loader"
    save = ModelCheckpoint(tmp_path, every_n_epochs=3, save_top_k=-1)
    kwargs = dict(logger=False, max_epochs=4, **quiet)
    data = loaders(2)
    first,then = Plans(),Plans()
    L.Trainer(callbacks=[resize(resize_items=True),save], **kwargs).fit(first, *data)
    assert first.made==due(32) and first.other==[(64,64)]*2   # the sanity check has full size
    t = L.Trainer(callbacks=[resize(resize_items=True)], **kwargs)
    t.fit(then, *data, ckpt_path=next(tmp_path.glob('*.ckpt')))
    assert then.made==then.train_sizes==due(32)[24:]

def test_fit_again():
    module,t,cb = fitted(max_epochs=2)
    t.fit_loop.max_epochs = 4
    t.fit(module, tensors(), tensors(20))
    assert module.train_sizes==due(16)+[(64,64)]*16   # it had come to full size, and does not shrink
    other = Module()
    trainer(cb, max_epochs=2).fit(other, tensors(80, (48,48)))   # the same callback in another trainer
    assert other.train_sizes[0]==(24,24) and other.train_sizes[-1]==(48,48)
    untouched(t, cb)

class Breaks(L.Callback):
    def __init__(self, exc, hook): self.exc = exc; setattr(self, hook, self.go)
    def go(self, trainer, module, *_):
        if trainer.state.fn=='fit' and len(module.train_sizes)>10: raise self.exc

@pytest.mark.slow
@pytest.mark.parametrize('exc', [KeyboardInterrupt(), Boom('b'), torch.OutOfMemoryError('CUDA out of memory.')], ids=repr)
@pytest.mark.parametrize('hook', ['on_train_batch_start','on_validation_batch_end','on_train_epoch_start'])
def test_leaves_no_trace_however_it_ends(exc, hook):
    data,cb,module = loaders(2*(hook=='on_train_batch_start')),resize(resize_items=True),Module()
    t = trainer(cb, Breaks(exc, hook))
    with pytest.raises(SystemExit if isinstance(exc, KeyboardInterrupt) else type(exc)): t.fit(module, *data)
    untouched(t, cb, *data)
    module.other.clear()
    t.validate(module, data[1], verbose=False)
    assert module.other==[(64,64)]*2

def test_a_tuner_goes_without():
    from lightning.pytorch.tuner import Tuner
    module,cb = Module(),resize()
    module.lr = .01
    t = trainer(cb)
    Tuner(t).lr_find(module, tensors(), num_training=6)
    assert module.train_sizes and {*module.train_sizes}=={(64,64)}
    untouched(t, cb)

# ---- what is seen of it

def logged(path):
    "What `CSVLogger` has of the sizes, step by step"
    with open(next(path.rglob('metrics.csv'))) as f: rows = [*csv.DictReader(f)]
    rows = [{k: float(v) for k,v in r.items() if v and k.startswith(('progressive','step'))} for r in rows]
    return sorted((r for r in rows if len(r)>1), key=lambda r: r['step'])

def test_the_size_in_the_logger_and_in_the_bar(tmp_path, capsys):
    bar = []
    class Bar(L.Callback):
        def on_train_batch_end(self, trainer, *_): bar.append(trainer.progress_bar_metrics['size'])
    module = Module()
    t = L.Trainer(callbacks=[resize(verbose=True),Bar()], logger=CSVLogger(tmp_path), log_every_n_steps=1, max_epochs=4,
                  enable_checkpointing=False, **quiet)
    t.fit(module, tensors())
    assert [r['progressive_resize_size'] for r in logged(tmp_path)]==bar==[s[0] for s in module.train_sizes]
    out = capsys.readouterr().out
    assert out.count('Progressively increase')==1 and '  0–1  32\n    2  40 to 56\n    3  64\n' in out

def test_targets_that_the_loss_takes_only_as_they_are_stay_so_in_validation():
    class Upscales(Module):
        def __init__(self): super().__init__(); self.model,self.masks = nn.Conv2d(3,1,1),[]
        def loss(self, batch): return F.mse_loss(F.interpolate(self.model(batch[0]), (64,64)), batch[1])
        def training_step(self, batch, i): return self.loss(batch)
        def validation_step(self, batch, i): self.masks.append((self.loss(batch),tuple(batch[0].shape[-2:]),tuple(batch[1].shape[-2:]))[1:])
    data = tud.DataLoader(tud.TensorDataset(torch.rand(20,3,64,64), torch.rand(20,1,64,64)), batch_size=10)
    module,*_ = fitted(data=(data,data), module=Upscales())
    assert module.masks[2:]==[(s,(64,64)) for s in due(8)[1::2] for _ in range(2)]

def test_sizes_that_are_not_square(tmp_path):
    t = L.Trainer(callbacks=[resize()], logger=CSVLogger(tmp_path), log_every_n_steps=1, max_epochs=4,
                  enable_checkpointing=False, **quiet)
    module = Module()
    t.fit(module, tensors(size=(48,64)))
    rows = [(r['progressive_resize_height'],r['progressive_resize_width']) for r in logged(tmp_path)]
    assert rows==module.train_sizes and rows[0]==(24,32) and rows[-1]==(48,64)

def test_a_training_that_is_cut_short_says_so():
    class Early(L.Callback):
        def on_train_epoch_end(self, trainer, *_): trainer.should_stop = True
    with pytest.warns(UserWarning, match='ended with images of .32, 32., before it reached .64, 64.'): trainer(resize(), Early()).fit(Module(), tensors())
    with pytest.warns(UserWarning, match='never reaches .64, 64.'): fitted(resize(finish=1., start=.9999), max_epochs=1)

def test_what_a_training_has_reached_is_what_it_was_trained_with():
    "Stopped behind a batch whose successor would have been larger"
    class Early(L.Callback):
        def on_train_batch_end(self, trainer, module, *_): trainer.should_stop = module.train_sizes[-1]==(56,56)
    module,cb = Module(),resize()
    with pytest.warns(UserWarning, match='ended with images of .56, 56., before it reached .64, 64.'): trainer(cb, Early()).fit(module, tensors())
    assert module.train_sizes[-1]==(56,56)==cb.reached==cb.current_size

# ---- modules and batches of all kinds

class Crops(Module):
    def on_after_batch_transfer(self, batch, idx):
        self.calls = getattr(self, 'calls', 0)+1
        x,y = batch[:2]
        return x[...,4:-4,4:-4],y

@pytest.mark.parametrize('items', [False,True])
def test_a_module_that_changes_the_size_on_the_way(items):
    cb = resize(resize_items=items)
    with warnings.catch_warnings(record=True) as got:
        warnings.simplefilter('always')
        module,*_ = fitted(cb, loaders() if items else None, module=Crops())
    assert module.train_sizes==due(32, 56, 28) and cb.schedule.final==(56,56)
    assert items==any('change size on the way' in str(w.message) for w in got)

class Counted(Drawn):
    read = Spy()
    def __getitem__(self, i): return self.read.append(i) or super().__getitem__(i)

@pytest.mark.parametrize('kwargs', [{}, dict(resize_items=True), dict(max_bs=20), dict(max_bs=20, resize_items=True)], ids=str)
def test_a_few_items_are_read_once_before_training(kwargs):
    class Start(L.Callback):
        def on_train_start(self, trainer, module): self.read = len(Counted.read)
    Counted.read.clear()
    start = Start()
    trainer(resize(**kwargs), start, max_epochs=1, limit_train_batches=1).fit(Crops(), tud.DataLoader(Counted(), batch_size=10))
    assert start.read==4

class Dicts(Module):
    def training_step(self, batch, i): return super().training_step((batch['image'],batch['label']), i)
    def validation_step(self, batch, i): return super().validation_step((batch['image'],batch['label']), i)

def test_batches_that_are_dicts():
    def collate(items): return dict(image=torch.stack([o[0] for o in items]), label=torch.tensor([o[1] for o in items]))
    assert fitted(data=loaders(collate_fn=collate), module=Dicts())[0].train_sizes==due(32)
    assert fitted(resize(resize_items=True), loaders(collate_fn=collate), module=Dicts())[0].train_sizes==due(32)

class Several(Module):
    def training_step(self, batch, i):
        self.other.append(tuple(batch['b'][0].shape[-2:]))
        return super().training_step(batch['a'][:2], i)

@pytest.mark.parametrize('items', [False,True])
def test_several_loaders_at_a_time(items):
    module,*_ = fitted(resize(resize_items=items), [dict(a=loaders()[0], b=tensors(40))], module=Several())
    assert module.train_sizes==due(32) and [s for s in module.other if s!=(64,64)]==[s for s in due(32) if s!=(64,64)]

def test_batches_without_a_picture_train_on():
    class Table(Module):
        def __init__(self): super().__init__(); self.model = nn.Linear(5,2)
    dl = tud.DataLoader(tud.TensorDataset(torch.rand(80,5), torch.arange(80)%2), batch_size=10)
    with pytest.warns(UserWarning, match='no image among the inputs'): module,*_ = fitted(data=(dl,dl), module=Table())
    assert len(module.train_sizes)==32

@pytest.mark.parametrize('why,args', {
    'initial_size': dict(initial_size=1.5), 'resize_mode': dict(resize_mode='best'), 'method': dict(method='zoom'), 'schedule': dict(schedule=3),
    'empty_cache': dict(empty_cache=True), 'resize_items': dict(resize_items=True, method='crop'), 'start': dict(start=3, finish=1),
    'final_size': dict(final_size=64, schedule=size_schedule(64,4))}.items(), ids=lambda o: None)
def test_arguments_that_cannot_work_are_named(why, args):
    with pytest.raises(ValueError, match=f'`{why}`='): ProgressiveResizeCallback(**args)

def test_what_a_fit_cannot_do_is_said_before_it():
    with pytest.raises(RuntimeError, match='more than one stateful callback of type `ProgressiveResizeCallback`'): trainer(resize(), resize())   # Lightning's own words
    class Takes(Module):
        def training_step(self, dataloader_iter): pass
    with pytest.raises(ValueError, match='`dataloader_iter`'): trainer(resize()).fit(Takes(), tensors())

def test_the_arguments_are_those_of_the_fastai_callback_and_of_the_loop():
    import inspect
    ours,its,loop = (inspect.signature(c).parameters for c in (ProgressiveResizeCallback, ProgressiveResize, sized_loader))
    assert [*ours]==[k for k in its if k in ours] and [k for k in loop if k in ours][-2:]==[*ours][-2:]
    assert all(ours[k].default==(its if k in its else loop)[k].default for k in ours)

def test_validation_loaders_of_several_sizes():
    class Two(Module):
        def validation_step(self, batch, i, dataloader_idx=0): super().validation_step(batch, i)
    valid = [tensors(10),tensors(10, (96,96))]
    assert fitted(data=(tensors(),valid), module=Two())[0].valid_sizes==[(32,32),(48,48)]*2+[(56,56),(84,84)]+[(64,64),(96,96)]
    assert fitted(resize(final_size=64), (tensors(),valid), module=Two())[0].valid_sizes==[(s,s) for s in (32,32,56,64) for _ in range(2)]
    load = lambda n: tud.DataLoader(Drawn(n), batch_size=10)
    module,*_ = fitted(resize(resize_items=True), (loaders()[0],[load(10),load(20)]), module=Two())
    assert module.valid_sizes==[(s,s) for s in (32,32,56,64) for _ in range(3)]

def test_without_anything_that_shows_it(capsys):
    module = Module()
    L.Trainer(callbacks=[resize()], barebones=True, max_epochs=4, accelerator='cpu').fit(module, tensors())
    assert module.train_sizes==due(32)

def test_by_its_old_name():
    import pytorch_lightning as pl
    logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
    class Old(pl.LightningModule):
        def __init__(self): super().__init__(); self.model,self.train_sizes,self.made,self.valid_sizes = small_model(),[],[],[]
        training_step,configure_optimizers = Module.training_step,Module.configure_optimizers
        def forward(self, x): return self.model(x)
        def validation_step(self, batch, i): self.valid_sizes.append(tuple(batch[0].shape[-2:]))
    module,cb,data = Old(),resize(resize_items=True),loaders()
    t = pl.Trainer(callbacks=[cb], max_epochs=4, logger=False, enable_checkpointing=False, num_sanity_val_steps=0, **quiet)
    t.fit(module, *data)
    assert module.made==module.train_sizes==due(32) and module.valid_sizes==[s for s in due(32)[7::8] for _ in range(2)]
    untouched(t, cb, *data)

def test_pickles_and_copies():
    import pickle
    from copy import deepcopy
    for cb in (pickle.loads(pickle.dumps(resize())), deepcopy(fitted()[2])): assert fitted(cb)[0].train_sizes==due(32)

def test_given_schedule_and_final_size():
    s = SizeSchedule((24,48,64), (.25,.5))
    assert fitted(resize(schedule=s))[0].train_sizes==[(24,24)]*8+[(48,48)]*8+[(64,64)]*16
    module,*_ = fitted(resize(final_size=48))
    assert module.train_sizes==due(32, 48, 24) and module.valid_sizes[-1]==(48,48)

# ---- a decoder with a size to set

class Told:
    "A loader with ffcv's `output_size`, which it reads at every batch, or when an epoch begins"
    def __init__(self, each=True): self.output_size,self.each,self.decoded = (64,64),each,[]
    def __len__(self): return 8
    def __iter__(self):
        size = self.output_size
        for _ in range(8):
            self.decoded.append(self.output_size if self.each else size)
            yield torch.rand(10,3,*self.decoded[-1]),torch.arange(10)%2

def steered(decoder, **kwargs): return resize(**{'set_size':decoder, 'final_size':64, 'per_batch':decoder.each, **kwargs})

per_epoch = [s for s in ((32,32),(32,32),(40,40),(64,64)) for _ in range(8)]   # each epoch has the size of its first batch

@pytest.mark.parametrize('each', [True,False])
@pytest.mark.parametrize('kwargs', [{}, dict(resize_valid=False), dict(schedule=size_schedule(64, 4, increase_by=8), final_size=None)], ids=str)
def test_a_decoder_makes_the_size(each, kwargs):
    dl = Told(each)
    module,t,cb = fitted(steered(dl, **kwargs), (dl,tensors(20)))
    assert module.train_sizes==dl.decoded==(due(32) if each else per_epoch)
    assert module.valid_sizes==[s if kwargs.get('resize_valid', True) else (64,64) for s in module.train_sizes[7::8] for _ in range(2)]
    assert dl.output_size==(64,64) and cb.trainer is None

def test_a_decoder_is_set_by_a_function():
    dl = Told()
    assert fitted(resize(set_size=lambda size: setattr(dl, 'output_size', size), final_size=64, per_batch=True), (dl,))[0].train_sizes==due(32)==dl.decoded

@pytest.mark.parametrize('each', [True,False])
def test_a_decoder_that_makes_another_size(each):
    class Deaf(Told):
        def __iter__(self): return ((torch.rand(10,3,64,64),torch.arange(10)%2) for _ in range(8))
    assert fitted(steered(dl := Deaf(each)), (dl,))[0].train_sizes==(due(32) if each else per_epoch)

@pytest.mark.slow
@pytest.mark.parametrize('each', [True,False])
@pytest.mark.parametrize('stop', [13,18,21])
def test_a_training_with_a_decoder_resumes_in_mid_epoch(each, stop, tmp_path):
    dl,first,then = Told(each),Module(),Module()
    def go(module, *cbs, **kwargs): L.Trainer(callbacks=[steered(dl),*cbs], logger=False, max_epochs=4, **quiet).fit(module, dl, tensors(20), **kwargs)
    save = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    with pytest.raises(SystemExit): go(first, save, Stop(stop))
    assert dl.output_size==(64,64)
    done = torch.load(tmp_path/'last.ckpt', weights_only=False)['global_step']
    dl.decoded.clear()
    go(then, ckpt_path=tmp_path/'last.ckpt')
    whole = due(32) if each else per_epoch
    assert first.train_sizes==whole[:stop] and then.train_sizes==dl.decoded[:32-done]==whole[done:]

@pytest.mark.parametrize('exc', [KeyboardInterrupt(), Boom('b')], ids=repr)
@pytest.mark.parametrize('hook', ['on_train_batch_start','on_validation_batch_end'])
def test_a_decoder_is_put_back_however_it_ends(exc, hook):
    dl = Told()
    t = trainer(steered(dl), Breaks(exc, hook))
    with pytest.raises(SystemExit if isinstance(exc, KeyboardInterrupt) else Boom): t.fit(Module(), dl, tensors(20))
    assert dl.output_size==(64,64)

@pytest.mark.parametrize('kwargs', [dict(limit_train_batches=4), dict(max_steps=16)], ids=str)
@pytest.mark.parametrize('workers', [0,1])
def test_webdataset_decodes_at_the_size_of_each_batch(tmp_path, kwargs, workers):
    "Of a loader without a length the trainer takes a batch ahead, and is told its steps: a batch that grows is enlarged"
    wds = pytest.importorskip('webdataset')
    with wds.TarWriter(str(tmp_path/'shard.tar')) as out:
        for i in range(40): out.write({'__key__':f'{i:04}', 'jpg':np.asarray(picture(i, (64,64))), 'cls':i%2})
    size = torch.tensor([64,64]).share_memory_()
    def decode(im): return v1.functional.to_tensor(v1.functional.resize(im, size.tolist()))
    def set_size(s): size[:] = torch.tensor(s)
    data = wds.WebDataset(str(tmp_path/'shard.tar'), shardshuffle=False).decode('pil').to_tuple('jpg', 'cls').map_tuple(decode, noop)
    dl = tud.DataLoader(data, batch_size=10, num_workers=workers, multiprocessing_context='fork' if workers else None)
    cb = resize(set_size=set_size, final_size=64, per_batch=not workers)
    if workers and 'max_steps' in kwargs:
        with pytest.raises(ValueError, match='`per_batch`=False: expected True with `set_size`, because a loader without a length'): fitted(cb, (dl,), **kwargs)
    else: assert fitted(cb, (dl,tensors(20)), **kwargs)[0].train_sizes==([s for s in ((32,32),(32,32),(40,40),(64,64)) for _ in range(4)] if workers else due(16))

@pytest.mark.parametrize('words,args', {
    '`set_size`=3: expected a decoder': dict(set_size=3, final_size=64), '`final_size`=None: expected the size with which': dict(set_size=Told()),
    '`resize_items`=True: expected False with `set_size`': dict(set_size=Told(), final_size=64, resize_items=True),
    '`max_bs`=20: expected None with `set_size`': dict(set_size=Told(), final_size=64, max_bs=20)}.items(), ids=lambda o: o if isinstance(o, str) else '')
def test_arguments_that_cannot_go_with_a_decoder(words, args):
    with pytest.raises(ValueError, match=words): resize(**args)

@pytest.mark.parametrize('words,cb,args', [
    ('`set_size`=.*: expected None for several training loaders', {}, {}),
    ('`per_batch`=False: expected True with `set_size`, because sizes depend on optimizer steps or on time', dict(per_batch=False), dict(max_time='00:00:01:00'))])
def test_a_fit_that_cannot_be_with_a_decoder(words, cb, args):
    dl = Told()
    with pytest.raises(ValueError, match=words): trainer(steered(dl, **cb), **args).fit(Module(), [dl,tensors()] if 'several' in words else dl)

# ---- processes, and no Lightning

def in_two_processes(tmp_path, *args):
    here = Path(__file__).parent
    env = {**os.environ, 'PYTHONPATH':f'{here}:{here.parent}:{os.environ.get("PYTHONPATH","")}', 'PYTHONWARNINGS':'ignore'}
    r = subprocess.run([sys.executable, str(here/'two_lightnings.py'), *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert r.returncode==0, r.stderr[-3000:]
    a,b = (json.loads((tmp_path/f'rank{k}.json').read_text()) for k in (0,1))
    assert a['world']==b['world']==2
    return a,b,r

@pytest.mark.slow
def test_two_processes(tmp_path):
    a,b,r = in_two_processes(tmp_path)
    assert a['sizes']==b['sizes']==a['made']==b['made']==[list(s) for s in due(16)]
    assert a['weights']==b['weights'] and a['seen']!=b['seen']
    assert r.stdout.count('Progressively increase')==1

@pytest.mark.slow
def test_larger_batches_in_two_processes(tmp_path):
    "Each process gets its half of the items, in batches of the same sizes"
    a,b,_ = in_two_processes(tmp_path, '40')
    assert a['sizes']==b['sizes']==a['made']==b['made'] and a['counts']==b['counts'] and {*a['counts']}=={40,24,16,10} and a['weights']==b['weights']
    assert a['steps']==a['estimated']==len(a['counts'])<16
    ends = [k for k in range(1, len(a['counts'])+1) if sum(a['counts'][:k])%40==0]
    assert len(ends)==4
    for first,last in zip([0,*ends], ends):
        ids = [o['seen'][sum(o['counts'][:first]):sum(o['counts'][:last])] for o in (a,b)]
        assert sorted(ids[0]+ids[1])==[*range(80)]

# ---- what keeps a best

class Rises(Module):
    "A loss, of validation or of training, that gets worse with every epoch"
    def __init__(self, where='valid', plateau=False): super().__init__(); self.where,self.plateau,self.rates = where,plateau,[]
    def on_validation_epoch_end(self):
        if self.where=='valid': self.log('worse', 1.+self.trainer.current_epoch)
    def on_train_epoch_end(self):
        if self.where=='train': self.log('worse', 1.+self.trainer.current_epoch)
        self.rates.append(self.trainer.optimizers[0].param_groups[0]['lr'])
    def configure_optimizers(self):
        opt = torch.optim.SGD(self.parameters(), .01)
        if not self.plateau: return opt
        return dict(optimizer=opt, lr_scheduler=dict(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=0), monitor='worse'))

def keeps_best(tmp_path, module=None, cb=None, data=None, k=1, ckpt_path=None, mode='min', cbs=(), **kwargs):
    best,stop = ModelCheckpoint(tmp_path, '{epoch}', monitor='worse', save_top_k=k, mode=mode),EarlyStopping('worse', patience=3, mode=mode)
    t = L.Trainer(**{'max_epochs':16, **kwargs}, callbacks=[stop, cb or resize(), best, *cbs], logger=False, **quiet)
    t.fit(module or Rises(), *(data or (tensors(),tensors(20))), ckpt_path=ckpt_path)
    return t,best,sorted(int(p.stem.split('=')[1]) for p in tmp_path.glob('epoch*'))

def test_the_best_is_of_full_size(tmp_path):
    t,best,files = keeps_best(tmp_path)
    assert best.best_model_path.endswith('epoch=12.ckpt') and files==[12] and t.current_epoch==16   # full size from epoch 12 on

def test_without_validation_sizes_of_the_training_compare(tmp_path):
    assert keeps_best(tmp_path, Rises('train'), data=(tensors(),))[2]==[12]

def test_patience_begins_at_full_size(tmp_path): assert keeps_best(tmp_path, max_epochs=20)[0].current_epoch==15+4

@pytest.mark.slow
def test_several_are_kept_and_what_should_rise(tmp_path):
    assert keeps_best(tmp_path/'two', k=2)[2]==[12,13]
    t,best,files = keeps_best(tmp_path/'all', k=-1)
    assert files==[*range(16)] and best.best_model_path.endswith('epoch=12.ckpt')
    class Falls(Rises):
        def log(self, name, value, **kwargs): super().log(name, -value if name=='worse' else value, **kwargs)
    assert keeps_best(tmp_path/'max', Falls(), mode='max')[2]==[12]

def test_the_learning_rate_falls_at_full_size_alone(tmp_path):
    module = Rises(plateau=True)
    keeps_best(tmp_path, module)
    assert [*dict.fromkeys(module.rates[:13])]==[.01] and module.rates[15]<.01

def test_with_validation_left_alone_nothing_is_touched(tmp_path):
    t,best,files = keeps_best(tmp_path, cb=resize(resize_valid=False))
    assert files==[0] and t.current_epoch==4

@pytest.mark.slow
def test_resumed_it_compares_as_one_training_would(tmp_path):
    for n in (6,11,12,13):
        class Stop(L.Callback):
            def on_train_epoch_end(self, trainer, module): trainer.should_stop = trainer.current_epoch==n
        last = ModelCheckpoint(tmp_path/f'{n}', 'last')
        keeps_best(tmp_path/f'{n}', cbs=[last, Stop()])
        t,best,files = keeps_best(tmp_path/f'{n}', cbs=[ModelCheckpoint(tmp_path/f'{n}', 'last')], ckpt_path=tmp_path/f'{n}'/'last.ckpt')
        assert best.best_model_path.endswith('epoch=12.ckpt') and files==[12] and t.current_epoch==16

def test_who_compares_is_said(tmp_path, capsys):
    keeps_best(tmp_path, cb=resize(verbose=True), max_epochs=4)
    assert '`EarlyStopping`, `ModelCheckpoint`: only epochs validated at 64 px count towards the best model.' in capsys.readouterr().out
    fitted(resize(verbose=True))
    assert 'count towards the best model' not in capsys.readouterr().out

@pytest.mark.slow
def test_resume_after_sigkill(tmp_path):
    "A process is killed in the middle of an epoch; another goes on from the last checkpoint and sees the sizes that it would have seen"
    code = '''if True:
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from test_lightning import *
        class Log(L.Callback):
            def on_train_batch_start(self, trainer, module, batch, i):
                with open('sizes','a') as f: f.write(f'{trainer.global_step} {batch[0].shape[-1]}\\n')
                if sys.argv[1]=='0' and trainer.global_step==20: os.kill(os.getpid(), signal.SIGKILL)
        t = L.Trainer(max_epochs=4, logger=False, callbacks=[resize(), Log(), ModelCheckpoint('.', 'last', every_n_train_steps=3)], **quiet)
        t.fit(Module(), tensors(), tensors(20), ckpt_path='last.ckpt' if sys.argv[1]=='1' else None)
        '''
    def run(i): return subprocess.run([sys.executable, '-c', code, str(i), str(Path(__file__).parent)], cwd=tmp_path, capture_output=True, text=True)
    def sizes(): return [tuple(map(int, o.split())) for o in (tmp_path/'sizes').read_text().splitlines()]
    assert run(0).returncode==-9 and len(sizes())==21
    (tmp_path/'sizes').unlink()
    r = run(1)
    assert r.returncode==0, r.stderr[-1500:]
    assert sizes()==[(k,due(32)[k][0]) for k in range(18,32)]

# ---- the dry run

forwarded = Spy()
class Forwards(Module):
    def forward(self, x):
        forwarded.append((tuple(x.shape[-2:]),len(x),torch.is_grad_enabled()))
        return self.model(x)
    def configure_optimizers(self): return torch.optim.AdamW(self.parameters(), .01)

@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [{}, dict(precision='bf16-mixed'), dict(precision='bf16-true'), dict(accumulate_grad_batches=2)], ids=str)
def test_a_step_at_full_size_comes_first_and_leaves_no_trace(kwargs):
    def train(preallocate):
        forwarded.clear()
        torch.manual_seed(0)
        module = Forwards()
        t = trainer(resize(preallocate=preallocate), num_sanity_val_steps=0, **kwargs)
        t.fit(module, tensors(), tensors(20))
        return [*forwarded],[p.clone() for p in module.state_dict().values()],module.train_sizes,dict(t.callback_metrics)
    (a,p,s,m),(b,q,r,n) = train(False),train(True)
    assert b[0]==((64,64),10,True) and b[1:]==a and r==s==due(32) and m==n
    assert all(torch.equal(x,y) for x,y in zip(p,q))
    assert torch.initial_seed()==0

def test_what_does_not_fit_is_said_before_the_first_step():
    class Big(Forwards):
        def forward(self, x):
            if x.shape[-1]==64: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')
            return super().forward(x)
    module,t = Big(),trainer(resize(), num_sanity_val_steps=0)
    with pytest.raises(torch.OutOfMemoryError, match=r"a batch of 10 images of \[64, 64\] does not fit into memory .*`precision='16-mixed'`, or `accumulate_grad_batches`"):
        t.fit(module, tensors(), tensors(20))
    assert t.global_step==0 and module.train_sizes==[]

def test_who_cannot_rehearse_trains():
    class NoForward(Module):
        forward = L.LightningModule.forward
        def training_step(self, batch, i): return F.cross_entropy(self.model(batch[0]), batch[1])
        def validation_step(self, batch, i): pass
    class AsksTheTrainer(Module):
        def forward(self, x): return self.model(x)*(1+self.trainer.current_epoch)
    class Manual(Module):
        automatic_optimization = False
        def training_step(self, batch, i):
            self.manual_backward(super().training_step(batch, i))
            self.optimizers().step()
    for kind in (NoForward,AsksTheTrainer,Manual):
        module = kind()
        fitted(module=module)
        assert module.train_sizes==([] if kind is NoForward else due(32))

def test_the_callback_of_the_other_framework():
    with pytest.raises(TypeError, match='`ProgressiveResize` is for a fastai `Learner`: with a Lightning `Trainer`, use `ProgressiveResizeCallback`'):
        fitted(ProgressiveResize())
    with pytest.raises(AttributeError, match='`ProgressiveResizeCallback` is for a Lightning `Trainer`: with a fastai `Learner`, use `ProgressiveResize`'):
        learner(make_dls(), ProgressiveResizeCallback())

# ---- batches of several loaders

class Parts(Module):
    "Takes batches of several loaders, in any container"
    def sizes_in(self, batch): return [tuple(t.shape[-2:]) for t in leaves(batch) if t.ndim==4]
    def training_step(self, batch, i):
        sizes = self.sizes_in(batch)
        self.train_sizes.append(sizes[0] if len({*sizes})==1 else sizes)
        if not self.trainer.barebones: self.made.append(int(self.trainer.progress_bar_metrics.get('size', 0)))   # 0 in a trial
        return sum(self(t).mean() for t in leaves(batch) if t.ndim==4)
    def validation_step(self, batch, i):
        if not self.trainer.sanity_checking: self.valid_sizes += self.sizes_in(batch)

@pytest.mark.parametrize('group', [lambda a, b: {'a':a}, lambda a, b: [a], lambda a, b: {'a':[a,b], 'b':b}, lambda a, b: [a,{'b':b}],
                                   lambda a, b: CombinedLoader({'b':b, 'a':a}, 'max_size'), lambda a, b: CombinedLoader([a,b], 'min_size')])
def test_every_batch_of_loaders_in_a_container_has_its_size(group):
    m,_,cb = fitted(module=Parts(), data=(group(tensors(), tensors(40)), tensors(20)))
    n = len(m.train_sizes)//4
    assert m.train_sizes==due(4*n) and m.made==[h for h,_ in m.train_sizes] and cb.current_size==(64,64)
    assert m.valid_sizes==[s for e in range(4) for s in [due(4*n)[n*(e+1)-1]]*2]

def test_validation_loaders_that_are_iterated_together_have_the_size_of_the_training():
    m,*_ = fitted(module=Parts(), data=(tensors(), CombinedLoader({'a':tensors(20), 'b':tensors(10)}, 'max_size_cycle')))
    assert m.valid_sizes==[s for e in range(4) for s in [due(32)[8*e+7]]*4]

def test_one_loader_in_a_container_has_larger_batches_where_images_are_small():
    m,*_ = fitted(resize(max_bs=20), module=Parts(), data=({'a':tensors()}, tensors(20)))
    assert m.train_sizes==[s for e in due_batches(80, 20, bs=10) for s,_ in e]

# ---- what is tried

class Stride8(Parts):
    "Its output has another size than its input, unless that is a multiple of 8"
    def __init__(self): super().__init__(); self.model = nn.Sequential(nn.Conv2d(3,3,8,8), nn.Upsample(scale_factor=8))
    def training_step(self, batch, i):
        super().training_step(batch, i)
        return sum(F.mse_loss(self(t), t) for t in leaves(batch) if t.ndim==4)

class Embedding(Module):
    "`forward` returns what its head, which takes one size, is given"
    def __init__(self): super().__init__(); self.model,self.head = nn.Conv2d(3,4,3,2,1),nn.Sequential(Flatten(), nn.Linear(4*32*32,2))
    def validation_step(self, batch, i): return F.cross_entropy(self.head(self(batch[0])), batch[1])
    def training_step(self, batch, i): self.train_sizes.append(1); return self.validation_step(batch, i)

class FixedValidation(Module):
    "Validates by a head that takes one size"
    def __init__(self): super().__init__(); self.head = nn.Sequential(Flatten(), nn.Linear(3*64*64,2))
    def validation_step(self, batch, i): self.head(batch[0])

class NoIndex(FixedValidation):
    def training_step(self, batch): return super().training_step(batch, 0)
    def validation_step(self, batch): return super().validation_step(batch, 0)

class Inception(FixedValidation):
    "Another output in evaluation"
    def forward(self, x): return (self.model(x),self.model(x)) if self.training else self.head(x)
    def training_step(self, batch, i): self.train_sizes.append(1); return sum(F.cross_entropy(o, batch[1]) for o in self(batch[0]))
    def validation_step(self, batch, i): self.log('loss', F.cross_entropy(self(batch[0]), batch[1]))

@pytest.mark.parametrize('module,data,kwargs,message', [
    (Stride8, lambda: tensors(), dict(increase_by=4), r'images of \[36, 36\]'), (Stride8, lambda: [tensors(),tensors()], dict(increase_by=4), r'images of \[36, 36\]'),
    (Embedding, tensors, {}, 'head.1'), (FixedValidation, tensors, {}, '`validation_step`.*head.1'), (NoIndex, tensors, {}, '`validation_step`.*head.1'),
    (Inception, tensors, {}, '`validation_step`.*head.1')])
@pytest.mark.parametrize('precision', ['32','bf16-true'])
def test_what_fails_at_a_size_is_refused_before_the_first_step(module, data, kwargs, message, precision):
    m = module()
    with pytest.raises(SizeError, match=message): fitted(resize(**kwargs), (data(), tensors(20)), m, precision=precision)
    assert not m.train_sizes
    if module is not Embedding: fitted(resize(**kwargs, multiple_of=8, resize_valid=False), (data(), tensors(20)), module(), precision=precision)

def test_a_frozen_part_stays_in_evaluation_mode_where_auto_measures():
    class Frozen(Module):
        def __init__(self): super().__init__(); self.model[:3].requires_grad_(False).eval(); self.n_forward = 0
        def forward(self, x): self.n_forward += 1; return self.model(x)
        def on_train_batch_start(self, batch, i): self.seen = getattr(self, 'seen', []) + [(self.n_forward,self.model[1].training)]
    m = Frozen()
    mean = m.model[1].running_mean.clone()
    fitted(ProgressiveResizeCallback('auto', verbose=False), (tensors(),), m)
    assert m.seen==[(i,False) for i in range(32)] and torch.equal(m.model[1].running_mean, mean)

# ---- other trainings

def test_smaller_images_after_a_resume_are_not_enlarged(tmp_path):
    _,t,_ = fitted()
    t.save_checkpoint(tmp_path/'c.ckpt')
    m = Module()
    trainer(resize(), max_epochs=6).fit(m, tensors(size=(48,48)), ckpt_path=tmp_path/'c.ckpt')
    assert {*m.train_sizes}=={(48,48)}

def test_a_fast_dev_run_takes_larger_batches():
    m,*_ = fitted(resize(max_bs=20), fast_dev_run=True, max_epochs=1)
    assert m.train_sizes==[(32,32)]

def test_without_a_logger_nothing_is_logged_to_one():
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*no logger configured')
        fitted()

def test_a_trainer_is_freed_after_its_training():
    import gc, weakref
    m,t,cb = fitted(resize(max_bs=20))
    refs = [weakref.ref(o) for o in (m,t)]
    del m,t,cb
    gc.collect()
    assert [r() for r in refs]==[None]*2

@pytest.mark.parametrize('data', [lambda: ({'a':tensors()},CombinedLoader({'a':tensors(20)}, 'max_size'))])
def test_one_loader_in_a_dict_is_tried_and_measured(data, capsys):
    fitted(ProgressiveResizeCallback('auto'), data(), Parts())
    said = capsys.readouterr().out
    assert "'auto'" in said and 'could not measure' not in said and 'not tried' not in said

def test_a_name_may_be_in_one_of_several_loaders_only():
    from lightning.pytorch.utilities import CombinedLoader
    class Two(Module):
        def training_step(self, batch, i): return super().training_step(batch['a'][:2], i)
        def validation_step(self, batch, i): pass
    def data(name): return tud.DataLoader([(torch.rand(3,64,64),i%2,{name:torch.rand(1,64,64)}) for i in range(20)], batch_size=10)
    both,module = CombinedLoader(dict(a=data('depth'), b=data('other'))),Two()
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*which is not in the batch')
        trainer(resize(resize_targ=dict(depth='nearest'))).fit(module, both, data('other'))
    assert module.train_sizes[-1]==(64,64)

class Augments(Module):
    "On the device, and in training only, as the trainer or the module says"
    def __init__(self, asked): super().__init__(); self.asked = asked
    def on_after_batch_transfer(self, batch, i):
        trains = self.trainer.training if self.asked=='trainer' else self.training
        return (batch[0][...,4:68,4:68],*batch[1:]) if trains else batch

@pytest.mark.parametrize('asked', ['trainer','module'])
def test_validation_is_looked_at_as_it_validates(asked):
    "Items of 72 px, of which training crops 64: validation has the size of training"
    module = Augments(asked)
    module,*_ = fitted(resize(final_size=32), (tensors(size=(72,72)),tensors(20, size=(72,72))), module)
    assert module.train_sizes==due(32, initial=16, final=32) and module.valid_sizes==[s for s in due(32, initial=16, final=32)[7::8] for _ in range(2)]

# ---- what fresh readers found

class TwoInputs(Module):
    def training_step(self, batch, i):
        self.train_sizes.append(tuple(batch['image'][0].shape[-2:]))
        self.other.append(tuple(batch['text'].shape))
        return F.cross_entropy(self(batch['image'][0]), batch['image'][1])

@pytest.mark.parametrize('keys', [('image','text'),('text','image')])
def test_the_first_loader_with_images_decides(keys):
    data = dict(image=tensors(), text=tud.DataLoader(torch.rand(80, 12), batch_size=10))
    module,_,cb = fitted(data=({k: data[k] for k in keys},), module=TwoInputs())
    assert module.train_sizes==due(32) and {*module.other}=={(10,12)} and cb.current_size==(64,64)

@pytest.mark.parametrize('kwargs', [{}, dict(max_bs=20)])
def test_validation_after_a_time(kwargs):
    module,_,_ = fitted(resize(**kwargs), val_check_interval='00:01:00:00', check_val_every_n_epoch=None)
    assert module.train_sizes[-1]==(64,64)

class LogsSteps(Module):
    def training_step(self, batch, i):
        self.log('step', float(self.global_step), on_step=True)
        return super().training_step(batch, i)

def test_a_best_value_of_training_counts_from_full_size_on(tmp_path):
    best = ModelCheckpoint(tmp_path, monitor='step', every_n_train_steps=2)
    module = LogsSteps()
    t = L.Trainer(callbacks=[resize(),best], logger=False, max_epochs=4, **quiet)
    t.fit(module, tensors(), tensors(20))
    first = next(i for i,s in enumerate(module.train_sizes) if s==(64,64))
    assert first<=best.best_model_score<first+3 and torch.load(best.best_model_path, weights_only=False)['global_step']>first

class LogsEpochs(Module):
    def training_step(self, batch, i):
        self.log('epoch_', float(self.current_epoch), on_epoch=True, on_step=False)
        return super().training_step(batch, i)

@pytest.mark.parametrize('every', [1,4])
def test_a_best_epoch_of_training_has_full_size_whenever_validation_runs(tmp_path, every):
    best = ModelCheckpoint(tmp_path, monitor='epoch_', save_on_train_epoch_end=True)
    t = L.Trainer(callbacks=[resize(),best], logger=False, max_epochs=4, check_val_every_n_epoch=every, **quiet)
    t.fit(LogsEpochs(), tensors(), tensors(20))
    assert best.best_model_score==3
