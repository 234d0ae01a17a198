"What is installed"
import json, os, subprocess, sys
from configparser import ConfigParser
from pathlib import Path
import pytest

root = Path(__file__).parent.parent

def run(*args, **kwargs): return subprocess.run([sys.executable, *args], capture_output=True, text=True, **kwargs)
def python(code, **env): return run('-W', 'ignore', '-c', code, env={**os.environ, **env}, cwd='/')

@pytest.fixture(scope='module')
def imported():
    "What one fresh process finds, importing one thing after the other"
    r = python("""
import importlib, json, pkgutil, sys
loaded = lambda: sorted({'torch','fastai'} & {*sys.modules})
import fastresize
found = dict(package=loaded())
from fastresize import IncreaseMode
fastresize.SizeSchedule.from_compute((96,224), (.5,.5))
found['schedule'] = loaded()
sys.modules['lightning'] = sys.modules['pytorch_lightning'] = None   # as where neither is installed
import fastai.learner
from fastai.basics import defaults
was = [*defaults.callbacks]
from fastresize import ProgressiveResize
found['callback'],found['name'] = loaded(),ProgressiveResize().name
import fastresize.all as a
found['callbacks'] = len(was),defaults.callbacks==was
import fastai.vision.all as f
try: import fastresize.lightning
except ImportError as e: found['lightning'] = str(e)
found['all'],found['hidden'] = a.__all__,[n for n in a.__all__ if hasattr(f, n)]
found['modules'] = [m.name for m in pkgutil.iter_modules(fastresize.__path__)]
for m in {*found['modules']}-{'lightning'}: importlib.import_module(f'fastresize.{m}')
found['door'] = {n: callable(getattr(a, n)) and callable(getattr(fastresize, n)) for n in fastresize.__all__}
print(json.dumps(found))
""")
    assert r.returncode==0, r.stderr
    return json.loads(r.stdout)

@pytest.mark.slow
def test_importing_the_package_does_not_import_fastai(imported):
    assert imported['package']==imported['schedule']==[]
    assert 'fastai' in imported['callback'] and imported['name']=='progressive_resize'

@pytest.mark.slow
def test_the_import_adds_no_progress_bar(imported): assert imported['callbacks']==[3,True]

def test_nobody_else_needs_lightning(imported): assert 'pip install lightning' in imported['lightning']

def test_all_gives_what_users_need_and_hides_nothing_of_fastai(imported):
    assert {'ProgressiveResize','IncreaseMode','SizeSchedule'}<={*imported['all']} and not imported['hidden']

def test_no_name_of_the_front_door_is_that_of_a_module(imported):
    "Importing a module sets the package's attribute of its name, whatever was there"
    assert imported['modules'] and not {*imported['modules']} & {*imported['door']}
    assert all(imported['door'].values())

def test_version_stands_once():
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini')
    r = python('import fastresize; print(fastresize.__version__)')
    assert r.stdout.strip()==cfg['DEFAULT']['version']
    assert cfg['DEFAULT']['version'] not in (root/'pyproject.toml').read_text() + (root/'setup.py').read_text()

def test_signature_of_the_callback():
    import inspect
    from fastresize import IncreaseMode, ProgressiveResize
    given = list(inspect.signature(ProgressiveResize).parameters.values())
    assert [(p.name,p.default) for p in given][:14] == [
        ('initial_size',0.5), ('start',0.5), ('finish',0.75), ('increase_by',4), ('increase_mode',IncreaseMode.Batch),
        ('resize_mode','bilinear'), ('resize_valid',True), ('final_size',None), ('add_resize',False), ('resize_targ',None),
        ('preallocate_bs',None), ('preallocate',True), ('empty_cache',False), ('verbose',True)]

@pytest.mark.slow
def test_wheel_and_sdist_install_and_import(tmp_path):
    "Built apart from the checkout; the wheel imports from the empty folder it is installed into, and the sdist installs the same files"
    import shutil
    shutil.copytree(root, tmp_path/'src', ignore=shutil.ignore_patterns('.venv','.git','build','*.egg-info','demo','results'))
    r = run('-m', 'build', '--outdir', str(tmp_path/'dist'), str(tmp_path/'src'))
    assert r.returncode==0, r.stderr[-2000:]
    sites = {}
    for f in (tmp_path/'dist').iterdir():
        to = tmp_path/f'site-{f.suffix[1:]}'
        r = run('-m', 'pip', 'install', '--quiet', '--no-deps', '--target', str(to), str(f))
        assert r.returncode==0, r.stderr[-2000:]
        assert 'Provides-Extra: lightning' in next(to.glob('fastresize*/METADATA')).read_text()
        sites[f.suffix] = {str(o.relative_to(to)): o.read_bytes() for o in (to/'fastresize').glob('*.py')}
    assert {*sites}=={'.whl','.gz'} and sites['.whl']==sites['.gz'] and len(sites['.whl'])>20
    r = python('import fastresize.all, fastresize.bench, fastresize; print(fastresize.__file__, fastresize.ProgressiveResize().increase_by)', PYTHONPATH=str(tmp_path/'site-whl'))
    assert r.stdout.split() == [str(tmp_path/'site-whl/fastresize/__init__.py'), '4'], r.stderr
