"What a user needs, for `from fastresize.all import *`"
from .schedule import IncreaseMode, SizeSchedule, size_schedule
from .resize import resize_batch
from .progressive import ProgressiveResize
from .throughput import ThroughputMonitor
from .preview import show_sizes # and `Learner.preview_resize`
from .demo_data import demo_data

__all__ = ['IncreaseMode', 'SizeSchedule', 'size_schedule', 'resize_batch', 'ProgressiveResize', 'ThroughputMonitor', 'show_sizes', 'demo_data']
