"Progressive resizing for fastai: `ProgressiveResize` and `IncreaseMode`, imported when they are asked for"
from importlib import import_module
from importlib.metadata import version

_home = {'ProgressiveResize': 'progressive', 'IncreaseMode': 'schedule'}
__all__ = list(_home)

def __getattr__(name):
    if name in _home: return getattr(import_module(f'.{_home[name]}', __name__), name)
    if name=='__version__': return version('fastresize')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

def __dir__(): return [*globals(), *_home, '__version__']
