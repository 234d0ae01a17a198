"The API reference, from signatures, their comments and docstrings; only the examples are written here"
import re
from inspect import Parameter, cleandoc, isclass, isfunction, signature

from fastcore.basics import copy_func
from fastcore.docments import docments

from pages import root

# One line for every name. A test runs them, with `dls`, `learn`, `loader` (plain PyTorch), `schedule` and `net` (makes a model) given
examples = dict(
    ProgressiveResize="Learner(dls, net(), cbs=ProgressiveResize(increase_by=16)).fit_one_cycle(4)",
    IncreaseMode="ProgressiveResize(increase_mode=IncreaseMode.Epoch)   # or 'epoch'",
    SizeSchedule="SizeSchedule((112,160,224), (.5,.75)).size_at(.6)   # (160, 160)",
    Growth="Growth(initial_size=.75, increase_by=16)",
    size_schedule="size_schedule(224, n_epoch=20).describe(20)",
    resize_batch="x,y = resize_batch(torch.rand(8,3,224,224), size=112)",
    sized_loader="for epoch in range(4): sizes = [x.shape[-2:] for x,y in sized_loader(loader, size_schedule(64, 4), 4)]",
    ThroughputMonitor="Learner(dls, net(), cbs=[ProgressiveResize(), ThroughputMonitor()]).fit(2)",
    show_sizes="show_sizes(dls, n=2)",
    demo_data="path = demo_data(n_train=4, n_valid=1)",
    Stage="Stage(size=64, bs=16, epochs=2)",
    GrowWithSize="Learner(dls, net(), cbs=[ProgressiveResize(), GrowWithSize({(AffineCoordTfm,'p'): (.2,1.)})])",
    DecoderResize="DecoderResize(decoder, size_schedule(64, 4))   # a decoder with an `output_size` to set",
    SizedLoader="len(sized_loader(loader, size_schedule(64, 4), 4))",
    Preview="preview = learn.preview_resize(20, show_plot=False); preview.speedup",
    ProgressiveResizeCallback="Trainer(max_epochs=4, callbacks=[ProgressiveResizeCallback(increase_by=16)])",
)
examples |= {
    'learn.preview_resize': "learn.preview_resize(20, show_plot=False)",
    'learn.fit_stages': "learn.fit_stages([Stage(32, 16, 1), Stage(64, 8, 1)], get_dls)   # get_dls(size, bs) makes loaders",
    'learn.at_test_size': "with learn.at_test_size(80): learn.validate()",
    'learn.fit_fixres': "learn.fit_fixres(80, epochs=1)",
    'learn.fit_minutes': "learn.fit_minutes(30, cbs=ProgressiveResize())",
    'fastresize-bench': "fastresize-bench --data demo --size 128 --epochs 4 --modes full,batch",
}

def named(anno):
    "A type as one writes it"
    if anno in (Parameter.empty, None, type(None)): return ''
    return re.sub(r'\b(?:\w+\.)+(\w+)', r'\1', getattr(anno, '__name__', str(anno)) if isinstance(anno, type) else str(anno))

def cell(text): return re.sub(r'`[^`]*`|\|', lambda m: m[0].replace('|', '\\|') if m[0]=='|' else m[0], re.sub(r'\s+', ' ', text or ''))
def code(text): return f'`{text}`' if text else ''
def row(*cells): return '| ' + ' | '.join(map(cell, cells)) + ' |'

def default(p): return '' if p.default is Parameter.empty else code(str(p.default) if hasattr(p.default, 'name') else repr(p.default))

def comments(o):
    "What is said of every argument, also of those that come from a dataclass by `delegates`"
    base = getattr(o, '__delwrap__', None)
    if base is None: return docments(o)
    own = copy_func(o)
    vars(own).pop('__delwrap__', None)
    return {**docments(base.__globals__[base.__qualname__.split('.')[0]]), **{k: v for k,v in docments(own).items() if v}}

def arguments(o, command=False):
    "A table of the arguments of `o`: name, type, default and meaning"
    docs,params = comments(o),[p for p in signature(o).parameters.values() if p.name!='self']
    if not params: return ''
    stars = {Parameter.VAR_KEYWORD:'**', Parameter.VAR_POSITIONAL:'*'}
    def name(p): return '--' + p.name.replace('_', '-') if command else stars.get(p.kind, '') + p.name
    rows = [row(code(name(p)), code(named(p.annotation)), default(p), docs.get(p.name)) for p in params]
    return '\n'.join([row('option' if command else 'argument', 'type', 'default', 'meaning'), '|---|---|---|---|', *rows])

def methods(o):
    "A table of the methods and properties of a class that say what they do"
    found = [(k, getattr(f, '__func__', None) or getattr(f, 'fget', None) or f) for k,f in vars(o).items() if not k.startswith('_')]
    found = [(k,f) for k,f in found if isfunction(f) and f.__doc__ and not re.match('before_|after_', k)]
    def called(k, f):
        params = ', '.join(p for p in signature(f).parameters if p not in ('self','cls'))
        return code(f'.{k}' if isinstance(vars(o)[k], property) else f'.{k}({params})')
    rows = [row(called(k, f), cleandoc(f.__doc__).splitlines()[0]) for k,f in found]
    return '\n'.join([row('also', 'meaning'), '|---|---|', *rows]) if rows else ''

def chapter(o):
    "A link to the chapter that explains `o`"
    nb = next((root/'nbs').glob(f'??_{o.__module__.rpartition(".")[2]}.ipynb'))
    return f'[Explained here](nbs/{nb.stem}.md)'

def entry(name, o, made_by=None):
    "What the reference says of one name"
    doc = cleandoc(o.__doc__ or '')
    if made_by: table = f'Made by `{made_by}`.'
    elif hasattr(o, '__members__'): table = ', '.join(code(f'{name}.{k}') for k in o.__members__)
    else: table = arguments(o, command=name=='fastresize-bench')
    example = f'```{"sh" if name=="fastresize-bench" else "python"}\n{examples[name]}\n```'
    parts = [f'### {name}', doc, example, table, methods(o) if isclass(o) else '', chapter(o)]
    return '\n\n'.join(filter(None, parts))

def public():
    "Group to name to what it is: all that users call"
    import fastresize.all, fastresize.bench
    from fastai.learner import Learner
    from fastresize.loops import SizedLoader
    from fastresize.prediction import Preview
    front = {n: getattr(fastresize, n) for n in fastresize.__all__}
    ours = {f'learn.{k}': f for k,f in vars(Learner).items() if isfunction(f) and f.__module__.startswith('fastresize') and f'learn.{k}' in examples}
    loops = {n: front.pop(n) for n in ('sized_loader','size_schedule','SizeSchedule','Growth','resize_batch')}
    res = {'fastai': front, "On fastai's Learner": ours | {'Preview': Preview}, 'Schedules and loops': loops | {'SizedLoader': SizedLoader}}
    try: from fastresize.lightning import ProgressiveResizeCallback
    except ImportError: pass
    else: res['Lightning'] = dict(ProgressiveResizeCallback=ProgressiveResizeCallback)
    return {**res, 'Command line': {'fastresize-bench': fastresize.bench.main}}

makers = dict(SizedLoader='sized_loader', Preview='learn.preview_resize')

def api():
    "The page"
    groups = public()
    def links(names): return ', '.join(f'[{n}](#{re.sub(r"[^a-z0-9_-]", "", n.lower())})' for n in names)
    contents = '\n'.join([row('', 'names'), '|---|---|', *(row(g, links(names)) for g,names in groups.items())])
    start = '# API\n\n`from fastresize.all import *` gives these names; `ProgressiveResizeCallback` comes from `fastresize.lightning`.'
    def group(g, names): return '\n\n'.join([f'## {g}', *(entry(n, o, makers.get(n)) for n,o in names.items())])
    return '\n\n'.join([start, contents, *(group(g, names) for g,names in groups.items())]) + '\n'
