"""Gives what is missing of a sweep to a cluster, and looks after what is there."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweepwise.errors import Failure
from sweepwise.provenance.changes import Changed, refuse_made_otherwise
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED
from sweepwise.sweep.cluster import overview
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import Row, tell_failures
from sweepwise.sweep.cluster.settings import ClusterSettings
from sweepwise.sweep.cluster.submission import Order, adopt, submit
from sweepwise.sweep.summary import counts, number, told_of
from sweepwise.system.console import INDENT, wrapped

# Why jobs wait that will run; whoever waits for a job wants to know of any other.
ORDINARY = {"", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "Cleaning"}
ENDING_SECONDS = 60  # Slurm gives a job 30 s (KillWait) from the first signal to the last


@dataclass(frozen=True)
class Sorted:
    """The runs of a sweep, by what is to be done about them.

    Attributes:
        ended: with nothing left to do.
        live: in the hands of a job, or of a process.
        missing: that have to be submitted.
        again: those of them that were tried before.
        changed: that have ended, but were made by something else.
    """

    ended: list[Row]
    live: list[Row]
    missing: list[Request]
    again: list[Row]
    changed: list[Row]


def dispatch(runs: Sequence[Request], settings: ClusterSettings, script: Path) -> dict[tuple[Path, str], Row]:
    """Submits the runs that are neither ended nor in a live job; stays until all have ended, if wanted.

    Args:
        runs: as composed; of one sweep, or of several with folders of their own.
        settings: how.
        script: folder of the script that was started.

    Returns:
        How each run stands now, by its sweep's folder and its id.

    Raises:
        Failure: the cluster refuses, or does not answer.
        UsageError: the settings cannot be.
        OSError: a file cannot be written.
    """
    if settings.cluster == "slurm" and not shutil.which("sbatch"):
        raise Failure(
            "hydra/launcher=slurm: there is no Slurm here (no sbatch); use a login node of a cluster"
        )
    homes: dict[Path, dict[str, Request]] = {}
    for run in runs:
        homes.setdefault(run.home, {}).setdefault(run.id, run)
    rows: dict[tuple[Path, str], Row] = {}
    changed: dict[tuple[Path, str], Row] = {}
    for home, own in homes.items():
        changed |= {(home, row.run): row for row in _submit(home, list(own.values()), settings, script)}
    for home, own in homes.items():
        found = wait(home, list(own), settings.poll_s) if settings.wait else overview.look(home, own)
        rows |= {(home, row.run): row for row in found}
    return rows | changed


def _submit(home: Path, runs: Sequence[Request], settings: ClusterSettings, script: Path) -> list[Row]:
    """Submits what is missing of a sweep, while no other launcher does; returns runs that have changed."""
    ledger = Ledger(home)
    with ledger.held():
        adopt(ledger)
        found = _at_rest(home, runs)
        made = submit(Order(ledger, found.missing, script, settings)) if found.missing else None
    told = [("sweep", f"{home}: {number(len(runs))}")]
    told += _told("ended", found.ended) + _told("in live jobs", found.live) + _told("once more", found.again)
    if any(run.config["fresh"] and run.id in {row.run for row in found.live} for run in runs):
        told.append(("", "fresh=true ends no job; scripts/cancel.py does"))
    if made:
        first = made.jobs[0].partition("_")[0]
        tasks = f"({len(made.tasks)} task{'s' if len(made.tasks) > 1 else ''})"
        what = f"job {first}" if made.cluster == "slurm" else f"processes {', '.join(made.jobs)}"
        told.append(("submitted", f"{len(found.missing)} as {what} {tasks}"))
    if made or found.live:
        told += _ways(home)
    for key, text in told:
        print(f"{key:<{INDENT}}{text}", flush=True)  # not wrapped: a command is there to be copied
    tell_failures([*found.again, *found.changed])
    return found.changed


def _at_rest(home: Path, runs: Sequence[Request]) -> Sorted:
    """The runs of a sweep, once the processes of jobs that were cancelled are gone: a minute at most."""
    until, told = time.monotonic() + ENDING_SECONDS, False
    while True:
        found = _sorted(home, runs)
        ending = [row for row in found.live if row.status == "ending"]
        if not ending or time.monotonic() > until:
            return found
        if not told:
            print(f"{'waiting':<{INDENT}}for {number(len(ending))} whose cancelled job is ending", flush=True)
        told = True
        time.sleep(1)


def _told(key: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(key, f"{len(rows)}: {counts([row.status for row in rows])}")] if rows else []


def _ways(home: Path) -> list[tuple[str, str]]:
    """What to do with a sweep that runs on a cluster."""
    return [
        (word, shlex.join(["python", f"scripts/{script}.py", str(home)]))
        for word, script in (("follow", "status"), ("cancel", "cancel"))
    ]


def _sorted(home: Path, runs: Sequence[Request]) -> Sorted:
    rows = {row.run: row for row in overview.look(home, {run.id for run in runs})}
    found = Sorted([], [], [], [], [])
    for run in runs:
        row = rows.get(run.id)
        if row and row.live:
            found.live.append(row)
        elif row and row.status in ENDED and not run.config["fresh"]:
            try:
                refuse_made_otherwise(home / row.name, row.known, run)
                found.ended.append(row)
            except Changed as error:
                found.changed.append(replace(row, status="changed", job="", last=[str(error)]))
        else:
            found.missing.append(run)
            found.again.extend([row] if row else [])
    return found


def wait(home: Path, runs: Sequence[str], poll_s: float) -> list[Row]:
    """Stays until no job of these runs is live any more; says when something changes, and how it ended.

    Args:
        home: the sweep's folder.
        runs: their ids.
        poll_s: seconds between two looks.

    Returns:
        How each run has ended.

    Raises:
        Stopped: a signal came; the jobs go on.
    """
    try:
        rows = _watch(home, runs, poll_s)
    except KeyboardInterrupt:
        print(wrapped("jobs", "go on; the same command waits for them again"), file=sys.stderr)
        for key, text in _ways(home):
            print(f"{key:<{INDENT}}{text}", file=sys.stderr)
        raise
    print(wrapped("sweep", told_of(home, [row.status for row in rows])), flush=True)
    tell_failures(rows)
    return rows


def _watch(home: Path, runs: Sequence[str], poll_s: float) -> list[Row]:
    before, quiet = "", 0
    while True:
        rows: list[Row] = []
        try:
            rows = overview.look(home, runs)
            now = counts([row.status for row in rows])
            reasons = {row.state.reason for row in rows if row.state.waits} - ORDINARY
            now += f" ({', '.join(sorted(reasons))})" if reasons else ""
        except Failure as error:  # a controller that is started again; the jobs go on
            now = str(error)
        if now != before:
            print(wrapped(time.strftime("%H:%M:%S"), now), flush=True)
            before = now
        quiet = quiet + 1 if rows and not any(row.live for row in rows) else 0
        if quiet == 2:  # a job may look ended for a moment before it is requeued
            return rows
        time.sleep(poll_s)
