"What a page shows: a notebook as Markdown, without what only the machine reads; and where the project lives, if that is known"
import json, re, sys
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
long = 25   # lines of source that a page shows unfolded

# ---- where the project lives: `repo_url` and `site_url` of settings.ini, empty while they are not known

def addresses():
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini', encoding='utf-8')
    return {k: cfg['DEFAULT'].get(k, '').strip().rstrip('/') for k in ('repo_url','site_url')}

def colab(path, repo_url):
    "The notebook at `path` in Colab, or None: Colab opens those of GitHub"
    if not re.match(r'https://github\.com/[^/]+/[^/]+$', repo_url): return None
    return f'https://colab.research.google.com/github/{repo_url.removeprefix("https://github.com/")}/blob/main/{path}'

def linked(text, path=None, repo_url='', site_url=''):
    "`text` with the address of the repository in its place, and links below the title; without one, it stays as it is"
    links = dict(Documentation=not path and site_url, Repository=not path and repo_url)
    links['Open in Colab'] = colab(path or 'nbs/tutorial.imagenette.ipynb', repo_url)
    line = ' · '.join(f'[{k}]({v})' for k,v in links.items() if v)
    if repo_url: text = text.replace('<address of this repository>', repo_url)
    return re.sub(r'\A(# .*\n(?:\n> .*\n)?)', lambda m: f'{m[1]}\n{line}\n', text) if line else text

# ---- notebooks

def only_imports(source): return all(re.match(r'(from|import) |[ )\w,]*$|#', o) for o in source.splitlines())

def shown(cell):
    "The cell as readers want it, or None if it is for the machine alone: hidden, or nothing but the imports of a module"
    source = ''.join(cell['source'])
    directives = re.findall(r'^#\| *(.*)\n?', source, flags=re.M)
    if cell['cell_type']!='code': return {**cell, 'source': source}
    rest = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip()
    if not rest or any(re.match(r'hide\b|default_exp', o) for o in directives): return None
    exported = any(o.startswith('export') for o in directives)
    if exported and only_imports(rest): return None
    names = re.findall(r'^(?:class|def) (\w+)', rest, flags=re.M)
    fold = exported and rest.count('\n')>=long and 'Source of ' + ', '.join(f'`{o}`' for o in [o for o in names if o[0]!='_'] or names)
    return {**cell, 'source': rest, 'metadata': {**cell['metadata'], 'fold': fold}}

def readable(nb):
    "The notebook without directives and front matter, and without cells that only the machine reads"
    cells = list(filter(None, map(shown, nb['cells'])))
    if cells: cells[0]['source'] = re.sub(r'^- \w+: .*\n?', '', cells[0]['source'], flags=re.M)
    return {**nb, 'cells': cells}

def plain_html(html):
    "A table in the colors of the page: without styles, borders and progress bars of its own"
    html = re.sub(r'<style.*?</style>|<progress.*?</progress>', '', html, flags=re.S)
    return re.sub(r'\n\s*\n', '\n', re.sub(r'<(table|thead|tbody|tr)\b[^>]*>', r'<\1>', html)).strip()

template = """{%- extends 'markdown/index.md.j2' -%}
{% block input %}
{% if cell.metadata.fold %}
??? quote "{{ cell.metadata.fold }}"

    ````python
{{ cell.source | indent }}
    ````
{% else %}
````python
{{ cell.source }}
````
{% endif %}
{% endblock input %}
{% block stream %}
````{ .text .output }
{{ output.text | strip_ansi | trim('\\n') }}
````
{% endblock stream %}
{% block data_text scoped %}
````{ .text .output }
{{ output.data['text/plain'] }}
````
{% endblock data_text %}
{% block data_html scoped %}
{{ output.data['text/html'] | plain_html }}
{% endblock data_html %}
"""

def markdown(nb, name):
    "A notebook as Markdown, and the pictures of its outputs by name"
    import nbformat
    from nbconvert import MarkdownExporter
    one_stream = 'nbconvert.preprocessors.CoalesceStreamsPreprocessor'
    exporter = MarkdownExporter(preprocessors=[one_stream], raw_template=template, filters={'plain_html': plain_html})
    return exporter.from_notebook_node(nbformat.reads(json.dumps(readable(nb)), 4), dict(unique_key=name, output_files_dir=f'{name}_files'))

# ---- Markdown

def nav_pages(nav):
    "Yield path and title of every page of a navigation, in order"
    for o in nav:
        (title,to), = o.items()
        if isinstance(to, str): yield to,title
        else: yield from nav_pages(to)

def for_site(text, title=None):
    "Links to notebooks and the front page lead to their pages; lists begin after an empty line; the first heading is `title`"
    text = re.sub(r'(\]\([\w./-]+)\.ipynb([#)])', r'\1.md\2', text)
    text = re.sub(r'\]\(((?:\.\./)*)README\.md', r'](\1index.md', text)
    if title: text = re.sub(r'^# .*', f'# {title}', text, count=1)
    parts = re.split(r'(^ *(`{3,}).*?^ *\2$)', text, flags=re.M|re.S)   # text, code, its fence, text, ...
    parts[::3] = [re.sub(r'^((?![-*|\d\s#>]).+)\n(?=(?:[-*]|\d+\.) )', r'\1\n\n', o, flags=re.M) for o in parts[::3]]
    return ''.join(o for i,o in enumerate(parts) if i%3!=2)

if __name__=='__main__': sys.stdout.write(linked(sys.stdin.read(), **addresses()))
