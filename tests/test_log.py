"What a training shows while it runs: columns, the progress bar's comment, loggers"
import sys
import pandas as pd
import pytest

import fastresize.log
from fastresize.log import launch_advice
from util import *

rows = pytest.mark.parametrize('increase_mode', ['batch','epoch'])

class Table(ProgressCallback):
    "Keeps the lines of the table and the comments of the training's bar"
    def before_fit(self):
        self.lines,self.comments = [],[]
        super().before_fit()
    def after_batch(self):
        if self.training: self.comments.append(self.pbar.comment)
        super().after_batch()
    def _write_stats(self, log):
        self.lines.append([*log])
        super()._write_stats(log)

def watched(dls, *cbs, **kwargs):
    "A learner with fastai's own progress table and file"
    learn = Learner(dls, small_model(), cbs=[*cbs,Seen()], loss_func=nn.CrossEntropyLoss(), metrics=accuracy, **kwargs)
    learn.remove_cb(ProgressCallback)
    learn.add_cbs([Table(),CSVLogger()])
    return learn

def last_sizes(learn): return [learn.seen.train[i] for i in range(len(learn.dls.train)-1, len(learn.seen.train), len(learn.dls.train))]
def resize(**kwargs): return ProgressiveResize(**{'increase_by':8, 'verbose':False, **kwargs})

@rows
def test_the_table_and_the_file_have_a_column_for_the_size(increase_mode):
    learn = watched(make_dls(*aug_transforms()), resize(increase_mode=increase_mode))
    learn.fit(4)
    names = ['epoch','train_loss','valid_loss','accuracy','time','size']
    assert learn.table.lines[0]==names
    assert [l[-1] for l in learn.table.lines[1:]]==[h for h,_ in last_sizes(learn)]
    df = learn.csv_logger.read_log()
    assert [*df.columns]==names and df['size'].dtype=='int64' and [*df['size']]==[h for h,_ in last_sizes(learn)]
    assert df['size'].iloc[0]==32 and df['size'].iloc[-1]==64

def test_the_recorder_stays_as_it_is():
    learn = watched(make_dls(*aug_transforms()), resize())
    learn.fit(2)
    assert learn.recorder.metric_names==['epoch','train_loss','valid_loss','accuracy','time']
    assert [len(v) for v in learn.recorder.values]==[3,3] and len(learn.recorder.log)==5
    plain = watched(make_dls(*aug_transforms()))
    plain.fit(2)
    assert learn.logger.__qualname__==plain.logger.__qualname__

def test_rectangles_have_a_height_and_a_width():
    learn = watched(make_dls(*aug_transforms(), size=(48,64)), resize())
    learn.fit(4)
    df = learn.csv_logger.read_log()
    assert [*df.columns[-2:]]==['height','width'] and [*zip(df.height, df.width)]==last_sizes(learn)
    assert (df.height.iloc[0],df.width.iloc[0])==(24,32)

def test_the_size_is_that_of_the_training_where_validation_has_another():
    learn = watched(make_dls(*aug_transforms(size=64)), resize(resize_valid=False))
    learn.fit(4)
    assert learn.csv_logger.read_log()['size'].iloc[0]==32 and set(learn.seen.valid)=={(64,64)}

def test_rows_of_skipped_epochs_stay_as_fastai_makes_them():
    learn = watched(make_dls(*aug_transforms()), resize())
    learn.fit(4, start_epoch=3)
    assert [len(l) for l in learn.table.lines]==[6,2,2,2,6]
    assert learn.table.lines[-1][-1]==64
    plain = watched(make_dls(*aug_transforms()))
    plain.fit(4, start_epoch=3)
    assert [len(l) for l in plain.table.lines]==[5,2,2,2,5]

@pytest.mark.slow
@pytest.mark.parametrize('event', ['before_fit','before_epoch','before_batch','after_train','after_epoch'])
def test_what_ends_a_fit_early_leaves_tables_in_order(event):
    class Fails(Callback):
        order = 70
    setattr(Fails, event, lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    learn = watched(make_dls(*aug_transforms()), resize())
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=Fails())
    if event=='before_batch': assert learn.recorder.metric_names==['epoch','train_loss','valid_loss','accuracy','time']
    learn.table.lines = []
    learn.fit(2)
    assert learn.table.lines[0][-1]=='size' and [len(l) for l in learn.table.lines]==[6]*3
    learn.remove_cb(ProgressiveResize)
    learn.fit(2)
    assert [len(l) for l in learn.table.lines]==[5]*3
    assert [*learn.csv_logger.read_log().columns]==['epoch','train_loss','valid_loss','accuracy','time']

def test_a_cancelled_epoch_shifts_no_column():
    class Stop(Callback):
        def before_batch(self):
            if self.training and self.epoch==0 and self.iter==3: raise CancelTrainException
    learn = watched(make_dls(*aug_transforms()), resize(), Stop())
    learn.fit(2)
    assert [len(l) for l in learn.table.lines]==[6,4,6]

def test_only_a_fit_has_the_column():
    learn = watched(make_dls(*aug_transforms()), resize())
    learn.fit(2)
    n = len(learn.table.lines)
    learn.table.lines.clear()
    learn.validate()
    learn.get_preds()
    learn.lr_find(num_it=4, show_plot=False)
    assert n==3 and not any('size' in l for l in learn.table.lines)

@rows
def test_the_bars_comment_shows_the_size(increase_mode):
    learn = watched(make_dls(*aug_transforms()), resize(increase_mode=increase_mode))
    learn.fit(4)
    assert [c.split(' · ')[-1] for c in learn.table.comments]==[f'{h} px' for h,_ in learn.seen.train]
    assert learn.table.comments[0]=='32 px' and all(len(c.split(' · '))==2 for c in learn.table.comments[1:8])

def test_the_bars_comment_of_a_rectangle():
    learn = watched(make_dls(*aug_transforms(), size=(48,64)), resize())
    learn.fit(1)
    assert learn.table.comments[0]=='24×32 px'

def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    res = EventAccumulator(str(folder))
    res.Reload()
    return {k: [(e.step,e.value) for e in res.Scalars(k)] for k in res.Tags()['scalars']}

def test_tensorboard():
    from fastai.callback.tensorboard import TensorBoardCallback
    learn = watched(make_dls(*aug_transforms()), resize(), TensorBoardCallback('logs', trace_model=False, log_preds=False))
    learn.fit(4)
    got = events('logs')
    assert got['progressive_resize_size']==[(i+1,h) for i,(h,_) in enumerate(learn.seen.train)]
    assert {s for s,_ in got['train_loss']}=={s for s,_ in got['progressive_resize_size']}
    assert 'accuracy' in got and 'size' not in got

def test_tensorboard_of_a_rectangle():
    from fastai.callback.tensorboard import TensorBoardCallback
    learn = watched(make_dls(*aug_transforms(), size=(48,64)), resize(), TensorBoardCallback('logs', trace_model=False, log_preds=False))
    learn.fit(2)
    got = events('logs')
    assert [(h,w) for (_,h),(_,w) in zip(got['progressive_resize_height'], got['progressive_resize_width'])]==learn.seen.train

def offline_log():
    "What the last offline run of W&B wrote: one dict a step. Its file is a log of protobuf records in LevelDB's format"
    import json, struct
    from wandb.proto import wandb_internal_pb2
    data,at,part,res = next(Path('wandb').glob('offline-run-*/*.wandb')).read_bytes(),7,b'',[]
    while at<len(data):
        if 32768-at%32768<7: at += 32768-at%32768
        _,n,kind = struct.unpack_from('<IHB', data, at)
        part,at = part+data[at+7:at+7+n],at+7+n
        if kind not in (1,4): continue  # the record goes on in the next block
        rec,part = wandb_internal_pb2.Record.FromString(part),b''
        if rec.HasField('history'): res.append({i.key or '.'.join(i.nested_key): json.loads(i.value_json) for i in rec.history.item})
    return res

@pytest.fixture
def wandb_run(monkeypatch):
    wandb = pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    run = wandb.init(project='test', dir='.')
    yield run
    run.finish()

@pytest.mark.slow
def test_wandb(wandb_run, monkeypatch):
    from fastai.callback import wandb as fw
    monkeypatch.setattr(Learner, 'gather_args', lambda self: {})  # what fails with fastcore 2.2
    learn = watched(make_dls(*aug_transforms()), resize(), fw.WandbCallback(log_preds=False))
    learn.fit(2)
    wandb_run.finish()
    sys.modules['wandb'].teardown()  # its service may write the file only when it ends
    got = [o for o in offline_log() if 'train_loss' in o]
    assert [o['progressive_resize_size'] for o in got]==[h for h,_ in learn.seen.train]

@pytest.mark.xfail(raises=TypeError, strict=True,
                   reason="fastai 2.8.12's WandbCallback with fastcore 2.2: TypeError: vars() argument must have __dict__ attribute")
def test_wandb_whole(wandb_run):
    from fastai.callback import wandb as fw
    learn = watched(make_dls(*aug_transforms()), resize(), fw.WandbCallback(log_preds=False))
    learn.fit(1)
    assert wandb_run.summary['progressive_resize_size']==64

def advised(learn, **kwargs):
    "What a fit prints"
    from contextlib import redirect_stdout
    from io import StringIO
    out = StringIO()
    with redirect_stdout(out): learn.fit(4, **kwargs)
    return out.getvalue()

two_parts = lambda: nn.Sequential(nn.Conv2d(3,8,3,2), nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2)))

@pytest.mark.slow
def test_a_frozen_body_is_worth_a_word():
    learn = learner(make_dls(*aug_transforms()), resize(verbose=True), model=two_parts(), splitter=lambda m: [params(m[0]),params(m[1])])
    learn.freeze()
    assert 'fine-tuning on a few hundred photographs lost accuracy with small images' in advised(learn)
    learn.progressive_resize.verbose = False
    assert advised(learn)==''
    learn.progressive_resize.verbose = True
    learn.unfreeze()
    assert 'accuracy' not in advised(learn)

def compiled(): return torch.compile(small_model(), backend='eager', dynamic=False)

every_4 = SizeSchedule([(s,s) for s in range(32,65,4)], [0.5+i/32 for i in range(8)])
@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [dict(increase_by=4), dict(schedule=every_4)])
@torch._dynamo.config.patch(recompile_limit=64)
def test_what_compiling_cost(kwargs, monkeypatch):
    monkeypatch.setattr('fastresize.compiled._min_fraction', 0)  # here the rest of the fit is as quick
    torch._dynamo.reset()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(**kwargs), model=compiled())
    said = re.search(r'Every size was compiled separately: (\d+) compilations, ([\d.]+) s; (.*) would need (\d+)', advised(learn)).groups()
    n,_,what,fewer = said
    assert int(n)>=9 and what==('increase_by=16' if 'increase_by' in kwargs else 'a schedule of 3 sizes') and int(fewer)==round(int(n)*3/9)
    assert 'compiled separately' not in advised(learn)  # the second fit finds every size compiled
    torch._dynamo.reset()
    learn.progressive_resize.verbose = False
    assert advised(learn)==''

def test_few_sizes_are_compiled_without_a_word(monkeypatch):
    monkeypatch.setattr('fastresize.compiled._min_fraction', 0)
    torch._dynamo.reset()
    learn = learner(make_dls(*aug_transforms()), resize(increase_by=16, verbose=True), model=compiled())
    assert 'compiled separately' not in advised(learn)

def csv_learner(*cbs, **kwargs):
    learn = Learner(make_dls(*aug_transforms()), small_model(), cbs=[*cbs], loss_func=nn.CrossEntropyLoss(), metrics=accuracy, **kwargs)
    learn.remove_cb(ProgressCallback)
    return learn

def test_a_file_that_is_appended_to_keeps_its_columns():
    learn = csv_learner()
    learn.fit(1, cbs=CSVLogger())
    learn.fit(2, cbs=[resize(),CSVLogger(append=True)])
    df = pd.read_csv('history.csv')
    assert [*df.columns]==['epoch','train_loss','valid_loss','accuracy','time'] and len(df)==1+1+2   # fastai writes its header anew
    learn.fit(1, cbs=[resize(),CSVLogger('sizes.csv')])
    learn.fit(2, cbs=[resize(),CSVLogger('sizes.csv', append=True)])
    df = pd.read_csv('sizes.csv')
    assert [*df.columns][-1]=='size' and [*df['size']]==['64','size','32','64']

def test_a_logger_with_its_own_before_fit_gets_header_and_rows_alike():
    class Own(CSVLogger):
        def before_fit(self):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = (self.path/self.fname).open('w')
            self.file.write(','.join(self.recorder.metric_names) + '\n')
            self.old_logger,self.learn.logger = self.logger,self._write_line
    learn = csv_learner(resize(), Own())
    with learn.no_logging(): learn.fit(4)
    df = pd.read_csv('history.csv')
    assert [*df['size']]==[32,32,56,64] and [*df.epoch]==[0,1,2,3]

def test_whoever_reads_the_logger_gets_rows_as_long_as_the_names():
    rows = []
    class Reads(Callback):
        order = 90
        def before_fit(self):
            self.learn.logger = lambda row: rows.append((list(self.recorder.metric_names), list(row)))
    learn = csv_learner(resize(), Reads())
    learn.fit(2)
    assert all(len(n)==len(r) for n,r in rows) and [dict(zip(n, r))['size'] for n,r in rows]==[32,64]
    assert learn.recorder.metric_names==['epoch','train_loss','valid_loss','accuracy','time']

def test_the_recorders_names_fit_its_own_rows_in_the_middle_of_a_fit():
    tables = []
    class Reads(Callback):
        order = 90
        def after_epoch(self):
            rec = self.learn.recorder
            tables.append((pd.DataFrame([rec.log], columns=rec.metric_names), pd.DataFrame(rec.values, columns=rec.metric_names[1:-1])))
    learn = csv_learner(resize(), Reads(), CSVLogger('sizes.csv'))
    learn.fit(2)
    assert [len(values) for _,values in tables]==[1,2] and [*pd.read_csv('sizes.csv')['size']]==[32,64]

def test_a_learner_without_a_recorder():
    cbs = [TrainEvalCallback,CastToTensor,resize(),Seen()]
    learn = Learner(make_dls(*aug_transforms()), small_model(), loss_func=nn.CrossEntropyLoss(), default_cbs=False, cbs=cbs)
    learn.fit(4)
    assert learn.seen.train==due(32)

# ---- what it was worth

class Takes(Callback):
    "Steps of so many seconds, by the height of the pictures, and as many of something else after them"
    order = 100
    def __init__(self, clock, step, after): self.clock,self.step,self.after = clock,step,after
    def after_pred(self): self.clock.sleep(self.step(self.x.shape[-2]))
    def after_batch(self): self.clock.sleep(self.after)

class SlowItems(Transform):
    def __init__(self, clock, seconds): self.clock,self.seconds = clock,seconds
    def encodes(self, x:PILImage):
        self.clock.sleep(self.seconds)
        return x

def worth(capsys, clock, step, item=0, after=0, **kwargs):
    dls = make_dls(*aug_transforms(), item_tfms=SlowItems(clock, item))
    learn = learner(dls, ProgressiveResize(**{'increase_by':16, **kwargs}), Takes(clock, step, after))
    learn.fit(4)
    return capsys.readouterr().out

def test_what_a_training_has_saved_is_said(capsys, clock):
    "Half of 32 batches at 32 px, a quarter at 48, a quarter at 64"
    out = worth(capsys, clock, lambda h: h)
    assert 'Images of 32 px took 0.50 of the time of 64 px images; all training batches took about 0.69 of their time at full size.\n' in out
    assert 'no speed-up' not in out

@pytest.mark.slow
def test_where_it_did_not_pay_the_likeliest_reason_is_said(capsys, clock):
    out = worth(capsys, clock, lambda h: 60)
    assert 'took about 1.00 of their time at full size. Progressive resizing gave little or no speed-up in this run: either the steps are too short' in out
    out = worth(capsys, clock, lambda h: 8, 4)   # batches of 8
    assert 'gave little or no speed-up in this run: the model waited for data 80% of the time; `resize_items=True` may help.' in out
    assert 'of the time; more workers may help.' in worth(capsys, clock, lambda h: 8, 4, resize_items=True)
    out = worth(capsys, clock, lambda h: h, start=.1, finish=.12, increase_by=32)
    assert 'gave little or no speed-up in this run: too few training batches were below full size.' in out

def test_on_a_gpu_the_processor_may_be_what_takes_the_time(capsys, clock, monkeypatch):
    monkeypatch.setattr('fastresize.log.torch.cuda.is_available', lambda: True)
    assert launch_advice().startswith('; a fast GPU waits for the CPU to launch each step, so larger batches or a fused optimizer')
    monkeypatch.undo()
    assert launch_advice()=='' or torch.cuda.is_available()

def test_what_others_do_between_batches_is_not_waiting(capsys, clock):
    out = worth(capsys, clock, lambda h: 1, after=30)
    assert 'gave little or no speed-up in this run: either the steps are too short for the size to matter, or the time is spent elsewhere' in out

def test_batches_that_are_cancelled_before_the_callback_sees_them():
    class Skip(Callback):
        def before_batch(self):
            if self.training and self.iter%2: raise CancelBatchException
    learn = learner(make_dls(*aug_transforms()), Skip(), ProgressiveResize(increase_by=16))
    learn.fit(4)
    assert learn.seen.train==due(32, by=16)[::2]

def test_nothing_is_said_where_too_little_was_seen(capsys, clock):
    assert 'took' not in worth(capsys, clock, lambda h: 5, verbose=False)
    assert 'took' not in worth(capsys, clock, lambda h: 5, start=.98, finish=1.)   # one batch of full size
    assert 'took' not in worth(capsys, clock, lambda h: .1)   # three seconds

@pytest.mark.parametrize('order', [10,70])
def test_rows_have_their_size_after_predictions_in_the_fit(tmp_path, order):
    class Predicts(Callback):
        busy = False
        def after_epoch(self):
            if self.busy: return   # predictions end with this event too
            self.busy = True
            self.learn.get_preds()
            self.busy = False
    Predicts.order,rows = order,[]
    learn = learner(make_dls(), ProgressiveResize(increase_by=8), Predicts(), CSVLogger(tmp_path/'h.csv'))
    learn.logger = rows.append
    learn.fit(4)
    lines = [o.split(',') for o in (tmp_path/'h.csv').read_text().split()]
    assert lines[0][-1]=='size' and [o[-1] for o in lines[1:]]==['32','32','56','64'] and len({*map(len, lines)})==1
