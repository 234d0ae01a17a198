"Every snippet of the front page runs as it stands there; only data, epochs and placeholders are others"
import ast, inspect, re, shlex
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
readme = (root/'README.md').read_text()
blocks = re.findall(r'```(\w+)\n(.*?)```', readme, flags=re.S)
python = [code for kind,code in blocks if kind=='python']
spans = list(dict.fromkeys(re.findall(r'`([^`\n]+)`', re.sub(r'```.*?```', '', readme, flags=re.S))))
commands = [o for o in spans if re.match(r'(make|fastresize-bench) ', o)]
snippets = [o for o in spans if re.search(r'[(=]', o) and o not in commands]

def replaced(code, *pairs):
    for old,new in pairs:
        assert old in code
        code = code.replace(old, new)
    return code

def drawn(tmp_path_factory, n_train):
    from fastresize.demo import demo_data
    return demo_data(tmp_path_factory.mktemp('front')/'pictures', n_train=n_train, n_valid=2, size=64)

@pytest.fixture(scope='module')
def pictures(tmp_path_factory): return drawn(tmp_path_factory, 13)

@pytest.fixture(scope='module')
def few(tmp_path_factory): return drawn(tmp_path_factory, 7)

def sizes(printed): return [int(o) for o in re.findall(r'\b\d+ +[\d.]+ .*?\d\d:\d\d +(\d+) *$', printed, flags=re.M)]

@pytest.fixture
def given(few):
    "What a reader has when he comes to an inline snippet"
    import matplotlib, torch
    matplotlib.use('Agg')
    names = dict(pictures=few)
    exec('from fastai.vision.all import *\nfrom fastresize.all import *', names)
    exec('''
def loaders(size=64, bs=17):
    return ImageDataLoaders.from_folder(pictures, valid='val', item_tfms=Resize(size), batch_tfms=aug_transforms(),
                                          bs=bs, num_workers=0, device='cpu')
def net(n_out=5): return nn.Sequential(nn.Conv2d(3,8,3,2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,n_out))
def body(**kwargs): return Learner(dls, net(), splitter=lambda m: [params(m[:3]), params(m[3:])], **kwargs)
dls,lr,Learner = loaders(),1e-3,partial(Learner, path=Path('.'))
''', names)
    yield names
    matplotlib.pyplot.close('all')

@pytest.mark.slow
def test_the_first_training(pictures, capsys):
    "The first block as it stands, and what the page says that another call prints"
    names = dict(pictures=pictures)
    exec(replaced(python[0], ('untar_data(URLs.IMAGENETTE_160)', 'pictures')), names)
    assert "'auto'" in capsys.readouterr().out and names['learn'].progressive_resize.chosen
    exec(replaced(python[0], ('untar_data(URLs.IMAGENETTE_160)', 'pictures'), ("ProgressiveResize('auto')", 'ProgressiveResize(increase_by=16)')), names)
    printed = capsys.readouterr().out
    said = next(text for kind,text in blocks if kind=='text').splitlines()
    assert all(o in printed for o in said[:2])
    assert said[2].split()==[*names['learn'].recorder.metric_names, 'size']
    assert sizes('\n'.join(said))==[64,64,112,128] and sizes(printed)[:2]==[64,64] and sizes(printed)[-1]==128

def test_the_other_blocks(given):
    "With a small model: a preview takes some steps of the training at hand"
    exec('learn = Learner(dls, net(), cbs=ProgressiveResize())', given)
    for code in python[1:]: exec(code, given)
    assert 'preview_resize' in python[1]

trained = 'learn = Learner(dls, net(), {}); learn.fit(2); assert learn.recorder.values'
grown = 'learn = Learner(dls, net(), cbs=ProgressiveResize({})); learn.fit(2); assert learn.progressive_resize.full_size_reached'
vit = "learn = Learner(dls, {}, cbs=ProgressiveResize(multiple_of=16, increase_by=16)); learn.fit(2)"
uses = {  # what stands around a snippet, and what is put in for its placeholders
    'cbs=ProgressiveResize()': trained,
    'ProgressiveResize(increase_by=16)': trained.replace('{}', 'cbs={}'),
    'cbs=ThroughputMonitor()': trained,
    'resize_valid=False': grown,
    'resize_items=True': grown,
    'cache_items=10e9': grown.replace('{}', 'resize_items=True, {}'),
    'initial_size=.75': grown,
    "increase_mode='epoch'": grown.replace('fit(2)', 'fit(4)'),
    'max_bs=256': grown.replace('fit(2)', 'fit(4)'),
    'final_size=176, resize_valid=False': 'dls = loaders(224)\n' + grown,
    'frozen=False': 'learn = body(cbs=ProgressiveResize({})); learn.fine_tune(2)',
    'learn.fine_tune(5, cbs=ProgressiveResize(frozen=False, initial_size=.75))':
        ('learn = body(); {}', ('fine_tune(5', 'fine_tune(2')),
    'opt_func=partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True))': trained,
    'dynamic_img_size=True': vit.replace('{}', "__import__('timm').create_model('test_vit', num_classes=5, img_size=64, {})"),
    'timm.create_model(..., dynamic_img_size=True)': ('import timm\n' + vit, ('...', "'test_vit', num_classes=5, img_size=64")),
    'ProgressiveResize(multiple_of=16, increase_by=16)': trained.replace('{}', 'cbs={}'),
    'loader = sized_loader(loader, size_schedule(224, 20), 20)': '''loader = torch.utils.data.DataLoader(torch.rand(2,3,224,224), batch_size=2)
{}
assert [[o.shape[-1] for o in loader][0] for _ in range(20)][::19]==[112,224]''',
    'Trainer(callbacks=[ProgressiveResizeCallback()])': ('''from lightning import LightningModule, Trainer
from fastresize.lightning import ProgressiveResizeCallback
class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()
    def training_step(self, b, i): return F.cross_entropy(self.net(b[0]), b[1])
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=.1)
data = torch.utils.data.TensorDataset(torch.rand(16,3,64,64), torch.arange(16)%5)
trainer = {}
trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=8))
assert trainer.callbacks[0].current_size==(64,64)''', ('Trainer(', 'Trainer(max_epochs=4, accelerator="cpu", ')),
    'SaveModelCallback(every_epoch=True, with_opt=True)': trained.replace('{}', 'cbs={}') + "\nassert Path('models/model_1.pth').exists()",
    "learn.load('model_11', with_opt=True)": trained.replace('{}', 'cbs=ProgressiveResize()') + '\nlearn.save("model_11", with_opt=True)\n{}',
    'learn.fit_one_cycle(20, lr, start_epoch=12)':
        'learn = Learner(dls, net(), cbs=ProgressiveResize(increase_by=8))\n{}\nassert learn.progressive_resize.full_size_reached==(64,64)',
    'show_sizes(dls)': '{}\nassert plt.get_fignums()',
}

def test_every_inline_snippet_is_run(): assert {*snippets}=={*uses}

@pytest.mark.parametrize('snippet', uses)
def test_inline(snippet, given):
    around,*pairs = [uses[snippet]] if isinstance(uses[snippet], str) else uses[snippet]
    exec(around.replace('{}', replaced(snippet, *pairs)), given)

@pytest.mark.slow
def test_resuming(given, capsys):
    "After 12 of 20 epochs, as in the recipe: the sizes are those of a training that was not interrupted"
    exec('''
class Stop(Callback):
    order = 100
    def after_epoch(self):
        if self.epoch==11: raise KeyboardInterrupt
learn = Learner(dls, net(), cbs=ProgressiveResize(increase_by=8))
''', given)
    resume = [o for o in snippets if 'model_11' in o or 'start_epoch' in o]
    with pytest.raises(KeyboardInterrupt):
        exec('learn.fit_one_cycle(20, lr, cbs=[SaveModelCallback(every_epoch=True, with_opt=True), Stop()])', given)
    before = sizes(capsys.readouterr().out)
    for code in resume: exec(code, given)
    assert len(resume)==2 and before + sizes(capsys.readouterr().out)==[32]*10 + [40]*2 + [48]*1 + [56]*2 + [64]*5

def words(): return [o for o in spans if o not in commands and o not in snippets]

@pytest.mark.parametrize('word', words())
def test_names_are_names(word, given):
    "A name that the page gives as code is one of Python, of fastai, of the learner, or an argument"
    from fastresize.all import ProgressiveResize
    if word in inspect.signature(ProgressiveResize).parameters or hasattr(given['Learner'].func, word): return
    try: ast.literal_eval(word)
    except ValueError:
        exec('import torch, fastresize.lightning', given)
        eval(word, given)

def run(command, monkeypatch):
    "As from the shell, in this process"
    from fastresize.bench import main
    name,*args = shlex.split(command)
    types = {k: p.annotation for k,p in inspect.signature(main).parameters.items()}
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    assert name=='fastresize-bench'
    main(**{(k := o[2:].replace('-', '_')): types[k](v) for o,v in zip(args[::2], args[1::2], strict=True)})

@pytest.mark.slow
def test_the_comparison(few, tmp_path, monkeypatch, capsys):
    command, = (o for o in commands if o.startswith('fastresize-bench'))
    filled = replaced(command, ('<folder>', str(few)), ('--size ...', '--size 32'),
                      ('--epochs ...', '--epochs 2'))
    run(filled + ' --workers 0 --bs 35', monkeypatch)
    out = capsys.readouterr().out
    assert all(re.search(rf'^{o}\b', out, flags=re.M) for o in ('full','batch','auto')) and (tmp_path/'results'/'results.json').exists()

@pytest.mark.slow
def test_make_demo(few, tmp_path, monkeypatch):
    "What `make demo` runs, on fewer and smaller pictures"
    recipe = re.search(r'^demo: .*\n\t(.*)', (root/'Makefile').read_text(), flags=re.M)[1]
    run(replaced(recipe, ('--data demo', f'--data {few}'), ('--size 128', '--size 32'), ('--epochs 4', '--epochs 2')), monkeypatch)
    assert (tmp_path/'demo'/'results.json').exists() and (tmp_path/'demo'/'speed.png').exists()

def test_every_command_is_known():
    "`make` has the targets; what the shell blocks hold is an install, and from a checkout"
    makefile = (root/'Makefile').read_text()
    assert all(re.search(rf'^{o.split()[1]}( \w+)*:', makefile, flags=re.M) for o in commands if o.startswith('make '))
    shell = [line.split('#')[0].strip() for kind,code in blocks if kind in ('sh','bash') for line in code.splitlines()]
    assert shell==['pip install .'] and (root/'pyproject.toml').exists()
    assert {kind for kind,_ in blocks}=={'python','text','sh'}
