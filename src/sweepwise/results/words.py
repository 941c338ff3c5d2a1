"""An answer in words and numbers: the terminal, the page and Markdown all print these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweepwise.results.answer import Answer, Ranked
from sweepwise.results.comparison import Comparison
from sweepwise.results.further_runs import homes, worth_running
from sweepwise.results.markup import COMMANDS, code, escaped, one_line
from sweepwise.results.passages import (
    HOW,
    Passage,
    about,
    effects,
    expected,
    failures,
    holds_for,
    how,
    notes,
    remarks,
    sources,
)
from sweepwise.results.sentences import number, verdict
from sweepwise.system.console import COLUMNS, INDENT, wrapped

MOST_LINES = 24  # that stand at the end of a sweep
TOP = 3  # settings of the ranking that are shown there
SAID = 2  # comparisons of the best value of a key that are said there
NOTED = 2  # notes of the runs that are said there


@dataclass(frozen=True)
class _Weighed:
    """A passage and how soon it is left out where there is no room; 0: never."""

    passage: Passage
    dispensable: int


def summary(answer: Answer) -> list[Passage]:
    """What stands at the end of a sweep, in at most `MOST_LINES` lines of 80 columns."""
    best = list(_best(answer))
    verdicts = [(key, _brief(answer, key)) for key in answer.questions] if answer.replicated else []
    compared = [("compared", said) for said in [_how_all(answer)] if verdicts and said]
    noted = list(notes(answer))
    weighed = [
        _Weighed(("answer", about(answer)), 0),
        *(_Weighed(passage, 3 if place else 0) for place, passage in enumerate(best)),
        *(_Weighed(passage, 1) for passage in verdicts),
        *(_Weighed(passage, 2) for passage in compared),
        *(_Weighed(passage, 2) for passage in effects(answer)),
        *(_Weighed(passage, 1) for passage in sources(answer)),
        *(_Weighed(passage, 0) for passage in failures(answer)),
        *(_Weighed(passage, 0) for passage in noted[:NOTED]),
        *(_Weighed(passage, 4) for passage in remarks(answer)),
        *(_Weighed(passage, 2) for passage in holds_for(answer)),
    ]
    following = list(worth_running(answer))
    room = MOST_LINES - _lines(following)
    left_out = len(noted[NOTED:])
    while _lines([one.passage for one in weighed]) > room - (left_out > 0):
        most = max(one.dispensable for one in weighed)
        if not most:
            break
        weighed.remove([one for one in weighed if one.dispensable == most][-1])
        left_out += 1
    passages = [one.passage for one in weighed]
    if left_out:
        passages.append(("more", f"python scripts/answer.py {homes(answer)}"))
    return [*passages, *following]


def text(passages: Sequence[Passage]) -> str:
    """Passages as they are printed. A command stands on one line, so that it can be copied."""
    return "\n".join(_printed(key, said) for key, said in passages)


def _printed(key: str, said: str) -> str:
    if _is_command(key, said):
        return f"{key:<{INDENT}}{said}"
    return wrapped(key, said) if len(key) < INDENT else wrapped("", f"{key}: {said}")


def _is_command(key: str, said: str) -> bool:
    return key in COMMANDS and said.startswith("python ")


def _lines(passages: Sequence[Passage]) -> int:
    """The lines of a terminal that passages take; a command that is longer than one goes on in the next."""
    return sum(-(-len(line) // COLUMNS) or 1 for line in text(passages).splitlines())


def full(answer: Answer) -> list[Passage]:
    """The whole answer: all comparisons, ranking, what failed and what else must be known."""
    return [
        ("answer", about(answer)),
        *(
            (key if place == 0 else "", text)
            for key in answer.questions
            for place, text in enumerate(_all(answer, key))
        ),
        *_best(answer, len(answer.ranking)),
        *effects(answer),
        *sources(answer),
        *failures(answer),
        *notes(answer),
        *remarks(answer),
        *holds_for(answer),
        *worth_running(answer),
    ]


def _best(answer: Answer, most: int = TOP) -> Iterator[Passage]:
    if not any(ranked.n for ranked in answer.ranking):
        return
    for place, ranked in enumerate(answer.ranking[:most], 1):
        first = place == 1 and ranked.estimate is not None
        yield ("best" if first else f"{place}.", _ranked(answer, ranked, place))


def _ranked(answer: Answer, ranked: Ranked, place: int) -> str:
    failed = f", {ranked.failed} of {ranked.n} failed" if ranked.failed else ""
    if ranked.estimate is None:
        why = f"{ranked.failed} of {ranked.n} failed" if ranked.n else "none has ended"
        return f"{ranked.name}: no value, {why}"
    runs = f"{ranked.estimate.n} runs" if ranked.estimate.n > 1 else "one run"
    if len(answer.ranking) == 1 and ranked.estimate.n > 1:
        runs = f"standard deviation {ranked.estimate.deviation:.3g} between {runs}"
    new_seeds = expected(answer) if place == 1 else ""
    return f"{ranked.name}: {number(ranked.estimate)}, {runs}{failed}{'; ' if new_seeds else ''}{new_seeds}"


def _brief(answer: Answer, key: str) -> str:
    """A question in one passage: how the best level stands to the others, the nearest first."""
    comparisons = answer.comparisons[key]
    if not comparisons:
        return "cannot be compared yet: fewer than two of its values have a result"
    same = _same(comparisons)
    best = comparisons[0].better.name
    said: list[str] = []
    further = 0
    for one in comparisons:
        if best not in (one.better.name, one.other.name):
            continue
        other = one.other.name if one.better.name == best else one.better.name
        if any(other in others for others in same.values()):
            continue  # said of the one that it equals
        if len(said) < SAID:
            said.append(verdict(one, same))
        else:
            further += 1
    more = [f"{further} more"] if further else []
    return "; ".join([*said, *more]) or verdict(comparisons[0], same)


def _same(comparisons: Sequence[Comparison]) -> dict[str, list[str]]:
    """The levels that gave the same results to the bit as an earlier one, by that one."""
    same: dict[str, list[str]] = {}
    for one in comparisons:
        if one.identical and not any(one.better.name in others for others in same.values()):
            same.setdefault(one.better.name, []).append(one.other.name)
    return same


def _how_all(answer: Answer) -> str:
    """How the levels of all questions were compared."""
    found = [one for comparisons in answer.comparisons.values() for one in comparisons]
    hows = sorted({one.difference.how for one in found if one.difference})
    parts: list[str] = [HOW[how] for how in hows]
    if any(question.nuisance for question in answer.questions.values()):
        rest = next(iter(answer.questions.values())).rest
        parts.append(
            {
                "best": "each value at the best other settings for it",
                "equal": "at equal other settings",
                "averaged": "averaged over the other settings",
            }[rest]
        )
    return ", ".join(parts)


def _all(answer: Answer, key: str) -> Iterator[str]:
    comparisons = answer.comparisons[key]
    yield how(answer.questions[key], comparisons)
    for one in comparisons:
        yield verdict(one)


def markdown(answer: Answer, more: Sequence[Passage] = ()) -> str:
    """The whole answer as Markdown, and what else is said of the sweep."""
    lines = [f"# {homes(answer)}", ""]
    for key, said in [*full(answer), *more]:
        what = code(said) if _is_command(key, said) else escaped(one_line(said))
        lines.append(f"- **{escaped(one_line(key))}** {what}" if key else f"  - {what}")
    return "\n".join(lines) + "\n"
