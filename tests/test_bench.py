"The command, as a user runs it"
import inspect, json, os, subprocess, sys, time
from pathlib import Path
import pytest
from fastresize.auto import NotMeasured
from fastresize.bench import main
from fastresize.demo import classes, demo_data
from PIL import Image

def bench(*args, cwd):
    exe = Path(sys.executable).with_name('fastresize-bench')
    return subprocess.run([exe, *args], cwd=cwd, capture_output=True, text=True, env={**os.environ, 'PYTHONWARNINGS':'ignore'})

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A folder with drawn pictures in `pics`"
    d = tmp_path_factory.mktemp('bench')
    demo_data(d/'pics', n_train=16, n_valid=4, size=48)
    return d

@pytest.fixture(scope='module')
def run(folder):
    args = '--data pics --size 32 --epochs 2 --bs 16 --workers 0 --increase-by 8 --out here'
    return folder,bench(*args.split(), cwd=folder)

@pytest.mark.slow
def test_table_json_and_plot(run):
    d,r = run
    assert r.returncode==0, r.stderr
    for word in ('mode','epochs','seconds','speedup','accuracy','final loss','full','batch','epoch','1.00x'): assert word in r.stdout
    results = json.loads((d/'here/results.json').read_text())
    assert [o['mode'] for o in results['runs']] == ['full','batch','epoch']
    assert results['args']['size']==32 and results['versions']['fastai'] and results['device']
    full,*rest = results['runs']
    assert all(o['speedup']==pytest.approx(full['seconds']/o['seconds']) for o in results['runs'])
    assert Image.open(d/'here/speed.png').size[0]>800

@pytest.mark.slow
def test_progress_bars_and_the_sentence(run):
    _,r = run
    assert 'Progressively increase the initial image size of [16, 16] by 8 pixels' in r.stdout
    assert r.stdout.count('train_loss')==3 and '\r' not in r.stdout and len(r.stdout)<3000, 'the table alone, where there is no terminal'

@pytest.mark.slow
@pytest.mark.parametrize('initial,first', [('.75',24), ('20',20)])
def test_another_initial_size_and_auto(folder, capsys, monkeypatch, initial, first):
    "What the front page tells people to try, can be compared"
    monkeypatch.chdir(folder)
    main(data='pics', size=32, epochs=2, bs=16, workers=0, increase_by=8, modes='batch,auto', initial_size=float(initial), out='other')
    out = capsys.readouterr().out
    assert f'initial image size of [{first}, {first}]' in out and "'auto': Stay at full size" in out
    assert [o['mode'] for o in json.loads((folder/'other/results.json').read_text())['runs']]==['batch','auto']

@pytest.mark.parametrize('args,words', [
    (['--data','nowhere'], '--data nowhere: expected `imagenette`, `demo`, or a folder with `train` and `val`'),
    (['--modes','full,fast'], '--modes full,fast: expected a list of full, batch, epoch, auto; found fast'),
    (['--initial-size','1'], '--size 128 --initial-size 1 --increase-by 16: `initial_size`=1: expected a fraction between 0 and 1, or pixels'),
    (['--initial-size','200'], '`initial_size`=200: expected a fraction between 0 and 1, or pixels below the final size [128, 128]'),
    (['--increase-by','0'], '`increase_by`=0: expected an int above 0'),
    (['--arch','xresnet19'], '--arch xresnet19: expected a model of fastai or torchvision'),
    (['--workers','-1'], '--workers -1: expected a number of 0 or more'),
    (['--out','afile'], '--out afile: expected a folder to write into'),
    (['--data','empty'], '--data empty: expected images in `train/<class>` and `val/<class>`; found none in train and val'),
    (['--epochs','0'], '--epochs 0: expected a number above 0'),
    (['--bs','1'], '--bs 1: expected at least 2'),
    (['--bs','500'], '--bs 500: expected at most the number of training images, 80'),
    (['--size','1'], '`initial_size`=0.5: expected'),
    (['--arch','vit_b_16'], '--arch vit_b_16: expected a convolutional model'),
    (['--arch','alexnet','--size','32'], '--arch alexnet, --size 32: the model does not take such images'),
    (['--data','flat'], '--data flat: expected images only in `train/<class>` and `val/<class>`; found train/a.jpg'),
    (['--data','deep'], '--data deep: expected images only in `train/<class>` and `val/<class>`; found train/more/disc/a.jpg'),
    (['--data','unseen'], '--data unseen: expected every class of `val` in `train` too; found no disc there'),
    (['--data','corrupt','--bs','2','--workers','0','--size','32'], 'corrupt/train/disc/b.jpg cannot be read as an image'),
])
def test_mistakes_are_one_line_and_exit_code_2(folder, args, words, monkeypatch, capsys):
    for d in ('train','val'): (folder/'empty'/d).mkdir(parents=True, exist_ok=True)
    for name in ('flat/train/a','flat/val/disc/a','deep/train/more/disc/a','deep/val/disc/a','unseen/train/square/a','unseen/val/disc/a',
                 'corrupt/train/disc/a','corrupt/train/disc/b','corrupt/train/disc/c','corrupt/val/disc/a'):
        p = folder/f'{name}.jpg'
        p.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40,40)).save(p)
    (folder/'corrupt/train/disc/b.jpg').write_bytes(b'no picture')
    (folder/'afile').touch()
    args = [*([] if '--data' in args else ['--data','pics']), *args]
    monkeypatch.chdir(folder)
    types = {k: p.annotation for k,p in inspect.signature(main).parameters.items()}
    with pytest.raises(SystemExit) as e: main(**{(k := a[2:].replace('-', '_')): types[k](v) for a,v in zip(args[::2], args[1::2])})
    said = capsys.readouterr().err
    assert e.value.code==2 and words in said and len(said.strip().splitlines())==1

@pytest.mark.slow
def test_imagenette_without_a_network(folder, monkeypatch, tmp_path):
    "A mistake as the shell sees it"
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path))
    for k in ('http_proxy','https_proxy','HTTP_PROXY','HTTPS_PROXY'): monkeypatch.setenv(k, 'http://127.0.0.1:9') # nobody listens there
    r = bench('--data', 'imagenette', cwd=folder)
    assert r.returncode==2 and r.stderr.startswith('fastresize-bench: --data imagenette: the download failed')
    assert len(r.stderr.strip().splitlines())==1

def test_demo_set(tmp_path):
    path = demo_data(tmp_path/'set', n_train=3, n_valid=2, size=40)
    files = sorted(path.glob('*/*/*.jpg'))
    assert {f.parent.parent.name for f in files} == {'train','val'}
    assert len(files) == 5*len(classes)
    assert Image.open(files[0]).size == (40,40) and Image.open(files[0]).format=='JPEG'
    stamps = [f.stat().st_mtime_ns for f in files]
    demo_data(tmp_path/'set', n_train=3, n_valid=2, size=40)
    assert [f.stat().st_mtime_ns for f in files] == stamps
    assert sorted(p.name for p in tmp_path.iterdir()) == ['set'] # nothing half-drawn is left

def test_the_curve_of_a_training_ends_when_it_ends(tmp_path, monkeypatch):
    "Also with 'auto', which measures before the first epoch"
    from fastresize import bench
    path = demo_data(tmp_path/'pics', n_train=8, n_valid=4, size=32)
    def measured(*args): time.sleep(.5); raise NotMeasured('of a test')
    monkeypatch.setattr('fastresize.progressive.choose', measured)
    r = bench.train('auto', path, size=32, epochs=2, bs=8, workers=0)
    assert .5<=r['curve'][0][0]<r['curve'][-1][0]<=r['seconds']
