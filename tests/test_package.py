"What is installed"
import os, subprocess, sys
from configparser import ConfigParser
from pathlib import Path
import pytest

root = Path(__file__).parent.parent

def run(*args, **kwargs): return subprocess.run([sys.executable, *args], capture_output=True, text=True, **kwargs)
def python(code, **env): return run('-W', 'ignore', '-c', code, env={**os.environ, **env}, cwd='/')

def test_importing_the_package_does_not_import_fastai():
    r = python("import sys, fastresize; assert not {'torch','fastai'} & set(sys.modules)\n"
               "from fastresize import IncreaseMode; assert not {'torch','fastai'} & set(sys.modules)\n"
               "fastresize.SizeSchedule.from_compute((96,224), (.5,.5)); assert not {'torch','fastai'} & set(sys.modules)\n"
               "from fastresize import ProgressiveResize; assert 'fastai' in sys.modules; print(ProgressiveResize().name)")
    assert r.stdout.strip()=='progressive_resize', r.stderr

def test_all_gives_what_users_need_and_hides_nothing_of_fastai():
    r = python("import fastai.vision.all as f, fastresize.all as a\n"
               "print(sorted(a.__all__)); assert not [n for n in a.__all__ if hasattr(f, n)]")
    assert r.returncode==0, r.stderr
    for name in ('ProgressiveResize','IncreaseMode','SizeSchedule'): assert name in r.stdout

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
        ('resize_mode','bilinear'), ('resize_valid',True), ('final_size',None), ('add_resize',False), ('resize_targ',False),
        ('preallocate_bs',None), ('preallocate',True), ('empty_cache',False), ('verbose',True)]

def test_wheel_and_sdist_install_and_import(tmp_path):
    "Built apart from the checkout; each installs into an empty folder and imports from there"
    import shutil
    shutil.copytree(root, tmp_path/'src', ignore=shutil.ignore_patterns('.venv','.git','build','*.egg-info','demo','results'))
    r = run('-m', 'build', '--outdir', str(tmp_path/'dist'), str(tmp_path/'src'))
    assert r.returncode==0, r.stderr[-2000:]
    files = sorted(p.name for p in (tmp_path/'dist').iterdir())
    assert [f.endswith(e) for f,e in zip(files, ('.whl','.tar.gz'))] == [True,True]
    code = 'import fastresize.all, fastresize.bench, fastresize; print(fastresize.__file__, fastresize.ProgressiveResize().increase_by)'
    for f in files:
        to = tmp_path/f'site-{f[-3:]}'
        r = run('-m', 'pip', 'install', '--quiet', '--no-deps', '--target', str(to), str(tmp_path/'dist'/f))
        assert r.returncode==0, r.stderr[-2000:]
        assert 'Provides-Extra: lightning' in next(to.glob('fastresize*/METADATA')).read_text()
        r = python(code, PYTHONPATH=str(to))
        assert r.stdout.split() == [str(to/'fastresize/__init__.py'), '4'], r.stderr

def test_no_name_of_the_front_door_is_that_of_a_module():
    "Importing a module sets the package's attribute of its name, whatever was there"
    r = python("import pkgutil, types, importlib, fastresize\n"
               "modules = [m.name for m in pkgutil.iter_modules(fastresize.__path__)]\n"
               "assert not {*modules} & {*fastresize.__all__}\n"
               "for m in modules: importlib.import_module(f'fastresize.{m}')\n"
               "import fastresize.all as a\n"
               "assert all(callable(getattr(o, n)) for o in (a, fastresize) for n in fastresize.__all__); print('ok')")
    assert r.stdout.strip()=='ok', r.stderr
