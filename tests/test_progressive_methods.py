"Methods, rectangles, schedules and models, in real fits"
import pytest
from util import *

@pytest.mark.parametrize('method', ['crop','lowpass'])
@pytest.mark.parametrize('make', [lambda: make_dls(*aug_transforms()), torch_dls])
def test_methods_add_a_resize_and_say_so(method, make, capsys):
    dls = make()
    learn = learner(dls, ProgressiveResize(increase_by=8, method=method))
    learn.fit(4)
    assert learn.seen.train == due(32)
    said = f'Each batch gets an extra resize ({method}) after its transforms.'
    assert (said in capsys.readouterr().out) == hasattr(dls.train, 'after_batch')

def test_crop_takes_masks_along():
    learn = mask_learner(seg_dls(*aug_transforms()), ProgressiveResize(increase_by=8, method='crop', resize_targ=True))
    learn.fit(4)
    assert learn.seen.train == due(32)
    assert learn.seen.targs[:8] == [(32,32)]*8

def test_unknown_method():
    with pytest.raises(ValueError, match="`method`='zoom': expected one of interpolate, crop, lowpass"): ProgressiveResize(method='zoom')

def test_rectangle_in_multiples():
    learn = learner(make_dls(*aug_transforms(), size=(64,96)), ProgressiveResize(increase_by=4, multiple_of=16))
    learn.fit(4)
    sizes = list(dict.fromkeys(learn.seen.train))
    assert sizes[0] == (32,48) and sizes[-1] == (64,96) and len(sizes)==4
    assert all(h%16==0 and w%16==0 for h,w in sizes)

def test_by_composers_schedule():
    s = SizeSchedule.from_fractions(size_increment=8, final_size=64)
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=s))
    learn.fit(4)
    assert learn.seen.train == [s.size_at(i/32) for i in range(32)]
    assert learn.progressive_resize.schedule is s
    assert len(set(learn.seen.train)) == 5

def test_a_schedule_of_ones_own():
    s = SizeSchedule((24,48,64), (0.25,0.5))
    for make in (lambda: make_dls(*aug_transforms()), torch_dls):
        learn = learner(make(), ProgressiveResize(schedule=s))
        learn.fit(4)
        assert learn.seen.train == [(24,24)]*8 + [(48,48)]*8 + [(64,64)]*16

def test_schedule_of_another_final_size_wins_during_the_fit():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(schedule=SizeSchedule((24,48), (0.5,))))
    learn.fit(2)
    assert learn.seen.train == [(24,24)]*8 + [(48,48)]*8
    assert tuple(learn.dls.one_batch()[0].shape[-2:]) == (64,64)

@pytest.mark.parametrize('kwargs,words', [
    (dict(initial_scale=2.),  '`initial_scale`=2.0'),
    (dict(delay_fraction=.9), '`delay_fraction`=0.9: expected at most 1 - `finetune_fraction`=0.2'),
    (dict(size_increment=0),  '`size_increment`=0'),
    (dict(final_size=-1),     '`final_size`=-1')])
def test_wrong_fractions(kwargs, words):
    with pytest.raises(ValueError) as e: SizeSchedule.from_fractions(**kwargs)
    assert words in str(e.value)

def test_torchvision_v2_transforms():
    from torchvision.transforms import v2
    class Pics(torch.utils.data.Dataset):
        tfm = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.Resize((64,64)),
                          v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5]*3, [0.25]*3)])
        def __len__(self): return 64
        def __getitem__(self, i): return self.tfm(picture(i, (80,80))),i%2
    dls = DataLoaders(*(torch.utils.data.DataLoader(Pics(), batch_size=8) for _ in range(2)))
    learn = learner(dls, ProgressiveResize(increase_by=8))
    learn.fit(4)
    assert learn.seen.train == due(32)

def test_a_tuple_of_images_and_a_number():
    class Items(torch.utils.data.Dataset):
        def __len__(self): return 32
        def __getitem__(self, i): return (torch.rand(3,64,64),torch.rand(1,64,64),torch.rand(5)),i%2
    got = []
    class Model(nn.Module):
        def __init__(self): super().__init__(); self.m = small_model()
        def forward(self, xs):
            if torch.is_grad_enabled(): got.append([tuple(x.shape[1:]) for x in xs])
            return self.m(xs[0]) + xs[2][:,:2]
    dls = DataLoaders(*(torch.utils.data.DataLoader(Items(), batch_size=8) for _ in range(2)))
    learn = learner(dls, ProgressiveResize(increase_by=16, preallocate=False), model=Model())
    learn.remove_cb(learn.seen)
    learn.fit(4)
    assert got == [[(3,*s),(1,*s),(5,)] for s in due(16, by=16)]

def test_timm_vit_and_convnext():
    import timm
    dls = torch_dls(n=20, bs=4)
    vit = dict(img_size=64, patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=2)
    learn = learner(dls, ProgressiveResize(increase_by=16), model=timm.models.VisionTransformer(dynamic_img_size=True, **vit))
    learn.fit(4)
    assert learn.seen.train == due(16, by=16)
    learn = learner(dls, ProgressiveResize(increase_by=16), model=timm.models.VisionTransformer(**vit))
    with pytest.raises(ValueError, match=r'images of \[32, 32\].*patch_embed.*dynamic_img_size=True'): learn.fit(4)
    learn = learner(dls, ProgressiveResize(increase_by=16), model=timm.models.ConvNeXt(depths=(1,1,1,1), dims=(4,8,8,8), num_classes=2))
    learn.fit(4)
    assert learn.seen.train == due(16, by=16)
