"Every batch has the size that the schedule names, on every kind of pipeline"
import pytest
from util import *

norm = Normalize.from_stats(*imagenet_stats)
pipelines = {
    'affine':            lambda: make_dls(*aug_transforms(), norm),
    'affine with size':  lambda: make_dls(*aug_transforms(size=64), norm, item_tfms=Resize(80)),
    'crop':              lambda: make_dls(RandomResizedCropGPU(64, min_scale=0.5), norm, item_tfms=Resize(80)),
    'flip, then crop':   lambda: make_dls(*aug_transforms(size=64, min_scale=0.35), item_tfms=Resize(80)),
    'affine, then crop': lambda: make_dls(AffineCoordTfm(size=72), RandomResizedCropGPU(64, min_scale=0.5), item_tfms=Resize(80)),
    'crop, then affine': lambda: make_dls(RandomResizedCropGPU(72, min_scale=0.5), AffineCoordTfm(size=64), item_tfms=Resize(80)),
    'no transform':      lambda: make_dls(),
    'no size transform': lambda: make_dls(norm, Brightness()),
    'plain torch':       lambda: torch_dls(),
    'workers':           lambda: make_dls(*aug_transforms(), workers=2),
}

def sizes_of(dls):
    fs = getattr(getattr(dls.train, 'after_batch', None), 'fs', ())
    return [(type(f).__name__, f.size, f.mode) for f in fs if hasattr(f, 'size')]

@pytest.mark.parametrize('name', pipelines)
@pytest.mark.parametrize('resize_valid', [True,False])
def test_batch_mode(name, resize_valid):
    dls = pipelines[name]()
    before = sizes_of(dls)
    learn = learner(dls, ProgressiveResize(increase_by=8, resize_valid=resize_valid, resize_mode='nearest'))
    learn.fit(4)
    assert learn.seen.train == due(32)
    last = [learn.seen.train[8*e+7] for e in range(4)]
    assert learn.seen.valid == [s if resize_valid else (64,64) for s in last for _ in range(2)]
    assert sizes_of(dls) == before
    assert tuple(next(iter(dls.train))[0].shape[-2:]) == (64,64)

@pytest.mark.slow
@pytest.mark.parametrize('name', pipelines)
def test_epoch_mode(name):
    learn = learner(pipelines[name](), ProgressiveResize(increase_by=8, increase_mode=IncreaseMode.Epoch))
    learn.fit(8) # between epochs 4 and 6: two growths of 16
    expected = [(s,s) for s in (32,32,32,32,32,48,64,64) for _ in range(8)]
    assert learn.seen.train == expected
    assert learn.seen.valid == [s for s in expected[::8] for _ in range(2)]

@pytest.mark.slow
@pytest.mark.parametrize('epochs,n,by', [(1,80,8), (1,200,8), (3,70,8), (5,120,4), (7,90,1)])
def test_on_time_whatever_the_number_of_batches(epochs, n, by):
    dls = make_dls(*aug_transforms(), n=n)
    learn = learner(dls, ProgressiveResize(increase_by=by))
    learn.fit(epochs)
    assert learn.seen.train == due(epochs*len(dls.train), by=by)

def test_size_follows_pct_train_exactly():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    learn.fit(3)
    s = learn.progressive_resize.schedule
    assert learn.seen.train == [s.size_at(p) for p in learn.seen.pcts]

@pytest.mark.parametrize('size', [64, None])
def test_masks_follow(size):
    learn = mask_learner(seg_dls(*aug_transforms(size=size)), ProgressiveResize(increase_by=8))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert learn.seen.targs == [s for e in range(4) for s in learn.seen.train[8*e:8*e+8] + learn.seen.valid[2*e:2*e+2]]

def test_masks_follow_on_the_fallback():
    learn = mask_learner(seg_dls(), ProgressiveResize(increase_by=8, resize_targ=True))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert learn.seen.targs[:8] == [(32,32)]*8

def test_points_follow():
    learn = learner(point_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=small_model(6), loss_func=MSELossFlat())
    learn.fit(4)
    assert learn.seen.train == due(32)

def test_a_crop_that_loses_points_is_said_and_fails_as_it_does_without():
    def fit(*cbs): learner(point_dls(*aug_transforms(size=64, min_scale=0.5)), *cbs, model=small_model(6), loss_func=MSELossFlat()).fit(1)
    said,fails = '`RandomResizedCropGPU` in `batch_tfms` drops points','must match the size'
    with pytest.raises(RuntimeError, match=fails): fit()
    with pytest.warns(UserWarning, match=said), pytest.raises(RuntimeError, match=fails): fit(ProgressiveResize())

def test_steering_adds_no_interpolation(monkeypatch):
    import fastresize.backends as p
    called,real = [],p.resize_with
    monkeypatch.setattr(p, 'resize_with', lambda *a, **k: (called.append(1), real(*a, **k))[1])
    learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8)).fit(1)
    assert called == []
    learner(make_dls(), ProgressiveResize(increase_by=8)).fit(1)
    assert called

def test_steered_batch_is_what_the_transform_itself_would_give():
    "Same seed, same pictures: a steered batch has the bits of one from a transform that was made with that size"
    a,b = make_dls(*aug_transforms()),make_dls(*aug_transforms(size=32))
    from fastresize.transforms import Steer
    def batch(dl):
        dl.rng = random.Random(0)
        set_seed(0)
        return dl.one_batch()[0]
    with Steer(a.train).at((32,32)): x = batch(a.train)
    assert torch.equal(x, batch(b.train))

def test_add_resize_beside_transforms():
    class Watch(Transform):
        order,sizes = 40,set()
        def encodes(self, x:TensorImage): self.sizes.add(tuple(x.shape[-2:])); return x
    learn = learner(make_dls(*aug_transforms(), Watch()), ProgressiveResize(increase_by=8, add_resize=True))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert Watch.sizes == {(64,64)} # the transforms themselves are left alone

@pytest.mark.parametrize('make', [lambda: make_dls(*aug_transforms()), torch_dls])
def test_final_size_wins_and_is_put_back(make):
    dls = make()
    learn = learner(dls, ProgressiveResize(final_size=48, increase_by=8))
    learn.fit(4)
    assert learn.seen.train == due(32, final=48, initial=24)
    assert learn.seen.valid[-1] == (48,48)
    assert tuple(next(iter(dls.train))[0].shape[-2:]) == (64,64)

def test_final_size_larger_than_the_images_warns():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(final_size=96, increase_by=16))
    words = r'`final_size`=\[96, 96\] is larger than the images of the loaders, \[64, 64\]'
    with pytest.warns(UserWarning, match=words): learn.fit(4)
    assert learn.seen.train == due(32, final=96, initial=48, by=16)

def test_rectangles():
    learn = learner(make_dls(*aug_transforms(), size=(48,64)), ProgressiveResize(increase_by=8))
    learn.fit(4)
    assert learn.seen.train == [(s*3//4,s) for s,_ in due(32)]

def test_a_transform_that_has_the_last_word_gets_an_extra_resize():
    class Enlarge(Transform):
        order = 40
        def encodes(self, x:TensorImage): return TensorImage(F.interpolate(x, (64,64)))
    learn = learner(make_dls(*aug_transforms(), Enlarge()), ProgressiveResize(increase_by=8))
    with pytest.warns(UserWarning, match=r'`batch_tfms` give \[64, 64\] instead of \[32, 32\]'): learn.fit(4)
    assert learn.seen.train == due(32)

def test_current_size_and_schedule():
    class Watch(Callback):
        order = 101
        def before_fit(self): self.sizes = []
        def before_batch(self): self.sizes.append(self.progressive_resize.current_size == tuple(self.x.shape[-2:]))
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), Watch())
    learn.fit(4)
    assert all(learn.watch.sizes) and len(learn.watch.sizes)==40
    assert learn.progressive_resize.schedule == size_schedule(64, 4, increase_by=8)

@pytest.mark.slow
def test_one_callback_serves_fits_of_any_length_and_other_learners():
    cb = ProgressiveResize(increase_by=8)
    learn = learner(make_dls(*aug_transforms()), cb)
    for n in (4,2,4):
        learn.seen.clear()
        learn.fit(n)
        assert learn.seen.train == due(8*n)
    learn.remove_cb(cb)
    other = learner(make_dls(*aug_transforms(), size=(96,96)), cb)
    other.fit(2)
    assert other.seen.train == due(16, final=96, initial=48)
    assert (cb.initial_size, cb.start, cb.finish, cb.increase_by, cb.final_size) == (0.5, 0.5, 0.75, 8, None)

def test_multiples_where_validation_pictures_have_another_size():
    "Steered by a transform without a size of its own, which makes a share of what it is given"
    block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: picture(i, (160,160) if i>=32 else (112,112)), get_y=lambda i: i%2,
                      splitter=IndexSplitter(range(32,40)), batch_tfms=aug_transforms())
    learn = learner(block.dataloaders(range(40), bs=8, num_workers=0, device='cpu'), ProgressiveResize(increase_by=16, multiple_of=16, verbose=False))
    learn.fit(4)
    assert learn.seen.valid[-1]==(160,160) and len({*learn.seen.valid})>2 and all(h%16==0 for h,_ in learn.seen.train+learn.seen.valid)
