"""Trainings that prove a claim or take it back: `python benchmarks/run.py imagenette --data path/to/imagenette`

An experiment (`experiments.py` has them all) is a table of trainings, its *arms*, that differ in one thing. Each arm is trained with
every seed, seed by seed, in a process of its own with one thread, and measured at full size after the training. A training ends as one
line in `results/<experiment>.jsonl`; what is in that file with the same arguments is not trained again, so a run that was stopped,
killed even, goes on where it was.

    python benchmarks/run.py imagenette --data ~/imagenette --jobs 2     # accuracy: repeats to the digit beside other work
    python benchmarks/run.py imagenette --data ~/imagenette --seconds    # seconds: all threads, fewer pictures, an idle machine
    python benchmarks/run.py imagenette --report                         # the table, from the file alone

What is timed is the training alone, without validation. Differences are paired: each seed against the same seed at full size, or of
what else the experiment compares with, trained on the same device; the seeds may come from several devices, and each counts once.
*No worse* is a one-sided paired t-test against a loss of one point. Bare steps are those of the model on batches that lie ready:
their share of the time, by that of their training, is the training's efficiency.
"""
import json, math, os, time
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median, stdev
from unittest import mock

import torch
from fastai.vision.all import Callback, CancelValidException, set_seed
from fastcore.script import call_parse
from scipy import stats

from record import interleaved, sync, table, versions
from experiments import experiments
from fastresize.bench import BenchError, check_numbers, device_name, in_one_line, out_folder

# ---- one training

class TrainedSizes(Callback):
    "How many batches were trained at each size"
    order = 90
    def __init__(self): self.counts = {}
    def count(self, size): self.counts[size] = self.counts.get(size, 0)+1
    def before_batch(self):
        if self.training: self.count(self.x.shape[-1])

class NoValid(Callback):
    "Leaves validation out"
    order = 60 # behind the recorder, which gets ready for it
    def before_validate(self): raise CancelValidException

def other_work():
    "Seconds of processor time that this machine has spent, on this process and its kind, and on everything else; None where that is not known"
    try: user,nice,system,_,_,irq,soft,steal = map(int, Path('/proc/stat').read_text().split()[1:9])
    except OSError: return None
    return (user+nice+system+irq+soft+steal)/os.sysconf('SC_CLK_TCK'),sum(os.times()[:4])

def is_idle(before, after, seconds):
    "True if other work took less than 3 % of a core"
    if None in (before,after): return None
    busy,ours = (b-a for a,b in zip(before, after))
    return busy-ours<.03*seconds

def train(experiment, arm, seed, kind, a, threads):
    "Train once; what was measured: seconds, and unless only they are, the metric"
    e,way = experiments[experiment],experiments[experiment].arms[arm]
    torch.set_num_threads(threads)
    set_seed(seed, reproducible=torch.cuda.is_available())
    learn,sizes = e.learner(a),TrainedSizes()
    learn.add_cb(NoValid())
    with learn.no_bar(), learn.no_logging():
        sync()
        before,start = other_work(),time.perf_counter()
        cbs = way.callbacks(a)
        found = (way.fit or e.fit)(learn, a, [sizes, *cbs]) or {}
        sync()
        seconds,after = time.perf_counter()-start,other_work()
        learn.remove_cb(NoValid)
        found |= {'chosen': cb.chosen.call or 'full size' for cb in cbs if getattr(cb, 'chosen', None)}
        if kind!='seconds': found |= validate(learn, e, a)
    return dict(seconds=seconds, idle=is_idle(before, after, seconds), sizes=sizes.counts, **found)

def validate(learn, e, a):
    "Losses and metrics at full size, and at the test size"
    names = ['valid_loss',*(m.name for m in learn.metrics)]
    found = dict(zip(names, map(float, learn.validate())))
    if 'test_size' in a:
        with learn.at_test_size(a['test_size']): found[f'{e.metric} at the test size'] = float(learn.validate()[names.index(e.metric)])
    return found

def train_and_record(file, row, **kwargs):
    "Append a line to `file` once the training is over"
    res = train(row['experiment'], row['arm'], row['seed'], row['kind'], {**row['arguments'], **kwargs}, row['threads'])
    row = {**row, **res, 'date': f'{datetime.now():%Y-%m-%d %H:%M}', 'environment': {k: v for k,v in os.environ.items() if k.startswith('MALLOC_')}}
    with open(file, 'a') as f:
        f.write(json.dumps(row)+'\n')
        f.flush()
        os.fsync(f.fileno())
    return row

memory_kept = dict(MALLOC_MMAP_THRESHOLD_='33554432', MALLOC_TRIM_THRESHOLD_='4294967296')   # for glibc, which reads them when a process begins

def train_all(file, rows, jobs, **kwargs):
    "`train_and_record` for each of `rows`, so many at a time, each in a process of its own, which keeps the memory of a step; or all in this one"
    if not jobs:
        for o in rows: yield train_and_record(file, o, **kwargs)
        return
    with mock.patch.dict(os.environ, memory_kept), ProcessPoolExecutor(jobs, mp_context=get_context('spawn'), max_tasks_per_child=1) as pool:
        for f in as_completed([pool.submit(train_and_record, file, o, **kwargs) for o in rows]): yield f.result()

# ---- all of them

def read(file):
    "The rows of a results file; a last line that was not finished is left out"
    if not file.exists(): return []
    text = file.read_text()
    if text and not text.endswith('\n'): file.write_text(text[:text.rfind('\n')+1])
    return [json.loads(o) for o in file.read_text().splitlines()]

identity = 'arm','seed','kind','threads','arguments' # of a training, wherever it is done

def equal_epochs(arm, e, rows, a, device):
    "As many epochs as take the time of the reference: those in the file, or by the ratio of its seconds on an idle machine"
    before = [r['arguments']['epochs'] for r in rows if r['arm']==arm and r['kind']!='seconds']
    if before: return before[0]
    ratios = [1/r for r in time_ratios([r for r in rows if r['device']==device], e.arms[arm].equal_time, e.reference)]
    return round(a['epochs']*median(ratios)) if ratios else None

def todo(name, rows, a, seeds, first, kind, device, threads, arms=None):
    """The trainings that are not in the file yet, seed by seed, each seed in an order of its own

    An accuracy may come from another device, if that of the reference comes from it too; seconds beside other work are measured again."""
    e,found = experiments[name],{}
    def key(r): return json.dumps([r[k] for k in identity], sort_keys=True)
    for r in rows:
        if kind=='accuracy' or (r['device']==device and r['idle'] is not False): found.setdefault(key(r), set()).add(r['device'])
    for seed,order in interleaved(arms or e.arms, seeds, first):
        wanted = {}
        for arm in dict.fromkeys([*order, e.reference]):
            if arm is None or (e.arms[arm].seconds_only and kind!='seconds'): continue
            args = {**a, **e.arms[arm].changes}
            if e.arms[arm].equal_time:
                if kind=='seconds': continue
                args['epochs'] = equal_epochs(arm, e, rows, args, device)
                if not args['epochs']: continue   # nothing is known of the seconds yet
            wanted[arm] = dict(experiment=name, arm=arm, seed=seed, kind=kind, device=device, threads=threads, arguments=args)
        there = {arm: found.get(key(row), set()) for arm,row in wanted.items()}
        reference = there.get(e.reference, set())
        paired_on = reference if e.reference else {r['device'] for r in rows}
        unpaired = [arm for arm in order if arm in wanted and arm!=e.reference and not there[arm] & paired_on]
        for arm in order:
            needed = arm in unpaired or (arm==e.reference and (unpaired or not reference))
            if needed and device not in there[arm]: yield wanted[arm]

def where(r):
    "What a pair has in common: device, seed, and all arguments but those that arms have for themselves"
    changed = {'epochs'}.union(*(o.changes for o in experiments[r['experiment']].arms.values()))
    return r['device'],r['seed'],json.dumps({k: v for k,v in r['arguments'].items() if k not in changed}, sort_keys=True)

def time_ratios(rows, arm, reference):
    "Seconds of an arm over those of the reference, round by round of an idle machine"
    took = {(r['arm'],*where(r)): r['seconds'] for r in rows if r['kind']!='accuracy' and r['idle']}
    return [s/took[(reference,*pair)] for (o,*pair),s in took.items() if o==arm and (reference,*pair) in took]

def points(rows, arm, metric):
    "The metric of an arm in points, by what a pair has in common"
    return {where(r): 100*r[metric] for r in rows if r['arm']==arm and r['kind']!='seconds' and metric in r}

def by_seed(values):
    "One value for each seed: of the device that comes first"
    return [*{seed: v for (_,seed,_),v in reversed(values.items())}.values()][::-1]

def paired(rows, arm, reference, metric):
    "Differences of an arm to the reference in points, both of the same seed and device"
    if arm==reference: return []
    base = points(rows, reference, metric)
    return by_seed({k: v-base[k] for k,v in points(rows, arm, metric).items() if k in base})

def interval(d):
    "Half of the 95 % interval of the mean, or None for less than two"
    return stats.t.ppf(.975, len(d)-1)*stdev(d)/math.sqrt(len(d)) if len(d)>1 else None

def no_worse(d, points=1):
    "p of a one-sided test that the mean is above a loss of so many points"
    return float(stats.ttest_1samp(d, -points, alternative='greater').pvalue) if len(d)>1 and stdev(d) else None

def summary(name, rows):
    "The table of an experiment, with the devices that it was trained on"
    e,devices = experiments[name],[*dict.fromkeys(r['device'] for r in rows)]
    t = table(summary_rows(e, rows, devices))
    return f'{e.description}, {" and ".join(devices)}\n{t}' if t else f'{e.description}: no training in the file yet'

def summary_rows(e, rows, devices):
    "A line for each arm: accuracy from all devices, time from each of them"
    to,there = f'points to {"full size" if e.reference=="full" else e.reference}',f'{e.metric} at the test size'
    def times(arm): return {'of the time'+(f', {d}' if len(devices)>1 else ''): time_cell(time_ratios([r for r in rows if r['device']==d], arm, e.reference))
                            for d in devices}
    return [{'training': arm, **accuracy_cells(e, rows, arm, e.metric, to), **accuracy_cells(e, rows, arm, there, f'{to} there'), **times(arm)}
            for arm in e.arms if any(r['arm']==arm for r in rows)]

def accuracy_cells(e, rows, arm, metric, to):
    "The mean over the seeds, and the difference to the reference"
    found,base = points(rows, arm, metric),points(rows, e.reference, metric)
    if not found: return {}
    values,d = by_seed({k: v for k,v in found.items() if k in base} or found),paired(rows, arm, e.reference, metric)
    pm,p = interval(d),no_worse(d)
    res = {f'{metric} (%)': f'{mean(values):.1f}', to: f'{mean(d):+.1f}'+(f' ± {pm:.1f}' if pm else '') if d else ''}
    if metric==e.metric: res = {'seeds': str(len(d) or len(values)), **res, 'p (no worse by 1 point)': f'{p:.2g}' if p is not None else ''}
    return res

def time_cell(ratios): return f'{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})' if ratios else ''

@call_parse
def main(
    experiment:str, # One of the table in `experiments.py`
    data:str=None, # Folder with the pictures, in `train` and `val`
    seeds:int=None, # How many seeds; by default as many as the experiment wants
    first:int=None, # First seed; by default the experiment's
    arms:str=None, # Names of the arms to train, with semicolons between them; by default all
    seconds:bool=False, # Measure seconds: all threads, one training at a time, fewer pictures
    jobs:int=1, # Trainings at a time, where accuracy is measured; 0: one after the other in this process
    workers:int=0, # Loader processes of a training
    smoke:bool=False, # Train tiny models that only show that everything runs; they have a results file of their own
    report:bool=False, # Print the table of what is in the file, and train nothing
    out:str='benchmarks/results', # Folder of the results file
):
    "Train the arms of an experiment with several seeds, and print the table"
    with in_one_line('run'):
        if experiment not in experiments: raise BenchError(f'{experiment}: expected one of {", ".join(experiments)}')
        e,file = experiments[experiment],out_folder(out)/f'{experiment}{"-smoke"*smoke}.jsonl'
        names = arms.split(';') if arms else [*e.arms]
        for o in names:
            if o not in e.arms: raise BenchError(f'--arms {arms}: expected names out of {"; ".join(e.arms)}')
        check_numbers(dict(seeds=e.seeds if seeds is None else seeds), dict(jobs=jobs, first=first, workers=workers))
        if not report:
            if data is None: raise BenchError('--data: expected the folder with the pictures')
            path = e.find(data)
            needs = [*([] if smoke else e.needs), *dict.fromkeys(o for k in names for o in e.arms[k].needs)]
            missing = [o for o in needs if find_spec(o.replace('-', '_')) is None]
            if missing: raise BenchError(f'{experiment} needs {" and ".join(missing)}: pip install --no-deps {" ".join(missing)}')
    if not report:
        kind = 'both' if e.timing is None else 'seconds' if seconds else 'accuracy'
        threads = 1 if kind=='accuracy' else torch.get_num_threads()
        a = {**e.arguments, **(e.timing if kind=='seconds' else {}), **(e.smoke if smoke else {}), 'workers': workers, 'data': path.name}
        rows = todo(experiment, read(file), a, seeds or e.seeds, e.first if first is None else first, kind, device_name(), threads, names)
        rows = [{**o, 'versions': versions()} for o in rows]
        for r in train_all(file.resolve(), rows, jobs if kind=='accuracy' else min(jobs, 1), data=str(path.resolve())):
            beside = '' if r['idle'] else ' beside other work'
            found = f', {r[e.metric]:.1%}' if e.metric in r else ''
            print(f'{r["arm"]}, seed {r["seed"]}: {r["seconds"]:.1f} s{beside}{found}', flush=True)
    print(summary(experiment, read(file)))
