"""Gives runs to a cluster: a plan, a copy of the code, and one array of jobs, through submitit."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from sweepwise.config import allowlist
from sweepwise.errors import Failure
from sweepwise.store.request import Request, known_folders
from sweepwise.sweep.cluster import snapshot
from sweepwise.sweep.cluster.jobs import NoAnswer, asked, slurm_named
from sweepwise.sweep.cluster.ledger import Ledger, Submission
from sweepwise.sweep.cluster.plan import Plan
from sweepwise.sweep.cluster.settings import ClusterSettings
from sweepwise.system import atomic, signals

# Python takes half a second until it answers signals, of which it would die: they are kept until then. Where
# env cannot do that (before 2019) warnings that come so early are lost.
PATIENTLY = (
    'trap "" USR1 USR2; if env --block-signal=TERM true 2>/dev/null; '
    'then exec env --block-signal=USR1,USR2,TERM "$@"; else exec "$@"; fi'
)
JOB_NAME_LETTERS = 40
SCRIPT = "submission.sh"


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
    settings: ClusterSettings


def submit(order: Order) -> Submission:
    """Submits all runs, with one sbatch.

    Raises:
        Failure: the cluster refuses; nothing was submitted.
        OSError: a file cannot be written.
    """
    size, runs = order.settings.runs_per_job, order.runs
    tasks = [range(start, min(start + size, len(runs))) for start in range(0, len(runs), size)]
    submission = _named(order, tasks)
    folder = order.ledger.home_of(submission).resolve()
    submit_all = _prepared(order, submission, folder, tasks)
    order.ledger.announce(submission)

    def submit_and_tell() -> None:
        try:
            learned = replace(submission, jobs=submit_all())
        except NoAnswer as unknown:  # it may have been submitted: `adopt` finds out by its name
            print(f"error: {unknown}", file=sys.stderr)
            return
        except Failure as refused:
            learned = replace(submission, void=str(refused))
        order.ledger.learned(learned)

    _undisturbed(submit_and_tell)
    made = next(one for one in order.ledger.submissions() if one.name == submission.name)
    if made.void:
        shutil.rmtree(folder, ignore_errors=True)
        raise Failure(made.void)
    if not made.jobs:
        raise Failure(f"{folder}: it is not known whether it was submitted; the same command finds out")
    return made


def _named(order: Order, tasks: Sequence[Sequence[int]]) -> Submission:
    runs = order.runs
    there = known_folders(runs[0].home)
    return Submission(
        name=f"{runs[0].config['name']}"[:JOB_NAME_LETTERS] + f"-{secrets.token_hex(4)}",
        cluster=order.settings.cluster,
        tasks=[[runs[place].id for place in task] for task in tasks],
        names={run.id: (there.get(run.id) or run.new_folder).name for run in runs},
        fresh=[run.id for run in runs if run.config["fresh"]],
    )


def _prepared(
    order: Order, submission: Submission, folder: Path, tasks: Sequence[Sequence[int]]
) -> Callable[[], list[str]]:
    """Writes all that a submission needs; returns what submits it and returns the ids of its jobs."""
    settings = order.settings
    atomic.make_folder(folder)
    packages = list(allowlist.own_packages())
    pool = {key: getattr(settings, key) for key in ("max_parallel", "fuse", "group_size")}
    plan = Plan(order.runs, [list(task) for task in tasks], packages, sys.argv, pool)
    command = _command(plan.write(folder))
    setup = [f"export PYTHONPATH={shlex.quote(_python_path(order, packages))}", *settings.lines]
    prepare = _for_slurm if settings.cluster == "slurm" else _for_this_machine
    return prepare(submission.name, folder, command, setup, len(tasks), settings)


def _undisturbed(do: Callable[[], None]) -> None:
    """Does something in a process of its own, which goes on if this one is killed and holds its locks."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        for number in signals.STOP_SIGNALS:
            signal.signal(number, _nothing)  # which a program that is started does not inherit
        do()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Answers a signal."""


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


def adopted(ledger: Ledger) -> None:
    """`adopt`, if that has to be done and the folder lets it be."""
    if any(not (one.jobs or one.void) for one in ledger.submissions()):
        with contextlib.suppress(OSError), ledger.held():
            adopt(ledger)


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
        places.insert(0, str(Path(snapshot.__file__).resolve().parents[3]))
    return os.pathsep.join(dict.fromkeys(places))


def _for_slurm(
    name: str, folder: Path, command: str, setup: Sequence[str], tasks: int, settings: ClusterSettings
) -> Callable[[], list[str]]:
    """What submits to Slurm, all but submitted; it returns the jobs' ids."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedSubmissionError

    executor = SlurmExecutor(folder)
    executor.update_parameters(job_name=name, setup=list(setup), **settings.slurm())
    if tasks > 1:
        executor.parameters["map_count"] = tasks

    def submit() -> list[str]:
        # Not by submitit's own functions: that for arrays pickles each job and moves the pickles after
        # sbatch, so a launcher that dies in between would leave jobs that find nothing.
        script = folder / SCRIPT
        atomic.write_atomic(script, executor._make_submission_file_text(command, name).encode())
        try:
            printed = asked(*executor._make_submission_command(script))
            return _ids(executor._get_job_id_from_submission_command(printed), tasks)
        except NoAnswer:
            raise
        except (Failure, FailedSubmissionError) as error:
            told = _told(error)
            if "array" in told and tasks > 1:
                told += (
                    f"; {tasks:,} jobs may be more than an array can have here (scontrol show config | grep "
                    "MaxArraySize): hydra.launcher.runs_per_job=N makes fewer of them"
                )
            raise Failure(f"sbatch refuses: {told}") from error

    return submit


def _told(error: Exception) -> str:
    """What sbatch has printed, in a line."""
    lines = (line.strip() for line in str(error).removeprefix("sbatch: ").splitlines())
    return "; ".join(filter(None, lines))


def _for_this_machine(
    name: str, folder: Path, command: str, setup: Sequence[str], tasks: int, settings: ClusterSettings
) -> Callable[[], list[str]]:
    """As `_for_slurm`, for submitit's local executor, which has no arrays."""
    from submitit import LocalExecutor

    known: Mapping[str, Any] = settings.local()
    executor = LocalExecutor(folder)
    # Else what the launcher prints into, a pipe maybe, stays open for as long as its jobs run.
    executor.update_parameters(setup=["exec >/dev/null 2>&1 </dev/null", *setup], **known)
    return lambda: [executor._submit_command(f"{command} {task}").job_id for task in range(tasks)]
