"""Gives what is missing of a sweep to a cluster, and looks after what is there."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweepwise import provenance
from sweepwise.failure import Failure
from sweepwise.identity import Request
from sweepwise.report import INDENT, wrapped
from sweepwise.standing import ENDED, made_by, refuse_changed
from sweepwise.sweep import overview
from sweepwise.sweep.ledger import Ledger
from sweepwise.sweep.overview import Row
from sweepwise.sweep.settings import Settings
from sweepwise.sweep.submission import Order, adopt, submit
from sweepwise.sweep.summary import counts


@dataclass(frozen=True)
class Sorted:
    """The runs of a sweep, by what is to be done about them.

    Attributes:
        ended: with nothing left to do.
        live: in the hands of a job, or of a process.
        missing: that have to be submitted.
    """

    ended: Sequence[Request]
    live: Sequence[Request]
    missing: Sequence[Request]


def dispatch(runs: Sequence[Request], settings: Settings, script: Path) -> dict[str, Row]:
    """Submits the runs that are neither ended nor in a live job; stays until all have ended, if wanted.

    Args:
        runs: as composed; of one sweep, or of several with folders of their own.
        settings: how.
        script: folder of the script that was started.

    Returns:
        How each run stands now, by its id.

    Raises:
        Changed: an ended run was made by other code.
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
    rows: dict[str, Row] = {}
    for home, own in homes.items():
        _submit(home, list(own.values()), settings, script)
    for home, own in homes.items():
        if settings.wait:
            wait(home, list(own), settings.poll_s)
        found = overview.look(home, own)
        if settings.wait:
            tell(home, found)
        rows |= {row.run: row for row in found}
    return rows


def _submit(home: Path, runs: Sequence[Request], settings: Settings, script: Path) -> None:
    """Submits what is missing of a sweep, while no other launcher does."""
    ledger = Ledger(home)
    with ledger.held():
        adopt(ledger)
        found = _sorted(home, runs)
        made = submit(Order(ledger, found.missing, script, settings)) if found.missing else None
    told = [("sweep", f"{home}: {len(runs)} runs")]
    told += [("ended", str(len(found.ended)))] if found.ended else []
    told += [("in live jobs", str(len(found.live)))] if found.live else []
    if made:
        first = made.jobs[0].partition("_")[0]
        tasks = f"({len(made.tasks)} task{'s' if len(made.tasks) > 1 else ''})"
        what = f"job {first}" if made.cluster == "slurm" else f"processes {', '.join(made.jobs)}"
        told.append(("submitted", f"{len(found.missing)} as {what} {tasks}"))
    if made or found.live:
        told += _ways(home)
    for key, text in told:
        print(f"{key:<{INDENT}}{text}", flush=True)  # not wrapped: a command is there to be copied


def _ways(home: Path) -> list[tuple[str, str]]:
    """What to do with a sweep that runs on a cluster."""
    return [
        (word, shlex.join(["python", f"scripts/{script}.py", str(home)]))
        for word, script in (("follow", "status"), ("cancel", "cancel"))
    ]


def _sorted(home: Path, runs: Sequence[Request]) -> Sorted:
    rows = {row.run: row for row in overview.look(home, {run.id for run in runs})}
    ended, live, missing = [], [], []
    for run in runs:
        row = rows.get(run.id)
        if row and row.live:
            live.append(run)
        elif row and row.status in ENDED and not run.config["fresh"]:
            _refuse_changed(home / row.name, row, run)
            ended.append(run)
        else:
            missing.append(run)
    return Sorted(ended, live, missing)


def _refuse_changed(folder: Path, row: Row, run: Request) -> None:
    differs = provenance.differences(row.known, made_by(run, provenance.versions()))
    refuse_changed(folder, row.known, run, [*differs.code, *differs.inputs, *differs.versions])


def wait(home: Path, runs: Sequence[str], poll_s: float) -> None:
    """Stays until no job of these runs is live any more, and says when that changes.

    Args:
        home: the sweep's folder.
        runs: their ids.
        poll_s: seconds between two looks.

    Raises:
        KeyboardInterrupt: a signal came; the jobs go on.
    """
    try:
        _wait(home, runs, poll_s)
    except KeyboardInterrupt:
        print(wrapped("jobs", "go on; the same command waits for them again"), file=sys.stderr)
        for key, text in _ways(home):
            print(f"{key:<{INDENT}}{text}", file=sys.stderr)
        raise


def _wait(home: Path, runs: Sequence[str], poll_s: float) -> None:
    before, quiet = "", 0
    while True:
        try:
            rows = overview.look(home, runs)
        except Failure as error:  # a controller that restarts; the jobs go on
            rows, now = [], str(error)
        else:
            now = counts([row.status for row in rows])
        if now != before:
            print(wrapped(time.strftime("%H:%M:%S"), now), flush=True)
            before = now
        quiet = quiet + 1 if rows and not any(row.live for row in rows) else 0
        if quiet == 2:  # a job may look ended for a moment before it is requeued
            return
        time.sleep(poll_s)


def tell(home: Path, rows: Sequence[Row]) -> None:
    """Says what became of a sweep; failures go to the standard error output."""
    print(wrapped("sweep", f"{home}: {len(rows)} runs: {counts([row.status for row in rows])}"), flush=True)
    for key, text in overview.failures(rows):
        print(wrapped(key, text), file=sys.stderr)
