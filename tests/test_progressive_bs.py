"Batches that are larger while images are small: every item once, on time, with learning rates that follow"
import math
from torch.utils.data import BatchSampler, Dataset as TorchDataset, DataLoader as TorchLoader, RandomSampler
from util import *

class Numbered(TorchDataset):
    "Pictures whose first pixel is their number"
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i):
        x = torch.rand(3,64,64)
        x[0] = i
        return x,i%2

class Took(Callback):
    "Size and items of every batch, progress, and the learning rate of its step"
    order = 100
    def __init__(self): self.batches,self.items,self.pcts,self.lrs,self.n_iter = [],[],[],[],[]
    def before_batch(self):
        if not self.training: return
        self.batches.append((tuple(self.x.shape[-2:]),len(self.x)))
        self.items.append([round(o.item()) for o in self.x[:,0].mean((1,2))])
        self.pcts.append(self.pct_train)
    def after_step(self): self.lrs.append(self.opt.hypers[-1]['lr'])
    def after_train(self): self.n_iter.append(self.learn.n_iter)

def fastai_loader(n, **kwargs): return DataLoader(Numbered(n), bs=8, shuffle=True, **kwargs)
def torch_loader(n, **kwargs): return TorchLoader(Numbered(n), batch_size=8, shuffle=True, **kwargs)
def loaders(make, n=70, **kwargs): return DataLoaders(make(n, **kwargs), make(16))

def trained(dls, fit='fit', n_epoch=4, lr=1e-3, cbs=(), **kwargs):
    learn = learner(dls, ProgressiveResize(**{'increase_by':8, 'max_bs':32, 'verbose':False, **kwargs}), Took(), *L(cbs))
    getattr(learn, fit)(n_epoch, lr)
    return learn

@pytest.mark.slow
@pytest.mark.parametrize('make', [fastai_loader, torch_loader])
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('max_bs', [32, 24])
def test_every_batch_has_the_images_that_are_due_and_every_item_comes_once(make, workers, drop_last, max_bs):
    took = trained(loaders(make, num_workers=workers, drop_last=drop_last), max_bs=max_bs).took
    due = due_batches(70, max_bs, drop_last=drop_last)
    assert took.batches==[b for e in due for b in e] and took.n_iter==[len(e) for e in due]
    assert max(n for _,n in took.batches)==max_bs and took.batches[-1][0]==(64,64)
    at = 0
    for e in due:
        items = [i for b in took.items[at:at+len(e)] for i in b]
        assert len({*items})==len(items)>70-8 and (drop_last or sorted(items)==[*range(70)])
        at += len(e)

def test_workers_that_persist_are_told_anew_every_epoch():
    took = trained(loaders(torch_loader, num_workers=2, persistent_workers=True)).took
    assert took.batches==[b for e in due_batches(70, 32) for b in e]

@pytest.mark.parametrize('scale_lr,power', [('sqrt', .5), ('linear', 1), (None, 0)])
def test_progress_counts_images_and_learning_rates_follow(scale_lr, power):
    learn = trained(loaders(fastai_loader), fit='fit_one_cycle', lr=1e-2, scale_lr=scale_lr)
    due,pcts = due_batches(70, 32),[]
    for e,epoch in enumerate(due):
        for i,_ in enumerate(epoch): pcts.append((e + sum(n for _,n in epoch[:i])/70)/4)
    assert np.allclose(learn.took.pcts, pcts) and abs(learn.pct_train-1)<1e-9
    cycle = combined_cos(.25, 1e-2/25, 1e-2, 1e-2/1e5)
    times = [max(8, min(32, 8*64**2//s[0]**2)//8*8)/8 for s,_ in learn.took.batches]
    lrs = [cycle(p)*t**power for p,t in zip(pcts, times)]
    assert np.allclose(learn.took.lrs, lrs) and np.allclose(learn.recorder.lrs, lrs)
    assert learn.opt.hypers[-1]['lr']==pytest.approx(cycle(pcts[-1]))

def test_a_constant_learning_rate_is_given_back():
    learn = trained(loaders(fastai_loader), scale_lr='linear')
    assert learn.took.lrs[0]==pytest.approx(4e-3) and learn.took.lrs[-1]==learn.opt.hypers[-1]['lr']==1e-3

def test_one_full_batch_is_what_it_would_be_without():
    "With `max_bs` at the loader's own batch size nothing changes"
    def weights(**kwargs):
        set_seed(3, reproducible=True)
        learn = trained(loaders(fastai_loader, 64), fit='fit_one_cycle', **kwargs)
        return learn.took.batches,learn.took.items,torch.stack(learn.recorder.losses)
    (*a,la),(*b,lb) = weights(max_bs=None),weights(max_bs=8)
    assert a==b and torch.allclose(la, lb)

def test_resumed():
    dls = loaders(fastai_loader)
    learn = learner(dls, ProgressiveResize(increase_by=8, max_bs=32, verbose=False), Took())
    learn.fit(4, start_epoch=2)
    assert learn.took.batches==[b for e in due_batches(70, 32)[2:] for b in e]

def test_items_made_small_from_the_start_as_well():
    dls = make_dls(*aug_transforms(), item_tfms=Resize(64), workers=2)
    learn = learner(dls, ProgressiveResize(increase_by=8, max_bs=32, resize_items=True, verbose=False))
    learn.fit(4)
    assert learn.seen.train==[s for e in due_batches(64, 32) for s,_ in e]

@pytest.mark.slow
@pytest.mark.parametrize('name', faults)
def test_nothing_is_left(name):
    learn,dls = run_with_fault(name, ProgressiveResize(increase_by=8, max_bs=32, verbose=False))
    assert not [cb for cb in learn.cbs if type(cb).__name__=='FollowBS'] and not hasattr(learn, 'follow_bs')
    assert {h['lr'] for h in learn.opt.hypers}=={learn.lr}
    assert len(next(iter(dls.train))[0])==8 and not {'create_batches','sample','do_item'} & {*dls.train.__dict__}

def test_the_dry_run_has_the_largest_of_both_kinds():
    tried = Spy()
    class Model(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x):
            tried.append((len(x),x.shape[-1]))
            return self.m(x)
    class Stop(Callback):
        def after_batch(self): raise CancelFitException
    with pytest.warns(UserWarning, match='training ended with'):
        learner(loaders(fastai_loader), ProgressiveResize(increase_by=8, max_bs=32, try_sizes=False, verbose=False), Stop(), model=Model()).fit(4)
    assert {*tried}=={(8,64),(32,32)}

def test_it_is_said(capsys):
    trained(loaders(fastai_loader), n_epoch=1, verbose=True)
    assert 'Up to 32 images per batch at small sizes.' in capsys.readouterr().out

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self): return iter([(torch.rand(3,64,64),0)]*16)
    def __len__(self): return 16

class Chunks(DataLoader):
    def create_batches(self, samps): return super().create_batches(samps)

@pytest.mark.parametrize('max_bs,make,words', [
    (0, fastai_loader, '`max_bs`=0: expected an int above 0'),
    (4, fastai_loader, '`max_bs`=4: expected at least the batch size of the loader, 8'),
    (32, lambda n: TorchLoader(Stream(), batch_size=8), '`max_bs`=32: expected None for a loader whose image size cannot be determined before training'),
    (32, lambda n: TorchLoader(Numbered(n), batch_sampler=[[0,1],[2,3]]), '`max_bs`=32: expected None for this loader, which has a custom batch sampler'),
    (32, lambda n: Chunks(Numbered(n), bs=8), '`max_bs`=32: expected None for this loader, which has a custom `create_batches`')])
def test_what_cannot_be_is_refused(max_bs, make, words):
    with pytest.raises(ValueError, match=re.escape(words)): trained(loaders(lambda n, **_: make(n)), max_bs=max_bs)
    with pytest.raises(ValueError, match="`scale_lr`='cubic': expected one of linear, sqrt, None"): ProgressiveResize(scale_lr='cubic')
