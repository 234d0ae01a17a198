"Wrong arguments fail in the first second, by name; what merely surprises is said"
import warnings
import pytest
from util import *

nan = float('nan')
at_once = [ # arguments, and words of the message
    (dict(start=0.8, finish=0.5),           '`start`=0.8: expected less than `finish`=0.5'),
    (dict(start=0.5, finish=0.5),           '`start`=0.5: expected less than `finish`=0.5'),
    (dict(start=5, finish=3),               '`start`=5: expected less than `finish`=3'),
    (dict(start=-0.1),                      '`start`=-0.1: expected a fraction of training between 0 and 1, or an int for an epoch'),
    (dict(finish=1.5),                      '`finish`=1.5: expected a fraction'),
    (dict(start=nan),                       '`start`=nan: expected a fraction'),
    (dict(finish=nan),                      '`finish`=nan: expected a fraction'),
    (dict(start=-1),                        '`start`=-1: expected an epoch, counted from 0'),
    (dict(start='early'),                   "`start`='early': expected a fraction"),
    (dict(start=None),                      '`start`=None: expected a fraction'),
    (dict(initial_size=0),                  '`initial_size`=0: expected a fraction between 0 and 1, or pixels'),
    (dict(initial_size=0.),                 '`initial_size`=0.0: expected a fraction between 0 and 1'),
    (dict(initial_size=1.),                 '`initial_size`=1.0: expected a fraction between 0 and 1'),
    (dict(initial_size=2.),                 '`initial_size`=2.0: expected a fraction between 0 and 1'),
    (dict(initial_size=nan),                '`initial_size`=nan: expected a fraction'),
    (dict(initial_size=(.5,.5)),            '`initial_size`=(0.5, 0.5): expected a fraction between 0 and 1, or pixels below the final size, as an int or a pair (height, width)'),
    (dict(initial_size=1),                  '`initial_size`=1: expected a fraction between 0 and 1, or pixels below the final size, as an int or a pair (height, width); 1 is in pixels'),
    (dict(initial_size='atuo'),             "`initial_size`='atuo': expected a fraction between 0 and 1, or pixels below the final size, as an int or a pair (height, width), or 'auto' in a callback, which has a model to measure"),
    (dict(initial_size=-32),                '`initial_size`=-32: expected a fraction between 0 and 1, or pixels'),
    (dict(initial_size='half'),             "`initial_size`='half': expected"),
    (dict(initial_size=(32,)),              '`initial_size`=(32,): expected'),
    (dict(initial_size=(32,32,32)),         '`initial_size`=(32, 32, 32): expected'),
    (dict(initial_size=96, final_size=64),  '`initial_size`=96: expected a fraction between 0 and 1, or pixels below the final size [64, 64]'),
    (dict(increase_by=0),                   '`increase_by`=0: expected an int above 0'),
    (dict(increase_by=-4),                  '`increase_by`=-4: expected an int above 0'),
    (dict(increase_by=4.5),                 '`increase_by`=4.5: expected an int above 0'),
    (dict(increase_by=True),                '`increase_by`=True: expected an int above 0'),
    (dict(increase_mode='step'),            "`increase_mode`='step': expected IncreaseMode.Batch ('batch') or IncreaseMode.Epoch ('epoch')"),
    (dict(resize_mode='blurry'),            "`resize_mode`='blurry': expected one of nearest, nearest-exact, bilinear, bicubic, area"),
    (dict(final_size=(64,)),                '`final_size`=(64,): expected a positive int or a pair'),
    (dict(final_size=0),                    '`final_size`=0: expected a positive int'),
    (dict(preallocate_bs=0),                '`preallocate_bs`=0: expected an int above 0'),
    (dict(preallocate_bs=2.5),              '`preallocate_bs`=2.5: expected an int above 0'),
    (dict(final_size=64, schedule=SizeSchedule((32,64), (0.5,))), '`final_size`=64: expected None with `schedule`'),
    (dict(empty_cache=True),                '`empty_cache`=True: expected False in Batch mode'),
]

@pytest.mark.parametrize('kwargs,words', at_once, ids=range(len(at_once)))
def test_at_construction(kwargs, words):
    with pytest.raises(ValueError) as e: ProgressiveResize(**kwargs)
    assert words in str(e.value)

def steered(): return make_dls(*aug_transforms())
def steered_masks(): return seg_dls(*aug_transforms())
def steered_points(): return point_dls(*aug_transforms())

before_the_first_batch = [ # loaders, arguments, words
    (steered,        dict(initial_size=64),      '`initial_size`=64: expected a fraction between 0 and 1, or pixels below the final size [64, 64]'),
    (steered,        dict(initial_size=(32,96)), '`initial_size`=(32, 96): expected'),
    (steered,        dict(start=3, finish=0.5),  '`start`=3: expected less than `finish`=0.5 (epoch 3 and 2 of 4; an int is an epoch, a float is a fraction of the training)'),
    (steered,        dict(resize_mode='area'),   "`resize_mode`='area': expected one of bilinear, nearest, bicubic (the modes of `grid_sample`), or `add_resize=True`"),
    (steered,        dict(initial_size=2),       'the model cannot take images of [2, 2]'),
    (seg_dls,        dict(increase_by=8, resize_targ=False),        '`resize_targ`=False: the targets keep their size, and with images of [32, 32] the loss raised'),
    (steered_masks,  dict(method='crop', resize_targ=False),        '`resize_targ`=False: the targets keep their size'),
    (steered_points, dict(method='crop', resize_targ=False),        "`resize_targ`=False: expected None or True with `method`='crop', so that `TensorPoint` follows"),
]

class SplitResize(ItemTransform):
    "Validation pictures of another size"
    split_idx = 1
    def encodes(self, o): return (PILImage.create(np.array(o[0])[:48,:48]),*o[1:])

def vector_dls():
    ds = torch.utils.data.TensorDataset(torch.rand(16,7), torch.arange(16)%2)
    return DataLoaders(*(torch.utils.data.DataLoader(ds, batch_size=8) for _ in range(2)))

@pytest.mark.parametrize('make,kwargs,words', before_the_first_batch, ids=range(len(before_the_first_batch)))
def test_before_the_first_batch(make, kwargs, words):
    make_learner = mask_learner if 'targets keep' in words else learner
    learn = make_learner(make(), ProgressiveResize(**kwargs))
    with pytest.raises(ValueError) as e: learn.fit(4)
    assert words in str(e.value)
    assert learn.seen.steps == 0

def test_other_modes_work_in_interpolate():
    for mode in ('area','nearest-exact'):
        learn = learner(torch_dls(), ProgressiveResize(increase_by=8, resize_mode=mode))
        learn.fit(4)
        assert learn.seen.train == due(32)

@pytest.mark.parametrize('tfms', [aug_transforms(), []])
def test_valid_of_another_size_gets_its_share_or_is_left_alone(tfms):
    learn = learner(make_dls(*tfms, item_tfms=SplitResize()), ProgressiveResize(increase_by=8, resize_valid=False))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert set(learn.seen.valid) == {(48,48)}
    learn = learner(make_dls(*tfms, item_tfms=SplitResize()), ProgressiveResize(increase_by=8))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert learn.seen.valid == [(s*3//4,)*2 for s,_ in due(32)[7::8] for _ in range(2)]

def test_no_image_is_said_and_the_training_goes_on():
    learn = Learner(vector_dls(), nn.Linear(7,2), loss_func=nn.CrossEntropyLoss(), cbs=ProgressiveResize())
    words = 'no image among the inputs.*(N, C, H, W).*`pictures`'
    with pytest.warns(UserWarning, match=words), learn.no_bar(), learn.no_logging(): learn.fit(2)
    assert len(learn.recorder.losses)==4

def test_targets_may_be_asked_to_follow_where_they_do_anyway():
    learn = mask_learner(seg_dls(*aug_transforms()), ProgressiveResize(increase_by=8, resize_targ=True))
    learn.fit(4)
    assert learn.seen.train == due(32) and learn.seen.targs[:8] == [(32,32)]*8

def test_plain_words_for_the_mode():
    for mode in ('batch','epoch'): assert ProgressiveResize(increase_mode=mode).increase_mode == IncreaseMode(mode)

surprises = [ # epochs, arguments, the size of the last batch, words
    (2, dict(start=2, finish=4),                        32, '`start`=2 and `finish`=4: in 2 epochs of 8 batches the training stays at the size [32, 32] and never reaches [64, 64]'),
    (2, dict(start=1, finish=4),                        40, 'the training ends with the size [40, 40] and never reaches [64, 64]'),
    (1, dict(start=0.5, finish=1.0),                    56, 'in 1 epoch of 8 batches the training ends with the size [56, 56]'),
    (2, dict(start=1, finish=2, increase_mode='epoch'), 32, 'the training stays at the size [32, 32]'),
]

@pytest.mark.parametrize('n,kwargs,last,words', surprises, ids=range(len(surprises)))
def test_never_reaching_full_size_is_said(n, kwargs, last, words):
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, **kwargs))
    with pytest.warns(UserWarning) as w: learn.fit(n)
    assert [words in str(o.message) for o in w].count(True) == 1
    assert learn.seen.train[-1] == (last,last)

@pytest.mark.parametrize('kwargs', [dict(start=50, finish=75),dict(start=3, finish=4)], ids=str)
def test_epochs_that_the_training_does_not_have_are_refused(kwargs):
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(**kwargs))
    with pytest.raises(ValueError, match=f'`start`={kwargs["start"]}: expected at most 2 for 2 epochs of training, or a fraction of it between 0 and 1'): learn.fit(2)
    assert not learn.seen.train

def test_the_first_phase_of_fine_tune_may_be_too_short():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(start=2, finish=3, increase_by=8), splitter=lambda m: [params(m[0]),params(m[1:])])
    with pytest.warns(UserWarning, match='in 1 epoch of 8 batches the training stays'): learn.fine_tune(4)
    assert {*learn.seen.train[:8]}=={(32,32)} and learn.seen.train[-1]==(64,64)

def test_more_growths_than_batches():
    "8 batches, 16 growths: sizes are skipped, full size still comes at finish, and it is said once"
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=2))
    with pytest.warns(UserWarning) as w: learn.fit(1)
    assert learn.seen.train == due(8, by=2) and learn.seen.train[6:] == [(64,64)]*2
    said = [str(o.message) for o in w if 'growths' in str(o.message)]
    assert len(said)==1 and '`increase_by`=2 makes 16 growths, but there are batches for only 3 of them; the other sizes are skipped, which is harmless; `increase_by`=11 avoids it' in said[0]

def test_a_normal_training_warns_of_nothing():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        learn.fit(4)

class FixedFeatures(nn.Module):
    def __init__(self): super().__init__(); self.body,self.head = nn.Sequential(nn.Conv2d(3,4,8,8), nn.ReLU(), Flatten()),nn.Linear(4*8*8,2)
    def forward(self, x): return self.head(self.body(x))

class Patches(nn.Module):
    "A ViT's first layers: patches of 16, and a position embedding of a fixed length"
    def __init__(self):
        super().__init__()
        self.patch,self.head = nn.Conv2d(3,8,16,16),nn.Linear(8,2)
        self.pos = nn.Parameter(torch.zeros(1,16,8))
    def forward(self, x): return self.head((self.patch(x).flatten(2).transpose(1,2) + self.pos).mean(1))

def shrinking():
    body = [l for i in range(5) for l in (nn.Conv2d(4 if i else 3,4,3,2), nn.ReLU())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(4,2))

@pytest.mark.parametrize('model,where', [
    (FixedFeatures, 'head (Linear) raised RuntimeError'),
    (Patches,       'the model (Patches) raised RuntimeError'),
    (shrinking,     '8 (Conv2d) raised RuntimeError')])
def test_a_model_that_cannot_take_a_size(model, where):
    model = model()
    before = {k: v.clone() for k,v in model.state_dict().items()}
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(initial_size=32, increase_by=16), model=model)
    with pytest.raises(ValueError) as e: learn.fit(4)
    assert 'the model cannot take images of [32, 32], the smallest scheduled size that fails: '+where in str(e.value)
    for help in ('Adaptive pooling', '`increase_by=16`', 'dynamic_img_size=True', 'larger `initial_size`'): assert help in str(e.value)
    assert all(torch.equal(v, before[k]) for k,v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert learn.seen.steps == 0

def test_the_smallest_failing_size_is_not_always_the_first():
    class Odd(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x):
            if x.shape[-1]==48: raise RuntimeError('not this one')
            return self.m(x)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=Odd())
    with pytest.raises(ValueError, match=r'images of \[48, 48\].*the model \(Odd\) raised RuntimeError: not this one'): learn.fit(4)

def test_a_model_that_fails_at_full_size_fails_as_without_the_callback():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=nn.Conv2d(1,2,3))
    with pytest.raises(RuntimeError, match='expected input'): learn.fit(4)

def test_dry_run_out_of_memory():
    class Greedy(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x):
            if len(x)==8 and x.shape[-1]==64: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 9 GiB.')
            return self.m(x)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=Greedy())
    with pytest.raises(torch.OutOfMemoryError) as e: learn.fit(4)
    assert 'a batch of 8 images of [64, 64] does not fit into memory (CUDA out of memory)' in str(e.value)
    assert 'smaller batch size' in str(e.value)

@pytest.mark.parametrize('kwargs', [{}, dict(final_size=64)])
def test_iterable_dataset_loses_no_item(kwargs):
    class Stream(torch.utils.data.IterableDataset):
        def __init__(self): self.given = []
        def __iter__(self):
            for i in range(64):
                self.given.append(i)
                yield torch.rand(3,64,64),i%2
        def __len__(self): return 64
    d = DataLoaders(*(torch.utils.data.DataLoader(Stream(), batch_size=8) for _ in range(2)))
    learn = learner(d, ProgressiveResize(increase_by=8, **kwargs))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert d.train.dataset.given == list(range(64))*4

def test_two_callbacks_are_one_too_many():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize())
    with pytest.raises(ValueError, match='`cbs`: found more than one `ProgressiveResize`: expected one, on the learner or in'): learn.fit(1, cbs=ProgressiveResize())

def test_no_batches_is_said():
    learn = learner(make_dls(*aug_transforms(), bs=500), ProgressiveResize())
    with pytest.warns(UserWarning, match='the training loader gives no batches'): learn.fit(1)

def test_dry_run_of_no_more_images_than_there_are():
    sizes = []
    class Watch(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x): sizes.append(len(x)); return self.m(x)
    learn = learner(torch_dls(bs=10_000), ProgressiveResize(increase_by=32), model=Watch())
    learn.fit(2)
    assert max(sizes)==64

def test_warnings_name_the_schedule_that_was_given():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=SizeSchedule((32,64), (1.5,))))
    with pytest.warns(UserWarning, match='`schedule`: in 2 epochs of 8 batches the training stays at the size'): learn.fit(2)

@pytest.mark.parametrize('name,value', [('initial_size',16), ('start',.25), ('finish',.9), ('increase_by',8), ('increase_mode','epoch'), ('multiple_of',16)])
def test_arguments_that_a_schedule_would_ignore_are_refused(name, value):
    with pytest.raises(ValueError, match=f'`{name}`=.*the default, .* with `schedule`'): ProgressiveResize(schedule=size_schedule(64, 4), **{name: value})

@pytest.mark.parametrize('name,value', [('pictures',1.5), ('pictures',[.5]), ('resize_targ',{1.5: True})])
def test_names_of_another_type_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f'`{name}`='): ProgressiveResize(**{name: value})

@pytest.mark.parametrize('name,value', [('method','croop'), ('mode','bilinar')])
def test_show_sizes_names_its_argument(name, value):
    with pytest.raises(ValueError, match=f'`{name}`=.{value}.: expected one of'): show_sizes(make_dls(*aug_transforms()), **{name: value})

def test_a_schedule_may_empty_the_cache(): assert ProgressiveResize(schedule=size_schedule(64, 4), empty_cache=True).empty_cache
