#!/bin/sh
# torch 2.13.0 (CPU, x86): torch.set_flush_denormal(True) acts on the thread that calls it, and on threads that are begun
# later, as these inherit the mode. torch's own threads are begun by the first large operation. So after one, half of a
# tensor is flushed with two threads and a quarter with four; and False, once the threads are there, leaves the mode in
# all but the caller's. Where it stands among the first lines of a program decides what it does, and so do the bits of a
# training: an average of Adam that has come down to 1e-39 is zero in one half of a parameter and not in the other.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cat >"$folder/seen.py" <<'PYTHON'
import sys

import numpy
import torch

order, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
small = torch.from_numpy(numpy.full(2**20, 1e-39, numpy.float32))


def flushed():
    """The share of a large tensor that an operation flushes to zero."""
    return float((small * 0.5 == 0).float().mean())


if order == "operation_first":
    assert flushed() == 0.0
torch.set_flush_denormal(True)
on = flushed()
# Adam's average of a weight whose gradient is zero from now on
weight = torch.zeros(2**20, requires_grad=True)
adam = torch.optim.Adam([weight], fused=True)
weight.grad = torch.zeros_like(weight)
adam.step()
average = adam.state[weight]["exp_avg"].copy_(small)
adam.step()
zeros = float((average == 0).float().mean())
torch.set_flush_denormal(False)
print(order, threads, "threads: on", on, "average of Adam", zeros, "off again", flushed())
expected = (1.0, 1.0, 1 - 1 / threads) if order == "mode_first" else (1 / threads, 1 / threads, 0.0)
assert (on, zeros, flushed()) == expected, expected
PYTHON
"$folder/venv/bin/python" -c 'import torch; print(torch.__version__)'
for threads in 2 4; do
    for order in mode_first operation_first; do
        "$folder/venv/bin/python" "$folder/seen.py" "$order" "$threads"
    done
done
echo "as described"
