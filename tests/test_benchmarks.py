"The scripts in `benchmarks`: that they run, and that what they write down is what they saw"
import csv, json, tarfile
from pathlib import Path
import numpy as np
import pytest, torch
from fastresize.demo import demo_data
from PIL import Image
from util import Seen

folder = Path(__file__).resolve().parents[1]/'benchmarks'

@pytest.fixture
def written(tmp_path):
    "What a script has written: the .json file, and the lines of the .csv file"
    def read(pattern):
        file, = tmp_path.glob(f'{pattern}*.json')
        return json.loads(file.read_text()),[*csv.DictReader(file.with_suffix('.csv').open())]
    return read

@pytest.mark.parametrize('name,args,words', [
    ('cost', dict(rounds=0), '--rounds 0: expected a number above 0'),
    ('resize', dict(rounds=0), '--rounds 0: expected a number above 0'),
    ('resize', dict(out='afile'), '--out afile: expected a folder to write into'),
    ('resize', dict(out='/proc'), '--out /proc: expected a folder to write into'),
    ('items', dict(epochs=3), '--epochs 3: expected 4 or more'),
    ('items', dict(data='.'), '--data .: expected a folder with photographs in it'),
    ('pixels', dict(data='.'), '.: expected a folder with photographs of 224 pixels or more in it'),
    ('memory', dict(rounds=0), '--rounds 0: expected a number above 0'),
    ('auto', dict(data='demo', rounds=0), '--rounds 0: expected a number above 0'),
    ('auto', dict(data='nowhere'), '--data nowhere: expected `imagenette`, `demo`, or a folder'),
    ('cost', dict(out='afile'), '--out afile: expected a folder to write into'),
    ('run', dict(experiment='flowers'), 'flowers: expected one of imagenette'),
    ('run', dict(experiment='imagenette', seeds=0), '--seeds 0: expected a number above 0'),
    ('run', dict(experiment='imagenette', data='nowhere'), '--data nowhere: expected `imagenette`, `demo`, or a folder'),
    ('run', dict(experiment='imagenette', arms='full;half'), '--arms full;half: expected names out of full; batch'),
    ('run', dict(experiment='imagenette'), '--data: expected the folder'),
    ('gpu', dict(bs=0), '--bs 0: expected a number above 0'),
    ('gpu', dict(n=8), '--n 8: expected at least a batch of --bs 64'),
    ('gpu', dict(configs='bf16+fp8'), '--configs bf16+fp8: expected plain, channels_last, bf16, compile, or some'),
    ('gpu', dict(part='steps,speed'), '--part steps,speed: expected any of steps, memory; found speed'),
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

def test_results_are_not_written_over(module, tmp_path, capsys):
    record = module('record')
    for _ in range(2): record.publish(tmp_path, 'AMD EPYC (2.4 GHz)', record.head(dict(rounds=1)), [dict(what='a', ms=1.234, base=None)])
    first,second = sorted(tmp_path.glob('*.json'), key=lambda o: len(o.name))
    assert first.name.startswith('amd-epyc-2-4-ghz-20') and second.name == f'{first.stem}-2.json'
    found = json.loads(first.read_text())
    assert found['rows'][0]['ms']==1.234 and found['arguments']==dict(rounds=1) and found['device'] and found['threads']==1
    assert found['versions']['torch'] and 'commit' in found['versions']
    assert '1.23' in capsys.readouterr().out and first.with_suffix('.csv').read_text().splitlines()[1]=='a,1.234,'

def test_cost_times_steps_and_growths(module):
    cost = module('cost')
    learn,marks = cost.get_learner(size=32, growths=4, layers=2, bs=4)
    seen = Seen()
    learn.add_cb(seen)
    run = cost.train_once(learn, marks, first=0)
    assert len({*seen.train})==5 and len(seen.train)==cost.n_batch
    assert 0<run['step_us'] and run['plan_ms']>0 and run['try_ms']>0 and run['dry_ms']>0 and run['model_ms']>0

@pytest.mark.slow
def test_cost_writes_every_part(module, monkeypatch, tmp_path, written):
    cost = module('cost')
    monkeypatch.setattr(cost, 'usual', dict(size=32, growths=2, layers=2, bs=2))
    monkeypatch.setattr(cost, 'n_fit', 8)
    monkeypatch.setattr(cost.sweep, '__defaults__', (dict(size=(32,), bs=(2,4)),))
    monkeypatch.setattr(cost.calls, '__defaults__', (20,))
    cost.main(rounds=1, out=str(tmp_path))
    found,lines = written('cost-cpu')
    assert [(r['factor'],r['size'],r['bs']) for r in found['rows']]==[('size',32,2),('bs',32,2),('bs',32,4)] and len(lines)==3
    assert {*found['calls']}=={'ProgressiveResize','an empty callback','ThroughputMonitor'}
    assert {*found['fits']}=={'nothing',*found['calls']} and all(len(v)==4 for v in found['fits'].values())

def test_cost_hops_without_a_trace(module):
    cost = module('cost')
    learn,marks = cost.get_learner(size=32, growths=4, layers=2, bs=4)
    runs = [cost.train_once(learn, marks, first=i) for i in range(2)]
    assert not isinstance(learn.dl, cost.SizedDL) and len(learn.hop.asking)==cost.n_batch
    assert all(f.size is None for f in learn.dls.train.after_batch.fs if isinstance(f, cost.AffineCoordTfm))
    assert all(r['step_us']>0 for r in runs)

def test_cost_of_what_is_added_to_real_trainings(module, monkeypatch):
    cost,seen = module('cost'),Seen()
    monkeypatch.setattr(cost, 'n_fit', 12)
    learn = cost.tiny_learner()
    learn.add_cb(seen)
    for name in cost.added:
        assert cost.fit_once(learn, name)>0
        assert seen.train==[(cost.small,cost.small)]*12   # alike, so that nothing but the callback makes a difference
        seen.clear()
    assert cost.extra(dict(nothing=[5,6,7], ours=[6,8,7]))=={'nothing (the whole batch)':6, 'ours':1}

def test_resize_times_every_way(module, monkeypatch, tmp_path, written):
    resize = module('resize')
    monkeypatch.setattr(resize, 'x', torch.rand(2,3,16,16))
    monkeypatch.setattr(resize, 'size', (8,8))
    resize.main(rounds=2, out=str(tmp_path))
    rows = written('resize-cpu')[0]['rows']
    ms = {r['what']: r['ms'] for r in rows}
    assert len(rows)==7 and all(v>0 for v in ms.values())
    assert all(r['ratio']==pytest.approx(ms[r['what']]/ms[r['base']]) for r in rows if r['base'])

@pytest.mark.slow
def test_what_auto_costs_and_chooses(module, tmp_path, written):
    auto = module('auto')
    auto.main(data='demo', sizes='32,64', workers='0', bs=8, n=40, rounds=1, out=str(tmp_path))
    rows = written('auto-cpu')[0]['rows']
    assert [r['training'] for r in rows]==['32 px, 0 workers','64 px, 0 workers'] and {r['chosen'] for r in rows}=={'full size'}   # two features a side
    assert all(r['share']==pytest.approx(r['steps']/1000) and r['steps']==pytest.approx(r['took']/r['step']) for r in rows)

@pytest.mark.slow
def test_memory_is_timed_with_and_without_what_is_kept(module, monkeypatch, tmp_path, written):
    memory,told = module('memory'),[]
    def here(f, env):
        told.append(env)
        return f(n=1, sizes=(16,32))
    monkeypatch.setattr(memory, 'own_process', here)
    memory.main(rounds=1, out=str(tmp_path))
    found,lines = written('memory-cpu')
    assert len(lines)==2 and sorted(map(len, told))==[0,2] and len(found['rounds'])==1
    rounds = [{'given back': {32: 3.}, 'kept': {32: 2.}}, {'given back': {32: 6.}, 'kept': {32: 3.}}]
    row, = memory.rows_of(rounds)
    assert row['times_as_fast']==1.75 and row['given_back_ms']==4.5 and row['of_full_size_kept']==1

@pytest.mark.slow
def test_items_and_trainings_that_wait_for_them(module, monkeypatch, tmp_path, written):
    items = module('items')
    monkeypatch.setattr(items, 'full', 32)
    monkeypatch.setattr(items, 'sizes', (16,32))
    items.main(n=40, rounds=1, workers=0, out=str(tmp_path))
    found,lines = written('items-drawn')
    assert [o['items'] for o in lines]==['Resize','RandomResizedCrop'] and all(v>0 for r in found['rows'] for v in [*r.values()][1:])
    assert {*found['fits']}=={*items.modes}=={*found['small_epochs']} and found['arguments']['mean_size']==[500,375]
    assert all(0<found['small_epochs'][m][0]<found['fits'][m][0] for m in items.modes)
    took = {k: np.array(v) for k,v in ((None,(8.,8.)), (16,(2.,2.)), (32,(4.,4.)), ('kept',(1.,2.)))}
    o = items.row('Resize', took)
    assert (o['half'],o['full'],o['kept'])==(4,2,6) and 2<o['schedule']<4 and o['plain_ms']==8000

def test_pixels_of_every_way(module, tmp_path, written):
    rng = torch.Generator().manual_seed(0)
    for i in range(2): Image.fromarray((torch.rand(70,80,3, generator=rng)*255).byte().numpy()).save(tmp_path/f'{i}.png')
    module('pixels').main(str(tmp_path), sizes='32', full=64, out=str(tmp_path))
    rows = written('pixels-64-px')[0]['rows']
    assert [sum(r['augmented']==a for r in rows) for a in (False,True)]==[8,9] and all(r['n']==2 and r['psnr']>0 for r in rows)
    plain = {r['way']: r['psnr'] for r in rows if not r['augmented']}
    assert plain['items, lanczos']>plain['steered'], 'the ideal is by Lanczos'

def test_rounds_are_interleaved_and_tables_leave_out_what_is_empty(module):
    record = module('record')
    rounds = [*record.interleaved('abcdef', 4, first=3)]
    orders = [o for _,o in rounds]
    assert [r for r,_ in rounds]==[3,4,5,6]
    assert all(sorted(o)==[*'abcdef'] for o in orders) and len({*map(tuple, orders)})>1
    text = record.table([dict(what='first', ms='1', note=''), dict(what='second', ms='2', note='')])
    assert 'note' not in text and [o.split() for o in text.splitlines()]==[['what','ms'], ['first','1'], ['second','2']]

small = dict(arch='shufflenet_v2_x0_5', size=32, bs=8)

@pytest.mark.slow
def test_gpu_script_on_a_cpu_leaves_out_what_it_could_not_measure(module, monkeypatch, tmp_path, written):
    gpu = module('gpu')
    monkeypatch.setattr(gpu, 'fresh', lambda f, **kwargs: f(**kwargs))
    demo_data(tmp_path/'pics', n_train=8, n_valid=2, size=40)
    a = dict(small, epochs=2, increase_by=8, n=32, workers=0)
    gpu.measure(torch.device('cpu'), ['steps','memory'], ['plain','bf16+channels_last'], tmp_path/'pics', a, tmp_path)
    steps,memory = written('gpu-steps')[0],written('gpu-memory')[0]
    assert [(r['opt'],r['size']) for r in steps['rows'][:4]]==[('adam',32),('adam',24),('adam',16),('fused',32)]
    assert [r['config'] for r in steps['rows'][::6]]==['plain','bf16+channels_last']
    assert len(steps['rows'])==12 and all(0<r['launch_ms']<=r['step_ms'] and r['first_ms']>0 for r in steps['rows'])
    assert all(o>0 for o in steps['loading'].values()) and len(steps['loading'])==2 and steps['arguments']==a
    settings = [(r['mode'],r['dry_run'],r['expandable'],r['benchmark']) for r in memory['rows']]
    assert len({*settings})==len(settings)==12 and all(r['sizes']==(3 if r['mode']=='batch' else 1) for r in memory['rows'])
    assert not any('segments' in k for r in memory['rows'] for k in r)

def test_gpu_stalls(module):
    res = module('gpu').stalls([(16,9.),(16,2.),(16,2.),(16,3.),(24,5.),(32,8.),(32,4.)])
    assert res==dict(sizes=3, stall_first_ms=7, stall_growths_ms=4, slowest=1.5)

@pytest.mark.slow
def test_gpu_tells_the_allocator_before_torch_is_there(module, monkeypatch):
    gpu = module('gpu')
    monkeypatch.delenv('PYTORCH_ALLOC_CONF', raising=False)
    assert {*gpu.fresh(gpu.conf, expandable=True).values()}=={'expandable_segments:True'}
    assert gpu.conf()['PYTORCH_ALLOC_CONF'] is None

@pytest.mark.cuda
def test_gpu_script_measures(module, tmp_path, written):
    module('gpu').main(**small, epochs=2, increase_by=8, n=32, configs='plain,bf16+channels_last', out=str(tmp_path))
    assert len(written('gpu-steps')[0]['rows'])==12
    for r in written('gpu-memory')[0]['rows']: assert r['reserved_gib']>=r['allocated_gib']>0 and ('new segments since dry_run' in r)==r['dry_run']

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

@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(module, tmp_path, capsys, name='imagenette'):
    demo_data(tmp_path/'pics', n_train=8, n_valid=4, size=40)
    def run(**kwargs):
        module('run').main(name, data=str(tmp_path/'pics'), smoke=True, out=str(tmp_path/'out'), seeds=1, jobs=0, **kwargs)
        return capsys.readouterr().out, [json.loads(o) for o in (tmp_path/'out'/f'{name}-smoke.jsonl').read_text().splitlines()]
    run(seconds=True, arms='full;batch')
    said,rows = run(arms='full;batch;epoch')
    assert len(rows)==5 and {(r['arm'],r['kind']) for r in rows} == {('full','seconds'),('batch','seconds'),('batch','accuracy'),('epoch','accuracy'),('full','accuracy')}
    for r in rows:
        sizes = {int(k): v for k,v in r['sizes'].items()}
        assert sizes.keys()=={32} if r['arm']=='full' else min(sizes)==16 and max(sizes)==32
        assert r['seconds']>0 and ('accuracy' in r)==(r['kind']=='accuracy') and str(tmp_path) not in json.dumps(r)
    file = tmp_path/'out'/f'{name}-smoke.jsonl'
    file.write_text('\n'.join(file.read_text().splitlines()[:-1])+'\n{"arm": "fu')   # killed while it wrote
    said,again = run(arms='full;batch;epoch')
    assert [r['arm'] for r in again]==[r['arm'] for r in rows] and again[-1]['accuracy']==rows[-1]['accuracy'] and again[:-1]==rows[:-1]
    assert 'points to full size' in said

@pytest.mark.slow
def test_a_training_in_a_process_of_its_own_is_the_same_and_only_it_keeps_memory(module, tmp_path, monkeypatch):
    for k in module('run').memory_kept: monkeypatch.delenv(k, raising=False)   # `make test` may have set them
    demo_data(tmp_path/'pics', n_train=8, n_valid=4, size=40)
    def result(jobs):
        module('run').main('imagenette', data=str(tmp_path/'pics'), smoke=True, seeds=1, arms='batch', jobs=jobs, out=str(tmp_path/f'{jobs}'))
        return json.loads((tmp_path/f'{jobs}'/'imagenette-smoke.jsonl').read_text())
    own,here = result(1),result(0)
    assert all(own[k]==here[k] for k in ('accuracy','valid_loss','sizes','arguments'))
    assert own['environment']==module('run').memory_kept and here['environment']=={}

def test_what_a_results_file_says(module):
    run = module('run')
    def row(arm, seed, kind='accuracy', **kwargs): return {'experiment': 'imagenette', 'arm': arm, 'seed': seed, 'kind': kind, 'idle': True, 'device': 'A', 'arguments': dict(epochs=5), **kwargs}
    rows = [row(arm, i, accuracy=.8+d+.001*i, seconds=1.) for arm,d in (('full',0),('batch',.01)) for i in range(5)]
    rows[-1]['accuracy'] += .01
    seconds = [row(arm, i, 'seconds', seconds=s) for i,arm,s in ((0,'full',100.),(0,'batch',60.),(1,'full',120.),(1,'batch',60.))]
    busy = [{**o, 'idle':False, 'seed':9, 'seconds':1.} for o in seconds]
    d = run.paired(rows, 'batch', 'full', 'accuracy')
    assert d==pytest.approx([1,1,1,1,2]) and run.interval(d)==pytest.approx(2.7764*.4472/5**.5, rel=1e-3)
    assert run.no_worse(d)<.001 and run.no_worse([-1.5,-1.2,-.9])>.05
    assert run.time_ratios(rows+seconds+busy, 'batch', 'full')==pytest.approx([.6,.5])
    both = [row(arm, 7, 'both', experiment='published', accuracy=acc, seconds=s) for arm,acc,s in (('full',.9,100.),('batch',.92,50.))]
    assert '+2.0  0.50' in run.summary('published', both), 'a training that measures both'
    e = run.experiments['imagenette']
    assert run.equal_epochs('batch, equal time', e, rows+seconds, dict(epochs=5), 'A')==9 and run.equal_epochs('batch, equal time', e, rows, dict(epochs=5), 'A') is None
    assert run.equal_epochs('batch, equal time', e, rows+seconds, dict(epochs=5), 'B') is None
    words = run.summary('imagenette', rows+seconds)
    assert '+1.2 ± 0.6' in words and '0.55 (0.50 to 0.60)' in words
    assert run.paired([*rows, *[{**o, 'device':'B', 'accuracy':.5} for o in rows]], 'batch', 'full', 'accuracy')==d, 'each seed counts once'
    other = [row(arm, 5, device='B', accuracy=a, seconds=1.) for arm,a in (('full',.5),('batch',.6))]
    assert run.paired(rows+other, 'batch', 'full', 'accuracy')==pytest.approx([*d, 10])
    assert run.paired([*rows, other[0], row('batch', 5, accuracy=.9)], 'batch', 'full', 'accuracy')==d, 'pairs are from one device'
    assert run.paired([*rows, row('full', 5, accuracy=.1, arguments=dict(n_train=10)), row('batch', 5, accuracy=.6)], 'batch', 'full', 'accuracy')==d, 'and of the same arguments'
    assert run.paired([*rows, row('full', 5, accuracy=.8), row('batch', 5, accuracy=.9, arguments=dict(epochs=8))], 'batch', 'full', 'accuracy')==pytest.approx([*d, 10]), 'but for the epochs'
    assert run.summary('imagenette', busy).endswith('no training in the file yet')
    words = run.summary('imagenette', rows+seconds+other)
    assert '5 epochs, A and B\n' in words and '0.55 (0.50 to 0.60)' in words and 'of the time, A' in words and 'of the time, B' not in words

def test_a_seed_from_another_device_is_not_trained_again_if_it_is_whole(module):
    run = module('run')
    args = {**run.experiments['growing'].arguments, 'workers': 0, 'data': 'flowers'}
    def row(arm, device, kind='accuracy', seed=100): return dict(arm=arm, seed=seed, kind=kind, device=device, threads=1, arguments=args, accuracy=.5, idle=True)
    def left(rows, arms=None, kind='accuracy'): return {o['arm'] for o in run.todo('growing', rows, args, 1, 100, kind, 'B', 1, arms)}
    whole = [row(o, 'A') for o in ('full','batch','gentle')]
    assert left([])=={'full','batch','gentle'} and left(whole)==set()
    assert left(whole[:2])=={'full','gentle'}, 'what is missing is trained with its reference'
    assert left([*whole[:2], row('gentle', 'B')])=={'full'} and left([*whole[:2], row('full', 'B')])=={'gentle'}
    assert left(whole[:1])=={'full','batch','gentle'} and left(whole[1:])=={'full','batch','gentle'}
    assert left(whole[:2], ['batch'])==set() and left(whole[:1], ['full'])==set()
    assert left([{**o, 'kind':'seconds'} for o in whole], kind='seconds')=={'full','batch','gentle'}, 'seconds are those of a device'
    def timed(idle): return [{**row(o, 'B', 'seconds'), 'idle': idle} for o in ('full','batch','gentle')]
    assert left(timed(True), kind='seconds')==left(timed(None), kind='seconds')==set()
    assert left(timed(False), kind='seconds')=={'full','batch','gentle'}, 'beside other work they do not count'
