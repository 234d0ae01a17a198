"What each of two processes of Lightning's own DDP sees, written to rank0.json and rank1.json"
import json, sys, torch, torch.utils.data as tud
from test_lightning import Drawn, L, Module, quiet, resize

class Noted(Drawn):
    def __getitem__(self, i): return super().__getitem__(i) + (i,)

class Notes(Module):
    def __init__(self): super().__init__(); self.seen,self.counts = [],[]
    def training_step(self, batch, i):
        *batch,ids = batch
        self.seen += ids.tolist()
        self.counts.append(len(ids))
        return super().training_step(batch, i)
    def configure_optimizers(self):
        self.estimated = self.trainer.estimated_stepping_batches
        return super().configure_optimizers()

if __name__=='__main__':
    L.seed_everything(0, verbose=False)
    module = Notes()
    t = L.Trainer(devices=2, strategy='ddp', max_epochs=4, callbacks=[resize(verbose=True, resize_items=True, max_bs=int(sys.argv[1]) if sys.argv[1:] else None)], logger=False,
                  enable_checkpointing=False, **quiet)
    t.fit(module, tud.DataLoader(Noted(), batch_size=10, shuffle=True, num_workers=1))
    res = dict(world=t.world_size, sizes=module.train_sizes, made=module.made, seen=module.seen, counts=module.counts, steps=t.global_step, estimated=module.estimated,
               weights=[p.flatten().tolist() for p in module.parameters()])
    with open(f'rank{t.global_rank}.json', 'w') as f: json.dump(res, f)
