"""The program of a cluster's task: trains the runs that a plan assigns to it, and answers signals.

    python -P -m sweepwise.sweep.job PLAN [TASK]

SIGUSR1 and SIGUSR2 announce a time limit or a preemption: the job makes a checkpoint and is requeued. SIGTERM
can have other causes, such as scancel: the job makes a checkpoint and is not requeued. Exit codes: 0 if all
runs have ended (also by diverging) or pause as they were asked to, 1 if not, 143 after a signal.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sweepwise.config import allowlist
from sweepwise.distributed.place import quieten
from sweepwise.errors import FAILED, Failure
from sweepwise.store import record
from sweepwise.store.folders import SWEEP
from sweepwise.store.status import settled
from sweepwise.sweep.cluster.jobs import NoAnswer, run_command
from sweepwise.sweep.cluster.ledger import LOGS, given_up, sweep_of
from sweepwise.sweep.cluster.plan import Plan
from sweepwise.sweep.local import pool
from sweepwise.sweep.local.child import train_here
from sweepwise.sweep.local.observer import Unobserved
from sweepwise.system import signals
from sweepwise.system.console import wrapped

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
PORTS = 20_000, 30_000  # below those that a kernel assigns by itself
SECONDS = 600  # that a cluster may take to end a job that waits for it
LOCAL_AGAIN = 144  # with this exit code submitit's local executor starts a task again


@dataclass(frozen=True)
class ClusterTask:
    """This process as the cluster knows it.

    Attributes:
        cluster: 'slurm' or 'local'.
        job: id, as `scontrol` takes it.
        restarts: of the job before this attempt.
        rank: of this process among those of the task's runs.
        size: their number.
    """

    cluster: str
    job: str
    restarts: int
    rank: int
    size: int

    @classmethod
    def here(cls) -> ClusterTask:
        """From the environment."""
        variables = os.environ
        if variables.get("SUBMITIT_EXECUTOR") == "local":
            rank, size = variables["SUBMITIT_LOCAL_GLOBALID"], variables["SUBMITIT_LOCAL_NTASKS"]
            return cls("local", variables["SUBMITIT_LOCAL_JOB_ID"], 0, int(rank), int(size))
        array = variables.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{variables['SLURM_ARRAY_TASK_ID']}" if array else variables["SLURM_JOB_ID"]
        restarts = int(variables.get("SLURM_RESTART_COUNT", 0))
        rank, size = variables["SLURM_PROCID"], variables["SLURM_STEP_NUM_TASKS"]
        return cls("slurm", job, restarts, int(rank), int(size))

    @property
    def log(self) -> str:
        """The name of the file into which this attempt prints."""
        return f"{self.job}.{self.restarts}{f'.{self.rank}' if self.rank else ''}.log"


def main(arguments: list[str]) -> int:
    """Trains a task's runs; returns the exit code."""
    task, path = ClusterTask.here(), Path(arguments[0])
    plan = Plan.read(path)
    sys.argv[:] = plan.command  # the record names it, and a person may repeat it
    _print_into(sweep_of(path.parent) / SWEEP / LOGS / task.log)
    if why := given_up(path.parent):
        print(f"error: this job was given up before it was submitted ({why}); another job trains its runs")
        return FAILED
    for number in signals.STOP_SIGNALS:  # what came while Python started has waited
        signal.signal(number, signal.SIG_DFL)
    try:
        with signals.handling_signals():
            signals.unblock()
            _set_torchrun_variables(task)
            index = int(arguments[1]) if len(arguments) > 1 else int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))
            try:
                code = _train(plan, index, task)
            finally:  # a later warning must become neither the end of this job nor that of scontrol
                signals.ignore(WARNINGS)
            signals.ignore(signals.STOP_SIGNALS)  # nothing is left to stop; Python may take seconds to end
            return code
    except KeyboardInterrupt as stopped:
        received = stopped.signal if isinstance(stopped, signals.Stopped) else int(signal.SIGINT)
        print(f"signal        {stopped or 'interrupted'}", file=sys.stderr, flush=True)
    return _end(task, received)


def _print_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _set_torchrun_variables(task: ClusterTask) -> None:
    """Sets the environment by which the processes of a run find each other, as torchrun does."""
    if task.size > 1:
        from submitit.helpers import TorchDistributedEnvironment

        # Another port at each attempt: processes of the last attempt may still hold theirs.
        port = random.Random(f"{task.job}.{task.restarts}").randrange(*PORTS)
        os.environ["MASTER_PORT"] = str(port)
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        quieten()


def _train(plan: Plan, index: int, task: ClusterTask) -> int:
    """Trains the runs of a task; returns the exit code, which is the same in all of its processes.

    Raises:
        Stopped: a signal came; checkpoints were made.
    """
    allowlist.allow(plan.packages)
    runs = plan.of_task(index)
    if len(runs) == 1:
        try:
            train_here(runs[0])
        except SystemExit as error:  # without a message, if another process of the run prints why
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
            elif task.size == 1:
                print(f"error: the training raised SystemExit({error.code!r})", file=sys.stderr)
    else:
        pool.train_all(runs, **plan.pool, observer=_Log(), suffix=f".{task.job}.{task.restarts}")
    return 0 if all(settled(record.read(run.folder), run.config) for run in runs) else FAILED


class _Log(Unobserved):
    """Prints news about the whole sweep into the task's log."""

    def say(self, key: str, text: str) -> None:
        """Prints it."""
        print(wrapped(key, text), flush=True)


def _end(task: ClusterTask, number: int) -> int:
    """After a signal: requeues the job, or waits until the cluster ends it; returns the exit code."""
    if task.cluster == "local":
        return LOCAL_AGAIN if number in WARNINGS else signals.exit_code(number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if task.rank == 0 and number in WARNINGS and not _requeued(task):
        return FAILED
    # A process that exits by itself now counts as completed for Slurm, and is not started again.
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and not _cancelled(task):
        time.sleep(2)
    return signals.exit_code(number)


def _requeued(task: ClusterTask) -> bool:
    """Asks Slurm to requeue this job; False if it refuses. Without an answer it may be requeued or not."""
    refused = False
    try:
        run_command("scontrol", "requeue", task.job)
        text = "back in the queue"
    except NoAnswer as error:
        text = f"perhaps not back in the queue ({error}); if it ends, the sweep's command resumes its runs"
    except Failure as error:
        refused, text = True, f"not requeued ({error}); the sweep's command resumes its runs"
    print(f"job           {text}", file=sys.stderr, flush=True)
    return not refused


def _cancelled(task: ClusterTask) -> bool:
    """Whether the job was cancelled: then it does not wait any longer."""
    # The accounting is asked: for the controller every job whose processes live is COMPLETING.
    try:
        state = run_command("sacct", "--noheader", "--allocations", "--format=State", f"--jobs={task.job}")
    except Failure:  # unknown: the cluster ends this process in its own time
        return False
    return state.strip().startswith("CANCELLED")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
