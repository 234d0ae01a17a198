"What is tried before the first step: also losses with objects of the user's, after cancelled batches, and with layers in evaluation mode"
from types import SimpleNamespace
from fastresize.preflight import SizeError
from util import *

class Picky(nn.Module):
    "Cannot take 48 pixels"
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x):
        if x.shape[-1]==48: raise RuntimeError('not 48')
        return self.m(x)

def steps_until_refused(learn, match='48', n_epoch=4):
    with pytest.raises(SizeError, match=match): learn.fit(n_epoch)
    return learn.seen.steps

class Settings: weight = 1.
class KeepsBatches:
    def __init__(self): self.n = 0
    def __deepcopy__(self, memo): raise TypeError('no copies')

def picky_loss(p, y, settings):
    if p.shape[-1]==48: raise RuntimeError('not 48')
    if hasattr(settings, 'n'): settings.n += 1
    return F.cross_entropy(p.mean((2,3)), y)

@pytest.mark.parametrize('settings', [SimpleNamespace(w=1.), Settings(), np.float32(1), np.ones(2)])
@pytest.mark.parametrize('wrap', ['partial','closure'])
def test_a_loss_with_an_object_is_tried(settings, wrap):
    loss = partial(picky_loss, settings=settings) if wrap=='partial' else lambda p,y: picky_loss(p, y, settings)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=nn.Conv2d(3,2,3,padding=1), loss_func=loss)
    assert steps_until_refused(learn, 'images of .48, 48. the loss raised RuntimeError: not 48')==0

def test_the_object_is_as_before():
    settings = SimpleNamespace(n=0)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16, initial_size=.75), model=nn.Conv2d(3,2,3,padding=2),
                    loss_func=partial(picky_loss, settings=settings))
    learn.fit(4)
    assert settings.n==4*(8+2)

def test_it_is_said_that_a_loss_cannot_be_copied(capsys):
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=nn.Conv2d(3,2,3,padding=1),
                    loss_func=partial(picky_loss, settings=KeepsBatches()))
    with pytest.raises(RuntimeError, match='not 48'): learn.fit(4)
    assert 'Sizes are tried with the model alone, because the loss function cannot be copied.' in capsys.readouterr().out

# what is remembered by functions and classes of the user, in every way that there is

calls,n_called,aux,many = [],0,{},[0]*2000
def in_a_helper(p, y):
    calls.append(len(y))
    return F.cross_entropy(p, y)
def counted(p, y, seen=[]):
    global n_called
    n_called += 1
    counted.n = getattr(counted, 'n', 0)+1
    seen.append(1)
    many.append(1)
    return in_a_helper(p, y)
class Counts(nn.Module):
    n_all = 0
    def __init__(self): super().__init__(); self.n,self.norm,self.fs = 0,nn.BatchNorm1d(2),[counted]
    def forward(self, p, y):
        self.n += 1
        Counts.n_all += 1
        return self.fs[0](self.norm(p), y)
def remembering():
    own = []
    def metric(p, y):
        own.append(1)
        return accuracy(p, y)
    return metric,own

@pytest.mark.parametrize('initial_size', ['auto',.5])
@pytest.mark.parametrize('preview', [False,True])
@pytest.mark.parametrize('kind', ['function','module','method'])
def test_functions_remember_the_training_alone(initial_size, preview, kind):
    "Globals, a default, an attribute, a class and a closure; neither a trial of the sizes nor a measurement leaves a trace in them"
    global n_called
    for o in (calls, counted.__defaults__[0]): o.clear()
    del many[2000:]
    n_called,counted.n,Counts.n_all,(metric,own),module = 0,0,0,remembering(),Counts()
    loss = dict(function=counted, module=module, method=module.forward)[kind]
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(initial_size, increase_by=8), loss_func=loss, metrics=metric)
    if preview: learn.preview_resize(2, n_batch=1, show_plot=False)
    learn.fit(2)
    assert n_called==counted.n==len(calls)==len(counted.__defaults__[0])==len(many)-2000==2*(8+2) and len(own)==2*2
    if kind!='function': assert module.n==Counts.n_all==module.norm.num_batches_tracked==20

class Writes(nn.Module):
    "Leaves for the loss what it has seen"
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x):
        aux['x'] = x.mean()
        return self.m(x)

@pytest.mark.parametrize('door', ['trial','auto','preview'])
def test_a_loss_reads_what_the_model_has_written(door, capsys):
    "It is called itself, not a copy with globals of its own"
    aux.clear()
    def loss(p, y): return F.cross_entropy(p, y)+.01*aux['x']
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize('auto' if door=='auto' else .5, increase_by=8), model=Writes(), loss_func=loss)
    if door=='preview': learn.preview_resize(2, n_batch=1, show_plot=False)
    learn.fit(2)
    out = capsys.readouterr().out
    assert 'could not' not in out and 'not tried' not in out and 'alone' not in out

@torch.jit.script
def scripted(p, y: torch.Tensor): return -torch.log_softmax(p, 1).gather(1, y[:,None]).mean()

@pytest.mark.parametrize('wrap', [lambda f: f, lambda f: lambda p, y: f(p, y)])
@pytest.mark.parametrize('door', ['trial','auto','preview'])
def test_a_scripted_loss(door, wrap, capsys):
    learn = learner(torch_dls(size=(64,64)), ProgressiveResize('auto' if door=='auto' else .5, increase_by=8), loss_func=wrap(scripted))
    if door=='preview': learn.preview_resize(2, n_batch=1, show_plot=False)
    learn.fit(2)
    out = capsys.readouterr().out
    assert 'could not' not in out and 'not tried' not in out and 'alone' not in out

def test_a_loss_that_uses_the_weights_trains_as_without_a_preview():
    def trained(preview):
        set_seed(5)
        model = small_model()
        learn = learner(make_dls(*aug_transforms()), model=model, loss_func=lambda p, y: F.cross_entropy(p, y)+.1*sum(q.pow(2).sum() for q in model.parameters()))
        if preview: learn.preview_resize(2, n_batch=1, show_plot=False)
        set_seed(6)
        learn.fit(2)
        return [*model.state_dict().values()]
    assert all(map(torch.equal, trained(False), trained(True)))

class Cancels(Callback):
    def __init__(self, exception, when): self.exception,self.when = exception,when
    def before_batch(self):
        if self.training and self.when(self): raise self.exception

@pytest.mark.parametrize('exception,when', [(CancelBatchException,lambda cb: cb.iter==0), (CancelEpochException,lambda cb: cb.epoch==0),
                                            (CancelTrainException,lambda cb: cb.epoch==0 and cb.iter==1)])
def test_sizes_are_tried_before_the_first_step_even_if_a_batch_is_cancelled(exception, when):
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16), Cancels(exception, when), model=Picky())
    assert steps_until_refused(learn)==0

def test_it_is_said_that_a_replaced_step_is_not_tried(capsys):
    class Replaces(Callback):
        def before_fit(self): self.learn._do_one_batch = partial(type(self.learn)._do_one_batch, self.learn)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), Replaces())
    learn.fit(4)
    assert learn.seen.train==due(32)
    assert capsys.readouterr().out.count('Sizes are not tried beforehand, because `learn._do_one_batch` was replaced.')==1

class FreezesBatchNorm(Callback):
    def before_train(self):
        for m in self.model.modules():
            if isinstance(m, nn.BatchNorm2d): m.eval()

def test_layers_in_evaluation_mode_stay_in_it_when_sizes_are_tried():
    "One image whose features are 1×1 cannot be normalized in training mode"
    net = nn.Sequential(*[nn.Conv2d(4 if i else 3,4,3,2,1) for i in range(5)], nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(4,2))
    items = [(torch.rand(3,64,64),i%2) for i in range(41)]
    dls = DataLoaders.from_dsets(items[:33], items[33:], bs=8, num_workers=0, device='cpu', drop_last=False)
    learn = learner(dls, ProgressiveResize(increase_by=8), FreezesBatchNorm(), model=net)
    learn.fit(4)
    assert learn.seen.steps==4*5

class HoldsData(nn.Module):
    def __init__(self, data): super().__init__(); self.m,self.data = small_model(),data
    def forward(self, x): return self.m(x)

class Precious(torch.utils.data.Dataset):
    def __deepcopy__(self, memo): raise AssertionError('a dataset was copied')

def test_data_that_a_model_holds_are_not_copied(capsys):
    class Name(str):
        def __deepcopy__(self, memo): raise AssertionError('a list of names was copied')
    for data in (Precious(), [Name('a.png')]*2000):
        learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=16), model=HoldsData(data))
        learn.fit(1)
    assert 'not tried' not in capsys.readouterr().out

class TwoOutputs(nn.Module):
    "Has an auxiliary output in training, as Inception"
    def __init__(self): super().__init__(); self.m = small_model()
    def train(self, mode=True):
        self.auxiliary = mode
        return super().train(mode)
    def forward(self, x): return (self.m(x),self.m(x)) if self.auxiliary else self.m(x)

def test_a_model_with_a_mode_of_its_own():
    def loss(p, y): return sum(F.cross_entropy(o, y) for o in p) if isinstance(p, tuple) else F.cross_entropy(p, y)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=TwoOutputs(), loss_func=loss)
    learn.fit(4)
    assert learn.seen.train==due(32)

def test_a_check_that_was_cancelled_does_not_wait_for_a_later_batch():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=SizeSchedule((32,48,64), (.21,.9))),
                    Cancels(CancelBatchException, lambda cb: cb.iter==7), model=small_model())
    learn.fit(4)
    assert '_do_one_batch' not in vars(learn) and learn.seen.steps==4*7
