"Two hundred fits in one process"
import gc, os
from util import *

def resident():
    "MiB that this process has in memory; 0 where there is no `/proc`"
    if not os.path.exists('/proc/self/statm'): return 0
    pages = int(open('/proc/self/statm').read().split()[1])
    return pages*os.sysconf('SC_PAGE_SIZE')/2**20

@pytest.mark.slow
def test_nothing_piles_up():
    dls = make_dls(*aug_transforms(), n=20, size=(32,32))
    plain,learn = learner(dls),learner(dls)
    plain.fit(1)
    for i in range(200):
        learn.fit(1, cbs=ProgressiveResize(increase_by=8, verbose=False))
        learn.seen.clear()
        if i==20: gc.collect(); before = resident()
    gc.collect()
    assert resident()-before < 20
    assert [type(c) for c in learn.cbs] == [type(c) for c in plain.cbs]
    assert set(vars(learn)) == set(vars(plain))
    assert [set(vars(dl)) for dl in dls.loaders] == [set(vars(dl)) for dl in plain.dls.loaders]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in learn.model.modules())
    assert not any(p._backward_hooks for p in learn.model.parameters())
    assert [f.size for f in dls.train.after_batch.fs if hasattr(f, 'size')] == [None]
