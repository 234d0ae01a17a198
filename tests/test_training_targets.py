"Which tensors follow the images where batch transforms or items make the size: as with an extra resize"
from fastresize.preflight import SizeError
from util import *

def sized_masks(size): return lambda i: PILMask.create(np.full(size, i%2, dtype=np.uint8))

class LikeFirst(nn.Module):
    "Predicts a map of the size of its images"
    def __init__(self): super().__init__(); self.conv = nn.Conv2d(3,2,3,padding=1)
    def forward(self, *xs): return self.conv(xs[0])

def sizes_of_targets(size, *tfms, **kwargs):
    learn = learner(make_dls(*tfms, y=MaskBlock(codes=range(2)), get_y=sized_masks(size)), ProgressiveResize(increase_by=16, **kwargs), model=LikeFirst(),
                    loss_func=lambda p,y: p.mean())
    learn.fit(4)
    assert dict.fromkeys(learn.seen.train)==dict.fromkeys(due(32, by=16))
    return [s for s,_ in dict.fromkeys(learn.seen.targs)]

makers = dict(steered=(aug_transforms, {}), items=(list, dict(resize_items=True)), extra=(aug_transforms, dict(add_resize=True)))

@pytest.mark.parametrize('maker', makers)
@pytest.mark.filterwarnings('ignore:.*resize_items.*after loading')
def test_a_target_that_is_not_resized_keeps_its_size(maker):
    tfms,kwargs = makers[maker]
    assert sizes_of_targets((64,64), *tfms(), **kwargs)==[32,48,64]
    assert sizes_of_targets((64,64), *tfms(), resize_targ=False, **kwargs)==[64]
    assert sizes_of_targets((64,64), *tfms(), resize_targ={1: False}, **kwargs)==[64]
    assert sizes_of_targets((64,64), *tfms(), resize_targ='nearest', **kwargs)==[32,48,64]
    assert sizes_of_targets((24,24), *tfms(), **kwargs)==[24]   # a coarse grid

@pytest.mark.parametrize('maker', makers)
@pytest.mark.filterwarnings('ignore:.*resize_items.*after loading')
def test_only_the_named_image_is_resized(maker):
    tfms,kwargs = makers[maker]
    block = DataBlock((ImageBlock,ImageBlock,CategoryBlock), n_inp=2, get_items=list, getters=[picture,partial(picture, size=(100,100)),lambda i: i%2],
                      splitter=IndexSplitter(range(64,80)), batch_tfms=tfms())
    seen = []
    class SeesSecond(Callback):
        def before_batch(self): seen.append((self.xb[0].shape[-1],self.xb[1].shape[-1]))
    learn = Learner(block.dataloaders(range(80), bs=8, num_workers=0, device='cpu'), LikeFirst(), loss_func=lambda p,y: p.mean(),
                    cbs=[ProgressiveResize(increase_by=16, pictures=0, **kwargs),SeesSecond()])
    with learn.no_bar(), learn.no_logging(): learn.fit(4)
    assert {*seen}=={(32,100),(48,100),(64,100)}

class Fixed(nn.Module):
    def __init__(self): super().__init__(); self.conv = nn.Conv2d(3,2,3,padding=1)
    def forward(self, x): return F.interpolate(self.conv(x), size=(64,64))

@pytest.mark.parametrize('maker', ['steered','items'])
@pytest.mark.filterwarnings('ignore:.*resize_items.*after loading')
def test_a_loss_that_needs_targets_at_full_size_is_refused_with_the_argument_that_helps(maker):
    tfms,kwargs = makers[maker]
    def train(**more):
        dls = make_dls(*tfms(), y=MaskBlock(codes=range(2)), get_y=sized_masks((64,64)))
        learn = learner(dls, ProgressiveResize(increase_by=16, **kwargs, **more), model=Fixed(), loss_func=CrossEntropyLossFlat(axis=1))
        try: learn.fit(4)
        finally: assert learn.seen.steps in (0,32)
        return learn.seen.steps
    with pytest.raises(SizeError, match='the loss accepts targets only at full size.*pass `resize_targ=False`'): train()
    assert train(resize_targ=False)==32

def test_images_that_happen_to_have_a_scheduled_size_keep_it_at_full_size():
    sizes = (64,48,96,32)
    dls = DataBlock((ImageBlock,CategoryBlock), get_items=list,
        getters=[lambda i: picture(i, (64,64) if i<64 else (sizes[i%4],)*2),lambda i: i%2], splitter=IndexSplitter(range(64,80)),
        batch_tfms=aug_transforms()).dataloaders(range(80), bs=8, val_bs=1, num_workers=0, device='cpu')
    learn = learner(dls, ProgressiveResize(increase_by=8))
    learn.fit(4)
    assert learn.seen.valid[-16:]==[(s,s) for s in sizes]*4

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(64): yield picture(i),sized_masks((64,64))(i)

@pytest.mark.parametrize('resize_targ,sizes', [(None,[32,48,64]), (False,[64]), ('nearest',[32,48,64])])
def test_a_stream_of_which_no_items_can_be_read(resize_targ, sizes, capsys):
    dl = TfmdDL(Stream(), bs=8, num_workers=0, n=64, after_item=ToTensor(), after_batch=[IntToFloatTensor(),*aug_transforms(size=64)], device='cpu')
    learn = learner(DataLoaders(dl, dl), ProgressiveResize(increase_by=16, resize_targ=resize_targ, resize_valid=False), model=LikeFirst(), loss_func=lambda p,y: p.mean())
    learn.fit(4, cbs=[])
    targs = [s for s,_ in dict.fromkeys(learn.seen.targs)]
    assert learn.seen.train==due(32, by=16) and sorted({*targs})==sizes
    assert ('extra resize' in capsys.readouterr().out)==(resize_targ is not None)
