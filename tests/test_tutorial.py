"The Imagenette benchmark runs on any folder in Imagenette's layout; shorter and at half of its size on a CPU, for the sake of time"
import json, os, subprocess, sys
from pathlib import Path
import pytest
from fastresize.demo import demo_data

@pytest.mark.slow
def test_imagenette_notebook(tmp_path):
    text = (Path(__file__).parent.parent/'nbs'/'tutorial.imagenette.ipynb').read_text()
    assert "'xresnet18',128,32,4,6)" in text
    nb = tmp_path/'in.ipynb'
    nb.write_text(text.replace("'xresnet18',128,32,4,6)", "'xresnet18',48,32,2,3)"))
    pictures = demo_data(tmp_path/'pictures', n_train=14, n_valid=4, size=48)
    env = {**os.environ, 'FASTRESIZE_DATA': str(pictures), 'PYTHONWARNINGS': 'ignore'}
    args = '-m jupyter nbconvert --log-level ERROR --to notebook --execute --output out'
    run = subprocess.run([sys.executable, *args.split(), nb], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode==0, run.stderr[-2000:]
    cells = json.loads((tmp_path/'out.ipynb').read_text())['cells']
    said = ''.join(t for c in cells for o in c.get('outputs', ()) for t in o.get('text', ()))
    assert '70 images to train on, 20 to validate on, 5 classes' in said and 'times as fast, measured:' in said
    html = ''.join(t for c in cells for o in c.get('outputs', ()) for t in o.get('data', {}).get('text/html', ()))
    assert all(m in html for m in ('full size','Batch mode','Epoch mode','Batch mode, more epochs'))
    assert '<th>size</th>' in html.replace('      ', '').replace('\n', '')
