"""Submits the runs of a sweep that are still to be trained to a cluster, and waits for them if asked to."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweepwise.errors import Failure
from sweepwise.provenance.changes import Changed, already_ended
from sweepwise.store.request import Request
from sweepwise.store.status import EXIT_CODES
from sweepwise.sweep.cluster import overview
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.overview import Row, tell_failures
from sweepwise.sweep.cluster.settings import ClusterSettings
from sweepwise.sweep.cluster.submission import Order, adopt, submit
from sweepwise.sweep.shown import SLOWER
from sweepwise.sweep.summary import (
    answer_of,
    counts,
    described,
    expect_in_tensorboard,
    number,
    tell_tensorboard,
)
from sweepwise.system.console import INDENT, wrapped

# Usual reasons why a job waits; any other is shown, since such a job may wait for ever.
USUAL_REASONS = {"", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "Cleaning"}
ENDING_SECONDS = 60  # Slurm kills a cancelled job after 30 s (KillWait)


@dataclass(frozen=True)
class Sorted:
    """The runs of a sweep, sorted by what has to be done with them.

    Attributes:
        ended: nothing is left to do.
        live: a job or a process trains them, or will.
        missing: they have to be submitted.
        again: those of `missing` that were submitted or trained before.
        changed: they have ended, but were produced with different code, inputs or versions.
    """

    ended: list[Row]
    live: list[Row]
    missing: list[Request]
    again: list[Row]
    changed: list[Row]


def dispatch(
    runs: Sequence[Request], settings: ClusterSettings, script: Path, *, answered: bool = True
) -> dict[tuple[Path, str], Row]:
    """Submits the runs that have not ended and are in no live job; waits until all have ended, if asked to.

    Args:
        runs: of one sweep, or of several with folders of their own.
        settings: how they are submitted.
        script: folder of the script that was started.
        answered: whether what they say together is printed once all have ended.

    Returns:
        The state of each run, by its sweep's folder and its id.

    Raises:
        Failure: the cluster refuses, or does not answer.
        UsageError: a setting is refused.
        OSError: a file cannot be written.
    """
    if settings.cluster == "slurm" and not shutil.which("sbatch"):
        raise Failure(
            "hydra/launcher=slurm: needs the command sbatch, which is not on this machine; use a login "
            "node of the cluster"
        )
    homes: dict[Path, dict[str, Request]] = {}
    for run in runs:
        homes.setdefault(run.home, {}).setdefault(run.id, run)
    rows: dict[tuple[Path, str], Row] = {}
    changed: dict[tuple[Path, str], Row] = {}
    for home, own in homes.items():
        changed |= {(home, row.run): row for row in _submit(home, list(own.values()), settings, script)}
    for home, own in homes.items():
        now = wait(home, list(own), settings.poll_s) if settings.wait else overview.look(home, own)
        rows |= {(home, row.run): row for row in now}
    if answered and len(rows) > 1 and not any(row.live for row in rows.values()):
        answer_of(list(homes), [run.config for run in runs])
        tell_tensorboard(list(homes), any(run.config.get("mean_runs", True) for run in runs))
    return rows | changed


def _submit(home: Path, runs: Sequence[Request], settings: ClusterSettings, script: Path) -> list[Row]:
    """Submits the missing runs of a sweep, one launcher at a time; returns those that have changed."""
    ledger = Ledger(home)
    with ledger.held():
        adopt(ledger)
        todo = _sorted_at_rest(home, runs)
        submission = submit(Order(ledger, todo.missing, script, settings)) if todo.missing else None
        expect_in_tensorboard(todo.missing)
    lines = [("sweep", f"{home}: {number(len(runs))}")]
    lines += _counted("ended", todo.ended) + _counted("in live jobs", todo.live)
    lines += _counted("once more", todo.again)
    if any(run.config["fresh"] and run.id in {row.run for row in todo.live} for run in runs):
        lines.append(("", "fresh=true ends no job; scripts/cancel.py does"))
    if submission:
        first = submission.jobs[0].partition("_")[0]
        tasks = f"({len(submission.tasks)} task{'s' if len(submission.tasks) > 1 else ''})"
        slurm = submission.cluster == "slurm"
        jobs = f"job {first}" if slurm else f"processes {', '.join(submission.jobs)}"
        lines.append(("submitted", f"{len(todo.missing)} as {jobs} {tasks}"))
    if submission or todo.live:
        lines += _commands(home)
    for key, text in lines:
        print(f"{key:<{INDENT}}{text}", flush=True)  # not wrapped, so that commands can be copied
    tell_failures([*todo.again, *todo.changed])
    return todo.changed


def _sorted_at_rest(home: Path, runs: Sequence[Request]) -> Sorted:
    """The runs, sorted once the processes of cancelled jobs have ended; waits a minute at most."""
    until, announced = time.monotonic() + ENDING_SECONDS, False
    while True:
        todo = _sorted(home, runs)
        ending = [row for row in todo.live if row.status == "ending"]
        if not ending or time.monotonic() > until:
            return todo
        if not announced:
            print(f"{'waiting':<{INDENT}}for {number(len(ending))} whose cancelled job is ending", flush=True)
        announced = True
        time.sleep(1)


def _counted(key: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(key, f"{len(rows)}: {counts([row.status for row in rows])}")] if rows else []


def _commands(home: Path) -> list[tuple[str, str]]:
    """Commands for a sweep that runs on a cluster."""
    return [
        (word, shlex.join(["python", f"scripts/{script}.py", str(home)]))
        for word, script in (("follow", "status"), ("cancel", "cancel"))
    ]


def _sorted(home: Path, runs: Sequence[Request]) -> Sorted:
    rows = {row.run: row for row in overview.look(home, {run.id for run in runs})}
    todo = Sorted([], [], [], [], [])
    for run in runs:
        row = rows.get(run.id)
        if row is None:
            todo.missing.append(run)
        elif row.live:
            todo.live.append(row)
        elif row.status == overview.DAMAGED and not run.config["fresh"]:
            todo.changed.append(row)
        else:
            try:
                ended = row.status in EXIT_CODES and already_ended(run, home / row.name)
            except Changed as error:
                todo.changed.append(replace(row, status="changed", job="", last=[str(error)]))
                continue
            if ended:
                todo.ended.append(row)
            else:
                todo.missing.append(run)
                todo.again.append(row)
    return todo


def wait(home: Path, runs: Sequence[str], poll_s: float) -> list[Row]:
    """Waits until no job of these runs is live; prints each change, and at the end how the runs have ended.

    Args:
        home: the sweep's folder.
        runs: their ids.
        poll_s: seconds between two questions to the cluster.

    Returns:
        The state of each run.

    Raises:
        Stopped: a signal came; the jobs go on.
    """
    try:
        rows = _watch(home, runs, poll_s)
    except KeyboardInterrupt:
        print(wrapped("jobs", "go on; the same command waits for them again"), file=sys.stderr)
        for key, text in _commands(home):
            print(f"{key:<{INDENT}}{text}", file=sys.stderr)
        raise
    print(wrapped("sweep", described(home, [row.status for row in rows])), flush=True)
    tell_failures(rows)
    return rows


def _watch(home: Path, runs: Sequence[str], poll_s: float) -> list[Row]:
    before, quiet, words = "", 0, set[str]()
    began = printed = time.monotonic()
    while True:
        rows: list[Row] = []
        there = words
        try:
            rows = overview.look(home, runs)
            now, there = counts([row.status for row in rows]), {row.status for row in rows}
            reasons = {row.state.reason for row in rows if row.state.waits} - USUAL_REASONS
            there |= reasons
            now += f" ({', '.join(sorted(reasons))})" if reasons else ""
        except Failure as error:  # such as a controller that restarts; the jobs go on
            now = str(error)
        clock = time.monotonic()
        # A change of numbers alone is said later and later: a large sweep has as many of them as runs.
        if now != before and (not rows or there != words or clock - printed >= (clock - began) / SLOWER):
            print(wrapped(time.strftime("%H:%M:%S"), now), flush=True)
            before, words, printed = now, there, clock
        quiet = quiet + 1 if rows and not any(row.live for row in rows) else 0
        if quiet == 2:  # a job may look ended for a moment before it is requeued
            return rows
        time.sleep(poll_s)
