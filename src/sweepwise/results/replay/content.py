"""A replay as the page of a sweep takes it: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.results import run_folder
from sweepwise.results.replay.early_stopping import Replay, replay
from sweepwise.results.replay.halving import Halving, halving
from sweepwise.results.replay.logged import Reader
from sweepwise.results.replay.over_settings import Mean
from sweepwise.results.replay.records import number
from sweepwise.results.replay.replayed import Replayed
from sweepwise.results.replay.sentences import halved, notes, recommendation
from sweepwise.results.statistics.difference import Difference
from sweepwise.results.table import Table


def content(table: Table, reader: Reader = run_folder.epochs) -> dict[str, Any] | None:
    """`as_content` of the usual rules and rungs; None where no run has ended with a whole curve.

    Args:
        table: of the runs.
        reader: gives the lines of a run's epochs from its folder.
    """
    try:
        found = replay(table, reader=reader)
    except UsageError:
        return None
    try:
        return as_content(found, [halving(table, curves=found.curves)])
    except UsageError:  # such as of one setting
        return as_content(found)


def as_content(found: Replay, halvings: Sequence[Halving] = ()) -> dict[str, Any]:
    """The replay as the page of a sweep takes it: plain data, None where a number is not known."""
    said = [recommendation(found), *notes(found), *(halved(found, one) for one in halvings)]
    text = {
        language: between.join(one[language] for one in said)
        for language, between in (("en", "; "), ("zh", "；"))
    }
    return {
        "rows": [_row(one) for one in found.rules],
        "halving": [_halving(one) for one in halvings],
        "text": text,
    }


def _row(one: Replayed) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(one.rule, name) for name in ("metric", "patience", "min_delta")}
    parts: tuple[tuple[str, str, Mean | Difference | None], ...] = (
        ("saved_share", "saved", one.saved),
        ("lost", "lost", one.lost),
    )
    for name, short, found in parts:
        for key, end in ((name, "mean"), (f"{short}_low", "low"), (f"{short}_high", "high")):
            row[key] = number(getattr(found, end)) if found else None
    return row | {"censored": one.censored, "n": one.n}


def _halving(one: Halving) -> dict[str, Any]:
    """`kept_winner`: share of the seeds, each one for all settings; of the draws where there is one seed."""
    return {
        "rungs": list(one.rungs),
        "eta": one.eta,
        "kept_winner": one.seeds_kept / one.seeds if one.seeds > 1 else one.kept,
        "kept_in_draws": one.kept,
        "runs": one.settings,
        "saved_share": one.saved,
    }
