"""The learning-rate range test: a short training whose rate grows until it breaks.

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

BROKEN = 4.0  # times the best smoothed loss
SMOOTHED = 20  # time constants of the smoothing in the whole test
FALL = 0.01  # of the loss at the smallest rates: less is no fall
NOISE = 4.0  # standard errors of the smoothed loss: less is no fall
FALLING = 0.1  # of the whole fall: where the fall has begun
LEAST_STEPS = 20

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What a range test has seen.

    Attributes:
        rates: (steps,) that were used, growing by a constant factor.
        losses: (steps,) of each batch, before its step.
        smoothed: (steps,) see `smooth`.
        memory: the decay of the smoothing.
        ended: why it stopped before its last rate; '' if it did not.
    """

    rates: Values
    losses: Values
    smoothed: Values
    memory: float
    ended: str


def range_test(
    parts: Parts, low: float, high: float, steps: int, seen: Callable[[int], None] = lambda step: None
) -> Curve:
    """Trains a run's own learner on its own batches, with a rate that grows from step to step.

    The weights are of no use afterwards.

    Args:
        parts: of the run, freshly built.
        low: first rate, > 0.
        high: last rate, > low.
        steps: at least `LEAST_STEPS`.
        seen: is told every step.

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
            seen(step)
            if ended or len(losses) == steps:
                break
    found = np.array(losses)
    return Curve(rates[: len(found)], found, smooth(losses, memory), memory, ended)


def smooth(losses: Sequence[float], memory: float) -> Values:
    """Exponential mean without the pull towards a start at 0.

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
    """Rates by three rules, the one to take first.

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
    slopes = np.gradient(smoothed)[begun : lowest + 1]  # before, the steepest place is one of the noise
    found = {"minimum / 10": float(rates[lowest]) / 10, "steepest": float(rates[begun + slopes.argmin()])}
    found = dict(sorted(found.items(), key=lambda item: item[1]))
    return found | {"valley": float(rates[_valley(smoothed)])}


def _valley(losses: Values) -> int:
    """Half-way down the longest row of ever smaller losses, gaps allowed.

    Source: fastai, `callback/schedule.py`, `valley`.
    """
    lengths = np.ones(len(losses), int)
    for place in range(len(losses)):
        higher = lengths[:place][losses[:place] > losses[place]]
        lengths[place] += higher.max(initial=0)
    end = int(lengths.argmax())
    return max(0, end - (int(lengths[end]) + 1) // 2)
