"""Times the steps of many runs as one program beside the same runs one after another, over the width.

    python benchmarks/fused.py                          about 4 minutes
    python benchmarks/fused.py --models 64-32-10,cnn1d --widths 8,32

cnn1d is that of `workload.py`'s w3: three 1-D convolutions of 25 channels on signals of 40 numbers.

One thread, one process; Adam, batch 64, four different rates in a group, batches collected as in a training.
'alone' is what trains one of our runs by itself; 'plain' a loop as one writes it by hand, with torch's fused
Adam. A ratio is the time of the runs one after the other divided by the time together, measured in turn; the
median over the rounds. Last column: the arithmetic of the products as a share of what the machine's largest
product reaches, by MKL or oneDNN.
"""

import argparse
import gc
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from workload import build

from sweepwise.data import Data, Part
from sweepwise.data.loading import Batches
from sweepwise.learner import Learner, Watch
from sweepwise.learner.fused import FusedLearner, alone
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.sweep.local.child import keep_freed_memory
from sweepwise.task import Classification

MODELS = ("64-32-10", "64-128-10", "64-256-128-10", "cnn1d")
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BATCH, EXAMPLES, CLASSES = 64, 1088, 10


class Network(NamedTuple):
    """A model that is trained.

    Attributes:
        make: makes it.
        features: shape of an example.
        operations: additions and multiplications of the products of a step.
    """

    make: Callable[[], nn.Module]
    features: tuple[int, ...]
    operations: int


def network(name: str) -> Network:
    """Of a name such as 64-32-10, or cnn1d."""
    if name == "cnn1d":
        sizes = [(20 * 25, 5), (10 * 25, 75), (5 * 25, 75), (10, 125)]  # outputs, and inputs of each
        make, features = build("w3").model, (1, 40)
        products = [outputs * inputs for outputs, inputs in sizes]
    else:
        widths = list(map(int, name.split("-")))
        make, features = partial(mlp, widths), (widths[0],)
        products = [fan_in * fan_out for fan_in, fan_out in pairwise(widths)]
    return Network(make, features, 2 * BATCH * (3 * sum(products) - products[0]))


def mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def learner(model: Network, seed: int) -> ModuleLearner:
    torch.manual_seed(seed)
    adam = partial(FlatOptimizer, partial(torch.optim.Adam, lr=1e-3))
    return ModuleLearner(model.make(), Classification(CLASSES), adam, [], noise_seed=seed)


def seconds(learner: Learner, batches: Batches, steps: int) -> float:
    """Of one step, in a stretch of whole epochs."""
    rates = np.array([1e-3 * (1 + run % 4) for run in range(learner.runs)])
    began, step = perf_counter(), 0
    while step < steps:
        for x, y in batches.epoch(step):
            learner.step(x, y, rates, step, Watch.NOTHING)
            step += 1
    return (perf_counter() - began) / step


def plain_seconds(asked: Network, part: Part, steps: int) -> float:
    """Of one step of a loop that is written by hand."""
    torch.manual_seed(0)
    model = asked.make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    losses, began, step = [], perf_counter(), 0
    while step < steps:
        for index in torch.randperm(EXAMPLES).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(part.x[index]), part.y[index])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            step += 1
    return (perf_counter() - began) / step


def roofline() -> float:
    """The most that a product of two matrices reaches here, in operations a second."""
    one, other = torch.randn(2, 512, 512)
    by_onednn = partial(torch.ops.mkldnn._linear_pointwise, one, other, None, "none", [], "")
    best = min(_timed(call) for call in (lambda: one @ other, by_onednn) for _ in range(50))
    return 2 * 512**3 / best


def _timed(call) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    gc.freeze()  # so does a sweep: the collector need not look through torch
    peak = roofline()
    print(f"roofline {peak / 1e9:.0f} GFLOP/s")
    print(
        f"{'model':>14} {'runs':>5} {'plain us':>9} {'alone us':>9} {'together us':>12} {'to plain':>9} "
        f"{'to alone':>9} {'of roofline':>12}"
    )
    for model in asked.models.split(","):
        chosen = network(model)
        part = Part(torch.randn(EXAMPLES, *chosen.features), torch.randint(CLASSES, (EXAMPLES,)))
        data = Data("random", part, part, part, BATCH, CLASSES, 0.0, 1.0, "")
        by_itself, batches = alone(learner(chosen, 0), part.x[:BATCH])[0], Batches(data, [0])
        seconds(by_itself, batches, 34)
        for runs in map(int, asked.widths.split(",")):
            together = FusedLearner([learner(chosen, seed) for seed in range(runs)], part.x[:BATCH])
            own = Batches(data, list(range(runs)))
            steps = max(17, min(170, 5440 // runs))  # as long a stretch, up to 32 runs
            seconds(together, own, 17)
            times = [
                (
                    plain_seconds(chosen, part, 170),
                    seconds(by_itself, batches, 170),
                    seconds(together, own, steps) / runs,
                )
                for _ in range(asked.rounds)
            ]
            to_plain, to_alone = (median(row[i] / row[2] for row in times) for i in (0, 1))
            plain, one, each = (median(column) for column in zip(*times, strict=True))
            print(
                f"{model:>14} {runs:>5} {plain * 1e6:>9.0f} {one * 1e6:>9.0f} {each * 1e6:>12.1f} "
                f"{to_plain:>9.1f} {to_alone:>9.2f} {chosen.operations / each / peak:>12.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
