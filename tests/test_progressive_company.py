"In a real fit beside other callbacks: the sizes are right, and the other part still does its job"
import pytest
from util import *

def pr(**kwargs): return ProgressiveResize(increase_by=8, **kwargs)

@pytest.mark.slow
@pytest.mark.parametrize('make', [lambda: make_dls(*aug_transforms()), torch_dls])
@pytest.mark.parametrize('mix', [MixUp,CutMix])
def test_mixup_and_cutmix(make, mix):
    lams = []
    class Lam(Callback):
        order = 99
        def after_loss(self):
            if self.training: lams.append(float(self.learn.cbs.filter(risinstance(mix))[0].lam.float().mean()))
    learn = learner(make(), pr(), mix(), Lam(), loss_func=CrossEntropyLossFlat())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert len({round(l,4) for l in lams})>16 # a mix of its own for every batch

def test_random_erasing():
    "A fifth of every picture or more, at every size"
    erased = []
    class Before(Transform):
        order,split_idx = RandomErasing.order-1,0
        def encodes(self, x:TensorImage):
            self.x = x.clone()
            return x
    class After(Transform):
        order,split_idx = RandomErasing.order+1,0
        def encodes(self, x:TensorImage):
            erased.append((tuple(x.shape[-2:]), (x!=before.x).any(1).float().mean((1,2)).min().item()))
            return x
    before = Before()
    learn = learner(make_dls(*aug_transforms(), before, RandomErasing(p=1., sl=0.2, sh=0.3), After()), pr())
    learn.fit(4)
    assert learn.seen.train == due(32) and {s for s,_ in erased}=={*due(32)} and min(o for _,o in erased)>.15

def test_gradient_accumulation():
    steps = []
    class Steps(Callback):
        def after_step(self): steps.append(self.train_iter)
    learn = learner(make_dls(*aug_transforms()), pr(), GradientAccumulation(n_acc=16), Steps())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert steps == list(range(1,32,2)) # every second batch of 8 makes 16

def test_gradient_clip():
    norms = []
    class Norm(Callback):
        order = MixedPrecision.order+5
        def before_step(self): norms.append(float(torch.stack([p.grad.norm() for p in self.model.parameters()]).norm()))
    learn = learner(make_dls(*aug_transforms()), pr(), GradientClip(0.01), Norm())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert max(norms) <= 0.0101

def test_bf16_on_cpu():
    dtypes = set()
    class Dtype(Callback):
        def after_pred(self): dtypes.add(self.pred.dtype)
    learn = learner(make_dls(*aug_transforms()), pr(), Dtype())
    with torch.autocast('cpu', dtype=torch.bfloat16): learn.fit(4)
    assert learn.seen.train == due(32)
    assert dtypes == {torch.bfloat16}

@pytest.mark.cuda
@pytest.mark.parametrize('mode', ['fp16','bf16'])
def test_mixed_precision(mode):
    learn = learner(make_dls(*aug_transforms()).cuda(), pr(), MixedPrecision(amp_mode=mode))
    learn.fit(4)
    assert learn.seen.train == due(32)

def test_channels_last():
    learn = learner(make_dls(*aug_transforms()), pr(), ChannelsLast())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert learn.model[0].weight.is_contiguous(memory_format=torch.channels_last)

def test_save_model(tmp_path):
    learn = learner(make_dls(*aug_transforms()), pr(), SaveModelCallback(every_epoch=True, with_opt=True), path=tmp_path)
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert sorted(p.name for p in (tmp_path/'models').iterdir()) == [f'model_{i}.pth' for i in range(4)]
    other = learner(make_dls(*aug_transforms()), path=tmp_path).load('model_3')
    assert all(torch.equal(a,b) for a,b in zip(learn.model.state_dict().values(), other.model.state_dict().values()))

def test_early_stopping():
    learn = learner(make_dls(*aug_transforms()), pr(), EarlyStoppingCallback(monitor='valid_loss', min_delta=1e9, patience=1))
    learn.fit(12)
    assert learn.seen.train == due(96)[:88]   # the second epoch after the last growth is the first that can be worse
    assert tuple(learn.dls.one_batch()[0].shape[-2:]) == (64,64)

def test_csv_logger(tmp_path):
    learn = learner(make_dls(*aug_transforms()), pr(), CSVLogger(), path=tmp_path)
    learn.fit(4)
    log = learn.csv_logger.read_log()
    assert list(log.columns) == ['epoch','train_loss','valid_loss','time','size'] and list(log.epoch)==[0,1,2,3]
    assert learn.seen.train == due(32)

@pytest.mark.slow
@pytest.mark.parametrize('fit', ['fit_one_cycle','fit_flat_cos'])
def test_schedulers(fit):
    learn = learner(make_dls(*aug_transforms()), pr())
    getattr(learn, fit)(4, 1e-3)
    assert learn.seen.train == due(32)
    alone = learner(make_dls(*aug_transforms()))
    getattr(alone, fit)(4, 1e-3)
    assert learn.recorder.lrs == alone.recorder.lrs

@pytest.mark.slow
def test_unet():
    dls = seg_dls(*aug_transforms(), n=20, bs=4)
    learn = unet_learner(dls, resnet18, pretrained=False, n_out=4, cbs=[pr(),Seen()], loss_func=CrossEntropyLossFlat(axis=1))
    learn.remove_cb(ProgressCallback)
    with learn.no_logging(): learn.fit(4)
    assert learn.seen.train == due(16)
    assert learn.seen.targs[:4] == [(32,32)]*4
    assert learn.get_preds()[0].shape == (4,4,64,64)

def test_keypoints_stay_on_the_picture():
    "Points are in -1 to 1 whatever the size: the same ones at every size where nothing moves them"
    dls = point_dls(AffineCoordTfm())
    ys = []
    class Ys(Callback):
        def before_batch(self):
            if not self.training: ys.append(self.y.clone())
    learn = learner(dls, pr(), Ys(), model=small_model(6), loss_func=MSELossFlat())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert all(torch.allclose(ys[i], ys[i+2], atol=1e-6) for i in range(0,6))

class Pairs(torch.utils.data.Dataset):
    def __len__(self): return 64
    def __getitem__(self, i): return torch.rand(3,64,64),torch.rand(3,64,64),i%2

class Siamese(nn.Module):
    def __init__(self): super().__init__(); self.m,self.sizes = small_model(),set()
    def forward(self, a, b):
        self.sizes.add((tuple(a.shape[-2:]),tuple(b.shape[-2:])))
        return self.m(a)-self.m(b)

def test_two_images():
    dls = DataLoaders(*(torch.utils.data.DataLoader(Pairs(), batch_size=8) for _ in range(2)))
    dls.n_inp = 2
    sizes = []
    class Both(Callback):
        def before_batch(self):
            if self.training: sizes.append([tuple(x.shape[-2:]) for x in self.xb])
    learn = learner(dls, pr(), Both(), model=Siamese())
    learn.seen.before_batch = noop
    learn.fit(4)
    assert sizes == [[s,s] for s in due(32)]

@pytest.mark.slow
@pytest.mark.parametrize('make,workers', [(make_dls,0), (make_dls,2), (torch_dls,0), (torch_dls,2)])
def test_workers(make, workers):
    tfms = aug_transforms() if make is make_dls else ()
    kw = dict(workers=workers) if make is make_dls else dict(num_workers=workers)
    learn = learner(make(*tfms, **kw), pr())
    learn.fit(4)
    assert learn.seen.train == due(32)

def test_persistent_workers():
    dls = torch_dls(num_workers=2, persistent_workers=True)
    pids = []
    class Pids(Callback):
        def after_batch(self):
            if self.training and self.iter==0: pids.append([w.pid for w in self.dls.train._iterator._workers])
    learn = learner(dls, pr(), Pids())
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert len(pids)==4 and all(p==pids[0] for p in pids)

@pytest.mark.slow
@pytest.mark.parametrize('dynamic', [False])
def test_torch_compile(dynamic):
    "Full size is compiled first, for training and evaluation, and never again"
    from torch._dynamo.testing import CompileCounter
    import torch._dynamo as dynamo
    dynamo.reset()
    counter,model = CompileCounter(),small_model()
    at = []
    class Count(Callback):
        order = 99
        def before_fit(self): at.append(counter.frame_count)
        def after_pred(self):
            if len(at)==1: at[0] = counter.frame_count-1 # less the first batch itself
        def after_batch(self): at.append((tuple(self.x.shape[-2:]), self.training, counter.frame_count))
    learn = learner(make_dls(*aug_transforms()), pr(), Count(), model=torch.compile(model, backend=counter, dynamic=dynamic))
    with pytest.warns(UserWarning, match=r'this schedule has 5 sizes.*after 8 compilations.*`increase_by=11` stays within'): learn.fit(4)
    assert at[0] == 2 # full size, training and evaluation
    assert learn.seen.train == due(32)
    full = [n for s,t,n in at[1:] if s==(64,64)]
    assert len(set(full)) == 1 # reaching full size compiles nothing
    assert counter.frame_count <= dynamo.config.recompile_limit
    dynamo.reset()

def test_torch_compile_with_few_sizes_is_silent():
    import warnings, torch._dynamo as dynamo
    from torch._dynamo.testing import CompileCounter
    dynamo.reset()
    counter = CompileCounter()
    model = torch.compile(small_model(), backend=counter, dynamic=False)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=11), model=model)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        learn.fit(4)
    assert learn.seen.train == due(32, by=11)
    sizes = set(learn.seen.train)
    assert counter.frame_count == len(sizes) + len(set(learn.seen.valid)) # every size compiled, none run eagerly
    dynamo.reset()
