"What the site is made of: directives taken out, its navigation, its API reference, and the address of the repository"
import inspect, json, re, sys
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
sys.path.append(str(root/'docs'))
import pages
from api import api, cell, examples, public
yaml = pytest.importorskip('yaml')

notebooks = sorted((root/'nbs').glob('*.ipynb'))
def read(nb): return json.loads(nb.read_text())
def source(c): return ''.join(c['source'])

# ---- the address of the repository

readme = '# fastresize\n\n> One callback\n\n`pip install git+<address of this repository>`\n'

def test_nothing_is_linked_while_the_address_is_unknown():
    assert pages.linked(readme, repo_url='', site_url='')==readme
    assert pages.linked('# A\n\ntext', 'nbs/a.ipynb', '', '')=='# A\n\ntext'
    assert pages.colab('nbs/a.ipynb', '') is None

def test_an_address_is_linked_everywhere():
    repo,site = 'https://github.com/some/where','https://some.where'
    front = pages.linked(readme, repo_url=repo, site_url=site)
    assert f'`pip install git+{repo}`' in front and front.index(repo)>front.index('One callback')
    colab = 'https://colab.research.google.com/github/some/where/blob/main/nbs'
    assert f'[Documentation]({site}) · [Repository]({repo}) · [Open in Colab]({colab}/tutorial.imagenette.ipynb)' in front
    page = pages.linked('# A\n\ntext', 'nbs/a.ipynb', repo, site)
    assert page=='# A\n\n[Open in Colab](' + colab + '/a.ipynb)\n\ntext'

def test_colab_opens_github_only():
    front = pages.linked(readme, repo_url='https://git.example.org/a/b')
    assert '[Repository](https://git.example.org/a/b)' in front and 'colab' not in front

@pytest.mark.parametrize('text,want', [('repo_url =\nsite_url =', ('','')), ('', ('','')),
    ('repo_url = https://a.b/c/d/\nsite_url = https://e.f', ('https://a.b/c/d','https://e.f'))])
def test_one_setting(text, want, tmp_path, monkeypatch):
    (tmp_path/'settings.ini').write_text('[DEFAULT]\nversion = 1\n' + text)
    monkeypatch.setattr(pages, 'root', tmp_path)
    assert tuple(pages.addresses().values())==want

# ---- notebooks

def notebook(*sources, kind='code'):
    cells = [dict(cell_type=kind, metadata={}, source=o, outputs=[], execution_count=None) for o in sources]
    return dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)

def test_directives_are_stripped_and_the_machines_cells_left_out():
    nb = notebook('#| default_exp a', '#| hide\nfrom x import *', '#| export\nimport os\nfrom a import (b,\n    c)', '#| eval: false\nlearn.fit(1)',
                  '#| export\nimport os\nf = 1', 'from fastai.vision.all import *', '#| export')
    assert [c['source'] for c in pages.readable(nb)['cells']]==['learn.fit(1)', 'import os\nf = 1', 'from fastai.vision.all import *']

def test_front_matter_is_stripped():
    text = pages.readable(notebook('# A\n\n> What it is\n\n- skip_exec: true\n- a list: stays', kind='markdown'))['cells'][0]['source']
    assert 'skip_exec' not in text and '> What it is' in text

def test_long_source_is_folded():
    nb = notebook('#| export\ndef f():\n' + '    pass\n'*30, '#| export\ndef g(): pass', 'def h():\n' + '    pass\n'*30)
    assert [c['metadata']['fold'] for c in pages.readable(nb)['cells']]==['Source of `f`', False, False]

def test_tables_take_the_colours_of_the_page():
    html = '<style>/* x */</style>\n<table border="1" class="dataframe table">\n\n<tr style="text-align: right;"><td>1</td></tr></table>'
    assert pages.plain_html(html)=='<table>\n<tr><td>1</td></tr></table>'

def test_a_notebook_becomes_markdown():
    pytest.importorskip('nbconvert')
    nb = notebook('print(1)')
    nb['cells'][0]['outputs'] = [dict(output_type='stream', name='stdout', text=[o]) for o in ('1\n','2\n')]
    text,_ = pages.markdown(nb, 'a')
    assert '````python\nprint(1)\n````' in text and '````{ .text .output }\n1\n2\n````' in text

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_no_directive_is_shown(nb):
    cells = pages.readable(read(nb))['cells']
    assert cells and not [c for c in cells if re.search(r'^#\||^- skip_exec', c['source'], flags=re.M)]

def test_markdown_for_the_site():
    text = pages.for_site('# x\nsee [a](01_a.ipynb#b), [b](../README.md) and [c](../benchmarks/README.md)\n'
                          'A list:\n- one\n- two\n```sh\na\n- b\n```\n', 'In words')
    assert text=='# In words\nsee [a](01_a.md#b), [b](../index.md) and [c](../benchmarks/README.md)\nA list:\n\n- one\n- two\n```sh\na\n- b\n```\n'

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_outputs_are_stored(nb):
    "A shown cell that ends in an expression has its output, and a figure is a picture"
    import ast
    for c in map(pages.shown, read(nb)['cells']):
        if not c or c['cell_type']!='code': continue
        for o in c['outputs']: assert '<Figure' not in ''.join(o.get('data', {}).get('text/plain', '')) or 'image/png' in o['data'], c['source']
        last = ast.parse(re.sub(r'^[%!].*', 'pass', c['source'], flags=re.M)).body[-1:]
        silent = c['source'].rstrip().endswith(';') or re.match(r'test_\w+\(', ast.unparse(last[0])) if last else True
        assert c['outputs'] or silent or not isinstance(last[0], ast.Expr), c['source']

# ---- navigation

config = yaml.safe_load((root/'docs'/'mkdocs.yml').read_text())
entries = [(title,page) for page,title in pages.nav_pages(config['nav'])]

def test_navigation_begins_with_users():
    first = [next(iter(o)) for o in config['nav']]
    assert first[:4]==['Start','Why small first','Recipes','What can go wrong'] and first[-1]=='How it is built'
    assert first.index('API')<first.index('What was measured')<first.index('How it is built')

def test_every_page_is_in_the_navigation_once():
    named = [to for _,to in entries]
    there = {f'nbs/{p.stem}.md' for p in (root/'nbs').glob('*.*') if p.suffix in ('.md','.ipynb')} - {'nbs/index.md'}
    assert len(named)==len({*named}) and {o for o in named if o.startswith('nbs/')}==there
    chapters = [o for o in named if re.match(r'nbs/\d\d_', o)]
    built = [to for to,_ in pages.nav_pages(config['nav'][-1]['How it is built']) if to in chapters]
    assert built==sorted(built)

def test_titles_are_words():
    modules = {p.stem[3:] for p in notebooks}
    assert not [t for t,_ in entries if t in modules or '_' in t or not t[0].isupper()]

# ---- API

def test_every_public_name_has_an_entry_and_an_example():
    import fastresize
    names = {n for group in public().values() for n in group}
    assert names==set(examples)
    assert {*fastresize.__all__,'SizeSchedule','sized_loader','ProgressiveResizeCallback','Preview','SizedLoader','fastresize-bench'}<=names

def test_tables_say_what_signatures_say():
    from fastresize.all import ProgressiveResize, size_schedule
    page = api()
    for name,o in dict(ProgressiveResize=ProgressiveResize, size_schedule=size_schedule).items():
        entry = page.split(f'### {name}\n')[1].split('\n### ')[0]
        rows = re.findall(r'^\| `(\w+)` \| (.*?) \| (.*?) \| (.+?) \|$', entry, flags=re.M)
        assert [r[0] for r in rows]==[*inspect.signature(o).parameters] and all(r[3].strip() for r in rows)
    assert "| `increase_by` | `int` | `4` |" in page and '`--increase-by`' in page and 'nbs/18_progressive.md' in page
    assert 'NoneType' not in page and '<class' not in page

def test_a_bar_in_a_cell_does_not_end_it(): assert cell('`int|float` or a|b')=='`int|float` or a\\|b'

@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in examples if n!='fastresize-bench'])
def test_examples_run(name, monkeypatch):
    import matplotlib, torch
    matplotlib.use('Agg')
    from util import make_dls, small_model
    given = {}
    exec('from fastai.vision.all import *\nfrom fastresize.all import *\nfrom lightning import Trainer\nfrom fastresize.lightning import *', given)
    def get_dls(size, bs): return make_dls(*given['aug_transforms'](), item_tfms=given['Resize'](size), bs=bs)
    dls = get_dls(64, 8)
    given.update(dls=dls, get_dls=get_dls, net=small_model, schedule=given['size_schedule'](64, 4),
                 decoder=type('Decoder', (), dict(output_size=(64,64)))(),
                 loader=torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8,3,64,64), torch.zeros(8)), batch_size=4))
    given['Learner'] = given['partial'](given['Learner'], path=Path('.'))
    given['learn'] = given['Learner'](dls, small_model())
    learn = given['learn']   # half an hour is too long for a test: the call is checked, the training is tested elsewhere
    learn.fit_minutes = inspect.signature(learn.fit_minutes).bind
    exec(examples[name].replace('demo_data(', 'demo_data("pictures", '), given)
    matplotlib.pyplot.close('all')

def test_the_site_is_built(tmp_path):
    "mkdocs is strict: links that lead nowhere end it"
    pytest.importorskip('material')
    import make
    assert config['strict'] and config['validation']['anchors']=='warn'
    make.src,make.site = tmp_path/'docs',tmp_path/'site'
    make.main()
    assert all((make.site/to).with_suffix('.html').exists() or to.endswith('README.md') for _,to in entries)
    assert '#| ' not in (make.site/'search'/'search_index.json').read_text()
