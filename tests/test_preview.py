"A preview predicts by what it measures, shows what the model sees, and leaves no trace"
import itertools
import matplotlib
matplotlib.use('agg')
import pytest
from util import *
from fastresize.auto import pace as _pace
from fastresize.prediction import Preview

def preview(learn, n_epoch=4, **kwargs): return learn.preview_resize(n_epoch, n_batch=2, show_plot=False, **kwargs)

def endless():
    "Loaders whose items are gone when they have been looked at"
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self): return iter([(torch.rand(3,64,64), 0)]*16)
        def __len__(self): return 16
    return DataLoaders(*[torch.utils.data.DataLoader(Stream(), batch_size=8) for _ in range(2)])

def by_hand(**kwargs):
    "4 epochs of 8 batches: 16 at 32 px, 8 that grow, 8 at 64 px"
    paces = {(32,32): [1.,0.1,0.5,0.01], (64,64): [3.,0.4,0.7,0.04]}
    return Preview(SizeSchedule((32,64), (0.5,)), 4, (8,2), paces, **kwargs)

def test_the_sum():
    p = by_hand()
    assert p.full_seconds==pytest.approx(4*(3 + 8*0.4 + 0.7 + 2*0.04))
    assert p.seconds==pytest.approx(2*(1 + 8*0.1 + 0.5 + 2*0.01) + 2*(3 + 8*0.4 + 0.7 + 2*0.04))
    assert p.speedup==pytest.approx(p.full_seconds/p.seconds) and p.cost==pytest.approx(1/p.speedup)
    assert list(p.to_df()['size'])==['32','64'] and p.to_df().share_pct.sum()==pytest.approx(100)

def test_sizes_that_repeat_begin_once():
    p = Preview(SizeSchedule((64,64,128), (.25,.75)), 8, (10,2), {(64,64): [0.,.03,0.,.01], (128,128): [0.,.1,0.,.03]})
    assert p.to_df()[['from_epoch','size']].values.tolist()==[[0.,'64'],[6.,'128']]

def test_validation_at_full_size():
    assert by_hand(resize_valid=False).seconds==pytest.approx(by_hand().seconds + 2*(0.7+2*0.04 - 0.5-2*0.01))

def test_between_two_sizes_by_pixels():
    assert by_hand().pace((48,48))[1]==pytest.approx(0.1 + 0.3*(48**2-32**2)/(64**2-32**2))

def test_a_steady_loader_is_not_charged_for_its_beginning():
    assert _pace([0.,5.,6.,7.,8.,9.], 2)==pytest.approx((4.,1.))
    assert _pace([0.,2.], 5)==pytest.approx((0.,2.)) and _pace([0.], 1)==(0.,0.)

pipelines = {
    'steered':       lambda: learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8)),
    'no callback':   lambda: learner(make_dls(*aug_transforms())),
    'extra resize':  lambda: learner(make_dls(), ProgressiveResize(increase_by=8)),
    'lowpass':       lambda: learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, method='lowpass')),
    'plain torch':   lambda: learner(torch_dls(), ProgressiveResize(increase_by=8)),
    'workers':       lambda: learner(make_dls(*aug_transforms(), workers=2), ProgressiveResize(increase_by=8)),
    'mixup':         lambda: learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), MixUp(),
                                     loss_func=CrossEntropyLossFlat()),
    'masks':         lambda: mask_learner(seg_dls(*aug_transforms()), ProgressiveResize(increase_by=8)),
    'rectangle':     lambda: learner(make_dls(*aug_transforms(), size=(48,64)), ProgressiveResize(increase_by=8)),
}

@pytest.mark.slow
@pytest.mark.parametrize('name', pipelines)
def test_every_pipeline(name):
    learn = pipelines[name]()
    p = preview(learn)
    assert p.speedup>0 and np.isfinite(p.seconds) and len(p.paces)==3
    assert [*p.paces][0]==p.schedule.initial and [*p.paces][-1]==p.schedule.final==((48,64) if name=='rectangle' else (64,64))
    assert len(learn.seen.train)==0  # the user's own callbacks take no part

@pytest.mark.slow
def test_no_trace():
    learn = trained(metrics=accuracy)
    learn.add_cb(ProgressiveResize(increase_by=8))
    before,attrs,cb_attrs = state(learn),{k: v for k,v in learn.__dict__.items() if k!='dls'},dict(learn.progressive_resize.__dict__)
    values,sizes = [*learn.recorder.values],[(f,f.size,f.mode) for f in learn.dls.train.after_batch.fs if hasattr(f, 'size')]
    preview(learn)
    assert same(before, state(learn))
    assert {k: v for k,v in learn.__dict__.items() if k!='dls'}==attrs and learn.progressive_resize.__dict__==cb_attrs
    assert learn.recorder.values==values and [(f,f.size,f.mode) for f,_,_ in sizes]==sizes
    assert all(cb.learn is learn for cb in learn.cbs)

@pytest.mark.slow
def test_a_training_after_it_is_the_same():
    def losses(look):
        set_seed(1)
        learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, verbose=False))
        if look: preview(learn)
        learn.fit(2)
        return learn.recorder.losses
    assert torch.equal(torch.stack(losses(False)), torch.stack(losses(True)))

def test_it_forgets_after_a_failure_too():
    class Fails(nn.Module):
        def __init__(self): super().__init__(); self.m,self.n = small_model(),0
        def forward(self, x):
            self.n += torch.is_grad_enabled()
            if self.n>3: raise RuntimeError('tired')
            return self.m(x)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, preallocate=False), model=Fails())
    learn.create_opt()
    before = state(learn)
    with pytest.raises(RuntimeError, match='tired'): preview(learn)
    assert same(before, state(learn))

def test_nothing_is_written(tmp_path, capsys):
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), CSVLogger(), SaveModelCallback(), path=tmp_path)
    preview(learn)
    assert [*tmp_path.iterdir()]==[] and capsys.readouterr().out==''

@pytest.mark.slow
def test_other_arguments_than_the_learners():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    p = preview(learn, initial_size=16, increase_mode='epoch')
    assert p.schedule.initial==(16,16) and learn.progressive_resize.initial_size==0.5
    p = preview(learn, resize_valid=False)
    assert len(p.schedule.sizes)==5 and not p.resize_valid  # `increase_by=8` is still the learner's own
    given = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=SizeSchedule((48,64), (0.5,))))
    assert preview(given, resize_valid=False).schedule.sizes==((48,48),(64,64))

class Sizes(Callback):
    "Keeps what its copies see, too"
    order,seen = 99,[]
    def before_batch(self): self.seen.append((tuple(self.x.shape[-2:]), self.training))

def test_it_rehearses_each_of_three_sizes_in_turn_with_callbacks_that_are_asked_for(clock):
    class Ticks(Sizes):
        def after_batch(self): clock.sleep(.01)
    Sizes.seen.clear()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    preview(learn, cbs=Ticks())
    assert [h for (h,_),_ in itertools.groupby(s for s,train in Sizes.seen if train)]==\
        [32,48,64, 32,48, 32, 64,48,32, 48,64, 32,48]  # as it is, with small items; backwards; once more: 48 and 32 twice in a row
    assert {s for s,t in Sizes.seen if not t}=={(32,32),(48,48),(64,64)}
    assert all(cb.learn is learn for cb in learn.cbs)

def test_the_mode_below_full_size_is_that_of_the_callback():
    modes = []
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16, resize_mode='nearest'))
    tfm = next(f for f in learn.dls.train.after_batch.fs if isinstance(f, AffineCoordTfm))
    was,encode = tfm.mode,type(tfm).before_call
    def spy(self, *args, **kwargs):
        modes.append((self.size, self.mode))
        return encode(self, *args, **kwargs)
    try:
        type(tfm).before_call = spy
        preview(learn)
    finally: type(tfm).before_call = encode
    assert ((32,32),'nearest') in modes and ((32,32),was) not in modes and tfm.mode==was

def test_a_built_optimizer_keeps_its_averages():
    model = small_model()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, verbose=False), model=model,
                    opt_func=OptimWrapper(opt=torch.optim.Adam(model.parameters(), lr=1e-3)))
    learn.fit(1)
    def averages(): return [learn.opt.opt.state[p]['exp_avg'].clone() for p in model.parameters()],learn.opt.hypers
    before = averages()
    assert before[0][0].abs().sum()>0
    preview(learn)
    assert same(before, averages())

def test_callbacks_of_functions_and_of_predictions_stay_out():
    calls = []
    cbs = ProgressiveResize(increase_by=8),FetchPredsCallback(),before_batch_cb(lambda cb: calls.append(cb))
    learn = learner(make_dls(*aug_transforms()), *cbs)
    preview(learn)
    assert calls==[]

def test_nothing_holds_on_to_an_optimizer():
    import gc
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    gc.collect()
    n = sum(isinstance(o, Optimizer) for o in gc.get_objects())
    gc.disable()
    try: preview(learn)
    finally: gc.enable()
    assert sum(isinstance(o, Optimizer) for o in gc.get_objects())==n

def test_mistakes():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    for k in (0, 1.5, None):
        with pytest.raises(ValueError, match='`n_epoch`=.*expected an int above 0'): learn.preview_resize(k)
    with pytest.raises(ValueError, match='gives no batches'): preview(learner(make_dls(*aug_transforms(), bs=100)))
    with pytest.raises(ValueError, match='expected a loader whose items can be read again'): preview(learner(endless()))
    with pytest.raises(ValueError, match='expected a loader over a dataset with a length'):
        show_sizes(endless(), SizeSchedule((32,64), (0.5,)))
    with pytest.raises(ValueError, match='`n_batch`=0: expected an int above 0'): learn.preview_resize(4, n_batch=0)
    with pytest.raises(ValueError, match='`start`=0.9: expected less than'): learn.preview_resize(4, start=0.9, finish=0.5)
    fixed = learner(make_dls(*aug_transforms()), model=nn.Sequential(nn.Conv2d(3,4,3,4), Flatten(), nn.Linear(4*16*16,2)))
    with pytest.raises(ValueError, match='the model cannot take images of'): preview(fixed)

def test_a_schedule_without_growth():
    p = preview(learner(make_dls(*aug_transforms())), n_epoch=1, increase_mode='epoch')
    assert p.speedup==1 and len(p.paces)==1

def test_table_and_plot():
    p = by_hand()
    assert str(p).startswith('4 epochs would take') and 'instead of 28 s at full size' in str(p) and 'Measured at 32, 64 px' in str(p)
    assert '| 2 | 64 | 400 |' in p._repr_markdown_()
    a,b = p.plot()
    assert a.get_ylabel()=='image size (px)' and b.get_ylabel()=='training (ms/batch)' and b.lines[1].get_ydata()==pytest.approx([100,400])

@pytest.mark.parametrize('name', ['steered','extra resize','plain torch','rectangle'])
def test_show_sizes(name):
    learn = pipelines[name]()
    final = (48,64) if name=='rectangle' else (64,64)
    rng = torch.get_rng_state()
    axs = show_sizes(learn.dls, size_schedule(final, 20, increase_by=4), n=2, n_size=4)
    shown = [[tuple(ax.images[0].get_array().shape) for ax in row] for row in axs]
    sizes = [size_schedule(final, 20, increase_by=4).sizes[i] for i in (0,3,5,8)]
    assert shown==[[(*s,3) for s in sizes]]*2
    assert axs[0,0].get_title()==('24×32 px' if name=='rectangle' else '32 px') and torch.equal(rng, torch.get_rng_state())

@pytest.mark.parametrize('channels', [1,2,4])
def test_show_sizes_of_other_channels(channels):
    dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8,channels,64,64), torch.zeros(8)), batch_size=4)
    axs = show_sizes(DataLoaders(dl, dl), SizeSchedule((32,64), (0.5,)), n=2, method='lowpass')
    assert [ax.images[0].get_array().shape for ax in axs[0]]==[(32,32,3),(64,64,3)]

def test_show_sizes_makes_the_same_random_choices():
    axs = show_sizes(make_dls(Rotate(p=1, max_deg=90), Normalize.from_stats(*imagenet_stats)), SizeSchedule((32,64), (0.5,)), n=2)
    for small,large in axs:
        a,b = (torch.tensor(np.asarray(ax.images[0].get_array())).permute(2,0,1)[None] for ax in (small,large))
        assert (F.interpolate(b, 32, mode='bilinear', antialias=True)-a).abs().mean()<0.1 and 0<=a.min()<a.max()<=1

def test_show_sizes_of_batches_of_other_kinds():
    x,dl = torch.rand(3,32,32),torch.utils.data.DataLoader
    in_list = dict(collate_fn=lambda b: ([o for o,_ in b],torch.zeros(len(b))))
    kinds = dict(keys=dl([{'x':x,'y':0}]*8, 4), clips=dl([(torch.rand(5,3,32,32),0)]*8, 4), images_in_a_list=dl([(x,0)]*8, 4, **in_list), no_labels=dl([x]*8, 4))
    for name,o in kinds.items():
        axs = show_sizes(o, n=2, n_size=3)
        assert [a.images[0].get_array().shape for a in axs[0]]==[(16,16,3),(24,24,3),(32,32,3)], name

def test_show_sizes_without_images():
    dl = torch.utils.data.DataLoader([(torch.rand(5),0)]*8, 4)
    for schedule in (None,size_schedule(32,2)):
        with pytest.raises(ValueError, match='expected a loader of images'): show_sizes(dl, schedule)

def test_show_sizes_of_no_schedule():
    with pytest.raises(ValueError, match="`schedule`='x': expected a `SizeSchedule`"): show_sizes(make_dls(), 'x')

def test_the_verdict_where_it_would_not_pay():
    paces = {(32,32): [0.,0.09,0.,0.], (64,64): [0.,0.1,0.,0.]}
    def of(paces, *pcts, **kwargs): return Preview(SizeSchedule((32,64), pcts), 4, (8,0), paces, **kwargs)
    slow = of(paces, .5)
    assert str(slow).endswith('95% of the time, 1.05 times as fast. Measured at 32, 64 px. Progressive resizing does not pay off here: a batch of 32 px takes 0.90 of the time of one of 64 px.')
    cheap = {**paces, (32,32): [0.,0.02,0.,0.]}
    assert of(cheap, .05).verdict==' Progressive resizing does not pay off here: too little of the training is below full size.'
    slow_valid = {(32,32): [0.,.3,0.,.9], (64,64): [0.,1.,0.,1.]}
    valid = Preview(SizeSchedule((32,64), (.5,)), 4, (2,100), slow_valid, resize_valid=False)
    assert re.match(r' Progressive resizing does not pay off here: only \d% of the time is spent on training batches\.$', valid.verdict)
    assert of(cheap, .5).verdict=='' and of(paces, .5, with_items=of(cheap, .5)).verdict==''

def test_larger_batches_are_in_the_prediction():
    from fastresize.prediction import Preview
    s = SizeSchedule((32,64), (.5,))
    paces = {(32,32): [0.,.1,0.,0.], (64,64): [0.,.1,0.,0.]}
    plain,larger = [Preview(s, 2, (8,0), paces, larger=o) for o in (None, (64,8,32,False))]
    assert plain.seconds==pytest.approx(1.6) and larger.seconds==pytest.approx(.1*(2+8)) and larger.full_seconds==pytest.approx(1.6)
    assert '1.60 times as fast' in str(larger) and 'does not pay' not in str(larger)

def test_a_preview_with_larger_batches_measures_them():
    counts = set()
    class Model(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x):
            if self.training: counts.add((len(x),x.shape[-1]))
            return self.m(x)
    learn = learner(make_dls(*aug_transforms(), n=160), model=Model())
    p = learn.preview_resize(4, n_batch=1, show_plot=False, max_bs=32, increase_by=8, try_sizes=False, preallocate=False)
    assert {(32,32),(8,64)}<=counts and p.larger==(128,8,32,True)
    assert len(p.sizes_of(0))==4 and len(p.at_full_size().sizes_of(0))==16

def test_noise_suggests_nothing():
    "Batches of 48 px that come out quicker than those of 32 are no reason to train at 48"
    paces = {(s,s): [0.,t,0.,0.] for s,t in ((32,.1),(48,.086),(64,.1))}
    def of(**kwargs): return Preview(Growth().schedule(64, 8), 8, (8,0), paces, growth=Growth(), **kwargs)
    noisy = of(arguments={})
    assert noisy.suggested is None and str(noisy).endswith(' Progressive resizing does not pay off here: a batch of 32 px takes 1.00 of the time of one of 64 px. Stay at full size.')

def test_noise_at_small_sizes_does_not_make_full_size_slower():
    "What is suggested takes the share of the time that was predicted for it"
    def of(t, **kwargs): return Preview(Growth(increase_by=16).schedule(64, 8), 8, (8,0), {(32,32): [0.,t,0.,0.], (64,64): [0.,.1,0.,0.]}, growth=Growth(increase_by=16), arguments=dict(increase_by=16), **kwargs)
    items = of(.05)
    p = of(.13, with_items=items)
    assert p.suggested==dict(increase_by=16, resize_items=True) and p.suggestion.cost==pytest.approx(items.cost, rel=.02)

def test_a_preview_warns_of_nothing():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        preview(learn)

def test_sizes_are_shown_without_a_schedule():
    "As on the front page: those of `ProgressiveResize()`"
    axs = show_sizes(make_dls(*aug_transforms()))
    assert [a.get_title() for a in axs[0]]==['32 px','40 px','44 px','52 px','56 px','64 px'] and len(axs)==3
    with pytest.raises(ValueError, match='`schedule`=64: expected a `SizeSchedule`, or None'): show_sizes(make_dls(), 64)

def test_it_ends_in_time(clock):
    "A model of a second a batch: one round of runs, each cut short, not three of them"
    class Slow(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x): clock.sleep(1); return self.m(x)
    learn = learner(make_dls(*aug_transforms(), n=200), ProgressiveResize(increase_by=8, try_sizes=False, preallocate=False), model=Slow())
    before = clock()
    p = learn.preview_resize(100, n_batch=40, show_plot=False)
    assert clock()-before<=5*2*8 and p.pace((64,64))[1]==pytest.approx(1)
    before = clock()
    learn.preview_resize(4, n_batch=2, show_plot=False)   # a short training: what there is time for
    assert clock()-before<=5*2*8

def test_the_call_to_write():
    paces = {(32,32): [0.,0.02,0.,0.], (64,64): [0.,0.1,0.,0.]}
    def of(paces=paces, **kwargs): return Preview(SizeSchedule((32,64), (.5,)), 4, (8,0), paces, **kwargs)
    assert of().advice=='' and of().suggested=={}   # who made it by hand knows what it is of
    p = of(arguments=dict(increase_by=8, increase_mode=IncreaseMode.Epoch))
    assert " Suggested: `ProgressiveResize(increase_by=8, increase_mode='epoch')`, about 0.60 of the time at full size." in str(p)
    items = of({**paces, (32,32): [0.,0.01,0.,0.]})
    p = of(with_items=items, arguments={})
    assert p.suggested==dict(resize_items=True) and str(p).endswith(' Suggested: `ProgressiveResize(resize_items=True)`, about 0.55 of the time at full size (small items save 10 ms per batch at 32 px).')
    flat = of({**paces, (32,32): [0.,0.1,0.,0.]}, arguments=dict(increase_by=8))
    assert flat.suggested is None and str(flat).endswith(' Stay at full size.')

@pytest.mark.slow
def test_what_was_tried_is_suggested():
    "The learner's own arguments and those of the call, but not what says nothing about the training"
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, verbose=False, schedule=None))
    assert preview(learn, initial_size=16).arguments==dict(increase_by=8, initial_size=16)
    given = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=SizeSchedule((16,64), (0.9,))))
    assert [*preview(given).arguments]==['schedule']

@pytest.mark.parametrize('size,kwargs', [(16,{}), (18,{}), (32,dict(initial_size=.75)), (64,dict(initial_size=.9)), (64,dict(multiple_of=32, increase_by=32))])
def test_a_preview_of_images_that_hardly_grow_is_drawn(size, kwargs):
    learner(make_dls(size=(size,size))).preview_resize(4, n_batch=1, try_items=False, **kwargs)

def test_a_preview_without_images_is_refused_in_words():
    x,y = torch.rand(80,5),torch.arange(80)%2
    load = lambda s: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[s],y[s]), 8)
    with pytest.raises(ValueError, match='`dls.train`: no image among the inputs'): learner(DataLoaders(load(slice(64)), load(slice(64,80))), model=nn.Linear(5,2)).preview_resize(4)
