"""The runs of a sweep that have failed, or were not tried: those with the same fault together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sweepwise.system.console import wrapped

MOST = 6  # faults that are printed


class Failed(NamedTuple):
    """A run that has failed, or was not tried.

    Attributes:
        word: its status.
        name: what it is called here.
        about: what else is said of it, such as its job.
        last: why: its last lines.
        own: texts that stand for nothing but this run: its folder, its id, its job.
        log: the file that has more; '' if there is none, or `last` names it.
    """

    word: str
    name: str
    about: str
    last: Sequence[str]
    own: Sequence[str] = ()
    log: str = ""

    @property
    def fault(self) -> tuple[str, ...]:
        """What is equal for runs with the same fault."""
        lines = [self.word, self.about, *self.last]
        for own in sorted(filter(None, self.own), key=len, reverse=True):
            lines = [text.replace(own, "\0") for text in lines]
        return tuple(lines)


def lines(failed: Iterable[Failed]) -> list[tuple[str, str]]:
    """Each distinct fault once, by the first run that has it, with the number of the others.

    Example:
        >>> failed = [Failed("failed", name, "", [f"{name} is lost"], [name]) for name in ("one", "two")]
        >>> [" ".join(pair) for pair in lines(failed)]
        ['failed one and 1 more', '   one is lost']
    """
    alike: dict[tuple[str, ...], list[Failed]] = {}
    for one in failed:
        alike.setdefault(one.fault, []).append(one)
    groups = list(alike.values())
    shown = groups if len(groups) <= MOST else groups[: MOST - 1]
    found: list[tuple[str, str]] = []
    for first, *others in shown:
        more = f" and {len(others):,} more" if others else ""
        last = [*first.last, *([f"in {first.log}"] if first.log else [])]
        found += [(first.word, f"{first.name}{more}{first.about}"), *(("", f"  {text}") for text in last)]
    if left := groups[len(shown) :]:
        number, word = sum(map(len, left)), left[0][0].word
        found.append((word, f"{number:,} more, for {len(left)} more reasons; see .sweep/logs"))
    return found


def tell(failed: Iterable[Failed]) -> None:
    """Prints them to the standard error output."""
    for key, text in lines(failed):
        print(wrapped(key, text), file=sys.stderr, flush=True)
