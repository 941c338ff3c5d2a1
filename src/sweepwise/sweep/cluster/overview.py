"""A sweep as it stands: what each run's record says, and what the cluster says of its job."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.provenance import environment
from sweepwise.store import record
from sweepwise.store.folders import RECORD, SWEEP
from sweepwise.store.request import known_folders
from sweepwise.store.status import ENDED, current_status
from sweepwise.sweep.cluster import jobs
from sweepwise.sweep.cluster.jobs import ENDING, GONE, State
from sweepwise.sweep.cluster.ledger import LOGS, Ledger, Placed
from sweepwise.sweep.outcome import last_lines
from sweepwise.system.console import wrapped

# Of jobs that have ended by themselves or by the cluster's fault, not by anybody's wish.
LIVE = ("running", "queued", "ending")
BROKEN = frozenset({"FAILED", "OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"})


@dataclass(frozen=True)
class Row:
    """A run of a sweep.

    Attributes:
        run: its id.
        name: of its folder, which may not be there yet.
        status: as its record tells, or 'queued', or 'ending': cancelled with its job, whose processes may
            still live; '' if nothing is known of it.
        job: that it was given to at last; ''.
        state: of that job.
        known: its record.
        last: lines that it, or its job, has printed at last; of a run that has failed.
        cluster: to which it was given at last; ''.
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
        """Whether a job has it still to train, or a process trains it."""
        return self.status in LIVE or (self.state.live and self.status not in ENDED)


def states(placed: Iterable[Placed]) -> dict[str, State]:
    """How jobs stand, by id; each cluster is asked once.

    Raises:
        Failure: a cluster does not answer.
    """
    by_cluster: dict[str, set[str]] = {}
    for place in placed:
        by_cluster.setdefault(place.submission.cluster, set()).add(place.job)
    found: dict[str, State] = {}
    for cluster, ids in by_cluster.items():
        found |= jobs.STATES[cluster](ids)
    return found


def look(home: Path, only: Collection[str] | None = None) -> list[Row]:
    """All runs of a sweep, as they stand.

    Args:
        home: the folder that holds them.
        only: ids of the runs that are asked for; None: all that have a folder or a job.

    Raises:
        Failure: a cluster does not answer.
        record.DamagedRecord: a record cannot be read.
    """
    placed = Ledger(home).placed()
    folders = known_folders(home)
    runs = sorted({*placed, *(run for run, path in folders.items() if (path / RECORD).exists())})
    wanted = [run for run in runs if only is None or run in only]
    standing = states(placed[run] for run in wanted if run in placed)
    rows = [_row(run, folders.get(run), placed.get(run), standing, home) for run in wanted]
    return sorted(rows, key=lambda row: row.name)


def _row(
    run: str, folder: Path | None, place: Placed | None, standing: Mapping[str, State], home: Path
) -> Row:
    known = record.read(folder) if folder else {}
    told = current_status(folder) if folder else ""
    state = standing[place.job] if place else GONE
    anew = bool(place and run in place.submission.fresh and environment.job(known) != place.job)
    waits = anew and state.live and told != "running"
    status = "queued" if waits else _status(told, state, bool(place))
    job = place.job if place else ""
    last: Sequence[str] = ()
    if status == "failed":
        logs, errors = _printed(run, place, home)
        if state == GONE and not told and not logs:  # it was cancelled before it began, and is forgotten
            status = "interrupted"
        last = _last(known, logs, errors)
    name = folder.name if folder else place.submission.names[run] if place else run
    cluster = place.submission.cluster if place else ""
    return Row(run, name, status, job, state, known, last, cluster)


def _status(told: str, state: State, given: bool) -> str:
    """What is true of a run whose record says `told` and whose job, if it was given to one, is in a state."""
    if told in ENDED:
        return told
    if state.word == ENDING:
        return "ending"
    if told == "running":
        return told
    if state.live:
        return "failed" if told == "failed" and not state.waits else "queued"
    if told == "interrupted" and state.word in BROKEN:  # it died with its job, and could not say so
        return "failed"
    if told or not given:
        return told
    return "interrupted" if state.word == "CANCELLED" else "failed"


def _printed(run: str, place: Placed | None, home: Path) -> tuple[list[Path], list[Path]]:
    """Files into which a run, or its job, has printed; and those for what the cluster says of the job."""
    logs = home / SWEEP / LOGS
    found = [*logs.glob(f"{run}.*log"), *(logs.glob(f"{place.job}.*log") if place else ())]
    errors = Ledger(home).home_of(place.submission).glob(f"{place.job}_*_log.err") if place else ()
    return found, list(errors)


def _last(known: Mapping[str, Any], logs: Sequence[Path], errors: Sequence[Path]) -> list[str]:
    """Why a run has failed: its own words, what it or its job has printed at last, the cluster's words."""
    reason = [known["reason"]] if known.get("reason") else []
    for paths in (logs, errors):
        if newest := max(paths, key=lambda path: path.stat().st_mtime, default=None):
            said = last_lines(newest)
            reason += [*said, f"in {newest}"] if said else []
    return reason


def tell_failures(rows: Sequence[Row]) -> None:
    """Names each run that has failed, with its job and its last lines, on the standard error output."""
    failed = [row for row in rows if row.status in ("failed", "changed")]
    exits: dict[str, str] = {}
    for cluster, ask in jobs.EXITS.items():
        exits |= ask(sorted({row.job for row in failed if row.cluster == cluster}))
    for row in failed:
        about = " ".join(filter(None, [row.state.word, row.state.node]))
        job = f" (job {row.job}: {', '.join(filter(None, [about, exits.get(row.job)]))})" if row.job else ""
        for key, text in [(row.status, f"{row.name}{job}"), *(("", f"  {line}") for line in row.last)]:
            print(wrapped(key, text), file=sys.stderr, flush=True)
