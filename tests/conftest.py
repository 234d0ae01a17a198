import gc, importlib, multiprocessing, os
from pathlib import Path
import pytest, torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

os.environ['OMP_NUM_THREADS'] = '1'  # of what the tests start; the models are tiny: threads that wait for each other would cost more than they save
torch.set_num_threads(1)

def pytest_collection_finish(session):
    "What was imported stays: the collector need not go through it again and again, nor a forked worker copy it"
    gc.collect()
    gc.freeze()

def pytest_unconfigure(): gc.unfreeze()

def pytest_collection_modifyitems(items):
    if torch.cuda.is_available(): return
    for item in items:
        if 'cuda' in item.keywords: item.add_marker(pytest.mark.skip(reason='no CUDA device on this machine'))

@pytest.fixture
def module(monkeypatch):
    "Import a script of the benchmarks, from its folder"
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1]/'benchmarks')
    return importlib.import_module

@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    "Whatever a test writes, it writes into a folder of its own"
    monkeypatch.chdir(tmp_path)

@pytest.fixture(autouse=True)
def on_the_cpu(request, monkeypatch):
    "What is not marked `cuda` is the same on every machine"
    if 'cuda' in request.keywords or not torch.cuda.is_available(): return
    from fastai.torch_core import defaults
    monkeypatch.setattr(defaults, 'use_cuda', False)

class Clock:
    "Stands still but for what is said to take time"
    def __init__(self): self.now = 0.
    def __call__(self): return self.now
    def sleep(self, seconds): self.now += seconds
    def __deepcopy__(self, memo): return self   # a model that is copied goes by the same

@pytest.fixture
def clock(monkeypatch):
    "All that measures a training goes by this clock: what a test asserts about time does not depend on the machine"
    res = Clock()
    for o in ('log','auto','preview','recipes'): monkeypatch.setattr(f'fastresize.{o}.perf_counter', res)
    return res

@pytest.fixture(autouse=True)
def no_workers_left():
    "Persistent workers end with the test: when Python collects them with their queues, they hear of it too late, and PyTorch waits 5 s for each"
    yield
    if not multiprocessing.active_children(): return
    for o in gc.get_objects():
        if type(o) is _MultiProcessingDataLoaderIter: o._shutdown_workers()
