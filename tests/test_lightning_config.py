"Lightning's callback from a config file: it means there what it means in Python"
import logging
import pytest, yaml
import torch.utils.data as tud
from util import *
L = pytest.importorskip('lightning.pytorch')
from fastresize.lightning import ProgressiveResizeCallback

for name in ('lightning.pytorch','lightning.fabric'): logging.getLogger(name).setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:lightning', 'ignore:.*log_every_n_steps', 'ignore:.*num_workers', 'ignore:.*litlogger')

class Module(L.LightningModule):
    def __init__(self): super().__init__(); self.w,self.sizes = nn.Parameter(torch.zeros(1)),[]
    def training_step(self, batch, i):
        self.sizes.append(tuple(batch[0].shape[-2:]))
        return self.w.sum()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), .01)

class Data(L.LightningDataModule):
    def train_dataloader(self): return tud.DataLoader(tud.TensorDataset(torch.rand(40,3,64,80), torch.arange(40)%2), batch_size=10)

quiet = dict(max_epochs=4, accelerator='cpu', logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)

def in_python(kwargs):
    module = Module()
    L.Trainer(callbacks=[ProgressiveResizeCallback(**kwargs)], **quiet).fit(module, Data())
    return module.sizes

@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [
    {}, dict(start=0, finish=1), dict(start=0., finish=1.), dict(start=1, finish=3), dict(start=.25, finish=3), dict(initial_size=40), dict(initial_size=.75),
    dict(initial_size=[32,48]), dict(final_size=48), dict(final_size=[48,64]), dict(increase_mode='epoch'), dict(increase_mode='Epoch', multiple_of=16)], ids=str)
def test_a_config_means_what_python_means(kwargs, tmp_path):
    cli = pytest.importorskip('lightning.pytorch.cli')
    if not cli._JSONARGPARSE_SIGNATURES_AVAILABLE: pytest.skip('needs jsonargparse[signatures]')
    kwargs = dict(increase_by=8, verbose=False, **kwargs)
    callback = dict(class_path='fastresize.lightning.ProgressiveResizeCallback', init_args=kwargs)
    (tmp_path/'config.yaml').write_text(yaml.safe_dump(dict(trainer=dict(quiet, callbacks=[callback]))))
    args = ['fit', '--config', str(tmp_path/'config.yaml')]
    ran = cli.LightningCLI(Module, Data, args=args, save_config_callback=None)
    assert ran.model.sizes==in_python(kwargs)
    saved = yaml.safe_load(ran.parser.dump(ran.config))['fit']['trainer']['callbacks'][0]['init_args']
    assert {k: saved[k] for k in kwargs}==kwargs   # what is saved can be read again

def test_pairs_of_hydra():
    hydra = pytest.importorskip('hydra.utils')
    kwargs = dict(increase_by=8, verbose=False, initial_size=[32,48], final_size=[48,64])
    module,cb = Module(),hydra.instantiate(dict(_target_='fastresize.lightning.ProgressiveResizeCallback', **kwargs))
    L.Trainer(callbacks=[cb], **quiet).fit(module, Data())
    assert module.sizes==in_python(kwargs) and module.sizes[0]==(32,48)

def test_auto_in_a_config(tmp_path):
    from jsonargparse import ArgumentParser
    parser = ArgumentParser()
    parser.add_class_arguments(ProgressiveResizeCallback, 'cb')
    for text,value in (('auto','auto'), ('0.75',.75), ('64',64), ('[48, 64]',[48,64])):
        cb = parser.instantiate_classes(parser.parse_string(f'cb: {{initial_size: {text}}}')).cb
        assert cb.initial_size in (value, tuple(value) if isinstance(value, list) else value) and type(cb.initial_size) in (type(value),tuple)

def decode_at(size): decode_at.sizes.append(size)
decode_at.sizes = []
class Decoder:
    def __init__(self, side:int): self.output_size = side,side

def test_a_decoder_in_a_config():
    from jsonargparse import ArgumentParser
    parser = ArgumentParser()
    parser.add_class_arguments(ProgressiveResizeCallback, 'cb')
    def made(set_size): return parser.instantiate_classes(parser.parse_object(dict(cb=dict(set_size=set_size, per_batch=True, final_size=64, verbose=False)))).cb
    cb = made(f'{__name__}.decode_at')
    assert cb.set_size is decode_at and cb.per_batch and made(dict(class_path=f'{__name__}.Decoder', init_args=dict(side=64))).set_size.output_size==(64,64)
    L.Trainer(callbacks=[cb], **quiet).fit(Module(), Data())
    assert decode_at.sizes==[s for e in range(4) for s in cb.schedule.sizes_of(e, 4, 4)]
