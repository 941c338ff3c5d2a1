"""Submits runs to a cluster through submitit: writes a plan, copies the code, submits one array of jobs."""

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
from typing import Any, NoReturn

from sweepwise.config import allowlist
from sweepwise.errors import Failure
from sweepwise.store.request import Request, known_folders
from sweepwise.sweep.cluster import snapshot
from sweepwise.sweep.cluster.jobs import NoAnswer, run_command, slurm_named
from sweepwise.sweep.cluster.ledger import Ledger, Submission
from sweepwise.sweep.cluster.plan import Plan
from sweepwise.sweep.cluster.settings import ClusterSettings
from sweepwise.system import atomic, signals

# A signal in the half second before Python has set its handlers would kill it, so signals are blocked until
# then. Where env cannot block signals (before 2019), warnings that come so early are lost.
START_WITH_SIGNALS_BLOCKED = (
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
        runs: the runs.
        script: folder of the script that was started, from which its modules are imported.
        settings: how they are submitted.
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

    def submit_and_record() -> None:
        try:
            result = replace(submission, jobs=submit_all())
        except NoAnswer as error:  # it may have been submitted: `adopt` finds out by its name
            print(f"error: {error}", file=sys.stderr)
            return
        except Failure as error:
            result = replace(submission, void=str(error))
        order.ledger.add_result(result)

    _call_in_own_session(submit_and_record)
    recorded = next(one for one in order.ledger.submissions() if one.name == submission.name)
    if recorded.void:
        shutil.rmtree(folder, ignore_errors=True)
        raise Failure(recorded.void)
    if not recorded.jobs:
        raise Failure(
            f"{folder}: it is not known whether this was submitted; run the same command to find out"
        )
    return recorded


def _named(order: Order, tasks: Sequence[Sequence[int]]) -> Submission:
    runs = order.runs
    folders_by_id = known_folders(runs[0].home)
    return Submission(
        name=f"{runs[0].config['name']}"[:JOB_NAME_LETTERS] + f"-{secrets.token_hex(4)}",
        cluster=order.settings.cluster,
        tasks=[[runs[index].id for index in task] for task in tasks],
        names={run.id: (folders_by_id.get(run.id) or run.new_folder).name for run in runs},
        fresh=[run.id for run in runs if run.config["fresh"]],
    )


def _prepared(
    order: Order, submission: Submission, folder: Path, tasks: Sequence[Sequence[int]]
) -> Callable[[], list[str]]:
    """Writes the files of a submission; returns a function that submits it and returns its jobs' ids."""
    settings = order.settings
    atomic.make_folder(folder)
    packages = list(allowlist.own_packages())
    pool = {key: getattr(settings, key) for key in ("max_parallel", "fuse", "group_size")}
    plan = Plan(order.runs, [list(task) for task in tasks], packages, sys.argv, pool)
    command = _command(plan.write(folder))
    setup = [f"export PYTHONPATH={shlex.quote(_python_path(order, packages))}", *settings.lines]
    prepare = _for_slurm if settings.cluster == "slurm" else _for_this_machine
    return prepare(submission.name, folder, command, setup, len(tasks), settings)


def _call_in_own_session(do: Callable[[], None]) -> None:
    """Calls a function in a forked process, which goes on and holds our locks even if this one is killed."""
    sys.stdout.flush()
    sys.stderr.flush()
    with signals.blocked():
        pid = os.fork()
        if pid == 0:
            _call_and_exit(do)
    os.waitpid(pid, 0)


def _call_and_exit(do: Callable[[], None]) -> NoReturn:
    try:
        os.setsid()
        for number in signals.STOP_SIGNALS:
            signal.signal(number, _ignore)  # not SIG_IGN, which programs that it starts would inherit
        signals.unblock()
        do()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Does nothing on a signal."""


def adopt(ledger: Ledger) -> None:
    """Finds the jobs of submissions whose launcher died before it could record their ids.

    Raises:
        Failure: Slurm does not answer.
    """
    for submission in ledger.submissions():
        if submission.jobs or submission.void:
            continue
        first = slurm_named(submission.name) if submission.cluster == "slurm" else None
        if first:
            ledger.add_result(replace(submission, jobs=_ids(first, len(submission.tasks))))
        else:
            ledger.add_result(replace(submission, void="its launcher died before it was submitted"))


def adopt_if_possible(ledger: Ledger) -> None:
    """Calls `adopt`, if a submission needs it and the folder can be written."""
    if any(not (one.jobs or one.void) for one in ledger.submissions()):
        with contextlib.suppress(OSError), ledger.held():
            adopt(ledger)


def _ids(first: str, tasks: int) -> list[str]:
    return [f"{first}_{task}" for task in range(tasks)] if tasks > 1 else [first]


def _command(plan: Path) -> str:
    words = [sys.executable, "-u", "-P", "-m", "sweepwise.sweep.job", str(plan)]
    return shlex.join(["sh", "-c", START_WITH_SIGNALS_BLOCKED, "sh", *words])


def _python_path(order: Order, packages: Sequence[str]) -> str:
    """PYTHONPATH of a job: the copy of the code, or where this process imports it from."""
    paths = [str(order.script), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if order.settings.snapshot:
        targets = sorted({target for run in order.runs for target in run.targets})
        paths.insert(0, str(snapshot.take(order.ledger.folder, targets, packages).resolve()))
    else:
        paths.insert(0, str(Path(snapshot.__file__).resolve().parents[3]))
    return os.pathsep.join(dict.fromkeys(paths))


def _for_slurm(
    name: str, folder: Path, command: str, setup: Sequence[str], tasks: int, settings: ClusterSettings
) -> Callable[[], list[str]]:
    """Prepares a submission to Slurm; returns a function that submits it and returns the jobs' ids."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedSubmissionError

    executor = SlurmExecutor(folder)
    executor.update_parameters(job_name=name, setup=list(setup), **settings.slurm())
    if tasks > 1:
        executor.parameters["map_count"] = tasks

    def submit() -> list[str]:
        # Not by submitit's own function for arrays: it pickles each job and moves the pickles after sbatch,
        # so the jobs of a launcher that dies in between would not find them.
        script = folder / SCRIPT
        atomic.write_atomic(script, executor._make_submission_file_text(command, name).encode())
        try:
            printed = run_command(*executor._make_submission_command(script))
            return _ids(executor._get_job_id_from_submission_command(printed), tasks)
        except NoAnswer:
            raise
        except (Failure, FailedSubmissionError) as error:
            message = _one_line(error)
            if "array" in message and tasks > 1:
                message += (
                    f"; perhaps {tasks:,} jobs are more than an array may have here (scontrol show "
                    "config | grep MaxArraySize): hydra.launcher.runs_per_job=N makes fewer of them"
                )
            raise Failure(f"sbatch refuses: {message}") from error

    return submit


def _one_line(error: Exception) -> str:
    """The message of sbatch, in one line."""
    lines = (line.strip() for line in str(error).removeprefix("sbatch: ").splitlines())
    return "; ".join(filter(None, lines))


def _for_this_machine(
    name: str, folder: Path, command: str, setup: Sequence[str], tasks: int, settings: ClusterSettings
) -> Callable[[], list[str]]:
    """As `_for_slurm`, for submitit's local executor, which has no arrays."""
    from submitit import LocalExecutor

    known: Mapping[str, Any] = settings.local()
    executor = LocalExecutor(folder)
    # Otherwise the jobs would keep the launcher's output open, which may be a pipe that somebody reads.
    executor.update_parameters(setup=["exec >/dev/null 2>&1 </dev/null", *setup], **known)
    return lambda: [executor._submit_command(f"{command} {task}").job_id for task in range(tasks)]
