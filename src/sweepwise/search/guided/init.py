"""Which initialisation? Those that are unsound before training are refused; the others are compared."""

from __future__ import annotations

from sweepwise.search.guided import comparison
from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, merged, told
from sweepwise.search.guided.ledger import Purse
from sweepwise.search.guided.stage import Question, State, named, to_the_end
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Decision, Step
from sweepwise.search.words import counted

STAGE = "init"
QUESTION = "Which initialisation?"


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Examines all initialisations, and compares those that are sound."""
    if given := question.given.get(STAGE):
        return state.after(Chapter(STAGE, QUESTION, given, "given by hand"))
    state, own = state.parted(STAGE)
    base = to_the_end(question, state.overrides)
    wrong = {
        setting: question.untrained.refused(merged(base, setting))
        or "; ".join(question.untrained.complaints(merged(base, setting)))
        for setting in dict.fromkeys([own, *question.candidates.inits] if own else question.candidates.inits)
    }
    sound = [setting for setting, why in wrong.items() if not why]
    refused = tuple(Compared(setting, note=why) for setting, why in wrong.items() if why)
    if refused:
        decisions = tuple(Decision("refuse", row.note, {"setting": list(row.overrides)}) for row in refused)
        yield told(
            STAGE, Step(decisions, said=(f"{counted(len(refused), 'setting')} unsound before training",))
        )
    before = (
        f"{len(refused)} of {len(wrong)} refused before training"
        if refused
        else f"all {len(wrong)} are sound at the start"
    )
    if len(sound) < 2:
        decided = sound[0] if sound else own
        how = before if sound else f"{before}; none is sound, so it stays as it is"
        open_ = "" if sound else refused[0].note if refused else "there was nothing to choose from"
        return state.after(Chapter(STAGE, QUESTION, _named(decided), how, open_, decided, refused))
    outcome = None
    if comparison.can_race(question, state, sound, purse):
        outcome = yield from comparison.race(question, state, sound, purse, STAGE)
    else:
        outcome = yield from comparison.halve(question, state, [sound], purse, STAGE)
    if outcome is None or not outcome.ranking or not outcome.ranking[0].values:
        kept: Overrides = own if own in sound else sound[0]
        why = "the budget has no room to compare" if outcome is None else outcome.how
        open_ = f"which of {', '.join(map(_named, sound))} is best"
        return state.after(Chapter(STAGE, QUESTION, _named(kept), f"{before}; {why}", open_, kept, refused))
    best = outcome.ranking[0].overrides
    rows = (*outcome.ranking, *outcome.others, *refused)
    how = f"{before}; {outcome.how}"
    return state.after(Chapter(STAGE, QUESTION, _named(best), how, outcome.left_open, best, rows))


def _named(setting: Overrides) -> str:
    return named(setting) if setting else "as it is"
