"Callbacks that keep the best epoch compare those of full size: with metrics that only get worse, and that only get better"
from fastai.callback.tracker import *
from util import *

class Numbered(Callback):
    "Writes the number of the epoch into the model"
    def before_epoch(self): self.model.number.fill_(self.epoch)

def worse(preds, targs): return worse.learn.epoch + 0.
def better(preds, targs): return -worse(preds, targs)

def run(*cbs, n_epoch=8, fits=1, lr=1e-3, path='.', fit={}, **kwargs):
    "8 epochs of 8 batches, small in the first 4, at full size from epoch 6 on; the size that each epoch was validated at"
    model = small_model()
    model.register_buffer('number', torch.tensor(-1.))
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16, verbose=False, **kwargs), Numbered(), *cbs, model=model, metrics=[worse,better], path=path)
    worse.learn,learn.lr = learn,lr
    for _ in range(fits): learn.fit(n_epoch, **fit)
    return learn

def kept(learn): return int(learn.model.number)

def test_without_the_callback_the_first_would_be_kept():
    model = small_model()
    model.register_buffer('number', torch.tensor(-1.))
    learn = learner(make_dls(*aug_transforms()), Numbered(), SaveModelCallback('worse', comp=np.less), model=model, metrics=[worse], path='.')
    worse.learn = learn
    learn.fit(3)
    assert kept(learn)==0

@pytest.mark.slow
@pytest.mark.parametrize('monitor,epoch', [('worse',6), ('better',7)])
@pytest.mark.parametrize('fits', [1,2])
def test_the_best_is_of_full_size(monitor, epoch, fits):
    learn = run(SaveModelCallback(monitor, comp=np.less), fits=fits)
    first = next(i for i,s in enumerate(learn.seen.valid[::2]) if s==(64,64))
    assert kept(learn)==(first if monitor=='worse' else 7)

def test_metrics_that_should_rise():
    learn = run(SaveModelCallback('better'))   # falls: -epoch; comp is np.greater
    first = next(i for i,s in enumerate(learn.seen.valid[::2]) if s==(64,64))
    assert kept(learn)==first

def test_patience_counts_at_full_size():
    learn = run(EarlyStoppingCallback('worse', comp=np.less, patience=1), n_epoch=12)
    sizes = learn.seen.valid[::2]
    first = sizes.index((64,64))
    assert len(sizes)==first+2   # the first at full size is the best, the next one worse

def test_the_learning_rate_falls_at_full_size_alone():
    class Rates(Callback):
        order = 99
        def before_fit(self): self.lrs = []
        def after_epoch(self): self.lrs.append(self.opt.hypers[-1]['lr'])
    learn = run(ReduceLROnPlateau('worse', comp=np.less, patience=1), Rates(), n_epoch=12)
    first = learn.seen.valid[::2].index((64,64))
    lrs = learn.rates.lrs
    assert {*lrs[:first+1]}=={1e-3} and lrs[first+1]<1e-3

def test_own_subclasses_too():
    class Mine(TrackerCallback):
        def after_epoch(self):
            super().after_epoch()
            if self.new_best: self.at = self.epoch
    learn = run(Mine('worse', comp=np.less))
    assert learn.mine.at==learn.seen.valid[::2].index((64,64))

def test_a_training_that_never_reaches_full_size():
    with pytest.warns(UserWarning, match='never reaches'): learn = run(SaveModelCallback('worse', comp=np.less), n_epoch=4, start=1, finish=5)
    sizes = learn.seen.valid[::2]
    assert sizes[-1]<(64,64) and kept(learn)==sizes.index(sizes[-1])

def test_validation_left_alone_compares_all():
    assert kept(run(SaveModelCallback('worse', comp=np.less), resize_valid=False))==0

def test_every_epoch_and_at_end_as_before(tmp_path):
    run(SaveModelCallback('worse', comp=np.less, fname='each', every_epoch=True), n_epoch=4)
    assert {p.name for p in (tmp_path/'models').glob('each*')}=={f'each_{i}.pth' for i in range(4)}
    assert kept(run(SaveModelCallback('worse', comp=np.less, at_end=True), n_epoch=4))==3

@pytest.mark.slow
def test_a_best_that_is_kept_from_fit_to_fit():
    "It is beaten by a better epoch of full size alone, and small epochs take no patience"
    save = SaveModelCallback('worse', comp=np.less, reset_on_fit=False)
    stop = EarlyStoppingCallback('worse', comp=np.less, patience=2, reset_on_fit=False)
    learn = run(save)
    first = kept(learn)
    assert save.best==first
    learn.add_cb(stop)
    stop.best = -1.
    learn.fit(12)
    sizes = learn.seen.valid[16::2]
    assert save.best==first and kept(learn)==first             # epoch 6 of the second fit is no better
    assert len(sizes)==sizes.index((64,64))+2 and stop.best==-1

def test_a_kept_best_survives_a_training_that_ends_early():
    save = SaveModelCallback('worse', comp=np.less, reset_on_fit=False)
    learn = run(save)
    learn.add_cb(Fault('after_batch', CancelFitException(), True))
    best = save.best
    learn.fit(8)
    assert save.best==best

def test_a_resumed_fit():
    learn = run(SaveModelCallback('worse', comp=np.less, every_epoch=3), fit=dict(start_epoch=4))
    assert kept(learn)==7

def test_said_once_where_there_is_one(capsys):
    for cbs,n in (([SaveModelCallback(),EarlyStoppingCallback(patience=9)],1), ([],0), ([SaveModelCallback(every_epoch=True)],0)):
        learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16), *cbs, path='.')
        learn.fit(2)
        out = capsys.readouterr().out
        assert out.count('only epochs validated at 64 px count towards the best model')==n
        if n: assert '`SaveModelCallback`, `EarlyStoppingCallback`: only epochs validated at 64 px' in out

@pytest.mark.parametrize('exc', [KeyboardInterrupt(), Boom('b')])
def test_a_kept_best_survives_an_interrupt(exc):
    "Also where the callback was there for that fit alone"
    save = SaveModelCallback('worse', comp=np.less, reset_on_fit=False)
    learn = learner(make_dls(*aug_transforms()), save, metrics=[worse], path='.')
    worse.learn = learn
    learn.fit(1)
    best = save.best
    with pytest.raises(type(exc)): learn.fit(4, cbs=[ProgressiveResize(increase_by=16, verbose=False), Fault('after_batch', exc, True)])
    assert save.best==best==0

def test_a_comparison_of_the_users_own():
    def better(a, b, tol): return a>b+tol
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16, verbose=False), metrics=accuracy)
    stop = EarlyStoppingCallback(monitor='accuracy', comp=partial(better, tol=2), patience=1)
    learn.fit(8, cbs=stop)
    assert learn.seen.train==due(64, by=16)   # nothing is ever better, and two epochs are at full size: it stops with the last

def test_a_best_that_is_to_be_kept_survives_an_interrupt_between_loops():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16, verbose=False), metrics=accuracy, path='.')
    best = SaveModelCallback(monitor='accuracy', reset_on_fit=False, at_end=True)
    class Stop(Callback):
        order = 10
        def after_epoch(self):
            if self.epoch==1: raise KeyboardInterrupt
    learn.fit(4, cbs=best)
    was = best.best
    with pytest.raises(KeyboardInterrupt): learn.fit(4, cbs=[best,Stop()])
    assert was==best.best>0
