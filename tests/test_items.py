"Items made small from the start: the size, the region and the random numbers of every batch, whoever makes it"
import functools, threading, time
import torch.utils.data as tud
import timm.data
import torchvision.transforms as v1, torchvision.transforms.v2 as v2
from PIL import ImageOps
from torchvision.datasets import ImageFolder
import fastai.vision.core as core
from util import *
from fastresize.backends import SizeRatio, items_at
from fastresize.items import View, _ImageFile

names = [f'{i:02}' for i in range(40)]

def ramp(i, w, h):
    "A photograph that tells where one is in it: red grows to the right, green downwards; blue is its number"
    a = np.zeros((h,w,3), dtype=np.uint8)
    a[...,0],a[...,1],a[...,2] = np.linspace(0, 255, w)[None],np.linspace(0, 255, h)[:,None],6*i
    return Image.fromarray(a)

@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "40 JPEG files in two classes, 16 of them upright"
    path = tmp_path_factory.mktemp('pictures')
    for i,n in enumerate(names):
        f = path/'ab'[i%2]/f'{n}.jpg'
        f.parent.mkdir(exist_ok=True)
        ramp(i, *((200,150),(150,200))[i%5>2]).save(f, quality=95)
    return path

class Came(Transform):
    "Writes down what comes from the loader, before any other batch transform"
    order = -10
    def __init__(self): self.clear()
    def clear(self): self.sizes,self.middles = [],[]
    def encodes(self, x:TensorImage):
        self.sizes.append(tuple(x.shape[-2:]))
        self.middles.append(x.as_subclass(Tensor).float().mean((-1,-2)))
        return x

def pick(path): return sorted(get_image_files(path), key=lambda f: f.name)

def photo_dls(path, *item_tfms, bs=4, workers=0, batch_tfms=(), splitter=None, **kwargs):
    "32 to train on (8 batches of 4), 8 to validate on; and what comes from the loaders"
    came = Came()
    block = DataBlock((ImageBlock,CategoryBlock), get_items=pick, get_y=parent_label, splitter=splitter or IndexSplitter(range(32,40)),
                      item_tfms=item_tfms, batch_tfms=[came,*batch_tfms])
    return block.dataloaders(path, bs=bs, num_workers=workers, device='cpu', **kwargs),came

class Begins(Callback):
    "What came before the first batch of a training is not of it"
    def before_train(self):
        if self.epoch: return
        for f in getattr(getattr(self.dls.train, 'after_batch', None), 'fs', ()):
            if isinstance(f, Came): f.clear()

def photo_learner(dls, *cbs, **kwargs):
    "Its model draws no random numbers, as dropout does for every pixel"
    model = nn.Sequential(nn.Conv2d(3,8,3,2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8,2))
    return learner(dls, Begins(), *cbs, **{'model': model, **kwargs})

def small_items(by=16, **kwargs): return ProgressiveResize(increase_by=by, resize_items=True, verbose=False, **kwargs)

def seeded(learn, *args, seed=7, **kwargs):
    "A fit, and the random numbers that come after it"
    set_seed(seed)
    for dl in learn.dls.loaders:
        if hasattr(dl, 'rng'): dl.rng.seed(seed)
    learn.fit(*args, **kwargs)
    return random.random(),float(np.random.rand()),float(torch.rand(()))

ways = dict(crop=[Resize(64)], squish=[Resize((64,48), method='squish')], pad=[Resize(64, method='pad')],
            zeros=[Resize(64, method='pad', pad_mode='zeros')], random=[RandomResizedCrop(64, min_scale=.2)],
            presized=[Resize(96), RandomCrop(64)], flipped=[FlipItem(), Resize(64)], turned=[DihedralItem(), Resize(64)],
            cropped=[CropPad(120), Resize(64)], ratio=[RatioResize(100), CropPad(64)])

@pytest.mark.slow
@pytest.mark.parametrize('way', ways)
def test_same_regions_and_random_numbers_at_the_size_of_the_batch(files, way):
    "Against the same training without the callback: the centre of every item, by its colours, and what is drawn"
    def run(*cbs):
        dls,came = photo_dls(files, *ways[way])
        learn = photo_learner(dls, *cbs)
        return learn,came,seeded(learn, 4)
    (full,large,a),(learn,small,b) = run(),run(small_items())
    final = tuple(full.seen.train[0])
    assert a==b
    sizes = [s for e in range(4) for s in learn.progressive_resize.schedule.sizes_of(e, 4, 8)]
    assert learn.seen.train==sizes and sizes[0]!=final==sizes[-1]
    assert [s for s in small.sizes if s!=final]==[s for s in _in_order(sizes, learn.seen.valid) if s!=final]
    assert max((p-q).abs().max() for p,q in zip(large.middles, small.middles))<4

def _in_order(train, valid):
    "Training and validation sizes as the loaders are asked for them"
    return [s for e in range(4) for s in (*train[8*e:8*e+8], *valid[2*e:2*e+2])]

@pytest.mark.slow
@pytest.mark.parametrize('workers', [0,1,2,4])
@pytest.mark.parametrize('affine', [False,True])
def test_every_batch_from_workers(files, workers, affine):
    dls,came = photo_dls(files, Resize(64), workers=workers, batch_tfms=aug_transforms() if affine else ())
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    assert learn.seen.train==due(32) and learn.seen.valid==[s for s in due(32)[7::8] for _ in range(2)]
    assert came.sizes==_in_order(learn.seen.train, learn.seen.valid)
    came.clear()
    learn.validate(); dls.one_batch()
    assert {*came.sizes}=={(64,64)}

def test_presizing_keeps_its_margin(files):
    dls,came = photo_dls(files, Resize(96), batch_tfms=aug_transforms(size=64, min_scale=.5))
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    assert learn.seen.train==due(32)
    assert came.sizes==[tuple(round(o*1.5) for o in s) for s in _in_order(learn.seen.train, learn.seen.valid)]

def test_a_random_crop_of_the_batch_takes_the_same_region(files):
    def run(*cbs):
        class Middle(Callback):
            found = []
            def before_batch(self):
                if self.training: self.found.append(self.x.as_subclass(Tensor).mean((-1,-2)))
        m = Middle()
        m.found = []
        dls,_ = photo_dls(files, Resize(96), batch_tfms=[RandomResizedCropGPU(64, min_scale=.3)])
        return seeded(photo_learner(dls, m, *cbs), 4),torch.stack(m.found)
    (a,x),(b,y) = run(),run(small_items())
    assert a==b and (x-y).abs().max()<.02

@pytest.mark.slow
@pytest.mark.parametrize('kwargs', [dict(drop_last=False, bs=5), dict(drop_last=True, bs=5), dict(n=18), dict(shuffle=False)])
@pytest.mark.parametrize('workers', [0,3])
def test_loaders_of_any_length(files, kwargs, workers):
    dls,came = photo_dls(files, Resize(64), workers=workers, bs=kwargs.pop('bs', 4))
    dls.loaders[0] = dls.train.new(**kwargs)
    n = len(dls.train)
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    assert learn.seen.train==due(4*n) and came.sizes[:n]==due(4*n)[:n]

@pytest.mark.slow
@pytest.mark.parametrize('kind', ['weighted','partial'])
def test_weighted_and_partial_loaders(files, kind):
    dls,came = photo_dls(files, Resize(64), workers=2)
    dls.loaders[0] = dls.train.new(**(dict(cls=WeightedDL, wgts=np.arange(32)+1) if kind=='weighted' else dict(cls=PartialDL, partial_n=20)))
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    n = len(dls.train)
    assert learn.seen.train==due(4*n) and came.sizes[:n]==due(4*n)[:n]

@pytest.mark.slow
@pytest.mark.parametrize('workers', [0,2])
def test_items_that_are_skipped(files, workers):
    dls,came = photo_dls(files, _Skip(), Resize(64), workers=workers)
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    n = len(learn.seen.train)//4
    ours = [s for e in range(4) for s in learn.progressive_resize.schedule.sizes_of(e, 4, 8)[:n]]
    assert 0<n<8 and learn.seen.train==ours and {*came.sizes}>{(32,32),(64,64)}

class _Skip(Transform):
    def encodes(self, x:PILImage):
        if np.asarray(x)[0,0,2]%5==1: raise SkipItemException
        return x

def test_a_transform_that_reads_pixels_between_two_crops_sees_them_all(files):
    seen = []
    class Looks(Transform):
        order = 2
        def encodes(self, x:PILImage):
            seen.append(np.asarray(x).shape)
            return x
    class Late(RandomCrop): order = 3
    dls,came = photo_dls(files, Resize(96), Looks(), Late(64))
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    assert {*seen}=={(96,96,3)} and learn.seen.train==due(32) and came.sizes==_in_order(learn.seen.train, learn.seen.valid)

@pytest.mark.slow
def test_resumed_and_interrupted(files):
    dls,came = photo_dls(files, Resize(64), workers=2)
    learn = photo_learner(dls, small_items(8))
    learn.fit(4, start_epoch=2)
    assert learn.seen.train[16:]==due(32)[16:] if len(learn.seen.train)==32 else learn.seen.train==due(32)[16:]
    for exc in (KeyboardInterrupt(), CancelFitException(), Boom('b')):
        learn = photo_learner(dls, small_items(8), Fault('after_batch', exc, True))
        try: learn.fit(4)
        except (KeyboardInterrupt,Boom): pass
        came.clear()
        learn.validate()
        next(iter(dls.train))
        assert {*came.sizes}=={(64,64)}
        assert not {'create_batches','do_item'}&{*dls.train.__dict__} and core.load_image.__module__==core.image2tensor.__module__=='fastai.vision.core'

def test_validation_follows_resize_valid(files):
    dls,came = photo_dls(files, Resize(64))
    learn = photo_learner(dls, small_items(8, resize_valid=False))
    learn.fit(4)
    assert {*learn.seen.valid}=={(64,64)} and learn.seen.train==due(32)

# ---- targets

def test_masks_follow_by_nearest_and_in_place(files):
    def mask_of(f):
        a = np.asarray(Image.open(f))
        return PILMask.create((a[...,0]>a[...,1]).astype(np.uint8)*3)
    found = []
    class Keep(Callback):
        def before_batch(self):
            if self.training: found.append((self.x.as_subclass(Tensor),self.y.as_subclass(Tensor)))
    block = DataBlock((ImageBlock,MaskBlock(codes=range(4))), get_items=pick, get_y=mask_of, splitter=IndexSplitter(range(32,40)),
                      item_tfms=RandomResizedCrop(64, min_scale=.3))
    learn = mask_learner(block.dataloaders(files, bs=4, num_workers=0, device='cpu'), small_items(8), Keep())
    learn.fit(4)
    assert [tuple(y.shape[-2:]) for _,y in found]==due(32)
    for x,y in found:
        assert {*y.unique().tolist()}<={0,3}
        assert ((x[:,0]>x[:,1])==(y==3)).float().mean()>.95   # where red is above green, as in the picture

def test_points_and_boxes_keep_their_place(files):
    def corner(f): return [[w/4,h/2]] if (w:=Image.open(f).size[0]) and (h:=Image.open(f).size[1]) else None
    block = DataBlock((ImageBlock,PointBlock), get_items=pick, get_y=corner, splitter=IndexSplitter(range(32,40)), item_tfms=Resize(64, method='squish'))
    class Keep(Callback):
        found = []
        def before_batch(self): self.found.append(self.y.as_subclass(Tensor))
    learn = learner(block.dataloaders(files, bs=4, num_workers=0, device='cpu'), small_items(8), Keep(), loss_func=MSELossFlat())
    learn.fit(2)
    assert learn.seen.train==due(16) and all(torch.allclose(y, torch.tensor([-.5,0.]), atol=.02) for y in Keep.found)

# ---- files of every kind

kinds = dict(grey=('L','jpg'), cmyk=('CMYK','jpg'), alpha=('RGBA','png'), palette=('P','png'), grey_alpha=('LA','png'), sixteen=('I;16','png'),
             progressive=('RGB','jpg'), webp=('RGB','webp'))

@pytest.mark.parametrize('kind', kinds)
def test_every_kind_of_file(tmp_path, kind):
    mode,ext = kinds[kind]
    im = ramp(3, 200, 150)
    im = Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16)*200) if mode=='I;16' else im.convert(mode)
    f = tmp_path/f'a.{ext}'
    im.save(f, **(dict(progressive=True) if kind=='progressive' else {}))
    for cls in (PILImage,PILImageBW):
        p = Pipeline([cls.create, Resize(64), ToTensor()], split_idx=1)
        def at(s):
            with items_at(SizeRatio((s,s), (64,64))): return p(f)
        assert torch.equal(p(f), at(64))
        small,want = at(32),F.interpolate(p(f)[None].float(), (32,32), mode='bilinear', antialias=True)[0]
        assert small.shape==want.shape and (small.float()-want).abs().mean()<6

def test_exif_orientation_is_as_fastai_has_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp(0, 200, 150).save(tmp_path/'a.jpg', exif=exif)
    for turn in (noop, lambda im: PILImage(ImageOps.exif_transpose(im))):
        p = Pipeline([PILImage.create, turn, Resize(64, method='squish'), ToTensor()], split_idx=1)
        with items_at(SizeRatio((32,32), (64,64))): small = p(tmp_path/'a.jpg')
        want = F.interpolate(p(tmp_path/'a.jpg')[None].float(), (32,32), mode='bilinear', antialias=True)[0]
        assert (small.float()-want).abs().mean()<3

def test_bytes_are_read_as_files_are(files):
    b = (files/'a'/'00.jpg').read_bytes()
    p = Pipeline([PILImage.create, Resize(64), ToTensor()], split_idx=1)
    with items_at(SizeRatio((32,32), (64,64))): assert torch.equal(p(b), p(files/'a'/'00.jpg'))

def test_jpeg_is_decoded_at_the_smallest_scale_with_pixels_enough(files):
    f = files/'a'/'00.jpg'   # 200×150
    for region,size,scale in (((0,0,200,150),(100,75),2), ((0,0,200,150),(101,75),1), ((0,0,200,150),(25,18),8), ((0,0,100,75),(50,37),2), ((0,0,100,75),(51,37),1)):
        view = View.of(_ImageFile(f, 'RGB')).part(region, size)
        assert view.pixels(size).size==size and view.source.decoded_at[1]==scale

def test_a_broken_file_is_skipped_by_who_skips_it(files, tmp_path):
    "The user's own `try` around opening a picture works as without, and the random numbers are the same"
    bad = tmp_path/'bad.jpg'
    whole = (files/'a'/'00.jpg').read_bytes()
    bad.write_bytes(whole[:len(whole)//2])
    def opened(f):
        random.random()
        try: return PILImage.create(bad if f.stem=='05' else f)
        except OSError: return PILImage.create(files/'a'/'02.jpg')
    def run(*cbs):
        block = DataBlock((ImageBlock,CategoryBlock), get_items=pick, get_x=opened, get_y=parent_label, splitter=IndexSplitter(range(32,40)),
                          item_tfms=RandomResizedCrop(64))
        learn = photo_learner(block.dataloaders(files, bs=4, num_workers=0, device='cpu'), *cbs)
        return seeded(learn, 2),learn.seen.train
    (a,_),(b,sizes) = run(),run(small_items(8))
    assert a==b and sizes==due(16)

def test_pictures_opened_elsewhere_meanwhile_are_fastais_own(files):
    "By another thread, while items are made"
    got = {}
    with items_at(SizeRatio((32,32), (64,64))):
        t = threading.Thread(target=lambda: got.update(im=PILImage.create(files/'a'/'00.jpg'), t=ToTensor()(PILImage.create(files/'a'/'00.jpg'))))
        t.start(); t.join()
        here = ToTensor()(PILImage.create(files/'a'/'00.jpg'))
    assert type(got['im']) is PILImage and got['im'].__dict__.get('_im') is not None
    assert got['t'].shape==(3,150,200) and here.shape==(3,75,100)

# ---- loaders in plain PyTorch

class Labelled(tud.Dataset):
    "A picture, and the height of what was made of it"
    def __init__(self, path, tfm): self.files,self.transform = pick(path),tfm
    def __len__(self): return len(self.files)
    def __getitem__(self, i):
        x = self.transform(Image.open(self.files[i]).convert('RGB'))
        return x,x.shape[-2]

pipelines = dict(v1_resize=lambda: v1.Compose([v1.Resize((64,64)), v1.ToTensor()]),
    v1_usual=lambda: v1.Compose([v1.RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.ToTensor()]),
    v1_eval=lambda: v1.Compose([v1.Resize(72), v1.CenterCrop(64), v1.ToTensor()]),
    timm_train=lambda: timm.data.create_transform(64, is_training=True),
    v2_tensors=lambda: v2.Compose([v2.ToImage(), v2.RandomResizedCrop(64, antialias=True), v2.ToDtype(torch.float32, scale=True)]),
    v2_eval=lambda: v2.Compose([v2.PILToTensor(), v2.Resize([72]), v2.CenterCrop([64,64]), v2.ToDtype(torch.float32, scale=True)]))

class Sizes(Callback):
    "The heights that the items were made with"
    order = 100
    def before_fit(self): self.made = []
    def before_batch(self):
        if self.training: self.made += [self.yb[0].unique().tolist()]
        self.learn.yb = (self.yb[0]%2,)

def plain_dls(path, pipe, wrap=noop, **kwargs):
    ds = wrap(Labelled(path, pipelines[pipe]()))
    train,valid = tud.Subset(ds, range(32)),tud.Subset(ds, range(32,40))
    return DataLoaders(tud.DataLoader(train, batch_size=4, shuffle=True, **kwargs), tud.DataLoader(valid, batch_size=4, **kwargs))

@pytest.mark.slow
@pytest.mark.parametrize('pipe', pipelines)
@pytest.mark.parametrize('kwargs', [dict(), dict(num_workers=2), dict(num_workers=2, persistent_workers=True, prefetch_factor=4)], ids=str)
def test_loaders_in_plain_pytorch(files, pipe, kwargs):
    dls = plain_dls(files, pipe, **kwargs)
    next(iter(dls.train))   # workers that persist have begun before the training
    learn = photo_learner(dls, small_items(8), Sizes())
    learn.fit(4)
    assert learn.seen.train==due(32)
    assert learn.sizes.made==[[h] for h,_ in due(32)]
    learn.fit(1)
    assert learn.seen.train[32:]==due(8)
    assert next(iter(dls.train))[1].tolist()==[64]*4
    assert isinstance(dls.train.batch_sampler, tud.BatchSampler)

@pytest.mark.slow
def test_workers_that_are_spawned(files):
    dls = plain_dls(files, 'v1_usual', num_workers=1, multiprocessing_context='spawn', persistent_workers=True)
    learn = learner(dls, small_items(16), Sizes())
    learn.fit(2)
    assert learn.seen.train==due(16, by=16) and learn.sizes.made==[[h] for h,_ in due(16, by=16)]

@pytest.mark.parametrize('pipe,most', [('v1_usual',.03), ('timm_train',.03/.225)])
def test_plain_pytorch_takes_the_same_regions(files, pipe, most):
    def run(*cbs):
        class Middle(Callback):
            def before_fit(self): self.found = []
            def before_batch(self): self.found.append(self.x.mean((-1,-2)))
        learn = photo_learner(plain_dls(files, pipe), Middle(), Sizes(), *cbs)
        return seeded(learn, 4),torch.stack(learn.middle.found)
    (a,x),(b,y) = run(),run(small_items(8))
    assert a==b and (x-y).abs().max()<most

def test_an_image_folder(files):
    ds = ImageFolder(files, pipelines['v1_usual']())
    dls = DataLoaders(tud.DataLoader(ds, batch_size=4, shuffle=True, num_workers=2), tud.DataLoader(ds, batch_size=4))
    learn = photo_learner(dls, small_items(8))
    learn.fit(4)
    assert learn.seen.train==due(40)

# ---- what cannot be made small from the start

def _words(record): return [str(w.message) for w in record if 'resize_items' in str(w.message)]

@pytest.mark.parametrize('name,words', [
    ('tensors', 'its images have size [64, 64] instead of [32, 32]'), ('iterable', 'no items can be read before training'),
    ('several sizes', 'its images differ in size'), ('random crop of torchvision', 'its dataset fails to make items of [32, 32]')])
def test_what_cannot_falls_back_in_one_line(files, name, words):
    class Stream(tud.IterableDataset):
        def __iter__(self): return ((torch.rand(3,64,64), i%2) for i in range(32))
        def __len__(self): return 32
    if name=='tensors': dls = torch_dls(40, bs=4)
    elif name=='iterable': dls = DataLoaders(tud.DataLoader(Stream(), batch_size=4), tud.DataLoader(Stream(), batch_size=4))
    elif name=='several sizes': dls,_ = photo_dls(files, RatioResize(64), bs=1)
    else:
        pipelines['random crop'] = lambda: v1.Compose([v1.Resize((80,80)), v1.RandomCrop(64), v1.ToTensor()])
        dls = plain_dls(files, 'random crop')
    learn = photo_learner(dls, small_items(8), *([Sizes()] if name.startswith('random') else []))
    with pytest.warns(UserWarning) as record: learn.fit(4)
    said = _words(record)
    assert len(said)==2 and all(words in w for w in said) and said[0].startswith('`resize_items`: training batches')
    assert learn.seen.train[0]!=learn.seen.train[-1]

def test_off_by_default(files):
    dls,came = photo_dls(files, Resize(64))
    learn = learner(dls, ProgressiveResize(increase_by=8, verbose=False))
    learn.fit(2)
    assert learn.seen.train==due(16) and {*came.sizes}=={(64,64)}

# ---- advice

def test_the_monitor_names_it_where_the_model_waits(files, capsys):
    class Slow(Transform):
        def encodes(self, x:PILImage):
            time.sleep(.01)
            return x
    for args,words in ((dict(), '; `resize_items=True`, more'), (dict(resize_items=True), '; `cache_items`, more'),
                       (dict(resize_items=True, cache_items=1e8), '; more')):
        dls,_ = photo_dls(files, Slow(), Resize(64))
        learn = photo_learner(dls, ProgressiveResize(increase_by=8, verbose=False, start=.8, finish=.9, **args), ThroughputMonitor())
        learn.fit(2)
        out = capsys.readouterr().out
        assert 'waited for data' in out and words in out

@pytest.mark.slow
def test_the_preview_measures_it(files, clock):
    "An item takes as long as it has pixels, a tiny model nothing, by the clock of the test"
    class Slow(ItemTransform):
        order = 6   # after `ToTensor`
        def encodes(self, x):
            clock.sleep(.1*x[0].shape[-1]**2/256**2)
            return x
    block = DataBlock((ImageBlock,CategoryBlock), get_items=pick, get_y=parent_label, splitter=IndexSplitter(range(32,40)),
                      item_tfms=[Resize(256),Slow()])
    learn = photo_learner(block.dataloaders(files, bs=4, num_workers=0, device='cpu'))
    res = learn.preview_resize(8, show_plot=False, increase_by=64)
    assert res.with_items and res.with_items.speedup>res.speedup*1.1 and res.worth_items
    assert f'With `resize_items=True`: {res.with_items.speedup:.2f} times as fast.' in str(res)
    assert res.with_items.pace((256,256))==res.pace((256,256))
    assert learn.preview_resize(8, show_plot=False, increase_by=64, resize_items=True).with_items is None

def test_other_methods_need_finished_batches():
    with pytest.raises(ValueError, match="`resize_items`=True: expected False with `method`='crop'"): ProgressiveResize(resize_items=True, method='crop')

def test_what_a_transform_made_coarse_stays_coarse(files):
    "Down and up again, on purpose: the detail does not come back because the picture waits"
    class Coarse(Transform):
        order = 2
        def encodes(self, x:PILImage): return x.resize((8,8)).resize((64,64))
    p = Pipeline([PILImage.create, Resize(64), Coarse(), ToTensor()], split_idx=1)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150,200,3), dtype=np.uint8))
    noise.save('noise.png')
    with items_at(SizeRatio((48,48), (64,64))): small = p('noise.png')
    want = F.interpolate(p('noise.png')[None].float(), (48,48), mode='bilinear', antialias=True)[0]
    assert small.shape==(3,48,48) and (small.float()-want).abs().mean()<6

def test_who_takes_indices_all_at_once_gets_finished_batches(files):
    ds = Labelled(files, pipelines['v1_resize']())
    halves = tud.random_split(tud.Subset(ds, range(40)), [32,8])
    dls = DataLoaders(*[tud.DataLoader(o, batch_size=4, num_workers=1) for o in halves])
    learn = learner(dls, small_items(8), Sizes())
    with pytest.warns(UserWarning) as record: learn.fit(2)
    assert len(_words(record))==2 and learn.seen.train==due(16)

# ---- kept from epoch to epoch

class Batches(Callback):
    "Every batch"
    def before_fit(self): self.got = []
    def before_batch(self): self.got.append(self.x.as_subclass(Tensor).clone())

class Folder(Batches):
    "And what is on disk after each epoch"
    def before_fit(self): self.paths,self.bytes,self.got = set(),[],[]
    def after_epoch(self):
        if not (kept := self.progressive_resize.training_run.cache).folder: return
        self.paths.add(Path(kept.folder))
        self.bytes.append(sum(f.stat().st_size for f in Path(kept.folder).iterdir()))

def kept_fit(files, *args, way='random', workers=0, epochs=4, **kwargs):
    dls,_ = photo_dls(files, *ways[way], workers=workers, batch_tfms=[Normalize.from_stats(*imagenet_stats)])
    learn = photo_learner(dls, small_items(**kwargs), *args)
    return learn,seeded(learn, epochs)

@pytest.mark.slow
@pytest.mark.parametrize('way,workers', [('random',0),('crop',0),('flipped',0),('presized',0),('pad',0),('random',2)])
def test_kept_pictures_are_the_same_to_the_bit(files, way, workers):
    a,ra = kept_fit(files, Batches(), way=way, workers=workers)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        b,rb = kept_fit(files, Folder(), way=way, workers=workers, cache_items=1e8)
    assert ra==rb and not [w for w in said if 'cache_items' in str(w.message)]
    if not workers: assert same(a.batches.got, b.folder.got)   # whose workers draw numbers of their own
    assert a.seen.train==b.seen.train==due(32, by=16)
    assert len(b.folder.paths)==1 and min(b.folder.bytes)>40*1000 and not any(p.exists() for p in b.folder.paths)

@pytest.mark.parametrize('workers', [0,2])
def test_no_file_is_opened_in_the_second_epoch(files, workers, monkeypatch, tmp_path):
    "Counted in a file, since workers open them too"
    log,real = tmp_path/'opened',Image.open
    def counting(f, *args, **kwargs):
        if isinstance(f, Path):
            with open(log, 'ab') as o: o.write(b'.')
        return real(f, *args, **kwargs)
    class Count(Callback):
        def before_fit(self): self.counts = []
        def before_epoch(self): self.counts.append(log.stat().st_size)
    monkeypatch.setattr(Image, 'open', counting)
    learn,_ = kept_fit(files, Count(), way='squish', workers=workers, epochs=3, start=.8, finish=.9, cache_items=1e8)
    first,second,third = learn.count.counts
    assert second-first>=40 and third==second

@pytest.mark.slow
@pytest.mark.parametrize('most', [1, 200e3, 1e6])
@pytest.mark.parametrize('workers', [0,2])
def test_never_more_than_the_bytes_given(files, most, workers):
    with pytest.warns(UserWarning, match='`cache_items`: the limit of .* MB, or the disk, was full after .* decoded image'):
        learn,_ = kept_fit(files, Folder(), way='random', workers=workers, cache_items=most)
    assert learn.folder.bytes and max(learn.folder.bytes)<=max(most, 1000)
    assert learn.seen.train==due(32, by=16)

def test_a_file_that_changes_is_decoded_anew(files, tmp_path):
    shutil.copytree(files, tmp_path/'own')
    class Paint(Callback):
        order = 200
        def before_fit(self): self.blue = []
        def before_batch(self):
            if self.training: self.blue.append(self.x[:,2].mean().item())
        def after_epoch(self):
            if self.epoch==0:
                for f in pick(tmp_path/'own'): Image.new('RGB', (200,150), (0,0,255)).save(f)
    dls,_ = photo_dls(tmp_path/'own', Resize(64))
    learn = photo_learner(dls, small_items(start=.8, finish=.9, cache_items=1e8), Paint())
    learn.fit(2)
    assert max(learn.paint.blue[:8])<.8 and min(learn.paint.blue[8:])>.95

@pytest.mark.slow
@pytest.mark.parametrize('exc', [KeyboardInterrupt(), CancelFitException(), Boom('b')], ids=str)
def test_nothing_is_left_on_disk(files, exc):
    dls,_ = photo_dls(files, Resize(64), workers=2)
    learn = photo_learner(dls, small_items(cache_items=1e8), Folder(), Fault('after_batch', exc, True))
    try: learn.fit(4)
    except (KeyboardInterrupt,Boom): pass
    path, = learn.folder.paths
    assert path.name.startswith('fastresize-') and not [*path.parent.glob(f'{path.name}*')]

class Opened(tud.Dataset):
    "Its pictures are opened by fastai"
    def __init__(self, path): self.files,self.transform = pick(path),pipelines['v1_resize']()
    def __len__(self): return len(self.files)
    def __getitem__(self, i): return self.transform(PILImage.create(self.files[i])),i%2

def test_kept_for_loaders_in_plain_pytorch(files):
    def dls_of(ds): return DataLoaders(*[tud.DataLoader(ds, batch_size=4, num_workers=2, persistent_workers=True) for _ in range(2)])
    learn = photo_learner(dls_of(Opened(files)), small_items(cache_items=1e8), Folder())
    learn.fit(2)
    assert learn.seen.train==due(20, by=16) and min(learn.folder.bytes)>40*1000
    learn = photo_learner(dls_of(ImageFolder(files, pipelines['v1_resize']())), small_items(cache_items=1e8))
    with pytest.warns(UserWarning, match='`cache_items`: nothing was cached: no image was opened'): learn.fit(2)

@pytest.mark.parametrize('args,words', [(dict(cache_items=1e9), "`cache_items`=1000000000.0: expected a number of bytes, 0 or more, with `resize_items=True`"),
    (dict(cache_items=-1, resize_items=True), "`cache_items`=-1: expected a number of bytes, 0 or more"),
    (dict(cache_items='1GB', resize_items=True), "`cache_items`='1GB': expected a number of bytes")])
def test_what_cannot_be_kept_in(args, words):
    with pytest.raises(ValueError, match=re.escape(words)): ProgressiveResize(**args)

def test_no_folder_no_training_lost(files, monkeypatch):
    "Without worker processes, which need such a folder themselves"
    import tempfile
    monkeypatch.setattr(tempfile, 'tempdir', '/nowhere/at/all')
    with pytest.warns(UserWarning, match='`cache_items`: nothing can be cached, because the folder cannot be created') as said:
        learn,_ = kept_fit(files, way='crop', cache_items=1e8)
    assert learn.seen.train==due(32, by=16) and len([w for w in said if 'cache_items' in str(w.message)])==1

def test_a_full_disk_is_left_to_others(files, monkeypatch):
    class Disk: total,free = 100e9,4e9
    monkeypatch.setattr(shutil, 'disk_usage', lambda f: Disk)
    with pytest.warns(UserWarning, match='or the disk, was full after 0 decoded images'):
        learn,_ = kept_fit(files, Folder(), way='crop', cache_items=1e8)
    assert max(learn.folder.bytes)<2e5 and learn.seen.train==due(32, by=16)

def test_resumed_after_the_last_growth_nothing_is_kept_and_nothing_said(files, recwarn):
    dls,_ = photo_dls(files, Resize(64))
    learn = photo_learner(dls, small_items(cache_items=1e8))
    learn.fit(4, start_epoch=3)
    assert not [w for w in recwarn if 'cache_items' in str(w.message)]

def test_images_that_are_kept_in_memory_have_the_pixels_of_fastai_at_full_size(tmp_path):
    for i in range(24): Image.fromarray(np.random.default_rng(i).integers(0, 255, (96,96,3), dtype=np.uint8)).resize((256,256)).save(tmp_path/f'{i}.jpg')
    def pixels(*cbs):
        block = DataBlock((ImageBlock,CategoryBlock), get_items=lambda p: [tmp_path/f'{i}.jpg' for i in range(24)], get_x=functools.lru_cache(None)(PILImage.create),
                          get_y=lambda f: int(f.stem)%2, splitter=IndexSplitter(range(8)), item_tfms=Resize(64))
        dls = block.dataloaders(tmp_path, bs=8, num_workers=0, device='cpu')
        learner(dls, *cbs, loss_func=CrossEntropyLossFlat()).fit(4)
        return dls.valid.one_batch()[0]
    assert torch.equal(pixels(), pixels(ProgressiveResize(increase_by=8, resize_items=True)))

class Window40(Transform):
    "Needs images of 40 pixels"
    split_idx,order = 0,20
    def encodes(self, x:TensorImage):
        i = random.randint(0, x.shape[-1]-40)
        x[..., i:i+40, i:i+40] *= .5
        return x

def test_items_stay_whole_where_a_batch_transform_needs_their_size():
    learn = learner(make_dls(Window40()), ProgressiveResize(increase_by=8, resize_items=True), loss_func=CrossEntropyLossFlat())
    with pytest.warns(UserWarning, match=r'batch transforms fail on images of \[32, 32\]'): learn.fit(4)
    assert learn.seen.train==due(32)

# ---- files and buffers that are used again, transforms that need the whole image

@pytest.mark.parametrize('kind', ['buffer','file'])
def test_what_was_opened_is_what_is_decoded(tmp_path, kind):
    "Two pictures of an item, a dark and a bright one, come through the same buffer or temporary file"
    rng = np.random.default_rng(0)
    for i in range(24):
        for k,v in (('dark',20),('bright',220)): Image.fromarray(rng.integers(v-20, v+20, (300,300+i,3), dtype=np.uint8)).save(tmp_path/f'{i}_{k}.jpg', quality=95)
    buffer,file = io.BytesIO(),tmp_path/'frame.jpg'
    def read(f):
        if kind=='file':
            file.write_bytes(f.read_bytes())
            return PILImage.create(file)
        buffer.seek(0)
        buffer.truncate()
        buffer.write(f.read_bytes())
        return PILImage.create(buffer)
    picture = partial(TransformBlock, type_tfms=read, batch_tfms=IntToFloatTensor)
    block = DataBlock((picture,picture,CategoryBlock), n_inp=2, getters=[lambda i: tmp_path/f'{i}_dark.jpg', lambda i: tmp_path/f'{i}_bright.jpg', lambda i: i%2],
                      splitter=IndexSplitter(range(16,24)), item_tfms=Resize(64))
    class Means(Callback):
        found = ()
        def before_batch(self): self.found += tuple((round(10*float(x.mean())), x.shape[-1]) for x in self.xb)
    class Difference(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, a, b): return self.m(a)-self.m(b)
    dls,means = block.dataloaders(range(24), bs=8, num_workers=0, device='cpu'),Means()
    learn = Learner(dls, Difference(), loss_func=nn.CrossEntropyLoss(), cbs=small_items())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # files that change are resized after loading
        with learn.no_bar(), learn.no_logging(): learn.fit(3, cbs=means)
    assert [m for m,_ in means.found]==[1,9]*(len(means.found)//2) and {s for _,s in means.found}=={32,48,64}

class Thumbnail(ItemTransform):
    "Makes huge photographs smaller"
    def encodes(self, o):
        if max(o[0].size)>300: o[0].thumbnail((300,300))
        return o

@pytest.mark.parametrize('workers', [0,1])
def test_a_transform_that_needs_the_whole_image_of_a_few(tmp_path, workers):
    for i in range(40): ramp(i, *((400,300) if i==11 else (200,150))).save(tmp_path/f'{i:02}.png')
    block = DataBlock((ImageBlock,CategoryBlock), get_items=pick, get_y=lambda f: int(f.stem)%2, splitter=IndexSplitter(range(32,40)), item_tfms=[Thumbnail(), Resize(64)])
    learn = photo_learner(block.dataloaders(tmp_path, bs=4, num_workers=workers, device='cpu'), small_items())
    learn.fit(2)
    assert learn.seen.train==due(16, by=16)
