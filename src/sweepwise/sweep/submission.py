"""Gives runs to a cluster: a plan, a copy of the code, and one array of jobs, through submitit."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweepwise import allowlist, folders
from sweepwise.failure import Failure
from sweepwise.identity import Request
from sweepwise.sweep import snapshot
from sweepwise.sweep.jobs import slurm_named
from sweepwise.sweep.ledger import LOGS, Ledger, Submission
from sweepwise.sweep.plan import Plan
from sweepwise.sweep.settings import Settings

# Python takes half a second until it answers signals, of which it would die: they are kept until then. Where
# env cannot do that (before 2019) warnings that come so early are lost.
PATIENTLY = (
    'if env --block-signal=TERM true 2>/dev/null; then exec env --block-signal=USR1,USR2,TERM "$@"; '
    'else trap "" USR1 USR2; exec "$@"; fi'
)
JOB_NAME_LETTERS = 40


@dataclass(frozen=True)
class Order:
    """Runs of one sweep that are to be submitted.

    Attributes:
        ledger: the sweep's.
        runs: as composed.
        script: folder of the script that was started, from where its modules are imported.
        settings: how.
    """

    ledger: Ledger
    runs: Sequence[Request]
    script: Path
    settings: Settings


def submit(order: Order) -> Submission:
    """Submits all runs, with one sbatch.

    Raises:
        Failure: the cluster refuses; nothing was submitted.
        OSError: a file cannot be written.
    """
    settings, runs = order.settings, order.runs
    size = settings.runs_per_job
    tasks = [list(range(start, min(start + size, len(runs)))) for start in range(0, len(runs), size)]
    name = f"{runs[0].config['name']}"[:JOB_NAME_LETTERS] + f"-{secrets.token_hex(4)}"
    ids = [[runs[place].id for place in task] for task in tasks]
    submission = Submission(name, settings.cluster, ids, {run.id: run.folder.name for run in runs})
    folder = order.ledger.home_of(submission).resolve()
    folders.make(folder)
    packages = list(allowlist.own_packages())
    logs = (order.ledger.folder / LOGS).resolve()
    plan = Plan(runs, tasks, packages, str(logs), sys.argv, settings.max_parallel).write(folder)
    command = _command(plan)
    setup = [f"export PYTHONPATH={shlex.quote(_python_path(order, packages))}", *settings.lines]
    if settings.cluster == "slurm":
        prepared = _for_slurm(name, folder, command, setup, len(tasks), settings)
    else:
        prepared = _for_this_machine(folder, command, setup, len(tasks), settings)
    order.ledger.announce(submission)
    try:
        jobs = prepared()
    except Failure as refused:
        order.ledger.learned(replace(submission, void=str(refused)))
        shutil.rmtree(folder, ignore_errors=True)
        raise
    submission = replace(submission, jobs=jobs)
    order.ledger.learned(submission)
    return submission


def adopt(ledger: Ledger) -> None:
    """Finds the jobs of submissions whose launcher died before it could write down their ids.

    Raises:
        Failure: Slurm does not answer.
    """
    for lost in ledger.submissions():
        if lost.jobs or lost.void:
            continue
        first = slurm_named(lost.name) if lost.cluster == "slurm" else None
        if first:
            ledger.learned(replace(lost, jobs=_ids(first, len(lost.tasks))))
        else:
            ledger.learned(replace(lost, void="its launcher died before it was submitted"))


def _ids(first: str, tasks: int) -> list[str]:
    return [f"{first}_{task}" for task in range(tasks)] if tasks > 1 else [first]


def _command(plan: Path) -> str:
    words = [sys.executable, "-u", "-P", "-m", "sweepwise.sweep.job", str(plan)]
    return shlex.join(["sh", "-c", PATIENTLY, "sh", *words])


def _python_path(order: Order, packages: Sequence[str]) -> str:
    """Where a job imports from: the copy of the code, else what this process imports from."""
    places = [str(order.script), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if order.settings.snapshot:
        targets = sorted({target for run in order.runs for target in run.targets})
        places.insert(0, str(snapshot.take(order.ledger.folder, targets, packages).resolve()))
    else:
        places.insert(0, str(Path(snapshot.__file__).resolve().parents[2]))
    return os.pathsep.join(dict.fromkeys(places))


def _for_slurm(
    name: str, folder: Path, command: str, setup: Sequence[str], tasks: int, settings: Settings
) -> Callable[[], list[str]]:
    """What submits to Slurm, all but submitted; it returns the jobs' ids."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = SlurmExecutor(folder)
    executor.update_parameters(job_name=name, setup=list(setup), **settings.slurm())
    if tasks > 1:
        executor.parameters["map_count"] = tasks

    def submit() -> list[str]:
        # Not by submitit's own function for arrays: it pickles each job and moves the pickles after sbatch;
        # a a launcher that dies in between would leave jobs that find nothing.
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # it is in the exception
                return _ids(executor._submit_command(command).job_id, tasks)
        except (FailedJobError, FailedSubmissionError) as error:
            raise Failure(f"sbatch refuses: {_told(error)}") from error

    return submit


def _told(error: Exception) -> str:
    """What sbatch has printed, in a line."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line.startswith("sbatch:")] or lines
    return "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in said if line)


def _for_this_machine(
    folder: Path, command: str, setup: Sequence[str], tasks: int, settings: Settings
) -> Callable[[], list[str]]:
    """As `_for_slurm`, for submitit's local executor, which has no arrays."""
    from submitit import LocalExecutor

    known: Mapping[str, Any] = settings.local()
    executor = LocalExecutor(folder)
    # Else what the launcher prints into, a pipe maybe, stays open for as long as its jobs run.
    executor.update_parameters(setup=["exec >/dev/null 2>&1 </dev/null", *setup], **known)
    return lambda: [executor._submit_command(f"{command} {task}").job_id for task in range(tasks)]
