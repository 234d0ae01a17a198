"The scripts in `benchmarks`: that they run, and that what they write down is what they saw"
import contextlib, csv, gc, importlib, io, json, os, shutil, subprocess, sys, tarfile
from pathlib import Path
from statistics import median
import pytest, torch
from fastai.learner import Learner
from fastresize.demo import demo_data
from fastresize.schedule import size_schedule
from PIL import Image
from util import Seen, learner, make_dls

folder = Path(__file__).resolve().parents[1]/'benchmarks'
ours = ['full','by hand','composer','batch','epoch','items','items epoch','cache','smaller','filtered','larger','renewed','warm','gentle','mixed','max_bs','crop','lowpass','equal time']

def script(name, *args, cwd, **env):
    return subprocess.run([sys.executable, folder/f'{name}.py', *args], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONWARNINGS':'ignore', **env})

@contextlib.contextmanager
def frozen():
    "What is there by now is not looked through again, when a script collects garbage before each training"
    gc.collect()
    gc.freeze()
    try: yield
    finally: gc.unfreeze()

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    d = tmp_path_factory.mktemp('compare')
    demo_data(d/'pics', n_train=4, n_valid=2, size=40)
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as m, contextlib.redirect_stdout(said), frozen():
        m.syspath_prepend(folder)
        importlib.import_module('compare').main(str(d/'pics'), arch='shufflenet_v2_x0_5', size=32, epochs=2, bs=4, increase_by=8, seeds=2, workers=0,
                                                modes=','.join([*ours,'preview','floor']), n_train=16, device_name='Some machine', out=str(d/'here'))
    return d,said.getvalue()

@pytest.fixture(scope='module')
def results(run): return json.loads(next(run[0].glob('here/some-machine-*.json')).read_text())

def test_compare_trains_every_mode_with_every_seed(run, results):
    rows = results['runs']
    assert not [o for o in rows if 'error' in o]
    for mode in [*ours,'preview batch','preview epoch','floor full','floor batch','floor epoch']:
        assert sorted(o['seed'] for o in rows if o['mode']==mode) == [42,43]
    assert [o['mode'] for o in rows if o['seed']==42] != [o['mode'] for o in rows if o['seed']==43] # in another order
    sizes = {o['mode']: (o['first_size'],o['last_size']) for o in rows if 'first_size' in o}
    assert [sizes.pop(m) for m in ('full','smaller','larger')]==[(32,32),(13,26),(24,32)] and sizes.pop('mixed')[0] in (16,24,32)
    assert all(s==(16,32) for s in sizes.values()) and len(sizes)==15
    for o in rows:
        if 'accuracy' in o: assert 0<=o['accuracy']<=1 and o['seconds']>0 and 0<o['waiting']<1
        if o['mode']=='equal time': assert o['epochs']>2

def test_compare_sums_up_what_it_saw(run, results):
    def of(mode, k): return [o[k] for o in sorted(results['runs'], key=lambda o: o['seed']) if o['mode']==mode]
    full = of('full', 'seconds')
    for mode in ours:
        s = results['summary'][mode]
        ratios = [a/b for a,b in zip(full, of(mode, 'seconds'))]
        assert s['speedup'] == pytest.approx(dict(median=median(ratios), min=min(ratios), max=max(ratios)))
        off = [a-b for a,b in zip(of(mode, 'accuracy'), of('full', 'accuracy'))]
        assert s['accuracy_to_full'] == pytest.approx(dict(mean=sum(off)/2, min=min(off), max=max(off)))
    for mode in ('full','batch','epoch'):
        shares = [a/b for a,b in zip(of(f'floor {mode}', 'seconds'), of(mode, 'seconds'))]
        assert results['summary'][mode]['efficiency']['median'] == pytest.approx(median(shares))
    assert results['arguments']['size']==32 and results['arguments']['data']=='pics' and results['device']=='Some machine'
    n_class = results['pictures']['classes']
    assert results['pictures']==dict(train=16, val=n_class*2, classes=n_class) and results['threads']==1
    assert results['versions']['torch'] and 'commit' in results['versions']
    assert results['left_out'] == {'fastxtend batch':'not asked for', 'fastxtend epoch':'not asked for'}

def test_compare_prints_and_writes_the_same(run, results):
    d,said = run
    stem = next((d/'here').glob('*.json')).with_suffix('')
    assert str(d) not in stem.with_suffix('.json').read_text()
    assert len(list(csv.DictReader(stem.with_suffix('.csv').open()))) == len(results['runs'])
    assert Image.open(stem.with_suffix('.png')).size[0]>1000
    for word in (*ours,'speedup','accuracy','efficiency','predicted','floor epoch','Some machine'): assert word in said

@pytest.mark.parametrize('name,args,words', [
    ('compare', dict(modes='full,fast'), '--modes: expected a list of full, by hand'),
    ('compare', dict(modes='full,equal time'), '--modes: expected `full` and `batch` beside `equal time`'),
    ('compare', dict(seeds=0), '--seeds 0: expected a number above 0'),
    ('compare', dict(n_train=-1), '--n-train -1: expected a number of 0 or more'),
    ('compare', dict(n_train=3), '--n-train 3: expected at least one picture for each of the '),
    ('compare', dict(lr=float('nan')), '--lr nan: expected a number above 0'),
    ('compare', dict(out='afile'), '--out afile: expected a folder to write into'),
    ('compare', dict(out='/proc'), '--out /proc: expected a folder to write into'),
    ('compare', dict(data='nowhere'), '--data nowhere: expected `imagenette`, `demo`, or a folder'),
    ('cost', dict(rounds=0), '--rounds 0: expected a number above 0'),
    ('cost', dict(part='sweep,fit'), '--part fit: expected any of sweep, fits, calls'),
    ('cost', dict(against='nowhere'), '--against nowhere: expected a folder with `fastresize` in it'),
    ('resize', dict(rounds=0), '--rounds 0: expected a number above 0'),
    ('resize', dict(out='afile'), '--out afile: expected a folder to write into'),
    ('memory', dict(rounds=0), '--rounds 0: expected a number above 0'),
    ('cost', dict(device='tpu'), '--device tpu: expected cpu or cuda'),
    ('cost', dict(out='afile'), '--out afile: expected a folder to write into'),
    ('run', dict(experiment='flowers'), 'flowers: expected one of imagenette'),
    ('run', dict(experiment='imagenette', arms='full;half'), '--arms full;half: expected names out of full; batch'),
    ('run', dict(experiment='imagenette'), '--data: expected the folder'),
    ('gpu', dict(bs=0), '--bs 0: expected a number above 0'),
    ('gpu', dict(n=8), '--n 8: expected at least a batch of --bs 64'),
    ('gpu', dict(configs='fp8'), '--configs fp8: expected plain, or any of bf16'),
])
def test_mistakes_are_one_line_and_exit_code_2(module, capsys, name, args, words):
    Path('afile').touch()
    with pytest.raises(SystemExit) as e: module(name).main(**args)
    err = capsys.readouterr().err
    assert e.value.code==2 and words in err and len(err.strip().splitlines())==1

@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a CUDA device')
def test_gpu_without_one(module, capsys):
    with pytest.raises(SystemExit) as e: module('gpu').main()
    assert e.value.code==2 and 'no CUDA device found' in capsys.readouterr().err

def test_results_are_not_written_over(module, tmp_path):
    record = module('record')
    first = record.stem(tmp_path, 'AMD EPYC (2.4 GHz)')
    assert first.name.startswith('amd-epyc-2-4-ghz-20')
    record.with_suffix(first, '.json').touch()
    assert record.stem(tmp_path, 'AMD EPYC (2.4 GHz)').name == f'{first.name}-2'

def test_without_fastxtend_its_modes_are_left_out(module, monkeypatch, tmp_path):
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    with pytest.raises(ImportError, match='pip could not install fastxtend==0.1.7'): module('peers').load_fastxtend(tmp_path/'peers')

def test_composers_way_resizes_what_is_trained_on(module):
    learn = learner(make_dls(), module('peers').SecondResize(size_schedule(64, 2, increase_by=8)))
    learn.fit(2)
    assert learn.seen.train[0]==(32,32) and learn.seen.train[-1]==(64,64) and len({*learn.seen.train})==5
    assert {*learn.seen.valid}=={(64,64)}

def test_cost_times_steps_and_growths(module, tmp_path):
    cost = module('cost')
    point = dict(size=32, growths=4, layers=2, bs=4)
    learn,marks = cost.get_learner(**point, device=torch.device('cpu'))
    seen = Seen()
    learn.add_cb(seen)
    run = cost.train_once(learn, marks, first=0)
    assert len({*seen.train})==5 and len(seen.train)==cost.n_batch
    assert 0<run['step_us']<1e5 and run['plan_ms']>0 and run['try_ms']>0 and run['dry_ms']>0 and run['model_ms']>0
    found = dict(rows=[dict(factor=f, **cost.summary(point, [run])) for f in ('size','bs')], runs=[dict(point=point, rounds=[run])])
    files = cost.write(dict(module('record').head('Some machine', dict(rounds=1)), **found), torch.device('cpu'), tmp_path)
    written = json.loads(files[0].read_text())
    assert written['rows'][0]['step_us']==run['step_us'] and 'commit' in written['versions'] and written['arguments']==dict(rounds=1)
    assert [float(o['step_us']) for o in csv.DictReader(files[1].open())]==[run['step_us']]*2
    assert Image.open(files[2]).size[0]>1000

def test_cost_hops_without_a_trace(module):
    cost = module('cost')
    learn,marks = cost.get_learner(size=32, growths=4, layers=2, bs=4, device=torch.device('cpu'))
    runs = [cost.train_once(learn, marks, first=i) for i in range(2)]
    assert not isinstance(learn.dl, cost.SizedDL) and len(learn.hop.asking)==cost.n_batch
    assert all(f.size is None for f in learn.dls.train.after_batch.fs if isinstance(f, cost.AffineCoordTfm))
    assert all(r['step_us']>0 for r in runs)

def test_cost_of_what_is_added_to_real_trainings(module, monkeypatch):
    cost,seen = module('cost'),Seen()
    monkeypatch.setattr(cost, 'n_fit', 12)
    learn = cost.tiny_learner('cpu')
    learn.add_cb(seen)
    for name in cost.added:
        assert cost.fit_once(learn, name)>0
        assert seen.train==[(cost.small,cost.small)]*12   # alike, so that nothing but the callback makes a difference
        seen.clear()
    us = cost.fits(2, 'cpu')
    assert {*us}=={*cost.added} and all(len(v)==2 for v in us.values())
    assert cost.extra(dict(nothing=[5,6,7], ours=[6,8,7]))==dict(ours=1)
    assert 'ThroughputMonitor' in cost.fits_table(us)

def test_cost_of_the_calls_alone(module):
    cost = module('cost')
    us = cost.calls(2, 'cpu', n=50)
    assert {*us}=={'ProgressiveResize','an empty callback','ThroughputMonitor, in the loop','ThroughputMonitor, at its end'}
    assert all(0<v<1e5 for v in us.values())

def test_cost_against_another_checkout(module, tmp_path):
    "The other package is measured, not this one, and this one stays the one that is imported"
    shutil.copytree(folder.parent/'fastresize', tmp_path/'fastresize')
    cost = module('cost')
    theirs = cost.package(tmp_path)
    def where(cls): return Path(cls.before_fit.__code__.co_filename)
    assert where(theirs.ProgressiveResize).is_relative_to(tmp_path)
    assert where(importlib.import_module('fastresize.all').ProgressiveResize).is_relative_to(folder.parent)
    ours = [f.__code__.co_filename for f in (Learner.preview_resize, Learner.fit_stages, Learner.fit_minutes)]
    assert all(Path(o).is_relative_to(folder.parent) for o in ours), 'what it adds to the learner is ours again'
    res = cost.both(tmp_path, 1)
    assert {*res['added_us']}=={'an empty callback','the other','ProgressiveResize'}
    us = res['rounds_us']
    assert res['this_less_other_us']['median']==us['ProgressiveResize'][0]-us['the other'][0]
    assert 'ProgressiveResize less the other' in cost.both_table(res)

def test_resize_times_every_way(module, monkeypatch):
    resize = module('resize')
    monkeypatch.setattr(resize, 'x', torch.rand(2,3,16,16))
    monkeypatch.setattr(resize, 'size', (8,8))
    rows = resize.measure(2)
    ms = {r['what']: r['ms'] for r in rows}
    assert len(rows)==7 and all(v>0 for v in ms.values())
    assert all(r['ratio']==pytest.approx(ms[r['what']]/ms[r['base']]) for r in rows if r['base'])
    assert 'low frequencies by FFT' in resize.ways_table(rows)

def test_memory_is_timed_in_processes_of_their_own(module, monkeypatch):
    memory = module('memory')
    monkeypatch.setattr(memory, 'sizes', (32,))
    assert memory.steps(1)[32]>0
    rounds = [{'given back': {32: 3.}, 'kept': {32: 2.}}, {'given back': {32: 6.}, 'kept': {32: 3.}}]
    row, = memory.rows_of(rounds)
    assert row['times_as_fast']==1.75 and row['given_back_ms']==4.5 and row['of_full_size_kept']==1

def test_rounds_are_interleaved_and_tables_leave_out_what_is_empty(module):
    record = module('record')
    rounds = [*record.interleaved('abcdef', 4, first=3)]
    orders = [o for _,o in rounds]
    assert [r for r,_ in rounds]==[3,4,5,6]
    assert all(sorted(o)==[*'abcdef'] for o in orders) and len({*map(tuple, orders)})>1
    text = record.table([dict(what='first', ms='1', note=''), dict(what='second', ms='2', note='')])
    assert 'note' not in text and [o.split() for o in text.splitlines()]==[['what','ms'], ['first','1'], ['second','2']]

small = dict(arch='shufflenet_v2_x0_5', size=32, bs=8, epochs=2, increase_by=8, n=32)

def test_gpu_script_on_a_cpu_says_what_it_could_not_measure(module, monkeypatch, capsys, tmp_path):
    gpu = module('gpu')
    monkeypatch.setattr(gpu, 'fresh', lambda f, **kwargs: f(**kwargs))
    result = gpu.run(torch.device('cpu'), tmp_path, repeats=1, minutes=5, configs=['plain'], args=dict(**small, data=None))
    assert json.loads(next(tmp_path.glob('cuda-*.json')).read_text())['times'] == result['times']
    ours = [r for r in result['runs'] if r['mode']=='batch']
    assert len(ours)==8 and all([s[0] for s,_ in r['steps']]==[16]*4+[24]*2+[32]*2 for r in ours)
    assert {r['mode'] for r in result['times']}=={'full','batch'} and 'commit' in result['versions']
    settings = [(r['mode'],r['dry_run'],r['expandable'],r['benchmark']) for r in result['runs']]
    assert len({*settings})==len(settings)==12 and all(r['snapshot'] is None for r in result['runs'])
    assert all(('dry_run' in r['allocator'])==r['dry_run'] for r in result['runs'])
    memory = [g for g in result['goals'] if 'segments' in g['what'] or 'peak' in g['what']]
    assert len(memory)==20 and all(g['met'] is None for g in memory)
    assert 'not measured' in capsys.readouterr().out

def test_gpu_tells_the_allocator_before_torch_is_there(module, monkeypatch):
    gpu = module('gpu')
    monkeypatch.delenv('PYTORCH_ALLOC_CONF', raising=False)
    assert {*gpu.fresh(gpu.conf, expandable=True).values()}=={'expandable_segments:True'}
    assert gpu.conf()['PYTORCH_ALLOC_CONF'] is None

@pytest.mark.cuda
def test_gpu_script_measures(tmp_path):
    args = [f'--{k.replace("_","-")}={v}' for k,v in small.items()]
    r = script('gpu', *args, '--repeats', '1', '--configs', 'plain,bf16+channels_last', '--out', tmp_path, cwd=tmp_path)
    assert r.returncode==0, r.stderr
    result = json.loads(next(tmp_path.glob('cuda-*.json')).read_text())
    assert all(g['met'] is not None for g in result['goals'] if 'segments' in g['what'] or 'peak' in g['what'])
    assert len(result['times'])==4
    assert all((tmp_path/'build/snapshots'/r['snapshot']).stat().st_size for r in result['runs']) and len(result['runs'])==12

def test_flowers_are_scaled_and_split(module, capsys, tmp_path):
    valid = (folder/'flowers_valid.txt').read_text().split()
    assert len({*valid})==736 and {o.split('/')[0] for o in valid}=={'daisy','dandelion','roses','sunflowers','tulips'}
    pictures = {valid[0]: (500,333), 'daisy/1_not_in_the_list.jpg': (300,450), 'roses/2_small.jpg': (100,90)}
    with tarfile.open(tmp_path/'a.tgz', 'w:gz') as tar:
        for name,size in pictures.items():
            path = tmp_path/'flower_photos'/name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', size, 'red').save(path)
        tar.add(tmp_path/'flower_photos', 'flower_photos')
    flowers = module('flowers')
    flowers.main(str(tmp_path/'out'), url=(tmp_path/'a.tgz').as_uri())
    assert '2 pictures to train on, 1 to validate on' in capsys.readouterr().out
    sizes = {str(o.relative_to(tmp_path/'out')): Image.open(o).size for o in (tmp_path/'out').rglob('*.jpg')}
    assert sizes=={f'val/{valid[0]}': (336,224), 'train/daisy/1_not_in_the_list.jpg': (224,336), 'train/roses/2_small.jpg': (100,90)}
    words = 'flowers: .*(expected a folder that is not there yet|could not be downloaded)'
    for args in (dict(out=str(tmp_path/'out')), dict(out=str(tmp_path/'new'), url=(tmp_path/'nothing.tgz').as_uri())):
        with pytest.raises(SystemExit, match=words): flowers.main(**args)

@pytest.mark.parametrize('name', ['imagenette'])
def test_every_experiment_runs_and_goes_on_where_it_stopped(module, tmp_path, capsys, name):
    demo_data(tmp_path/'pics', n_train=8, n_valid=4, size=40)
    def run(**kwargs):
        module('run').main(name, data=str(tmp_path/'pics'), smoke=True, out=str(tmp_path/'out'), seeds=1, jobs=0, **kwargs)
        return capsys.readouterr().out, [json.loads(o) for o in (tmp_path/'out'/f'{name}.jsonl').read_text().splitlines()]
    run(seconds=True, arms='full;batch')
    said,rows = run(arms='full;batch;epoch')
    assert len(rows)==5 and {(r['arm'],r['kind']) for r in rows} == {('full','seconds'),('batch','seconds'),('batch','accuracy'),('epoch','accuracy'),('full','accuracy')}
    for r in rows:
        sizes = {int(k): v for k,v in r['sizes'].items()}
        assert sizes.keys()=={32} if r['arm']=='full' else min(sizes)==16 and max(sizes)==32
        assert 0<=r['accuracy']<=1 and r['seconds']>0 and str(tmp_path) not in json.dumps(r)
    file = tmp_path/'out'/f'{name}.jsonl'
    file.write_text('\n'.join(file.read_text().splitlines()[:-1])+'\n{"arm": "fu')   # killed while it wrote
    said,again = run(arms='full;batch;epoch')
    assert [r['arm'] for r in again]==[r['arm'] for r in rows] and again[-1]['accuracy']==rows[-1]['accuracy'] and again[:-1]==rows[:-1]
    assert 'points to full size' in said

def test_a_training_in_a_process_of_its_own_is_the_same(module, tmp_path):
    demo_data(tmp_path/'pics', n_train=8, n_valid=4, size=40)
    def result(jobs):
        module('run').main('imagenette', data=str(tmp_path/'pics'), smoke=True, seeds=1, arms='batch', jobs=jobs, out=str(tmp_path/f'{jobs}'))
        return json.loads((tmp_path/f'{jobs}'/'imagenette.jsonl').read_text())
    own,here = result(1),result(0)
    assert all(own[k]==here[k] for k in ('accuracy','valid_loss','sizes','arguments'))

def test_what_a_results_file_says(module):
    run = module('run')
    def row(arm, seed, kind='accuracy', **kwargs): return dict(arm=arm, seed=seed, kind=kind, arguments=dict(epochs=5), idle=True, **{'device': 'A', **kwargs})
    rows = [row(arm, i, accuracy=.8+d+.001*i, seconds=1.) for arm,d in (('full',0),('batch',.01)) for i in range(5)]
    rows[-1]['accuracy'] += .01
    seconds = [row(arm, i, 'seconds', seconds=s) for i,arm,s in ((0,'full',100.),(0,'batch',60.),(1,'full',120.),(1,'batch',60.))]
    busy = [{**o, 'idle':False, 'seed':9, 'seconds':1.} for o in seconds]
    d = run.paired(rows, 'batch', 'full', 'accuracy')
    assert d==pytest.approx([1,1,1,1,2]) and run.interval(d)==pytest.approx(2.7764*.4472/5**.5, rel=1e-3)
    assert run.no_worse(d)<.001 and run.no_worse([-1.5,-1.2,-.9])>.05
    assert run.time_ratios(rows+seconds+busy, 'batch', 'full')==pytest.approx([.6,.5])
    e = run.experiments['imagenette']
    assert run.equal_epochs('batch, equal time', e, rows+seconds, dict(epochs=5))==9 and run.equal_epochs('batch, equal time', e, rows, dict(epochs=5)) is None
    words = run.summary('imagenette', rows+seconds)
    assert '+1.2 ± 0.6' in words and '0.55 (0.50 to 0.60)' in words
    other = [{**o, 'device':'B', 'accuracy':.5} for o in rows]
    a,b = run.summary('imagenette', rows+seconds+other).split('\n\n')   # devices are not mixed
    assert a==words and '5 epochs, B\n' in b and '+0.0' in b and '0.55' not in b
