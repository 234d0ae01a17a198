"What users' code changes or remembers: batches in place, gradients, learning rates, counters. A training with the callback, at one size, is bit for bit the one without it"
import itertools, multiprocessing, tempfile, types
from dataclasses import dataclass
import pytest, torch, torch.nn.functional as F, torch.utils.data as tud
from fastresize.batch import BatchSpec
from fastresize.loops import sized_loader
from fastresize.preflight import SizeError
from fastresize.schedule import SizeSchedule, size_schedule
from util import *
from array import array as Numbers

L = pytest.importorskip('lightning.pytorch')
from fastresize.lightning import ProgressiveResizeCallback
from test_lightning import Module, fitted, resize, tensors, trainer

# ---- fastai: the losses of each step

class Losses(Callback):
    order = 100
    def __init__(self): self.all,self.sizes = [],[]
    def after_batch(self):
        if self.training: self.all.append(self.loss.item()); self.sizes.append(self.x.shape[-1])

class Items(tud.Dataset):
    def __init__(self, n=32): self.n,self.visits = n,np.zeros(n)
    def __len__(self): return self.n
    def item(self, i): return torch.rand(3,64,64, generator=torch.Generator().manual_seed(i)),i%2
    def __getitem__(self, i): return self.item(i)

class Visits(Items):
    "Darker at each visit"
    def __getitem__(self, i):
        self.visits[i] += 1
        x,y = self.item(i)
        return x/self.visits[i],y

class TensorVisits(Visits):
    def __init__(self, n=32): super().__init__(n); self.visits = torch.zeros(n)

class ClassVisits(Items):
    n_read = 0
    def __getitem__(self, i):
        ClassVisits.n_read += 1
        x,y = self.item(i)
        return x/ClassVisits.n_read,y

backgrounds = None
class Backgrounds(Items):
    def __getitem__(self, i): return self.item(i)[0]*next(backgrounds),i%2

def counted(cls=Items):
    n = [0]
    class Counted(cls):
        def __getitem__(self, i):
            n[0] += 1
            x,y = self.item(i)
            return x/n[0],y
    return Counted()

@dataclass(slots=True)
class Slots: n:int = 0

class Delegating(tud.Dataset):
    def __init__(self): self.ds,self.n = Items(),0
    def __getattr__(self, k): return getattr(self.ds, k)   # a new object has no `ds`
    def __len__(self): return len(self.ds)
    def __getitem__(self, i):
        self.n += 1
        x,y = self.ds[i]
        return x/self.n,y

class Lines(Items):
    "Each item is the next line of a file"
    def __init__(self):
        super().__init__()
        path = Path(tempfile.mkdtemp())/'numbers.txt'
        path.write_text('\n'.join(map(str, range(200))))
        self.file = path.open()
    def __getitem__(self, i): return self.item(int(self.file.readline()))

def counts_in(new, count):
    "A dataset that counts its items in what `new` makes"
    class Counting(Items):
        def __init__(self): super().__init__(); self.counter = new()
        def __getitem__(self, i):
            x,y = self.item(i)
            return x/count(self.counter),y
    return Counting()

def add_one(a):
    a[0] += 1
    return a[0]

def add_n(o):
    o.n += 1
    return o.n

settings = types.SimpleNamespace()
class Settings(Items):
    def __getitem__(self, i):
        x,y = self.item(i)
        return x/add_n(settings),y

datasets = dict(array=Visits, tensor=TensorVisits, iterator=Backgrounds, closure=counted, getattr=Delegating, file=Lines, namespace=Settings,
                slots=lambda: counts_in(Slots, add_n), bytes=lambda: counts_in(lambda: bytearray(1), add_one),
                numbers=lambda: counts_in(lambda: Numbers('i', [0]), add_one), shared=lambda: counts_in(lambda: multiprocessing.Array('i', 1), add_one))
datasets['class'] = ClassVisits
def dataset(name):
    global backgrounds
    backgrounds,ClassVisits.n_read,settings.n = itertools.cycle([1.,.5,.2]),0,0
    return datasets[name]()

rng = None
class Noisy(nn.Module):
    n_calls = 0
    def forward(self, x):
        Noisy.n_calls += self.training
        return x*rng.random() + Noisy.n_calls

outside = nn.BatchNorm2d(3)

def layer(name):
    global rng
    rng,Noisy.n_calls,n = np.random.default_rng(0),0,[0]
    outside.reset_running_stats()
    def count(x):
        n[0] += 1
        return x*n[0]
    return {'class and generator': Noisy, 'closure': lambda: Lambda(count), 'module': lambda: Lambda(lambda x: outside(x))}[name]()

def normed():
    "A model whose weight is made anew in each forward pass; its maker has called it, as `unet_learner` does"
    res = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3,8,3)), AdaptiveAvgPool(), Flatten(), nn.Linear(8,2))
    res(torch.rand(1,3,8,8))
    return res

n_losses = np.zeros(1)
def counting(p, y):
    n_losses[0] += 1
    return F.cross_entropy(p, y)*float(n_losses[0])

def with_namespace(p, y): return F.cross_entropy(p, y)*add_n(settings)

counter = types.ModuleType('counter')
counter.__file__ = __file__   # a module of the user's
def with_module(p, y): return F.cross_entropy(p, y)*add_n(counter)

class OnLearner(Callback):
    "Its loss counts in an attribute of the learner, and remembers in another"
    def before_fit(self): self.learn.n,self.learn.past,self.learn.loss_func = 0,[],self.loss_of
    def loss_of(self, p, y):
        self.learn.n += 1
        self.learn.past.append(1)
        return F.cross_entropy(p, y)*(self.learn.n+len(self.learn.past))

head = None
def headed(p, y): return F.cross_entropy(head(p), y)
def from_one(p, y):
    y -= 1
    return F.cross_entropy(p, y)

class InputGradients(Callback):
    "Attack the images, with the gradients of the batch before"
    attack = None
    def before_batch(self):
        if not self.training: return
        if self.attack is None: self.attack = torch.zeros_like(self.x, requires_grad=True)
        self.learn.xb = (self.x+self.attack,)
    def after_backward(self):
        with torch.no_grad(): self.attack += .1*self.attack.grad.sign()
        self.attack.grad.zero_()

def losses(make, *cbs):
    set_seed(1, True)
    learn,seen = make(),Losses()
    learn.add_cbs([*cbs, seen])
    set_seed(2, True)
    learn.fit(4, 1e-2)
    return seen.all

def plain_dls(ds=None): return DataLoaders(*[tud.DataLoader(o, batch_size=8) for o in (ds or Items(), Items(8))])

setups = {
    **{f'dataset: {k}': lambda k=k: learner(plain_dls(dataset(k))) for k in datasets},
    **{f'model: {k}': lambda k=k: learner(plain_dls(), model=nn.Sequential(layer(k), small_model())) for k in ('class and generator','closure','module')},
    'loss that counts in a namespace': lambda: learner(plain_dls(), loss_func=with_namespace),
    'loss that counts in a module': lambda: learner(plain_dls(), loss_func=with_module),
    'loss that counts on the learner': lambda: learner(plain_dls(), OnLearner()),
    'loss that counts in an array': lambda: learner(plain_dls(), loss_func=counting),
    'model with spectral norm': lambda: learner(plain_dls(), model=normed()),
    'loss with weights of its own': lambda: learner(plain_dls(), loss_func=headed, splitter=lambda m: [[*m.parameters(), *head.parameters()]]),
    'loss that changes its targets': lambda: learner(DataLoaders(*[tud.DataLoader([(x,y+1) for x,y in (Items()[i] for i in range(32))], batch_size=8)]*2), loss_func=from_one),
    'gradients of the images': lambda: learner(plain_dls(), InputGradients())}

@pytest.mark.parametrize('name', setups)
def test_a_learner_at_one_size_trains_as_alone(name):
    global head
    def make():
        global head
        head = nn.Linear(2,2)
        n_losses[0] = settings.n = counter.n = 0
        return setups[name]()
    one_size = ProgressiveResize(schedule=SizeSchedule(((64,64),)), verbose=False)
    assert losses(make)==losses(make, one_size)

def test_a_preview_leaves_no_gradients():
    global head
    head = nn.Linear(2,2)
    setups['loss with weights of its own']().preview_resize(4, n_batch=1, show_plot=False)
    assert all(p.grad is None for p in head.parameters())

class Pool(Callback):
    order,pool = 5,None
    def before_batch(self):
        if self.training: self.pool = self.x if self.pool is None else torch.cat([self.pool, self.x])[-16:]

class FixedMask(Callback):
    def before_batch(self): self.learn.xb = (self.x*torch.ones(1,1,64,64),)

@pytest.mark.parametrize('cb,size,n', [(Pool,40,8), (FixedMask,32,0)])
def test_errors_of_callbacks_have_advice(cb, size, n):
    learn,seen = learner(plain_dls(), ProgressiveResize(increase_by=8, verbose=False), cb()),Losses()
    with pytest.raises(RuntimeError, match=rf'(?s)first batch with images of \[{size}, {size}\].*a callback or hook that prepares'):
        learn.fit(4, cbs=seen)
    assert len(seen.all)==n and not {'one_batch','_do_one_batch'} & {*vars(learn)}

class Pruned(Exception): pass

def test_errors_after_the_step_have_no_advice():
    class Prune(Callback):
        order = 90
        def after_batch(self): raise Pruned('stop')
    with pytest.raises(Pruned, match=r"after_batch`:\s*stop$|^stop$"): learner(plain_dls(), ProgressiveResize(increase_by=8, verbose=False), Prune()).fit(1)
    class PruneCallback(L.Callback):
        def on_train_batch_end(self, *args): raise Pruned('stop')
    with pytest.raises(Pruned, match='^stop$'): trainer(PruneCallback(), resize()).fit(Module(), tensors())

def test_switched_off_in_mid_fit():
    class Off(Callback):
        order = 90
        def after_epoch(self):
            if self.epoch==1: self.learn.progressive_resize.run = False
    rows,learn = Spy(),learner(plain_dls(), ProgressiveResize(increase_by=8, verbose=False), Off())
    learn.logger,seen = rows.append,Losses()
    learn.fit(4, cbs=seen)
    assert [len(o) for o in rows]==[5,5,4,4] and seen.sizes==[32]*8+[64]*8
    assert 'logger' not in vars(learn.recorder) and learn.progressive_resize.training_run is None and learn.progressive_resize.run

def test_exported_in_mid_fit(tmp_path):
    class Best(Callback):
        order = 90
        def after_epoch(self): self.learn.export(tmp_path/'a.pkl')
    learner(make_dls(), ProgressiveResize(increase_by=8, verbose=False), Best()).fit(1)
    assert b'fastresize' not in (tmp_path/'a.pkl').read_bytes()
    assert load_learner(tmp_path/'a.pkl').predict(picture(0))

def test_a_wrong_name_is_said_with_batch_transforms():
    with pytest.warns(UserWarning, match="`resize_targ` names 'msk', which is not in the batch"):
        mask_learner(seg_dls(*aug_transforms()), ProgressiveResize(resize_targ={'msk': False}, increase_by=8, verbose=False)).fit(1)

# ---- Lightning, and loops

def one_size(): return ProgressiveResizeCallback(schedule=SizeSchedule(((64,64),)), verbose=False)

class InPlace(Module):
    def training_step(self, batch, i):
        x,y = batch[:2]
        x.sub_(.5).div_(.25)
        self.train_sizes.append(x.mean().item())
        y -= 1
        return F.cross_entropy(self(x), y+1)

class Pops(Module):
    def training_step(self, batch, i): return super().training_step((batch.pop('x'),batch.pop('y')), i)

class OwnRate(Module):
    def training_step(self, batch, i):
        for g in self.optimizers().param_groups: g['lr'] *= .9
        self.made.append(self.optimizers().param_groups[0]['lr'])
        return super().training_step(batch, i)

class OwnScheduler(Module):
    def training_step(self, batch, i):
        self.trainer.lr_scheduler_configs[0].scheduler.step()
        self.made.append(self.trainer.optimizers[0].param_groups[0]['lr'])
        return super().training_step(batch, i)
    def configure_optimizers(self):
        opt = torch.optim.SGD(self.parameters(), .1)
        return [opt],[dict(scheduler=torch.optim.lr_scheduler.ExponentialLR(opt, .9), frequency=1000)]

class Hooks(Module):
    n_seen = 0
    def __init__(self): super().__init__(); self.norm = nn.BatchNorm2d(3)
    def on_after_batch_transfer(self, batch, i):
        self.n_seen += len(batch[0])
        self.made.append((self.n_seen, int(self.norm.num_batches_tracked)))
        return self.norm(batch[0]).detach(),*batch[1:]

@pytest.mark.parametrize('bs', [10,2])
@pytest.mark.parametrize('cls', [InPlace,Pops,OwnRate,OwnScheduler,Hooks])
def test_a_module_at_one_size_trains_as_alone(cls, bs):
    def seen(*cbs):
        L.seed_everything(1, verbose=False)
        module,x = cls(),torch.rand(20,3,64,64)
        collate = None if cls is not Pops else lambda items: dict(zip('xy', tud.default_collate(items)))
        trainer(*cbs, max_epochs=1).fit(module, tud.DataLoader(tud.TensorDataset(x, torch.arange(20)%2), batch_size=bs, collate_fn=collate))
        return module.train_sizes,module.made,getattr(module, 'n_seen', 0),[p.tolist() for p in module.parameters()]
    assert seen()==seen(one_size())

def test_sizes_are_tried_with_steps_that_change_their_batch():
    "Each size gets a batch of its own"
    class Valid(InPlace):
        def validation_step(self, batch, i):
            batch[1].sub_(1)
            self.log('valid_loss', F.cross_entropy(self(batch[0]), batch[1]+1))
    fitted(module=Valid())
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.model = small_model()
        def forward(self, b): return self.model(b.pop('x'))
    data = tud.DataLoader(tensors(16).dataset, batch_size=8, collate_fn=lambda items: dict(zip('xy', tud.default_collate(items))))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sized_loader(data, size_schedule(64, 4), 4, model=Net())

class Manual(Module):
    def __init__(self): super().__init__(); self.automatic_optimization,self.flat = False,nn.Linear(3*64*64,2)
    def training_step(self, batch, i):
        loss,opt = F.cross_entropy(self.flat(batch[0].flatten(1)), batch[1]),self.optimizers()
        opt.zero_grad()
        loss.backward()
        opt.step()

class Attack(Manual):
    def __init__(self): super().__init__(); self.automatic_optimization = True
    def training_step(self, batch, i):
        x = batch[0].clone().requires_grad_()
        grad, = torch.autograd.grad(F.cross_entropy(self(x), batch[1]), x)
        return F.cross_entropy(self.flat((x+.01*grad.sign()).flatten(1)), batch[1])

@pytest.mark.parametrize('cls', [Manual,Attack])
def test_steps_that_need_gradients_are_tried(cls):
    with pytest.raises(SizeError, match=r'cannot take images of \[32, 32\]'): fitted(module=cls())
    fitted(one_size(), module=cls())

def test_errors_of_lightning_have_advice():
    with pytest.raises(RuntimeError, match=r'(?s)first batch with images of \[32, 32\].*without `ProgressiveResizeCallback`, the size may be the cause: adaptive pooling'):
        fitted(resize(try_sizes=False, preallocate=False), module=Attack())
    class Late(Module):
        def training_step(self, batch, i):
            if self.global_step==3: raise RuntimeError('late')
            return super().training_step(batch, i)
    with pytest.raises(RuntimeError, match='^late$'): fitted(module=Late())

class Growing(L.LightningDataModule):
    def train_dataloader(self): return tensors(40*2**self.trainer.current_epoch)

def sizes_of(module): return {k: [s for s,_ in module.train_sizes].count(k) for k in sorted({s for s,_ in module.train_sizes})}

class Stream(tud.IterableDataset):
    def __iter__(self): return iter([(torch.rand(3,64,64),i%2) for i in range(100)])

def test_the_number_of_batches_changes():
    module = Module()
    trainer(resize(), max_steps=60, max_epochs=-1, reload_dataloaders_every_n_epochs=1).fit(module, datamodule=Growing())
    assert sizes_of(module)=={32:30,40:5,48:5,56:5,64:15}
    module,data = Module(),tud.DataLoader(Stream(), batch_size=10)
    trainer(resize(), max_steps=60, max_epochs=-1, limit_train_batches=1000).fit(module, data)
    assert sizes_of(module)=={32:30,40:5,48:5,56:5,64:15}
    module = Module()
    trainer(resize(), max_epochs=4, limit_train_batches=1000).fit(module, data)
    assert sizes_of(module)[64]>=10 and module.train_sizes[-1]==(64,64), 'counted once, in the first epoch'

@pytest.mark.parametrize('every', [1,5])
def test_trackers_of_training_metrics_with_few_validations(every):
    "A loss that falls at every size, but is higher at larger sizes"
    class Rises(Module):
        def training_step(self, batch, i):
            self.log('rises', batch[0].shape[-1]-.01*self.current_epoch, on_step=False, on_epoch=True)
            return super().training_step(batch, i)
    from lightning.pytorch.callbacks import EarlyStopping
    stop = EarlyStopping('rises', patience=1, check_on_train_epoch_end=True)
    t = trainer(resize(), stop, max_epochs=12, check_val_every_n_epoch=every)
    t.fit(Rises(), tensors(), tensors(20))
    assert t.current_epoch==12

def test_the_best_full_size_validation_is_kept(tmp_path):
    "With validation at full size every second epoch, nothing is forgotten in between"
    class Falls(Module):
        def validation_step(self, batch, i): self.log('score', 1-.1*self.current_epoch, on_step=False, on_epoch=True)
    from lightning.pytorch.callbacks import ModelCheckpoint
    best = ModelCheckpoint(tmp_path, monitor='score', mode='max')
    kwargs = dict(logger=False, accelerator='cpu', devices=1, enable_progress_bar=False, enable_model_summary=False, max_epochs=8, check_val_every_n_epoch=2)
    L.Trainer(callbacks=[resize(resize_valid=False), best], **kwargs).fit(Falls(), tensors(), tensors(20))
    assert float(best.best_model_score)==pytest.approx(.9)

def test_epochs_whose_number_of_batches_may_change_are_planned_in_epochs_if_asked():
    module = Module()
    trainer(resize(increase_mode='epoch'), max_steps=16, max_epochs=-1, reload_dataloaders_every_n_epochs=1).fit(module, tensors(40))
    assert module.train_sizes[0]==(32,32) and module.train_sizes[-1]==(64,64) and len(module.train_sizes)==16

def test_a_rate_in_a_tensor_stays_the_same_tensor():
    class Tensors(OwnRate):
        def configure_optimizers(self):
            self.rate = torch.tensor(.1)
            return torch.optim.Adam(self.parameters(), lr=self.rate, foreach=False)
        def training_step(self, batch, i):
            self.optimizers().param_groups[0]['lr'].mul_(.9)
            return Module.training_step(self, batch, i)
    module,t,_ = fitted(module=Tensors(), max_epochs=1)
    assert t.optimizers[0].param_groups[0]['lr'] is module.rate and float(module.rate)==pytest.approx(.1*.9**8)

def test_a_validation_step_that_takes_the_iterator():
    class Takes(Module):
        def validation_step(self, dataloader_iter): self.valid_sizes.append(next(dataloader_iter)[0][0].shape[-1])
    with pytest.raises(ValueError, match='`resize_valid`=True: expected False with a `validation_step` that takes `dataloader_iter`'): fitted(module=Takes())
    assert {*fitted(resize(resize_valid=False), module=Takes())[0].valid_sizes}=={64}

# ---- loops

class Buckets:
    "Batches of one size each"
    def __iter__(self): return iter([[*range(i,i+6)] for i in range(0,66,6)])
    def __len__(self): return 11

class Resized(tud.Dataset):
    def __init__(self, n, size):
        from torchvision.transforms import v2
        self.transform,self.x = v2.Resize(**size),torch.rand(n,3,80,80)
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.transform(self.x[i]),i%2

def loop_sizes(loader, n_epoch=4): return [[b[0].shape[-1] for b in loader] for _ in range(n_epoch)]

@pytest.mark.parametrize('items', [False,True])
def test_batches_of_another_full_size(items):
    data = tud.DataLoader(tud.ConcatDataset([Resized(60, dict(size=32)),Resized(6, dict(size=64))]), batch_sampler=Buckets())
    sizes = loop_sizes(sized_loader(data, size_schedule(32, 4, increase_by=16), 4, resize_items=items))
    assert sizes[0]==[16]*10+[32] and sizes[-1]==[32]*10+[64]

def test_the_longer_side_alone():
    data = tud.DataLoader(Resized(16, dict(size=None, max_size=32)), batch_size=8)
    loader = sized_loader(data, size_schedule(32, 4, increase_by=16), 4, resize_items=True)
    assert loader.why is None and loop_sizes(loader)==[[16,16]]*3+[[32,32]] and data.dataset[0][0].shape[-1]==32

def test_the_length_is_that_of_the_pass():
    loader,last = sized_loader(tud.DataLoader(tensors(64).dataset, batch_size=4), size_schedule(64, 4, increase_by=32), 4, max_bs=16),[]
    for _ in range(4):
        n = len(loader)
        for i,_ in enumerate(loader): assert len(loader)==n
        last.append(i+1==n)
    assert all(last)
    loader.set_epoch(0)
    batches = iter(loader)
    next(batches)
    assert len(loader)==4
    loader.set_epoch(3)
    assert len(loader)==16

def test_methods_that_return_a_loader():
    wds = pytest.importorskip('webdataset')
    def sized(): return sized_loader(wds.WebLoader(Stream(), batch_size=10), size_schedule(64, 4), 4, n_batch=4)
    assert [b[0].shape[-1] for b in sized().with_epoch(4)]==[32]*4
    with pytest.raises(TypeError, match=r'`unbatched` returns a loader without scheduled sizes.*sized_loader\(loader.unbatched'): sized().unbatched()

def _nested(items): return torch.stack([x for x,_ in items]),torch.nested.nested_tensor([torch.rand(i%3+1,4) for i in range(len(items))])
def _sparse(items): return torch.stack([x for x,_ in items]),(torch.rand(len(items),64,64)>.9).float().to_sparse()
def _float8(items): return torch.stack([x for x,_ in items]),torch.rand(len(items),64,64).to(torch.float8_e5m2)

@pytest.mark.parametrize('collate', [_nested,_sparse,_float8])
def test_other_kinds_of_tensors_are_left_alone(collate):
    class Images(Module):
        def training_step(self, batch, i): return super().training_step((batch[0],torch.arange(len(batch[0]))%2), i)
    data = tud.DataLoader(tensors(16).dataset, batch_size=8, collate_fn=collate)
    assert loop_sizes(sized_loader(data, size_schedule(64, 4, increase_by=32), 4))==[[32,32]]*3+[[64,64]]
    assert {*fitted(resize(increase_by=32), [data], Images())[0].train_sizes}=={(32,32),(64,64)}

def test_bands_in_the_last_axis_are_no_sizes():
    class Bands(tud.Dataset):
        def __len__(self): return 16
        def __getitem__(self, i): return torch.rand(64,64,12),i%2
    with pytest.raises(ValueError, match=r'has its channels last, `permute` it'): loop_sizes(sized_loader(tud.DataLoader(Bands(), 8), size_schedule(64, 4), 4))

def test_volumes_with_their_depth_last_are_images():
    assert BatchSpec((torch.rand(2,1,64,64,16),torch.arange(2))).size((torch.rand(2,1,64,64,16),torch.arange(2)))==(64,16)

def test_dark_images_as_targets():
    "An autoencoder of pictures with few bright pixels gets the same picture twice; a heatmap keeps its peaks"
    def batches(shape, target):
        x = (torch.rand(16, *shape)>.98)*torch.rand(16, *shape)
        data = tud.DataLoader(tud.TensorDataset(x, target(x)), batch_size=8)
        return [*sized_loader(data, size_schedule(64, 4), 4)]
    assert all(torch.equal(x, y) for x,y in batches((1,64,64), torch.clone))
    peaks = torch.zeros(16,1,64,64)
    peaks[...,20,31],peaks[...,20,30] = 1,.4
    assert all(y.max()==1 for _,y in batches((3,64,64), lambda x: peaks))

@pytest.mark.parametrize('k,v', dict(resize_targ=np.array([1,2]), method=np.array(['crop','lowpass']), set_size=lambda: None, device='cuda').items())
def test_arguments_are_named(k, v):
    if k=='device' and torch.cuda.is_available(): pytest.skip('there is CUDA')
    with pytest.raises(ValueError, match=f'^`{k}`='): sized_loader(tensors(16), size_schedule(64, 4), 4, **{k: v})
