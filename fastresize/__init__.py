"Progressive resizing for fastai: what `fastresize.all` gives, imported when it is asked for"
from importlib import import_module

_home = dict(ProgressiveResize='progressive', IncreaseMode='schedule', SizeSchedule='schedule', Growth='schedule', size_schedule='schedule',
             resize_batch='resize', sized_loader='loops', ThroughputMonitor='throughput', show_sizes='preview', demo_data='demo',
             Stage='recipes', GrowWithSize='recipes', DecoderResize='recipes')
__all__ = list(_home)

def __getattr__(name):
    if name in _home: return getattr(import_module(f'.{_home[name]}', __name__), name)
    if name=='__version__':
        from importlib.metadata import version
        return version('fastresize')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

def __dir__(): return [*globals(), *_home, '__version__']
