"`ProgressiveResize('auto')`: what it measures, what it chooses, and that it leaves no trace; `torch.compile` beside few sizes"
import pytest, torch
from types import SimpleNamespace
from PIL import Image
from PIL.ImageFile import ImageFile
from fastai.callback.progress import ProgressCallback
import torch._dynamo
from fastresize.auto import choose, conv_strides
from fastresize.prediction import Preview, Suggestion, choose_arguments
from fastresize.schedule import Growth
from util import *

class Net(nn.Module):
    "Five strides of two; a step takes as long as there are pixels, by the clock of the test"
    def __init__(self, clock=None, n_stride=5, seconds=lambda h, w: h*w/128**2):
        super().__init__()
        convs = [ConvLayer(4 if i else 3, 4, stride=2) for i in range(n_stride)]
        self.m,self.clock,self.seconds = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(4,2)),clock,seconds
    def forward(self, x):
        if self.clock: self.clock.sleep(self.seconds(*x.shape[-2:]))
        return self.m(x)

def auto(size=128, clock=None, model=None, dls=None, verbose=True, cbs=(), **kwargs):
    return learner(dls or make_dls(*aug_transforms(), size=(size,size)), ProgressiveResize('auto', verbose=verbose, **kwargs), *cbs, model=Net(clock) if model is None else model)

def chosen(learn): return learn.progressive_resize.chosen.arguments

@pytest.mark.slow
@pytest.mark.parametrize('size,arguments,first', [(128,{},64), (120,dict(initial_size=96),96), (96,None,96), (64,None,64), (32,None,32)])
def test_two_features_a_side_remain_at_half_of_full_size_and_otherwise_three(clock, capsys, size, arguments, first):
    learn = auto(size, clock)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)   # in so short a training sizes are skipped
        learn.fit(2)
    assert chosen(learn)==arguments and learn.seen.train[0]==(first,first) and learn.seen.train[-1]==(size,size)
    out = capsys.readouterr().out
    if arguments is None:
        assert "'auto': Stay at full size: a feature of the last convolution covers 32 px, and images should have 3 of these on a side, 96 px." in out
        assert {*learn.seen.train}=={*learn.seen.valid}=={(size,size)}
    else: assert "'auto': `ProgressiveResize(" in out and 'of the time at full size' in out
    if arguments: assert '96 px: the smallest with 3 features on a side at the last convolution)' in out
    if arguments=={}: assert '64 px: half of full size, the smallest tried' in out

class MaskNet(Net):
    "As many pixels of classes as of the image, by the same clock"
    def __init__(self, clock): super().__init__(clock); self.m = mask_model()

def test_masks_start_at_three_quarters(clock, capsys):
    "With half of the size borders are lost; what the user says goes"
    def fitted(cb):
        learn = mask_learner(seg_dls(*aug_transforms()), cb)
        learn.model = MaskNet(clock)
        learn.fit(4)
        return learn
    learn = fitted(ProgressiveResize('auto', increase_by=8))
    assert chosen(learn)==dict(increase_by=8, initial_size=.75) and {*learn.seen.train}=={(48,48),(56,56),(64,64)}
    assert '48 px: three quarters of full size, the smallest tried with targets such as masks' in capsys.readouterr().out
    assert fitted(ProgressiveResize(increase_by=8)).preview_resize(4, show_plot=False).suggested==dict(increase_by=8, initial_size=.75)

def test_full_size_where_small_images_are_no_quicker(clock, capsys):
    learn = auto(128, model=Net(clock, seconds=lambda h, w: 1.))
    learn.fit(2)
    assert chosen(learn) is None and {*learn.seen.train}=={(128,128)}
    assert 'Stay at full size: a batch of 96 px takes 1.00 of the time of one of 128 px' in capsys.readouterr().out

def test_no_smaller_than_it_takes(clock, capsys):
    "Below 96 px a step takes no less time"
    learn = auto(128, model=Net(clock, seconds=lambda h, w: max(.65, h*w/128**2)))
    learn.fit(2)
    assert chosen(learn)==dict(initial_size=.75) and '96 px: smaller images would save little more' in capsys.readouterr().out

@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [dict(increase_by=16), dict(start=.25, finish=.5), dict(increase_mode='epoch', empty_cache=True), dict(resize_valid=False)])
def test_arguments_are_kept(clock, kwargs):
    learn = auto(120, clock, **kwargs)
    learn.fit(4)
    assert chosen(learn)==dict(kwargs, initial_size=96)
    alone = learner(make_dls(*aug_transforms(), size=(120,120)), ProgressiveResize(**chosen(learn)), model=Net())
    alone.fit(4)
    assert learn.seen.train==alone.seen.train and learn.seen.valid==alone.seen.valid

def test_it_trains_as_with_the_call_that_it_prints(clock):
    "To the bit: weights, random numbers and averages of the optimizer are those of a training that measures nothing"
    def trained(cb):
        set_seed(3)
        learn = learner(make_dls(*aug_transforms(), size=(120,120)), cb, model=Net(clock), metrics=accuracy)
        learn.fit(2)
        return [*learn.model.state_dict().values(), *learn.recorder.values[-1], torch.rand(1)]
    for a,b in zip(trained(ProgressiveResize('auto')), trained(ProgressiveResize(96))): assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))

def test_what_it_measures_takes_three_hundredths_of_a_thousand_steps(clock):
    learn = auto(128, clock)
    learn.create_opt()
    before = clock.now
    suggestion = choose(learn, learn.progressive_resize, 4)
    assert suggestion.arguments=={} and clock.now-before<30

def test_steps_of_seconds_are_measured_in_half_a_minute(clock):
    "One step at each size"
    learn = auto(128, model=Net(clock, seconds=lambda h, w: 4*h*w/128**2))
    before = clock.now
    assert choose(learn, learn.progressive_resize, 4).arguments=={} and clock.now-before<30

def test_slow_steps_are_measured_once(clock):
    "Ten seconds a step: one step at full size, and it goes by the defaults"
    learn = auto(128, model=Net(clock, seconds=lambda h, w: 10*h*w/128**2))
    before = clock.now
    suggestion = None
    with pytest.raises(Exception, match='its steps take too long'): choose(learn, learn.progressive_resize, 4)
    assert clock.now-before<=30

def test_the_same_twice(clock): assert chosen_of(auto(128, clock))==chosen_of(auto(128, clock))=={}
def chosen_of(learn):
    learn.fit(1)
    return chosen(learn)

@pytest.mark.slow
def test_a_second_fit_measures_anew_and_a_resumed_one_goes_on(clock, capsys):
    learn = auto(120, clock)
    learn.fit(2)
    assert chosen(learn)==dict(initial_size=96)
    learn.model.seconds = lambda h, w: 1.
    learn.fit(2, start_epoch=1)
    assert chosen(learn)==dict(initial_size=96) and capsys.readouterr().out.count("'auto'")==1
    learn.fit(2)
    assert chosen(learn) is None and learn.seen.train[-8:]==[(120,120)]*8

def test_a_training_of_another_process_is_not_resumed(clock):
    learn = auto(128, clock)
    with pytest.raises(ValueError, match=r"`start_epoch`=1: expected 0 with `ProgressiveResize\('auto'\)`.*pass the `ProgressiveResize\(...\)` that it printed"):
        learn.fit(2, start_epoch=1)
    assert not learn.seen.train

def test_a_frozen_body_stays_at_full_size(clock, capsys):
    learn = auto(128, clock, dls=make_dls(*aug_transforms(), size=(128,128)))
    learn = Learner(learn.dls, Net(clock), loss_func=nn.CrossEntropyLoss(), splitter=lambda m: [params(m.m[:2]), params(m.m[2:])], cbs=[ProgressiveResize('auto'),Seen()])
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(2)
    assert {*learn.seen.train}=={(128,128)} and chosen(learn) is None
    assert capsys.readouterr().out.count('Stay at full size: the body is or was frozen, so it is probably pretrained')==2

def test_silent(clock, capsys):
    learn = auto(128, clock, verbose=False)
    learn.fit(1)
    assert learn.seen.train[0]==(64,64) and capsys.readouterr().out==''

def test_patches(clock):
    "A model of patches of 16 pixels, for any number of them: all sizes are multiples of 16"
    class Patches(Net):
        def __init__(self):
            super().__init__(clock)
            self.m = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2))
    learn = auto(128, model=Patches())
    learn.fit(4)
    assert chosen(learn)==dict(multiple_of=16) and {*learn.seen.train}=={(s,s) for s in (64,80,96,112,128)}

def test_a_model_of_one_size_stays_there(clock, capsys):
    class Fixed(Net):
        def forward(self, x):
            assert x.shape[-1]==128, f'Input height ({x.shape[-1]}) does not match model (128)'
            return super().forward(x)
    learn = auto(128, model=Fixed(clock))
    learn.fit(1)
    assert chosen(learn) is None and {*learn.seen.train}=={(128,128)}
    assert 'Stay at full size: the model cannot take images of [64, 64] (AssertionError: Input height (64) does not match model (128))' in capsys.readouterr().out

def test_what_cannot_be_measured_goes_by_the_defaults(clock, capsys):
    "A training that needs a callback of the user's"
    class Doubled(Callback):
        order = 101
        def before_batch(self): self.learn.xb = (self.x, self.x)
    class Two(Net):
        def forward(self, x, y): return super().forward(x+y)
    learn = auto(128, model=Two(clock), cbs=[Doubled()], increase_by=16)
    learn.fit(2)
    assert learn.seen.train[0]==(64,64) and learn.seen.train[-1]==(128,128)
    out = capsys.readouterr().out
    assert "'auto' could not measure this training, because TypeError" in out and 'It uses `ProgressiveResize(increase_by=16)`.' in out

@pytest.mark.slow
def test_small_items_where_the_model_waits(clock, capsys):
    class Slow(ItemTransform):
        order = 6   # after `ToTensor`
        def encodes(self, x):
            clock.sleep(.1*x[0].shape[-1]**2/128**2)
            return x
    dls = make_dls(*aug_transforms(), size=(160,160), item_tfms=[Resize(128),Slow()])
    learn = auto(128, clock, dls=dls)
    learn.fit(2)
    assert chosen(learn)==dict(resize_items=True) and 'small items save 600 ms per batch at 64 px' in capsys.readouterr().out
    learn = auto(128, clock, dls=dls, resize_items=True)
    learn.fit(2)
    assert chosen(learn)==dict(resize_items=True)

@pytest.mark.slow
@pytest.mark.parametrize('room,n_epoch', [(1e12,4), (1.5e8,4), (1e12,1)])
def test_decoded_items_are_cached_where_epochs_repeat_and_the_disk_has_room(clock, capsys, monkeypatch, tmp_path, room, n_epoch):
    "Decoding takes a tenth of a second at full size, and half of it where it is drafted small, by the clock of the test"
    prepare = ImageFile.load_prepare
    def slow(self):
        clock.sleep(.05+.05*self.size[0]*self.size[1]/512**2)
        return prepare(self)
    monkeypatch.setattr(ImageFile, 'load_prepare', slow)
    monkeypatch.setattr('fastresize.auto.shutil.disk_usage', lambda path: SimpleNamespace(free=room, total=room))
    (tmp_path/'temp').mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path/'temp'))
    files = [tmp_path/f'{i}.jpg' for i in range(32)]
    for i,f in enumerate(files): Image.fromarray(np.random.default_rng(i).integers(0, 255, (512,512,3), dtype=np.uint8)).save(f)
    block = DataBlock((ImageBlock,CategoryBlock), get_y=lambda f: int(f.stem)%2, splitter=IndexSplitter(range(8)), item_tfms=Resize(256))
    learn = auto(clock=clock, model=Net(clock, seconds=lambda h, w: .001*h*w/256**2), dls=block.dataloaders(files, bs=8 if n_epoch>1 else 4, num_workers=0, device='cpu'))
    learn.fit(n_epoch)
    is_cached = n_epoch==4 and room==1e12
    assert chosen(learn)==dict(resize_items=True, **(dict(cache_items=1e8) if is_cached else {}))
    out = capsys.readouterr().out
    assert ('resize_items=True, cache_items=1e8)`' in out and 'more if they are cached, decoded, in up to 0.1 GB on disk' in out)==is_cached
    assert learn.seen.train[0]==(128,128) and learn.seen.train[-1]==(256,256)
    assert not [*(tmp_path/'temp').glob('fastresize-*')]

@pytest.mark.slow
@pytest.mark.parametrize('size,first', [(64,64), (96,96), (128,96)])
def test_a_budget_of_minutes(clock, size, first):
    "By the clock, also where it stays at full size, which the preview did not know; there is time for more than 400 steps"
    learn = auto(size, clock, verbose=False)
    before = clock.now
    learn.fit_minutes(5, fit='fit', n_batch=2, verbose=False)
    assert 200<clock.now-before<=310 and learn.seen.train[0]==(first,first) and learn.seen.train[-1]==(size,size)

def test_a_recipe_beside_it(clock):
    "Values that grow with the size have their last value at full size"
    class Strength(Callback):
        def __init__(self): self.value,self.seen = 0.,[]
        def before_batch(self): self.seen += [self.value]*self.training
    for size in (64,128):
        strength = Strength()
        learn = auto(size, clock, cbs=[strength,GrowWithSize({(Strength,'value'): (0.,1.)})])
        learn.fit(2)
        assert strength.seen[-1]==1. and (strength.seen[0]==1.)==(size==64)
        assert (learn.progressive_resize.schedule is None)==(size==64)

def test_rectangles(clock):
    learn = auto(dls=make_dls(*aug_transforms(), size=(120,160)), clock=clock)
    learn.fit(1)
    assert chosen(learn)==dict(initial_size=.8) and learn.seen.train[0]==(96,128)

def test_plain_loaders(clock):
    learn = auto(dls=torch_dls(size=(128,128)), clock=clock)
    learn.fit(1)
    assert chosen(learn)=={} and learn.seen.train[0]==(64,64)

def test_mistakes():
    with pytest.raises(ValueError, match='`schedule`=.*None with `initial_size`=\'auto\''): ProgressiveResize('auto', schedule=SizeSchedule((64,)))
    with pytest.raises(ValueError, match="`initial_size`='small': expected"): ProgressiveResize('small')
    with pytest.raises(ValueError, match="`initial_size`='auto': expected"): size_schedule(128, 4, initial_size='auto')

def test_lr_find_and_validate_measure_nothing(clock, capsys):
    learn = auto(128, clock)
    learn.lr_find(num_it=3, show_plot=False)
    learn.validate()
    assert capsys.readouterr().out=='' and {*learn.seen.train}=={(128,128)}

def test_a_model_inside_ddp_that_cannot_be_copied_is_restored(tmp_path):
    "It is trained itself, without its wrapper, and has its weights back afterwards"
    import torch.distributed as dist
    from fastresize.auto import shadow_learner
    class Alone(Net):
        def __deepcopy__(self, memo):
            if id(self) in memo: return memo[id(self)]
            raise TypeError('one of a kind')
    dist.init_process_group('gloo', store=dist.FileStore(str(tmp_path/'store'), 1), rank=0, world_size=1)
    try:
        learn = learner(make_dls(), model=nn.parallel.DistributedDataParallel(Alone(n_stride=2)))
        before = [t.clone() for t in learn.model.state_dict().values()]
        with shadow_learner(learn, None) as twin:
            twin.fit(1, 1.)
            assert twin.model is learn.model.module and not all(map(torch.equal, before, twin.model.state_dict().values()))
        assert all(map(torch.equal, before, learn.model.state_dict().values())) and all(p.grad is None for p in learn.model.parameters())
    finally: dist.destroy_process_group()

def test_strides():
    x = torch.rand(2,3,64,96),
    assert conv_strides(Net(), x)==(32,None) and conv_strides(nn.Conv2d(3,4,16,16), x)==(16,16)
    assert {conv_strides(Net(), (torch.rand(2,3,s,s),)) for s in (48,72,100)}=={(32,None)}   # not 24, 24 and 25 by the features that there are
    assert conv_strides(nn.Sequential(nn.Conv2d(3,4,3,2,1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4,4,1)), x)==(2,None)   # as in squeeze-and-excitation
    assert conv_strides(nn.Sequential(Flatten(), nn.Linear(3*64*96,2)), x)==(None,None)
    m = Net().train()
    stats = [t.clone() for t in m.buffers()]
    conv_strides(m, x)
    assert m.training and all(map(torch.equal, m.buffers(), stats)) and not any(o._forward_hooks for o in m.modules())

def test_larger_batches_of_images_that_take_as_long_save_nothing(clock, capsys):
    "A fixed time for each image, whatever its size: four times as many take four times as long"
    class Each(Net):
        def forward(self, x):
            self.clock.sleep(.01*len(x))
            return self.m(x)
    learn = auto(64, dls=make_dls(size=(64,64), bs=4), model=Each(clock, n_stride=2), max_bs=16)
    learn.fit(2)
    assert chosen(learn) is None and 'Stay at full size: a batch of 48 px takes 1.00 of the time' in capsys.readouterr().out

# ---- the rule, by numbers of one's own

def preview(full=128, epochs=8, seconds_per_size=0., small=.3, stride=16, n_batch=100, **kwargs):
    paces = {(full//2,)*2: [0.,small*.1,0.,small*.03], (full,full): [0.,.1,0.,.03]}
    return Preview(Growth().schedule(full, epochs), epochs, (n_batch,20), paces, growth=Growth(), seconds_per_size=seconds_per_size, stride=stride, **kwargs)

@pytest.mark.parametrize('seconds_per_size,sizes', [(0.,17), (.1,17), (.3,5), (.6,3), (1.,2), (9.,2)])
def test_as_many_sizes_as_cost_little(seconds_per_size, sizes):
    s = choose_arguments(preview(seconds_per_size=seconds_per_size), {})
    assert len(s.preview.schedule.sizes)==sizes
    assert (f'{sizes} sizes, because each new size costs' in str(s))==(sizes<17)

@pytest.mark.parametrize('small,dense,multiple_of,reason', [(.3,False,1,'64 px: half of full size, the smallest tried'), (.9,False,1,'96 px: smaller images would save little more'),
                                                             (.3,True,1,'96 px: three quarters of full size, the smallest tried with targets such as masks')])
def test_why_images_do_not_start_smaller(small, dense, multiple_of, reason):
    p = preview(small=small, dense=dense)
    if small==.9: p.paces = {(64,64): [0.,.055,0.,.01], (96,96): [0.,.056,0.,.01], (128,128): [0.,.1,0.,.03]}
    assert reason in str(choose_arguments(p, {}))

@pytest.mark.parametrize('full,multiple_of,arguments', [(160,64,dict(initial_size=128)), (64,32,None), (128,16,dict(initial_size=.75))])
def test_masks_start_at_three_quarters_or_the_next_multiple(full, multiple_of, arguments):
    p = preview(full, dense=True)
    p.growth,p.stride = Growth(multiple_of=multiple_of),1
    s = choose_arguments(p, {})
    assert s.arguments==arguments and (arguments or f'no multiple of {multiple_of} px lies between three quarters of full size' in str(s))

def test_three_quarters_may_be_the_smallest_with_three_features():
    p = preview(128, stride=32)
    p.growth = Growth(multiple_of=32)
    assert '96 px: the smallest with 3 features on a side' in str(choose_arguments(p, {}))

@pytest.mark.parametrize('full,stride,multiple_of,dense,initial,reason', [
    (128,32,48,False,.75,'96 px: the smallest with 2 features on a side at the last convolution'),
    ((128,256),32,1,False,.75,'96×192 px: the smallest with 3 features on a side at the last convolution in trainings of 400 steps and more'),
    (192,32,32,True,160,'160 px: three quarters of full size, rounded up to a multiple of 32 px, the smallest tried with targets such as masks'),
    (112,32,64,False,None,'images should have 3 of these on a side, 96 px; no multiple of 64 px lies between that and full size')])
def test_the_reason_is_true(full, stride, multiple_of, dense, initial, reason):
    p = preview(128, stride=stride, n_batch=50 if isinstance(full, tuple) else 20, dense=dense)
    p.growth,p.schedule = Growth(multiple_of=multiple_of),Growth().schedule(full, 8)
    s = p.schedule.final
    p.paces = {tuple(o//2 for o in s): [0.,.03,0.,.01], s: [0.,.1,0.,.03]}
    found = choose_arguments(p, {})
    assert reason in str(found) and (found.arguments or {}).get('initial_size')==initial

@pytest.mark.parametrize('full,n_batch,arguments,reason', [
    (128,49,{},'64 px: half of full size, the smallest tried'),
    (128,50,dict(initial_size=.75),'96 px: the smallest with 3 features on a side at the last convolution in trainings of 400 steps and more'),
    (127,49,dict(initial_size=96),'96 px: the smallest with 3 features on a side at the last convolution)'),
    (96,49,None,'a feature of the last convolution covers 32 px, and images should have 3 of these on a side, 96 px'),
    (96,50,None,'a feature of the last convolution covers 32 px, and images should have 3 of these on a side, 96 px'),
    (224,1000,{},'112 px: half of full size, the smallest tried')])
def test_how_many_features_a_side_remain(full, n_batch, arguments, reason):
    s = choose_arguments(preview(full, stride=32, n_batch=n_batch), {})
    assert s.arguments==arguments and reason in str(s)

def test_sizes_that_cost_more_than_they_save():
    s = choose_arguments(preview(seconds_per_size=60.), {})
    assert s.arguments is None and s.cost==1

def test_hindsight():
    "By its own clock: small images were no quicker, or not much"
    from types import SimpleNamespace as N
    s = choose_arguments(preview(), {})
    def times(small): return {(64,64): N(seconds=10*small, n_timed=10), (128,128): N(seconds=1., n_timed=10)}
    assert s.hindsight(times(.03)) is None
    assert s.hindsight(times(.095)) is None   # full size is not a twentieth quicker
    assert s.hindsight(times(.15))=='By the measured batch times, this training took 1.28 of the time at full size; full size would have been faster.'
    assert s.hindsight({(64,64): N(seconds=1., n_timed=10)}) is None

# ---- compiled models

def n_compiled(): return len(torch._dynamo.utils.compilation_time_metrics.get('_compile.compile_inner', ()))

class Compiled(Callback):
    "Writes down how often has been compiled before each step and after each validation"
    order = 99
    def __init__(self): self.n = []
    def before_step(self): self.n.append(n_compiled())
    def after_validate(self): self.n.append(n_compiled())

@pytest.mark.slow
@pytest.mark.parametrize('kwargs,increase_by,n', [(dict(backend='aot_eager'),16,84), (dict(mode='reduce-overhead'),32,80)])
def test_nothing_is_compiled_after_the_first_step(kwargs, increase_by, n):
    "Also where the last validation batch has fewer images"
    torch._dynamo.reset()
    cb = Compiled()
    learn = learner(make_dls(*aug_transforms(), size=(64,64), n=n), ProgressiveResize(increase_by=increase_by), cb, model=torch.compile(Net(n_stride=1), **kwargs))
    learn.fit(3)
    assert {*learn.seen.train}=={(s,s) for s in range(32, 65, increase_by)} and len({*cb.n})==1

@pytest.mark.slow
def test_few_sizes_for_a_compiled_model(monkeypatch):
    "'auto' takes two sizes, compiled before the first step, because each costs more than a tenth of so short a training"
    monkeypatch.setattr('fastresize.prediction._min_speedup', 0)   # whatever it saves on this machine
    torch._dynamo.reset()
    cb = Compiled()
    learn = auto(model=torch.compile(Net(n_stride=3), backend='aot_eager'), dls=make_dls(*aug_transforms(), size=(64,64), n=84), cbs=[cb])
    learn.fit(3)
    assert len({*cb.n})==1 and len({*learn.seen.train})==2 and 'increase_by' in chosen(learn)

def test_images_that_cannot_be_collated_are_trained_with_the_defaults(capsys):
    class Sizes(torch.utils.data.Dataset):
        def __len__(self): return 16
        def __getitem__(self, i): return torch.rand(3, 64+8*(i%3), 64),i%2
    dls = DataLoaders(*(torch.utils.data.DataLoader(Sizes(), batch_size=1) for _ in range(2)))
    learner(dls, ProgressiveResize('auto'), model=pooled()).fit(2)
    assert "'auto' could not measure this training" in capsys.readouterr().out

def pooled(): return nn.Sequential(nn.Conv2d(3,8,3,2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2))

def test_images_in_a_list_are_measured(capsys):
    class Sizes(torch.utils.data.Dataset):
        def __len__(self): return 16
        def __getitem__(self, i): return torch.rand(3, 128+8*(i%3), 128),i%2
    class OneByOne(nn.Module):
        def __init__(self): super().__init__(); self.m = pooled()
        def forward(self, xs): return torch.cat([self.m(x[None]) for x in xs])
    def collate(items): return [x for x,_ in items],torch.tensor([y for _,y in items])
    dls = DataLoaders(*(torch.utils.data.DataLoader(Sizes(), batch_size=8, collate_fn=collate) for _ in range(2)))
    learn = Learner(dls, OneByOne(), loss_func=nn.CrossEntropyLoss(), cbs=ProgressiveResize('auto', final_size=128))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    said = capsys.readouterr().out
    assert "'auto'" in said and 'could not measure' not in said

def test_a_compiled_model_with_one_size_ends_well():
    learn = learner(make_dls(), ProgressiveResize(increase_mode='epoch'), model=torch.compile(small_model(), backend='eager'))
    learn.fit(1)
    assert learn.seen.train==[(64,64)]*8 and learn.progressive_resize.training_run is None

def test_images_of_a_single_patch_stay_at_full_size(capsys):
    patches = nn.Sequential(nn.Conv2d(3,8,16,16), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2))
    learn = learner(make_dls(size=(16,16)), ProgressiveResize('auto'), model=patches)
    learn.fit(1)
    assert {*learn.seen.train}=={(16,16)} and 'a single patch of the model' in capsys.readouterr().out

class ByName(Learner):
    "Splits batches that are dicts"
    def _split(self, b): self.xb,self.yb = (b['img'],),(b['y'],)

def dict_dls(n=80): return DataLoaders(*[torch.utils.data.DataLoader([dict(img=torch.rand(3,64,64), y=i%2) for i in range(k)], batch_size=8) for k in (n,n//4)])

def test_a_learner_that_splits_batches_in_its_own_way_is_measured(capsys):
    learn = ByName(dict_dls(), small_model(), loss_func=nn.CrossEntropyLoss())
    with learn.no_bar(): assert learn.preview_resize(4, show_plot=False).speedup>0
    with learn.no_bar(), learn.no_logging(): learn.fit(4, cbs=ProgressiveResize('auto'))
    assert 'could not measure' not in capsys.readouterr().out

def test_a_frozen_body_of_another_learner_does_not_count(capsys):
    cb = ProgressiveResize('auto')
    def new(): return Learner(make_dls(*aug_transforms()), small_model(), loss_func=nn.CrossEntropyLoss(), splitter=lambda m: [params(m[:4]),params(m[4:])])
    first,second = new(),new()
    first.freeze()
    for learn in (first,second):
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=cb)
    assert capsys.readouterr().out.count('the body is or was frozen')==1
    first.unfreeze()
    with first.no_bar(), first.no_logging(): first.fit(1, cbs=cb)
    assert 'the body is or was frozen' in capsys.readouterr().out

def test_a_step_of_the_users_own_trains_nothing_when_it_is_measured(clock):
    class Two(Learner):
        def _do_one_batch(self):
            super()._do_one_batch()
            if self.training: self.critic.data += 1
    learn = Two(make_dls(*aug_transforms()), Net(clock), loss_func=nn.CrossEntropyLoss())
    learn.critic = nn.Parameter(torch.zeros(1))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=ProgressiveResize('auto'))
    assert learn.critic==8

def test_a_frozen_body_counts_inside_a_wrapper(clock, capsys):
    from fastai.distributed import ParallelTrainer
    learn = Learner(make_dls(*aug_transforms(), size=(128,128)), Net(clock), loss_func=nn.CrossEntropyLoss(), splitter=lambda m: [params(m.m[:2]),params(m.m[2:])],
                    cbs=[ProgressiveResize('auto'),ParallelTrainer([])])
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(1)
    assert capsys.readouterr().out.count('the body is or was frozen')==2

@pytest.mark.parametrize('n_epoch,n,bs', [(2,8,8), (1,16,8), (3,8,8)])
def test_too_few_batches_to_grow(clock, capsys, n_epoch, n, bs):
    learn = auto(128, clock, dls=make_dls(*aug_transforms(), size=(128,128), n=n*5//4, bs=bs))
    learn.fit(n_epoch)
    assert {*learn.seen.train}=={(128,128)} and chosen(learn) is None
    assert 'Stay at full size: the training has too few batches to grow to full size.' in capsys.readouterr().out

def test_a_finish_of_the_user_is_kept(clock):
    learn = auto(128, clock, finish=1.)
    learn.fit(4)
    assert chosen(learn)['finish']==1. and learn.seen.train[0]==(64,64)
