"The schedule on thousands of random arguments"
import math, re
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from fastresize.schedule import IncreaseMode, SizeSchedule, size_schedule

many = settings(max_examples=2_500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
fraction = st.floats(0, 1)
side = st.integers(2, 600)

@st.composite
def arguments(draw):
    final = draw(st.one_of(side, st.tuples(side, side)))
    hw = (final,final) if isinstance(final, int) else final
    start,finish = sorted([draw(fraction), draw(fraction)])
    return dict(final_size=final, n_epoch=draw(st.integers(1,200)), start=start, finish=finish, increase_by=draw(st.integers(1,200)),
                initial_size=draw(st.one_of(st.floats(0.01,0.99), st.integers(1,min(hw)))),
                increase_mode=draw(st.sampled_from(['batch','epoch'])), multiple_of=draw(st.sampled_from([1,1,2,16,32])))

@pytest.mark.slow
@many
@given(arguments(), st.integers(1,50))
def test_schedule(args, per_epoch):
    try: s = size_schedule(**args)
    except ValueError as e:
        assert '`' in str(e) and 'expected' in str(e)
        return
    final = (args['final_size'],)*2 if isinstance(args['final_size'], int) else args['final_size']
    n,m = args['n_epoch'],args['multiple_of']
    assert s.final == final and s.size_at(1) == final                                # ends at exactly final
    assert s.size_at(0) == s.initial or s.pcts[0]<1e-8                               # starts at initial
    for a,b in zip(s.sizes, s.sizes[1:]): assert a[0]<=b[0] and a[1]<=b[1]           # never shrinks
    for h,w in s.sizes: assert 0<h<=final[0] and 0<w<=final[1]                       # within bounds
    for h,w in s.sizes[:-1]: assert all(x%m==0 or x==f for x,f in zip((h,w),final))  # multiples before the last
    if not s.pcts: return
    finish = args['finish']*n
    if args['increase_mode']=='batch':
        assert math.isclose(s.pcts[-1], args['finish'], abs_tol=1e-9) and s.pcts[0]>=args['start']-1e-9
        gaps = [b-a for a,b in zip(s.pcts, s.pcts[1:])]
        assert all(math.isclose(g, gaps[0], abs_tol=1e-9) for g in gaps)
    else:
        epochs = [p*n for p in s.pcts]
        assert all(math.isclose(e, round(e), abs_tol=1e-6) for e in epochs)
        assert round(epochs[-1]) == math.floor(finish+1e-9)
        assert len({round(b-a) for a,b in zip(epochs, epochs[1:])}) <= 1             # a whole number of epochs apart
    N = n*per_epoch
    for pct,size in s.steps:                                                         # growth at the promised batch, not before
        i = math.ceil((pct-1e-9)*N)
        assert s.size_at(i/N) >= size
        if i>0 and pct>(i-1)/N + 2e-9: assert s.size_at((i-1)/N) < size or size==s.size_at((i-1)/N) and s.sizes.count(size)>1

# ---- in words

@pytest.mark.parametrize('sizes,pcts,words', [
    ((32,48,64), (.5,.75), 'by 16 pixels every 5 epochs for 2 resizes. Starting at epoch 10'),
    ((32,48,64,70), (.5,.6,.7), 'by 16 pixels (the last by 6) every 2 epochs for 3 resizes'),
    ((32,35,41,51,64), (.5,.55,.6,.65), 'by 3 to 13 pixels every 1 epoch for 4 resizes'),
    ((32,48,64,80), (.3,.4,.75), 'by 16 pixels every 2 to 7 epochs for 3 resizes. Starting at epoch 6 and finishing at epoch 15'),
    ((32,35,64,80), (.5,.55,.56), 'by 3 to 29 pixels every 0.2 to 1 epoch for 3 resizes'),
    (((24,32),(36,48),(48,64)), (.5,.75), 'by [12, 16] pixels every 5 epochs for 2 resizes'),
    (((24,32),(24,40),(48,64),(48,72)), (.5,.6,.7), 'by [0, 8] to [24, 24] pixels every 2 epochs for 3 resizes')])
def test_the_sentence_says_what_is_uneven(sizes, pcts, words):
    assert f' {words}' in SizeSchedule(sizes, pcts).describe(20)

@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1,40), st.integers(1,100)), min_size=3, max_size=9), st.integers(1,100))
def test_no_step_is_outside_of_what_the_sentence_says(steps, n_epoch):
    "Neither the pixels of a resize nor the epochs between two"
    by,distances = [b for b,_ in steps],[d for _,d in steps][1:]
    at = [sum(d for _,d in steps[:k+1]) for k in range(len(steps))]
    s = SizeSchedule([32+sum(by[:k]) for k in range(len(by)+1)], [a/at[-1] for a in at])
    found = re.search(r'by (\d+)(?: to (\d+))? pixels(?: \(the last by (\d+)\))? every (\S+)(?: to (\S+))? epochs? for', s.describe(n_epoch))
    least,most,last,short,long = [o and float(o) for o in found.groups()]
    if last is None: assert (least,most or least)==(min(by),max(by))
    else: assert {*by[:-1]}=={least} and most is None and by[-1]==last
    assert [short,long or short]==pytest.approx([f(distances)/at[-1]*n_epoch for f in (min,max)], rel=2e-3)

anything = st.one_of(st.none(), st.booleans(), st.integers(-5,700), st.floats(), st.text(max_size=5),
                     st.tuples(st.integers(-1,300), st.integers(-1,300)), st.lists(st.integers(0,9), max_size=3))
optional = 'initial_size','start','finish','increase_by','increase_mode','multiple_of'
of_the_callback = 'initial_size','start','finish','increase_by','increase_mode','resize_mode','final_size','preallocate_bs'

@pytest.mark.slow
@many
@given(st.fixed_dictionaries(dict(final_size=st.one_of(side, anything), n_epoch=st.one_of(st.integers(1,50), anything)),
                             optional={k: anything for k in optional}))
def test_anything_gives_a_schedule_or_a_value_error(args):
    try: s = size_schedule(**args)
    except ValueError as e: assert '`' in str(e)
    else:
        assert isinstance(s, SizeSchedule)
        assert s.describe(args['n_epoch']) and s._repr_markdown_() and 0<s.cost<=1

@pytest.mark.slow
@settings(max_examples=2000, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(of_the_callback), anything, max_size=4))
def test_the_callback_too(kwargs):
    from fastresize import ProgressiveResize
    try: ProgressiveResize(**kwargs)
    except ValueError as e: assert '`' in str(e)

@many
@given(st.integers(2,400), st.integers(2,64), st.integers(1,8), st.integers(1,6), st.booleans())
def test_larger_batches_leave_no_single_image_that_the_loader_would_not(n, bs, times, n_epoch, drop_last):
    s = size_schedule(64, n_epoch, increase_by=8)
    for e in range(n_epoch):
        counts = [k for _,k in s.batches_of(e, n_epoch, n, bs, bs*times, drop_last)]
        assert (1 in counts)==(n%bs==1 and not drop_last and 1 in counts) and max(counts, default=0)<=bs*times
        if not drop_last: assert sum(counts)==n

def test_a_size_beyond_the_last_one_is_full_size_throughout():
    s = size_schedule(64, 4)
    assert {*s.at_least((80,40)).sizes}=={(64,64)} and s.at_least((40,40)).initial==(40,40) and s.at_least((64,40)).initial==(64,40)

@pytest.mark.parametrize('name,make', [('sizes', lambda: SizeSchedule(64)), ('pcts', lambda: SizeSchedule((32,64), .5)), ('sizes', lambda: SizeSchedule(('x',))),
                                       ('multiple_of', lambda: size_schedule(64, 4, multiple_of=64))])
def test_what_is_wrong_is_named(name, make):
    with pytest.raises(ValueError, match=f'^`{name}`='): make()

def test_larger_batches_of_a_loader_with_single_images():
    assert [k for _,k in size_schedule(64, 4).batches_of(3, 4, 6, 1, 4)]==[1]*6

def test_any_iterable_makes_a_schedule():
    s = SizeSchedule((32,48,64), (.3,.6))
    assert SizeSchedule(np.array([32,48,64]), np.array([.3,.6]))==s==SizeSchedule((o for o in (32,48,64)), iter((.3,.6)))

def test_a_start_of_zero_begins_with_the_initial_size():
    s = size_schedule(64, 4, start=0., finish=.5, increase_by=16)
    assert [s.sizes_of(e, 4, 4) for e in range(4)]==[[(32,32)]*4, [(48,48)]*4, [(64,64)]*4, [(64,64)]*4]

@pytest.mark.parametrize('pcts', [('a',), (None,)])
def test_fractions_that_are_no_numbers_are_refused(pcts):
    with pytest.raises(ValueError, match='`pcts`=.*fractions of training'): SizeSchedule((32,64), pcts)
