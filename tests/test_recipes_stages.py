"Trainings by stages: what is trained, what is recorded, and what goes on after it was killed"
import io, multiprocessing, os, signal, time
import matplotlib
matplotlib.use('agg')
import pytest
from util import *
from fastresize.recipes import Stage

def get_dls(size, bs): return make_dls(*aug_transforms(), size=size if isinstance(size, tuple) else (size,size), n=40, bs=bs)

table = [(16,16,2,4e-3), (24,16,1), (32,8,2)]
def stages(): return [Stage(*o) for o in table]
def new(**kwargs): return learner(get_dls(16, 16), **kwargs)

def run(*args, learn=None, **kwargs):
    learn = learn or new()
    learn.fit_stages(*args, verbose=False, **kwargs)
    return learn

def test_each_stage_has_its_size_and_its_batches_and_one_learner():
    class Counts(Callback):
        def __init__(self): self.found = []
        def before_batch(self): self.found += [len(self.x)]*self.training
    cb = Counts()
    learn = run(stages(), get_dls, cbs=cb)
    assert [s for s,_ in learn.seen.train]==[16]*4 + [24]*2 + [32]*8 and cb.found==[16]*6 + [8]*8
    assert learn.dls.train.bs==8 and learn.opt.state and cb not in learn.cbs

def test_learning_rates_follow_the_batch():
    learn = run(stages(), get_dls)
    top = [max(learn.recorder.lrs[a:b]) for a,b in ((0,4),(4,6),(6,14))]
    assert top[2]==pytest.approx(2e-3, rel=.05) and top[0]==pytest.approx(4e-3, rel=.3)
    flat = run([(16,16,1,slice(1e-3,4e-3)), (32,8,1)], get_dls, fit='fit')
    assert flat.recorder.lrs==pytest.approx([4e-3]*2 + [2e-3]*4)
    own = run([Stage(16, 16, 1), Stage(16, 8, 1, lr=.1)], get_dls, fit='fit', learn=new(lr=.02))
    assert own.recorder.lrs==pytest.approx([.02]*2 + [.1]*4)

@pytest.mark.parametrize('fit', ['fit','fit_one_cycle','fit_flat_cos'])
def test_one_record(fit):
    learn = run(stages(), get_dls, fit=fit, learn=new(metrics=accuracy))
    r = learn.recorder
    assert len(r.lrs)==len(r.losses)==14 and len(r.values)==5 and r.iters==[2,4,6,10,14] and all(len(v)==3 for v in r.values)
    if fit!='fit':
        assert len(r.hps['lr'])==14 and r.hps['lr']==r.lrs
        r.plot_sched()
    ax = matplotlib.figure.Figure().subplots()
    r.plot_loss(skip_start=0, ax=ax)
    dashed = [l.get_xdata()[0] for l in ax.lines if l.get_linestyle()=='--']
    assert dashed==[0,4,6] and [t.get_text() for t in ax.texts]==['16 px','24 px','32 px']
    learn.fit(1)
    ax = matplotlib.figure.Figure().subplots()
    learn.recorder.plot_loss(skip_start=0, ax=ax)
    assert not ax.texts and len(learn.recorder.losses)==4

def test_fine_tune_in_each_stage_and_kwargs_of_a_stage():
    learn = run([Stage(16, 16, 1, 1e-3), Stage(24, 16, 1, freeze_epochs=2), Stage(24, 16, 1, fit='fit', wd=.3)], get_dls, fit='fine_tune')
    assert [s for s,_ in learn.seen.train]==[16]*4 + [24]*6 + [24]*2
    assert len(learn.recorder.values)==6 and learn.opt.hypers[0]['wd']==.3

def test_beside_progressive_resize():
    learn = new()
    learn.add_cb(ProgressiveResize(increase_by=4, verbose=False))
    run([(16,16,2), (32,16,2)], get_dls, learn=learn)
    sizes = [s for s,_ in learn.seen.train]
    assert sizes[:2]==[8,8] and sizes[3]==16 and sizes[4:6]==[16,16] and sizes[-1]==32

def test_get_dls_by_any_signature_and_rectangles():
    asked = []
    def by_name(bs, size):
        asked.append((size,bs))
        return get_dls(size, bs)
    run([(16,16,1), ((16,24),8,1)], by_name)
    run([(16,16,1)], lambda a, b: get_dls(a, b))
    assert asked==[(16,16),((16,24),8)]

# ---- going on

def lrs(learn): return learn.recorder.lrs

@pytest.mark.slow
@pytest.mark.parametrize('fit', ['fit','fit_one_cycle','fit_flat_cos','fine_tune'])
@pytest.mark.parametrize('at', [1,5,9])
def test_interrupted_and_called_again_it_is_the_same_training(fit, at, tmp_path):
    class Stop(Callback):
        order,n = 90,0
        def after_batch(self):
            self.n += self.training
            if self.n==at: raise KeyboardInterrupt
    whole = run(stages(), get_dls, fit=fit)
    broken = new()
    with pytest.raises(KeyboardInterrupt): run(stages(), get_dls, fit=fit, save=tmp_path, cbs=Stop(), learn=broken)
    assert len(lrs(broken))==at
    again = run(stages(), get_dls, fit=fit, save=tmp_path)
    r,w = again.recorder,whole.recorder
    assert lrs(again)==pytest.approx(lrs(whole)) and r.iters==w.iters and len(r.values)==len(w.values) and len(r.losses)==len(w.losses)
    assert r.hps.keys()==w.hps.keys() and all(r.hps[k]==pytest.approx(w.hps[k]) for k in r.hps)
    done = [i for i in [0,*w.iters] if i<at][-1]
    assert len(again.seen.train)==len(whole.seen.train)-done   # nothing twice
    assert r.losses[:done]==pytest.approx([float(o) for o in broken.recorder.losses[:done]])

def test_weights_and_optimizer_go_on_from_the_last_complete_epoch(tmp_path):
    class Stop(Callback):
        order = 90
        def before_epoch(self):
            if self.epoch==1: self.kept = state(self.learn)
        def after_batch(self):
            if self.training and self.epoch==1: raise Boom('b')
    class Look(Callback):
        order = 90
        def before_train(self):
            if not hasattr(self, 'kept'): self.kept = state(self.learn)
    stop,look = Stop(),Look()
    with pytest.raises(Boom): run([(16,16,3)], get_dls, fit='fit', save=tmp_path, cbs=stop)
    run([(16,16,3)], get_dls, fit='fit', save=tmp_path, cbs=look)
    assert all(same(stop.kept[k], look.kept[k]) for k in ('params','buffers','opt','hypers'))

def test_a_torch_optimizer_goes_on_too(tmp_path):
    def learn(): return new(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))
    with pytest.raises(Boom): run(stages(), get_dls, save=tmp_path, cbs=Fault('after_batch', Boom('b')), learn=learn())
    again = run(stages(), get_dls, save=tmp_path, learn=learn())
    assert lrs(again)==pytest.approx(lrs(run(stages(), get_dls, learn=learn())))

@pytest.mark.slow
@pytest.mark.parametrize('name', faults)
def test_however_an_epoch_ends(name, tmp_path):
    event,exc,phase = faults[name]
    learn = new(loss_func=CrossEntropyLossFlat())
    try: run([(16,16,3),(24,16,2)], get_dls, save=tmp_path, cbs=Fault(event, exc, phase), learn=learn)
    except type(exc): pass
    assert not learn._grab_cbs(Fault) and len(learn.cbs)==len(new().cbs) and learn.logger is noop
    again = run([(16,16,3),(24,16,2)], get_dls, save=tmp_path)
    r = again.recorder
    assert len(r.values)==(2 if isinstance(exc, CancelFitException) else 5)   # one that is cancelled is over, and the next begins
    assert [*again.seen.train[-1:]] in ([(24,24)],[])   # nothing is left to do where all was done

def test_skipped_epochs_give_no_row(tmp_path):
    rows = []
    with pytest.raises(Boom): run(stages(), get_dls, save=tmp_path, cbs=Fault('after_batch', Boom('b')))
    learn = new()
    learn.logger = rows.append
    run(stages(), get_dls, save=tmp_path, learn=learn)
    assert [r[0] for r in rows]==[1,0,0,1] and all(len(r)==4 for r in rows) and learn.logger==rows.append

def test_whole_it_is_not_trained_again(tmp_path, capsys):
    first = run(stages(), get_dls, save=tmp_path)
    again = new()
    again.fit_stages(stages(), get_dls, save=tmp_path)
    assert 'All stages are trained already' in capsys.readouterr().out and not again.seen.train
    assert all(torch.equal(a, b) for a,b in zip(first.model.state_dict().values(), again.model.state_dict().values()))
    assert lrs(again)==pytest.approx(lrs(first)) and again.dls.train.bs==8
    longer = run([*stages(),Stage(32, 8, 1)], get_dls, save=tmp_path)   # more stages after those
    assert len(longer.seen.train)==4 and len(longer.recorder.values)==6

def test_anew(tmp_path):
    run(stages(), get_dls, save=tmp_path)
    learn = run(stages(), get_dls, save=tmp_path, resume=False)
    assert len(learn.seen.train)==14 and len(learn.recorder.values)==5

# ---- killed

class Log(Callback):
    "A line for each batch that is trained: its size, the epoch and the learning rate"
    order = 90
    def __init__(self, file): self.file = file
    def after_batch(self):
        if not self.training: return
        with open(self.file, 'a') as f: print(self.x.shape[-1], self.epoch, self.opt.hypers[-1]['lr'], file=f)

def die(): os.kill(os.getpid(), signal.SIGKILL)

class DieAt(Callback):
    "Killed in the `n`th batch"
    order = 95
    def __init__(self, n): self.n = n
    def after_batch(self):
        self.n -= self.training
        if not self.n: die()

def die_in_write(n):
    "Killed in the middle of the `n`th checkpoint, when half of it is in the file"
    save,left = torch.save,[n]
    def half(o, f):
        left[0] -= 1
        if left[0]: return save(o, f)
        b = io.BytesIO()
        save(o, b)
        f.write(b.getvalue()[:b.tell()//2])
        f.flush()
        die()
    torch.save = half

def train_in_process(folder, log, what, n):
    if what=='write': die_in_write(n)
    run(stages(), get_dls, save=folder, cbs=[Log(log), *([DieAt(n)] if what=='batch' else [])])

def killed(folder, log, what, n):
    "Train in a process of its own, which is killed; its exit code and its batches"
    log.write_text('')
    p = multiprocessing.get_context('fork').Process(target=train_in_process, args=(folder, log, what, n))
    p.start()
    if what=='from outside':
        while len(log.read_text().splitlines())<n: time.sleep(.001)
        os.kill(p.pid, signal.SIGKILL)
    p.join(120)
    return p.exitcode,[tuple(l.split()) for l in log.read_text().splitlines()]

def test_killed_at_any_moment_it_goes_on(tmp_path):
    whole,folder,log = run(stages(), get_dls),tmp_path/'save',tmp_path/'log'
    places = {}   # epochs by stage, in the order of their last run
    for what,n in (('batch',1),('batch',3),('write',1),('write',3),('from outside',3),('batch',5),('write',2)):
        code,batches = killed(folder, log, what, n)
        if code==0: break
        assert code==-signal.SIGKILL
        for size,epoch,lr in batches: places.setdefault((size,epoch), []).append(float(lr))
    again = run(stages(), get_dls, save=folder)
    assert lrs(again)==pytest.approx(lrs(whole)) and len(again.recorder.values)==5 and again.recorder.iters==whole.recorder.iters
    assert len(again.seen.train)<14 and max(map(len, places.values()))>2   # the first epoch more than once
    assert [f.name for f in folder.iterdir()]==['stages.pth']

def test_killed_while_it_writes_the_last_checkpoint_stays(tmp_path):
    folder,log = tmp_path/'save',tmp_path/'log'
    assert killed(folder, log, 'write', 2)[0]==-signal.SIGKILL
    assert {f.name for f in folder.iterdir()}=={'stages.pth','stages.part'}
    code,batches = killed(folder, log, 'none', 0)
    assert code==0 and batches[0][:2]==('16','1') and len(batches)==12

# ---- mistakes

def test_stages_that_make_no_training():
    for bad,words in (((0,8,1), '`size`=0: expected a positive int'), ((16,0,1), '`bs`=0: expected an int above 0'), ((16,8,0), '`epochs`=0: expected an int above 0'),
                      ((16,8,1.5), '`epochs`=1.5'), ((16,8,1,-1), '`lr`=-1: expected a number above 0'), ((16,-8,1), '`bs`=-8')):
        with pytest.raises(ValueError, match=words): Stage(*bad)
    learn = new()
    for bad,words in (([], '`stages`=.*: expected one or more `Stage`s'), ('16', 'expected a list of `Stage`'), ([16], 'expected one or more `Stage`s'),
                      ([(32,8,1),(16,8,1)], 'sizes that do not shrink, as from 32 to 16 px; `shrink=True` allows it')):
        with pytest.raises(ValueError, match=words): run(bad, get_dls, learn=learn)
    assert not learn.seen.train
    assert len(run([(32,8,1),(16,8,1)], get_dls, shrink=True).seen.train)==8

@pytest.mark.parametrize('fit', ['nothing', 'lr_find', 'fit_sgdr', 3])
def test_a_fit_that_is_none(fit):
    with pytest.raises(ValueError, match='`fit`=.*expected the name of a method of the learner that takes epochs and a learning rate'): run(stages(), get_dls, fit=fit)

@pytest.mark.parametrize('make,words', [
    (lambda size, bs: make_dls(*aug_transforms(), size=(20,20), n=40, bs=bs), r'loaders for a stage of 16 px, bs 16.*its batches measure \[20, 20\]'),
    (lambda size, bs: get_dls(16, bs), r'loaders for a stage of 24 px.*its batches measure \[16, 16\]'),
    (lambda size, bs: get_dls(size, 4), 'loaders for a stage of 16 px.*its batches have 4 images'),
    (lambda size, bs: make_dls(size=(size,size), n=10, bs=bs), 'gives no batches'),
    (lambda size, bs: None, 'it gives None'),
    (7, '`get_dls`=7: expected a function of `size` and `bs`')])
def test_loaders_that_are_not_of_the_stage(make, words):
    learn = new()
    dls = learn.dls
    with pytest.raises(ValueError, match=words): run(stages(), make, learn=learn)
    assert learn.dls is dls and not learn.seen.train

@pytest.mark.parametrize('resume', [True,False])
def test_a_folder_of_another_training_is_left_alone(tmp_path, resume):
    run(stages(), get_dls, save=tmp_path)
    def files(): return {f: f.read_bytes() for f in tmp_path.iterdir()}
    before = files()
    for other,model,words in (([(16,16,3,4e-3)], None, 'from one with other stages'), ([(16,16,2,8e-3),*table[1:]], None, 'from one with other stages'),
                              (table, small_model(3), 'from one with another model')):
        learn = new(model=model)
        with pytest.raises(ValueError, match=f'`save`=.*expected a folder for this training; its stages.pth is {words}'):
            run(other, get_dls, save=tmp_path, resume=resume, learn=learn)
        assert not learn.seen.train
    with pytest.raises(ValueError, match='other stages'): run(table, get_dls, fit='fit', save=tmp_path, resume=resume)
    assert files()==before
    (tmp_path/'stages.pth').write_bytes(b'mine')
    with pytest.raises(ValueError, match='stages.pth cannot be read'): run(table, get_dls, save=tmp_path, resume=resume)
    assert (tmp_path/'stages.pth').read_bytes()==b'mine'
    with pytest.raises(ValueError, match='expected a folder'): run(table, get_dls, save=tmp_path/'stages.pth', resume=resume)

def test_without_a_recorder():
    learn = Learner(get_dls(16, 16), small_model(), loss_func=nn.CrossEntropyLoss(), cbs=[TrainEvalCallback(),CastToTensor(),Seen()], default_cbs=False)
    learn.fit_stages(stages(), get_dls, verbose=False)
    assert len(learn.seen.train)==14

def test_numbers_of_numpy_and_an_optimizer_with_slow_weights(tmp_path):
    first = run([Stage(16, np.int64(16), np.int64(1), np.float64(1e-3))], get_dls, save=tmp_path)
    assert first.recorder.lrs and not run([(16,16,1,1e-3)], get_dls, save=tmp_path).seen.train
    with pytest.raises(Boom): run([(16,16,3)], get_dls, fit='fit_flat_cos', save=tmp_path/'r', cbs=Fault('after_batch', Boom('b')), learn=new(opt_func=ranger))
    again = run([(16,16,3)], get_dls, fit='fit_flat_cos', save=tmp_path/'r', learn=new(opt_func=ranger))   # which has slow weights of its own
    assert len(again.seen.train)==4 and len(again.recorder.values)==3

def test_trackers_end_and_keep_a_stage_of_their_own(tmp_path):
    learn = run([(16,16,3),(24,16,3)], get_dls, cbs=[EarlyStoppingCallback(patience=1, min_delta=9.), SaveModelCallback()], learn=new(path=tmp_path))
    assert len(learn.recorder.values)==4 and [s for s,_ in learn.seen.train]==[16]*4 + [24]*4

@pytest.mark.parametrize('tracker', [lambda: EarlyStoppingCallback(patience=9), lambda: SaveModelCallback(every_epoch=True), SaveModelCallback, lambda: ReduceLROnPlateau(patience=9)])
def test_trackers_leave_out_the_epochs_that_are_trained_already(tmp_path, tracker):
    class Stop(Callback):
        def after_batch(self):
            if self.training and self.train_iter==3: raise KeyboardInterrupt   # in the second epoch of the first stage
    def one(): return learner(get_dls(16, 16), tracker(), path=tmp_path, metrics=accuracy)
    with pytest.raises(KeyboardInterrupt): run(stages(), get_dls, save=tmp_path/'save', cbs=Stop(), learn=one())
    learn = run(stages(), get_dls, save=tmp_path/'save', learn=one())
    assert len(learn.recorder.values)==5 and len(learn.seen.train)==12 and all(cb.run for cb in learn.cbs)

@pytest.mark.parametrize('kwargs,words', [
    (dict(stages=[*table[:2], Stage(32, 8, 1, pct_strat=.1)]), '`pct_strat`=0.1: expected an argument of `fit_one_cycle`: div, '),
    (dict(stages=[*table[:2], Stage(32, 8, 1, fit='fine_tune', freeze_epoch=1)]), '`freeze_epoch`=1: expected an argument of `fine_tune`'),
    (dict(stages=[(32,8)]), 'tuples of the first 3 to 5 arguments of `Stage`'),
    (dict(stages=[*table[:2], Stage(32, 8, 1, lr_max=.1)]), '`lr_max`=0.1: expected an argument of `fit_one_cycle`'),
    (dict(save=5), '`save`=5: expected a folder, or None'),
    (dict(save='/proc/none'), "`save`='/proc/none': expected a folder that can be created"),
    (dict(get_dls=lambda size: None), '`get_dls`=.*: expected a function of `size` and `bs`')])
def test_mistakes_are_found_before_the_first_stage(kwargs, words):
    learn,kwargs = new(),{'stages': table, 'get_dls': get_dls, **kwargs}
    with pytest.raises(ValueError, match=words): run(kwargs.pop('stages'), kwargs.pop('get_dls'), learn=learn, **kwargs)
    assert not learn.seen.train

class Extra(nn.Module):
    "Holds a tensor of fastai's, or a set, in its state"
    def __init__(self, extra): super().__init__(); self.m,self.extra = small_model(),extra; self.register_buffer('mean', TensorImage(torch.rand(3)))
    def forward(self, x): return self.m(x)
    def get_extra_state(self): return self.extra
    def set_extra_state(self, o): pass

def test_a_checkpoint_can_be_read_again(tmp_path):
    run([(16,16,1)], get_dls, save=tmp_path/'a', learn=new(model=Extra(np.float64(.5))))
    assert not run([(16,16,1)], get_dls, save=tmp_path/'a', learn=new(model=Extra(np.float64(.5)))).seen.train
    with pytest.warns(UserWarning, match='`save`: this training cannot be resumed, because its checkpoint cannot be read back'):
        run([(16,16,1)], get_dls, save=tmp_path/'b', learn=new(model=Extra(PILImage.create(np.zeros((2,2), dtype=np.uint8)))))
