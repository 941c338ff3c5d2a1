"""How many runs are trained together: on a CPU the number whose steps are fastest, which are timed; on a GPU,
where a step of few small runs takes as long as its kernels are launched, as many as it has memory for.
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
ENOUGH = 8  # runs, beyond which a width that is no better than the last ends the search
STEPS = 4
GAIN = 1.05  # less than this is taken for noise
SHARE = 0.8  # of a GPU's free memory that a group may take: its kernels want some, too
COPIES = 3  # of a run's parameters, beside the optimizer's: gradient, best values, what has moved


def fastest(
    one: Parts, other: Parts, runs: int, wanted: int | None = None, memory: int | None = None
) -> tuple[int, str]:
    """The number of runs whose steps take the least time a run; 1 and the reason, if that is none.

    Args:
        one: a run's parts, on the CPU; its learner is used up.
        other: those of another.
        runs: that there are.
        wanted: a number that is taken if it works.
        memory: free bytes of the GPU that will train them; None: the CPU does.

    Raises:
        Unfusable: these runs cannot be trained as one program.
    """
    examples = one.batch()
    x, y = next(iter(one.data.train.split(one.data.batch_size)))
    try:
        pair = copy.deepcopy([one.learner, other.learner])
    except Exception as error:
        raise Unfusable(f"no copy of its model can be made ({reason(error).partition('. ')[0]})") from error
    together = FusedLearner(pair, examples)
    if wanted is not None:
        return min(wanted, runs), ""
    if memory is not None:
        fits = min(int(SHARE * memory / taken(one)), WIDTHS[-1], runs)
        return (fits, "") if fits > 1 else (1, "the GPU has no memory for two")
    alone = _seconds(copy.deepcopy(one.learner), x, y)
    best, least = 0, math.inf
    for width in dict.fromkeys(min(width, runs) for width in WIDTHS):
        learner = FusedLearner([copy.deepcopy(one.learner) for _ in range(width)], examples, together.way)
        of_each = _seconds(learner, x, y) / width
        if of_each * GAIN < least:
            best, least = width, of_each
        elif width > ENOUGH:
            break
    if alone < least * GAIN:
        return 1, "together they would not be faster"
    return best, ""


def taken(one: Parts) -> int:
    """Bytes that a run takes in training: parameters with all that goes with them, and what a step makes.

    Args:
        one: the run's parts, on the CPU; its learner is used up.
    """
    learner = one.learner
    x, y = next(iter(one.data.train.split(one.data.batch_size)))
    learner.step(x, y, np.full(1, 1e-9), 0, Watch.TENSORS)
    outputs = [x, *learner.watched(0).activations.values()]  # each with its gradient
    state = [tensor for own in learner.optimizer.optimizer.state.values() for tensor in own.values()]
    own = (1 + COPIES) * learner.flat.values.nbytes
    return own + sum(tensor.nbytes for tensor in (*state, *outputs, *outputs) if isinstance(tensor, Tensor))


def _seconds(learner: Learner, x: Tensor, y: Tensor) -> float:
    """Of a step, the least of a few."""
    runs = learner.runs
    x, y = x.repeat(runs, *[1] * (x.ndim - 1)), y.repeat(runs)
    rates = np.full(runs, 1e-9)
    times = []
    for step in range(STEPS):
        began = time.perf_counter()
        learner.step(x, y, rates, step, Watch.NOTHING)
        times.append(time.perf_counter() - began)
    return min(times[1:])
