"A loop of one's own: the size of every batch, who makes it, and what stays as it was"
import gc, itertools
import torch.utils.data as tud
import torchvision.transforms as v1, torchvision.transforms.v2 as v2
from torch.utils.data.distributed import DistributedSampler
from fastresize.batch import leaves
from fastresize.preflight import SizeError
from util import *

schedule = size_schedule(64, 4, increase_by=8)
pipes = dict(v1=lambda: v1.Compose([v1.RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.ToTensor()]),
             v2=lambda: v2.Compose([v2.PILToTensor(), v2.Resize(72), v2.CenterCrop([64,64]), v2.ToDtype(torch.float32, scale=True)]))

class Drawn(tud.Dataset):
    "80 drawn pictures; whoever makes an item tells what it measured where it was made"
    def __init__(self, transform): self.transform = transform
    def __len__(self): return 80
    def __getitem__(self, i):
        x = self.transform(picture(i, (100,80)))
        return x,torch.tensor([*x.shape[-2:]]),i

def drawn(pipe='v1', bs=10, **kwargs): return tud.DataLoader(Drawn(pipes[pipe]()), batch_size=bs, **kwargs)
def tensors(**kwargs): return tud.DataLoader(tud.TensorDataset(torch.rand(80,3,64,64), torch.arange(80)), batch_size=10, **kwargs)
def got(loader, n_epoch=4): return [tuple(b[0].shape[-2:]) for _ in range(n_epoch) for b in loader]

workers = dict(none={}, fork=dict(num_workers=2, multiprocessing_context='fork'),
               persist=dict(num_workers=2, multiprocessing_context='fork', persistent_workers=True),
               spawn=dict(num_workers=1, multiprocessing_context='spawn', persistent_workers=True))

@pytest.mark.slow
@pytest.mark.parametrize('pipe,how', [('v1',how) for how in workers] + [('v2','none'),('v2','fork')])
def test_items_come_small_from_whoever_makes_them(pipe, how):
    dl = drawn(pipe, shuffle=True, **workers[how])
    loader = sized_loader(dl, schedule, 4, resize_items=True)
    batches = [b for _ in range(4) for b in loader]
    assert not loader.why and [tuple(b[0].shape[-2:]) for b in batches] == due(32)
    assert [tuple(b[1][0].tolist()) for b in batches] == due(32)   # it was the dataset that made them so
    assert all(sorted(torch.cat([b[2] for b in batches[8*e:8*e+8]]).tolist())==[*range(80)] for e in range(4))
    assert type(dl.batch_sampler) is tud.BatchSampler and got(dl, 1)==[(64,64)]*8

@pytest.mark.parametrize('how', ['none','fork'])
def test_finished_batches_are_resized_where_nothing_can_be_told(how):
    loader = sized_loader(tensors(**workers[how]), schedule, 4)
    assert loader.why and got(loader)==due(32)

@pytest.mark.parametrize('make', [drawn, tensors])
def test_full_size_is_left_alone_to_the_bit(make):
    def run(wrap):
        torch.manual_seed(1); random.seed(1)
        loader = wrap(make(shuffle=True))
        res = [b for _ in range(2) for b in loader]
        return res,torch.get_rng_state()
    (a,end),(b,end2) = run(noop),run(lambda dl: sized_loader(dl, SizeSchedule((64,)), 2, resize_items=True))
    assert torch.equal(end, end2) and all(torch.equal(p[0], q[0]) and torch.equal(p[1], q[1]) for p,q in zip(a,b))

def test_a_batch_at_full_size_is_the_loaders_own():
    class Kept(list): pass
    batches = Kept([torch.rand(4,3,64,64), torch.arange(4)] for _ in range(4))
    loader = sized_loader(batches, size_schedule(64, 2), 2)
    assert not any(a is b for a,b in zip(loader, batches))   # the first epoch is small
    loader.set_epoch(5)
    assert all(a is b for a,b in zip(loader, batches)) and loader.size==(64,64)

@pytest.mark.parametrize('make', [drawn, tensors])
def test_resumes_at_any_epoch_and_after_a_break(make):
    dl = make(num_workers=2, persistent_workers=True)
    loader = sized_loader(dl, schedule, 4)
    loader.set_epoch(2)
    assert got(loader, 2)==due(32)[16:]
    loader.set_epoch(2)
    assert [tuple(b[0].shape[-2:]) for b in itertools.islice(loader, 3)]==due(32)[16:19]
    assert loader.size==due(32)[18] and loader.epoch==2
    assert got(loader, 2)==due(32)[16:] and got(dl, 1)==[(64,64)]*8   # what was left early is no epoch
    loader.set_epoch(2, skip=3)
    assert got(loader, 2)==due(32)[19:]

def test_regions_and_random_numbers_are_those_of_full_size():
    def ids(small):
        torch.manual_seed(3)
        dl = drawn(shuffle=True)
        res = [b[2].tolist() for b in (sized_loader(dl, schedule, 4, resize_items=True) if small else dl)]
        return res,torch.get_rng_state()
    (a,end),(b,end2) = ids(False),ids(True)
    assert a==b and torch.equal(end, end2)

def test_distributed_samplers_are_told_the_epoch():
    parts = []
    for rank in range(2):
        ds = Drawn(pipes['v1']())
        loader = sized_loader(tud.DataLoader(ds, batch_size=10, sampler=DistributedSampler(ds, 2, rank)), schedule, 4)
        epochs = []
        for e in range(4):
            loader.set_epoch(e)
            epochs.append([(tuple(x.shape[-2:]),i.tolist()) for x,_,i in loader])
        parts.append(epochs)
    for a,b in zip(*parts):
        assert [s for s,_ in a]==[s for s,_ in b]   # the same size on both, at every step
        assert sorted(i for o in (a,b) for _,ids in o for i in ids)==[*range(80)]
    assert parts[0][0]!=parts[0][1] and [s for e in parts[0] for s,_ in e]==due(16)

class Stream(tud.IterableDataset):
    def __iter__(self): return ((torch.rand(3,64,64),i) for i in range(80))

def test_iterable_datasets_are_resized_when_finished():
    dl = tud.DataLoader(Stream(), batch_size=10)
    assert got(sized_loader(dl, schedule, 4, n_batch=8))==due(32)
    with pytest.raises(ValueError, match='`n_batch`=None.*no length'): sized_loader(dl, schedule, 4)

def test_a_loader_that_takes_batches_ahead_of_time():
    class Ahead(tud.DataLoader):
        def __iter__(self):
            it = super().__iter__()
            last = next(it)
            for b in it:
                yield last
                last = b
            yield last
    loader = sized_loader(Ahead(Drawn(pipes['v1']()), batch_size=10), schedule, 4, resize_items=True)
    assert loader.why and got(loader)==due(32)

def test_structures_and_targets_over_pixels():
    def collate(items): return dict(image=torch.stack([o[0] for o in items]), mask=torch.ones(len(items),64,64, dtype=torch.long))
    loader = sized_loader(drawn(collate_fn=collate), schedule, 4, resize_items=True)   # the mask would not follow in the workers
    for b in loader: assert b['image'].shape[-2:]==b['mask'].shape[-2:]==(32,32)
    pairs = tud.DataLoader(tud.TensorDataset(torch.rand(80,3,64,64), torch.ones(80,64,64).long()), batch_size=10)
    for kwargs in ({}, dict(resize_targ=True)):
        loader = sized_loader(pairs, schedule, 4, **kwargs)
        assert [tuple(y.shape[-2:]) for _ in range(4) for x,y in loader]==due(32)
    assert [tuple(y.shape[-2:]) for x,y in sized_loader(pairs, schedule, 4, resize_targ=False)]==[(64,64)]*8

@pytest.mark.parametrize('why,args', {
    'a loader that can be iterated once per epoch': dict(loader=iter([1])),
    '`loader`=3': dict(loader=3),
    '`schedule`=64: expected a `SizeSchedule`': dict(schedule=64),
    '`n_epoch`=0: expected an int above 0': dict(n_epoch=0),
    '`n_batch`=0: expected an int above 0': dict(n_batch=0),
    '`method`=.zoom.: expected one of': dict(method='zoom'),
    '`resize_mode`=.best.: expected one of': dict(resize_mode='best'),
    'is its batch size larger than the dataset': dict(loader=tensors(drop_last=True, sampler=range(5))),
    'one that is not a `SizedLoader` already': dict(loader=sized_loader(tensors(), schedule, 4)),
}.items(), ids=lambda o: None)
def test_what_cannot_work_is_refused_in_words(why, args):
    with pytest.raises(ValueError, match=why): sized_loader(**{**dict(loader=tensors(), schedule=schedule, n_epoch=4), **args})

def test_batches_without_a_picture_are_refused_in_words():
    dl = tud.DataLoader(tud.TensorDataset(torch.rand(80,5), torch.arange(80)), batch_size=10)
    with pytest.raises(ValueError, match='no image among the inputs'): next(iter(sized_loader(dl, schedule, 4)))

def test_epochs_are_counted_from_zero():
    with pytest.raises(ValueError, match='`epoch`=-1'): sized_loader(tensors(), schedule, 4).set_epoch(-1)

# ---- loaders whose decoder has a size to set

def test_webdataset_decodes_at_the_size_of_each_batch(tmp_path):
    wds = pytest.importorskip('webdataset')
    with wds.TarWriter(str(tmp_path/'shard.tar')) as out:
        for i in range(40): out.write({'__key__':f'{i:04}', 'jpg':np.asarray(picture(i, (64,64))), 'cls':i%2})
    class Decode:
        size = 64,64
        def __call__(self, im): return v1.functional.to_tensor(v1.functional.resize(im, [*self.size]))
    decode = Decode()
    def set_size(size): decode.size = size
    data = wds.WebDataset(str(tmp_path/'shard.tar'), shardshuffle=False).decode('pil').to_tuple('jpg', 'cls').map_tuple(decode, noop)
    loader = sized_loader(tud.DataLoader(data, batch_size=10), size_schedule(64, 4, increase_by=8), 4, n_batch=4, set_size=set_size, per_batch=True)
    assert got(loader)==due(16)

def test_a_decoder_that_is_told_once_an_epoch():
    "By the protocol of ffcv's decoders: an `output_size`"
    class Loader:
        output_size,seen = (64,64),[]
        def __len__(self): return 4
        def __iter__(self):
            self.seen.append(self.output_size)
            return ((torch.rand(10,3,*self.output_size),torch.arange(10)) for _ in range(4))
    dl = Loader()
    schedule = size_schedule(64, 4, increase_by=16, increase_mode='epoch')
    loader = sized_loader(dl, schedule, 4, set_size=dl)
    assert got(loader)==[s for e in range(4) for s in schedule.sizes_of(e, 4, 4)]
    assert dl.seen==[schedule.sizes_of(e, 4, 4)[0] for e in range(4)]   # nothing was resized afterwards
    assert dl.output_size==(64,64)
    next(iter(loader))   # a look that is thrown away
    gc.collect()
    assert dl.output_size==(64,64)
    assert 'the decoder sets the size' in repr(loader)

class Told:
    "A loader with a decoder that may do as it is told"
    def __init__(self, obeys=True, length=4): self.output_size,self.obeys,self.length = (64,64),obeys,length
    def __iter__(self):
        for _ in range(self.length): yield torch.rand(10,3,*(self.output_size if self.obeys else (64,64))),torch.arange(10)
class Counted(Told):
    def __len__(self): return self.length

@pytest.mark.parametrize('per_batch', [False,True])
def test_a_decoder_that_does_not_do_as_it_is_told(per_batch):
    "The batch is resized"
    dl = Counted(obeys=False)
    loader = sized_loader(dl, size_schedule(64, 4, increase_by=16, increase_mode='epoch'), 4, set_size=dl, per_batch=per_batch)
    assert got(loader)==[s for e in range(4) for s in loader.sizes(e)] and loader.sizes(0)==[(32,32)]*4

def test_a_decoder_that_can_be_called_too():
    class Module(nn.Module):
        output_size = (64,64)
        def forward(self, x): raise AssertionError('this decodes')
    module,dl = Module(),Counted(obeys=False)
    sizes = [b[0].shape[-1] for b in sized_loader(dl, size_schedule(64, 1, increase_by=32), 1, set_size=module, per_batch=True)]
    assert sizes==[32,32,32,64] and module.output_size==(64,64)

def test_a_decoder_without_end_that_is_told_once_is_refused():
    dl = Told()
    with pytest.raises(ValueError, match='`per_batch`=False: expected True with `set_size`, because a loader without a length'): sized_loader(dl, schedule, 4, n_batch=4, set_size=dl)

def test_a_decoder_beside_small_items_is_refused():
    with pytest.raises(ValueError, match='`resize_items`=True: expected False with `set_size`'): sized_loader(Counted(), schedule, 4, set_size=Counted(), resize_items=True)

def test_sizes_of_a_decoder_that_is_told_once_are_those_of_its_epochs():
    "And full size that comes in the middle of the last epoch never comes"
    dl = Counted()
    with pytest.warns(UserWarning, match='in 4 epochs of 4 batches the training ends with the size .48, 48. and never reaches .64, 64.'):
        loader = sized_loader(dl, size_schedule(64, 4, increase_by=16, finish=.95), 4, set_size=dl)
    assert got(loader)==[s for e in range(4) for s in loader.sizes(e)]

def test_a_loop_that_never_reaches_full_size_is_warned_of():
    with pytest.warns(UserWarning, match='`schedule`: in 1 epoch of 4 batches the training ends with the size .48, 48. and never reaches'):
        sized_loader(torch_dls(n=32).train, size_schedule(64, 1, increase_by=8, finish=1.), 1)

def test_made_again_for_each_epoch():
    "Each would train at the smallest size; two trainings with one loader, or one that is stopped early, are no such case"
    dl = tensors()
    def epoch(n_epoch=4, n=1):
        loader = sized_loader(dl, size_schedule(64, n_epoch), n_epoch)
        for _ in range(n):
            for _ in loader: pass
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for n in (4,1,4,1): epoch(n=n)
        for _ in range(3): epoch(n_epoch=1)
        epoch(n=4), epoch()
        epoch()
    with pytest.warns(UserWarning, match='`sized_loader`: made again for each epoch, it starts at the smallest size each time: make it once'): epoch()

@pytest.mark.parametrize('kwargs,words', [(dict(schedule='auto'), "`schedule`='auto': expected a `SizeSchedule`.*: a loop has no model to measure"),
                                          (dict(model='resnet'), "`model`='resnet': expected a PyTorch module, or None")])
def test_what_is_not_a_schedule_or_a_model(kwargs, words):
    with pytest.raises(ValueError, match=words): sized_loader(tensors(), **{'schedule': size_schedule(64, 2), 'n_epoch': 2, **kwargs})

# ---- passes

class Sharded(tud.IterableDataset):
    "Each worker takes its share, as in PyTorch's documentation; two workers make one batch more than the length tells"
    def __len__(self): return 66
    def __iter__(self):
        w = tud.get_worker_info()
        for i in range(w.id if w else 0, 66, w.num_workers if w else 1): yield torch.randn(3,64,64),i

def passes(loader, n_epoch=4): return [[b[0].shape[-1] for b in loader if b is not None] for _ in range(n_epoch)]

def test_a_pass_with_a_batch_more_than_expected_is_one_epoch():
    loader = sized_loader(tud.DataLoader(Sharded(), 8, num_workers=2), schedule, 4)
    got = passes(loader)
    assert len(loader)==9 and [len(p) for p in got]==[10]*4 and loader.epoch==3
    assert [s for p in got for s in p[:9]]==[h for h,_ in due(36)] and all(p[9]==p[8] for p in got)

def test_n_batch_that_is_one_too_few_counts_no_epoch_twice():
    loader = sized_loader(tud.DataLoader(Sharded(), 8), schedule, 4, n_batch=8)
    assert [s for p in passes(loader) for s in p[:8]]==[h for h,_ in due(32)] and loader.epoch==3
    loader = sized_loader(tensors(), schedule, 4, n_batch=2)   # all epochs in one pass
    assert passes(loader, 1)==[[h for h,_ in due(8)]] and loader.set_epoch(0) is None and passes(loader, 1)[0][0]==32

def test_n_batch_counts_epochs_across_passes():
    loader = sized_loader(tud.DataLoader(tud.TensorDataset(torch.rand(200,3,64,64), torch.arange(200)), batch_size=10), size_schedule(64, 10, increase_by=8), 10, n_batch=8)
    assert sum(passes(loader, 4), [])==[h for h,_ in due(80)]   # 20 batches a pass are two and a half epochs
    assert loader.epoch==7

def test_n_batch_limits_larger_batches_too():
    loader = sized_loader(tensors(), schedule, 4, n_batch=4, max_bs=20)
    got = [(tuple(b[0].shape[-2:]),len(b[0])) for _ in range(4) for b in loader]
    assert got==[o for e in due_batches(40, 20, bs=10) for o in e] and got[-1]==((64,64),10) and loader.total_batches==len(got)

def test_one_cycle_gets_its_length_from_the_loader():
    opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], .1)
    loader = sized_loader(tensors(), schedule, 4, max_bs=20, optimizer=opt)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(opt, .1, total_steps=loader.total_batches)
    for _ in range(4):
        for b in loader: opt.step(); one_cycle.step()
    assert loader.total_batches<4*8 and one_cycle.last_epoch==loader.total_batches

def test_passes_without_gradients_only_are_warned_of():
    loader = sized_loader(tensors(), schedule, 4)
    with torch.no_grad():
        assert passes(loader, 2)==[[32]*8]*2
        with pytest.warns(UserWarning, match='three passes ran without gradients'): passes(loader, 1)
    for e in range(4): loader.set_epoch(e); assert passes(loader, 1)==[[h for h,_ in due(32)[8*e:8*e+8]]]

# ---- what a loader may be

class Again:
    "`iter` begins an epoch and returns the object itself, as with DALI"
    def __len__(self): return 8
    def __iter__(self): self.i = 0; return self
    def __next__(self):
        if self.i==8: raise StopIteration
        self.i += 1
        return torch.randn(10,3,64,64),torch.arange(10)

def test_a_loader_may_be_its_own_iterator():
    assert got(sized_loader(Again(), schedule, 4))==due(32)
    for o in (iter(tensors()), (b for b in tensors()), tensors().dataset):
        with pytest.raises(ValueError, match='`loader`=.*such as a PyTorch `DataLoader`'): sized_loader(o, schedule, 4)

def without_broken(items): return None if items[0][1]%3==0 else tud.default_collate(items)
def test_batches_that_are_none_stay_none():
    for dl in (tensors(collate_fn=without_broken), tud.DataLoader(Sharded(), 10, collate_fn=without_broken)):
        loader = sized_loader(dl, schedule, 4)
        assert [b is None for b in loader]==[b is None for b in dl] and loader.size==(32,32)

def rank_passes(rank, loader): assert passes(loader)==[[h for h,_ in due(32)[8*e:8*e+8]] for e in range(4)]
@pytest.mark.slow
def test_a_sized_loader_can_be_sent_to_other_processes():
    torch.multiprocessing.spawn(rank_passes, (sized_loader(tensors(), schedule, 4),), 1)

def test_attributes_are_set_in_the_loader():
    dl = tensors()
    loader = sized_loader(dl, schedule, 4)
    loader.collate_fn = without_broken
    assert dl.collate_fn is without_broken
    with pytest.raises(ValueError, match='batch_size'): loader.batch_size = 3   # PyTorch's own words
    loader.epoch = 3
    assert 'epoch' not in dl.__dict__

# ---- one optimizer

def test_a_loop_that_takes_batches_ahead_has_the_learning_rate_of_each():
    def rates(ahead):
        opt = torch.optim.SGD([w := nn.Parameter(torch.zeros(1))], .1)
        loader,res = sized_loader(tensors(), schedule, 4, max_bs=40, optimizer=opt),[]
        for _ in range(2):
            it = iter(loader)
            b = next(it)
            while b is not None:
                following = next(it, None) if ahead else None
                old,w.grad = w.item(),torch.ones(1)
                opt.step()
                res.append(round(old-w.item(), 3))
                b = following if ahead else next(it, None)
        return res
    assert rates(True)==rates(False)==[.2]*4

def test_the_rate_is_right_after_a_step_that_raised_an_error():
    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            if fails: raise RuntimeError('no memory')
            return super().step(closure)
    opt,factors = Fails([w := nn.Parameter(torch.zeros(1))], .1),[]
    loader = sized_loader(tensors(), schedule, 4, max_bs=40, optimizer=opt)
    for epoch in range(4):
        for i,_ in enumerate(loader):
            old,w.grad,fails = w.item(),torch.ones(1),i==0
            try: opt.step()
            except RuntimeError: continue   # as loops do that skip a batch
            assert old-w.item()==pytest.approx(.1*loader.lr_factor)
            factors.append(loader.lr_factor)
    assert factors[0]==2 and factors[-1]==1

def test_two_sized_loaders_of_one_optimizer_do_not_multiply_its_rate():
    opt = torch.optim.SGD([w := nn.Parameter(torch.zeros(1))], .1)
    a,b = (sized_loader(tensors(), schedule, 4, max_bs=40, optimizer=opt) for _ in range(2))
    for _ in zip(a, b):
        old,w.grad = w.item(),torch.ones(1)
        opt.step()
        assert round(old-w.item(), 3)==.2 and opt.param_groups[0]['lr']==.1

@pytest.mark.slow
def test_an_optimizer_that_accelerate_has_prepared():
    accelerate = pytest.importorskip('accelerate')
    opt = torch.optim.SGD([w := nn.Parameter(torch.zeros(1))], .1)
    prepared = accelerate.Accelerator(cpu=True).prepare(opt)
    try:
        for _ in sized_loader(tensors(), schedule, 4, max_bs=40, optimizer=prepared):
            old,w.grad = w.item(),torch.ones(1)
            prepared.step()
            assert round(old-w.item(), 3)==.2
    finally: accelerate.state.AcceleratorState._reset_state(True)

@pytest.mark.parametrize('name,kwargs', [('skip', dict(skip=9)), ('skip', dict(skip=-1))])
def test_what_set_epoch_refuses(name, kwargs):
    with pytest.raises(ValueError, match=f'`{name}`=.*0 to 8'): sized_loader(tensors(), schedule, 4).set_epoch(1, **kwargs)

@pytest.mark.parametrize('name,value', [('optimizer', torch.optim.SGD), ('device', 'gpu'), ('pictures', .5), ('pictures', [.5]), ('resize_items', 'no'), ('per_batch', 'yes'),
                                        ('scale_lr', ['linear']), ('resize_targ', 0), ('resize_targ', {'a':1})])
def test_values_of_another_type_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f'`{name}`='): sized_loader(tensors(), schedule, 4, **{name:value})

# ---- targets that differ from batch to batch

class Instances(tud.Dataset):
    "Images with one to four masks, boxes and labels each; the first has none"
    def __len__(self): return 40
    def __getitem__(self, i): return torch.randn(3,64,64),dict(masks=torch.ones(i%5,64,64), boxes=torch.rand(i%5,4), labels=torch.ones(i%5))

@pytest.mark.parametrize('collate', [
    lambda b: dict(image=torch.stack([x for x,_ in b]), masks=[y['masks'] for _,y in b]), lambda b: (torch.stack([x for x,_ in b]),[y for _,y in b]),
    lambda b: tuple(zip(*b)), lambda b: dict(image=torch.stack([x for x,_ in b]), masks=[y['masks'].sum(0).long() for _,y in b])])
@pytest.mark.parametrize('bs', [4,8])
def test_masks_in_a_list_follow_their_images(collate, bs):
    for b in sized_loader(tud.DataLoader(Instances(), bs, shuffle=True, collate_fn=collate), schedule, 4):
        dense = [t for t in leaves(b) if t.ndim>1 and t.shape[-1]!=4]
        assert {tuple(t.shape[-2:]) for t in dense}=={(32,32)} and len(dense)>bs

def test_targets_that_the_first_batches_do_not_have():
    class Tasks(tud.Dataset):
        def __len__(self): return 40
        def __getitem__(self, i): return dict(image=torch.randn(3,64,64), **({'label':i} if i<20 else {'mask':torch.full((64,64), 2*(i%2))}))
    seen = [b for b in sized_loader(tud.DataLoader(Tasks(), 4), schedule, 4)]
    assert [{k: tuple(v.shape[1:]) for k,v in b.items()} for b in seen]==[{'image':(3,32,32), 'label':()}]*5 + [{'image':(3,32,32), 'mask':(32,32)}]*5
    assert {*seen[-1]['mask'].unique().tolist()}=={0,2}

class Pair(list):
    def __init__(self, x, y): super().__init__([x,y]); self.note = 'kept'
def test_a_list_of_another_class_keeps_it():
    dl = tud.DataLoader(tensors().dataset, 10, collate_fn=lambda b: Pair(*tud.default_collate(b)))
    for b in sized_loader(dl, schedule, 4): assert type(b) is Pair and b.note=='kept' and b[0].shape[-1]==32

def test_a_crop_does_not_move_boxes_and_says_so():
    boxes = tud.DataLoader(tud.TensorDataset(torch.rand(8,3,64,64), torch.rand(8,4)), 4)
    with pytest.warns(UserWarning, match="`method`='crop'.*resize_targ=False"): sized_loader(boxes, schedule, 4, method='crop')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        sized_loader(boxes, schedule, 4)
        sized_loader(boxes, schedule, 4, method='crop', resize_targ=False)

def test_several_dense_targets_are_not_one_for_each_item():
    class Tasks(tud.Dataset):
        def __len__(self): return 40
        def __getitem__(self, i): return torch.randn(3,64,64),(10*(torch.rand(64,64)>.5).long(),torch.rand(64,64),torch.rand(64,64),(torch.rand(64,64)>.5).long())
    for n in (4,8):
        for x,(a,b,c,d) in sized_loader(tud.DataLoader(Tasks(), n), schedule, 4):
            assert {t.shape[-2:] for t in (a,b,c,d)}=={(32,32)} and {*a.unique().tolist()}=={0,10} and b.unique().numel()>2

def test_what_is_no_tensor_is_left_alone():
    collate = lambda b: (torch.stack([x for x,_ in b]),dict(size=b[0][0].shape, top=torch.stack([x for x,_ in b]).max(0)))
    x,y = next(iter(sized_loader(tensors(collate_fn=collate), schedule, 4)))
    assert x.shape[-1]==32 and y['size']==torch.Size((3,64,64)) and type(y['size']) is torch.Size

def test_other_loaders_of_the_optimizer_have_its_own_rate():
    opt = torch.optim.SGD([w := nn.Parameter(torch.zeros(1))], .1)
    a,b = (sized_loader(tensors(), schedule, 4, max_bs=n, optimizer=opt) for n in (40,20))
    def rates(loader):
        for _ in loader:
            old,w.grad = w.item(),torch.ones(1)
            opt.step()
            yield round(old-w.item(), 3)
    assert [*rates(a)]==[.2]*2 and [*rates(tensors())]==[.1]*8
    assert [*rates(b)]==[round(.1*1.6**.5, 3)]*5 and [*rates(a)]==[.2]*2 and [*rates(tensors())]==[.1]*8

class Endless(tud.Sampler):
    "Has no length"
    def __init__(self, n): self.n = n
    def __iter__(self):
        while True: yield from torch.randperm(self.n).tolist()

def test_a_sampler_without_a_length():
    "Items are looked at as with any other sampler"
    def loader(): return tud.DataLoader(tud.TensorDataset(torch.rand(40,3,64,64), torch.arange(40)%2), sampler=Endless(40), batch_size=8)
    s = size_schedule(64, 2, increase_by=8)
    assert sized_loader(loader(), s, 2, n_batch=5).backend.full_size==(64,64)
    with pytest.raises(SizeError, match='32'): sized_loader(loader(), s, 2, n_batch=5, model=nn.Sequential(nn.Flatten(), nn.Linear(3*64*64, 2)))
    with pytest.raises(ValueError, match='`max_bs`=32: expected None for this loader, which has a sampler without a length'): sized_loader(loader(), s, 2, n_batch=5, max_bs=32)

# ---- what cannot work is refused, or said

class Cached(tud.Dataset):
    "Keeps its transformed items"
    def __init__(self): self.transform,self.kept = v1.Compose([v1.Resize((64,64)), v1.ToTensor()]),{}
    def __len__(self): return 80
    def __getitem__(self, i):
        if i not in self.kept: self.kept[i] = self.transform(picture(i))
        return self.kept[i],i%2

def test_a_dataset_that_keeps_its_items_does_not_make_them_small():
    with pytest.warns(UserWarning, match='`resize_items`: training batches are resized after loading instead .its images have size .64, 64. instead of .32, 32.'):
        loader = sized_loader(tud.DataLoader(Cached(), 10, shuffle=True), schedule, 4, resize_items=True)
    assert got(loader)==due(32) and len(loader.dataset.kept)==80 and {x.shape[-1] for x in loader.dataset.kept.values()}=={64}

class ReadsSize(tud.Dataset):
    size = (64,64)
    def __len__(self): return 80
    def __getitem__(self, i): return torch.rand(3,*self.size),i

@pytest.mark.parametrize('name,kwargs,workers', [('set_size', {}, dict(persistent_workers=True)), ('per_batch', dict(per_batch=True), {})])
def test_a_decoder_in_worker_processes_that_cannot_hear_its_size_is_refused(name, kwargs, workers):
    data = ReadsSize()
    dl = tud.DataLoader(data, 10, num_workers=1, **workers)
    with pytest.raises(ValueError, match=f'`{name}`=.*worker processes'): sized_loader(dl, schedule, 4, set_size=partial(setattr, data, 'size'), **kwargs)

@pytest.mark.slow
def test_a_decoder_in_new_worker_processes_has_the_size_of_the_epoch():
    data = ReadsSize()
    loader = sized_loader(tud.DataLoader(data, 10, num_workers=1, multiprocessing_context='fork'), schedule, 4, set_size=partial(setattr, data, 'size'))
    assert got(loader)[::8]==due(32)[::8]

class Stateful(tud.DataLoader):
    def state_dict(self): return {}
    def load_state_dict(self, state): pass

def test_the_state_of_a_loader_does_not_resume_its_sizes():
    loader = sized_loader(Stateful(tud.TensorDataset(torch.rand(80,3,64,64)), 10), schedule, 4)
    for k in ('state_dict','load_state_dict'):
        with pytest.raises(TypeError, match=f'`{k}` of the loader does not know the sizes.*set_epoch'): getattr(loader, k)
        assert not hasattr(loader, k)

def test_an_optimizer_without_larger_batches_is_refused():
    opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], .1)
    with pytest.raises(ValueError, match='`optimizer`=.*SGD.*None without `max_bs`'): sized_loader(tensors(), schedule, 4, optimizer=opt)

class Wraps:
    def __init__(self, x): self.inputs = {'image': x}

@pytest.mark.parametrize('wrap', [Wraps, lambda x: __import__('types').MappingProxyType({'image': x})], ids=['object','mapping'])
def test_images_inside_objects_and_mappings_that_cannot_be_changed(wrap):
    class Data(tud.Dataset):
        def __len__(self): return 80
        def __getitem__(self, i): return torch.rand(3,64,64)
    loader = sized_loader(tud.DataLoader(Data(), 10, collate_fn=lambda xs: wrap(torch.stack(xs))), schedule, 4)
    def image(b): return (b.inputs if isinstance(b, Wraps) else b)['image']
    assert [tuple(image(b).shape[-2:]) for _ in range(4) for b in loader]==due(32)

class Buckets(tud.Dataset):
    "The last ten images are twice as wide; a torchvision transform makes them"
    def __init__(self): self.transform = v1.Compose([v1.Resize(64), v1.ToTensor()])
    def __len__(self): return 40
    def __getitem__(self, i): return self.transform(picture(i, (80,160) if i>=30 else (80,80))),i%2

def test_small_items_of_another_shape_keep_their_proportions():
    batches = [[*range(k, k+10)] for k in range(0, 40, 10)]
    loader = sized_loader(tud.DataLoader(Buckets(), batch_sampler=batches), SizeSchedule((32,64), (.5,)), 2, resize_items=True)
    whole = sized_loader(tud.DataLoader(Buckets(), batch_sampler=batches), SizeSchedule((32,64), (.5,)), 2)
    assert got(loader, 2)==got(whole, 2)==[(32,32)]*3 + [(32,64)] + [(64,64)]*3 + [(64,128)]

class DecodesHere(tud.DataLoader):
    "Workers read, and the process itself decodes"
    size = (64,64)
    def __iter__(self):
        for x,y in super().__iter__(): yield F.interpolate(x, self.size),y

@pytest.mark.slow
def test_a_loader_that_decodes_in_its_own_process_may_have_workers():
    dl = DecodesHere(tud.TensorDataset(torch.rand(80,3,64,64), torch.arange(80)), batch_size=10, num_workers=1)
    assert got(sized_loader(dl, schedule, 4, set_size=partial(setattr, dl, 'size'), per_batch=True))==due(32)
