"""A key that changes nothing that matters."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy.special import chdtri, fdtrc

from sweepwise.results.answer import Answer
from sweepwise.results.critique.contrast import Block, contrast, residual, run_deviation
from sweepwise.results.critique.design import Along
from sweepwise.results.critique.finding import LEVEL, Finding
from sweepwise.results.critique.leading import MARGIN
from sweepwise.results.further_runs import one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.run_folder import shown
from sweepwise.results.statistics.failures import fisher

ALIKE = 0.2  # p value of the failures of a value against all others, from which on they may be alike
LEAST_DF = 10  # degrees of freedom of the noise below which it is not known well enough
DEPENDING = 0.01  # p value below which the values differ somewhere, if not on average


@dataclass(frozen=True)
class Idle:
    """A key without effect.

    Attributes:
        key: which.
        largest: difference between two of its values, on average over the other settings.
        half: half the width of its interval.
        margin: the largest that does not matter.
        identical: all its values gave the same results to the bit.
    """

    key: str
    values: tuple[Hashable, ...]
    largest: float
    half: float
    margin: float
    identical: bool


def idle(keys: Sequence[Along]) -> list[Idle]:
    """Keys of which all values are surely equivalent, and equal at any other settings as far as can be seen.

    Each pair of values must surely differ by less than `MARGIN` standard deviations of a run, on average over
    the other settings (two one-sided tests; all pairs must pass, so none is paid for), and an F test
    of the values within all other settings must not find that they differ anywhere. In at most 5 % of sweeps
    is any key called idle of which two values differ by more.
    """
    tried = [one for one in keys if one.shared and len(one.values) >= 2]
    return [found for one in tried for found in [_idle(one, LEVEL / len(tried))] if found]


def _idle(one: Along, level: float) -> Idle | None:
    whole = [at for at, block in one.blocks.items() if all(value in block for value in one.values)]
    blocks = [one.blocks[at] for at in whole]
    if len(blocks) < max(1, len(one.blocks) / 2) or not _alike_in_failures(one):
        return None
    exact = [one.exact[at] for at in whole if at in one.exact]
    if _identical(blocks, one.values) and _identical(exact, one.values):
        return Idle(one.key, one.values, 0.0, 0.0, 0.0, True)
    margin = MARGIN * _deviation(blocks, one)
    if not margin > 0:
        return None
    largest, half = 0.0, 0.0
    for first, second in combinations(one.values, 2):
        seen = contrast(blocks, first, second, one.values, one.step)
        error = seen.half(2 * level)
        if abs(seen.mean) + error >= margin:
            return None
        if abs(seen.mean) >= largest:
            largest, half = abs(seen.mean), error
    if _differ(blocks, one) <= DEPENDING:
        return None
    return Idle(one.key, one.values, largest, half, margin, False)


def _deviation(blocks: Sequence[Block], one: Along) -> float:
    """Standard deviation of a run, where what seeds share is known from few of them: at least that much.

    The part that settings share comes from as many values as there are seeds, however many runs: of its
    variance the lower end of a one-sided interval counts.
    """
    whole = run_deviation(blocks, one.values, one.step) ** 2
    left = [residual(block, one.values) for block in blocks]
    squares, df = (sum(column) for column in zip(*left, strict=True))
    seeds = max(len(costs) for block in blocks for costs in block.values())
    if df < LEAST_DF or seeds < 2:
        return math.nan
    own = max(squares / df, one.step**2 / 12)
    least = (seeds - 1) / float(chdtri(seeds - 1, LEVEL))
    return math.sqrt(own + least * max(whole - own, 0.0))


def _alike_in_failures(one: Along) -> bool:
    """Whether no value fails more or less often than the others, as far as can be seen."""
    failed, n = (sum(column) for column in zip(*one.failed.values(), strict=True))
    return not failed or all(
        fisher(bad, tried, failed - bad, n - tried) > ALIKE for bad, tried in one.failed.values()
    )


def _identical(blocks: Sequence[Block], values: Sequence[Hashable]) -> bool:
    """Whether all values gave the same results in two or more pairs of replicates."""
    pairs = 0
    for block in blocks:
        first = block[values[0]]
        for value in values[1:]:
            shared = first.keys() & block[value].keys()
            if any(first[at] != block[value][at] for at in shared):
                return False
            pairs += len(shared)
    return pairs > 1


def _differ(blocks: Sequence[Block], one: Along) -> float:
    """The p value of the values' differences within the other settings, by an F test."""
    between, freedom, squares, df = 0.0, 0, 0.0, 0
    for block in blocks:
        means = [sum(block[value].values()) / len(block[value]) for value in one.values]
        n = min(len(block[value]) for value in one.values)
        middle = sum(means) / len(means)
        between += n * sum((mean - middle) ** 2 for mean in means)
        freedom += len(means) - 1
        left, more = residual(block, one.values)
        squares, df = squares + left, df + more
    if not df or not squares:
        return 1.0 if not between else 0.0
    return float(fdtrc(freedom, df, between / freedom / (squares / df)))


def findings(answer: Answer, found: Sequence[Idle]) -> Iterator[Finding]:
    """What is said of keys without effect."""
    table = answer.table
    for one in found:
        place = table.settings.index(one.key)
        valued = [ranked.setting for ranked in answer.ranking if ranked.estimate]
        best = next((at for at in valued if at[place] in one.values), None)  # others do not have the key
        if best is None:
            continue
        value = best[place]
        at = [setting for setting in valued if setting[place] == value]
        more = max(len(table.cells[best]) * (len(one.values) - 1), 1)
        command = one_command(table, at, {}, replicates_of(table, at, more))
        names = ", ".join(map(shown, one.values))
        if one.identical:
            evidence = Both(
                f"{names} gave equal results to the bit at equal other settings",
                f"其他设置相同时，{names} 的结果逐位相同",
            )
        else:
            seen = f"{one.largest:.2g} ± {one.half:.2g}"
            evidence = Both(
                f"{names} differ by at most {seen} (interval) on average, surely less than "
                f"{one.margin:.2g}, which another seed may change",
                f"{names} 之间平均最多相差 {seen}（置信区间），"
                f"肯定小于换一个种子就可能带来的 {one.margin:.2g}",
            )
        yield Finding(
            "no effect",
            Both(
                f"{one.key} has no effect that matters: fix it, such as {one.key}={shown(value)}, and spend "
                f"its runs on seeds",
                f"{one.key} 没有实际影响：可以把它固定下来（例如 {one.key}={shown(value)}），"
                f"省下的运行用来增加种子",
            ),
            evidence,
            command,
        )
