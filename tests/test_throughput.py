"`ThroughputMonitor`: what it counts and times, what it says, and that it leaves no trace"
import gc, os, pickle, time
from copy import deepcopy
import matplotlib
matplotlib.use('agg')
import pytest
from util import *
from fastresize import log, throughput
from fastresize.throughput import mark

columns = ['size','batches','images_per_s','wait_pct','wait_ms','step_ms','peak_mib']

class Slow(nn.Module):
    "A small model that takes `s` seconds a batch"
    def __init__(self, s, sleep): super().__init__(); self.s,self.sleep,self.m = s,sleep,small_model()
    def forward(self, x): self.sleep(self.s); return self.m(x)

class SlowItems(torch.utils.data.Dataset):
    def __init__(self, s, sleep, n=32): self.s,self.sleep,self.n = s,sleep,n
    def __len__(self): return self.n
    def __getitem__(self, i): self.sleep(self.s); return torch.rand(3,16,24),i%2

def slow_learner(sleep, item=0., batch=0., workers=0, **kwargs):
    dls = DataLoaders(*[torch.utils.data.DataLoader(SlowItems(item, sleep), batch_size=4, num_workers=workers) for _ in range(2)])
    return learner(dls, ThroughputMonitor(**kwargs), model=Slow(batch, sleep))

def df_of(learn): return learn.throughput_monitor.to_df()

def test_slow_data_waits(clock):
    learn = slow_learner(clock.sleep, item=0.005, batch=0.005)
    learn.fit(2)
    df = df_of(learn)
    assert list(df) == columns and len(df)==1
    r = df.iloc[0]
    assert (r['size'],r.batches) == ('16×24',16)
    assert [r.wait_pct,r.wait_ms,r.step_ms,r.images_per_s] == pytest.approx([80,20,5,160])

def test_slow_model_does_not_wait(clock):
    learn = slow_learner(clock.sleep, batch=0.03)
    learn.fit(1)
    r = df_of(learn).iloc[0]
    assert (r.wait_pct,r.wait_ms) == (0,0) and r.step_ms == pytest.approx(30)

def test_workers_that_keep_up_are_not_waited_for():
    "Steps long enough for a busy machine: a worker needs a tenth of their time"
    learn = slow_learner(time.sleep, item=0.002, batch=0.25, workers=1)
    learn.fit(1)
    assert df_of(learn).wait_pct[0]<25

def test_times_are_those_of_the_clock(clock):
    "Making a batch takes 1 s, a step 3 s, and the first step of each size 100 s"
    class Tick(nn.Module):
        def __init__(self): super().__init__(); self.m,self.seen = small_model(),set()
        def forward(self, x):
            if self.training: clock.sleep(3 if x.shape[-1] in self.seen else 100)
            self.seen.add(x.shape[-1])
            return self.m(x)
    dls = make_dls(*aug_transforms(), item_tfms=Resize(64))
    class Tock(Transform):
        order = 200
        def encodes(self, x:TensorImage): clock.sleep(1); return x
    dls.train.after_batch.add(Tock())
    cbs = ProgressiveResize(increase_by=16, preallocate=False, verbose=False),ThroughputMonitor(verbose=False)
    learn = learner(dls, *cbs, model=Tick(), loss_func=CrossEntropyLossFlat())
    class Forget(Callback):
        "The sizes that the model was tried on before training are new to it again"
        order = 50
        def before_train(self):
            if self.epoch==0: learn.model.seen.clear()
    learn.add_cb(Forget())
    learn.fit(4)
    df = df_of(learn)
    assert list(df['size']) == [32,48,64] and df.batches.sum()==32
    assert list(df.wait_ms) == [1000.]*3 and list(df.step_ms) == [3000.]*3
    assert list(df.wait_pct) == [25.]*3 and list(df.images_per_s) == [2.]*3

@pytest.mark.parametrize('first', [True,False])
def test_beside_progressive_resize(first):
    cbs = [ProgressiveResize(increase_by=8, verbose=False),ThroughputMonitor(verbose=False)]
    learn = learner(make_dls(*aug_transforms(), item_tfms=Resize(64)), *(cbs if first else cbs[::-1]), loss_func=CrossEntropyLossFlat())
    learn.fit(4)
    assert learn.seen.train == due(32)
    df = df_of(learn)
    assert list(df['size']) == [32,40,48,56,64]
    assert list(df.batches) == [learn.seen.train.count((s,s)) for s in df['size']]
    assert df.peak_mib.isna().all()

def test_extra_resize_of_a_plain_loader_gives_the_size():
    learn = learner(torch_dls(size=(48,64)), ProgressiveResize(increase_by=16, verbose=False), ThroughputMonitor(verbose=False))
    learn.fit(4)
    df = df_of(learn)
    assert list(df['size'])[0]=='24×32' and list(df['size'])[-1]=='48×64' and df.batches.sum()==32

@pytest.mark.parametrize('steered', [True,False])
def test_training_is_the_same_with_it(steered):
    def run(*cbs):
        set_seed(1)
        dls = make_dls(*aug_transforms(), item_tfms=Resize(64)) if steered else torch_dls()
        learn = learner(dls, ProgressiveResize(increase_by=8, verbose=False), *cbs, loss_func=CrossEntropyLossFlat())
        learn.fit(2)
        return learn
    a,b = run(),run(ThroughputMonitor(verbose=False))
    assert a.seen.train==b.seen.train and a.seen.valid==b.seen.valid
    for p,q in zip(a.model.parameters(), b.model.parameters()): assert torch.equal(p, q)

# Batches that came to their end: 8 an epoch, and of epoch 1 those before the fault, which is in the second batch where it is in one
finished = {'cancel fit': 9, 'cancel train': 25, 'cancel epoch': 25, 'cancel batch': 32, 'cancel valid': 32,
            'callback in training': 9, 'callback in validation': 16, 'callback after train': 16, 'callback after epoch': 16,
            'callback before train': 8, 'ctrl-c in training': 9, 'ctrl-c in validation': 16, 'out of memory': 8}

@pytest.mark.slow
@pytest.mark.parametrize('beside', [True,False])
@pytest.mark.parametrize('name', faults)
def test_any_end(name, beside):
    cbs = [ProgressiveResize(increase_by=8, verbose=False)]*beside + [ThroughputMonitor(verbose=False)]
    learn,dls = run_with_fault(name, *cbs)
    alone,_ = run_with_fault(name)
    assert set(vars(learn))-{'progressive_resize','throughput_monitor'} == set(vars(alone))
    if name!='callback before train': assert type(learn.dl) is type(alone.dl)
    assert df_of(learn).batches.sum() == finished[name]
    learn.remove_cb(learn.fault)
    learn.fit(1)
    assert learn.dl is None and df_of(learn).batches.sum()==8

def test_loader_is_back_after_each_loop():
    "When the events after a training loop fire, the learner has the loader that it began with, itself"
    class Check(Callback):
        order = 90
        def after_train(self): assert self.learn.dl is self.dls.train
        def before_validate(self): assert self.learn.dl is self.dls.valid
    cbs = ProgressiveResize(increase_by=8, resize_valid=False, verbose=False),ThroughputMonitor(verbose=False),Check()
    learn = learner(torch_dls(), *cbs)
    with learn.removed_cbs(learn.progressive_resize): learn.fit(1)
    learn.remove_cb(learn.check)
    learn.add_cb(type('Check', (Callback,), dict(order=90, after_train=Check.after_train))())
    learn.fit(2)

def test_a_new_fit_begins_anew_and_evaluation_is_not_measured(capsys, clock):
    learn = slow_learner(clock.sleep, item=0.002)
    learn.fit(2)
    assert df_of(learn).batches.sum()==16 and 'waited' in capsys.readouterr().out
    was = str(learn.throughput_monitor)
    learn.validate(); learn.get_preds(dl=learn.dls.valid); learn.lr_find(num_it=3, show_plot=False)
    with learn: pass
    assert str(learn.throughput_monitor)==was and capsys.readouterr().out==''
    learn.fit(1)
    assert df_of(learn).batches.sum()==8

def test_prediction_in_the_middle_of_a_training():
    class Peek(Callback):
        order = 70
        def after_batch(self):
            if not self.training or self.train_iter!=3: return
            self.learn.get_preds(dl=self.dls.valid, inner=True)
            self.model.train()
            self.learn.training = True
    learn = learner(torch_dls(), Peek(), ThroughputMonitor(verbose=False))
    learn.fit(2)
    assert df_of(learn).batches.sum()==16

def test_validation_in_the_middle_of_a_training(capsys, clock):
    class Again(Callback):
        order = 70
        def after_epoch(self):
            if not self.learn.lock.locked(): self.learn.validate(); said.append(capsys.readouterr().out)
    said,learn = [],slow_learner(clock.sleep, item=0.003)
    learn.add_cb(Again())
    learn.fit(2)
    assert said==['','']
    assert df_of(learn).batches.sum()==16 and 'waited' in capsys.readouterr().out

def test_figures_can_be_read_during_a_fit():
    class Read(Callback):
        order = 70
        def after_batch(self):
            if self.training: self.counts.append(df_of(self.learn).batches.sum())
    read = Read()
    read.counts = []
    learn = learner(torch_dls(), read, ThroughputMonitor(verbose=False))
    learn.fit(2)
    assert read.counts == list(range(16)) and df_of(learn).batches.sum()==16

def test_advice_only_when_measured(capsys, clock):
    def said(**kwargs):
        slow_learner(clock.sleep, **kwargs).fit(1)
        return capsys.readouterr().out
    line = said(item=0.005, batch=0.02)
    assert line.count('\n')==1 and line.startswith('At 16×24 px the model waited for data 50 % of the time') and '(now 0)' in line
    assert said(batch=0.03)=='' and said(item=0.005, batch=0.08)==''
    assert said(item=0.005, verbose=False)==''

def test_no_advice_from_warm_up_alone(capsys, clock):
    learn = slow_learner(clock.sleep, item=0.01)
    learn.dls.train.dataset.n = 4
    learn.fit(1)
    df = df_of(learn)
    assert df.batches[0]==1 and df[['images_per_s','wait_pct','wait_ms','step_ms']].isna().all(axis=None)
    assert capsys.readouterr().out==''
    assert '16×24' in str(learn.throughput_monitor)

def test_advice_is_about_the_size_that_waited_longest_in_all():
    m = ThroughputMonitor()
    m.learn = learner(torch_dls(num_workers=1))
    def rows(n, wait, step): return throughput.doubles('d', [8,wait,step]*n)
    m._rows = {(32,32): rows(3, 5., 1.), (64,64): rows(30, 1., 1.), (96,96): rows(10, .1, 1.)}
    assert m._advice().startswith('At 64 px the model waited for data 50 % of the time; more workers (now 1)')
    m._rows = {(32,32): rows(3, 5., 1.), (64,64): rows(30, 1., 3.1)}
    assert m._advice() is None

def test_workers_named_are_those_of_fastai_loaders():
    m = ThroughputMonitor()
    m.learn = learner(make_dls(), loss_func=CrossEntropyLossFlat())
    m._rows = {(8,8): throughput.doubles('d', [8,1.,1.]*3)}
    assert '(now 0)' in m._advice()

def test_copies_and_views(clock):
    m = ThroughputMonitor()
    assert m._repr_markdown_() == str(m) == 'ThroughputMonitor: nothing measured yet' and len(m.to_df())==0 and list(m.to_df())==columns
    assert repr(m)=='ThroughputMonitor'
    learn = slow_learner(clock.sleep, item=0.001, verbose=False)
    learn.fit(1)
    m = learn.throughput_monitor
    learn.remove_cb(m)
    for c in (pickle.loads(pickle.dumps(m)), deepcopy(m)):
        assert c.to_df().equals(m.to_df()) and str(c)==str(m)
        again = learner(torch_dls(), c)
        again.fit(1)
        assert list(c.to_df()['size'])==[64]
    head,_,row,*_ = m._repr_markdown_().splitlines()
    assert head.startswith('| size (px) | batches | images/s | waiting for data (%)') and 'memory' not in head
    assert row.startswith('| 16×24 | 8 |')
    assert 'images/s' in str(m) and '16×24' in str(m)
    axs = m.plot()
    assert [a.get_ylabel() for a in axs] == ['images/s','time (ms/batch)']
    assert [t.get_text() for t in axs[0].get_xticklabels()] == ['16×24']
    assert m.plot(axs) is axs

class Event:
    "What stands in for CUDA's: it knows when it was recorded, and who waited"
    waited = 0
    def __init__(self, enable_timing): assert enable_timing
    def record(self, stream): self.t = log.perf_counter()
    def synchronize(self): Event.waited += 1
    def elapsed_time(self, other): return (other.t-self.t)*1000

def test_events_are_read_at_the_end_of_the_epoch(monkeypatch, clock):
    real,waits = throughput.mark,[]
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: device)
    monkeypatch.setattr(throughput, 'mark', lambda device: real(torch.device('cuda')))
    Event.waited = 0
    class Waits(Callback):
        def after_batch(self):
            if self.training: waits.append(Event.waited)
        def after_train(self): waits.append(Event.waited)
    learn = slow_learner(clock.sleep, item=0.005, batch=0.01, verbose=False)
    learn.add_cb(Waits())
    learn.fit(1)
    assert waits == [0]*8+[16]
    assert [df_of(learn).wait_ms[0],df_of(learn).step_ms[0]] == pytest.approx([20,10])

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes are not forked here')
def test_a_forked_worker_throws_no_event_away(monkeypatch, tmp_path):
    "CUDA aborts a worker in which the garbage collector finds an event"
    lost = tmp_path/'lost'
    class Mine(Event):
        def __init__(self, enable_timing): self.pid = os.getpid()
        def __del__(self):
            if os.getpid()!=self.pid: lost.touch()
    monkeypatch.setattr(torch.cuda, 'Event', Mine)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: device)
    cycle = [mark(torch.device('cuda'))]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        if (pid := os.fork())==0:
            gc.collect()
            os._exit(0)
        os.waitpid(pid, 0)
    finally: gc.enable()
    assert not lost.exists() and len(log._events)==1
    gc.collect()
    assert not log._events and not log._alive

def test_peaks_are_told_apart_by_size(monkeypatch):
    peak,cuda = [0],torch.device('cuda')
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda device: peak[0])
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: peak.__setitem__(0, 0))
    m,seen = ThroughputMonitor(verbose=False),[]
    real = m._store_peak
    m._store_peak = lambda size, device: (seen.append(size), real(size, cuda))
    class Use(Callback):
        def after_pred(self):
            if self.training: peak[0] = max(peak[0], self.x.shape[-1]*2**20)
    learn = learner(torch_dls(), ProgressiveResize(increase_by=16, verbose=False), m, Use())
    learn.fit(3)
    assert list(m.to_df().peak_mib) == [32.,48.,64.]
    assert seen == [(s,s) for s in (32,32,48,48,64)] # of 8 batches an epoch, 12 are small and 6 middling
    assert 'peak memory (MiB)' in str(m)

def test_cost_of_a_batch():
    "Less than three of the events that fastai calls for a batch, which are about 150 microseconds (2.0 of them with Python 3.11, 2.2 with 3.12): in the processor's time of this thread"
    class Keep(Callback):
        order = 90
        def before_batch(self): self.learn.timed = self.learn.dl; raise CancelFitException
    learn = learner(make_dls(), Keep(), ThroughputMonitor(verbose=False), loss_func=CrossEntropyLossFlat())
    learn.fit(1)
    b,plain = learn.dls.one_batch(),Learner(learn.dls, small_model(), loss_func=CrossEntropyLossFlat())
    plain.remove_cb(ProgressCallback)
    plain.xb,plain.yb = b[:1],b[1:]
    def took(f):
        start = time.thread_time()
        for _ in range(50): f()
        return time.thread_time()-start
    ratios = [took(lambda: learn.timed.make(lambda: b, None))/took(lambda: plain('before_batch')) for _ in range(40)]
    assert np.median(ratios)<3

@pytest.mark.cuda
def test_on_cuda():
    model = nn.Sequential(nn.Conv2d(3,64,3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(64,2))
    x,y = torch.rand(64,3,64,64),torch.arange(64)%2
    dls = DataLoaders(*[torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x,y), batch_size=8) for _ in range(2)], device='cuda')
    learn = learner(dls, ProgressiveResize(increase_by=16, verbose=False), ThroughputMonitor(verbose=False), model=model)
    learn.fit(4)
    df = df_of(learn)
    assert list(df['size']) == [32,48,64] and df.batches.sum()==32
    assert df.notna().all(axis=None) and (df.peak_mib>0).all() and df.peak_mib.is_monotonic_increasing
    assert (df.step_ms>0).all() and (df.wait_ms>=0).all()
    learn.remove_cb(m := learn.throughput_monitor)
    assert pickle.loads(pickle.dumps(m)).to_df().equals(df)

@pytest.mark.cuda
def test_workers_beside_events():
    "A worker is forked at each loop, while events of the last one may wait for the garbage collector"
    def dl(): return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(64,3,64,64), torch.arange(64)%2), batch_size=8, num_workers=2, pin_memory=True)
    learn = learner(DataLoaders(dl(), dl(), device='cuda'), ProgressiveResize(increase_by=16, verbose=False), ThroughputMonitor(verbose=False))
    for _ in range(3): learn.fit(2)
    assert str(learn.preview_resize(2, show_plot=False))
