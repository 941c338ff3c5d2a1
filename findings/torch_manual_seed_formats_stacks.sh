#!/bin/sh
# torch 2.13.0: torch.manual_seed costs more the deeper it is called, in a process that has not initialised CUDA. It
# leaves a seed for each kind of device that might be initialised later, and formats the whole Python stack for each of
# them, to be shown if that fails: three stacks a call. Seen: 130 microseconds called from a script, 1,000 called 100
# functions deeper, as in frameworks; torch.default_generator.manual_seed gives the CPU the same draws for 1.5.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cat > "$folder/seeds.py" <<'PYTHON'
import time
import traceback

import torch

formatted = 0
format_stack = traceback.format_stack


def counted(*arguments, **more):
    global formatted
    formatted += 1
    return format_stack(*arguments, **more)


def microseconds(seed, depth):
    if depth:
        return microseconds(seed, depth - 1)
    began = time.perf_counter()
    for number in range(200):
        seed(number)
    return (time.perf_counter() - began) / 200 * 1e6


traceback.format_stack = counted
torch.manual_seed(3)
traceback.format_stack = format_stack
draws = torch.rand(4)
own = torch.default_generator.manual_seed
own(3)
assert torch.equal(torch.rand(4), draws)
flat, deep, direct = microseconds(torch.manual_seed, 0), microseconds(torch.manual_seed, 100), microseconds(own, 100)
print(f"stacks: {formatted}; {flat:.0f} us flat, {deep:.0f} us deep, {direct:.1f} us for the generator alone")
assert formatted == 3, "it formats another number of stacks"
assert deep > 3 * flat and deep > 100 * direct, "its cost no longer grows with the depth"
PYTHON
"$folder/venv/bin/python" "$folder/seeds.py"
