import sys, random, time, numpy as np, torch
sys.path[:0]=["/work/w/pr/examples/spelling_to_phonemes","/work/w/pr/examples"]
import train as T, fusedcell.torch
from words import cmudict, split
epochs=int(sys.argv[1]); rate=float(sys.argv[2]); out=sys.argv[3]; dens=float(sys.argv[4]) if len(sys.argv)>4 else 0.2
torch.manual_seed(0); torch.set_num_threads(1)
rng=random.Random(0); tr,va,_=split(cmudict())
net=T.Network(); T.PEAK_RATE=rate
with np.load(T.Path(T.__file__).parent/"weights.npz") as f: net.load_state_dict({n:torch.from_numpy(f[n]) for n in net.state_dict()})
vb=T.batches(va,rng); steps=len(T.batches(tr,random.Random(0)))
def val():
    net.eval()
    with torch.no_grad(): l=sum(T.loss_of(net,b).item()*len(b[0]) for b in vb)/sum(len(b[0]) for b in vb)
    net.train(); return l
print("before",val(),flush=True)
p=fusedcell.torch.prune(net,density=dens,steps=int(epochs*steps*0.4))
best=9
it=T.training(net,tr,rng,epochs); t=time.time()
for e in range(epochs):
    ls=[]
    for _ in range(steps): ls.append(next(it)); p.step()
    v=val(); print(e,np.mean(ls),v,p.densities,round(time.time()-t),flush=True)
    if p.finished and v<best:
        best=v; np.savez(out,**{n:x.numpy() for n,x in net.state_dict().items()})
