"""Does regularisation help? Only where a training overfits; one at a time, then the two best together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from sweepwise.search.guided import comparison, overfitting, scheduler
from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, key_of, merged, run_of, told, whole
from sweepwise.search.guided.ledger import Ledger, Purse
from sweepwise.search.guided.stage import Family, Question, State, compared, distinct, named, to_the_end
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Decision, Step

STAGE = "regularizer"
QUESTION = "Does regularisation help?"
NONE = "no regularizer"
FINALISTS = 3
FOR_EACH = 0.55  # of what is left for the stage, to compare them one at a time
HIGHER = (scheduler.STEP**0.5, scheduler.STEP)


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Measures the gap, compares regularizers one by one, and the two best together."""
    if given := question.given.get(STAGE):
        return state.after(Chapter(STAGE, QUESTION, given, "given by hand"))
    before, (state, own) = state, state.parted(STAGE)
    base, ledger = to_the_end(question, state.overrides), purse.ledger
    seeds = _seeds(ledger, base) or list(range(state.seeds))
    without = whole(base, [()], seeds)
    if not purse.affords(without):
        how = "the budget has no room to compare"
        return before.after(Chapter(STAGE, QUESTION, _named(own), how, "whether it helps"))
    why = "what is decided so far, to see whether it overfits"
    yield told(STAGE, Step((), tuple(without), (why,)))
    fit = overfitting.fit([ledger.known[one.overrides] for one in without], question.training.sign)
    words = fit.words(state.deviation)
    none = compared(ledger, base, [()], seeds, question.training.sign)
    yield told(STAGE, Step((Decision("look", words, asdict(fit)),), said=(words,)))
    if fit.is_close(state.deviation or 0.0):
        return state.after(Chapter(STAGE, QUESTION, NONE, words, compared=tuple(none)))
    outcome = yield from _alone(question, state, purse.part(FOR_EACH), base, own)
    if outcome is None:
        how = f"{words}; the budget has no room to compare"
        rows = tuple(none)
        return before.after(Chapter(STAGE, QUESTION, _named(own), how, "whether it helps", compared=rows))
    ranking, how = yield from _with_both(question, state, purse, outcome, seeds)
    ranking, wider = yield from _wider(question, state, purse, ranking)
    ranking, faster = yield from _faster(question, state, purse, ranking)
    ranking, rescheduled = yield from _rescheduled(question, state, purse, ranking)
    last = yield from comparison.again(question, state, distinct(ranking), FINALISTS, purse, STAGE)
    how = "; ".join(filter(None, (words, how, wider, faster, rescheduled, last.how)))
    best, rows = last.ranking[0].overrides, (*last.ranking, *outcome.others)
    left_open = last.left_open or outcome.left_open
    return state.after(Chapter(STAGE, QUESTION, _named(best), how, left_open, best, rows))


def _seeds(ledger: Ledger, base: Overrides) -> list[int]:
    """Seeds with which the settings have been trained to their end."""
    return [seed for seed in range(100) if ledger.is_whole(run_of(base, (), seed))]


def _alone(
    question: Question, state: State, purse: Purse, base: Overrides, own: Overrides
) -> Course[comparison.Outcome | None]:
    """Each regularizer with all its strengths, or with a middle one; and what was decided before."""
    refused: list[Compared] = []
    families = []
    for family in question.candidates.regularizers:
        if why := question.untrained.refused(merged(base, family[0])):
            refused.append(Compared(family[0], note=why))
        else:
            families.append(family)
    before = [own] if own else []
    every = [*before, *(variant for family in families for variant in family)]
    middle = [*before, *(family[0] for family in families)]
    outcome = yield from comparison.train(question, state, [every], purse, STAGE)
    if outcome is None:
        outcome = yield from _narrowed(question, state, purse, families, middle)
    if outcome is None:
        first = max(1, question.training.epochs // comparison.ETA)  # it acts late, when the training overfits
        outcome = yield from comparison.halve(question, state, [middle], purse, STAGE, first)
    return outcome and replace(outcome, others=(*outcome.others, *refused))


def _narrowed(
    question: Question, state: State, purse: Purse, families: Sequence[Family], middle: Sequence[Overrides]
) -> Course[comparison.Outcome | None]:
    """Each regularizer with a middle strength, then the best one with its others."""
    outcome = yield from comparison.train(question, state, [middle], purse, STAGE)
    if outcome is None or not outcome.ranking[0].values:
        return outcome
    best = outcome.ranking[0]
    others = [
        one for family in families if best.overrides in family for one in family if one != best.overrides
    ]
    base, seeds = to_the_end(question, state.overrides), sorted(best.values)
    trials = whole(base, others, seeds)
    if not trials or not purse.affords(trials):
        return replace(outcome, left_open=f"other strengths than {named(best.overrides)}")
    why = "the best one with other strengths"
    about = {"settings": [list(one) for one in others], "runs": len(trials)}
    yield told(STAGE, Step((Decision("begin", why, about),), tuple(trials), (why,)))
    settings = [*(row.overrides for row in outcome.ranking), *others]
    ranking = compared(purse.ledger, base, settings, seeds, question.training.sign)
    return comparison.Outcome(tuple(ranking), how=f"{outcome.how}; {why}")


def _with_both(
    question: Question, state: State, purse: Purse, outcome: comparison.Outcome, seeds: Sequence[int]
) -> Course[tuple[list[Compared], str]]:
    """The ranking with none, and with the two best together if both are better than none."""
    base, sign, ledger = to_the_end(question, state.overrides), question.training.sign, purse.ledger
    found = [row.overrides for row in outcome.ranking if row.values]
    used = sorted({seed for row in outcome.ranking for seed in row.values} & set(seeds)) or list(seeds)
    if len({_options(setting) for setting in found}) == 1:
        found += yield from _second(purse, base, found, outcome.others, used)
    ranking = compared(ledger, base, [*found, ()], used, sign)
    better = [row.overrides for row in ranking[: [row.overrides for row in ranking].index(())]]
    by_option = list({_options(setting): setting for setting in reversed(better)}.values())[::-1]
    how = outcome.how
    if len(by_option) > 1:
        both = together(by_option[0], by_option[1])
        trials = whole(base, [both], used)
        if purse.affords(trials) and not question.untrained.refused(merged(base, both)):
            why = "the two best together"
            about = {"setting": list(both), "runs": len(trials)}
            yield told(STAGE, Step((Decision("begin", why, about),), tuple(trials), (why,)))
            ranking = compared(ledger, base, [*found, (), both], used, sign)
            how = f"{how}; {why}"
    return ranking, how


def _wider(
    question: Question, state: State, purse: Purse, ranking: list[Compared]
) -> Course[tuple[list[Compared], str]]:
    """While the best regularizer has the outermost strength that was tried, one beyond it."""
    how = ""
    while settings := _beyond(ranking, question.candidates.beyond):
        ranking, words = yield from _with(question, state, purse, ranking, settings, "strengths beyond")
        if not words:
            break
        how = words
    return ranking, how


def _beyond(ranking: Sequence[Compared], beyond: Mapping[str, str]) -> list[Overrides]:
    """The best setting with each of its outermost strengths exceeded, and with all; those not yet known."""
    best = ranking[0].overrides
    outer = [one for one in best if one in beyond]
    ways = [*({one} for one in outer), {*outer}] if outer else []
    settings = [tuple(beyond[one] if one in way else one for one in best) for way in ways]
    known = {row.overrides for row in ranking}
    return [one for one in dict.fromkeys(settings) if one not in known]


def _faster(
    question: Question, state: State, purse: Purse, ranking: list[Compared]
) -> Course[tuple[list[Compared], str]]:
    """The best regularizer with higher rates, which it often bears."""
    best = ranking[0]
    rate = scheduler.rate_of(question, state.overrides)
    if not best.overrides or question.candidates.rate is None or question.candidates.rates or not rate:
        return ranking, ""
    settings = [merged(best.overrides, (_rate(rate * factor),)) for factor in HIGHER]
    return (yield from _with(question, state, purse, ranking, settings, "higher rates"))


def _rescheduled(
    question: Question, state: State, purse: Purse, ranking: list[Compared]
) -> Course[tuple[list[Compared], str]]:
    """The best regularizer with the best other schedule, at its rate and a higher one."""
    best = ranking[0]
    other = _other_schedule(state)
    if not best.overrides or not other:
        return ranking, ""
    settings = [merged(best.overrides, other)]
    rate = scheduler.rate_of(question, merged(state.overrides, best.overrides))
    if rate and question.candidates.rate is not None and not question.candidates.rates:
        settings.append(merged(best.overrides, (_rate(rate * HIGHER[0]),), other))
    return (yield from _with(question, state, purse, ranking, settings, named(other)))


def _with(
    question: Question,
    state: State,
    purse: Purse,
    ranking: list[Compared],
    settings: Sequence[Overrides],
    what: str,
) -> Course[tuple[list[Compared], str]]:
    """A ranking with settings more, which are its best one with something, if there is room for them."""
    base, seeds = to_the_end(question, state.overrides), sorted(ranking[0].values)
    trials = whole(base, settings, seeds)
    if not purse.affords(trials):
        return ranking, ""
    why = f"{named(ranking[0].overrides)} with {what}"
    about = {"settings": [list(one) for one in settings], "runs": len(trials)}
    yield told(STAGE, Step((Decision("begin", why, about),), tuple(trials), (why,)))
    every = [*(row.overrides for row in ranking), *settings]
    found = compared(purse.ledger, base, every, seeds, question.training.sign)
    return found, f"the best one with {what}"


def _rate(value: float) -> str:
    return f"{scheduler.RATE}={float(f'{value:.2g}'):g}"


def _other_schedule(state: State) -> Overrides:
    """Of the schedules that the stage before has compared the best that it has not decided; () if none."""
    decided = _schedule(state.overrides)
    rows = (row for chapter in state.chapters if chapter.stage == scheduler.STAGE for row in chapter.compared)
    schedules = (_schedule(row.overrides) for row in rows if row.values)
    return next((one for one in schedules if one and _is_option(one[0]) and one[0] not in decided), ())


def _is_option(override: str) -> bool:
    return key_of(override) == scheduler.STAGE


def _schedule(setting: Overrides) -> Overrides:
    """What a setting says of its schedule."""
    return tuple(one for one in setting if key_of(one).split(".")[0] == scheduler.STAGE)


def _second(
    purse: Purse,
    base: Overrides,
    found: Sequence[Overrides],
    others: Sequence[Compared],
    seeds: Sequence[int],
) -> Course[list[Overrides]]:
    """Trains the best setting of a second regularizer to its end, where one alone has come there."""
    second = next(
        (row.overrides for row in others if row.values and _options(row.overrides) != _options(found[0])),
        None,
    )
    if second is None or not purse.affords(trials := whole(base, [second], seeds)):
        return []
    why = "the best of another one, to its end"
    about = {"setting": list(second), "runs": len(trials)}
    yield told(STAGE, Step((Decision("promote", why, about),), tuple(trials), (why,)))
    return [second]


def _options(setting: Overrides) -> tuple[str, ...]:
    """The regularizers of a setting."""
    text = next((one.partition("=")[2] for one in setting if key_of(one) == STAGE), "")
    return tuple(text.strip("[]").split(","))


def together(one: Overrides, other: Overrides) -> Overrides:
    """The regularizers of two settings in one.

    Example:
        >>> together(("regularizer=l1",), ("regularizer=dropout", "regularizer.dropout.p=0.2"))
        ('regularizer=[l1,dropout]', 'regularizer.dropout.p=0.2')
    """
    options = ",".join((*_options(one), *_options(other)))
    return merged(one, other, (f"{STAGE}=[{options}]",))


def _named(setting: Overrides) -> str:
    return named(setting) if setting else NONE
