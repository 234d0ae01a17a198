"A training that is prolonged after it came to full size"
from util import *

def test_shrinking_again_is_said():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    learn.fit(4)
    with pytest.warns(UserWarning, match=r'`start_epoch`=4: an earlier fit reached \[64, 64\], but this one continues with smaller images, \[40, 40\]'): learn.fit(8, start_epoch=4)

def test_what_an_earlier_training_reached_is_forgotten():
    "The one that is resumed was interrupted before it came to full size"
    class Interrupted(Callback):
        def after_epoch(self): raise KeyboardInterrupt
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8))
    learn.fit(4)
    with pytest.raises(KeyboardInterrupt): learn.fit(4, cbs=Interrupted())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        learn.fit(4, start_epoch=1)

def test_going_on_as_planned_is_not():
    learn = learner(make_dls(*aug_transforms()), ProgressiveResize(increase_by=8, start=1, finish=3))
    learn.fit(4)
    learn.seen.clear()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        learn.fit(6, start_epoch=4)
    assert {*learn.seen.train}=={(64,64)}
