"""What runs inside a cluster's task: trains the runs that a plan gives it, and answers the cluster's signals.

    python -P -m sweepwise.sweep.job PLAN [TASK]

SIGUSR1 and SIGUSR2 announce a time limit or a preemption: after a checkpoint the job is requeued. SIGTERM may
be anything, scancel too: after a checkpoint nothing is asked for. Exit codes: 0 if all runs have ended (by
diverging, too), 1 if not, 143 after a signal.
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
from sweepwise.store.status import ended
from sweepwise.sweep.cluster.jobs import NoAnswer, asked
from sweepwise.sweep.cluster.ledger import LOGS, given_up, sweep_of
from sweepwise.sweep.cluster.plan import Plan
from sweepwise.sweep.local import pool
from sweepwise.sweep.local.child import train_here
from sweepwise.system import signals
from sweepwise.system.console import wrapped

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
PORTS = 20_000, 30_000  # below those that a kernel gives away
SECONDS = 600  # that a cluster may take to end a job that waits for it
LOCAL_AGAIN = 144  # submitit's local executor starts a task again that ends so


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
        told = os.environ
        if told.get("SUBMITIT_EXECUTOR") == "local":
            rank, size = told["SUBMITIT_LOCAL_GLOBALID"], told["SUBMITIT_LOCAL_NTASKS"]
            return cls("local", told["SUBMITIT_LOCAL_JOB_ID"], 0, int(rank), int(size))
        array = told.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{told['SLURM_ARRAY_TASK_ID']}" if array else told["SLURM_JOB_ID"]
        restarts = int(told.get("SLURM_RESTART_COUNT", 0))
        return cls("slurm", job, restarts, int(told["SLURM_PROCID"]), int(told["SLURM_STEP_NUM_TASKS"]))

    @property
    def log(self) -> str:
        """Name of the file for what this attempt prints."""
        return f"{self.job}.{self.restarts}{f'.{self.rank}' if self.rank else ''}.log"


def main(arguments: list[str]) -> int:
    """Trains a task's runs; returns the exit code."""
    task, path = ClusterTask.here(), Path(arguments[0])
    plan = Plan.read(path)
    sys.argv[:] = plan.command  # which a record names, and a person repeats
    _print_into(sweep_of(path.parent) / SWEEP / LOGS / task.log)
    if why := given_up(path.parent):
        print(f"error: this job was given up before it was submitted ({why}); its runs are in another one")
        return FAILED
    for number in signals.STOP_SIGNALS:  # what came while Python started has waited
        signal.signal(number, signal.SIG_DFL)
    try:
        with signals.handling_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP_SIGNALS)
            _join(task)
            place = int(arguments[1]) if len(arguments) > 1 else int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))
            return _train(plan, place, task)
    except KeyboardInterrupt as stopped:
        asked = stopped.signal if isinstance(stopped, signals.Stopped) else int(signal.SIGINT)
        print(f"signal        {stopped or 'interrupted'}", file=sys.stderr, flush=True)
    return _leave(task, asked)


def _print_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _join(task: ClusterTask) -> None:
    """Tells the processes of a run where to meet, in torchrun's words."""
    if task.size > 1:
        from submitit.helpers import TorchDistributedEnvironment

        # Another one at each attempt: processes of the last one may still hold theirs.
        port = random.Random(f"{task.job}.{task.restarts}").randrange(*PORTS)
        os.environ["MASTER_PORT"] = str(port)
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        quieten()


def _train(plan: Plan, place: int, task: ClusterTask) -> int:
    """Trains the runs of a task; its exit code, by what has become of them: alike in all of its processes.

    Raises:
        Stopped: a signal came; checkpoints were made.
    """
    allowlist.allow(plan.packages)
    runs = plan.of_task(place)
    if len(runs) == 1:
        try:
            train_here(runs[0])
        except SystemExit as left:  # without a word, if another process of the run says why
            if isinstance(left.code, str):
                print(left.code, file=sys.stderr)
            elif task.size == 1:
                print(f"error: the training was left by SystemExit({left.code!r})", file=sys.stderr)
    else:
        pool.train_all(runs, **plan.pool, said=_say, suffix=f".{task.job}.{task.restarts}")
    return 0 if all(ended(record.read(run.folder)) for run in runs) else FAILED


def _say(key: str, text: str) -> None:
    print(wrapped(key, text), flush=True)


def _leave(task: ClusterTask, number: int) -> int:
    """What to do once a signal has ended the training; the exit code, if the cluster lets it come to that."""
    if task.cluster == "local":
        return LOCAL_AGAIN if number in WARNINGS else signals.exit_code(number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if task.rank == 0 and number in WARNINGS and not _requeued(task):
        return FAILED
    # Who ends by himself now has completed, for Slurm, and is not started again.
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and not _cancelled(task):
        time.sleep(2)
    return signals.exit_code(number)


def _requeued(task: ClusterTask) -> bool:
    """Asks for another attempt of this job; False if it is refused. What is not known may still come."""
    refused = False
    try:
        asked("scontrol", "requeue", task.job)
        text = "back in the queue"
    except NoAnswer as error:
        text = f"perhaps not back in the queue ({error}); if it ends, the command of the sweep continues it"
    except Failure as error:
        refused, text = True, f"not requeued ({error}); the command of the sweep continues its runs"
    print(f"job           {text}", file=sys.stderr, flush=True)
    return not refused


def _cancelled(task: ClusterTask) -> bool:
    """Whether the job was ended for good: there is nothing to wait for then."""
    # Not the controller: to it a job whose processes live is COMPLETING, whatever comes afterwards.
    try:
        told = asked("sacct", "--noheader", "--allocations", "--format=State", f"--jobs={task.job}")
    except Failure:  # nobody knows: the cluster ends this process when it likes
        return False
    return told.strip().startswith("CANCELLED")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
