"Two real processes over Accelerate and gloo"
import json, os, subprocess, sys
from pathlib import Path
import pytest
from util import due, due_batches

@pytest.mark.slow
def test_two_processes(tmp_path):
    here = Path(__file__).parent
    env = {**os.environ, 'ACCELERATE_USE_CPU':'true', 'PYTHONPATH':f'{here}:{os.environ.get("PYTHONPATH","")}', 'PYTHONWARNINGS':'ignore'}
    cmd = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', str(here/'two_processes.py')]
    r = subprocess.run(cmd, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert r.returncode==0, r.stderr[-3000:]
    a,b = (json.loads((tmp_path/f'rank{k}.json').read_text()) for k in (0,1))
    assert a['world'] == b['world'] == 2
    expected = [list(s) for s in due(len(a['train']))]
    assert len(a['train'])>=16
    assert a['train'] == b['train'] == expected     # the same size on every rank at every step
    assert a['weights'] == b['weights']             # equal to the bit: JSON keeps every digit of a float
    assert a['dry_calls'] == b['dry_calls'] == []   # the dry run asks no other process for anything
    assert a['reductions'] == b['reductions'] == 0 and a['hook'] == len(a['train'])*(a['hook']//len(a['train'])) > 0
    assert a['small'] == b['small'] == a['came'] == b['came'] == expected   # with `resize_items=True`, from the workers
    assert a['larger'] == b['larger'] == [[s[0],n] for e in due_batches(32, 16) for s,n in e]
    assert a['epochs'] == b['epochs'] > 0 and a['expected'] == b['expected'] > 0   # what fits into a time, by the first process
    assert a['batches'] == b['batches'] == a['expected_batches'] == b['expected_batches']
    assert a['chosen'] == b['chosen'] == {} and a['auto'] == b['auto'] and a['auto'][0] == [64,64]   # by the first process; the second would stay at full size
    assert r.stdout.count('Progressively increase') == 1
