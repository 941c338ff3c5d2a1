#!/bin/sh
# torch 2.13.0: of the optimizers of torch.optim that take dense gradients, two do not heed a learning-rate schedule as
# the others do. Rprop copies the rate into its step sizes at its first step and never reads param_groups[0]["lr"] again:
# with a scheduler that divides the rate by 100 it goes on as without one. ASGD moves by `eta` of its state, which it
# computes at the end of a step from the rate of that step: each change acts one step late. ASGD's eta is a float32, so
# float64 parameters move by 0.10000000149011612 at lr=0.1. Its average `ax` is a copy of the parameters for the first
# 10**6 steps (t0) and nothing ever puts it into the model; and lambd=1e-4 shrinks the parameters with weight_decay=0.
# Seen, moves after the rate fell to a hundredth at the fourth step, divided by those without: 0.01 at once for 10
# optimizers, [1, 0.01, 0.01] for ASGD, [1, 1, 1] for Rprop.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch

CLASSES = "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax Muon NAdam RAdam RMSprop Rprop SGD".split()


def moves(kind, rates):
    draws = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64, generator=draws))
    optimizer = getattr(torch.optim, kind)([weight], lr=rates[0])
    sizes = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.randn(4, 3, dtype=torch.float64, generator=draws)
        before = weight.detach().clone()
        optimizer.step()
        sizes.append(float((weight.detach() - before).norm()))
    return sizes


print(torch.__version__)
still, falling = [0.01] * 6, [0.01] * 3 + [0.0001] * 3
for kind in CLASSES:
    pairs = zip(moves(kind, falling), moves(kind, still))
    ratios = [round(one / other, 2) for one, other in pairs][3:]
    print(f"{kind:10}", ratios)
    assert ratios == {"Rprop": [1.0, 1.0, 1.0], "ASGD": [1.0, 0.01, 0.01]}.get(kind, [0.01] * 3)

weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
optimizer = torch.optim.ASGD([weight], lr=0.1)
for _ in range(1000):
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
state = optimizer.state[weight]
print("ASGD, 1000 steps without a gradient:", weight.item(), "average", state["ax"].item(), state["eta"].dtype)
assert abs(weight.item() - (1 - 1e-5) ** 1000) < 1e-4 and state["ax"].item() == weight.item()
assert state["eta"].dtype == torch.float32
PYTHON
