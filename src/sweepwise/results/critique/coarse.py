"""The values of a numeric key lie so far apart that a better one between them is likely."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import nctdtr

from sweepwise.improvement import limits
from sweepwise.results.answer import Answer
from sweepwise.results.critique.contrast import Block, over_blocks, run_deviation
from sweepwise.results.critique.design import Along
from sweepwise.results.critique.finding import LEVEL, Finding
from sweepwise.results.critique.leading import MARGIN, best_at, written
from sweepwise.results.critique.scale import between, positions
from sweepwise.results.further_runs import one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.run_folder import shown

FAR = 30.0  # margins in standard errors beyond which the noncentral t is not computed
LOPSIDED = (
    1.5  # ratio of both neighbours' distances from the best beyond which a parabola alone is not believed
)
AGREEING = 1.5  # ratio of the gains by two parabolas up to which they say the same: flat bottoms differ more


@dataclass(frozen=True)
class _Gap:
    """What a value between the best one and a neighbour would bring."""

    along: Along
    best: Hashable
    neighbours: tuple[Hashable, Hashable]
    gain: float
    error: float
    margin: float


def gaps(answer: Answer, keys: Sequence[Along]) -> Iterator[Finding]:
    """Keys with a value between two that were swept that would surely be better, if costs are smooth.

    A parabola through the best value and both neighbours, on the scale that the values lie on, says what its
    vertex would gain. That must surely exceed `MARGIN` standard deviations of a run: in at most 5 % of sweeps
    with smooth costs whose true gain is smaller it does. Where one neighbour is worse than the other, costs
    may lie flat before they rise, or have a kink: then the nearer neighbour and the value behind it must say
    the same by a parabola of their own. No gain is larger than the metric allows.
    """
    tried = [one for one in keys if one.numeric and one.shared and len(one.values) >= 3]
    found = [gap for one in tried for gap in [_gap(one, LEVEL / len(tried), _least(answer))] if gap]
    for gap in sorted(found, key=lambda gap: -gap.gain / gap.margin):
        finding = _finding(answer, gap)
        if finding:
            yield finding


def _gap(one: Along, level: float, least: float = -math.inf) -> _Gap | None:
    values = one.values
    best = _best(one)
    if best is None or not 0 < best < len(values) - 1:
        return None
    three = values[best - 1 : best + 2]
    blocks = one.having(*three)
    x = positions([float(str(value)) for value in values])
    if not blocks or not all(map(math.isfinite, x[best - 1 : best + 2])):
        return None
    cost = {value: _mean(blocks, value) for value in three}
    towards = 1 if cost[values[best + 1]] < cost[values[best - 1]] else -1
    outer = best + 2 * towards
    beside: Hashable = values[outer] if 0 <= outer < len(values) else None
    if beside is not None and math.isfinite(x[outer]) and all(beside in block for block in blocks):
        cost[beside] = _mean(blocks, beside)
    chosen = [place for place in sorted({best - 1, best, best + 1, outer}) if 0 <= place < len(values)]
    known = {place: cost[values[place]] for place in chosen if values[place] in cost}
    if cost[three[1]] > min(cost[three[0]], cost[three[2]]):
        return None

    def gain_of(costs: dict[int, float]) -> float:
        return _gain(x, costs, best, towards)

    gain = min(gain_of(known), cost[three[1]] - least)
    slopes = {place: _slope(gain_of, known, place) for place in known}
    by_value = {values[place]: slope for place, slope in slopes.items()}
    near = (three[1], values[best + towards])
    seen = [_error(blocks, by_value, near, one.step)]
    if len(blocks) > 1:  # runs of one seed need not be independent
        whole = over_blocks(blocks, list(by_value))
        seen.append(_error([whole], by_value, near, one.step / math.sqrt(len(blocks))))
    margin = MARGIN * run_deviation(blocks, near, one.step)
    if not all(df and _exceeds(gain, error, df, margin, level) for error, df in seen):
        return None
    return _Gap(one, values[best], (three[0], three[2]), gain, max(seen)[0], margin)


def _slope(gain: Callable[[dict[int, float]], float], known: dict[int, float], place: int) -> float:
    """By how much a gain changes with the cost at one place."""
    shift = (max(known.values()) - min(known.values())) / 1e4 or 1e-9
    more, less = ({**known, place: known[place] + change} for change in (shift, -shift))
    return (gain(more) - gain(less)) / (2 * shift)


def _error(
    blocks: Sequence[Block], slopes: Mapping[Hashable, float], near: Sequence[Hashable], step: float
) -> tuple[float, int]:
    """The standard error of a gain by the delta method, and the degrees of freedom of its noise."""
    deviation, error = run_deviation(blocks, near, step), 0.0
    for value, slope in slopes.items():
        own = run_deviation(blocks, (value,), step)
        noise = max(deviation, own) if math.isfinite(own) else deviation
        error = math.hypot(error, slope * noise * math.sqrt(sum(1 / len(block[value]) for block in blocks)))
    return error / len(blocks), sum(len(block[value]) - 1 for block in blocks for value in near)


def _least(answer: Answer) -> float:
    """The least cost that the metric can have."""
    low, high = limits(answer.table.metric)
    return low if answer.table.sign == 1 else -high


def _exceeds(gain: float, error: float, df: int, margin: float, level: float) -> bool:
    """Whether a true gain of the margin would look like this in at most `level` of all cases.

    Margin and error both are multiples of one estimated deviation, so the ratio of gain and error is a
    noncentral t around their ratio.
    """
    if gain <= margin or not error:
        return gain > margin
    around = margin / error
    if around > FAR:
        return gain > margin * (1 + 4 / math.sqrt(df))
    return float(1 - nctdtr(df, around, gain / error)) <= level


def _best(one: Along) -> int | None:
    """The place of the best value: better on average than each other at equal settings."""
    for place, value in enumerate(one.values):
        others = [other for other in one.values if other != value and one.having(value, other)]
        if others and all(one.contrast(value, other).mean < 0 for other in others):
            return place
    return None


def _mean(blocks: Sequence[Block], value: Hashable) -> float:
    return sum(sum(block[value].values()) / len(block[value]) for block in blocks) / len(blocks)


def _gain(x: Sequence[float], cost: dict[int, float], best: int, towards: int) -> float:
    """What the vertex of the parabola is better than the best value; 0 where no parabola is believed."""
    near, far, outer = best + towards, best - towards, best + 2 * towards
    step_near, step_far = abs(x[near] - x[best]), abs(x[far] - x[best])
    rise_near, rise_far = cost[near] - cost[best], cost[far] - cost[best]
    plain = _vertex(-step_far, rise_far, step_near, rise_near)
    if rise_far <= LOPSIDED * max(rise_near, 0.0) * (step_far / step_near) ** 2:
        return plain
    if outer not in cost:
        return 0.0
    step_outer = abs(x[outer] - x[best])
    beside = _vertex(step_near, rise_near, step_outer, cost[outer] - cost[best], within=step_near)
    least, largest = min(plain, beside), max(plain, beside)
    return least if largest <= AGREEING * least else 0.0


def _vertex(
    first: float, at_first: float, second: float, at_second: float, within: float = math.inf
) -> float:
    """Depth below 0 of the parabola through (0, 0) and two other points; 0 where it opens downwards.

    Args:
        first: position of a point.
        at_first: its height.
        second: of another.
        at_second: its height.
        within: the vertex must lie between 0 and here to count; inf: anywhere.
    """
    curvature = (at_first / first - at_second / second) / (first - second)
    slope = at_first / first - curvature * first
    if curvature <= 0:
        return 0.0
    vertex = -slope / (2 * curvature)
    if math.isfinite(within) and not 0 < vertex < within:
        return 0.0
    return slope**2 / (4 * curvature)


def _finding(answer: Answer, gap: _Gap) -> Finding | None:
    one = gap.along
    low, best, high = (float(str(value)) for value in (gap.neighbours[0], gap.best, gap.neighbours[1]))
    added = [*between(one.numbers, low, best, 1), *between(one.numbers, best, high, 1)]
    if not added:
        return None  # whole numbers next to each other
    at = best_at(answer, one.key, gap.best)
    command = one_command(answer.table, at, {one.key: added}, replicates_of(answer.table, at))
    new = written(added)
    first, middle, last = (shown(value) for value in (gap.neighbours[0], gap.best, gap.neighbours[1]))
    return Finding(
        "coarse",
        Both(
            f"the values of {one.key} are far apart around the best one, {middle}: "
            f"one between {first} and {last} is likely better; add {new}",
            f"{one.key} 的取值在最好值 {middle} 附近太稀："
            f"{first} 与 {last} 之间很可能有更好的值；请加上 {new}",
        ),
        Both(
            f"if costs are smooth: a parabola through {first}, {middle} and {last} gains "
            f"{gap.gain:.3g} ± {gap.error:.2g} at its vertex, surely more than {gap.margin:.2g}, "
            f"which another seed may change",
            f"若代价曲线平滑：过 {first}、{middle} 与 {last} 的抛物线"
            f"在顶点可再改善 {gap.gain:.3g} ± {gap.error:.2g}，"
            f"肯定超过换一个种子就可能带来的 {gap.margin:.2g}",
        ),
        command,
    )
