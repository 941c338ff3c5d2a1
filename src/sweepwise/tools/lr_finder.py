"""The learning rate range test: a short training whose learning rate grows until the loss diverges.

Source: Smith, Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186, section 3.3.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweepwise.data.loading import Batches
from sweepwise.learner import Watch
from sweepwise.parts import Parts

BROKEN = 4.0  # the test ends when the smoothed loss is this many times its best value
SMOOTHED = 20  # time constants of the smoothing in the whole test
FALL = 0.01  # a smaller fall, as a share of the loss at the smallest rates, does not count
NOISE = 4.0  # a smaller fall, in standard errors of the smoothed loss, does not count
FALLING = 0.1  # the fall has begun when this share of it is done
LEAST_STEPS = 20

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The losses of a range test.

    Attributes:
        rates: (steps,) the learning rates, growing by a constant factor.
        losses: (steps,) the loss of each batch, before its step.
        smoothed: (steps,) see `smooth`.
        memory: the decay of the smoothing.
        ended: why the test stopped before its last rate; '' if it did not.
    """

    rates: Values
    losses: Values
    smoothed: Values
    memory: float
    ended: str


def range_test(
    parts: Parts, low: float, high: float, steps: int, after_step: Callable[[int], None] = lambda step: None
) -> Curve:
    """Trains a run's learner on its batches, with a learning rate that grows from step to step.

    The weights cannot be used afterwards.

    Args:
        parts: of the run, freshly built.
        low: first rate, > 0.
        high: last rate, > low.
        steps: at least `LEAST_STEPS`.
        after_step: called with the number of each step when it is done.

    Raises:
        ValueError: the rates or the number of steps are out of range.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f"min={low:g} max={high:g}: must be 0 < min < max")
    if steps < LEAST_STEPS:
        raise ValueError(f"steps={steps}: must be at least {LEAST_STEPS}")
    memory = 1 - SMOOTHED / max(steps, 2 * SMOOTHED)
    rates = low * (high / low) ** (np.arange(steps) / (steps - 1))
    losses: list[float] = []
    batches, best, ended = Batches(parts.data, [parts.seeds.data]), math.inf, ""
    while len(losses) < steps and not ended:
        for x, y in batches.epoch(len(losses) // len(batches)):
            step = len(losses)
            loss, _ = parts.learner.step(x, y, rates[step : step + 1], step, Watch.NOTHING)
            losses.append(loss.item())
            now = smooth(losses, memory)[-1]
            best = min(best, now)
            if not math.isfinite(now):
                ended = f"the loss is {losses[-1]}"
            elif now > BROKEN * best:
                ended = f"the loss is {now / best:.2g} times its best"
            after_step(step)
            if ended or len(losses) == steps:
                break
    return Curve(rates[: len(losses)], np.array(losses), smooth(losses, memory), memory, ended)


def smooth(losses: Sequence[float], memory: float) -> Values:
    """Exponential moving average, corrected for its start at 0.

    s_t = (1 - memory) sum_i memory^(t - i) loss_i / (1 - memory^(t + 1)), as in Adam's correction of its bias
    (Kingma & Ba, arXiv:1412.6980, section 3).

    Args:
        losses: of steps 0, 1, 2 ...
        memory: in [0, 1).
    """
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses):
        mean = memory * mean + (1 - memory) * loss
        smoothed.append(mean / (1 - memory ** (step + 1)))
    return np.array(smoothed)


def suggestions(curve: Curve) -> dict[str, float]:
    """Learning rates by three rules; the first is the one to take.

    minimum / 10: a tenth of the rate at which the smoothed loss is lowest. steepest: where it falls fastest
    per decade of the rate. valley: half-way down its longest fall. The smaller of the first two is the one to
    take, a rule of thumb: the steepest place alone can be too fast for SGD with momentum, and the minimum is
    too late where a set is learned before the rate breaks it. On few settings and single seeds only was it
    compared with the others, so train the neighbouring rates too.

    Raises:
        ValueError: the loss never falls by more than its noise.
    """
    finite = int(np.isfinite(curve.smoothed).argmin()) or len(curve.smoothed)
    smoothed, rates = curve.smoothed[:finite], curve.rates[:finite]
    lowest = int(smoothed.argmin())
    start = float(np.median(curve.losses[: min(lowest + 1, max(5, len(curve.rates) // 5))]))
    # By the median of the steps' differences, which neither the fall nor the break at the end moves much.
    changes = np.abs(np.diff(curve.losses[:finite]))
    noise = 1.4826 * float(np.median(changes)) / math.sqrt(2) if finite > 1 else 0.0
    error = noise * math.sqrt((1 - curve.memory) / (1 + curve.memory))
    if not start - smoothed[lowest] > max(FALL * start, NOISE * error):
        raise ValueError(
            f"the loss never falls: {start:.4g} at the smallest rates, at best {smoothed[lowest]:.4g} at "
            f"{rates[lowest]:.2g}; so no rate can be suggested"
        )
    high = smoothed[: lowest + 1] >= start - FALLING * (start - smoothed[lowest])
    begun = int(np.flatnonzero(high)[-1]) if high.any() else 0
    slopes = np.gradient(smoothed)[begun : lowest + 1]  # before it, the steepest place is noise
    found = {"minimum / 10": float(rates[lowest]) / 10, "steepest": float(rates[begun + slopes.argmin()])}
    found = dict(sorted(found.items(), key=lambda item: item[1]))
    return found | {"valley": float(rates[_valley(smoothed)])}


def _valley(losses: Values) -> int:
    """The step half-way down the longest decreasing subsequence of the losses.

    Source: fastai, `callback/schedule.py`, `valley`.
    """
    lengths = np.ones(len(losses), int)
    for place in range(len(losses)):
        higher = lengths[:place][losses[:place] > losses[place]]
        lengths[place] += higher.max(initial=0)
    end = int(lengths.argmax())
    return max(0, end - (int(lengths[end]) + 1) // 2)
