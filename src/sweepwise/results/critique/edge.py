"""The best value of a numeric key is the first or the last that was swept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweepwise.improvement import limits
from sweepwise.results.answer import Answer
from sweepwise.results.critique.contrast import wider
from sweepwise.results.critique.design import Along
from sweepwise.results.critique.finding import LEVEL, Finding
from sweepwise.results.critique.leading import best_at, written
from sweepwise.results.critique.patience import EPOCHS, PATIENCE
from sweepwise.results.critique.scale import beyond
from sweepwise.results.critique.scattered import at_edge
from sweepwise.results.further_runs import one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.run_folder import shown
from sweepwise.results.table import Values

LEAST_LEVELS = 3  # of two, each is at an edge
LEAST_DF = 2  # degrees of freedom from which on the noise of the edge and its neighbour alone counts
MORE_FAILURES = 0.2  # share of failed runs by which the edge must not exceed its neighbour


@dataclass(frozen=True)
class _Edge:
    """An edge that looks best: by how much, with which error and p value."""

    along: Along
    high: bool
    gain: float
    error: float
    p: float


def edges(answer: Answer, keys: Sequence[Along]) -> Iterator[Finding]:
    """Keys whose best value is at an edge of what was swept, surely better than the value beside it.

    At most 5 % of sweeps in which no edge is better than its neighbour get such a finding: p values are
    two-sided, as either edge may look best, and times the number of keys.
    """
    tried = [one for one in keys if one.numeric and len(one.values) >= LEAST_LEVELS]
    found = [edge for one in tried for edge in [_edge(answer, one)] if edge]
    for edge in sorted(found, key=lambda edge: edge.p):
        if edge.p * len(tried) > LEVEL:
            continue
        finding = _finding(answer, edge)
        if finding:
            yield finding


def _perfect(answer: Answer, setting: Values) -> bool:
    """Whether all runs of a setting have the best value that the metric can have."""
    low, high = limits(answer.table.metric)
    best = low if answer.table.sign == 1 else high
    return all(row.value == best for row in answer.table.cells[setting] if row.ended)


def _edge(answer: Answer, one: Along) -> _Edge | None:
    if not one.shared:
        found = at_edge(answer.table, one)
        return _Edge(one, *found) if found else None
    for high in (False, True):
        edge, neighbour = (one.values[-1], one.values[-2]) if high else (one.values[0], one.values[1])
        others = [value for value in one.values if value != edge]
        gaps = {value: one.contrast(edge, value).mean for value in others if one.having(edge, value)}
        if neighbour not in gaps or any(gap >= 0 for gap in gaps.values()):
            continue
        third = sorted((value for value in gaps if value != neighbour), key=lambda value: -gaps[value])[:1]
        seen, alone = one.contrast(edge, neighbour, third), one.contrast(edge, neighbour)
        if alone.df >= LEAST_DF:  # the third value may be a calm one
            seen = wider(seen, alone)
        if _share(one, edge) > _share(one, neighbour) + MORE_FAILURES:
            continue
        return _Edge(one, high, -seen.mean, seen.error, seen.p)
    return None


def _share(one: Along, value: object) -> float:
    failed, n = one.failed[value]
    return failed / n


def _finding(answer: Answer, edge: _Edge) -> Finding | None:
    one = edge.along
    values = one.numbers
    spaced = values if one.shared else [values[place * (len(values) - 1) // 8] for place in range(9)]
    added = beyond(one.key, spaced, high=edge.high)
    epochs = [n for row in answer.table.rows if isinstance(n := row.run.settings.get(EPOCHS), int)]
    if one.key == PATIENCE and epochs:
        added = [
            value for value in added if value < min(epochs)
        ]  # others would be refused: they could never act
    if not added:
        return None  # the range of the key ends here
    last = values[-1] if edge.high else values[0]
    at = best_at(answer, one.key, last if one.shared else None)
    if at and _perfect(answer, at[0]):
        return None  # nothing beyond can be better
    command = one_command(answer.table, at, {one.key: added}, replicates_of(answer.table, at))
    new, largest = written(added), ("largest", "最大") if edge.high else ("smallest", "最小")
    name = shown(last) if one.shared else f"{last:.3g}"
    there = f"{one.key}={name}"
    better = f"{edge.gain:.3g} ± {edge.error:.2g}"
    range_of = f"{values[0]:.4g} … {values[-1]:.4g}"
    if one.shared:
        evidence = Both(
            f"better than the value beside it by {better} (standard error), p = {edge.p:.2g}; "
            f"{one.key} was swept over {range_of}",
            f"比相邻的取值好 {better}（标准误差），p = {edge.p:.2g}；{one.key} 的扫描范围是 {range_of}",
        )
    else:
        evidence = Both(
            f"the outermost values rank {better} places (standard error) better than those beside them, "
            f"p = {edge.p:.2g}; {one.key} was drawn from {range_of}",
            f"最外侧的取值比相邻的取值名次高 {better}（标准误差），p = {edge.p:.2g}；"
            f"{one.key} 的抽样范围是 {range_of}",
        )
    if one.shared:
        en = f"{there}, the {largest[0]} value that was tried, is the best one"
        zh = f"{there} 是试过的{largest[1]}值，也是最好的值"
    else:
        en = f"the {largest[0]} values of {one.key} that were tried, up to {name}, are the best ones"
        zh = f"{one.key} 试过的{largest[1]}的一些值（直到 {name}）是最好的"
    text = Both(f"{en}: the optimum may lie beyond; add {new}", f"{zh}：最优值可能在范围之外；请加上 {new}")
    return Finding("edge", text, evidence, command)
