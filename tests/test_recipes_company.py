"Averaged weights, vision transformers with fixed positions, and decoders with a size, in a training whose pictures grow"
import threading, queue
from functools import partial
import pytest, timm
from timm.layers import resample_abs_pos_embed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from util import *
from fastresize.recipes import DecoderResize

# ---- averaged weights

class Average(Callback):
    def __init__(self, decay=.9): self.decay,self.by_hand = decay,None
    def before_fit(self):
        if not hasattr(self, 'mean'): self.mean = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)
    def after_step(self):
        self.mean.update_parameters(self.model)
        now = [p.detach().clone() for p in self.model.parameters()]
        self.by_hand = now if self.by_hand is None else [self.decay*a + (1-self.decay)*b for a,b in zip(self.by_hand, now)]

def test_the_average_is_of_the_steps_of_the_training_alone_and_evaluated_at_full_size():
    cb = Average()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, verbose=False), cb, metrics=accuracy)
    learn.fit(4)
    assert cb.mean.n_averaged==32==learn.seen.steps
    for a,b in zip(cb.mean.module.parameters(), cb.by_hand): assert torch.allclose(a, b, atol=1e-6)
    learn.seen.clear()
    learn.model = cb.mean.module
    with learn.removed_cbs(cb): loss,_ = learn.validate()
    assert {*learn.seen.valid}=={(64,64)} and math.isfinite(loss)
    b,y = (torch.cat([o[k].as_subclass(Tensor) for o in learn.dls.valid]) for k in (0,1))
    with torch.no_grad(): p = cb.mean.module.eval()(b)
    assert loss==pytest.approx(F.cross_entropy(p, y).item(), abs=1e-4)

# ---- vision transformers

def vit(**kwargs): return timm.create_model('vit_tiny_patch16_224', img_size=64, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=2, **kwargs)

class Fixed(nn.Module):
    "A transformer of one's own, with positions for 8 x 8 patches"
    def __init__(self):
        super().__init__()
        self.patches,self.pos_embed = nn.Conv2d(3, 24, 8, 8),nn.Parameter(torch.randn(1, 64, 24)*.02)
        self.block,self.head = nn.TransformerEncoderLayer(24, 2, 48, batch_first=True),nn.Linear(24, 2)
    def forward(self, x):
        x = self.patches(x)
        pos = resample_abs_pos_embed(self.pos_embed, x.shape[-2:], (8,8), num_prefix_tokens=0)
        return self.head(self.block(x.flatten(2).transpose(1,2) + pos).mean(1))

@pytest.mark.parametrize('make', [partial(vit, dynamic_img_size=True), Fixed])
def test_a_vit_with_fixed_positions(make):
    model = make()
    pos,before = model.pos_embed,model.pos_embed.detach().clone()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, multiple_of=8, verbose=False), model=model)
    learn.fit(4)
    sizes = [h for h,_ in learn.seen.train]
    assert [*dict.fromkeys(sizes)]==[32,40,48,56,64] and model.pos_embed is pos and pos.shape==before.shape and not torch.equal(pos, before)
    assert {*learn.dls.valid.one_batch()[0].shape[-2:]}=={64} and all(math.isfinite(v) for v in learn.validate()[:1])

def test_a_vit_that_takes_one_size_is_refused_in_words():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, multiple_of=8, verbose=False), model=vit())
    with pytest.raises(ValueError, match=r'the model cannot take images of \[32, 32\]'): learn.fit(4)

# ---- decoders

class Decoder:
    def __init__(self, size=(64,64)): self.output_size = size
    def decode(self, i, size): return torch.full((3,*size), i/64)

class Loader:
    "A stand-in with ffcv's interface: pipelines by field, batches that a thread makes ahead, at the size that the epoch began with"
    def __init__(self, decoder, n=8, bs=8): self.pipelines,self.n,self.bs = dict(image=[decoder], label=[]),n,bs
    def __len__(self): return self.n
    def __iter__(self):
        decoder,made = self.pipelines['image'][0],queue.Queue(2)
        size = decoder.output_size
        def work():
            for b in range(self.n): made.put((torch.stack([decoder.decode(b*self.bs+i, size) for i in range(self.bs)]), torch.arange(self.bs)%2))
            made.put(None)
        threading.Thread(target=work, daemon=True).start()
        return iter(made.get, None)

def decoded(*cbs, steered=True, valid=False):
    own,test = Decoder(),Decoder()
    cb = DecoderResize(own, SizeSchedule((32,48,64), (.25,.5)), valid=test if valid else None)
    return learner(DataLoaders(Loader(own), Loader(test, 2)), *[cb]*steered, *cbs, loss_func=nn.CrossEntropyLoss()),own,test

@pytest.mark.parametrize('valid', [False,True])
def test_a_decoder_makes_the_size_of_each_epoch(valid):
    learn,own,test = decoded(valid=valid)
    for fit in (learn.fit, learn.fit_one_cycle):
        learn.seen.clear()
        fit(4)
        assert learn.seen.train==[(32,32)]*8 + [(48,48)]*8 + [(64,64)]*16
        assert learn.seen.valid==([(32,32)]*2 + [(48,48)]*2 + [(64,64)]*4 if valid else [(64,64)]*8)
        assert own.output_size==test.output_size==(64,64)
    learn.seen.clear()
    learn.fit(4, start_epoch=1)
    assert learn.seen.train[0]==(48,48)
    learn.seen.clear()
    learn.validate()
    assert {*learn.seen.valid}=={(64,64)}

class NextBatch(Loader):
    "A loader that decodes its next batch at the size that its decoder has by then"
    def __iter__(self):
        decoder = self.pipelines['image'][0]
        for b in range(self.n): yield torch.stack([decoder.decode(b*self.bs+i, decoder.output_size) for i in range(self.bs)]),torch.arange(self.bs)%2

@pytest.mark.parametrize('by_function', [False,True])
def test_a_decoder_makes_the_size_of_each_batch(by_function):
    "And a validation has the size of the last one; a function is called no more at the end"
    schedule = SizeSchedule((32,48,64), (.3,.6))
    own,test = Decoder(),Decoder()
    args = [partial(setattr, d, 'output_size') for d in (own,test)] if by_function else [own,test]
    learn = learner(DataLoaders(NextBatch(own), NextBatch(test, 2)), DecoderResize(args[0], schedule, valid=args[1], per_batch=True), loss_func=nn.CrossEntropyLoss())
    learn.fit(4)
    assert learn.seen.train==[s for e in range(4) for s in schedule.sizes_of(e, 4, 8)]
    assert learn.seen.valid==[schedule.sizes_of(e, 4, 8)[-1] for e in range(4) for _ in range(2)]
    assert own.output_size==test.output_size==(64,64)

@pytest.mark.parametrize('name', faults)
def test_the_decoder_is_put_back_however_it_ends(name):
    event,exc,phase = faults[name]
    learn,own,test = decoded(Fault(event, exc, phase), valid=True)
    try: learn.fit(4)
    except type(exc): pass
    assert own.output_size==test.output_size==(64,64) and len(learn.seen.train)>=8

@pytest.mark.parametrize('loader,per_batch', [(Loader,False),(NextBatch,True)])
def test_set_size_as_in_the_other_interfaces(loader, per_batch):
    "Validation batches are resized after loading"
    own,test = Decoder(),Decoder()
    cb = ProgressiveResize(set_size=own, per_batch=per_batch, final_size=64, increase_by=16, start=.3, finish=.6)
    learn = learner(DataLoaders(loader(own), loader(test, 2)), cb, loss_func=nn.CrossEntropyLoss())
    learn.fit(4)
    sizes = [cb.schedule.sizes_of(e, 4, 8) for e in range(4)]
    if not per_batch: sizes = [s[:1]*8 for s in sizes]
    assert learn.seen.train==sum(sizes, []) and learn.seen.valid==[s[-1] for s in sizes for _ in range(2)]
    assert own.output_size==test.output_size==(64,64) and cb.current_size==(64,64)

@pytest.mark.parametrize('match,kwargs', {
    '`set_size`=3: expected a decoder': dict(set_size=3, final_size=64), '`final_size`=None: expected the size with which': dict(set_size=Decoder()),
    '`per_batch`=3: expected True or False': dict(set_size=Decoder(), final_size=64, per_batch=3),
    '`resize_items`=True: expected False with `set_size`': dict(set_size=Decoder(), final_size=64, resize_items=True)}.items(), ids=lambda o: o if isinstance(o, str) else '')
def test_set_size_with_invalid_arguments(match, kwargs):
    with pytest.raises(ValueError, match=match): ProgressiveResize(**kwargs)

def test_a_size_known_only_from_the_first_batch_of_a_resumed_fit():
    learn = learner(DataLoaders(Loader(Decoder()), Loader(Decoder(), 2)), ProgressiveResize(increase_by=16, start=.25, finish=.5), loss_func=nn.CrossEntropyLoss())
    learn.fit(4, start_epoch=3)
    assert learn.seen.train==[(64,64)]*8

def test_set_size_cannot_have_larger_batches_and_auto_uses_the_defaults(capsys):
    def fit(**kwargs):
        own = Decoder()
        learn = learner(DataLoaders(Loader(own), Loader(Decoder(), 2)), ProgressiveResize(set_size=own, final_size=64, **kwargs), loss_func=nn.CrossEntropyLoss())
        learn.fit(4)
        return {*learn.seen.train}
    with pytest.raises(ValueError, match='`max_bs`=16: expected None with `set_size`'): fit(max_bs=16)
    assert (32,32) in fit(initial_size='auto') and "'auto' could not measure this training, because no items can be read" in capsys.readouterr().out

def test_decoders_that_are_none():
    s = SizeSchedule((32,64), (.5,))
    with pytest.raises(ValueError, match='`decoder`=None: expected a decoder with an `output_size`'): DecoderResize(None, s)
    with pytest.raises(ValueError, match='`valid`=3: expected a decoder'): DecoderResize(Decoder(), s, valid=3)
    with pytest.raises(ValueError, match='`schedule`=64: expected a `SizeSchedule`'): DecoderResize(Decoder(), 64)
    learn,*_ = decoded(ProgressiveResize())
    with pytest.raises(ValueError, match='found more than one `ProgressiveResize`'): learn.fit(4)
