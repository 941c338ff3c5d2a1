"""Comparisons that more seeds would settle."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sweepwise.results.answer import Answer
from sweepwise.results.comparison import Comparison
from sweepwise.results.critique.finding import Finding
from sweepwise.results.further_runs import MOST_SEEDS, all_commands, one_command, replicates_of
from sweepwise.results.languages import Both
from sweepwise.results.statistics.verdict import MOST

FIRST = 4  # seeds that are added where each setting has one


def few_seeds(answer: Answer, settled: Collection[str]) -> Iterator[Finding]:
    """The best value of each key against the next one, where that is undecided, by what settles it soonest.

    The command trains both sides: where they are no grid it is one command after another.

    Args:
        answer: of the sweep.
        settled: keys of which more seeds would say nothing new.
    """
    table = answer.table
    settings = [ranked.setting for ranked in answer.ranking if ranked.estimate]
    if len(settings) < 2:
        return
    if not answer.replicated:
        command = one_command(table, settings, {}, replicates_of(table, settings, FIRST))
        yield Finding(
            "few seeds",
            Both(
                f"each setting has one run, so nothing can be claimed: add {FIRST} seeds",
                f"每个设置只运行了一次，什么都不能断言：请增加 {FIRST} 个种子",
            ),
            Both(f"{len(settings)} settings with one run each", f"{len(settings)} 个设置，各一次运行"),
            command,
        )
        return
    undecided = [one for key in answer.comparisons if key not in settled for one in _first(answer, key)]
    if not undecided:
        return
    one = min(undecided, key=_needed)
    needed, there = _needed(one), min(one.better.n, one.other.n)
    at = list(dict.fromkeys([*one.better.where, *one.other.where]))
    more = max(needed - there, 1)
    command = all_commands(table, at, replicates_of(table, at, min(more, MOST_SEEDS)))
    first = more > MOST_SEEDS
    count = f"{MOST:,}+" if needed > MOST else f"{needed:,}"
    keys = ", ".join(dict.fromkeys(each.key for each in undecided))
    yield Finding(
        "few seeds",
        Both(
            f"{there} seeds are too few to tell {one.key}={one.better.name} from {one.other.name}: "
            f"about {count} would settle it{f'; add {MOST_SEEDS} first' if first else ''}",
            f"{there} 个种子不足以区分 {one.key}={one.better.name} 与 {one.other.name}：大约需要 {count} 个"
            f"{f'；先增加 {MOST_SEEDS} 个' if first else ''}",
        ),
        Both(
            f"undecided between the best and the next value of {keys}; {count} seeds settle this one with "
            f"80 % chance",
            f"{keys} 的最好值与次好值之间尚无定论；{count} 个种子有 80 % 的机会得出结论",
        ),
        command,
    )


def _first(answer: Answer, key: str) -> list[Comparison]:
    """The comparison of the best value of a key with the next, if more seeds would settle it."""
    for one in answer.comparisons[key][:1]:
        verdict = one.verdict
        if verdict and verdict.kind == "undecided" and verdict.needed and not one.identical:
            return [one] if not (one.better.failed or one.other.failed) else []
    return []


def _needed(one: Comparison) -> int:
    assert one.verdict and one.verdict.needed
    return one.verdict.needed.n
