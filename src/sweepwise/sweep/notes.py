"""What is noted of a sweep's runs, grouped, as lines for a person: before the training and during it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweepwise.results.notes import grouped
from sweepwise.results.notes import of_record as of_record
from sweepwise.store.request import keys

MOST = 5  # lines


def lines(runs: Sequence[tuple[Sequence[str], Iterable[str]]], most: int = MOST) -> list[str]:
    """A line for each distinct note, with the runs that it holds for; see `grouped` for the order.

    Args:
        runs: of each its overrides, and its notes.
        most: lines; what is left out is counted in the last one.

    Example:
        >>> lines([(["init=xavier"], ["stays at 0.1"]), (["init=lecun"], [])])
        ['stays at 0.1 (1 of 2 runs: init=xavier)']
    """
    found = [str(note) for note in grouped([(_given(overrides), noted) for overrides, noted in runs])]
    if len(found) <= most:
        return found
    return [*found[: most - 1], f"{len(found) - most + 1} more, which the records of the runs have"]


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """What was given for a run, by key."""
    given = zip(keys(overrides), overrides, strict=True)
    return {key: text.partition("=")[2] for key, text in given}
