"""Which learning rate and schedule? Halved over both and warm-up; widened while the best is at the edge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweepwise.search.guided import comparison
from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, Overrides, Purse, key_of, merged, told, whole
from sweepwise.search.guided.stage import Question, State, compared, named, to_the_end
from sweepwise.search.strategy import Decision, Step

STAGE = "scheduler"
QUESTION = "Which learning rate and schedule?"
RATE = "optimizer.lr"
STEP = math.sqrt(10)  # between two rates
AROUND = (-2, -1, 0, 1, 2)  # rates around the one that a range test suggests
FEWER = (-1, 0, 1)
WIDER = 3  # rates beyond an edge at most
FINALISTS = 3  # are raced, if the purse has room


@dataclass(frozen=True)
class _Grid:
    """Rates and schedules.

    Attributes:
        rates: as overrides write them, growing; () where the rate is fixed.
        schedules: their overrides.
    """

    rates: tuple[str, ...]
    schedules: tuple[Overrides, ...]

    @property
    def settings(self) -> list[Overrides]:
        """Every combination."""
        rates: list[Overrides] = [(f"{RATE}={rate}",) for rate in self.rates] or [()]
        return [merged(*pair) for pair in itertools.product(rates, self.schedules)]


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Finds where to look, halves, widens, races the best."""
    given = question.given.get(STAGE)
    if given:
        return state.after(Chapter(STAGE, QUESTION, given, "given by hand"))
    before, (state, own) = state, state.parted(STAGE, RATE)
    base = to_the_end(question, state.overrides)
    centre, source = _centre(question, base)
    yield told(STAGE, Step((Decision("look", source, {"rate": centre}),), said=(source,)))
    grids = list(_grids(question, centre, is_listed=len(question.candidates.rates) > 0))
    choices = [_possible(question, base, [*([own] if own else []), *grid.settings]) for grid in grids]
    outcome = yield from comparison.halve(question, state, choices, purse, STAGE, _first(question))
    if outcome is None:
        how = f"{source}; the budget has no room to compare two or more"
        return before.after(Chapter(STAGE, QUESTION, "as they are", how, "rate and schedule"))
    ranking = [row for row in outcome.ranking if row.values]
    if not ranking:
        how, rows = f"{outcome.how}; no run had a value", (*outcome.ranking, *outcome.others)
        return before.after(Chapter(STAGE, QUESTION, "as they are", how, "rate and schedule", compared=rows))
    seeds = sorted(ranking[0].values)
    every = [row.overrides for row in (*outcome.ranking, *outcome.others)]
    rates = sorted({rate for one in every if (rate := _rate_of(question, one)) is not None})
    ranking, wider = yield from _widened(question, state, purse, rates, ranking, seeds)
    how = f"{source}; {outcome.how}{wider}"
    best, left_open = ranking[0], outcome.left_open
    close = [row.overrides for row in ranking[:FINALISTS]]
    if comparison.can_race(question, state, close, purse):
        raced = yield from comparison.race(question, state, close, purse, STAGE)
        if raced.ranking and raced.ranking[0].values:
            best, how, left_open = raced.ranking[0], f"{how}; {raced.how}", raced.left_open or left_open
            ranking = [*raced.ranking, *(row for row in ranking if row.overrides not in close)]
    edge = _edge(question, best, [*every, *(row.overrides for row in ranking)])
    left_open = "; ".join(filter(None, (edge, left_open)))
    rows = (*ranking, *outcome.others)
    return state.after(Chapter(STAGE, QUESTION, named(best.overrides), how, left_open, best.overrides, rows))


def _first(question: Question) -> int:
    """Epochs before which a schedule has hardly acted."""
    return max(1, question.training.epochs // comparison.ETA**2)


def _centre(question: Question, base: Overrides) -> tuple[float | None, str]:
    """The rate around which to look, and where it is from."""
    candidates = question.candidates
    if candidates.rates:
        return None, f"the rates {', '.join(f'{rate:g}' for rate in candidates.rates)} were given"
    if candidates.rate is None:
        return None, "the rate was given"
    found = question.untrained.rate(base)
    if isinstance(found, float):
        return found, f"a range test suggests a rate of {found:.2g}"
    low, high = candidates.bounds
    return math.sqrt(low * high), f"no range test ({found}), so the middle of {low:g} to {high:g}"


def _grids(question: Question, centre: float | None, is_listed: bool) -> Iterator[_Grid]:
    """Grids, the largest first."""
    candidates = question.candidates
    families = candidates.schedules or (((),),)
    every = tuple(dict.fromkeys(variant for family in families for variant in family))
    plain = tuple(family[0] for family in families)
    around = [_rates(question, centre, places) for places in (AROUND, FEWER)]
    listed = tuple(f"{rate:g}" for rate in sorted(candidates.rates))
    choices = [listed] if is_listed else around if centre is not None else [()]
    for rates, schedules in (
        (choices[0], every),
        (choices[0], plain),
        (choices[-1], plain),
        (choices[-1], plain[:2]),
        (choices[-1], plain[:1]),
    ):
        yield _Grid(rates, schedules)


def _rates(question: Question, centre: float | None, places: Sequence[int]) -> tuple[str, ...]:
    """Rates around one; that of the default takes the place of the nearest, so that it is among them."""
    if centre is None:
        return ()
    rates = [centre * STEP**place for place in places]
    if default := question.candidates.rate:
        nearest = min(range(len(rates)), key=lambda place: abs(math.log(rates[place] / default)))
        if max(rates[nearest] / default, default / rates[nearest]) <= STEP:
            rates[nearest] = default
        else:
            rates.append(default)
    return tuple(
        f"{float(f'{rate:.2g}'):g}" if rate != question.candidates.rate else f"{rate:g}"
        for rate in sorted(rates)
    )


def _possible(question: Question, base: Overrides, settings: Sequence[Overrides]) -> list[Overrides]:
    """Settings whose schedule can be trained, each run once: what the default has is left out of them."""
    default = f"{RATE}={question.candidates.rate:g}" if question.candidates.rate is not None else ""
    found: dict[Overrides, None] = {}
    refused: dict[Overrides, str] = {}
    for setting in settings:
        schedule = tuple(one for one in setting if key_of(one) != RATE)
        if schedule not in refused:
            refused[schedule] = question.untrained.refused(merged(base, schedule))
        if not refused[schedule]:
            found[tuple(one for one in setting if one != default)] = None
    return list(found)


def _rate_of(question: Question, setting: Overrides) -> float | None:
    return next(
        (float(one.partition("=")[2]) for one in setting if key_of(one) == RATE), question.candidates.rate
    )


def _widened(
    question: Question,
    state: State,
    purse: Purse,
    rates: Sequence[float],
    ranking: list[Compared],
    seeds: Sequence[int],
) -> Course[tuple[list[Compared], str]]:
    """Tries rates beyond the edge as long as the best one is there and they are better."""
    base, sign = to_the_end(question, state.overrides), question.training.sign
    known = list(rates)
    tried: list[str] = []
    while len(known) > 1 and not question.candidates.rates and len(tried) < WIDER:
        best = ranking[0].overrides
        rate = _rate_of(question, best)
        if rate not in (known[0], known[-1]):
            break
        beyond = float(f"{(rate / STEP if rate == known[0] else rate * STEP):.2g}")
        schedule = tuple(one for one in best if key_of(one) != RATE)
        setting = merged((f"{RATE}={beyond:g}",), schedule)
        trials = whole(base, [setting], seeds)
        if not purse.affords(trials):
            break
        why = f"the best rate, {rate:g}, is at the edge, so {beyond:g} is tried"
        about = {"setting": list(setting), "runs": len(trials)}
        yield told(STAGE, Step((Decision("widen", why, about),), tuple(trials), (why,)))
        known = sorted([*known, beyond])
        tried.append(f"{beyond:g}")
        ranking = compared(purse.ledger, base, [*(row.overrides for row in ranking), setting], seeds, sign)
    return ranking, f"; widened to {', '.join(tried)}" if tried else ""


def _edge(question: Question, best: Compared, tried: Sequence[Overrides]) -> str:
    """What is said of a best rate at the edge of those that were tried."""
    rates = {rate for one in tried if (rate := _rate_of(question, one)) is not None}
    rate = _rate_of(question, best.overrides)
    if len(rates) > 1 and rate in (min(rates), max(rates)):
        return f"rates beyond {rate:g}, the edge of those that were tried"
    return ""
