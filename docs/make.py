"""The web site, from the front page, the pages, the notebooks with their outputs, and docstrings: `make docs`

Copies what it shows to `build/docs`, in the folders that it has here, so that links between pages hold; writes an API reference
beside it; and lets mkdocs make `build/site`. Then every link within the site is followed."""
import json, re, shutil, sys
from html.parser import HTMLParser
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from urllib.parse import unquote

from fastcore.docments import MarkdownRenderer
from mkdocs.commands.build import build
from mkdocs.config import load_config

root = Path(__file__).resolve().parent.parent
src,site = root/'build'/'docs',root/'build'/'site'
chapters = sorted(p.name for p in (root/'nbs').glob('[0-9]*.ipynb'))
tutorials = [f'tutorial.{o}.ipynb' for o in ('processes','reliability','imagenette')]

def title(nb): return re.search(r'"# ([^"\\]+)', (root/'nbs'/nb).read_text())[1]

def page(link):
    "A link to a page, as the site names it: it follows those of pages, but not those of notebooks"
    path,after = link.groups()
    return '](' + re.sub(r'(^|/)README$', r'\1index', path) + f'.html{after}'

def readable(nb):
    "The notebook without what only the machine reads: directives, and hidden cells"
    d = json.loads(nb)
    d['cells'] = [c for c in d['cells'] if not re.match(r'#\| *(hide|default_exp)\b', ''.join(c['source']))]
    for c in d['cells']:
        s = re.sub(r'^#\| *export\n', '', ''.join(c['source']))
        c['source'] = re.sub(r'\]\(([\w./]+)\.(?:ipynb|md)([#)])', page, s) if c['cell_type']=='markdown' else s
    return json.dumps(d)

def copy():
    "The pages, as they lie here"
    shutil.rmtree(src, ignore_errors=True)
    for p in ('README.md','CONTRIBUTING.md','CHANGELOG.md','benchmarks/README.md',*(f'nbs/{o}' for o in (*chapters, *tutorials, 'why.md', 'promises.md', 'fastxtend.md', 'machines.md'))):
        (src/p).parent.mkdir(parents=True, exist_ok=True)
        if p.endswith('.ipynb'): (src/p).write_text(readable((root/p).read_text()))
        else: shutil.copy(root/p, src/p)
    for p in (root/'benchmarks').glob('*.py'): shutil.copy(p, src/'benchmarks')
    for folder in ('nbs/images','benchmarks/results'): shutil.copytree(root/folder, src/folder)
    text = (src/'README.md').read_text().replace('](nbs)', '](api.md)')
    (src/'README.md').unlink()
    shutil.copy(root/'docs'/'site.css', src)
    (src/'index.md').write_text(text)

def rendered(o, name):
    text = MarkdownRenderer(o, name=name)._repr_markdown_()
    return re.sub(r'^.*?(?=```)', f'### {name}\n\n', text, count=1, flags=re.S)

def api():
    "Every public name of the front door, with its arguments; and what the package adds to fastai's `Learner`"
    import fastresize, fastresize.all
    from fastai.learner import Learner
    parts = ['# API', 'What `from fastresize import ...` gives.']
    for n in fastresize.__all__:
        o = getattr(fastresize, n)
        parts.append(rendered(o, n))
        if isclass(o): parts += [rendered(f, f'{n}.{k}') for k,f in vars(o).items() if isfunction(f) and not k.startswith('_') and f.__doc__ and 'fastresize' in f.__module__
                                 and not k.startswith(('before_','after_'))]
    ours = [(k,f) for k,f in vars(Learner).items() if isfunction(f) and f.__module__.startswith('fastresize') and f.__doc__ and k!='tta']
    parts += ["## On fastai's `Learner`", *(rendered(f, f'learn.{k}') for k,f in ours)]
    (src/'api.md').write_text('\n\n'.join(parts)+'\n')

def nav():
    "What stands beside the pages, in reading order"
    return [{'Front page':'index.md'}, {'Chapters': [{title(o): f'nbs/{o}'} for o in chapters]}, {'Tutorials': [{title(o): f'nbs/{o}'} for o in tutorials]},
            {'API':'api.md'}, {'What was measured':'benchmarks/README.md'}, {'What every door promises':'nbs/promises.md'}, {'Why small first':'nbs/why.md'}, {'From fastxtend':'nbs/fastxtend.md'}, {'Other machines':'nbs/machines.md'},
            {'Contributing':'CONTRIBUTING.md'}, {'Changelog':'CHANGELOG.md'}]

class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found,self.ids = [],set()
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.found += [attrs[k] for k in ('href','src') if attrs.get(k)]
        self.ids |= {attrs[k] for k in ('id','name') if attrs.get(k)}

def dead():
    "Links of the site that lead nowhere in it"
    res = []
    for p in site.rglob('*.html'):
        if p.name=='404.html': continue
        links = Links()
        links.feed(p.read_text())
        for o in links.found:
            if re.match(r'[a-z]+:|//|#', o): continue
            to = (p.parent/unquote(o.split('#')[0].split('?')[0])).resolve()
            if not to.exists(): res.append(f'{p.relative_to(site)}: {o}')
    return res

def main():
    copy()
    api()
    build(load_config(str(root/'docs'/'mkdocs.yml'), docs_dir=str(src), site_dir=str(site), nav=nav()))
    found = dead()
    if found: sys.exit('dead links:\n' + '\n'.join(found))
    print(f'wrote {site.relative_to(root)}')

if __name__=='__main__': main()
