"What trains without the callback trains with it, at the size it says: set-ups of tutorials, forums and competitions, in real fits"
import collections, itertools, warnings
from dataclasses import dataclass
import pytest
import torch.nn.functional as F
from fastai.data.load import SkipItemException
from torch.utils.data import DataLoader as TorchLoader, Dataset as TorchDataset, IterableDataset, TensorDataset
from torch.utils.checkpoint import checkpoint
import fastresize
from util import *
from fastresize.preflight import SizeError
from fastresize.batch import size_of

class Got(Callback):
    "The size of the first picture that the model gets in each training batch, and what the callback said it was"
    order = 200
    def __init__(self): self.sizes,self.said,self.shapes = [],[],[]
    def after_loss(self):
        if not self.training: return
        self.sizes.append(size_of(self.learn.xb))
        self.shapes.append([tuple(t.shape[-2:]) for t in flat((self.learn.xb,self.learn.yb)) if t.ndim>2])
    def after_batch(self):
        if self.training and hasattr(self.learn, 'progressive_resize'): self.said.append(self.learn.progressive_resize.current_size)

def flat(o):
    if isinstance(o, Tensor): return [o]
    return [t for p in (o.values() if isinstance(o, dict) else o if isinstance(o, (tuple,list)) else ()) for t in flat(p)]

def halves(i): return torch.from_numpy(np.array(picture(i))).permute(2,0,1).float()/255

class Pictures(TorchDataset):
    "What `item(i)` makes, 32 times"
    def __init__(self, item, n=32): self.item,self.n = item,n
    def __len__(self): return self.n
    def __getitem__(self, i): return self.item(i)

def loaders(item=lambda i: (halves(i),i%2), n=32, bs=8, cls=TorchLoader, wrap=noop, **kwargs):
    return DataLoaders(*(wrap(cls(Pictures(item, n), batch_size=bs, **kwargs)) for _ in range(2)))

def pooled(*body): return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2))

# ---- the table: a function a case, which returns the keyword arguments of a learner; and what the model shall get

cases = {}
def case(sizes=due(16), n_epoch=4, warns=None, **args):
    "`sizes` are those of the training batches, or None where they are not to be compared"
    def _case(f):
        cases[f.__name__] = (f, sizes, n_epoch, warns, {'increase_by':8, **args})
        return f
    return _case

class Prepares(Callback):
    "Changes a batch before the model gets it"
    def __init__(self, f): self.f = f
    def before_batch(self): self.learn.xb,self.learn.yb = self.f(self.learn.xb, self.learn.yb)

class TakesTargets(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x, y=None): return F.cross_entropy(self.m(x), y) if self.training else self.m(x).mean()

@case()
def the_model_is_handed_its_targets():
    return dict(dls=loaders(), model=TakesTargets(), loss_func=lambda p, y: p.mean(), cbs=Prepares(lambda x, y: ((*x,*y), y)))

class OwnStep(Learner):
    def _do_one_batch(self):
        self.pred = self.model(self.xb[0]*2-1)
        self.loss_grad = self.loss_func(self.pred, *self.yb)
        self.loss = self.loss_grad.clone()
        self('after_loss')
        if self.training: self._do_grad_opt()

@case()
def a_learner_with_its_own_step(): return dict(dls=loaders(), cls=OwnStep)

@case()
def a_callback_makes_floats_of_bytes():
    dls = loaders(lambda i: (torch.from_numpy(np.array(picture(i))).permute(2,0,1),i%2))
    return dict(dls=dls, cbs=Prepares(lambda x, y: ((x[0].float()/255,), y)))

@case()
def a_callback_greys():
    model = nn.Sequential(nn.Conv2d(1,3,1), small_model())
    return dict(dls=loaders(), model=model, cbs=Prepares(lambda x, y: ((x[0].mean(1, keepdim=True),), y)))

@case()
def a_callback_makes_one_hot_targets():
    return dict(dls=loaders(), loss_func=nn.BCEWithLogitsLoss(), cbs=Prepares(lambda x, y: (x, (F.one_hot(y[0],2).float(),))))

@case()
def a_callback_stacks_two_views():
    return dict(dls=loaders(), cbs=Prepares(lambda x, y: ((torch.cat([x[0],x[0].flip(-1)]),), (torch.cat([y[0],y[0]]),))))

def pad_to_64(x, y):
    h,w = x[0].shape[-2:]
    return (F.pad(x[0], (0,64-w,0,64-h)),),y

@case([(64,64)]*16, warns='the model gets images of .64, 64., but the loader gives .32, 32.')
def a_callback_pads_to_a_fixed_size():
    return dict(dls=loaders(), model=nn.Sequential(nn.Conv2d(3,4,8,8), Flatten(), nn.Linear(4*64,2)), cbs=Prepares(pad_to_64))

class SimCLR(Callback):
    def before_fit(self): self.learn.loss_func = self.lf
    def before_batch(self):
        x,n = self.x,len(self.x)
        self.learn.xb,self.learn.yb = (torch.cat([x, x.flip(-1)]),),(torch.arange(2*n).roll(n),)
    def lf(self, p, y):
        p = F.normalize(p)
        return F.cross_entropy((p@p.T).fill_diagonal_(-9), y)

@case()
def self_supervision(): return dict(dls=loaders(lambda i: (halves(i),0)), model=small_model(8), cbs=SimCLR())

class Keeps(Callback):
    def before_batch(self): self.kept = self.x.mean((1,2,3))
    def lf(self, p, y): return ((p.mean(1)-self.kept)**2).mean()

@case()
def a_loss_that_reads_what_a_callback_keeps():
    cb = Keeps()
    return dict(dls=loaders(), loss_func=cb.lf, cbs=cb)

Named = collections.namedtuple('Named', 'logits aux')
@dataclass
class Out: logits:Tensor; hidden:object = None

class Returns(nn.Module):
    def __init__(self, f): super().__init__(); self.m,self.f = small_model(),f
    def forward(self, x): return self.f(self.m(x), x)

outputs = dict( # what the model makes of its prediction, and where the loss finds it
    a_tuple_with_none=(lambda p, x: (p,None), lambda p: p[0]),
    a_dict_with_none=(lambda p, x: dict(out=p, aux=None), lambda p: p['out']),
    a_dataclass=(lambda p, x: Out(p), lambda p: p.logits),
    a_named_tuple=(lambda p, x: Named(p,p), lambda p: p.logits),
    plain_ints=(lambda p, x: (p,list(x.shape)), lambda p: p[0]))
for name,(f,g) in outputs.items():
    def make(f=f, g=g): return dict(dls=loaders(), model=Returns(f), loss_func=lambda p, y: F.cross_entropy(g(p), y))
    make.__name__ = f'an_output_that_is_{name}'
    case()(make)

@case()
def a_scripted_model():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return dict(dls=loaders(), model=torch.jit.script(small_model()))

@case()
def a_scripted_layer():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return dict(dls=loaders(), model=nn.Sequential(torch.jit.script(nn.Conv2d(3,3,3)), small_model()))

class Observed(nn.Module):
    "An observer of quantisation-aware training: it resizes its buffers"
    def __init__(self):
        super().__init__()
        self.m = small_model()
        self.register_buffer('low', torch.tensor([]))
    def forward(self, x):
        if self.training: self.low.resize_(x.shape[1]).copy_(x.detach().amin((0,2,3)))
        return self.m(x)

@case()
def buffers_that_are_resized(): return dict(dls=loaders(), model=Observed())

@case()
def lazy_batchnorm(): return dict(dls=loaders(), model=pooled(nn.Conv2d(3,8,3,2), nn.LazyBatchNorm2d()))

class Checkpointed(nn.Module):
    def __init__(self): super().__init__(); self.a,self.m = nn.Conv2d(3,3,3),small_model()
    def forward(self, x): return checkpoint(self.m, self.a(x), use_reentrant=True)

@case()
def checkpoint_reentrant(): return dict(dls=loaders(), model=Checkpointed())

def batch_hard(p, y):
    d = torch.cdist(p, p)
    same = y[:,None]==y
    assert not same.all(), 'no negative in the batch'
    return (d.masked_fill(~same, 0).amax(1) - d.masked_fill(same, 9e9).amin(1) + 1).relu().mean()

@case()
def a_batch_hard_triplet_loss(): return dict(dls=loaders(), model=small_model(4), loss_func=batch_hard)

class WrappedDataLoader:
    "Of PyTorch's tutorial"
    def __init__(self, dl, func): self.dl,self.func = dl,func
    def __len__(self): return len(self.dl)
    def __iter__(self):
        for b in self.dl: yield self.func(*b)

@case([(2*s,2*s) for s,_ in due(16, initial=32)])
def pytorchs_wrapped_loader_that_enlarges():
    "128 px, by a function that nobody but the wrapper knows"
    def enlarged(x, y): return F.interpolate(x, scale_factor=2),y
    return dict(dls=loaders(wrap=lambda dl: WrappedDataLoader(dl, enlarged)), args=dict(increase_by=16))

class Prefetch:
    "As timm's `PrefetchLoader`: the loader inside is called `loader`"
    def __init__(self, loader): self.loader = loader
    def __len__(self): return len(self.loader)
    def __iter__(self): yield from self.loader

@case()
def a_loader_of_unknown_make(): return dict(dls=loaders(wrap=Prefetch))

class Zipped:
    def __init__(self, a, b): self.a,self.b = a,b
    def __len__(self): return len(self.a)
    def __iter__(self):
        for (x,y),_ in zip(self.a, self.b): yield x,y

@case()
def two_loaders_zipped(): return dict(dls=loaders(wrap=lambda dl: Zipped(dl, dl)))

def safe_collate(b): return torch.utils.data.default_collate([o for o in b if o is not None])

@case()
def broken_items_that_are_left_out(): return dict(dls=loaders(lambda i: None if i==0 else (halves(i),i%2), collate_fn=safe_collate))

@case()
def broken_items_that_a_sampler_avoids():
    def item(i):
        if i==0: raise OSError('broken file')
        return halves(i),i%2
    return dict(dls=loaders(item, n=33, sampler=range(1,33)))

@case()
def items_that_fastai_skips():
    def after_item(b):
        if b[1]==9: raise SkipItemException
        return b
    return dict(dls=loaders(lambda i: (halves(i),i%2 if i else 9), n=33, cls=DataLoader, after_item=after_item, drop_last=True))

@case()
def items_that_have_names():
    return dict(dls=loaders(lambda k: (halves(int(k[1:])),int(k[1:])%2), sampler=[f'p{i}' for i in range(32)]))

class ByKeys(Learner):
    def _split(self, b): self.xb,self.yb = (b['image'],),(b['label'],)
class ByKeysWhole(Learner):
    def _split(self, b): self.xb,self.yb = (b,),(b['label'],)
class FromDict(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, b): return self.m(b['pixels'] if 'pixels' in b else b['image'])

@case()
def batches_that_are_dicts(): return dict(dls=loaders(lambda i: dict(image=halves(i), label=i%2)), cls=ByKeys)
@case()
def dicts_for_the_model(): return dict(dls=loaders(lambda i: dict(image=halves(i), label=i%2)), cls=ByKeysWhole, model=FromDict())
@case()
def a_dict_of_inputs_and_a_label(): return dict(dls=loaders(lambda i: (dict(pixels=halves(i), name=i),i%2)), model=FromDict())

class OfClips(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x): return self.m(x.flatten(0,1)).view(len(x), x.shape[1], -1).mean(1)
@case()
def clips(): return dict(dls=loaders(lambda i: (torch.stack([halves(i)]*3),i%2)), model=OfClips())

class OfList(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, xs): return self.m(torch.stack(list(xs)))
@case()
def lists_of_single_pictures():
    return dict(dls=loaders(collate_fn=lambda b: ([x for x,_ in b], torch.tensor([y for _,y in b]))), model=OfList())

class WithMask(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, x, m): return self.m(x*(m[:,None]>0))
@case()
def a_mask_among_the_inputs():
    dls = loaders(lambda i: (halves(i),torch.ones(64,64).long(),i%2))
    return dict(dls=dls, model=WithMask())

@case()
def pictures_that_are_named():
    "The first input is no picture, though it looks like one"
    dls = loaders(lambda i: (torch.rand(2,5,7),halves(i),i%2))
    class Second(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, a, x):
            assert a.shape[1:]==(2,5,7)
            return self.m(x)
    dls.n_inp = 2
    return dict(dls=dls, model=Second(), args=dict(pictures=1), sizes=lambda got: [s[1] for s in got.shapes])

def shape_of(i): return ((64,96),(96,64),(48,48))[i%3]
def shares(shape, n_batch):
    "Of pictures of `shape(i)` among others of 64×96: the same share of their own"
    schedule = size_schedule((64,96), 4, increase_by=16)
    def share(own, size): return tuple(round(o*n/f) for o,n,f in zip(own, size, (64,96)))
    return [share(shape(i), size) for e in range(4) for i,size in enumerate(schedule.sizes_of(e, 4, n_batch))]
@case(shares(shape_of, 32), increase_by=16)
def pictures_of_any_size_one_a_batch():
    return dict(dls=loaders(lambda i: (torch.rand(3,*shape_of(i)),i%2), bs=1), model=pooled(nn.Conv2d(3,8,3)))

def turned(i): return (64,96) if i//8%2==0 else (96,64)
@case(shares(lambda i: turned(8*i), 4), increase_by=16)
def two_orientations(): return dict(dls=loaders(lambda i: (torch.rand(3,*turned(i)),i%2)))

@case(shares(lambda i: turned(8*i), 4), increase_by=16)
def two_orientations_steered():
    block = DataBlock((ImageBlock,CategoryBlock), get_x=lambda i: picture(i, turned(i)), get_y=lambda i: i%2,
                      splitter=IndexSplitter(range(32,48)), batch_tfms=[*aug_transforms(max_rotate=0)])
    return dict(dls=block.dataloaders(range(48), bs=8, num_workers=0, device='cpu', shuffle=False))

class NewLoader(Callback):
    "Another training loader, as schedules of the batch size make it"
    order = 80
    def before_epoch(self):
        if self.epoch: self.learn.dls.train = self.learn.dls.train.new(shuffle=True)
@case(due(32))
def a_new_loader_in_the_fit_for_masks():
    return dict(dls=seg_dls(*aug_transforms()), model=mask_model(), loss_func=CrossEntropyLossFlat(axis=1), cbs=NewLoader())
@case(due(32))
def a_new_loader_in_the_fit(): return dict(dls=make_dls(*aug_transforms()), cbs=NewLoader())

class OwnEvents(Learner):
    def _with_events(self, step, name, cancel, end=noop):
        try:
            self(f'before_{name}')
            step()
        except cancel: self(f'after_cancel_{name}')
        self(f'after_{name}')
        end()
@case()
def a_learner_with_its_own_events(): return dict(dls=loaders(), cls=OwnEvents)

class Looks(Callback):
    def before_train(self): self.first = next(iter(self.dl))
@case()
def a_callback_that_looks_at_the_data(): return dict(dls=loaders(), cbs=Looks())
class LooksLate(Looks): order = 90
@case()
def a_callback_that_looks_at_the_data_late(): return dict(dls=loaders(), cbs=LooksLate())

class Twice(Learner):
    def all_batches(self):
        self.n_iter = 2*len(self.dl)
        for i,b in enumerate(itertools.chain(self.dl, self.dl)): self.one_batch(i, b)
@case([s for e in range(4) for _ in range(2) for s in due(16)[4*e:4*e+4]])
def a_learner_that_passes_twice(): return dict(dls=loaders(), cls=Twice)

class Ahead(Learner):
    def all_batches(self):
        self.n_iter = len(self.dl)
        it = iter(self.dl)
        b = next(it)
        for i in range(self.n_iter):
            ahead = next(it, None)
            self.one_batch(i, b)
            b = ahead
@case()
def batches_that_are_taken_ahead(): return dict(dls=loaders(), cls=Ahead)

class Two(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, a, b):
        assert a.shape[-1]==2*b.shape[-1]
        return self.m(a)+self.m(b)
def small_picture(i): return picture(i, (32,32))
@case(due(32))
def two_inputs_of_two_sizes():
    block = DataBlock((ImageBlock,ImageBlock,CategoryBlock), n_inp=2, getters=[picture,small_picture,lambda i: i%2],
                      splitter=IndexSplitter(range(64,80)), batch_tfms=aug_transforms())
    return dict(dls=block.dataloaders(range(80), bs=8, num_workers=0, device='cpu'), model=Two())

class Upscale(nn.Module):
    def __init__(self): super().__init__(); self.c = nn.Conv2d(3,3,3,padding=1)
    def forward(self, x): return F.interpolate(self.c(x), scale_factor=2)
@case([(s//2,s//2) for s,_ in due(32)])
def super_resolution():
    block = DataBlock((ImageBlock,ImageBlock), get_x=small_picture, get_y=picture,
                      splitter=IndexSplitter(range(64,80)), batch_tfms=aug_transforms())
    dls = block.dataloaders(range(80), bs=8, num_workers=0, device='cpu')
    return dict(dls=dls, model=Upscale(), loss_func=MSELossFlat(), args=dict(increase_by=4))

class HalfMask(nn.Module):
    def __init__(self): super().__init__(); self.m = mask_model()
    def forward(self, x): return F.avg_pool2d(self.m(x), 2)
def small_mask(i): return mask(i, (32,32))
def mask(i, size=(64,64)):
    a = np.zeros(size, dtype=np.uint8)
    a[4:20,5:25] = 1 + i%3
    return PILMask.create(a)
@case(due(32))
def masks_at_half_the_resolution():
    dls = make_dls(*aug_transforms(), y=MaskBlock(codes=range(4)), get_y=small_mask)
    return dict(dls=dls, model=HalfMask(), loss_func=CrossEntropyLossFlat(axis=1))

class Stream(IterableDataset):
    def __iter__(self): return iter([(TensorImage(halves(i)),TensorCategory(i%2)) for i in range(32)])
    def __len__(self): return 32
class LastWord(Transform):
    order = 90
    def encodes(self, x:TensorImage): return TensorImage(F.interpolate(x, size=(64,64)))
@case(warns='`batch_tfms` give .64, 64. instead of .32, 32.')
def an_iterable_loader_with_a_transform_that_has_the_last_word():
    def dl(): return TfmdDL(Stream(), bs=8, num_workers=0, after_batch=[*aug_transforms(), LastWord()], device='cpu')
    return dict(dls=DataLoaders(dl(), dl(), device='cpu'), args=dict(final_size=64))

@case([(48,48)]*16, warns='the model gets images of .48, 48., but the loader gives .32, 32.')
def a_callback_that_makes_views_of_a_size_of_its_own():
    return dict(dls=loaders(), cbs=Prepares(lambda x, y: ((F.interpolate(x[0], size=(48,48)),), y)))

@case(warns='`batch_tfms` cannot make images of .32, 32.')
def a_transform_that_wants_full_size():
    class Wants(Transform):
        order = 90
        def encodes(self, x:TensorImage): return x.reshape(len(x), 3, 64, 64)
    return dict(dls=make_dls(*aug_transforms(), Wants(), n=48))

@case(warns='`batch_tfms` cannot make images of .40, 40.')
def a_transform_that_takes_only_some_of_the_sizes():
    class Patches(Transform):
        order = 90
        def encodes(self, x:TensorImage):
            n,c,h,w = x.shape
            assert h%16==0
            return x.reshape(n, c, h//16, 16, w)[:,:,torch.randperm(h//16)].reshape(n, c, h, w)
    return dict(dls=make_dls(*aug_transforms(), Patches(), n=48))

@case(resize_targ=True)
def masks_of_floats():
    dls = loaders(lambda i: (halves(i),(halves(i)[0]>.5).float()))
    return dict(dls=dls, model=nn.Sequential(nn.Conv2d(3,1,1), nn.Flatten(0,1)), loss_func=nn.BCEWithLogitsLoss())

class Padded:
    def __call__(self, b):
        h,w = [max(x.shape[d] for x,_ in b) for d in (1,2)]
        return torch.stack([F.pad(x, (0,w-x.shape[2],0,h-x.shape[1])) for x,_ in b]),torch.tensor([y for _,y in b])
def any_size(i): return (64,64) if i%4==0 else (40,56)
@case()
def a_collate_that_pads(): return dict(dls=loaders(lambda i: (torch.rand(3,*any_size(i)),i%2), collate_fn=Padded()))

class Stateful(nn.Module):
    "The hidden state of the last batch, which a callback forgets"
    def __init__(self): super().__init__(); self.c,self.m,self.h = nn.Conv2d(3,3,1),small_model(),None
    def reset(self): self.h = None
    def forward(self, x):
        x = self.c(x)
        self.h = x.detach().mean(0, keepdim=True) if self.h is None else self.h*.5 + x.detach().mean(0, keepdim=True)
        return self.m(x+self.h)
class Forgets(Callback):
    def before_batch(self): self.model.reset()
@case()
def a_state_that_is_reset_with_each_batch(): return dict(dls=loaders(), model=Stateful(), cbs=Forgets())

class SetsOnLoader(Callback):
    order = 60
    def before_train(self):
        assert isinstance(self.learn.dl, DataLoader)
        self.learn.dl.note = 5
        assert self.learn.dls.train.note==5
@case(due(32))
def a_callback_that_sets_what_the_loader_has(): return dict(dls=make_dls(*aug_transforms()), cbs=SetsOnLoader())

def fit(make, n_epoch, *cbs):
    kw,got = make(),Got()
    cls,dls = kw.pop('cls', Learner),kw.pop('dls')
    for k in ('args','sizes'): kw.pop(k, None)
    model = kw.pop('model', None) or small_model()
    learn = cls(dls, model, **{'loss_func':nn.CrossEntropyLoss(), **kw, 'cbs':[*L(kw.get('cbs')),*cbs,got]})
    with learn.no_bar(), learn.no_logging(): learn.fit(n_epoch, 1e-3)
    return learn,got

@pytest.mark.parametrize('name', cases)
def test_trains_with_it(name, recwarn):
    make,sizes,n_epoch,warns,args = cases[name]
    alone,_ = fit(make, n_epoch)
    kw = make()
    learn,got = fit(make, n_epoch, ProgressiveResize(**{**args, **kw.get('args', {}), 'verbose':False}))
    assert [len(o.recorder.losses) for o in (learn,alone)].count(len(alone.recorder.losses))==2, 'as many batches'
    assert kw['sizes'](got) == sizes if 'sizes' in kw else got.sizes==sizes
    if 'sizes' not in kw: assert got.said==got.sizes
    warned = [o for o in recwarn if issubclass(o.category, UserWarning)]
    said = [str(o.message) for o in warned]
    if warns: assert any(re.search(warns, o) for o in said), said
    else: assert not any(Path(fastresize.__file__).parent==Path(o.filename).parent for o in warned), said
    assert '_do_one_batch' not in learn.__dict__ and learn.dl is None

# ---- nothing is changed: to the bit

class Codebook(nn.Module):
    "Writes into a parameter as it runs, and counts in Python; initialises itself from its first batch"
    def __init__(self):
        super().__init__()
        self.m,self.code,self.n,self.begun = small_model(),nn.Parameter(torch.zeros(3), requires_grad=False),0,False
    def forward(self, x):
        mean = x.detach().mean((0,2,3))
        if self.training:
            self.code.data = mean if not self.begun else .9*self.code.data + .1*mean
            self.n,self.begun = self.n+1,True
        return self.m(x - self.code[:,None,None])*(1+.01*self.n)

class Centred(nn.Module):
    "A loss with a parameter of its own and a buffer, as DINO's and ArcFace's"
    def __init__(self):
        super().__init__()
        self.register_buffer('centre', torch.zeros(2))
    def forward(self, p, y):
        self.centre.mul_(.9).add_(.1*p.detach().mean(0))
        return F.cross_entropy(p-self.centre, y)

class OwnGenerator(TorchDataset):
    def __init__(self): self.g,self.rng = torch.Generator().manual_seed(3),np.random.default_rng(3)
    def __len__(self): return 32
    def __getitem__(self, i): return halves(i)+torch.rand(1, generator=self.g)+float(self.rng.random()),i%2

def own_generators():
    return dict(dls=DataLoaders(*(TorchLoader(OwnGenerator(), batch_size=8, shuffle=True) for _ in range(2))))

class Siamese(TorchDataset):
    def __init__(self): self.n_drawn = 0
    def __len__(self): return 32
    def __getitem__(self, i):
        j = random.randrange(32)
        return TensorImage(halves(i)),TensorImage(halves(j)),TensorCategory(int(i%2==j%2))
class Pair(nn.Module):
    def __init__(self): super().__init__(); self.m = small_model()
    def forward(self, a, b): return self.m(a)*self.m(b)

def from_dsets():
    dls = DataLoaders.from_dsets(Siamese(), Siamese(), bs=8, num_workers=0, device='cpu')
    for dl in dls.loaders:
        for k in ('_n_inp','_types'): dl.__dict__.pop(k, None)
    dls.train._n_inp = dls.valid._n_inp = 2
    return dls

def from_dsets_whose_n_inp_is_drawn():
    return DataLoaders.from_dsets(SiameseOne(), SiameseOne(), bs=8, num_workers=0, device='cpu')
class SiameseOne(Siamese):
    def __getitem__(self, i):
        a,b,y = super().__getitem__(i)
        return TensorImage(torch.cat([a,b])[:3]+b.mean()),y

class Lazy(TorchDataset):
    "Opens its file when it is first asked; keeps what it has seen in a buffer, and counts"
    def __init__(self, path):
        self.path,self.file,self.buffer,self.n = path,None,[],0
        with open(path, 'wb') as f:
            for i in range(32): f.write(bytes([i])*32)
    def __len__(self): return 32
    def __getitem__(self, i):
        if self.file is None: self.file = open(self.path, 'rb')
        self.file.seek(32*i)
        v = self.file.read(32)[-1]/32
        self.buffer.append(v)
        self.n += 1
        return torch.full((3,64,64), v)*float(np.mean(self.buffer[-4:]))/self.n,i%2

def lazy(workers=0):
    return dict(dls=DataLoaders(*(TorchLoader(Lazy(f'lazy{j}.bin'), batch_size=8, num_workers=workers) for j in range(2))))

class Draws(TorchDataset):
    "Whatever is asked for, the next item of an iterator"
    def __init__(self, it): self.it = it
    def __len__(self): return 32
    def __getitem__(self, i): return next(self.it)

def draws(make):
    def items(): return [(halves(j),j%2) for j in range(32)]*2
    return lambda: dict(dls=DataLoaders(*(TorchLoader(Draws(make(items())), batch_size=8) for _ in range(2))))

def queue():
    "As MoCo's: the loss remembers"
    keys = []
    def loss(p, y):
        keys.append(p.detach().mean())
        return F.cross_entropy(p + sum(keys[-5:]), y)
    return dict(dls=loaders(), loss_func=loss)

class WarmsUp:
    def __init__(self): self.n = 0
    def loss(self, p, y):
        self.n += 1
        return F.cross_entropy(p, y)*min(1, self.n/10)

exact = dict(a_file_that_is_opened_when_asked=lazy, and_in_worker_processes=lambda: lazy(2), a_loss_that_is_a_closure_and_remembers=queue,
             a_loss_that_is_a_method_and_counts=lambda: dict(dls=loaders(), loss_func=WarmsUp().loss),
             a_model_that_writes_into_itself=lambda: dict(dls=loaders(), model=Codebook()),
             a_loss_with_a_state=lambda: dict(dls=loaders(), loss_func=Centred()),
             a_dataset_with_a_generator=own_generators,
             a_dataset_that_draws_from_a_list=draws(iter),
             a_dataset_that_draws_from_what_cannot_be_copied=draws(lambda items: (o for o in items)),
             pairs_at_random=lambda: dict(dls=from_dsets(), model=Pair()),
             pairs_at_random_and_n_inp=lambda: dict(dls=from_dsets_whose_n_inp_is_drawn()),
             a_sampler_with_a_generator=lambda: dict(dls=loaders(shuffle=True, generator=torch.Generator().manual_seed(5))),
             steered=lambda: dict(dls=make_dls(*aug_transforms())))

def weights(make, *cbs, before=noop):
    set_seed(11, reproducible=True)
    kw = make()
    learn = Learner(kw['dls'], kw.get('model') or small_model(), loss_func=kw.get('loss_func', nn.CrossEntropyLoss()), cbs=list(cbs))
    before(learn)
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-2)
    return [v.clone() for v in learn.model.state_dict().values()],torch.stack(learn.recorder.losses)

full_size = SizeSchedule((64,))
@pytest.mark.slow
@pytest.mark.parametrize('name', exact)
def test_full_size_throughout_is_the_training_without_it_to_the_bit(name):
    "A schedule of one size, with its looking, dry run and trial, changes nothing"
    (a,la),(b,lb) = weights(exact[name]),weights(exact[name], ProgressiveResize(schedule=full_size, verbose=False))
    assert torch.equal(la, lb) and all(map(torch.equal, a, b))

@pytest.mark.slow
@pytest.mark.parametrize('name', exact)
def test_trying_changes_nothing(name):
    def pr(**kwargs): return ProgressiveResize(increase_by=8, verbose=False, **kwargs)
    (a,la),(b,lb) = weights(exact[name], pr()),weights(exact[name], pr(preallocate=False, try_sizes=False))
    assert torch.equal(la, lb) and all(map(torch.equal, a, b))

def look(learn): learn.preview_resize(2, n_batch=1, show_plot=False)

not_by_a_preview = dict(
    a_loss_that_is_a_closure_and_remembers='a preview trains, and a function with a memory cannot be copied',
    a_dataset_that_draws_from_what_cannot_be_copied='it is refused')
@pytest.mark.slow
@pytest.mark.parametrize('name', [k for k in exact if k not in not_by_a_preview])
def test_a_preview_changes_nothing(name):
    def pr(): return ProgressiveResize(increase_by=8, verbose=False)
    (a,la),(b,lb) = weights(exact[name], pr()),weights(exact[name], pr(), before=look)
    assert torch.equal(la, lb) and all(map(torch.equal, a, b))

def test_a_preview_of_items_that_come_only_once_is_refused():
    with pytest.raises(ValueError, match='cannot be read without consuming them: expected a loader whose items can be read again'):
        weights(exact['a_dataset_that_draws_from_what_cannot_be_copied'], before=look)

@pytest.mark.slow
def test_a_preview_leaves_persistent_workers_alone():
    def make(): return dict(dls=loaders(lambda i: (halves(i)+torch.rand(1),i%2), num_workers=1, persistent_workers=True))
    (a,la),(b,lb) = weights(make),weights(make, before=look)
    assert torch.equal(la, lb) and all(map(torch.equal, a, b))

def test_watchers_of_the_model_see_the_training_alone():
    fired,graded,model = [],[],small_model()
    model[0].register_forward_hook(lambda m, x, y: fired.append(tuple(x[0].shape[-2:])))
    model[0].weight.register_hook(lambda g: graded.append(1))
    learn = learner(loaders(), ProgressiveResize(increase_by=8), model=model)
    learn.fit(4)
    assert [s for s in fired if s] == [s for e in range(4) for s in learn.seen.train[4*e:4*e+4]+learn.seen.valid[4*e:4*e+4]]
    assert len(graded)==16

# ---- other ends

class Levels(nn.Module):
    "Needs sides that are multiples of 8"
    def __init__(self): super().__init__(); self.a,self.b,self.h = nn.Conv2d(3,4,3,1,1),nn.Conv2d(4,4,3,1,1),nn.Linear(4,2)
    def forward(self, x):
        y = self.a(x)
        return self.h((y + nn.functional.interpolate(self.b(nn.functional.max_pool2d(y, 8)), scale_factor=8)).mean((2,3)))

def test_validation_images_of_another_size_are_tried():
    def dl(n, s): return torch.utils.data.DataLoader([(torch.rand(3,s,s),i%2) for i in range(n)], batch_size=8)
    def fitted(valid, **kwargs):
        learn = learner(DataLoaders(dl(32,64), dl(8,valid)), ProgressiveResize(increase_by=16, **kwargs), model=Levels())
        learn.fit(4)
        return learn.seen
    with pytest.raises(SizeError, match=r'in validation the model cannot take images of \[54, 54\]'): fitted(72)
    assert {*fitted(128).valid}=={(64,64),(96,96),(128,128)} and {*fitted(72, resize_valid=False).valid}=={(72,72)}

def test_a_model_that_accepts_any_size_by_a_hook():
    "Hooks are left out of a trial, so it tells nothing"
    learn = learner(make_dls(), ProgressiveResize(increase_by=8), model=nn.Sequential(nn.Conv2d(3,4,3,2,1), Flatten(), nn.Linear(4*16*16,2)))
    learn.model[0].register_forward_hook(lambda m, i, o: nn.functional.adaptive_avg_pool2d(o, 16))
    learn.fit(2)
    assert learn.progressive_resize.full_size_reached==(64,64)

@pytest.mark.parametrize('register', ['register_forward_hook','register_full_backward_hook'])
def test_a_hook_that_only_looks_does_not_keep_sizes_from_being_tried(register):
    seen = []
    def look(m, i, o): seen.append(1)
    learn = learner(make_dls(), ProgressiveResize(increase_by=8), model=nn.Sequential(nn.Conv2d(3,4,3,2,1), Flatten(), nn.Linear(4*32*32,2)))
    getattr(learn.model[0], register)(look)
    with pytest.raises(SizeError): learn.fit(2)

@pytest.mark.parametrize('size', [.5,'auto'])
def test_a_subclass_with_arguments_of_its_own(size):
    class Mine(ProgressiveResize):
        def __init__(self, by, **k): super().__init__(size, increase_by=by, **k)
        @property
        def name(self): return 'progressive_resize'
    learn = learner(make_dls(*aug_transforms()), Mine(16))
    learn.fit(2)
    assert learn.seen.train[-1]==(64,64)

def test_a_fit_cancelled_while_sizes_are_skipped():
    "That they are is said before; where the training ends is not known then"
    class Stop(Callback):
        def after_epoch(self): raise CancelFitException
    with pytest.warns(UserWarning) as said: learner(loaders(), ProgressiveResize(increase_by=1), Stop()).fit(4)
    assert ['the other sizes are skipped' in str(said[0].message), 'the training ended with images of [32, 32]' in str(said[-1].message)]==[True]*2

def test_a_fit_cancelled_after_an_epoch_without_a_bar_and_the_next():
    class Stop(Callback):
        order = 45
        def after_epoch(self):
            if self.epoch==1: raise CancelFitException
    learn,rows = learner(loaders(), ProgressiveResize(increase_by=8), Stop()),[]
    learn.logger = rows.append
    with pytest.warns(UserWarning, match=r'the training ended with images of \[32, 32\], before it reached \[64, 64\]'): learn.fit(4)
    learn.remove_cb(Stop)
    learn.seen.clear(); rows.clear()
    learn.fit(4)
    assert learn.seen.train==due(16) and [len(r) for r in rows]==[5]*4 and [r[-1] for r in rows]==[32,32,56,64]

def test_one_object_in_two_learners():
    pr = ProgressiveResize(increase_by=8)
    a,b = [learner(loaders(), pr) for _ in range(2)]
    for learn in (a,b,a):
        learn.seen.clear()
        learn.fit(4)
        assert learn.seen.train==due(16) and learn.progressive_resize.current_size==(64,64)
    assert a.progressive_resize.learn is a and b.progressive_resize is pr

def test_removed_in_the_middle_of_an_epoch():
    class Remove(Callback):
        def after_batch(self):
            if self.training and self.epoch==1 and self.iter==1: self.learn.remove_cb(ProgressiveResize)
    learn = learner(loaders(), ProgressiveResize(increase_by=8), Remove())
    learn.fit(4)
    assert learn.seen.train == due(16)[:8] + [(64,64)]*8

@pytest.mark.slow
def test_export_keeps_its_arguments_and_others_patches(tmp_path):
    import subprocess, sys, textwrap
    code = f"""
        import pickle
        from fastai.vision.all import *
        calls = []
        @patch
        def export(self:Learner, fname='export.pkl', *args, **kwargs):
            calls.append(fname)
            return self._orig_export(fname, *args, **kwargs)
        from fastresize.all import *
        import cloudpickle
        dls = DataLoaders.from_dsets([(torch.rand(3,8,8),0)]*4, [(torch.rand(3,8,8),0)]*4, bs=2, device='cpu')
        class Empties(DataLoaders):
            def new_empty(self): return DataLoaders.from_dsets([], [], bs=2, device='cpu')
        dls.__class__ = Empties
        learn = Learner(dls, nn.Linear(8,2), loss_func=nn.MSELoss(), cbs=ProgressiveResize(), path={str(tmp_path)!r})
        learn.export('m.pkl', cloudpickle)
        assert calls==['m.pkl'] and type(learn.progressive_resize).__name__=='ProgressiveResize'
        assert b'fastresize' not in Path({str(tmp_path)!r}, 'm.pkl').read_bytes()
        """
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)], capture_output=True, text=True)
    assert r.returncode==0, r.stderr[-1500:]

def test_trying_compiles_nothing_that_the_training_does_not():
    from torch._dynamo.testing import CompileCounter
    torch._dynamo.reset()
    counter,model = CompileCounter(),small_model()
    model[4].compile(backend=counter, dynamic=False)   # a part of the model
    learn = learner(loaders(), ProgressiveResize(increase_by=8, resize_valid=False), model=model)
    class First(Callback):
        order = 99
        def after_pred(self):
            if not hasattr(self.learn, 'n_first'): self.learn.n_first = counter.frame_count
    learn.add_cb(First())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn.fit(4)
    assert learn.n_first==counter.frame_count<=6   # five sizes to train at, and full size to validate: all of them before the first step
    torch._dynamo.reset()

def test_short_epochs_that_never_come_to_full_size_are_said():
    from fastai.callback.training import ShortEpochCallback
    learn = learner(loaders(), ProgressiveResize(increase_by=8, start=.5, finish=1.), ShortEpochCallback(pct=.5, short_valid=False))
    with pytest.warns(UserWarning, match='never reaches|ended with images of'): learn.fit(4)

def test_boxes_in_pixels_are_said():
    def item(i): return halves(i),torch.tensor([[4.,5.,30.,40.]])
    def fit(): learner(loaders(item), ProgressiveResize(increase_by=8), loss_func=lambda p, y: p.mean()+0*y.sum()).fit(1)
    with pytest.warns(UserWarning, match='boxes or points in pixels'): fit()

def test_an_error_in_the_first_small_batch_has_words():
    class Flatten2(Callback):
        def before_batch(self): self.learn.xb = (self.x.flatten(1),)
    learn = learner(loaders(), ProgressiveResize(increase_by=8, verbose=False), Flatten2(), model=nn.Linear(3*64*64, 2))
    learn.remove_cb(Seen)
    words = r'(?s)mat1 and mat2.*first batch with images of \[32, 32\].*without `ProgressiveResize`'
    with pytest.raises(RuntimeError, match=words): learn.fit(4)

def test_image_to_image_without_resize_targ_is_refused_in_words():
    def make(**kwargs):
        pr = ProgressiveResize(increase_by=8, **kwargs)
        return learner(loaders(lambda i: (halves(i),halves(i))), pr, model=nn.Conv2d(3,3,1), loss_func=nn.L1Loss())
    with pytest.raises(ValueError, match='`resize_targ`=False: the targets keep their size.*expected None or True'): make(resize_targ=False).fit(4)
    learn = make()
    learn.fit(4)
    seen = learn.seen
    assert seen.train==due(16) and seen.targs==[s for e in range(4) for o in (seen.train,seen.valid) for s in o[4*e:4*e+4]]

def test_a_last_batch_of_one_that_batchnorm_cannot_take_is_found_at_once():
    model = pooled(*[l for i in range(5) for l in (nn.Conv2d(8 if i else 3,8,3,2,1), nn.BatchNorm2d(8))])
    learn = learner(loaders(n=33), ProgressiveResize(increase_by=8), model=model)
    words = r'the model cannot take images of \[32, 32\].*Expected more than 1 value per channel'
    with pytest.raises(ValueError, match=words): learn.fit(4)
    assert learn.seen.steps==0
    learner(loaders(n=33, drop_last=True), ProgressiveResize(increase_by=8), model=model).fit(4)

def test_the_escape_stands_in_the_message():
    with pytest.raises(ValueError, match='`try_sizes=False` skips this check$') as e:
        learner(loaders(), ProgressiveResize(increase_by=8), model=nn.Sequential(nn.Conv2d(3,4,8,8), Flatten(), nn.Linear(256,2))).fit(4)
    assert '..' not in str(e.value)

@pytest.mark.slow
@pytest.mark.parametrize('train', [True, False])
def test_torchvisions_detection_model_behind_a_callback(train):
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
    def collate(b): return [x for x,_ in b],[dict(boxes=torch.tensor([[4.,5.,30.,40.]]), labels=torch.tensor([1])) for _ in b]
    class Detect(Callback):
        def before_batch(self):
            if self.training: self.learn.xb = (*self.xb,*self.yb)
    def total(p, y): return sum(p.values()) if isinstance(p, dict) else torch.tensor(0.)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=2, min_size=64, max_size=64)
    cbs = [Detect(),Got()] + [ProgressiveResize(increase_by=16, verbose=False)]*train
    learn = Learner(loaders(n=4, bs=2, collate_fn=collate), model, loss_func=total, cbs=cbs)
    with learn.no_bar(), learn.no_logging(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn.fit(2)
    assert learn.got.sizes==(due(4, by=16) if train else [(64,64)]*4)

# ---- what is tried, and with what

class Stride8(nn.Module):
    "Its output has another size than its input, unless that is a multiple of 8"
    def __init__(self): super().__init__(); self.m = nn.Sequential(nn.Conv2d(3,8,8,8), nn.ReLU(), nn.Upsample(scale_factor=8), nn.Conv2d(8,4,1))
    def forward(self, x): return self.m(x)

def weighted(): return partial(F.cross_entropy, weight=torch.ones(4))
def in_closure():
    weight = torch.ones(4)
    return lambda p, y: F.cross_entropy(p, y, weight=weight)

@pytest.mark.parametrize('loss', [weighted, in_closure])
def test_a_loss_with_weights_is_tried(loss):
    learn = learner(seg_dls(), ProgressiveResize(), model=Stride8(), loss_func=loss())
    with pytest.raises(ValueError, match=r'images of \[36, 36\] the loss raised.*`multiple_of`'): learn.fit(4)
    assert learn.seen.steps==0
    learner(seg_dls(), ProgressiveResize(multiple_of=8), model=Stride8(), loss_func=loss()).fit(4)

def test_a_trial_leaves_the_state_of_a_loss_in_a_closure_alone():
    norm = nn.BatchNorm2d(4)
    learn = learner(seg_dls(), ProgressiveResize(increase_by=8), model=mask_model(), loss_func=lambda p, y: F.cross_entropy(norm(p), y))
    learn.fit(1)
    assert norm.num_batches_tracked==10   # 8 training batches, and 2 of validation

class OnPatches(nn.Module):
    "Takes multiples of 16 pixels"
    def forward(self, x):
        assert x.shape[-1]%16==0, 'the side should be divisible by 16'
        return x.mean((2,3))

class InTuple(Callback):
    "Takes the predictions out of a tuple, as for models of Hugging Face"
    def after_pred(self): self.learn.pred = self.pred[0]

@pytest.mark.parametrize('cbs,kwargs,wrap', [([MixUp()],{},nn.Identity()), ([MixUp()],dict(max_bs=32),nn.Identity()), ([CutMix()],dict(max_bs=32),nn.Identity()),
                                             ([InTuple()],{},None)])
def test_the_model_is_tried_where_the_dry_run_is_not_possible(cbs, kwargs, wrap):
    class Model(nn.Module):
        def __init__(self): super().__init__(); self.patches,self.head = OnPatches(),nn.Linear(3,2)
        def forward(self, x):
            res = self.head(self.patches(x))
            return res if wrap else (res,)
    learn = learner(make_dls(), ProgressiveResize(**kwargs), *cbs, model=Model(), loss_func=CrossEntropyLossFlat())
    with pytest.raises(ValueError, match=r'images of \[36, 36\].*OnPatches'): learn.fit(4)
    assert learn.seen.steps==0

def test_a_model_that_validates_at_one_size_is_refused_in_words():
    class Model(nn.Module):
        def __init__(self): super().__init__(); self.m,self.positions = small_model(),nn.Parameter(torch.zeros(64,64))
        def forward(self, x): return self.m(x if self.training else x+self.positions)
    learn = learner(make_dls(), ProgressiveResize(), model=Model())
    with pytest.raises(ValueError, match=r'in validation the model.*images of \[32, 32\].*`resize_valid=False`'): learn.fit(4)
    assert learn.seen.steps==0
    learner(make_dls(), ProgressiveResize(resize_valid=False), model=Model()).fit(4)

def test_a_sampler_decides_how_many_images_the_last_batch_has():
    data,rows = TensorDataset(torch.rand(100,3,64,64), torch.arange(100)%2),torch.utils.data.SubsetRandomSampler(range(65))
    model = pooled(*[l for i in range(5) for l in (nn.Conv2d(8 if i else 3,8,3,2,1), nn.BatchNorm2d(8))])
    learn = learner(DataLoaders(TorchLoader(data, 16, sampler=rows), TorchLoader(data, 16)), ProgressiveResize(increase_by=8), model=model)
    with pytest.raises(ValueError, match=r'images of \[32, 32\].*Expected more than 1 value per channel'): learn.fit(4)
    assert learn.seen.steps==0

# ---- loaders that take batches ahead, or repeat them

class Echo(TfmdDL):
    def __iter__(self):
        for b in super().__iter__(): yield from (b,b)
    def __len__(self): return 2*super().__len__()

class TakesAhead(TfmdDL):
    def __iter__(self):
        it = super().__iter__()
        b = next(it)
        for following in it: yield b; b = following
        yield b

@pytest.mark.parametrize('dl_type', [Echo,TakesAhead])
@pytest.mark.parametrize('tfms', [(),aug_transforms])
@pytest.mark.parametrize('kwargs', [{},dict(resize_items=True)])
@pytest.mark.parametrize('by', [8,32])
def test_batches_that_were_made_for_another_size_get_their_own(dl_type, tfms, kwargs, by):
    learn = learner(make_dls(*(tfms and tfms()), item_tfms=Resize(64), dl_type=dl_type), ProgressiveResize(increase_by=by, **kwargs))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # that transforms made another size
        learn.fit(2)
    assert learn.seen.train==due(len(learn.seen.train), by=by) and learn.progressive_resize.full_size_reached==(64,64)
