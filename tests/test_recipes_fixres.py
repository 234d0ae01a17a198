"FixRes: the classifier at a larger size, through the validation transforms; everything else stays as it was"
import pytest
from util import *
from fastresize.recipes import Stage, GrowWithSize

def names(model): return {k: v.clone() for k,v in model.state_dict().items()}
def large(i): return picture(i, (96,96))
def loaders(*batch_tfms, item_tfms=(), n=40, bs=8, **kwargs):
    block = DataBlock((ImageBlock,CategoryBlock), get_x=large, get_y=lambda i: i%2, splitter=IndexSplitter(range(n*4//5, n)), item_tfms=item_tfms, batch_tfms=batch_tfms)
    return block.dataloaders(range(n), bs=bs, num_workers=0, device='cpu', **kwargs)

pipelines = dict(
    resize=lambda: loaders(*aug_transforms(), item_tfms=Resize(32)),
    random_crop=lambda: loaders(item_tfms=RandomResizedCrop(32)),
    presized=lambda: loaders(*aug_transforms(size=32), item_tfms=Resize(64)),
    gpu_crop=lambda: loaders(RandomResizedCropGPU(32), item_tfms=Resize(64)),
    squished=lambda: loaders(*aug_transforms(), item_tfms=Resize(32, method='squish')),
    rectangle=lambda: loaders(*aug_transforms(size=(32,48)), item_tfms=Resize((64,96))),
    rectangle_items=lambda: loaders(item_tfms=Resize((32,48))))

@pytest.mark.parametrize('name', pipelines)
def test_its_batches_have_the_size_and_no_randomness(name):
    class Sums(Callback):
        def __init__(self): self.found = {}
        def before_batch(self):
            if self.training: self.found.setdefault(self.epoch, []).extend(self.x.sum((1,2,3)).tolist())
    cb,size = Sums(),(48,72) if 'rectangle' in name else (48,48)
    learn = learner(pipelines[name](), cb)
    own = [(f,f.size) for dl in learn.dls.loaders for p in (dl.after_item,dl.after_batch) for f in p.fs if hasattr(f, 'size')]
    learn.fit_fixres(size, 2, 1e-3)
    assert {*learn.seen.train,*learn.seen.valid}=={size} and len(cb.found[0])==32
    assert sorted(cb.found[0])==pytest.approx(sorted(cb.found[1]), rel=1e-4)   # the same crops in another order
    learn.seen.clear()
    learn.fit(1)
    assert {*learn.seen.train}=={tuple(s*2//3 for s in size)} and own==[(f,f.size) for f,_ in own]
    assert learn.dls.train.dataset.split_idx==0

def test_the_pictures_are_those_of_validation():
    dls = pipelines['random_crop']()
    class Keep(Callback):
        def __init__(self): self.xs = []
        def before_batch(self): self.xs += [*self.x.clone()]*self.training
    cb = Keep()
    learner(dls, cb).fit_fixres(32, 1, 1e-3)
    b = dls.test_dl([*range(32)]).new(bs=32).one_batch()[0]   # fastai's own way
    assert sorted(x.sum().item() for x in cb.xs)==pytest.approx(sorted(b.sum((1,2,3)).tolist()), rel=1e-4)

def test_only_the_classifier_and_the_statistics_change():
    learn = learner(pipelines['resize']())
    learn.fit(1)
    before = names(learn.model)
    learn.fit_fixres(48, 1, 1e-2)
    changed = {k for k,v in names(learn.model).items() if not torch.equal(v, before[k])}
    assert changed=={'6.weight','6.bias','1.running_mean','1.running_var','1.num_batches_tracked'}

def test_a_splitters_last_group_and_a_given_head():
    learn = learner(pipelines['resize'](), splitter=lambda m: [params(m[:1]), params(m[1:])])
    before = names(learn.model)
    learn.fit_fixres(48, 1, 1e-2)
    assert torch.equal(before['0.weight'], learn.model[0].weight) and not torch.equal(before['1.weight'], learn.model[1].weight)
    learn = learner(pipelines['resize']())
    before = names(learn.model)
    learn.fit_fixres(48, 1, 1e-2, head=learn.model[0])
    assert torch.equal(before['6.weight'], learn.model[6].weight) and not torch.equal(before['0.weight'], learn.model[0].weight)

@pytest.mark.slow
@pytest.mark.parametrize('exc', [None, Boom('b'), KeyboardInterrupt(), CancelFitException()])
def test_everything_is_put_back(exc):
    cbs = ProgressiveResize(increase_by=8, verbose=False),GrowWithSize({(nn.Dropout,'p'): (0.,.1)}),MixUp()
    learn = learner(pipelines['resize'](), *cbs, loss_func=CrossEntropyLossFlat())
    learn.fit(1)
    learn.model[0].bias.requires_grad_(False)
    opt,splitter,dls,flags = learn.opt,learn.splitter,learn.dls,[p.requires_grad for p in learn.model.parameters()]
    resize = next(f for f in dls.train.after_item.fs if isinstance(f, Resize))
    fault = [] if exc is None else [Fault('after_batch', exc)]
    learn.seen.clear()
    try: learn.fit_fixres(48, 3, 1e-3, cbs=fault)
    except (Boom,KeyboardInterrupt): pass
    assert {*learn.seen.train}=={(48,48)}
    assert (learn.opt,learn.splitter,learn.dls)==(opt,splitter,dls) and [p.requires_grad for p in learn.model.parameters()]==flags
    assert resize.size==(32,32) and dls.train.dataset.split_idx==0 and {*cbs}<={*learn.cbs} and all(cb.learn is learn for cb in cbs)
    learn.seen.clear()
    learn.fit(4)
    assert learn.seen.train==due(16, final=32, initial=16)

def test_a_built_optimizer_is_left_alone():
    model = small_model()
    opt = OptimWrapper(opt=torch.optim.Adam(model.parameters(), lr=1e-3))
    learn = learner(pipelines['resize'](), model=model, opt_func=opt)
    learn.fit(1)
    kept = [opt.opt.state[p]['exp_avg'].clone() for p in model.parameters()]
    learn.fit_fixres(48, 1, 1e-2)
    assert learn.opt is opt and learn.opt_func is opt and same(kept, [opt.opt.state[p]['exp_avg'] for p in model.parameters()])

def test_at_test_size():
    learn = trained(pipelines['resize']())
    learn.seen.clear()
    with learn.at_test_size(64): learn.validate()
    learn.validate()
    assert learn.seen.valid==[(64,64)]*1 + [(32,32)]*1

def test_the_last_stage_and_going_on_in_it(tmp_path):
    def get_dls(size, bs): return loaders(*aug_transforms(), item_tfms=Resize(size), bs=bs)
    stages = [Stage(32, 8, 1), Stage(48, 8, 3, 1e-3, fit='fit_fixres')]
    def new(): return learner(get_dls(32, 8))
    whole = new()
    whole.fit_stages(stages, get_dls, verbose=False)
    assert whole.seen.train==[(32,32)]*4 + [(48,48)]*12
    with pytest.raises(Boom): new().fit_stages(stages, get_dls, save=tmp_path, cbs=Fault('after_batch', Boom('b')), verbose=False)
    again = new()
    again.fit_stages(stages, get_dls, save=tmp_path, verbose=False)
    assert again.seen.train==[(48,48)]*8 and again.recorder.lrs==pytest.approx(whole.recorder.lrs)
    assert all(p.requires_grad for p in again.model.parameters())

@pytest.mark.parametrize('make,args,words', [
    (pipelines['resize'], (0,1), '`size`=0: expected a positive int'), (pipelines['resize'], (48,0), '`epochs`=0: expected an int above 0'),
    (torch_dls, (48,1), '`dls`=.*expected loaders made by fastai'),
    (lambda: loaders(), (48,1), r'`size`=\(48, 48\): expected what the validation transforms can make.*they give')])
def test_mistakes(make, args, words):
    learn = learner(make())
    with pytest.raises(ValueError, match=words): learn.fit_fixres(*args)
    for kwargs,words in ((dict(head=3), '`head`=3: expected a module'), (dict(head=nn.Linear(8,2)), '`head`=Linear.*expected a module of the model'),
                         (dict(lr='1e-3'), "`lr`='1e-3': expected a number above 0"), (dict(pct_strat=.1), '`pct_strat`=0.1: expected an argument of `fit_one_cycle`')):
        with pytest.raises(ValueError, match=words): learn.fit_fixres(48, 1, **kwargs)
    assert not learn.seen.train and all(p.requires_grad for p in learn.model.parameters())

def test_transforms_of_ones_own_and_no_validation_set():
    class Square(ItemTransform):
        "Has an int for a size"
        def __init__(self): self.size = 32
        def encodes(self, o): return (PILImage.create(np.array(o[0])[:self.size,:self.size]), *o[1:])
    learn = learner(loaders(item_tfms=Square(), n=40))
    learn.fit_fixres(48, 1, 1e-3)
    assert {*learn.seen.train,*learn.seen.valid}=={(48,48)} and next(f for f in learn.dls.train.after_item.fs if isinstance(f, Square)).size==32
    block = DataBlock((ImageBlock,CategoryBlock), get_x=large, get_y=lambda i: i%2, splitter=IndexSplitter([]), item_tfms=Resize(32))
    learn = learner(block.dataloaders(range(16), bs=8, num_workers=0, device='cpu'))
    learn.fit_fixres(48, 1, 1e-3)
    assert learn.seen.train==[(48,48)]*2
