"A compiled module in Lightning: every size is compiled before the first step, once, and without a trace"
import logging
import torch.nn.functional as F, torch.utils.data as tud
from util import *
L = pytest.importorskip('lightning.pytorch')
from lightning.pytorch.callbacks import ModelCheckpoint
from fastresize.lightning import ProgressiveResizeCallback

for name in ('lightning.pytorch','lightning.fabric'): logging.getLogger(name).setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:lightning', 'ignore:.*log_every_n_steps', 'ignore:.*num_workers', 'ignore:.*litlogger')

def n_compiled(): return len(torch._dynamo.utils.compilation_time_metrics.get('_compile.compile_inner', ()))

def tensors(n=80, size=(64,64), bs=10): return tud.DataLoader(tud.TensorDataset(torch.rand(n,3,*size), torch.arange(n)%2), batch_size=bs)

class Module(L.LightningModule):
    logs = True
    def __init__(self, model): super().__init__(); self.model,self.seen = model,[]
    def forward(self, x): return self.model(x)
    def loss(self, name, batch):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        if self.logs:
            self.seen.append((name,batch[0].shape[-1],len(batch[0])))
            self.log(name, loss)
        return loss
    def training_step(self, batch, i): return self.loss('train', batch)
    def validation_step(self, batch, i, dataloader_idx=0): self.loss('valid', batch)
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), .01)

class Silent(Module): logs = False
class Manual(Module):
    def __init__(self, model): super().__init__(model); self.automatic_optimization = False
    def training_step(self, batch, i):
        opt = self.optimizers()
        opt.zero_grad()
        self.manual_backward(super().training_step(batch, i))
        opt.step()

class Compiled(L.Callback):
    "Writes down the number of compilations after each batch, and the state of the module before the first step"
    def __init__(self): self.n,self.sizes,self.before,self.first = [],[],None,None
    def on_train_start(self, trainer, module): self.before = self.state(module)
    def on_train_batch_start(self, trainer, module, batch, i):
        if self.first: return
        self.first,self.training,self.n = self.state(module),[m.training for m in module.modules()],[n_compiled()]
    def state(self, module): return dict(values=[t.clone() for t in module.state_dict().values()], grads=[p.grad for p in module.parameters()], rng=torch.get_rng_state())
    def on_train_batch_end(self, trainer, module, out, batch, *_):
        self.n.append(n_compiled())
        self.sizes.append(batch[0].shape[-1])
    def on_validation_batch_end(self, trainer, *_):
        if not trainer.sanity_checking: self.n.append(n_compiled())

def compiled(o, **kwargs):
    o.compile(**{'backend':'aot_eager', **kwargs})
    return o

def frozen(o):
    "Its statistics are not to change: Lightning leaves such a part as it is"
    o[1].eval()
    return o

def fitted(module, valid=None, cb=None, cbs=(), ckpt_path=None, **kwargs):
    torch._dynamo.reset()
    note,cb = Compiled(),cb or ProgressiveResizeCallback(increase_by=16, verbose=False)
    quiet = dict(accelerator='cpu', logger=False, enable_progress_bar=False, enable_model_summary=False)
    t = L.Trainer(callbacks=[cb,note,*cbs], **{**quiet, 'max_epochs':4, 'enable_checkpointing':bool(cbs), **kwargs})
    t.fit(module, tensors(), valid or tensors(20), ckpt_path=ckpt_path)
    return note,cb

modules = dict(part=lambda: Module(torch.compile(small_model(), backend='aot_eager')), part_in_place=lambda: Module(compiled(small_model())),
               static=lambda: Module(compiled(small_model(), dynamic=False)), module=lambda: compiled(Module(small_model())), manual=lambda: Manual(compiled(small_model())),
               frozen=lambda: Module(compiled(frozen(small_model()))), whole=lambda: torch.compile(Silent(small_model()), backend='aot_eager'))

@pytest.mark.slow
@pytest.mark.parametrize('name', modules)
def test_nothing_is_compiled_after_the_first_step(name):
    module = modules[name]()
    note,_ = fitted(module, tensors(24))
    assert [*dict.fromkeys(note.sizes)]==[32,48,64] and len(note.n)==1+32+4*3 and len({*note.n})==1 and note.n[0]>0
    assert same(note.first, note.before) and all(note.training)==(name!='frozen')
    if name!='whole':   # what the module writes down is of its own steps alone
        assert [s for k,s,_ in module.seen if k=='train']==note.sizes and module.seen[:2]==[('valid',64,10)]*2 and len(module.seen)==2+32+4*3

@pytest.mark.slow
def test_cuda_graphs_are_asked_for():
    note,_ = fitted(Module(compiled(small_model(), backend='inductor', mode='reduce-overhead')), cb=ProgressiveResizeCallback(increase_by=32, verbose=False))
    assert {*note.sizes}=={32,64} and len({*note.n})==1

@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [dict(val_check_interval=2), dict(max_steps=32, max_epochs=-1), dict(accumulate_grad_batches=2), dict(precision='bf16-mixed'), dict(limit_val_batches=0)], ids=str)
def test_trainings_of_many_kinds(kwargs):
    note,_ = fitted(modules['static'](), **kwargs)
    assert [*dict.fromkeys(note.sizes)]==[32,48,64] and len({*note.n})==1

@pytest.mark.slow
@pytest.mark.parametrize('cb', [dict(resize_valid=False), dict(max_bs=20), dict(resize_items=True), dict(try_sizes=False, preallocate=False)], ids=str)
def test_arguments_of_many_kinds(cb):
    note,_ = fitted(modules['static'](), cb=ProgressiveResizeCallback(increase_by=16, verbose=False, **cb))
    assert [*dict.fromkeys(note.sizes)]==[32,48,64] and len({*note.n})==1

@pytest.mark.slow
def test_validation_loaders_of_several_sizes():
    with torch._dynamo.config.patch(recompile_limit=16): note,_ = fitted(modules['static'](), [tensors(20),tensors(10, (96,96))])
    assert len(note.n)==1+32+4*3 and len({*note.n})==1

@pytest.mark.slow
def test_only_full_size_where_there_are_too_many():
    with pytest.warns(UserWarning, match=r'this schedule has 9 sizes.*after 8 compilations.*`increase_by=11` stays within'):
        note,_ = fitted(modules['static'](), cb=ProgressiveResizeCallback(verbose=False))
    assert note.n[0]<note.n[-1]

def test_few_sizes_are_compiled_without_a_word():
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        fitted(modules['static']())
    assert not any('torch.compile' in str(w.message) for w in ws)

@pytest.mark.slow
def test_a_resumed_training_compiles_what_is_left(tmp_path):
    save = ModelCheckpoint(tmp_path, every_n_epochs=3, save_top_k=-1)
    fitted(modules['static'](), cbs=[save])
    note,_ = fitted(modules['static'](), cbs=[ModelCheckpoint(tmp_path/'other')], ckpt_path=next(tmp_path.glob('epoch=2*.ckpt')))
    assert {*note.sizes}=={64} and len({*note.n})==1 and note.n[0]==2   # at full size, for training and for evaluation

@pytest.mark.slow
def test_a_module_that_cannot_be_copied_trains():
    class Asks(Module):
        def training_step(self, batch, i): return super().training_step(batch, i)*(1+self.trainer.current_epoch)
        def __deepcopy__(self, memo): raise RuntimeError('not to be copied')
    note,_ = fitted(Asks(compiled(small_model(), dynamic=False)))
    assert [*dict.fromkeys(note.sizes)]==[32,48,64]

@pytest.mark.slow
def test_what_a_compiled_module_tries_leaves_no_trace():
    "`torch.compile(module)` puts functions that belong to the module in the place of its methods"
    module = Silent(small_model())
    note,_ = fitted(torch.compile(module, backend='aot_eager'), cb=ProgressiveResizeCallback(verbose=False))
    assert same(note.first, note.before)
