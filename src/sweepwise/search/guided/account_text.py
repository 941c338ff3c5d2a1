"""An account as lines of a terminal, at most a page of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweepwise.search.guided.account import Account, Chapter
from sweepwise.search.guided.account_result import (
    Against,
    conclusion,
    estimated,
    is_default,
    of_metric,
    of_test,
    p_value,
    signed,
    subject,
)
from sweepwise.search.guided.account_words import PROGRAM, command, cost, seeds, shortened

LETTERS = 132  # of a text: two lines of 80 columns behind their key
MOST_TAGS = 6  # metrics of the test part
LONGEST_COMMAND = 500  # letters; of a longer one the page has all


def lines(account: Account, saved: str = "", program: Sequence[str] = PROGRAM) -> list[tuple[str, str]]:
    """What a person reads at the end of a guided search: pairs of a key and its text, for `console.wrapped`.

    Args:
        account: of the search.
        saved: the experiment that its result was saved as; '' if it was not.
        program: how the program is called, in words.
    """
    told = [*(line for chapter in account.chapters for line in _stage(chapter)), *_result(account)]
    for tag, text in _test(account):
        told.append((tag, shortened(text, LETTERS)))
    way = command(account, saved, program)
    if len(way) <= LONGEST_COMMAND:
        told.append(("train it", way))
    told.append(("cost", cost(account.cost)))
    if account.ended:
        told.append(("ended", shortened(account.ended, LETTERS)))
    return told


def _stage(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """A stage in two texts at most: what it has decided and how; what it left open."""
    how = f"; {chapter.how}" if chapter.how else ""
    yield chapter.stage, shortened(f"{chapter.decided}{how}", LETTERS)
    if chapter.left_open:
        yield "", shortened(f"open: {chapter.left_open}", LETTERS)


def _result(account: Account) -> Iterator[tuple[str, str]]:
    one = of_metric(account)
    if one is not None:
        means = f"{subject(account)} {estimated(one.chosen)}"
        if not is_default(account):
            means += f", the default {estimated(one.default)}"
        yield "result", f"{account.metric} on {seeds(len(account.fresh))} that no stage had used: {means}"
    yield "" if one else "result", conclusion(account)


def _test(account: Account) -> Iterator[tuple[str, str]]:
    """The test part: a text for each metric."""
    found = of_test(account)
    for place, one in enumerate(found[:MOST_TAGS]):
        yield "" if place else "test", _both(one, same=is_default(account))
    if more := len(found) - MOST_TAGS if len(found) > MOST_TAGS else 0:
        yield "", f"and {more} more metrics"


def _both(one: Against, *, same: bool) -> str:
    """Both means of a metric and their difference."""
    mine = f"{one.tag} {estimated(one.chosen)}"
    if same:
        return mine
    by = ", ".join(part for part in (signed(one.difference), p_value(one.difference)) if part)
    return f"{mine}, the default {estimated(one.default)}; difference {by}"
