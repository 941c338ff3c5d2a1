"""How much do seeds move the metric? It sets how many seeds the stages that follow compare with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping

from sweepwise.results.statistics.variance import REST, components
from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, merged, told, whole
from sweepwise.search.guided.ledger import Purse
from sweepwise.search.guided.stage import SEVERAL, Question, State, to_the_end
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Decision, Known, Step, Trial
from sweepwise.search.words import counted

STAGE = "seed"
QUESTION = "How much do seeds move the metric?"
LEVELS = 4  # of each source that is varied alone, that of the first run included
MOST = 5  # seeds of a setting in a comparison
SOURCES = {"init": "seed.init", "order": "seed.data", "noise": "seed.noise", "split": "data.split_seed"}
ERRORS = 1.96 + 0.84  # a difference is seen in 80 % of comparisons at a level of 5 %
MARGIN = 0.05


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Trains the default with some seeds, and then with one source changed at a time."""
    base = to_the_end(question, state.overrides)
    seeds = question.seeds
    while seeds > SEVERAL and not purse.affords(whole(base, [()], range(seeds))):
        seeds -= 1
    together = whole(base, [()], range(seeds))
    if question.seeds < SEVERAL:
        how = "one seed measures nothing; hydra.sweeper.seeds=3 or more does"
        return state.after(Chapter(STAGE, QUESTION, "1 seed a setting", how, OPEN))
    if seeds < SEVERAL or not purse.affords(together):
        return state.after(
            Chapter(STAGE, QUESTION, "1 seed a setting", "the budget has no room to measure it", OPEN)
        )
    why = f"{counted(seeds, 'seed')} of the default"
    yield told(STAGE, Step((_begun(why, len(together)),), tuple(together), (why,)))
    apart = _apart(question, purse, base)
    noise = apart.get("noise", [])
    first = [one for source, trials in apart.items() for one in (trials[:1] if source == "noise" else trials)]
    if first:
        why = f"{' and '.join(apart)}, each changed alone"
        yield told(STAGE, Step((_begun(why, len(first)),), tuple(first), (why,)))
    if noise and _same(purse.ledger.known, together[0], noise[0]):  # nothing is drawn, as one run shows
        del apart["noise"]
    elif noise:
        yield told(STAGE, Step((), tuple(noise), ("more of the noise",)))
    return _state(question, state, purse.ledger.known, together, apart)


def _apart(question: Question, purse: Purse, base: Overrides) -> dict[str, list[Trial]]:
    """The runs in which one source is changed, for as many sources as there is room for."""
    apart: dict[str, list[Trial]] = {}
    for source, key in SOURCES.items():
        trials = [Trial(_changed(base, key, level)) for level in range(1, LEVELS)]
        every = [*(one for others in apart.values() for one in others), *trials]
        if (source != "split" or question.splits) and purse.affords(every):
            apart[source] = trials
    return apart


OPEN = "how far runs differ by chance"


def _begun(why: str, runs: int) -> Decision:
    return Decision("begin", why, {"runs": runs})


def _changed(base: Overrides, key: str, level: int) -> Overrides:
    """The run with seed 0, and another level of one source."""
    return merged(base, ("seed.value=0", f"{key}={level}"))


def _same(known: Known, one: Trial, other: Trial) -> bool:
    first, second = known[one.overrides], known[other.overrides]
    return first.value is not None and first.curve == second.curve


def _state(
    question: Question, state: State, known: Known, together: list[Trial], apart: Mapping[str, list[Trial]]
) -> State:
    values = {seed: known[one.overrides].value for seed, one in enumerate(together)}
    found = {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}
    row = Compared(
        (), found, note="" if len(found) == len(values) else f"{len(values) - len(found)} runs failed"
    )
    if len(found) < SEVERAL:
        how = f"{len(found)} of {counted(len(values), 'run')} of the default ended with a value"
        chapter = Chapter(STAGE, QUESTION, "1 seed a setting", how, OPEN, compared=(row,))
        return state.after(chapter)
    deviation = statistics.stdev(found.values())
    limit = question.margin or margin(statistics.fmean(found.values()), question.training.sign)
    seeds = needed(deviation, limit)
    shares = ", ".join(_shares(known, together, apart)) or "its sources were not varied apart"
    how = (
        f"runs differ by {deviation:.2g} (one standard deviation of {len(found)}), a difference of "
        f"{limit:.2g} counts; "
        f"{shares}"
    )
    open_ = ""
    if seeds > MOST:
        seen = ERRORS * deviation * math.sqrt(2 / MOST)
        open_ = f"differences below {seen:.2g}; {seeds:,} seeds would show those that count"
        seeds = MOST
    most = "up to " if seeds > 1 else ""
    chapter = Chapter(
        STAGE, QUESTION, f"{most}{counted(seeds, 'seed')} a setting", how, open_, compared=(row,)
    )
    return state.after(chapter, seeds=seeds, deviation=deviation)


def margin(value: float, sign: int) -> float:
    """A difference that counts, if nobody says one: a twentieth of a loss, or of what a share lacks to 1.

    Example:
        >>> round(margin(0.4, 1), 3), round(margin(0.9, -1), 3)
        (0.02, 0.005)
    """
    share = sign < 0 and 0 <= value < 1
    return MARGIN * (1 - value if share else abs(value))


def needed(deviation: float, difference: float) -> int:
    """Seeds of each of two settings to see a difference between them in four of five comparisons at 5 %.

    n = 2 (1.96 + 0.84)^2 (deviation / difference)^2

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), section 2.4, by the normal
    distribution.

    Example:
        >>> needed(1.0, 1.0), needed(0.1, 1.0), needed(0.0, 0.0)
        (16, 1, 1)
    """
    if not deviation > 0:
        return 1
    return max(1, math.ceil(2 * (ERRORS * deviation / difference) ** 2)) if difference > 0 else 10**6


def _shares(known: Known, together: list[Trial], apart: Mapping[str, list[Trial]]) -> Iterator[str]:
    """What each source alone moves, in words; of variance components, as one is changed at a time."""
    if not apart:
        return
    rows = [(0, seed, known[one.overrides].value, "") for seed, one in enumerate(together)] + [
        (0, level, known[one.overrides].value, source)
        for source, trials in apart.items()
        for level, one in enumerate(trials, 1)
    ]
    rows = [row for row in rows if row[2] is not None and math.isfinite(row[2])]
    factors = {
        source: [
            f"{source}{level}" if by == source else level if by == "" and source != "split" else 0
            for _, level, _, by in rows
        ]
        for source in apart
    }
    found = components([value for _, _, value, _ in rows if value is not None], factors)
    for source, variance in found.variances.items():
        if source != REST:
            yield f"{source} alone {math.sqrt(variance):.2g}"
