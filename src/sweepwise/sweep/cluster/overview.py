"""The state of a sweep: the status of each run, from its record and from the cluster's state of its job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.provenance import environment
from sweepwise.store import record
from sweepwise.store.folders import RECORD, SWEEP
from sweepwise.store.request import known_folders
from sweepwise.store.status import EXIT_CODES, PRUNED, current_status
from sweepwise.sweep import failures
from sweepwise.sweep.cluster import jobs
from sweepwise.sweep.cluster.jobs import ENDING, GONE, State
from sweepwise.sweep.cluster.ledger import LOGS, Ledger, Placed
from sweepwise.sweep.outcome import last_lines

DAMAGED = "damaged"  # the record is: nobody knows how the run stands
LIVE = ("running", "queued", "ending")
# Slurm's states of jobs that have failed, by their own fault or the cluster's; nobody has cancelled them.
BROKEN = frozenset({"FAILED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"})


@dataclass(frozen=True)
class Row:
    """A run of a sweep.

    Attributes:
        run: its id.
        name: of its folder, which may not exist yet.
        status: the status in its record; or 'damaged', if that is not whole; or 'queued'; or 'ending', if its
            job was cancelled but processes may still live; '' if it is unknown.
        job: the last job of the run; '' if there is none.
        state: of that job.
        known: its record.
        last: the last lines of its output, or its job's, if it has failed.
        cluster: of that job; '' if there is none.
    """

    run: str
    name: str
    status: str
    job: str
    state: State
    known: Mapping[str, Any]
    last: Sequence[str]
    cluster: str = ""

    @property
    def live(self) -> bool:
        """Whether a process trains it, or a job that has not ended will."""
        return self.status in LIVE or (self.state.live and self.status not in EXIT_CODES)


def states(placed: Iterable[Placed]) -> dict[str, State]:
    """The states of jobs, by id; each cluster is asked once.

    Raises:
        Failure: a cluster does not answer.
    """
    by_cluster: dict[str, set[str]] = {}
    for one in placed:
        by_cluster.setdefault(one.submission.cluster, set()).add(one.job)
    states: dict[str, State] = {}
    for cluster, ids in by_cluster.items():
        states |= jobs.STATES[cluster](ids)
    return states


def look(home: Path, only: Collection[str] | None = None) -> list[Row]:
    """The state of each run of a sweep.

    Args:
        home: the folder that holds the runs.
        only: ids of the runs to return; None: all that have a folder or a job.

    Raises:
        Failure: a cluster does not answer.
        Damaged: the ledger is not whole. A record that is not makes a row of its own.
    """
    placed = Ledger(home).placed()
    folders = known_folders(home)
    named = set(folders.values())  # by an id at the end, as those of a run from Python need not be
    folders |= {
        path.parent.name: path.parent for path in home.glob(f"[!.]*/{RECORD}") if path.parent not in named
    }
    runs = sorted({*placed, *(run for run, path in folders.items() if (path / RECORD).exists())})
    wanted = [run for run in runs if only is None or run in only]
    job_states = states(placed[run] for run in wanted if run in placed)
    rows = [_row(run, folders.get(run), placed.get(run), job_states, home) for run in wanted]
    return sorted(rows, key=lambda row: row.name)


def _row(
    run: str, folder: Path | None, placed: Placed | None, job_states: Mapping[str, State], home: Path
) -> Row:
    state = job_states[placed.job] if placed else GONE
    try:
        known = record.read(folder) if folder else {}
        recorded = current_status(folder, known) if folder else ""
    except record.DamagedRecord as error:
        assert folder is not None
        job, cluster = (placed.job, placed.submission.cluster) if placed else ("", "")
        return Row(run, folder.name, DAMAGED, job, state, {}, [str(error)], cluster)
    untouched = bool(placed and environment.job(known) != placed.job)  # the job has not come to it yet
    anew = bool(placed and run in placed.submission.fresh) and recorded != "running"
    waits = state.live and untouched and (anew or recorded == PRUNED)
    status = "queued" if waits else _status(recorded, state, bool(placed))
    job = placed.job if placed else ""
    last: Sequence[str] = ()
    if status == "failed":
        logs, errors = _output_files(run, placed, home)
        if state == GONE and not recorded and not logs:  # cancelled before it began, and forgotten by Slurm
            status = "interrupted"
        last = _last(known, logs, errors)
    name = folder.name if folder else placed.submission.names[run] if placed else run
    cluster = placed.submission.cluster if placed else ""
    return Row(run, name, status, job, state, known, last, cluster)


def _status(recorded: str, state: State, submitted: bool) -> str:
    """The status of a run, from the status in its record and the state of its job, if it was submitted."""
    if recorded in EXIT_CODES:
        return recorded
    if state.word == ENDING:
        return "ending"
    if recorded == "running":
        return recorded
    if state.live:
        return "failed" if recorded == "failed" and not state.waits else "queued"
    if recorded == "interrupted" and state.word in BROKEN:  # it died with its job, and could not record it
        return "failed"
    if recorded or not submitted:
        return recorded
    return "interrupted" if state.word == "CANCELLED" else "failed"


def _output_files(run: str, placed: Placed | None, home: Path) -> tuple[list[Path], list[Path]]:
    """The logs of a run and its job, and the files into which the cluster writes errors of the job."""
    folder = home / SWEEP / LOGS
    logs = [*folder.glob(f"{run}.*log"), *(folder.glob(f"{placed.job}.*log") if placed else ())]
    errors = Ledger(home).home_of(placed.submission).glob(f"{placed.job}_*_log.err") if placed else ()
    return logs, list(errors)


def _last(known: Mapping[str, Any], logs: Sequence[Path], errors: Sequence[Path]) -> list[str]:
    """Why a run has failed: the reason in its record, the last lines of its logs, the cluster's errors."""
    lines = [known["reason"]] if known.get("reason") else []
    for paths in (logs, errors):
        if newest := max(paths, key=lambda path: path.stat().st_mtime, default=None):
            printed = last_lines(newest)
            lines += [*printed, f"in {newest}"] if printed else []
    return lines


def tell_failures(rows: Sequence[Row]) -> None:
    """Prints each run that has failed, changed or is damaged, with its job and last lines, to stderr."""
    failed = [row for row in rows if row.status in ("failed", "changed", DAMAGED)]
    exits: dict[str, str] = {}
    for cluster, ask in jobs.EXITS.items():
        exits |= ask(sorted({row.job for row in failed if row.cluster == cluster}))
    failures.tell(_failed(row, exits.get(row.job, "")) for row in failed)


def _failed(row: Row, exited: str) -> failures.Failed:
    about = ", ".join(filter(None, [" ".join(filter(None, [row.state.word, row.state.node])), exited]))
    job = f" (job {row.job}: {about})" if row.job else ""
    return failures.Failed(row.status, row.name, job, row.last, (row.name, row.run, row.job, row.state.node))
