"""One comparison in words, and numbers as they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sweepwise.results.comparison import Comparison
from sweepwise.results.languages import Both, joined
from sweepwise.results.question import Level
from sweepwise.results.statistics.difference import Difference
from sweepwise.results.statistics.estimate import Estimate
from sweepwise.results.statistics.verdict import MOST, Needed, Verdict

ONE_RUN = Both("one run each, so nothing can be claimed", "各只有一次运行，无法下结论")
NONE_IN_COMMON = Both("no split or seed in common", "没有共同的数据划分或种子")
DEFAULT_MARGIN = Both("0.95 standard deviations of a run", "单次运行标准差的 0.95 倍")


def decimals(half: float, mean: float) -> int:
    """Decimals with which an interval has two digits of its half width; without one, four of the mean."""
    size = half if 0 < half < math.inf else abs(mean) / 100
    return min(max(1 - math.floor(math.log10(size)), 0), 12) if size > 0 else 4


def verdict(one: Comparison, same: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Both:
    """A comparison in words.

    Args:
        one: the comparison.
        same: levels that gave the results of another one to the bit, by that one.
    """
    first, second = (_named(level.name, same) for level in (one.better, one.other))
    failed = joined(
        [_failed(level) for level in (one.better, one.other) if level.failed],
        "; ",
        "；",
    )
    if one.identical:
        pairs = len(one.better.values.keys() & one.other.values.keys())
        return Both(
            f"{one.better.name} and {one.other.name} gave equal results to the bit in all {pairs} pairs",
            f"{one.better.name} 与 {one.other.name} 在全部 {pairs} 对运行中结果逐位相同",
        )
    if one.difference is None:
        return Both(f"{second} has no value: {failed}", f"{second.zh} 没有数值：{failed.zh}")
    by = apart(one.difference)
    if one.verdict is None:
        few = min(one.better.n, one.other.n) < 2
        why = failed or (ONE_RUN if few else NONE_IN_COMMON)
        return Both(
            f"{first} or {second}: undecided, ahead by {by}; {why}",
            f"{first.zh} 还是 {second.zh}：未定，前者领先 {by}；{why.zh}",
        )
    return _judged(one, one.verdict, (first, second), by, failed)


def _judged(one: Comparison, verdict: Verdict, names: tuple[Both, Both], by: str, failed: Both) -> Both:
    """What a verdict says of two levels that are `by` apart."""
    first, second = names
    note = Both(f" ({failed})", f"（{failed.zh}）") if failed else Both("", "")
    if verdict.by == "failures" and verdict.kind == "better":
        return Both(f"{first} better than {second}: {failed}", f"{first.zh} 优于 {second.zh}：{failed.zh}")
    if verdict.kind == "better":
        small = verdict.within_margin and verdict.margin.rule == "given"
        hardly = Both(", less than the margin", "，小于界限") if small else Both("", "")
        return Both(
            f"{first} better than {second} by {by}{hardly}{note}",
            f"{first.zh} 优于 {second.zh}，相差 {by}{hardly.zh}{note.zh}",
        )
    if verdict.kind == "equivalent":
        margin = f"{verdict.margin.value:.2g}"
        given = verdict.margin.rule == "given"
        rule = Both("the margin", "界限") if given else DEFAULT_MARGIN
        return Both(
            f"{first} and {second} equivalent: {by} apart, surely less than {margin}, {rule}{note}",
            f"{first.zh} 与 {second.zh} 相当：相差 {by}，必定小于 {margin}，即{rule.zh}{note.zh}",
        )
    if not one.ahead:
        return Both(
            f"{first} or {second}: undecided, as {second} is ahead by {by}, but {failed}",
            f"{first.zh} 还是 {second.zh}：未定，因为后者领先 {by}，但{failed.zh}",
        )
    seeds = _needed(verdict.needed) if verdict.needed else Both("", "")
    needed = Both(f", {seeds} would settle it", f"，{seeds.zh}可见分晓") if seeds else seeds
    return Both(
        f"{first} or {second}: undecided, ahead by {by}{needed}{note}",
        f"{first.zh} 还是 {second.zh}：未定，前者领先 {by}{needed.zh}{note.zh}",
    )


def _named(name: str, same: Mapping[str, Sequence[str]]) -> Both:
    """A level, with those that equal it to the bit."""
    if name not in same:
        return Both(name, name)
    others = ", ".join(same[name])
    return Both(f"{name} (= {others}, to the bit)", f"{name}（与 {others} 逐位相同）")


def _failed(level: Level) -> Both:
    failed = len(level.failed)
    return Both(
        f"{level.name} failed {failed} of {level.n} times",
        f"{level.name} 的 {level.n} 次运行中有 {failed} 次失败",
    )


def apart(found: Difference) -> str:
    """A difference without its sign, as the first is the better one, and its interval."""
    flip = -1 if found.mean < 0 else 1
    low, high = sorted((flip * found.low, flip * found.high))
    if not math.isfinite(high - low):
        return f"{abs(found.mean):.3g}"
    places = decimals((high - low) / 2, found.mean)
    low, high = (round(end, places) + 0.0 for end in (low, high))  # no -0.00
    return f"{abs(found.mean):.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def _needed(needed: Needed) -> Both:
    def number(count: int, over: str) -> str:
        return f"{over}{MOST:,}" if count > MOST else f"{count:,}"

    least, most = (number(count, "over ") for count in (needed.low, needed.high))
    en, zh = f"{number(needed.n, 'over ')} seeds", f"{number(needed.n, '超过 ')} 个种子"
    if needed.low == needed.high:
        return Both(en, zh)
    return Both(
        f"{en} ({least} to {most})",
        f"{zh}（{number(needed.low, '超过 ')} 至 {number(needed.high, '超过 ')}）",
    )


def number(estimate: Estimate) -> str:
    """A mean with its interval, to two digits of the interval's half width."""
    if estimate.n == 1:
        return f"{estimate.mean:.4g}"
    places = decimals((estimate.high - estimate.low) / 2, estimate.mean)
    return f"{estimate.mean:.{places}f} [{estimate.low:.{places}f}, {estimate.high:.{places}f}]"
