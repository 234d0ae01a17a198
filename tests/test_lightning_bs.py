"Lightning: larger batches while images are small, with learning rates and lengths that follow"
import re
from datetime import timedelta
import torch.utils.data as tud
from util import *
from test_lightning import Drawn, L, ModelCheckpoint, Module as Plain, pytestmark, quiet, resize, tensors, trainer

class Numbered(Drawn):
    def __getitem__(self, i): return (*super().__getitem__(i),i)

def numbered(n=70, bs=8, **kwargs): return tud.DataLoader(Numbered(n), batch_size=bs, shuffle=True, **kwargs)

class Module(Plain):
    "Keeps size, images and numbers of every batch, and the learning rate of every step"
    lr = .1
    def __init__(self, accumulate=1): super().__init__(); self.got,self.lrs,self.accumulate,self.fails_at = [],[],accumulate,None
    def training_step(self, batch, i):
        *batch,ids = batch
        self.got.append((self.trainer.current_epoch,tuple(batch[0].shape[-2:]),ids.tolist()))
        if len(self.got)==self.fails_at: raise Boom
        return super().training_step(batch, i)
    def on_train_start(self): self.trainer.optimizers[0].register_step_pre_hook(lambda o, *_: self.lrs.append(o.param_groups[0]['lr']))
    def configure_optimizers(self):
        self.steps = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), self.lr)
    def epochs(self, n=4): return [[(s,len(ids)) for e,s,ids in self.got if e==epoch] for epoch in range(n)]
    def batches(self): return [(s,len(ids)) for _,s,ids in self.got]
    def ids(self, n=4): return [sorted(i for e,_,ids in self.got for i in ids if e==epoch) for epoch in range(n)]

class Boom(Exception): pass

def trained(data=None, cb=None, module=None, *cbs, valid=True, **kwargs):
    module,cb = module or Module(),cb or resize(max_bs=32)
    t = trainer(cb, *cbs, **kwargs)
    t.fit(module, data or numbered(), tensors(20) if valid else None)
    return module,t,cb

def rates(batches, power=.5): return [.1*(max(8, min(32, 8*64**2//s[0]**2)//8*8)/8)**power for epoch in batches for s,_ in epoch]

@pytest.mark.slow
@pytest.mark.parametrize('drop_last', [False,True])
@pytest.mark.parametrize('max_bs,workers,items', [(32,0,False),(24,0,True),(32,2,True),(32,1,False)])
def test_every_batch_has_the_images_that_are_due_and_every_item_comes_once(max_bs, workers, items, drop_last):
    data = numbered(num_workers=workers, drop_last=drop_last)
    module,t,cb = trained(data, resize(max_bs=max_bs, resize_items=items))
    due = due_batches(70, max_bs, drop_last=drop_last)
    assert module.epochs()==due
    assert all(len({*ids})==len(ids)==sum(k for _,k in epoch) for ids,epoch in zip(module.ids(), due))
    assert module.steps==t.global_step==sum(map(len, due)) and module.valid_sizes==[epoch[-1][0] for epoch in due for _ in range(2)]
    assert type(t) is L.Trainer and 'setup_data' not in t.fit_loop.__dict__ and type(data.batch_sampler) is tud.BatchSampler and len(data)==(8 if drop_last else 9)

@pytest.mark.parametrize('scale,power', [('sqrt',.5),('linear',1),(None,0)])
def test_learning_rates_follow(scale, power):
    module,t,_ = trained(cb=resize(max_bs=32, scale_lr=scale))
    assert module.lrs==pytest.approx(rates(module.epochs(), power)) and t.optimizers[0].param_groups[0]['lr']==.1

def test_a_scheduler_has_as_many_steps_as_the_training():
    class Cycles(Module):
        def configure_optimizers(self):
            opt = super().configure_optimizers()
            return dict(optimizer=opt, lr_scheduler=dict(scheduler=torch.optim.lr_scheduler.OneCycleLR(opt, .1, total_steps=self.steps), interval='step'))
    module,t,_ = trained(module=Cycles(), valid=False)
    assert t.global_step==module.steps==len(module.lrs) and module.lrs[-1]<1e-5

@pytest.mark.parametrize('k', [2,3])
def test_accumulated(k):
    module,t,_ = trained(accumulate_grad_batches=k)
    assert module.epochs()==due_batches(70, 32) and t.global_step==module.steps==sum(-(-len(o)//k) for o in due_batches(70, 32))

def test_a_scheduler_of_accumulation_has_a_factor_for_each_epoch():
    module,t,_ = trained(None, None, None, L.callbacks.GradientAccumulationScheduler({0:3, 2:1, 3:2}))
    assert t.global_step==module.steps==sum(-(-len(o)//k) for o,k in zip(due_batches(70, 32), (3,3,1,2)))

def test_validation_within_an_epoch():
    module,*_ = trained(val_check_interval=.5)
    due = [e[i][0] for e in due_batches(70, 32) for i in range(len(e)) if (i+1)%max(1, len(e)//2)==0]
    assert module.valid_sizes==[s for s in due for _ in range(2)]

@pytest.mark.parametrize('limit,n', [(4,32),(.5,32)])
def test_a_limited_epoch(limit, n):
    module,t,_ = trained(limit_train_batches=limit)
    assert module.epochs()==due_batches(n, 32) and t.global_step==module.steps

def test_loaders_made_anew():
    class Anew(Module):
        def train_dataloader(self): return numbered()
    module = Anew()
    t = trainer(resize(max_bs=32), reload_dataloaders_every_n_epochs=1)
    t.fit(module)
    assert module.epochs()==due_batches(70, 32)

class Stop(L.Callback):
    def __init__(self, step): self.step = step
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step==self.step: raise SystemExit

@pytest.mark.parametrize('step', [2,7,12,14])
def test_resumed(step, tmp_path):
    kwargs = dict(logger=False, max_epochs=4, **quiet)
    first,then = Module(),Module()
    save = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename='{step}')
    with pytest.raises(SystemExit): L.Trainer(callbacks=[resize(max_bs=32),save,Stop(step)], **kwargs).fit(first, numbered())
    last = max(tmp_path.glob('*.ckpt'), key=lambda f: int(f.stem.split('=')[1]))
    done = int(last.stem.split('=')[1])
    t = L.Trainer(callbacks=[resize(max_bs=32)], enable_checkpointing=False, **kwargs)
    t.fit(then, numbered(), ckpt_path=last)
    assert (first.batches()[:done] + then.batches())==[o for e in due_batches(70, 32) for o in e]
    assert t.global_step==then.steps==sum(map(len, due_batches(70, 32)))

def test_restored_after_an_error():
    module,cb,data = Module(),resize(max_bs=32, try_sizes=False),numbered()
    module.fails_at,t = 2,trainer(cb)
    with pytest.raises(Boom): t.fit(module, data)
    assert t.optimizers[0].param_groups[0]['lr']==.1 and type(t) is L.Trainer and type(data.batch_sampler) is tud.BatchSampler

def test_the_trainer_fits_again():
    cb = resize(max_bs=32)
    _,t,_ = trained(cb=cb)
    t.fit_loop.epoch_progress.reset()
    module = Module()
    trainer(cb).fit(module, numbered())
    assert module.epochs()==due_batches(70, 32)

class Stream(tud.IterableDataset):
    def __iter__(self): return iter([(torch.rand(3,64,64),0,0,0)]*40)

@pytest.mark.parametrize('data,kwargs,words', [
    (numbered, dict(max_steps=20), '`max_bs`=32: expected None with `max_steps` or `max_time`'),
    (numbered, dict(max_time=timedelta(hours=1)), '`max_bs`=32: expected None with `max_steps` or `max_time`'),
    (lambda: [numbered(),numbered()], {}, '`max_bs`=32: expected None for several training loaders'),
    (lambda: tud.DataLoader(Stream(), batch_size=8), dict(limit_train_batches=5), '`max_bs`=32: expected None for a loader whose image size cannot be determined before training'),
    (lambda: tud.DataLoader(Numbered(70), batch_sampler=[[0,1],[2,3]]), {}, '`max_bs`=32: expected None for this loader, which has a custom batch sampler'),
    (lambda: numbered(bs=40), {}, '`max_bs`=32: expected at least the batch size of the loader, 40')])
def test_what_cannot_be_is_refused(data, kwargs, words):
    module = Module()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), .1)
    with pytest.raises(ValueError, match=re.escape(words)): trainer(resize(max_bs=32), **{'max_epochs':4, **kwargs}).fit(module, data())
    assert not module.got

@pytest.mark.parametrize('kwargs,words', [(dict(max_bs=0), '`max_bs`=0: expected an int above 0'), (dict(max_bs=32, scale_lr='cubic'), "`scale_lr`='cubic': expected one of linear, sqrt, None")])
def test_wrong_arguments(kwargs, words):
    with pytest.raises(ValueError, match=re.escape(words)): resize(**kwargs)

class Reloaded(L.LightningDataModule):
    "Another number of items in each epoch"
    def __init__(self, ns): super().__init__(); self.ns = iter(ns)
    def train_dataloader(self): return numbered(next(self.ns), bs=4)
    def val_dataloader(self): return tensors(20)

@pytest.mark.parametrize('interval', [1.,4])
@pytest.mark.parametrize('ns', [(16,32,48,24),(32,16,16,16),(32,31,30,29)], ids=str)
def test_a_loader_that_is_reloaded_with_another_length(ns, interval):
    module = Module()
    trainer(resize(max_bs=16), reload_dataloaders_every_n_epochs=1, val_check_interval=interval).fit(module, Reloaded(ns))
    assert module.ids()==[[*range(n)] for n in ns]
    due = [1 if interval==1. else -(-n//4)//4 for n in ns]   # with a few large batches there may be one less
    assert sum(max(1, n-1) for n in due)<=len(module.valid_sizes)/2<=sum(due)

class Plateau(Module):
    def configure_optimizers(self):
        opt = super().configure_optimizers()
        return dict(optimizer=opt, lr_scheduler=dict(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(opt), monitor='valid_loss'))

def test_an_interval_of_validation_in_batches_is_one_of_items():
    "Twice in each epoch, as with batches of one size"
    for module in (Module(),Plateau()):
        trained(numbered(64), resize(max_bs=32), module, val_check_interval=4)
        assert len(module.valid_sizes)==4*2*2 and {*module.valid_sizes[:4]}=={(32,32)} and module.valid_sizes[-1]==(64,64)
    module = Module()
    trained(numbered(88, bs=2), resize(max_bs=8), module, val_check_interval=15)   # after 15 and 30 of 44 batches
    assert len(module.valid_sizes)==4*2*2
