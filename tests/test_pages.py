"The pages: no dead link, and no results file that is named but not there"
import json, re, runpy
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
pages = [root/'README.md', root/'CONTRIBUTING.md', root/'benchmarks'/'README.md', root/'benchmarks'/'results'/'README.md', *sorted((root/'nbs').glob('*.md')), *sorted((root/'nbs').glob('*.ipynb'))]

def text(page):
    if page.suffix=='.md': return page.read_text()
    return '\n'.join(''.join(c['source']) for c in json.loads(page.read_text())['cells'] if c['cell_type']=='markdown')

@pytest.mark.parametrize('page', pages, ids=lambda p: str(p.relative_to(root)))
def test_every_link_leads_somewhere(page):
    links = re.findall(r'\]\(([^)\s]+)\)', text(page))
    dead = [o for o in links if not re.match(r'https?://|#|attachment:', o) and not (page.parent/o.split('#')[0]).exists()]
    assert not dead

@pytest.mark.parametrize('page', [*pages, *sorted((root/'benchmarks').glob('*.py'))], ids=lambda p: str(p.relative_to(root)))
def test_every_results_file_is_there(page):
    said = page.read_text() if page.suffix=='.py' else text(page)
    assert not [o for o in re.findall(r'results/([\w.-]+\.(?:jsonl?|csv|png))', said) if '<' not in o and not (root/'benchmarks'/'results'/o).exists()
                and not o.startswith(('results.',))]

@pytest.mark.parametrize('page', pages, ids=lambda p: str(p.relative_to(root)))
def test_every_script_and_test_that_is_named_is_there(page):
    named = re.findall(r'benchmarks/\w+\.py|`test_(?:progressive|recipes|log|items|loops|schedule|preflight|promises)\w*`', text(page))
    assert not [o for o in named if not (root/o if o.startswith('b') else root/'tests'/f'{o.strip("`")}.py').exists()]

def test_every_results_file_has_the_command_that_made_it():
    folder = root/'benchmarks'/'results'
    files = {re.sub(r'\.(jsonl?|csv|png)$', '', o.name) for o in folder.iterdir() if o.name!='README.md'}
    assert files <= {*re.findall(r'`([\w.-]+)`', (folder/'README.md').read_text())}

def test_the_front_page_is_read_in_minutes():
    prose = re.sub(r'```.*?```', '', (root/'README.md').read_text(), flags=re.S)
    assert len([o for o in prose.split() if re.search(r'\w', o)])<1000

def test_the_figure_of_the_front_page_is_drawn_from_the_results(tmp_path):
    runpy.run_path(str(root/'docs'/'headline.py'))['main'](out=str(tmp_path/'headline.png'))
    assert (tmp_path/'headline.png').read_bytes()[:4]==(b'\x89PNG')
