"Arguments that come from config files"
from collections import UserList
import pytest
from util import *
from fastresize.check import as_size
from fastresize.batch import BatchSpec

def hydra(o): return pytest.importorskip('omegaconf').OmegaConf.create(o)

@pytest.mark.parametrize('made', [hydra, UserList])
def test_every_sequence_is_a_list(made):
    "Hydra's lists are no `list`"
    assert as_size(made([32,40]))==(32,40)
    cb = ProgressiveResize(made([32,40]), final_size=made([64,80]), increase_by=16, pictures=made([0]), verbose=False)
    learn = learner(make_dls(*aug_transforms(), size=(64,80)), cb)
    learn.fit(4)
    assert learn.seen.train[0]==(32,40) and learn.seen.train[-1]==(64,80)
    s = SizeSchedule(sizes=made([[32,40],[64,80]]), pcts=made([.5]))
    assert s==SizeSchedule(((32,40),(64,80)), (.5,)) and SizeSchedule.from_compute(made([32,64]), made([.2,.8])).sizes==((32,32),(64,64))
    x = torch.zeros(2,3,8,8)
    for b,names in (((x,torch.zeros(2,1,8,8)),[0]), (dict(a=x, b=torch.zeros(2,1,8,8)),['a'])): assert BatchSpec(b, pictures=made(names)).images(b)==[x]
    assert resize_batch(x, size=made([4,6]))[0].shape[-2:]==(4,6)

@pytest.mark.slow
@pytest.mark.parametrize('made', [hydra, UserList])
def test_every_sequence_is_a_list_for_recipes(made):
    learn = learner(make_dls())
    learn.fit_stages(made([made([32,8,1]),made([64,8,1])]), lambda size, bs: make_dls(item_tfms=Resize(size), bs=bs))
    assert [h for h,_ in learn.seen.train]==[32]*8 + [64]*8
    class Drop(Callback):
        order = 100
        def before_batch(self):
            if self.training: found.append(self.model[3].p)
    found,cb = [],ProgressiveResize(increase_by=8, verbose=False)
    learn = learner(make_dls(*aug_transforms()), cb, GrowWithSize({(nn.Dropout,'p'): made([.1,.5])}), Drop())
    learn.fit(4)
    assert found==pytest.approx([.1 + .4*(h-32)/32 for h,_ in learn.seen.train])

@pytest.mark.parametrize('bad', ['64', b'@@', {48,64}, [48,64,3], [48], [48.,64], [0,64], UserList(['48','64'])])
def test_no_pair(bad):
    with pytest.raises(ValueError, match='`initial_size`=.*expected'): ProgressiveResize(bad)
