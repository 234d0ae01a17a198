"""The figure on the front page: `python docs/headline.py`

A photograph at the sizes of the schedule, the schedule, and time against accuracy of every training in
`results/2-cpu-cores-amd-epyc-all-flowers-2026-11-20.json` and, for seven epochs at full size, `...-7-epochs-2026-11-20.json`."""
import json
from pathlib import Path

import matplotlib.pyplot as plt
from fastcore.script import call_parse
from matplotlib.gridspec import GridSpec
from sklearn.datasets import load_sample_image

from fastresize.resize import resize_batch
from fastresize.schedule import size_schedule
from torch import from_numpy

root = Path(__file__).resolve().parent.parent
results = root/'benchmarks'/'results'
shown = { # mode in the file: label, color, marker
    'full': ('full size, 4 epochs', '#777777', 'o'), 'batch': ('Batch mode, 4 epochs', '#0072b2', 'o'),
    'epoch': ('Epoch mode, 4 epochs', '#e69f00', 's'),
    'equal time': ('Batch mode, 7 epochs', '#0072b2', 'D'), 'full 7': ('full size, 7 epochs', '#777777', 'D')}

def runs(name): return json.loads((results/f'2-cpu-cores-amd-epyc-all-flowers-{name}2026-11-20.json').read_text())['runs']
def dots():
    "`(mode, seconds, accuracy)` of every training"
    rows = [(r['mode'],r) for r in runs('')] + [('full 7',r) for r in runs('7-epochs-') if r['mode']=='full']
    return [(m, r['seconds'], 100*r['accuracy']) for m,r in rows if m in shown and r.get('accuracy')]

def strip(fig, grid, sizes):
    "The photograph at `sizes`, each as large as its pixels, side by side on one ground line"
    x = from_numpy(load_sample_image('flower.jpg')[:400,120:520].copy()).permute(2,0,1)[None].float()/255
    ax = fig.add_subplot(grid)
    left = 0
    for s in sizes:
        ax.imshow(resize_batch((x,), size=(s,s))[0][0][0].permute(1,2,0).clamp(0,1), extent=(left, left+s, 0, s), interpolation='nearest')
        ax.text(left+s/2, -6, f'{s} px', ha='center', va='top', fontsize=8)
        left += s+12
    ax.set(xlim=(0,left-12), ylim=(-22,max(sizes)), aspect='equal')
    ax.axis('off')

@call_parse
def main(
    out:str=str(root/'nbs'/'images'/'headline.png'), # The file to draw
):
    "Draw the figure on the front page"
    fig = plt.figure(figsize=(10,4.2), layout='constrained', facecolor='white')
    grid = GridSpec(2, 2, figure=fig, width_ratios=(1.15,1), height_ratios=(1,1))
    schedule = size_schedule(128, 4, increase_by=16)
    strip(fig, grid[0,0], [64,80,96,112,128])
    ax = fig.add_subplot(grid[1,0])
    schedule.plot(4, ax=ax, color='#0072b2', label='Batch mode', linewidth=5)
    size_schedule(128, 4, increase_by=16, increase_mode='epoch').plot(4, ax=ax, color='#e69f00', label='Epoch mode')
    ax.set(ylim=(0,140), title='The size of every batch; dots: validations')
    ax.legend(frameon=False, loc='lower right')
    ax = fig.add_subplot(grid[:,1])
    rows = dots()
    for m,(label,color,marker) in shown.items():
        own = [(s,a) for o,s,a in rows if o==m]
        hollow = marker=='s'   # one of them lies on a dot
        ax.plot(*zip(*own), marker, color=color, label=label, markersize=8, markeredgecolor=color if hollow else 'white',
                fillstyle='none' if hollow else 'full')
    ax.set(xlabel='training time (s)', ylabel='accuracy at full size (%)', xlim=(0,None),
           title='Flowers at 128 px, 2 CPU cores; four seeds of each\n(three of full size, 7 epochs)')
    ax.grid(color='#dddddd')
    ax.set_axisbelow(True)
    ax.legend(frameon=False, loc='upper left')
    for a in fig.axes: a.title.set_fontsize(10)
    fig.savefig(out, dpi=110)
    print(f'wrote {out}')
