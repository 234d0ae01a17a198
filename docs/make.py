"""The web site, from the front page, the pages, the notebooks with their outputs, and docstrings: `make docs`

Writes every page that `mkdocs.yml` names to `build/docs`, and an API reference beside them; mkdocs makes `build/site` of it, and fails where a
link leads nowhere."""
import json, shutil
from mkdocs.commands.build import build
from mkdocs.config import load_config

from api import api
from pages import addresses, for_site, linked, markdown, nav_pages, root

src,site = root/'build'/'docs',root/'build'/'site'

def write(page, title):
    "The page from its source: Markdown, or a notebook"
    nb,to = root/page.replace('.md', '.ipynb'),src/page
    to.parent.mkdir(parents=True, exist_ok=True)
    if page=='api.md': text = api()
    elif nb.exists() and page!='index.md':
        text,resources = markdown(json.loads(nb.read_text()), nb.stem)
        text = linked(text.lstrip(), str(nb.relative_to(root)), **addresses())
        for name,data in resources['outputs'].items():
            (to.parent/name).parent.mkdir(exist_ok=True)
            (to.parent/name).write_bytes(data)
    else: text = (root/('README.md' if page=='index.md' else page)).read_text()
    to.write_text(for_site(text, page not in ('index.md','api.md') and title))

def main():
    shutil.rmtree(src, ignore_errors=True)
    src.mkdir(parents=True)
    config = str(root/'docs'/'mkdocs.yml')
    for folder in ('nbs/images','benchmarks/results'): shutil.copytree(root/folder, src/folder)
    for page,title in nav_pages(load_config(config, docs_dir=str(src)).nav): write(page, title)
    for p in (root/'benchmarks').glob('*.py'): shutil.copy(p, src/'benchmarks')
    shutil.copy(root/'docs'/'site.css', src)
    build(load_config(config, docs_dir=str(src), site_dir=str(site), **{k: v for k,v in addresses().items() if v}))
    print(f'wrote {site}')

if __name__=='__main__': main()
