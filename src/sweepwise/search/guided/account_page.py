"""An account as one HTML file that opens offline: styles and drawings inside it, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweepwise.results.page.render import ASSETS as SHARED
from sweepwise.results.page.render import STYLES
from sweepwise.search.guided.account import Account, Chapter, Compared
from sweepwise.search.guided.account_dots import Row, dots
from sweepwise.search.guided.account_result import (
    BETTER,
    NONE,
    OPEN,
    SAME,
    WORSE,
    conclusion,
    is_default,
    of_metric,
    of_test,
    row,
    subject,
    tested_on,
)
from sweepwise.search.guided.account_words import (
    DEFAULT,
    NO_VALUE,
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
    seeds,
    sentence,
    shortened,
    shown,
)
from sweepwise.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

ASSETS = Path(__file__).parent / "assets"
MOST_ROWS = 12  # settings of a stage
NAME_LETTERS = 300  # of a setting; of what was decided, in the table of stages
TEXT_LETTERS = 1000  # of a text of a stage
NOT_CHECKED, DECIDED, RESULT = "not checked", "decided", "result"
CLASSES = {BETTER: "better", WORSE: "valueless", SAME: "identical", OPEN: "undecided", NONE: "undecided"}


def html(account: Account, saved: str = "", program: Sequence[str] = PROGRAM) -> str:
    """An account as one HTML file that opens offline, on a phone and on paper too.

    Args:
        account: of the search.
        saved: the experiment that its result was saved as; '' if it was not.
        program: how the program is called, in words.
    """
    one = of_metric(account)
    kind = one.kind if one else ""
    badge = NOT_CHECKED if one is None else kind if account.found else DEFAULT
    better = "lower" if account.sign == 1 else "higher"
    ended = f" The search ended: {sentence(shortened(account.ended, NAME_LETTERS))}" if account.ended else ""
    found = [one, *of_test(account)] if one else []
    return _template().render(
        title=f"Guided search by {account.metric}",
        metric=account.metric,
        style="\n".join(
            [*((SHARED / f"{name}.css").read_text() for name in STYLES), (ASSETS / "account.css").read_text()]
        ),
        kind=CLASSES.get(kind, "undecided") if account.found else "identical",
        badge=badge,
        conclusion=capital(sentence(conclusion(account))),
        about=f"{account.metric}: {better} is better.{ended}",
        stages=[
            _stage(chapter, unchanged, account)
            for chapter, unchanged in zip(account.chapters, names(account), strict=True)
        ],
        plot=_both(account),
        metrics=[row(one) for one in found],
        subject=subject(account),
        means=tested_on(account),
        command=command(account, saved, program),
        cost=cost(account.cost),
        version=__version__,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 0.1 s to import

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("account.html.j2")


def _stage(chapter: Chapter, unchanged: str, account: Account) -> dict[str, Any]:
    rows, left_out = shown(chapter, MOST_ROWS)
    marks = [DECIDED if is_decided(one, chapter) else "" for one in rows]
    more = f"and {left_out:,} more" if left_out else ""
    return {
        "stage": chapter.stage,
        "question": chapter.question,
        "decided": shortened(chapter.decided, TEXT_LETTERS),
        "in_short": shortened(chapter.decided, NAME_LETTERS),
        "how": sentence(shortened(chapter.how, TEXT_LETTERS)),
        "left_open": sentence(shortened(chapter.left_open, TEXT_LETTERS)),
        "cost": cost(chapter.cost),
        "plot": _plot(rows, [name(one, unchanged) for one in rows], marks, account, more),
    }


def _both(account: Account) -> dict[str, Any] | None:
    """The drawing of the result and the default, on the fresh seeds."""
    if not account.fresh:
        return None
    settings = [Compared((), account.chosen), Compared((), account.default)]
    names = [subject(account), DEFAULT]
    marks = [RESULT, ""] if account.found else ["", RESULT]
    if is_default(account):
        settings, names, marks = settings[1:], names[1:], marks[1:]
    return _plot(settings, names, marks, account, "")


def _plot(
    settings: Sequence[Compared], names: Sequence[str], marks: Sequence[str], account: Account, more: str
) -> dict[str, Any] | None:
    """A drawing of settings; None if there are none.

    Args:
        settings: a row each.
        names: of them.
        marks: of what stands out, a word; '' of the others.
        account: they belong to.
        more: what is said of settings that are left out.
    """
    if not settings:
        return None
    drawn = dots(settings, account.sign)
    better = "left" if account.sign == 1 else "right"
    caption = f"A dot is a seed, the line and the number are their mean; better is further {better}."
    if drawn and any(one.beyond for one in drawn.rows):
        caption += " Values that are too bad for the axis are counted at its end."
    return {
        "caption": caption if drawn else "No setting has a value.",
        "ticks": drawn.ticks if drawn else (),
        "right": account.sign == 1,
        "left_out": more,
        "rows": [
            _row(one, named, mark, drawn.rows[place] if drawn else None)
            for place, (one, named, mark) in enumerate(zip(settings, names, marks, strict=True))
        ],
    }


def _row(one: Compared, named: str, mark: str, drawn: Row | None) -> dict[str, Any]:
    values = list(finite(one.values).values())
    notes = [] if one.epochs is None else [f"after {one.epochs:,} epoch{'s' * (one.epochs != 1)}"]
    notes += [shortened(one.note, NAME_LETTERS)] if one.note else []
    return {
        "name": shortened(named, NAME_LETTERS),
        "decided": bool(mark),
        "mark": mark if mark != RESULT else "",
        "note": "; ".join(notes),
        "mean": in_short(mean(one)),
        "dots": drawn,
        "said": _said(values),
    }


def _said(values: Sequence[float]) -> str:
    """A row of dots in words."""
    if not values:
        return NO_VALUE
    return f"{seeds(len(values))} from {in_short(min(values))} to {in_short(max(values))}"
