#!/bin/sh
# torch 2.13.0: ReduceLROnPlateau with its defaults (threshold_mode="rel", threshold=1e-4) takes an equal value of a
# negative metric for an improvement: in mode "max" a value must exceed best * (1 + 1e-4), which for best < 0 lies below
# best; in mode "min" it must be below best * (1 - 1e-4), which lies above it. An R2 or a log-likelihood that stands
# still below zero never lowers the rate, and one that falls slowly does not either; the same series shifted above zero
# does. Seen: rate 0.1 after 50 equal values of -1, 1e-05 after 50 equal values of +1 (patience 10, factor 0.1).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch


def last_rate(mode, values):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode)
    for value in values:
        schedule.step(value)
    return optimizer.param_groups[0]["lr"]


print(torch.__version__)
for mode in ("min", "max"):
    still = {value: last_rate(mode, [value] * 50) for value in (-1.0, 1.0)}
    print(mode, still)
    assert still[-1.0] == 0.1 and still[1.0] < 0.1**4
worse = [-1.0 - 5e-5 * epoch for epoch in range(50)]  # each value is worse than the one before
print("max, falling slowly", last_rate("max", worse))
assert last_rate("max", worse) == 0.1
PYTHON
