"A few items are read without a trace: files stay open, generators and transforms stay as they are"
import io, zipfile
from fastresize.probe import scratch_copy, some_items
from util import *

@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path/'pictures.zip', 'w') as z:
        for i in range(40):
            picture(i).save(file := io.BytesIO(), 'PNG')
            z.writestr(f'{i}.png', file.getvalue())
    return tmp_path/'pictures.zip'

class Archived:
    def __init__(self, path, n): self.zip,self.n = zipfile.ZipFile(path),n
    def __len__(self): return self.n
    def __getitem__(self, i): return image2tensor(PILImage.create(io.BytesIO(self.zip.read(f'{i}.png')))).float()/255,i%2

class Closes(Archived):
    def __del__(self): self.zip.close()

@pytest.mark.parametrize('cls', [Archived,Closes])
def test_files_that_a_dataset_closes_when_it_ends_stay_open(archive, cls):
    dls = DataLoaders.from_dsets(cls(archive, 32), cls(archive, 8), bs=8, num_workers=0, device='cpu')
    learn = learner(dls, ProgressiveResize(increase_by=8))
    learn.fit(4)
    assert learn.seen.train==due(16)

def test_a_copy_of_what_closes_files_is_of_its_class():
    class Handle:
        closed = 0
        def __init__(self): self.n = 0
        def __del__(self): Handle.closed += 1
    orig = Handle()
    copied = scratch_copy(orig)
    copied.n = 1
    assert isinstance(copied, Handle) and copied is not orig and orig.n==0
    del copied
    assert not Handle.closed

rng = np.random.default_rng(0)
def drawn(rng): return PILImage.create(rng.integers(0, 255, (64,64,3), dtype=np.uint8))
def of_a_global(i): return drawn(rng)
def of_a_closure():
    g = np.random.default_rng(0)
    return g,lambda i: drawn(g)

class OfATransform(Transform):
    def __init__(self): self.rng = np.random.default_rng(0)
    def encodes(self, i:int): return drawn(self.rng)

@pytest.mark.parametrize('kind', ['global','closure','transform'])
def test_generators_that_items_draw_from_are_not_advanced(kind):
    g,get_x = (rng,of_a_global) if kind=='global' else of_a_closure()
    x = ImageBlock
    if kind=='transform':
        f = OfATransform()
        x,g,get_x = TransformBlock(type_tfms=f, item_tfms=ToTensor, batch_tfms=IntToFloatTensor),f.rng,noop
    dls = DataBlock((x,CategoryBlock), get_items=list, getters=[get_x,lambda i: i%2]).dataloaders(range(40), bs=8, num_workers=0, device='cpu')
    before = g.bit_generator.state
    assert len(some_items(dls.train, 4)[0])==4
    assert g.bit_generator.state==before

class Counts(Transform):
    split_idx,n = 0,0
    def encodes(self, x:TensorImage):
        self.n += 1
        return x

class CountsBatches:
    n = 0
    def __call__(self, items):
        self.n += 1
        return torch.utils.data.default_collate(items)

def test_transforms_and_collate_functions_count_only_what_is_trained_on():
    counts = Counts()
    learn = learner(make_dls(counts, *aug_transforms()), ProgressiveResize(increase_by=8))
    before = counts.n
    learn.fit(1)
    assert counts.n-before==8
    collate = CountsBatches()
    learn = learner(torch_dls(collate_fn=collate), ProgressiveResize(increase_by=8))
    learn.fit(1)
    assert collate.n==8+2

def test_a_copy_of_what_closes_files_can_be_pickled(archive):
    import pickle
    copied = scratch_copy(Closes(archive, 8))
    copied.zip = None
    assert type(pickle.loads(pickle.dumps(copied))) is Closes

class Named:
    "Cannot be subclassed without an argument"
    closed = False
    def __init_subclass__(cls, name): pass
    def __del__(self): Named.closed = True

def test_what_cannot_be_copied_without_closing_is_not_copied():
    orig = Named()
    assert scratch_copy(orig) is orig and not Named.closed

class OfADefault(torch.utils.data.Dataset):
    def __len__(self): return 40
    def __getitem__(self, i): return torch.tensor([float(o.random()) for o in (rng,)]*3).view(3,1,1).expand(3,64,64),i%2

def test_a_global_generator_of_a_dataset_is_not_advanced():
    before = rng.bit_generator.state
    assert len(some_items(torch.utils.data.DataLoader(OfADefault(), 8), 4)[0])==4 and rng.bit_generator.state==before

class Together:
    def __init__(self, items): self.x = torch.stack([x for x,_ in items])

def test_a_class_as_collate_function(): assert len(some_items(torch.utils.data.DataLoader([(torch.rand(3,8,8),1)]*8, 4, collate_fn=Together), 4).x)==4

class Strict:
    "Takes a question for an attribute that it does not have for an error that no handler catches, as `pytest.mark` does"
    def __getattr__(self, k):
        if k.startswith('__'): raise AttributeError(k)
        raise KeyboardInterrupt(f'asked for {k}')

def test_objects_are_not_asked_for_attributes_of_other_types():
    class Items(torch.utils.data.Dataset):
        def __init__(self): self.strict = Strict()
        def __len__(self): return 8
        def __getitem__(self, i): return torch.rand(3,8,8),i
    assert len(some_items(torch.utils.data.DataLoader(Items(), 4), 4)[0])==4
