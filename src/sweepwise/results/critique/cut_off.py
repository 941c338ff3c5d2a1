"""Training that ends while it is still improving."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from scipy.special import stdtr

from sweepwise.results.answer import Answer
from sweepwise.results.critique.curves import Curve, Curves, curve, is_still
from sweepwise.results.critique.finding import LEVEL, Finding
from sweepwise.results.critique.leading import MARGIN, leaders, least_cost, spread
from sweepwise.results.further_runs import one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.statistics.estimate import moments
from sweepwise.results.table import Row

MOST_SETTINGS = 4  # of the best ones whose curves are read
MOST_RUNS = 8  # of each
LEAST_EPOCHS = 4
QUARTERS, EIGHTHS = 4, 8  # parts of a curve
SHARE = 0.05  # of all that training has improved so far: as much to come is worth it, however seeds differ
LATE = 0.6  # share of the runs whose best epoch lies in the last quarter
EPOCHS = "trainer.max_epochs"


def cut_off(answer: Answer, curves: Curves) -> Iterator[Finding]:
    """Whether the best settings were still improving when the epochs were used up.

    Of each run the mean cost of the last quarter of epochs is taken from that of the quarter before. These
    improvements must be above 0 over the runs (one-sided t test), and what half as many epochs again would
    bring must be more than `MARGIN` standard deviations of a run, or than `SHARE` of all improvement so far;
    the metric's limits bound it. What happened to all runs in the same epochs, such as a validation set that
    suits them by chance, no test over runs sees: so their mean must improve in each of the last four eighths.
    A run whose rate changed in the last three quarters, or fell to near 0, is not judged: that
    improves any run, and says nothing of more epochs.
    """
    table = answer.table
    led = leaders(answer, MOST_SETTINGS)
    settings = [setting for setting in led if _used_up(table.cells[setting])]
    if settings[:1] != led[:1]:
        return  # of worse ones it does not matter
    rows = [row for setting in settings for row in table.cells[setting][:MOST_RUNS] if row.ended]
    full = [row for row in rows if row.status == "finished"]
    if len(full) < 2:
        return
    found = [
        one for row in full for one in [curve(table, row, curves)] if one and len(one.costs) >= LEAST_EPOCHS
    ]
    if len(found) < 2:
        return
    found = [one for one in found if is_still(one, curves, one.epochs[-3 * _width(one, QUARTERS)])]
    if len(found) < 2 or 2 * len(found) < len(full):
        return
    improvements = [_parts(one) for one in found]
    last, deviation = moments([after for _, after in improvements])
    before = math.fsum(before for before, _ in improvements) / len(found)
    error = deviation / math.sqrt(len(found))
    p = float(stdtr(len(found) - 1, -last / error)) if error else float(last <= 0)
    late = sum(one.best_epoch > one.epochs[-1] - len(one.epochs) / 4 for one in found) / len(found)
    best = math.fsum(min(one.costs) for one in found) / len(found)
    gain = min(_to_come(last, before), best - least_cost(table))
    run = spread(table, (table.cells[setting] for setting in settings))
    margin = MARGIN * (run if math.isfinite(run) else _roughness(found))
    so_far = math.fsum(one.costs[0] for one in found) / len(found) - _end(found)
    if p > LEVEL / 2 or late < LATE or gain <= min(margin, SHARE * max(so_far, 0.0)) or not _steady(found):
        return
    trained = max(one.epochs[-1] for one in found) + 1
    most = max((n for row in full if isinstance(n := row.run.settings.get(EPOCHS), int)), default=trained)
    changes = {EPOCHS: [2 * most]}
    command = one_command(table, settings, changes, replicates_of(table, settings))
    yield Finding(
        "cut off",
        Both(
            f"the best settings were still improving when their {most} epochs were used up: train longer, "
            f"such as {EPOCHS}={2 * most}",
            f"最好的设置在 {most} 轮用完时仍在改善：请训练更久，例如 {EPOCHS}={2 * most}",
        ),
        Both(
            f"over {len(found)} runs {table.metric} improved by {last:.3g} ± {error:.2g} (standard error) in "
            f"the last part, p = {p:.2g}; {round(late * len(found))} have their best epoch there; half as "
            f"many epochs again may bring {gain:.2g}",
            f"{len(found)} 次运行的 {table.metric} 在训练的最后一段改善了 {last:.3g} ± {error:.2g}"
            f"（标准误差），p = {p:.2g}；其中 {round(late * len(found))} 次的最佳轮次在这一段；"
            f"再训练一半的轮数可能再改善 {gain:.2g}",
        ),
        command,
    )


def _used_up(rows: Sequence[Row]) -> bool:
    """Whether most of a setting's runs came to their last epoch, and were not stopped before."""
    ended = [row for row in rows if row.ended]
    return bool(ended) and 2 * sum(row.status == "finished" for row in ended) >= len(ended)


def _width(one: Curve, share: int) -> int:
    return max(len(one.costs) // share, 1)


def _means(one: Curve, share: int, count: int) -> list[float]:
    """The mean costs of the last parts of a curve."""
    width, n = _width(one, share), len(one.costs)
    parts = [one.costs[n - k * width : n - (k - 1) * width] for k in range(count, 0, -1)]
    return [math.fsum(part) / len(part) for part in parts]


def _parts(one: Curve) -> tuple[float, float]:
    """The improvement into the last quarter of a curve but one, and into the last."""
    third, second, last = _means(one, QUARTERS, 3)
    return third - second, second - last


def _steady(found: Sequence[Curve]) -> bool:
    """Whether the mean over runs improves in each of the last four eighths."""
    means = [math.fsum(part) for part in zip(*(_means(one, EIGHTHS, 4) for one in found), strict=True)]
    return all(after < before for before, after in pairwise(means))


def _to_come(last: float, before: float) -> float:
    """What half as many epochs again would gain, if improvements shrink by the same factor each quarter."""
    ratio = min(max(last / before, 0.0), 1.0) if before > 0 else 0.5
    return last * (ratio + ratio**2)


def _end(found: list[Curve]) -> float:
    """The mean cost of the last quarter."""
    tails = [one.costs[-max(len(one.costs) // 4, 1) :] for one in found]
    return math.fsum(math.fsum(tail) / len(tail) for tail in tails) / len(found)


def _roughness(curves: list[Curve]) -> float:
    """How much costs scatter from epoch to epoch near the end, where no setting was repeated."""
    squares, n = 0.0, 0
    for one in curves:
        tail = one.costs[-max(len(one.costs) // 4, 3) :]
        for first, second, third in zip(tail, tail[1:], tail[2:], strict=False):
            squares += (first - 2 * second + third) ** 2 / 6  # of a straight line with noise: its variance
            n += 1
    return math.sqrt(squares / n) if n else math.nan
