"Run by `test_promises.py`, once per process: a loop under Accelerate, on the CPU over gloo; what each saw is written to rank0.json and rank1.json"
import json, os, torch, torch.utils.data as tud
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from fastresize import sized_loader, size_schedule

def refusal(f):
    try: f()
    except Exception as e: return f'{type(e).__name__}: {e}'

acc = Accelerator(cpu=True)
def loader(**kwargs): return tud.DataLoader(tud.TensorDataset(torch.rand(32,3,64,64), torch.arange(32)), batch_size=2, **kwargs)
schedule = size_schedule(64, 4, increase_by=8)
out = dict(world=acc.num_processes)
out['after'] = refusal(lambda: [*acc.prepare(sized_loader(loader(), schedule, 4))])
out['alone'] = refusal(lambda: [*sized_loader(loader(shuffle=True), schedule, 4)])
for k,kwargs in dict(before={}, small=dict(resize_items=True)).items():
    sized = sized_loader(acc.prepare(loader(shuffle=True)), schedule, 4, **kwargs)
    epochs = [[(b[0].shape[-1],b[1].tolist()) for b in sized] for _ in range(4)]
    out[k] = dict(sizes=[s for e in epochs for s,_ in e], items=[[i for _,ids in e for i in ids] for e in epochs], length=len(sized))
sized.set_epoch(2, skip=3)
out['resumed'] = [(b[0].shape[-1],b[1].tolist()) for b in sized]

def one(): return prepare_data_loader(loader(), num_processes=1, process_index=0)   # as in a training of one process
def larger():
    sized = sized_loader(one(), schedule, 4, max_bs=8)
    return [[len(sized),[b[1].tolist() for b in sized]] for _ in range(4)]
try: out['larger'] = larger()
except ValueError as e: out['larger'] = str(e)
sized = sized_loader(one(), schedule, 4)
sized.set_epoch(2, skip=3)
out['resumed_alone'] = [b[1].tolist() for b in sized]
with open(f'rank{acc.process_index}.json', 'w') as f: json.dump(out, f)

# gloo's threads can outlive the interpreter and abort it; the result is written, so end without its teardown
acc.wait_for_everyone()
torch.distributed.destroy_process_group()
os._exit(0)
