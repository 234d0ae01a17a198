"""The figure on the front page: `python docs/headline.py`

A photograph at sizes of the schedule, the schedule, and the accuracy of every training on Imagenette in `results/imagenette-bf16.jsonl`
against its time, relative to full size: the median of the rounds on an idle machine, times as many epochs."""
import sys
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
from fastcore.script import call_parse
from matplotlib.gridspec import GridSpec
from sklearn.datasets import load_sample_image

from fastresize.resize import resize_batch
from fastresize.schedule import size_schedule
from torch import from_numpy

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'benchmarks'))
from run import read, time_ratios

shown = { # arm in the file: label, color, marker
    'full': ('full size, 5 epochs', '#777777', 'o'), 'batch': ('Batch mode, 5 epochs', '#0072b2', 'o'),
    'from 0.75': ('Batch mode from 96 px, 5 epochs', '#009e73', '^'), 'batch, 7 epochs': ('Batch mode, 7 epochs', '#0072b2', 'D')}

def dots():
    "`(arm, time, accuracy)` of every training: relative to full size, and in percent"
    rows = read(root/'benchmarks'/'results'/'imagenette-bf16.jsonl')
    def time(r): return median(time_ratios(rows, r['arm'].split(',')[0], 'full'))*r['arguments']['epochs']/5
    return [(r['arm'], time(r), 100*r['accuracy']) for r in rows if r['kind']=='accuracy' and r['arm'] in shown]

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
    strip(fig, grid[0,0], [64,80,96,112,128])
    ax = fig.add_subplot(grid[1,0])
    size_schedule(128, 5).plot(5, ax=ax, color='#0072b2', label='Batch mode', linewidth=5)
    size_schedule(128, 5, increase_mode='epoch').plot(5, ax=ax, color='#e69f00', label='Epoch mode')
    ax.set(ylim=(0,140), title='The size of every batch; dots: validations')
    ax.legend(frameon=False, loc='lower right')
    ax = fig.add_subplot(grid[:,1])
    rows = dots()
    for arm,(label,color,marker) in shown.items():
        points = [(time,accuracy) for o,time,accuracy in rows if o==arm]
        ax.plot(*zip(*points), marker, color=color, label=f'{label} ({len(points)} seeds)', markersize=8, markeredgecolor='white')
    ax.set(xlabel='training time, relative to full size', ylabel='accuracy at full size (%)', xlim=(0,1.2),
           title='Imagenette at 128 px, xresnet18 from scratch, 2 CPU cores')
    ax.grid(color='#dddddd')
    ax.set_axisbelow(True)
    ax.legend(frameon=False, loc='upper left')
    for a in fig.axes: a.title.set_fontsize(10)
    fig.savefig(out, dpi=110)
    print(f'wrote {out}')
