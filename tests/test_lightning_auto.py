"Lightning: `ProgressiveResizeCallback('auto')` measures, chooses, and goes on by its choice when it is resumed"
import torch.utils.data as tud
from util import *
from test_lightning import L, ModelCheckpoint, Module as Plain, ProgressiveResizeCallback, pytestmark, quiet, tensors, trainer
from test_auto import MaskNet, Net

class Module(Plain):
    "A step takes as long as there are pixels, by the clock of the test"
    def __init__(self, clock, **kwargs): super().__init__(); self.model = Net(clock, **kwargs)

def fitted(clock, size=120, cb=None, module=None, data=None, **kwargs):
    cb,module = cb or ProgressiveResizeCallback('auto'),module or Module(clock)
    t = trainer(cb, **{'max_epochs':2, **kwargs})
    t.fit(module, tensors(size=(size,size)) if data is None else data, tensors(20, size=(size,size)))
    return module,cb,t

@pytest.mark.parametrize('size,arguments,first', [(128,{},64), (120,dict(initial_size=96),96), (96,None,96)])
def test_the_same_choice_as_fastai(clock, capsys, size, arguments, first):
    module,cb,_ = fitted(clock, size)
    assert cb.chosen==dict(arguments=arguments) and module.train_sizes[0]==(first,first) and module.train_sizes[-1]==(size,size)
    out = capsys.readouterr().out
    assert ("'auto': Stay at full size: a feature of the last convolution covers 32 px" if arguments is None else "'auto': `ProgressiveResize") in out

def test_masks_start_at_three_quarters(clock):
    module,cb = Module(clock),ProgressiveResizeCallback('auto')
    module.model = MaskNet(clock)
    items = [(torch.rand(3,64,64),torch.randint(0, 4, (64,64))) for _ in range(40)]
    trainer(cb, max_epochs=2).fit(module, tud.DataLoader(items, batch_size=8))
    assert cb.chosen==dict(arguments=dict(initial_size=.75)) and module.train_sizes[0]==(48,48)

def test_full_size_where_small_images_are_no_quicker(clock):
    module,cb,_ = fitted(clock, module=Module(clock, seconds=lambda h, w: 1.))
    assert cb.chosen==dict(arguments=None) and {*module.train_sizes}=={*module.valid_sizes}=={(120,120)}

def test_it_trains_as_with_the_call_that_it_prints(clock):
    "Weights and random numbers to the bit; nothing that the steps logged is seen"
    def trained(cb):
        set_seed(3)
        module,_,t = fitted(clock, cb=cb)
        return [*module.state_dict().values(), torch.rand(1), t.callback_metrics['loss']]
    for a,b in zip(trained(ProgressiveResizeCallback('auto', verbose=False)), trained(ProgressiveResizeCallback(96, verbose=False))): assert torch.equal(a, b)

def test_larger_batches_are_measured(clock):
    seen,trains = Spy(),[]
    class Sized(Net):
        def forward(self, x):
            if not trains: seen.append((x.shape[-1],len(x)))
            return super().forward(x)
    class Starts(Module):
        def training_step(self, batch, i):
            if self.trainer.lightning_module is self: trains.append(1)
            return super().training_step(batch, i)
    module = Starts(clock)
    module.model = Sized(clock)
    fitted(clock, cb=ProgressiveResizeCallback('auto', max_bs=64), module=module, data=tensors(size=(128,128)))
    bs = tensors().batch_size
    assert {(128,bs),(64,bs*4)}<={*seen} and (64,bs) not in seen

def test_a_checkpoint_keeps_the_choice(clock, tmp_path):
    "Resumed where full size would be chosen now"
    save = ModelCheckpoint(tmp_path, save_top_k=-1)
    cb = ProgressiveResizeCallback('auto')
    module = Module(clock)
    L.Trainer(max_epochs=3, logger=False, callbacks=[cb,save], **quiet).fit(module, tensors(size=(128,128)))
    first = min(tmp_path.glob('*.ckpt'))
    cb,resumed = ProgressiveResizeCallback('auto'),Module(clock, seconds=lambda h, w: 1.)
    L.Trainer(max_epochs=3, logger=False, enable_checkpointing=False, callbacks=[cb], **quiet).fit(resumed, tensors(size=(128,128)), ckpt_path=first)
    assert cb.chosen==dict(arguments={}) and resumed.train_sizes==module.train_sizes[8:]

def test_arguments_are_kept_and_silence(clock, capsys):
    module,cb,_ = fitted(clock, cb=ProgressiveResizeCallback('auto', increase_by=16, verbose=False))
    assert cb.chosen==dict(arguments=dict(increase_by=16, initial_size=96)) and {*module.train_sizes}=={(96,96),(112,112),(120,120)}
    assert capsys.readouterr().out==''

def test_a_second_fit_chooses_anew(clock):
    module,cb,_ = fitted(clock)
    module.model.seconds = lambda h, w: 1.
    assert fitted(clock, cb=cb, module=module)[1].chosen==dict(arguments=None)

def test_what_cannot_be_measured_goes_by_the_defaults(clock, capsys):
    "Optimizers that the module steps itself; a loader without items to read"
    class Manual(Module):
        def __init__(self, *args): super().__init__(*args); self.automatic_optimization = False
        def training_step(self, batch, i):
            loss = super().training_step(batch, i)
            opt = self.optimizers()
            opt.zero_grad()
            self.manual_backward(loss)
            opt.step()
    module,cb,_ = fitted(clock, module=Manual(clock))
    assert module.train_sizes[0]==(60,60) and "'auto': could not measure this training" in capsys.readouterr().out
    class Stream(tud.IterableDataset):
        def __iter__(self): yield from ((torch.rand(3,120,120),i%2) for i in range(80))
    module,*_ = fitted(clock, data=tud.DataLoader(Stream(), batch_size=8), limit_train_batches=10)
    assert 'no items can be read before training' in capsys.readouterr().out and module.train_sizes[-1]==(120,120)

def test_patches(clock):
    module = Module(clock)
    module.model.m = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2))
    module,cb,_ = fitted(clock, 128, module=module)
    assert cb.chosen==dict(arguments=dict(multiple_of=16)) and {h%16 for h,_ in module.train_sizes}=={0}

def test_mistakes():
    with pytest.raises(ValueError, match="`schedule`=.*None with `initial_size`='auto'"): ProgressiveResizeCallback('auto', schedule=SizeSchedule((64,)))

class Decoder:
    output_size = 128,128

class Decoded:
    "A loader whose decoder makes the size"
    def __init__(self, decoder): self.decoder = decoder
    def __len__(self): return 4
    def __iter__(self): return ((torch.rand(8,3,*self.decoder.output_size),torch.arange(8)%2) for _ in range(4))

@pytest.mark.parametrize('kind', ['function','decoder','mode'])
def test_a_checkpoint_holds_nothing_of_the_user(clock, tmp_path, kind):
    "Neither a function, which cannot be pickled, nor types that are not loaded by default"
    decoder = Decoder()
    def cb():
        if kind=='mode': return ProgressiveResizeCallback('auto', increase_mode=IncreaseMode.Epoch)
        return ProgressiveResizeCallback('auto', set_size=(lambda s: setattr(decoder, 'output_size', s)) if kind=='function' else decoder, final_size=128)
    def data(): return tensors(size=(128,128)) if kind=='mode' else Decoded(decoder)
    save,module = ModelCheckpoint(tmp_path, save_top_k=-1),Module(clock)
    L.Trainer(max_epochs=2, logger=False, callbacks=[cb(),save], **quiet).fit(module, data())
    resumed,again = cb(),Module(clock)
    L.Trainer(max_epochs=4, logger=False, enable_checkpointing=False, callbacks=[resumed], **quiet).fit(again, data(), ckpt_path=max(tmp_path.glob('*.ckpt')))
    assert again.train_sizes[-1]==(128,128) and resumed.chosen['arguments'] is not None
