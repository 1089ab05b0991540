import argparse
from farmx.logx import logx
p = argparse.ArgumentParser()
p.add_argument("--n", type=int)
n = p.parse_args().n
logx.initialize(hparams={"n": n})
if n > 1:
    raise ValueError("bad data")
for epoch in range(2):
    logx.metric("val", {"acc": 0.5 + epoch / 10}, epoch)
    logx.save_model({"epoch": epoch}, metric=0.5 + epoch / 10, epoch=epoch)
