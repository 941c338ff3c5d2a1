"""The runs of a sweep as lines for a person: each, or in a large sweep those that stand alike together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sweepwise.store import record
from sweepwise.store.status import EXIT_CODES
from sweepwise.sweep import announced, notes
from sweepwise.sweep.cluster.jobs import GONE
from sweepwise.sweep.cluster.overview import Row
from sweepwise.sweep.reached import MOST_LOOKS, Reached, reached, together
from sweepwise.sweep.summary import ORDER, STATUS_LETTERS, line, number, rank
from sweepwise.system.console import wrapped

EACH = 20  # runs up to which each has a line of its own
PROCESSES = 12  # that train now, and have a line of their own
NOTES = 3  # lines


def with_announced(home: Path, rows: Sequence[Row]) -> list[Row]:
    """The runs of a sweep, with those that a sweep on this machine is still going to train."""
    there = {row.run: row for row in rows}
    for run, name in announced.waiting(home).items():
        row = there.get(run) or Row(run, name, "", "", GONE, {}, ())
        if row.status != "running" and not row.state.live and not (row.status in EXIT_CODES and row.known):
            there[run] = replace(row, status="queued")
    return sorted(there.values(), key=lambda row: row.name)


def lines(home: Path, rows: Sequence[Row], *, each: bool = False) -> Iterator[str]:
    """The runs of a sweep.

    Args:
        home: the folder that holds them.
        rows: the runs.
        each: whether each has a line, however many they are.
    """
    if each or len(rows) <= EACH:
        yield from (_one(home, row) for row in rows)
        return
    for word in dict.fromkeys((*ORDER, *(row.status for row in rows))):
        alike = [row for row in rows if row.status == word]
        yield from _running(home, alike) if word == "running" else _alike(word, alike)


def noted(rows: Sequence[Row]) -> list[str]:
    """What the records of the runs note, grouped."""
    known = [row.known for row in rows if row.known]
    return notes.lines([(one.get("overrides", ()), notes.of_record(one)) for one in known], NOTES)


def _one(home: Path, row: Row) -> str:
    waits = row.state.reason if row.state.waits else ""
    result = record.best(row.known, ".4g")
    if row.status == "running":
        result = together(_reached(home, [row]))
    tail = "  ".join(filter(None, [row.job, row.state.node, waits, result]))
    return line(f"{row.status:<{STATUS_LETTERS}}", row.name, tail)


def _running(home: Path, rows: Sequence[Row]) -> Iterator[str]:
    """A line for each process: its runs, and how far they have come."""
    processes: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        attempt = _attempt(row)
        processes.setdefault((attempt.get("host"), attempt.get("pid"), row.job), []).append(row)
    for alike in list(processes.values())[:PROCESSES]:
        first, *more = alike
        if more:
            found = together(_reached(home, alike))
            said = [number(len(alike)), first.job, first.state.node, found]
            yield wrapped("running", "  ".join(filter(None, said)))
        else:
            yield _one(home, first)
    if left := list(processes.values())[PROCESSES:]:
        yield wrapped("running", f"{number(sum(map(len, left)))} in {len(left)} more processes")


def _alike(word: str, rows: Sequence[Row]) -> Iterator[str]:
    """Lines for runs of one status: by job where they wait, with the best of those that have ended."""
    head = f"{word:<{STATUS_LETTERS}}"
    if word in EXIT_CODES and rows:
        best = min(rows, key=lambda row: rank(row.known))
        value = record.best(best.known, ".4g")
        all_of_them = f"{head}{number(len(rows))}"
        yield line(f"{all_of_them}; best ", best.name, value) if value else all_of_them
        return
    by_job: dict[tuple[str, str], int] = {}
    for row in rows:
        waits = row.job.partition("_")[0], row.state.reason if row.state.waits else ""
        by_job[waits] = by_job.get(waits, 0) + 1
    for (job, reason), count in by_job.items():
        about = "  ".join(filter(None, [f"job {job}" if job else "", reason]))
        yield f"{head}{number(count)}  {about}".rstrip()


def _attempt(row: Row) -> Mapping[str, Any]:
    attempts = row.known.get("attempts") or [{}]
    return attempts[-1] if isinstance(attempts[-1], Mapping) else {}


def _reached(home: Path, rows: Sequence[Row]) -> list[Reached | None]:
    """How far the runs of one process have come, whose trainings are equally long."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        trainer = yaml.safe_load((home / rows[0].name / "config.yaml").read_bytes())["trainer"]
        now = time.time()
        return [reached(home / row.name, trainer, _attempt(row), now) for row in rows[:MOST_LOOKS]]
    return []
