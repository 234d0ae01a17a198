"Whatever ends a training, the loaders, the transforms, the learner and the model are as without the callback"
import os, pickle, signal, subprocess, sys, textwrap
from copy import deepcopy
from pathlib import Path
import pytest
from util import *

def check_untouched(learn, dls):
    "Everything a user could do next runs at full size"
    assert [(f.size,f.mode) for f in dls.train.after_batch.fs if hasattr(f, 'size')] == [(None,'bilinear')]
    learn.remove_cb(learn.fault)
    seen = learn.seen
    for dl in (dls.train,dls.valid): assert tuple(dl.one_batch()[0].shape[-2:]) == (64,64)
    for call in (learn.validate, learn.get_preds, lambda: learn.predict(picture(1)), lambda: learn.tta(n=2)):
        seen.clear()
        call()
        assert set(seen.train+seen.valid) == {(64,64)}, call
    seen.clear()
    learn.fit(4)
    assert seen.train == due(32)

@pytest.mark.slow
@pytest.mark.parametrize('name', faults)
def test_any_end(name):
    learn,dls = run_with_fault(name, ProgressiveResize(increase_by=8))
    alone,_ = run_with_fault(name)
    assert set(vars(learn))-{'progressive_resize'} == set(vars(alone))
    if name!='callback before train': assert type(learn.dl) is type(alone.dl) # there, no loop has begun that could end
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in learn.model.modules())
    check_untouched(learn, dls)

def test_exception_in_the_model():
    class Bad(nn.Module):
        def __init__(self): super().__init__(); self.m,self.n = small_model(),0
        def forward(self, x):
            self.n += torch.is_grad_enabled()
            if torch.is_grad_enabled() and self.n==20: raise Boom('model')
            return self.m(x)
    dls = make_dls(*aug_transforms(), item_tfms=Resize(64))
    learn = learner(dls, ProgressiveResize(increase_by=8), Fault('none', None), model=Bad(), loss_func=CrossEntropyLossFlat())
    with pytest.raises(Boom): learn.fit(4)
    check_untouched(learn, dls)

@pytest.mark.slow
@pytest.mark.parametrize('workers', [0,2])
def test_a_real_ctrl_c(workers, request):
    "SIGINT from outside, in the middle of an epoch"
    import threading, time
    old = signal.signal(signal.SIGINT, signal.default_int_handler) # a shell starts background jobs with SIGINT ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, old))
    dls = make_dls(*aug_transforms(), item_tfms=Resize(64), workers=workers)
    learn = learner(dls, ProgressiveResize(increase_by=8, preallocate=False), Fault('none', None), loss_func=CrossEntropyLossFlat())
    class Slow(Callback):
        def after_batch(self): time.sleep(0.05)
    slow = Slow()
    learn.add_cb(slow)
    def press():
        while len(learn.seen.train)<10: time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    t = threading.Thread(target=press)
    t.start()
    with pytest.raises(KeyboardInterrupt): learn.fit(4)
    t.join()
    assert 10<=len(learn.seen.train)<32
    learn.remove_cb(slow)
    check_untouched(learn, dls)

def test_transforms_are_the_users_between_batches():
    sizes = set()
    class Look(Callback):
        def __call__(self, name): sizes.update((f.size,f.mode) for f in self.dls.train.after_batch.fs if hasattr(f, 'size'))
    learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, resize_mode='nearest'), Look()).fit(4)
    assert sizes == {(None,'bilinear')}

@pytest.mark.slow
def test_export_leaves_the_callback_out(tmp_path):
    "The file loads and predicts where there is no fastresize"
    dls,model = make_dls(*aug_transforms(), item_tfms=Resize(64)),nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(3,2))
    cbs = [ProgressiveResize(increase_by=8),ThroughputMonitor()]
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), cbs=cbs, path=tmp_path)
    for dl in (dls.train,dls.valid): dl.dataset.tls[0].tfms.fs.clear() # the test's own picture function
    learn.export('m.pkl')
    assert isinstance(learn.progressive_resize, ProgressiveResize) and learn.progressive_resize.learn is learn
    code = f"""
        import sys
        class No:
            def find_spec(self, name, *a):
                if name.split('.')[0] in ('fastresize','util'): raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, No())
        from fastai.vision.all import *
        learn = load_learner({str(tmp_path/'m.pkl')!r})
        learn.remove_cb(ProgressCallback)
        print(learn.cbs, learn.predict(PILImage.create(np.zeros((64,64,3), dtype=np.uint8)))[2].shape)
        """
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)], capture_output=True, text=True)
    assert r.returncode==0, r.stderr[-1500:]
    assert 'ProgressiveResize' not in r.stdout and 'ThroughputMonitor' not in r.stdout and 'torch.Size([2])' in r.stdout

@pytest.mark.slow
@pytest.mark.parametrize('how', [deepcopy, lambda cb: pickle.loads(pickle.dumps(cb))])
@pytest.mark.parametrize('used', [False,True])
def test_copies_work(how, used):
    cb = ProgressiveResize(increase_by=8)
    if used:
        learn = learner(make_dls(*aug_transforms()), cb)
        learn.fit(1)
        learn.remove_cb(cb)
    learn = learner(make_dls(*aug_transforms()), how(cb))
    learn.fit(4)
    assert learn.seen.train == due(32)

@pytest.mark.slow
def test_fine_tune_both_phases_and_one(capsys):
    dls = make_dls(*aug_transforms())
    def split(m): return [params(m[:2]), params(m[2:])]
    learn = learner(dls, ProgressiveResize(increase_by=8), splitter=split)
    learn.fine_tune(4, freeze_epochs=2)
    assert learn.seen.train == due(16) + due(32)
    capsys.readouterr()
    learn = learner(dls, ProgressiveResize(increase_by=8, frozen=False), splitter=split)
    learn.fine_tune(4, freeze_epochs=2)
    assert learn.seen.train == [(64,64)]*16 + due(32)
    assert capsys.readouterr().out.count('Images stay at full size while layers are frozen.')==1
    assert learn.seen.valid[:4] == [(64,64)]*4
    learn.freeze()
    assert learn.preview_resize(4, show_plot=False).schedule.initial==(32,32)   # what the long phase would do

@pytest.mark.slow
@pytest.mark.parametrize('mode', ['batch','epoch'])
@pytest.mark.parametrize('k', [1,2,3])
def test_start_epoch_continues_with_the_sizes_of_an_uninterrupted_run(mode, k):
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, increase_mode=mode))
    learn.fit(4)
    whole = learn.seen.train
    learn.seen.clear()
    learn.fit(4, start_epoch=k)
    assert learn.seen.train == whole[8*k:]

@pytest.mark.slow
def test_resume_after_sigkill(tmp_path):
    "A run is killed in epoch 2; resumed from the saved epoch 1 it sees the sizes it would have seen"
    code = """
        import os, signal, sys
        from util import *
        start = int(sys.argv[1])
        class Log(Callback):
            order = 200
            def before_batch(self):
                if not self.training: return
                with open('sizes','a') as f: f.write(f'{self.epoch} {self.x.shape[-1]}\\n')
                if start==0 and self.epoch==2 and self.iter==3: os.kill(os.getpid(), signal.SIGKILL)
        cbs = ProgressiveResize(increase_by=8),SaveModelCallback(every_epoch=True, with_opt=True),Log()
        learn = learner(make_dls(*aug_transforms()), *cbs, path='.')
        if start: learn.load(f'model_{start-1}', with_opt=True)
        learn.fit(4, start_epoch=start)
        """
    (tmp_path/'run.py').write_text(textwrap.dedent(code))
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent), 'PYTHONWARNINGS': 'ignore'}
    def run(start): return subprocess.run([sys.executable, 'run.py', str(start)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run(0).returncode == -signal.SIGKILL
    (tmp_path/'sizes').unlink()
    r = run(2)
    assert r.returncode==0, r.stderr[-1500:]
    got = [tuple(map(int, o.split())) for o in (tmp_path/'sizes').read_text().splitlines()]
    assert got == [(e,due(32)[8*e+i][0]) for e in (2,3) for i in range(8)]

@pytest.mark.parametrize('exc', [Boom,KeyboardInterrupt])
def test_an_error_of_an_early_callback_in_the_first_batch_is_undone(exc):
    class First(Callback):
        order = -50
        def before_batch(self): raise exc('b')   # fastai's message needs an argument
    dls = make_dls(*aug_transforms(), item_tfms=Resize(64))
    learn = learner(dls, ProgressiveResize(increase_by=8), ThroughputMonitor(), First(), loss_func=CrossEntropyLossFlat())
    with pytest.raises(exc): learn.fit(4)
    learn.remove_cb(First)
    assert not {'_do_one_batch'} & {*vars(learn)} and 'logger' not in vars(learn.recorder) and type(learn.dl).__name__!='SizedDL'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        learn.validate()
    learn.seen.clear()
    learn.fit(4)
    assert learn.seen.train==due(32) and not [cb for cb in learn.cbs if type(cb).__name__.startswith('_')]
