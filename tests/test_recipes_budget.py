"Schedules from shares of the compute, and trainings that fit into a time"
import pytest
from util import *
from fastresize.prediction import Preview
from fastresize.schedule import Growth
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
    p = by_hand().fit_into(1)
    assert (p.n_epoch,p.n_full)==(30,18) and p.minutes==1   # 2 s and 3.2 s an epoch
    assert str(p).startswith('In 1 minute there is time for 30 epochs progressively, or 18 at full size. 30 epochs would take 60 s instead of 96 s')
    assert by_hand(begins=20.).fit_into(1).n_epoch==20 and 'none at full size' in str(by_hand().fit_into(2.4/60 + .01))
    assert by_hand().fit_into(1, 20.).n_epoch==20 and by_hand().fit_into(1, 20.).n_full==12
    with pytest.raises(ValueError, match='`minutes`=1: expected at least 1.1, the time for measuring and 1 epoch'): by_hand().fit_into(1, 62.)
    assert p.seconds<=60<p.with_epochs(p.n_epoch+1).seconds
    with pytest.raises(ValueError, match='`minutes`=0.01: expected at least 0.0'): by_hand().fit_into(.01)

@pytest.mark.slow
def test_a_preview_of_minutes():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    p = learn.preview_resize(minutes=.5, n_batch=2, show_plot=False)
    assert p.n_full>0 and p.schedule.final==(64,64) and 'progressively' in str(p)
    assert p.seconds<=30<p.begins + p.with_epochs(p.n_epoch+1).seconds   # as many as fit
    p = learn.preview_resize(minutes=.5, n_batch=2, show_plot=False, start=2, finish=6)
    assert p.schedule.pcts[-1]==pytest.approx(6/p.n_epoch)
    for bad in (0, -1, 'ten', float('nan')):
        with pytest.raises(ValueError, match='`minutes`=.*expected a number above 0'): learn.preview_resize(minutes=bad)
    with pytest.raises(ValueError, match='`n_epoch`=3: expected None with `minutes`'): learn.preview_resize(3, minutes=1)
    with pytest.raises(ValueError, match='`n_epoch`=None: expected an int above 0'): learn.preview_resize()

class SlowNet(nn.Module):
    "A batch takes 10 ms at 64 px"
    def __init__(self, clock): super().__init__(); self.clock,self.m = clock,small_model()
    def forward(self, x):
        self.clock.sleep(.01*x.shape[-1]**2/64**2)
        return self.m(x)

@pytest.mark.slow
def test_a_longer_budget_is_measured_longer(monkeypatch, clock):
    calls,measure = [],fastresize.preview._measure
    monkeypatch.setattr(fastresize.preview, '_measure', lambda *args: calls.append(args[2]) or measure(*args))
    learn = learner(make_dls(item_tfms=Resize(64)), ProgressiveResize(increase_by=8), model=SlowNet(clock))
    p = learn.preview_resize(4, n_batch=1, show_plot=False, try_items=False)
    assert p.with_items is None and calls==[(32,32),(48,48),(64,64),(64,64),(48,48),(32,32),(32,32),(48,48),(64,64)]
    calls.clear()
    assert learn.preview_resize(4, n_batch=1, show_plot=False).with_items and len(calls)==15   # and those with small items
    calls.clear()
    start = clock.now
    learn.preview_resize(minutes=.2, n_batch=1, show_plot=False, try_items=False)
    assert .6<=clock.now-start<.8 and len(calls)>9   # a twentieth, and what is left of a round

@pytest.mark.slow
def test_the_epochs_that_fit_are_trained(clock):
    "Those that the preview names, in the time that was given: by a clock that is always as fast"
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, verbose=False), model=SlowNet(clock))
    p = learn.fit_minutes(.0205, 1e-3, verbose=False)
    assert len(learn.recorder.values)==learn.n_epoch==p.n_epoch>p.n_full>0 and p.seconds<=1.23 and {*learn.seen.train}<={*due(1000)}
    assert 1.1<clock.now<=1.23
    full,start = learner(make_dls(*aug_transforms()), model=SlowNet(clock)),clock.now
    p = full.fit_minutes(.02, fit='fit', verbose=False)
    assert len(full.recorder.values)==full.n_epoch==p.n_full>0 and {*full.seen.train}=={(64,64)} and 1.08<clock.now-start<=1.2

@pytest.mark.slow
def test_a_time_that_is_too_short():
    for cbs in ([], [ProgressiveResize(increase_by=8, verbose=False)]):
        learn = learner(make_dls(*aug_transforms()), *cbs)
        with pytest.raises(ValueError, match='`minutes`=0.0001: expected at least'): learn.fit_minutes(.0001)
        assert learn.seen.steps==0
    for fit in ('nothing','fit_fixres'):
        with pytest.raises(ValueError, match='`fit`='): learn.fit_minutes(1, fit=fit)
    with pytest.raises(ValueError, match='`minutes`=0: expected a number above 0'): learn.fit_minutes(0)

# ---- a machine that is not always as fast

cost = {(32,32): .1, (64,64): .4}   # Seconds of a batch, by its pixels in between

class Passing(Callback):
    "Seconds that pass with each batch, `slower(share of the budget)` times as many as expected"
    order = 90
    def __init__(self, budget, slower): self.now,self.began,self.budget,self.slower,self.longest,self.logged = 0.,0.,budget,slower,0.,[]
    def time(self): return self.now
    def before_epoch(self): self.began = self.now
    def before_batch(self):
        if self.training and hasattr(self.learn, 'progressive_resize'): self.logged.append(self.progressive_resize.current_size)
    def after_batch(self): self.now += .4*(self.x[0,0].numel()/64**2)*self.slower(self.now/self.budget)
    def after_epoch(self): self.longest = max(self.longest, self.now-self.began)

def in_time(monkeypatch, slower, budget=30., n=20, cbs=(), fit='fit', **kwargs):
    "A fit into `budget` seconds by such a clock, expected by a preview that knows the cost of batches"
    clock,cb = Passing(budget, slower),ProgressiveResize(**{**({} if 'schedule' in kwargs else {'increase_by': 8}), 'verbose': False, **kwargs})
    learn = learner(make_dls(n=n), *L(cb), clock, *cbs)
    growth = None if cb.user_schedule else cb.growth
    s = cb.user_schedule or growth.schedule((64,64), 20)
    paces = {k: [0.,v,0.,v] for k,v in cost.items()}
    larger = (len(learn.dls.train_ds),8,cb.max_bs,True) if cb.max_bs else None
    expected = Preview(s, 20, tuple(map(len, learn.dls.loaders)), paces, cb.resize_valid, growth=growth, larger=larger)
    monkeypatch.setattr(Learner, 'preview_resize', lambda self, minutes, **kwargs: expected.fit_into(minutes))
    monkeypatch.setattr(fastresize.recipes, 'perf_counter', clock.time)
    in_time.n = expected.fit_into(budget/60).n_epoch
    return learn,clock,lambda **kwargs: learn.fit_minutes(budget/60, 1e-3, fit=fit, verbose=False, **kwargs)

speeds = {'as expected': lambda t: 1, 'slower': lambda t: 1.5, 'faster': lambda t: .6, 'slower at the end': lambda t: 1+(t>.7),
          'faster at the end': lambda t: 1-.5*(t>.7), 'now and then': lambda t: 1+.8*(int(20*t)%2)}

@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [{}, dict(increase_mode='epoch'), dict(start=2, finish=6), dict(resize_valid=False), dict(max_bs=32),
                                    dict(schedule=SizeSchedule((32,48,64), (.3,.6)))], ids=str)
@pytest.mark.parametrize('speed', speeds)
def test_a_training_takes_its_time(monkeypatch, speed, kwargs):
    learn,clock,fit = in_time(monkeypatch, speeds[speed], **kwargs)
    p = fit()
    assert abs(clock.now-30)<=1.2*clock.longest and len(learn.recorder.values)==learn.n_epoch   # to about an epoch
    assert (learn.n_epoch<p.n_epoch if speed=='slower' else learn.n_epoch>p.n_epoch if speed=='faster' else True)
    sizes = learn.seen.train
    assert sizes==sorted(sizes) and sizes[0]==(32,32) and sizes[-1]==(64,64) and sizes==clock.logged
    assert learn.pct_train==pytest.approx(1) and '_do_fit' not in vars(learn)
    if kwargs.get('increase_mode')=='epoch': assert all(a==b for a,b in zip(sizes[::2], sizes[1::2]))

def test_what_is_done_once_is_no_pace(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, lambda t: 20 if t==0 else 1)   # the first batch, as with a dry run or compiling
    p = fit()
    assert abs(clock.now-30)<=1.2*clock.longest and .8*p.n_epoch<learn.n_epoch<=p.n_epoch and learn.seen.train[-1]==(64,64)

def test_no_longer_than_there_is_a_schedule(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['faster'], finish=12)   # before which half of 24 epochs are not over
    p = fit()
    assert p.n_epoch==learn.n_epoch==23 and learn.seen.train[-1]==(64,64)

class Mine(ProgressiveResize): "Known to its learner by another name"

@pytest.mark.parametrize('given', [True,False])
def test_a_callback_of_ones_own_or_of_the_fit(monkeypatch, given):
    learn,clock,fit = in_time(monkeypatch, speeds['slower'])
    learn.remove_cb(ProgressiveResize)
    mine = Mine(increase_by=8, verbose=False)
    if not given: learn.add_cb(mine)
    p = fit(cbs=mine) if given else fit()
    assert abs(clock.now-30)<=1.2*clock.longest and len(learn.recorder.values)==learn.n_epoch<p.n_epoch
    assert learn.seen.train==sorted(learn.seen.train) and learn.seen.train[-1]==(64,64) and learn.seen.train.count((64,64))<len(learn.seen.train)/2

def test_frozen_at_full_size(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['as expected'], frozen=False)
    learn.splitter = lambda m: [params(m[:1]), params(m[1:])]
    learn.freeze_to(1)
    fit()
    assert {*learn.seen.train}=={(64,64)} and abs(clock.now-30)<=2*clock.longest

def test_only_sizes_that_were_tried(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['faster'], increase_mode='epoch', increase_by=2)
    fit()
    assert {*learn.seen.train}<={*Growth(increase_mode='epoch', increase_by=2).schedule((64,64), in_time.n).sizes}

def test_at_full_size_too(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['slower'])
    learn.remove_cb(ProgressiveResize)
    p = fit()
    assert abs(clock.now-30)<=clock.longest and learn.n_epoch==len(learn.recorder.values)<p.n_full and {*learn.seen.train}=={(64,64)}

@pytest.mark.slow
@pytest.mark.parametrize('fit', ['fine_tune','fit_one_cycle','fit_flat_cos'])
def test_other_ways_to_fit(monkeypatch, fit):
    learn,clock,run = in_time(monkeypatch, speeds['slower at the end'], fit=fit)
    run()
    assert abs(clock.now-30)<=2*clock.longest and learn.seen.train[-1]==(64,64) and learn.pct_train==pytest.approx(1)

def test_epochs_that_are_skipped_take_no_time(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['as expected'])
    p = fit(start_epoch=5)
    assert learn.n_epoch==p.n_epoch or abs(clock.now-30)<=clock.longest

class AtEpoch(Callback):
    order = 200
    def __init__(self, n, f): self.n,self.f = n,f
    def after_epoch(self):
        if self.epoch==self.n: self.f(self.learn)

def fail(learn): raise KeyboardInterrupt

def test_an_interrupt_leaves_nothing(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['slower'], cbs=[AtEpoch(3, fail)])
    with pytest.raises(KeyboardInterrupt): fit()
    assert '_do_fit' not in vars(learn)
    learn.remove_cb(AtEpoch)
    learn.fit(4)
    assert len(learn.recorder.values)==4

def test_what_is_exported_in_the_middle_is_in_no_hurry(monkeypatch, tmp_path):
    learn,clock,fit = in_time(monkeypatch, speeds['slower'], cbs=[AtEpoch(3, lambda learn: None)])
    learn.path = tmp_path
    learn.at_epoch.f = partial(Learner.export, fname='mid.pkl')
    fit()
    loaded = load_learner(tmp_path/'mid.pkl')
    monkeypatch.undo()
    loaded.remove_cbs([Passing,AtEpoch])
    loaded.dls = make_dls(n=20)
    loaded.fit(2)
    assert len(loaded.recorder.values)==2

def test_the_bar_has_the_new_length(monkeypatch):
    learn,clock,fit = in_time(monkeypatch, speeds['slower'])
    totals = []
    learn.add_cb(ProgressCallback())
    learn.add_cb(AtEpoch(10, lambda learn: totals.append(learn.progress.mbar.main_bar.total)))
    p = fit()
    assert learn.n_epoch<=totals[0]<p.n_epoch

def test_what_it_came_to_is_said(monkeypatch, capsys):
    learn,clock,fit = in_time(monkeypatch, speeds['slower'])
    p = learn.fit_minutes(.5, fit='fit')
    assert capsys.readouterr().out.splitlines()[-2:]==[f'{p.n_epoch} epochs will fit.', f'The training had {learn.n_epoch} epochs.']

@pytest.mark.parametrize('kwargs,words', [(dict(pct_strat=.1), '`pct_strat`=0.1: expected an argument of `fit_one_cycle`'), (dict(lr='1e-3'), "`lr`='1e-3': expected a number")])
def test_mistakes_are_found_before_measuring(kwargs, words):
    with pytest.raises(ValueError, match=words): learner(make_dls()).fit_minutes(.05, **kwargs)
