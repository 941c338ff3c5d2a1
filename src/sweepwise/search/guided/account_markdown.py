"""An account as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweepwise.results.markup import code, escaped, one_line
from sweepwise.search.guided.account import Account, Chapter, Compared
from sweepwise.search.guided.account_result import (
    conclusion,
    of_metric,
    of_test,
    row,
    subject,
    tested_on,
)
from sweepwise.search.guided.account_words import (
    PROGRAM,
    capital,
    command,
    cost,
    finite,
    in_short,
    is_decided,
    mean,
    name,
    names,
    sentence,
    shortened,
    shown,
)

MOST_ROWS = 8  # settings of a stage
NAME_LETTERS = 100  # of a setting
TEXT_LETTERS = 600  # of a text of a stage


def markdown(account: Account, saved: str = "", program: Sequence[str] = PROGRAM) -> str:
    """An account as one page of Markdown.

    Args:
        account: of the search.
        saved: the experiment that its result was saved as; '' if it was not.
        program: how the program is called, in words.
    """
    parts = [
        [f"# Guided search by {_plain(account.metric)}"],
        [_direction(account)],
        _stages(account),
        *(list(_stage(*pair)) for pair in zip(account.chapters, names(account), strict=True)),
        list(_result(account)),
        list(_training(account, saved, program)),
        ["## Cost", "", _plain(sentence(cost(account.cost)))],
    ]
    return "\n".join("\n".join([*part, ""]) for part in parts if part)


def _direction(account: Account) -> str:
    better = "lower" if account.sign == 1 else "higher"
    ended = f" The search ended: {sentence(shortened(account.ended, TEXT_LETTERS))}" if account.ended else ""
    return _plain(f"{account.metric}: {better} is better.{ended}")


def _plain(text: str) -> str:
    return escaped(" ".join(one_line(text).split()))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [" | ".join(map(_plain, row)) for row in (heads, *rows)]
    return [f"| {lines[0]} |", f"|{' --- |' * len(heads)}", *(f"| {line} |" for line in lines[1:])]


def _stages(account: Account) -> list[str]:
    rows = [
        (chapter.stage, chapter.question, shortened(chapter.decided, NAME_LETTERS), cost(chapter.cost))
        for chapter in account.chapters
    ]
    return _table(("stage", "question", "decided", "cost"), rows) if rows else ["No stage is over."]


def _stage(chapter: Chapter, unchanged: str) -> Iterator[str]:
    yield f"## {_plain(chapter.stage)}"
    for head, text in (("Decided", chapter.decided), ("How", chapter.how), ("Open", chapter.left_open)):
        if text:
            yield ""
            yield f"{head}: {_plain(sentence(shortened(text, TEXT_LETTERS)))}"
    rows, left_out = shown(chapter, MOST_ROWS)
    if not rows:
        return
    yield ""
    heads = ("setting", "mean", "seeds", "epochs", "")
    yield from _table(heads, [_row(one, chapter, unchanged) for one in rows])
    if left_out:
        yield ""
        yield f"and {left_out:,} more"


def _row(one: Compared, chapter: Chapter, unchanged: str) -> tuple[str, ...]:
    marks = ["decided"] if is_decided(one, chapter) else []
    return (
        shortened(name(one, unchanged), NAME_LETTERS),
        in_short(mean(one)),
        str(len(finite(one.values))),
        "all" if one.epochs is None else f"{one.epochs:,}",
        "; ".join([*marks, *([shortened(one.note, NAME_LETTERS)] if one.note else [])]),
    )


def _result(account: Account) -> Iterator[str]:
    yield from ("## Result", "", _plain(capital(sentence(conclusion(account)))))
    one = of_metric(account)
    if one is None:
        return
    heads = ("metric", subject(account), "default", "difference", "p")
    yield ""
    yield from _table(heads, [row(found) for found in (one, *of_test(account))])
    yield ""
    yield _plain(tested_on(account))


def _training(account: Account, saved: str, program: Sequence[str]) -> Iterator[str]:
    yield from ("## To train it", "")
    yield code(command(account, saved, program))
