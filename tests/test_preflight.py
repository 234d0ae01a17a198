"The dry run is silent: nothing that a training could notice is different after it"
import random
import pytest
from util import *
from fastresize.preflight import dry_run as step, tile_batch, reserve
from fastresize.batch import leaves
from fastresize.probe import no_trace, some_items

def dry_run(learn, b, bs):
    b = tile_batch(b, bs)
    step(learn, b[:1], b[1:])

def test_state_notices_each_kind_of_change():
    "The comparison itself can fail"
    learn = trained()
    before = state(learn)
    assert same(before, state(learn))
    model,opt,weight = learn.model,learn.opt,learn.model[0].weight
    for change in (lambda: model[1].running_mean.add_(1e-7), lambda: weight.data.add_(1e-6), lambda: weight.grad.add_(1),
                   lambda: opt.state[weight]['grad_avg'].add_(1), random.random, np.random.rand, lambda: torch.rand(1),
                   learn.dls.train.randomize, model.train):
        before = state(learn)
        change()
        assert not same(before, state(learn)), change

@pytest.mark.parametrize('bs', [1,8,20])
def test_silent(bs):
    learn = trained()
    before = state(learn)
    dry_run(learn, some_items(learn.dls.train), bs)
    assert same(before, state(learn))

def test_silent_from_inside_a_fit_with_a_loaded_optimizer(tmp_path):
    "Everything is as it was when the first batch comes, the optimizer's loaded averages too"
    class Before(Callback):
        order = -9
        def before_fit(self): self.state = state(self.learn)
    class After(Callback):
        order = 99
        def before_fit(self): self.same = same(self.before.state, state(self.learn))
    learn = trained(path=tmp_path)
    learn.save('m', with_opt=True)
    new = learner(learn.dls, ProgressiveResize(increase_by=8), Before(), After(), path=tmp_path)
    new.load('m', with_opt=True)
    assert new.opt.state[new.model[0].weight]['grad_avg'].abs().sum()>0
    new.fit(1)
    assert new.after.same

@pytest.mark.parametrize('opt_func,n', [
    (Adam,2), (partial(SGD, mom=0.9),1), (ranger,3),
    (partial(OptimWrapper, opt=torch.optim.AdamW),2), (partial(OptimWrapper, opt=torch.optim.SGD),0)])
def test_room_for_averages(opt_func, n):
    "As many averages as a first step leaves; none, once they are there"
    learn = learner(make_dls(*aug_transforms()), opt_func=opt_func)
    params = list(learn.model.parameters())
    learn.create_opt()
    assert [t.shape for t in reserve(learn)]==[p.shape for _ in range(n) for p in params]
    learn.fit(1)
    assert reserve(learn)==[]

def test_an_optimizer_that_cannot_be_asked_stops_nothing():
    def by_name(params, lr):
        assert len(L(params))>1, 'wants the whole model'
        return Adam(params, lr=lr)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), opt_func=by_name)
    learn.fit(1)
    assert learn.seen.train

def test_masks_and_points():
    for learn in (trained(seg_dls(*aug_transforms()), model=mask_model(), loss_func=CrossEntropyLossFlat(axis=1)),
                  trained(point_dls(*aug_transforms()), model=small_model(6), loss_func=MSELossFlat())):
        before = state(learn)
        dry_run(learn, some_items(learn.dls.train), 8)
        assert same(before, state(learn))

@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory. Tried'), RuntimeError('MPS backend out of memory (MPS allocated)')])
def test_out_of_memory_is_said_in_words(error):
    class Big(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x):
            if len(x)>2: raise error
            return self.m(x)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=Big())
    words = 'a batch of 8 images of .*64, 64.* does not fit into memory .*use a smaller batch size'
    with pytest.raises(torch.OutOfMemoryError, match=words): learn.fit(1)

def test_the_model_sees_one_full_size_batch():
    shapes = Spy()
    class Watch(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, x):
            if torch.is_grad_enabled(): shapes.append((tuple(x.shape), self.training))
            return self.m(x)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), model=Watch())
    learn.fit(1)
    assert shapes[0] == ((8,3,64,64), True)
    shapes.clear()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, preallocate_bs=3), model=Watch())
    learn.fit(1)
    assert shapes[0][0] == (3,3,64,64)
    shapes.clear()
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, preallocate=False), model=Watch())
    learn.fit(1)
    assert shapes[0][0] == (8,3,32,32)

@pytest.mark.slow
@pytest.mark.parametrize('workers', [0,2])
def test_weights_are_bit_identical_with_and_without(workers):
    def fit(preallocate):
        set_seed(7)
        learn = learner(make_dls(*aug_transforms(), workers=workers), ProgressiveResize(increase_by=8, preallocate=preallocate))
        learn.fit(2)
        return list(learn.model.state_dict().values())
    a,b = fit(True),fit(False)
    assert all(torch.equal(p,q) for p,q in zip(a,b))

def test_no_item_is_missed():
    "Every item is seen once an epoch, the one that was measured too"
    seen = []
    class Count(Callback):
        def before_batch(self):
            if self.training: seen.extend(self.y.tolist())
    dls = torch_dls()
    dls.train.dataset.tensors = (dls.train.dataset.tensors[0], torch.arange(64))
    dls.train.dataset.tensors[1].remainder_(64)
    learn = learner(dls, ProgressiveResize(increase_by=8), Count(), model=small_model(64))
    learn.fit(1)
    assert sorted(seen) == list(range(64))

def test_mixup_and_other_losses_do_not_disturb_it():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8), MixUp(), loss_func=CrossEntropyLossFlat())
    learn.fit(4)
    assert learn.seen.train == due(32)

@pytest.mark.cuda
def test_memory_is_reserved_once():
    "After the dry run the allocator finds no room missing, and in the end it holds no more than after a training at full size"
    def held(*cbs):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        learner(make_dls(*aug_transforms(), size=(128,128), n=160, bs=32).cuda(), *cbs, model=xresnet18(n_out=2)).fit(4)
        return torch.cuda.max_memory_reserved()
    full,retries = held(),torch.cuda.memory_stats()['num_alloc_retries']
    assert held(ProgressiveResize(increase_by=16, verbose=False))<=1.05*full
    assert torch.cuda.memory_stats()['num_alloc_retries']==retries

@pytest.mark.cuda
def test_no_batch_waits_for_the_gpu():
    "Looking at a batch's values waits for it: that is done at the first step, not at every size"
    def waits(*cbs):
        learn = learner(make_dls(*aug_transforms()).cuda(), *cbs)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
            try: learn.fit(4)
            finally: torch.cuda.set_sync_debug_mode('default')
        return sum('synchroniz' in str(w.message) for w in seen)
    assert waits(ProgressiveResize(increase_by=8, verbose=False, preallocate=False, try_sizes=False))<=waits()+12   # 32 batches, 5 sizes

@pytest.mark.cuda
def test_silent_in_mixed_precision_on_cuda():
    learn = learner(make_dls(*aug_transforms()).cuda(), ProgressiveResize(increase_by=8), MixedPrecision())
    learn.fit(4)
    before = torch.cuda.get_rng_state_all()
    dry_run(learn, some_items(learn.dls.train), 8)
    assert all(torch.equal(a,b) for a,b in zip(before, torch.cuda.get_rng_state_all()))
    assert learn.seen.train == due(32)

def test_items_are_repeated_whatever_holds_them():
    images,masks,boxes = [torch.rand(3,20,30) for _ in range(2)],[torch.zeros(20,30) for _ in range(2)],[dict(boxes=torch.rand(k,4)) for k in (1,3)]
    def shapes(b): return [tuple(t.shape) for t in leaves(b)]
    assert shapes(tile_batch((images,masks), 4))==[(3,20,30)]*4 + [(20,30)]*4
    assert shapes(tile_batch((images,boxes), 4))==[(3,20,30)]*4 + [(1,4),(3,4)]*2
    assert shapes(tile_batch(dict(image=images, boxes=boxes), 3))==[(3,20,30)]*3 + [(1,4),(3,4),(1,4)]
    assert shapes(tile_batch((torch.rand(2,3,20,30),torch.arange(2)), 5))==[(5,3,20,30),(5,)]
    assert shapes(tile_batch([torch.rand(4,3,8,8),[dict(a=torch.rand(4,2)) for _ in range(4)]], 2))==[(2,3,8,8)]+[(2,2)]*4   # four heads of the whole batch
    assert shapes(tile_batch([torch.rand(4,3,8,8),[dict(a=torch.rand(k,2)) for k in (4,1,2,4)]], 2))==[(2,3,8,8),(4,2),(1,2)]

def test_what_a_trial_adds_to_a_module_is_gone():
    class Keeps(nn.Module):
        def __init__(self): super().__init__(); self.n = 1
        def forward(self, x): self.last,self.n = x.shape,2; return x
    m = Keeps()
    with no_trace(m): m(torch.rand(1))
    assert m.n==1 and not hasattr(m, 'last') and m.training

def test_the_number_of_items_in_a_list_of_images():
    from fastresize.preflight import n_items
    boxes = [dict(boxes=torch.rand(2,4)) for _ in range(8)]
    assert n_items(([torch.rand(3,64,64) for _ in range(8)],boxes))==8 and n_items((torch.rand(5,3,64,64),torch.arange(5)))==5 and n_items(())==0
