"`resize_batch`: every method on every kind of batch, targets that follow, and what is refused"
import pytest
from util import *
from fastresize.resize import lowpass
from fastresize.schedule import Growth

methods = 'interpolate','crop','lowpass'
dtypes = torch.float32,torch.float64,torch.float16,torch.bfloat16,torch.uint8
formats = torch.contiguous_format,torch.channels_last
half = dict(size=(24,32), resize_targ=True) # of batches of 48x64
by_name = dict(size=(24,32), resize_targ={1:True}) # whatever the target measures

def pictures(*shape, dtype=torch.float32, fmt=torch.contiguous_format, seed=0):
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (x*255 if dtype==torch.uint8 else x).to(dtype).contiguous(memory_format=fmt)

def places(h, w, n=2):
    "Images whose two channels tell the row and the column of every pixel"
    return torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij')).float().expand(n,2,h,w).contiguous()

def by_fft(x, size):
    "The definition of the low frequencies, in numpy and double precision"
    (H,W),(h,w) = x.shape[-2:],size
    f = np.fft.fftshift(np.fft.fft2(x.double().numpy()), axes=(-2,-1))[..., H//2-h//2:H//2-h//2+h, W//2-w//2:W//2-w//2+w]
    return torch.tensor(np.fft.ifft2(np.fft.ifftshift(f, axes=(-2,-1))).real * (h*w)/(H*W))

def window(xs): return tuple(int(o) for o in xs[0,:,0,0])

# ---- what every method keeps

@pytest.mark.parametrize('method', methods)
@pytest.mark.parametrize('fmt', formats)
@pytest.mark.parametrize('dtype', dtypes)
@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_kept(method, fmt, dtype, device):
    x = pictures(4,3,48,64, dtype=dtype, fmt=fmt).to(device)
    was = x.clone()
    for kwargs in (dict(size=(24,40)), dict(scale=0.5), dict(size=17)):
        xs,_ = resize_batch(x, method=method, **kwargs)
        size = kwargs.get('size', (24,32))
        assert xs.shape == (4,3,*(size if isinstance(size, tuple) else (size,size)))
        assert (xs.dtype,xs.device) == (x.dtype,x.device)
        assert xs.is_contiguous(memory_format=fmt)
        assert (x==was).all() and x.data_ptr()!=xs.data_ptr()

@pytest.mark.parametrize('method', methods)
@pytest.mark.parametrize('cls', [torch.Tensor,TensorImage,TensorImageBW])
def test_type_and_attributes_are_kept(method, cls):
    x = pictures(2,3,48,64).as_subclass(cls)
    x.note = 'mine'
    xs,_ = resize_batch(x, size=24, method=method)
    assert type(xs) is cls
    assert cls is torch.Tensor or xs.note=='mine'

@pytest.mark.parametrize('method', methods)
@pytest.mark.parametrize('kwargs', [dict(size=(48,64)), dict(scale=1.), dict(scale=1), dict(scale=1.5)])
@pytest.mark.parametrize('single', [False,True])
def test_nothing_to_do(method, kwargs, single):
    x,y = pictures(2,3,48,64),(torch.arange(2),TensorMask(torch.zeros(2,48,64)))
    if single: x,y = x[0],(y[0][0],y[1][0])
    xs,ys = resize_batch(x, y, method=method, resize_targ=True, **kwargs)
    assert xs is x and ys is y

@pytest.mark.parametrize('method', methods)
def test_targets_stay_where_that_is_asked(method):
    y = torch.arange(2),torch.zeros(2,48,64).long(),pictures(2,3,48,64),TensorPoint(torch.zeros(2,5,2))
    def stay(x): return all(a is b for a,b in zip(resize_batch(x, y, size=24, method=method, resize_targ=False)[1], y))
    assert stay(pictures(2,3,48,64)) and stay(pictures(3,48,64))
    assert [tuple(o.shape) for o in resize_batch(pictures(2,3,48,64), y, size=24, method=method)[1]]==[(2,),(2,24,24),(2,3,24,24),(2,5,2)]

@pytest.mark.parametrize('method', methods)
def test_labels_are_untouched(method):
    y = torch.arange(2),TensorMultiCategory(torch.ones(2,7)),'name',3,None,torch.rand(2)
    ys = resize_batch(pictures(2,3,48,64), y, method=method, **half)[1]
    assert all(a is b for a,b in zip(ys, y))

# ---- interpolate

@pytest.mark.parametrize('mode', ['nearest','nearest-exact','bilinear','bicubic','area'])
@pytest.mark.parametrize('size', [(24,32),(17,50),(24,64),(96,128),(96,32)])
def test_interpolate_is_torchs(mode, size):
    x = pictures(2,3,48,64)
    kw = dict(antialias=min(size[0]/48, size[1]/64)<1) if mode in ('bilinear','bicubic') else {}
    assert torch.equal(resize_batch(x, size=size, mode=mode)[0], F.interpolate(x, size=size, mode=mode, **kw))
    if kw: assert torch.equal(resize_batch(x, size=size, mode=mode, antialias=False)[0], F.interpolate(x, size=size, mode=mode))

def test_bytes_are_rounded_not_cut_off():
    x = pictures(2,3,48,64, dtype=torch.uint8)
    for method in ('interpolate','lowpass'):
        exact = resize_batch(x.double(), size=(24,32), method=method)[0].clamp(0,255)
        assert (resize_batch(x, size=(24,32), method=method)[0]-exact).abs().max() <= 0.51

# ---- lowpass

sizes = [(old,new) for old in (8,9,16,21) for new in (1,2,5,6,7,8) if new<=old]

@pytest.mark.parametrize('H,h', sizes)
def test_lowpass_is_the_centre_of_the_spectrum(H, h):
    for W,w in sizes:
        x = pictures(2,3,H,W, seed=H*W+h*w)
        assert (lowpass(x, (h,w)) - by_fft(x, (h,w))).abs().max() < 1e-5

@pytest.mark.parametrize('size', [(112,112),(111,128),(97,50),(223,224)])
def test_lowpass_of_a_large_batch(size):
    x = pictures(2,3,224,224)*2 - 1
    assert (lowpass(x, size) - by_fft(x, size)).abs().max() < 1e-5
    assert (lowpass(x.double(), size) - by_fft(x, size)).abs().max() < 1e-12

@pytest.mark.parametrize('size', [(24,32),(23,31),(24,31),(1,1)])
def test_lowpass_keeps_the_mean_and_low_waves(size):
    x = pictures(2,3,48,64)
    assert torch.allclose(lowpass(x, size).mean((-2,-1)), x.mean((-2,-1)), atol=1e-6)
    def wave(n, k): return torch.cos(2*math.pi*k*torch.arange(n)/n)
    if min(size)>1:
        slow = (wave(48,3)[:,None]*wave(64,5)).expand(1,1,48,64)
        assert torch.allclose(lowpass(slow, size)[0,0], wave(size[0],3)[:,None]*wave(size[1],5), atol=1e-5)
    fast = (wave(48,20)[:,None]*wave(64,30)).expand(1,1,48,64)
    assert lowpass(fast, size).abs().max() < 1e-5

def test_lowpass_of_bytes_stays_in_their_range():
    x = torch.zeros(1,1,48,64, dtype=torch.uint8)
    x[...,24:] = 255 # an edge, whose ripples go below 0 and above 255
    expected = by_fft(x, (24,30))
    assert expected.min() < -1 and expected.max() > 256
    assert (resize_batch(x, size=(24,30), method='lowpass')[0] - expected.clamp(0,255)).abs().max() <= 0.51

def test_lowpass_is_exact_in_every_context():
    "Its matrices are kept; none may carry over the mode in which it was made"
    x = pictures(2,3,30,42).requires_grad_()
    expected = by_fft(x.detach(), (14,22))
    with torch.inference_mode(): lowpass(x, (14,22))
    with torch.autocast('cpu', torch.bfloat16):
        res = lowpass(x, (14,22))
        assert res.dtype==torch.float32 and (res-expected).abs().max() < 1e-5
    res.sum().backward()
    assert torch.isfinite(x.grad).all()

@pytest.mark.parametrize('dtype,eps', [(torch.float16,1e-3), (torch.bfloat16,1e-2)])
def test_lowpass_of_halves_is_computed_in_float32(dtype, eps):
    x = pictures(2,3,48,64, dtype=dtype)
    assert torch.equal(lowpass(x, (24,32)), lowpass(x.float(), (24,32)).to(dtype))
    assert (lowpass(x, (24,32)) - by_fft(x.float(), (24,32))).abs().max() < eps

@pytest.mark.cuda
def test_lowpass_on_the_gpu():
    x = pictures(2,3,224,224)
    assert (lowpass(x.cuda(), (112,96)).cpu() - by_fft(x, (112,96))).abs().max() < 1e-4

# ---- crop

def test_crop_is_one_window_anywhere_and_repeatable():
    x,y,seen = places(49,64),torch.zeros(2,7,8).long(),set() # 1/49*49 is below 1; a target that stays has no say in the place
    for seed in range(300):
        torch.manual_seed(seed)
        xs,_ = resize_batch(x, y, size=(40,60), method='crop', resize_targ=False)
        r,c = window(xs)
        assert torch.equal(xs, x[...,r:r+40,c:c+60])
        seen.add((r,c))
        torch.manual_seed(seed)
        assert torch.equal(resize_batch(x, size=(40,60), method='crop')[0], xs)
    assert {r for r,_ in seen} == {*range(10)} and {c for _,c in seen} == {*range(5)} and len(seen)==50

def test_crop_leaves_other_generators_alone():
    random.seed(0), np.random.seed(0)
    before = random.getstate(),np.random.get_state()[1].tolist()
    resize_batch(places(48,64), size=(40,60), method='crop')
    assert (random.getstate(),np.random.get_state()[1].tolist()) == before

@pytest.mark.parametrize('num,den', [(1,1),(1,2),(1,4),(2,1)])
@pytest.mark.parametrize('cls', [torch.Tensor,TensorMask])
def test_crop_takes_the_same_region_of_the_mask(num, den, cls):
    "Its pixels hold the places they lie at in the image, at any resolution"
    x,hw = places(48,64),(48*num//den,64*num//den)
    y = ((places(*hw)[:,0]*den//num)*64 + places(*hw)[:,1]*den//num).long().as_subclass(cls)
    for seed in range(20):
        torch.manual_seed(seed)
        xs,ys = resize_batch(x, y, method='crop', **half)
        (r,c),mr,mc = window(xs),*divmod(int(ys[0,0,0]), 64)
        assert ys.shape == (2,24*num//den,32*num//den) and ys.dtype==torch.int64 and type(ys) is cls
        assert (mr,mc)==(r,c)
        last = divmod(int(ys[0,-1,-1]), 64)
        assert last == tuple(int(o)-(den//num-1 if den>num else 0) for o in xs[0,:,-1,-1])

@pytest.mark.parametrize('hw', [(36,48),(20,27),(7,5),(49,65)])
def test_crop_of_odd_resolutions_is_off_by_less_than_a_pixel_of_them(hw):
    y = (places(*hw)/torch.tensor(hw)[:,None,None])*torch.tensor([48,64])[:,None,None] # places in the image, as a float target
    for seed in range(50):
        torch.manual_seed(seed)
        xs,ys = resize_batch(places(48,64), y, method='crop', **by_name)
        assert ys.shape[-2:] == tuple(max(1, round(n/2)) for n in hw)
        for a,b,o,n in zip(window(xs), ys[0,:,0,0], (48,64), hw): assert abs(a-float(b)) <= o/n + 1e-3

def test_crop_of_the_full_height():
    xs,ys = resize_batch(places(48,64), places(48,64)[:,0].long(), size=(48,10), method='crop', resize_targ=True)
    assert torch.equal(xs[:,0].long(), ys) and ys.shape==(2,48,10)

def test_points_follow_a_crop():
    "In pixels of the image, a point lies where it lay; outside the window it is beyond -1 or 1, as `PointScaler` has it"
    px = torch.tensor([[0.,0.],[64.,48.],[10.,40.],[33.,5.]]).expand(2,4,2)
    y = TensorPoint(px*2/torch.tensor([64.,48.])-1, img_size=[64,48])
    beyond = 0
    for seed in range(20):
        torch.manual_seed(seed)
        xs,(ps,labels) = resize_batch(places(48,64), (y,torch.arange(2)), size=(20,30), method='crop', resize_targ=True)
        r,c = window(xs)
        there = torch.Tensor(ps+1)*torch.tensor([30.,20.])/2 + torch.tensor([float(c),float(r)])
        assert torch.allclose(there, px, atol=1e-4)
        assert type(ps) is TensorPoint and ps.img_size==[64,48] and ps.dtype==y.dtype and labels.tolist()==[0,1]
        beyond += int((ps.abs()>1).sum())
    assert beyond>0

def test_points_follow_a_crop_as_fastai_crops():
    y = TensorPoint(torch.rand(1,6,2)*2-1, img_size=(64,48))
    xs,ps = resize_batch(places(48,64), y, size=(20,30), method='crop', resize_targ=True)
    r,c = window(xs)
    assert torch.allclose(torch.Tensor(ps[0]), torch.Tensor(y[0].crop_pad((30,20), (c,r), orig_sz=(64,48))), atol=1e-5)

def test_boxes_follow_a_crop_and_are_clipped():
    box = torch.tensor([[4.,6.,40.,30.],[30.,20.,34.,24.],[0.,0.,64.,48.],[60.,44.,64.,48.],[0.,0.,3.,3.]]).expand(2,5,4)
    y = TensorBBox(box*2/torch.tensor([64.,48.,64.,48.])-1, img_size=[64,48])
    labels,gone = TensorMultiCategory(torch.arange(1,11).view(2,5)),0
    for seed in range(20):
        torch.manual_seed(seed)
        xs,(bs,ls) = resize_batch(places(48,64), (y,labels), size=(20,30), method='crop', resize_targ=True)
        r,c = window(xs)
        inside = (box - torch.tensor([c,r,c,r])).clamp(torch.zeros(4), torch.tensor([30.,20.,30.,20.]))
        assert torch.allclose(torch.Tensor(bs+1)*torch.tensor([30.,20.,30.,20.])/2, inside, atol=1e-4)
        assert type(bs) is TensorBBox and bs.shape==(2,5,4) and bs.min()>=-1 and bs.max()<=1 and ls is labels
        area = (inside[0,:,2]-inside[0,:,0])*(inside[0,:,3]-inside[0,:,1])
        kept,kept_labels = clip_remove_empty(bs[0], ls[0])
        assert kept_labels.tolist() == ls[0][TensorBase(area>0)].tolist()
        gone += 5-len(kept)
    assert gone>0

# ---- targets

masks = {
    'int64':            torch.randint(0, 2, (2,48,64))*200,
    'half uint8':       torch.randint(0, 2, (2,24,32), dtype=torch.uint8)*200,
    'bool':             torch.rand(2,48,64)>0.5,
    'TensorMask':       TensorMask(torch.randint(0, 2, (2,48,64))*200),
    'float TensorMask': TensorMask(torch.randint(0, 2, (2,48,64))*200.),
    'double NCHW':      torch.randint(0, 2, (2,1,96,128))*200,
}

@pytest.mark.parametrize('method', methods)
@pytest.mark.parametrize('y', [*masks.values()], ids=[*masks])
def test_masks_follow_and_gain_no_class(method, y):
    ys = resize_batch(pictures(2,3,48,64), y, method=method, **half)[1]
    assert ys.shape[-2:] == (y.shape[-2]//2,y.shape[-1]//2) and ys.shape[:-2]==y.shape[:-2]
    assert ys.dtype==y.dtype and type(ys) is type(y)
    assert {*ys.flatten().tolist()} <= {*y.flatten().tolist()}

@pytest.mark.parametrize('size', [(24,32),(17,50),(5,64)])
def test_masks_are_nearest(size):
    y = torch.randint(0, 9, (2,48,64))
    ys = resize_batch(pictures(2,3,48,64), y, size=size, resize_targ=True)[1]
    assert torch.equal(ys, F.interpolate(y[:,None].double(), size=size, mode='nearest-exact')[:,0].long())

@pytest.mark.parametrize('method', ['interpolate','lowpass'])
@pytest.mark.parametrize('size', [(24,32),(36,48),(40,56)])
def test_a_mask_lies_where_its_image_does(method, size):
    "It has the class of a place at most half a pixel beside that of the image's pixel"
    steps = (torch.arange(48)[:,None]/48 + torch.arange(64)/64)*2*torch.pi   # rows begin one after the other
    wave = torch.sin(steps).expand(2,3,48,64)
    x,y = resize_batch(wave, (wave[:,0]>0).long(), size=size, method=method)
    sure = x[:,0].abs() > .51*(1/48+1/64)*2*torch.pi   # more than half a pixel from any edge
    assert sure.any() and torch.equal((x[:,0]>0)[sure], (y==1)[sure])

@pytest.mark.parametrize('method', methods)
@pytest.mark.parametrize('cls', [torch.Tensor,TensorImage])
def test_float_targets_go_like_the_input(method, cls):
    x = pictures(2,3,48,64)
    xs,ys = resize_batch(x, x.clone().as_subclass(cls), method=method, **half)
    assert torch.equal(xs, torch.Tensor(ys)) and type(ys) is cls
    ys = resize_batch(x, [pictures(2,1,24,32, fmt=torch.channels_last)], method=method, **half)[1]
    assert isinstance(ys, list) and ys[0].shape==(2,1,12,16)

@pytest.mark.parametrize('method', ['interpolate','lowpass'])
def test_points_and_boxes_stay_where_the_whole_image_does(method):
    y = TensorPoint(torch.rand(2,5,2)),TensorBBox(torch.rand(2,5,4))
    ys = resize_batch(pictures(2,3,48,64), y, method=method, **half)[1]
    assert all(a is b for a,b in zip(ys, y))

@pytest.mark.parametrize('method', methods)
def test_tuples_of_images(method):
    "They keep their ratio to the first, and a mask goes with them; what is not an image is left alone, one of 3 dimensions too"
    other,mask = torch.rand(3,48,64),torch.zeros(2,48,64).long()
    (a,(b,c,d)),_ = resize_batch((places(48,64),[places(24,32),other,mask]), scale=0.5, method=method)
    assert a.shape==(2,2,24,32) and b.shape==(2,2,12,16) and c is other and d.shape==(2,24,32)
    if method=='crop': assert window(a)==tuple(2*o for o in window(b))

@pytest.mark.parametrize('method', methods)
@pytest.mark.parametrize('cls', [torch.Tensor,TensorImage])
def test_one_image(method, cls):
    x,y = places(48,64)[0].as_subclass(cls),(places(48,64)[0,0].long(),torch.tensor(7),TensorPoint(torch.zeros(5,2)))
    torch.manual_seed(1)
    xs,ys = resize_batch(x, y, method=method, **half)
    torch.manual_seed(1)
    xb,yb = resize_batch(x[None], tuple(o[None] for o in y), method=method, **half)
    assert type(xs) is cls and xs.shape==(2,24,32) and torch.equal(xs, xb[0])
    assert [o.shape for o in ys]==[(24,32),(),(5,2)] and all(torch.equal(a, b[0]) for a,b in zip(ys, yb))

@pytest.mark.parametrize('method', methods)
def test_small_ends(method):
    "Down to one pixel, an empty batch, and a share that leaves less than one"
    x,y = pictures(2,3,5,4),TensorPoint(torch.zeros(2,5,2))
    assert resize_batch(x, size=1, method=method)[0].shape == (2,3,1,1)
    xs,ys = resize_batch(x, y, scale=0.01, method=method, resize_targ=True)
    assert xs.shape == (2,3,1,1) and torch.isfinite(ys).all()
    assert resize_batch(x[:0], size=2, method=method)[0].shape == (0,3,2,2)

# ---- what is refused

imgs = pictures(2,3,48,64)

@pytest.mark.parametrize('x,kwargs,words', [
    (imgs, dict(), '`size`=None and `scale`=None: expected one of the two'),
    (imgs, dict(size=24, scale=0.5), '`size`=24 and `scale`=0.5: expected one of the two'),
    (imgs, dict(size=24, method='shrink'), "`method`='shrink': expected one of interpolate, crop, lowpass"),
    (imgs, dict(size=24, method=None), '`method`=None: expected one of'),
    (imgs, dict(size=24, mode='blurry'), "`mode`='blurry': expected one of nearest"),
    (imgs, dict(size=0), '`size`=0: expected a positive int'),
    (imgs, dict(size=(24,)), '`size`=(24,): expected a positive int or a pair'),
    (imgs, dict(scale=0), '`scale`=0: expected a fraction'),
    (imgs, dict(scale=-0.5), '`scale`=-0.5: expected a fraction'),
    (imgs, dict(scale=float('nan')), '`scale`=nan: expected a fraction'),
    (imgs, dict(size=(49,64), method='crop'), "`size`=(49, 64): expected at most (48, 64), the size of the images, for `method`='crop'"),
    (imgs, dict(size=(24,65), method='crop'), '`size`=(24, 65): expected at most (48, 64)'),
    (imgs, dict(size=96, method='lowpass'), "`size`=(96, 96): expected at most (48, 64), the size of the images, for `method`='lowpass'"),
    (imgs[0], dict(size=96, method='crop'), '`size`=(96, 96): expected at most (48, 64)'),
    (imgs[0,0], dict(size=24), '`x`=Tensor (48, 64) torch.float32: no image among the inputs'),
    (imgs[0,0,0], dict(size=24), '`x`=Tensor (64,) torch.float32: no image among the inputs'),
    (torch.tensor(1.), dict(size=24), '`x`=Tensor () torch.float32: no image among the inputs'),
    (imgs.long(), dict(size=24), '`x`=Tensor (2, 3, 48, 64) torch.int64: no image among the inputs'),
    (imgs[None,None], dict(size=24), '`x`=Tensor (1, 1, 2, 3, 48, 64) torch.float32: no image among the inputs'),
    ((imgs[0],imgs[0,0]), dict(size=24), '`x`=tuple: no image among the inputs'),
    ('a picture', dict(size=24), '`x`=str: no image among the inputs')])
def test_refused(x, kwargs, words):
    with pytest.raises(ValueError) as e: resize_batch(x, **kwargs)
    assert words in str(e.value)

# ---- whole numbers

@pytest.mark.parametrize('dtype', [torch.int16,torch.int32,torch.int64])
@pytest.mark.parametrize('mode', ['bilinear','bicubic','area','max'])
def test_a_constant_map_of_whole_numbers_keeps_its_value(dtype, mode):
    x,depth = pictures(2,3,64,64),torch.full((2,1,64,64), 1000, dtype=dtype)
    for size in (24,40,48):
        _,y = resize_batch(x, depth, size=size, resize_targ=mode)
        assert y.dtype==dtype and y.shape[-2:]==(size,size) and y.unique().tolist()==[1000]

def test_points_are_cropped_with_their_image():
    x,at = places(64,64),torch.tensor([[[20.,40.]],[[20.,40.]]])   # x, y
    for _ in range(5):
        xs,ys = resize_batch(x, TensorPoint(at/32-1), size=32, method='crop')
        top,left = window(xs)
        assert torch.allclose((ys.as_subclass(Tensor)+1)*16, at-torch.tensor([left,top]))

def test_a_share_is_the_same_as_in_a_schedule():
    "0.29*100 is 28.999999999999996"
    for share in (.29,.57,.58): assert {*resize_batch(torch.rand(1,3,100,100), scale=share)[0].shape[-2:]}=={*Growth(share).initial((100,100))}=={round(100*share)}
