"Schedules from shares of the compute, and trainings that fit into a time"
import pytest
from util import *
from fastresize.preview import Preview
import fastresize.recipes

# ---- shares of the compute

@pytest.mark.parametrize('cost', [None, [1.,2.,3.5], lambda s: s[0]+10])
def test_each_stage_has_its_share(cost):
    sizes,shares = (96,160,224),(.2,.4,.4)
    s = SizeSchedule.from_compute(sizes, shares, cost)
    batches = [h for e in range(10) for h,_ in s.sizes_of(e, 10, 1000)]
    each = dict(zip(sizes, [h**2 for h in sizes] if cost is None else [cost((h,h)) for h in sizes] if callable(cost) else cost))
    spent = np.array([batches.count(h)*each[h] for h in sizes])
    assert spent/spent.sum()==pytest.approx(shares, abs=1e-3) and s.sizes==((96,96),(160,160),(224,224))

def test_equal_shares_and_rectangles():
    s = SizeSchedule.from_compute([(32,48),(64,96)])
    assert s.pcts==(pytest.approx(.8),) and SizeSchedule.from_compute([64]).pcts==()

def test_it_trains():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=SizeSchedule.from_compute((32,64), (.2,.8)), verbose=False))
    learn.fit(4)
    assert [h for h,_ in learn.seen.train]==[32]*16 + [64]*16

@pytest.mark.parametrize('args,words', [
    (([],), '`sizes`=.*one size or more'), ((64,), '`sizes`=64: expected a list'), (([64,32],), '`sizes`=.*never shrink'), (([32,32],), 'each larger than the one before'),
    (([0,32],), '`sizes`=0'), (([32,64],[.5]), '`shares`=.*2 numbers above 0'), (([32,64],[.5,.6]), 'whose sum is 1'), (([32,64],[0.,1.]), '`shares`=.*above 0'),
    (([32,64],None,[1.]), '`cost`=.*2 numbers above 0'), (([32,64],None,lambda s: None), '`cost`='), (([32,64],'ab'), '`shares`=.*a list')])
def test_shares_that_make_none(args, words):
    with pytest.raises(ValueError, match=words): SizeSchedule.from_compute(*args)

# ---- so many minutes

def by_hand(**kwargs):
    "32 px for half of the epochs: 8 batches of a tenth of a second, else of four tenths"
    return Preview(SizeSchedule((32,64), (0.5,)), 4, (8,2), {(32,32): [0.,.1,0.,0.], (64,64): [0.,.4,0.,0.]}, **kwargs)

def test_how_many_fit():
    p = by_hand().within(1)
    assert (p.n_epoch,p.n_full)==(30,18) and p.minutes==1   # 2 s and 3.2 s an epoch
    assert str(p).startswith('Into 1 minute fit 30 epochs progressively, 18 at full size. 30 epochs would take 60 s instead of 96 s')
    assert by_hand(begins=20.).within(1).n_epoch==20 and 'none at full size' in str(by_hand().within(2.4/60 + .01))
    assert by_hand().within(1, 20.).n_epoch==20 and by_hand().within(1, 20.).n_full==12
    with pytest.raises(ValueError, match='`minutes`=1: expected at least 1.1, which measuring and 1 epoch would take'): by_hand().within(1, 62.)
    assert p.seconds<=60<p.lasting(p.n_epoch+1).seconds
    with pytest.raises(ValueError, match='`minutes`=0.01: expected at least 0.0'): by_hand().within(.01)

def test_a_preview_of_minutes():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    p = learn.preview_resize(minutes=.5, n_batch=2, show_plot=False)
    assert p.n_full>0 and p.schedule.final==(64,64) and 'progressively' in str(p)
    assert p.seconds<=30<p.begins + p.lasting(p.n_epoch+1).seconds   # as many as fit
    p = learn.preview_resize(minutes=.5, n_batch=2, show_plot=False, start=2, finish=6)
    assert p.schedule.pcts[-1]==pytest.approx(6/p.n_epoch)
    for bad in (0, -1, 'ten', float('nan')):
        with pytest.raises(ValueError, match='`minutes`=.*expected a number above 0'): learn.preview_resize(minutes=bad)
    with pytest.raises(ValueError, match='`n_epoch`=3: expected None beside `minutes`'): learn.preview_resize(3, minutes=1)
    with pytest.raises(ValueError, match='`n_epoch`=None: expected an int above 0'): learn.preview_resize()

def test_a_longer_budget_is_measured_longer(monkeypatch):
    calls,measure = [],fastresize.preview._measure
    monkeypatch.setattr(fastresize.preview, '_measure', lambda *args: calls.append(args[2]) or measure(*args))
    learn = learner(make_dls(item_tfms=Resize(64)), ProgressiveResize(increase_by=8))
    p = learn.preview_resize(4, n_batch=1, show_plot=False, try_items=False)
    assert p.with_items is None and calls==[(32,32),(48,48),(64,64),(64,64),(48,48),(32,32),(32,32),(48,48),(64,64)]
    calls.clear()
    assert learn.preview_resize(4, n_batch=1, show_plot=False).with_items and len(calls)==15   # and those with small items
    start = time.perf_counter()
    learn.preview_resize(minutes=.5, n_batch=1, show_plot=False, try_items=False)
    assert time.perf_counter()-start>=1.5   # a twentieth

class SlowNet(nn.Module):
    "A step takes 10 ms at 64 px"
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x):
        time.sleep(.01*x.shape[-1]**2/64**2)
        return self.m(x)

def test_the_epochs_that_fit_are_trained():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, verbose=False), model=SlowNet())
    p = learn.fit_minutes(.2, 1e-3, verbose=False)
    assert len(learn.recorder.values)==p.n_epoch>0 and p.seconds<=12 and {*learn.seen.train}<={*due(1000)}
    full = learner(make_dls(*aug_transforms()), model=SlowNet())
    p = full.fit_minutes(.15, fit='fit', verbose=False)
    assert len(full.recorder.values)==p.n_full>0 and {*full.seen.train}=={(64,64)}

def test_a_time_that_is_too_short():
    for cbs in ([], [ProgressiveResize(increase_by=8, verbose=False)]):
        learn = learner(make_dls(*aug_transforms()), *cbs)
        with pytest.raises(ValueError, match='`minutes`=0.0001: expected at least'): learn.fit_minutes(.0001)
        assert learn.seen.steps==0
    for fit in ('nothing','fit_fixres'):
        with pytest.raises(ValueError, match='`fit`='): learn.fit_minutes(1, fit=fit)
    with pytest.raises(ValueError, match='`minutes`=0: expected a number above 0'): learn.fit_minutes(0)
