"Where the results of a benchmark go, and what they have to be read with. To be imported before `fastresize`, which it makes importable from a bare checkout"
import platform, re, subprocess, sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from pathlib import Path

root = Path(__file__).resolve().parent.parent
if find_spec('fastresize') is None: sys.path.insert(0, str(root))

def commit():
    "The commit of the repository, with `-dirty` if there are changes beside it, or None"
    try: git = subprocess.run(['git','describe','--always','--dirty','--abbrev=40','--exclude=*'], cwd=root, capture_output=True, text=True)
    except OSError: return None
    return git.stdout.strip() or None

def versions(**others):
    "Of what was measured and what it ran on; `others` come on top"
    def of(p):
        try: return version(p)
        except PackageNotFoundError: return None
    ours = of('fastresize') or re.search(r'^version *= *(\S+)', (root/'settings.ini').read_text(), re.M)[1]
    return {'fastresize': ours, **{p: of(p) for p in ('fastai','torch','torchvision')}, 'python': platform.python_version(), 'commit': commit(), **others}

def stem(out, name):
    "Path of the results without its suffix: `name` in lower case and today's date. What is there is not written over"
    name = f'{re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:48].strip("-")}-{date.today()}'
    return next(p for p in (Path(out)/(name + (f'-{i}' if i>1 else '')) for i in count(1)) if not with_suffix(p, '.json').exists())

def with_suffix(path, suffix): return path.with_name(path.name+suffix)  # a version in the device's name may have a dot
