import pytest, torch

torch.set_num_threads(1)  # the models are tiny; threads that wait for each other would cost more than they save

def pytest_collection_modifyitems(items):
    if torch.cuda.is_available(): return
    for item in items:
        if 'cuda' in item.keywords: item.add_marker(pytest.mark.skip(reason='no CUDA device on this machine'))

@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    "Whatever a test writes, it writes into a folder of its own"
    monkeypatch.chdir(tmp_path)
