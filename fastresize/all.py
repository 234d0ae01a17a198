"What a user needs, for `from fastresize.all import *`; `Learner.preview_resize` and the recipes come with it"
import fastresize
from . import preview, recipes

__all__ = fastresize.__all__
globals().update({name: getattr(fastresize, name) for name in __all__})
