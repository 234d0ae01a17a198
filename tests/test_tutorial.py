"The Imagenette benchmark runs as it stands, on any folder in Imagenette's layout"
import json, os, subprocess, sys
from pathlib import Path
import pytest
from fastresize.demo import demo_data

def test_imagenette_notebook(tmp_path):
    nb = Path(__file__).parent.parent/'nbs'/'tutorial.imagenette.ipynb'
    pictures = demo_data(tmp_path/'pictures', n_train=14, n_valid=4, size=96)
    env = {**os.environ, 'FASTRESIZE_DATA': str(pictures), 'PYTHONWARNINGS': 'ignore'}
    args = '-m jupyter nbconvert --log-level ERROR --to notebook --execute --output-dir'
    run = subprocess.run([sys.executable, *args.split(), tmp_path, nb], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode==0, run.stderr[-2000:]
    cells = json.loads((tmp_path/nb.name).read_text())['cells']
    said = ''.join(t for c in cells for o in c.get('outputs', ()) for t in o.get('text', ()))
    assert '70 pictures to train on, 20 to validate on, 5 classes' in said and 'times as fast, came true:' in said
    html = ''.join(t for c in cells for o in c.get('outputs', ()) for t in o.get('data', {}).get('text/html', ()))
    assert all(m in html for m in ('full size','Batch mode','Epoch mode','Batch mode, more epochs'))
    assert '<th>size</th>' in html.replace('      ', '').replace('\n', '')
