"Whatever is not a training runs at full size, silent, without a dry run"
import pytest
from util import *

full = {(64,64)}

@pytest.fixture
def learn(monkeypatch):
    import fastresize.rehearsal as p
    learn = learner(make_dls(*aug_transforms(), item_tfms=Resize(64)), ProgressiveResize(increase_by=8), loss_func=CrossEntropyLossFlat())
    learn.dry_runs = []
    real = p.dry_run
    monkeypatch.setattr(p, 'dry_run', lambda *a: (learn.dry_runs.append(1), real(*a)))
    return learn

calls = dict(lr_find=lambda l: l.lr_find(num_it=6, show_plot=False), validate=lambda l: l.validate(), get_preds=lambda l: l.get_preds(),
             predict=lambda l: l.predict(picture(3)), tta=lambda l: l.tta(n=2), train_preds=lambda l: l.get_preds(ds_idx=0))

@pytest.mark.slow
@pytest.mark.parametrize('call', calls)
@pytest.mark.parametrize('fitted', [False,True])
def test_full_size_and_silent(learn, call, fitted, capsys):
    if fitted:
        learn.fit(2)
        learn.dry_runs.clear()
    seen = learn.seen
    seen.clear()
    schedule = learn.progressive_resize.schedule
    capsys.readouterr()
    calls[call](learn)
    assert set(seen.train+seen.valid) == full
    assert learn.dry_runs == []
    assert 'resizes' not in capsys.readouterr().out
    assert learn.progressive_resize.schedule is schedule

def test_the_fit_after_lr_find_is_progressive(learn):
    learn.lr_find(num_it=6, show_plot=False)
    learn.seen.clear()
    learn.fit(4)
    assert learn.seen.train == due(32)

@pytest.mark.slow
@pytest.mark.parametrize('event', ['after_batch','after_epoch','after_validate'])
@pytest.mark.parametrize('call', ['validate','get_preds','predict'])
def test_a_callback_that_evaluates_during_training(learn, event, call):
    "It gets full size, and the training goes on as planned"
    got,kept = [],('dl','xb','yb','pred','loss','iter','n_iter','training','train_iter','pct_train','epoch')
    class Evaluate(Callback):
        order,busy = 90,False
        def __call__(self, name):
            if name!=event or self.busy or not (self.training or event!='after_batch'): return
            if event=='after_batch' and self.train_iter%5: return
            self.busy = True
            old = {k: getattr(self.learn, k, None) for k in kept}
            mark = len(self.seen.valid)
            try: calls[call](self.learn)
            finally:
                for k,v in old.items(): setattr(self.learn, k, v)
                self.busy = False
            got.extend(self.seen.valid[mark:])
            del self.seen.valid[mark:]
            if self.learn.training: self.learn.model.train()
    learn.add_cb(Evaluate())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert set(got) == full
    assert learn.dry_runs == [1]
    assert learn.seen.valid == [learn.seen.train[8*e+7] for e in range(4) for _ in range(2)]

def test_printed_once_on_rank_0_also_under_no_logging(learn, capsys, monkeypatch, clock):
    with learn.no_logging(): learn.fit(4)
    sentence = ('Progressively increase the initial image size of [32, 32] by 8 pixels every 0.3333 epochs for 4 resizes. '
                'Starting at epoch 2 and finishing at epoch 3 for a final training size of [64, 64].')
    assert capsys.readouterr().out.strip() == sentence
    learn.progressive_resize.verbose = False
    learn.fit(1)
    assert capsys.readouterr().out == ''
    learn.progressive_resize.verbose = True
    monkeypatch.setenv('RANK', '1')
    learn.fit(1)
    assert capsys.readouterr().out == ''

def test_no_epochs_are_no_error(learn, capsys):
    "`fine_tune(4, freeze_epochs=0)` fits for 0 epochs first"
    learn.fit(0)
    assert learn.seen.train == [] and capsys.readouterr().out == '' and learn.dry_runs == []

@pytest.mark.parametrize('args', [dict(start=2, finish=3), {}, dict(initial_size='auto')], ids=str)
def test_summary_is_not_a_training(args, capsys):
    learn = learner(make_dls(), ProgressiveResize(**args))
    assert 'Total params' in learn.summary() and learn.progressive_resize.schedule is None and learn.progressive_resize.chosen is None
    assert 'initial image size' not in capsys.readouterr().out
