"""Chooses how many runs are trained together.

On a CPU steps are timed, and the number is taken with which a run of this length takes the least time, with
what it costs beside its steps, and its share of what a group does. On a GPU a step of small runs takes as
long as it takes to launch its kernels, so as many runs are taken as its memory holds.
"""

import copy
import math
import time

import numpy as np
from torch import Tensor

from sweepwise.errors import reason
from sweepwise.learner import Learner, Watch
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.parts import Parts

WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
ENOUGH = 8  # runs; beyond it, the first width that is no faster ends the search
STEPS = 3  # at least, after the first one
TIMED = 0.01  # seconds of steps, if more fit in it
RUN = 0.006  # seconds that a run costs in a group before and after its steps
START = 0.05  # seconds that the group's process does
LOOP = 1e-4  # seconds of a step that the training loop takes for a group, whatever its size
GAIN = 1.05  # a smaller speedup counts as noise
SHARE = 0.8  # of a GPU's free memory that a group may take: its kernels need some, too
COPIES = 3  # of a run's parameters, beside the optimizer's state: gradient, best values, change


def fastest(
    one: Parts, other: Parts, runs: int, wanted: int | None = None, memory: int | None = None
) -> tuple[int, str]:
    """The number of runs with the least time a step and run; or 1 and the reason why they are trained alone.

    Args:
        one: a run's parts, on the CPU; its learner cannot be used afterwards.
        other: those of another run.
        runs: how many runs there are.
        wanted: a number that is taken if the runs can be trained together; None: the fastest.
        memory: free bytes of the GPU that will train them; None: they are trained on the CPU.

    Raises:
        Unfusable: these runs cannot be trained as one program.
    """
    examples = one.batch()
    x, y = next(iter(one.data.train.split(one.data.batch_size)))
    try:
        pair = copy.deepcopy([one.learner, other.learner])
    except Exception as error:
        raise Unfusable(f"its model cannot be copied ({reason(error).partition('. ')[0]})") from error
    together = FusedLearner(pair, examples)
    if wanted is not None:
        return min(wanted, runs), ""
    if memory is not None:
        fits = min(int(SHARE * memory / run_bytes(one)), WIDTHS[-1], runs)
        return (fits, "") if fits > 1 else (1, "the GPU's memory does not hold two")
    alone = _of_each(copy.deepcopy(one.learner), x, y, one.steps)
    best, least = 0, math.inf
    for width in dict.fromkeys(min(width, runs) for width in WIDTHS):
        learner = FusedLearner([copy.deepcopy(one.learner) for _ in range(width)], examples, together.way)
        of_each = _of_each(learner, x, y, one.steps)
        if of_each * GAIN < least:
            best, least = width, of_each
        elif width > ENOUGH:
            break
    if alone < least * GAIN:
        return 1, "together they would not be faster"
    return best, ""


def _of_each(learner: Learner, x: Tensor, y: Tensor, steps: int) -> float:
    """Seconds that each run of a group takes in a training of so many steps."""
    return RUN + (START + steps * (LOOP + _seconds(learner, x, y))) / learner.runs


def run_bytes(one: Parts) -> int:
    """Bytes that the training of a run takes: parameters, optimizer state, activations and their gradients.

    Args:
        one: the run's parts, on the CPU; its learner cannot be used afterwards.
    """
    learner = one.learner
    x, y = next(iter(one.data.train.split(one.data.batch_size)))
    learner.step(x, y, np.full(1, 1e-9), 0, Watch.TENSORS)
    outputs = [x, *learner.watched(0).activations.values()]  # each with its gradient
    state = [tensor for own in learner.optimizer.optimizer.state.values() for tensor in own.values()]
    own = (1 + COPIES) * learner.flat.values.nbytes
    return own + sum(tensor.nbytes for tensor in (*state, *outputs, *outputs) if isinstance(tensor, Tensor))


def _seconds(learner: Learner, x: Tensor, y: Tensor) -> float:
    """Seconds of a step: the least of a few."""
    runs = learner.runs
    x, y = x.repeat(runs, *[1] * (x.ndim - 1)), y.repeat(runs)
    rates = np.full(runs, 1e-9)
    times: list[float] = []
    learner.step(x, y, rates, 0, Watch.NOTHING)
    while len(times) < STEPS or sum(times) < TIMED:
        began = time.perf_counter()
        learner.step(x, y, rates, 1 + len(times), Watch.NOTHING)
        times.append(time.perf_counter() - began)
    return min(times)
