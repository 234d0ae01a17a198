"""What the scripts share: their arguments, rounds, tables, and where results go, with what they have to be read with

To be imported before `fastresize`, which it makes importable from a bare checkout."""
import json, os, platform, random, re, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import pandas as pd
import torch

root = Path(__file__).resolve().parent.parent
if find_spec('fastresize') is None: sys.path.insert(0, str(root))

from fastresize.bench import check_numbers, device_name, in_one_line, out_folder

@contextmanager
def checked(command, out, **above_0):
    "Run a command: numbers that are not above 0, an `out` that takes no file, and what raises a `BenchError`, are said in one line"
    with in_one_line(command):
        check_numbers(above_0)
        out_folder(out)
        yield

def sync():
    if torch.cuda.is_available(): torch.cuda.synchronize()

def interleaved(what, rounds, first=0):
    "The number of each round, and `what` in an order of its own, so that what else the machine does meets all alike"
    for r in range(first, first+rounds): yield r,random.Random(r).sample([*what], len(what))

def own_process(f, environ, **kwargs):
    "`f` in a process of its own, which has the variables `environ` in its environment before anything is imported"
    with mock.patch.dict(os.environ, environ), ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool: return pool.submit(f, **kwargs).result()

def commit(folder=root):
    "The commit of the repository in `folder`, with `-dirty` if there are changes beside it, or None"
    cmd = ['git','describe','--always','--dirty','--abbrev=40','--exclude=*']
    try: git = subprocess.run(cmd, cwd=folder, capture_output=True, text=True)
    except OSError: return None
    return git.stdout.strip() or None

def versions(**others):
    "Of what was measured and what it ran on; `others` come on top"
    def of(p):
        try: return version(p)
        except PackageNotFoundError: return None
    ours = of('fastresize') or re.search(r'^version *= *(\S+)', (root/'settings.ini').read_text(), re.M)[1]
    theirs = {p: of(p) for p in ('fastai','torch','torchvision')}
    return {'fastresize': ours, **theirs, 'python': platform.python_version(), 'commit': commit(), **others}

def head(arguments, **others):
    "What every result begins with; `others` go to `versions`"
    env = {k: v for k,v in os.environ.items() if k.startswith(('MALLOC_','OMP_','MKL_','PYTORCH_'))}   # what changes the speed
    return dict(date=str(date.today()), device=device_name(), threads=torch.get_num_threads(), environment=env,
                versions=versions(**others), arguments=arguments)

def table(rows):
    "Dicts as a table, numbers to two digits: the first column to the left, and none that is empty in all rows"
    def text(v): return '' if v is None else f'{v:.2f}' if isinstance(v, float) else str(v)
    df = pd.DataFrame([{k: text(v) for k,v in r.items()} for r in rows]).fillna('')
    df = df.loc[:, (df!='').any()]
    if df.shape[1]<2: return ''   # nothing but names
    first,*others = df.columns
    return df.set_index(first).rename_axis(None).rename_axis(first, axis=1)[others].to_string()

def stem(out, name):
    "Path of the results without its suffix: `name` in lower case and today's date. What is there is not written over"
    name = f'{re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:48].strip("-")}-{date.today()}'
    return next(p for p in (Path(out)/(name + (f'-{i}' if i>1 else '')) for i in count(1)) if not p.with_suffix('.json').exists())

def publish(out, name, result, rows):
    "Print `rows` as a table, and write them to a .csv file, and with the rest of `result` to a .json file"
    path = stem(out, name)
    path.with_suffix('.json').write_text(json.dumps({**result, 'rows': rows}, indent=1)+'\n')
    pd.DataFrame(rows).to_csv(path.with_suffix('.csv'), index=False)
    print(f'{table(rows)}\nwrote {path}.json and .csv', flush=True)
