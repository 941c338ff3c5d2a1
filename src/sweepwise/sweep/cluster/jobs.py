"""Asks a cluster for the states of jobs, and cancels jobs, by the commands of the cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweepwise.errors import Failure

SECONDS = 60  # that Slurm may take to answer
MOST_IDS = 5_000  # in one call of sacct: the length of a command line is limited
PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})


@dataclass(frozen=True)
class State:
    """The state of a job.

    Attributes:
        word: Slurm's name for it: 'PENDING', 'COMPLETED', 'NODE_FAIL' ...; 'GONE' if the cluster does not
            know the job; 'ENDING' if it was cancelled, but its processes may still live.
        node: on which it runs or ran; '' if there is none.
        reason: why it waits; '' if it does not.
    """

    word: str
    node: str = ""
    reason: str = ""

    @property
    def live(self) -> bool:
        """Whether it runs, or will run."""
        return self.word in PENDING or self.word in RUNNING

    @property
    def waits(self) -> bool:
        """Whether it will run."""
        return self.word in PENDING


GONE = State("GONE")
ENDING = "ENDING"


def slurm_states(jobs: Collection[str]) -> dict[str, State]:
    """The states of Slurm's jobs, by id.

    The controller is asked first, the accounting then for jobs that the controller has forgotten or that are
    COMPLETING. The accounting is late, and reports NODE_FAIL for a job that is being requeued.

    Args:
        jobs: ids, such as '17' and '17_3'.

    Raises:
        Failure: the controller does not answer.
    """
    if not jobs:
        return {}
    states = {job: state for job, _, state in _queue() if job in jobs}
    # To the controller a job whose processes live is COMPLETING, whether it is requeued or was cancelled.
    for job, state in _accounted([job for job in states if states[job].word == "COMPLETING"]).items():
        states[job] = replace(states[job], word=ENDING) if state.word == "CANCELLED" else states[job]
    missing = sorted(set(jobs) - states.keys())
    states |= _accounted(missing)
    return {job: states.get(job, GONE) for job in jobs}


def slurm_named(name: str) -> str | None:
    """The id of the job with a name, or of the whole array; None if there is none.

    Raises:
        Failure: the controller or the accounting does not answer.
    """
    for job, known, _ in _queue():
        if known == name:
            return job.partition("_")[0]
    try:
        output = run_command(
            "sacct", "--noheader", "--parsable2", "--allocations", f"--name={name}", "--format=JobID"
        )
    except NoAnswer:
        raise
    except Failure:  # there is no accounting here
        return None
    return output.split("_")[0].split()[0] if output.strip() else None


def _queue() -> list[tuple[str, str, State]]:
    """Id, name and state of each of this user's jobs that the controller knows."""
    arguments = ["--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%N|%r|%j"]
    try:
        output = run_command("squeue", *arguments)
    except Failure as error:
        raise Failure(
            f"Slurm does not answer: {error}. Nothing was submitted or cancelled; try again later"
        ) from error
    rows = (line.split("|", 4) for line in output.splitlines() if line.count("|") >= 4)
    return [(job, name, State(word, node, _reason(reason))) for job, word, node, reason, name in rows]


def _reason(text: str) -> str:
    return "" if text == "None" else text


def _accounted(jobs: Sequence[str]) -> dict[str, State]:
    """The states of ended jobs in the accounting; empty where there is none."""
    states = {}
    for job, state, node in _accounts(jobs, "State,NodeList"):
        word = (state.split() or ["GONE"])[0]  # 'CANCELLED by 1000'
        # A job that the controller has forgotten has ended, even if the late accounting does not know it yet.
        states[job] = State(word if word not in PENDING | RUNNING else "GONE", node)
    return states


def slurm_exits(jobs: Sequence[str]) -> dict[str, str]:
    """The exit code or the signal of each ended job, by id; empty where there is no accounting."""
    exits = {}
    for job, entry in _accounts(jobs, "ExitCode"):
        code, _, number = entry.partition(":")
        exits[job] = f"signal {number}" if number not in ("", "0") else f"exit code {code}"
    return exits


def _accounts(jobs: Sequence[str], columns: str) -> Iterator[list[str]]:
    """Reads the ids and other columns of jobs from the accounting."""
    arguments = ["--noheader", "--parsable2", "--allocations", f"--format=JobID,{columns}"]
    for start in range(0, len(jobs), MOST_IDS):
        try:
            output = run_command("sacct", *arguments, f"--jobs={','.join(jobs[start : start + MOST_IDS])}")
        except Failure:  # there is no accounting, or it does not answer; asking again would take as long
            return
        yield from (line.split("|") for line in output.splitlines())


class NoAnswer(Failure):
    """A command did not end within its time limit, so it is not known what it has done."""


def run_command(*command: str, ends: Collection[int] = (0,)) -> str:
    """Runs a command of the cluster and returns its output; kills it with all its children after `SECONDS`.

    Args:
        command: a program and its arguments.
        ends: exit codes that are no error.

    Raises:
        NoAnswer: it took too long.
        Failure: it does not exist, or exits with another code; the message is one line.
    """
    name = command[0]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # on many clusters it is a script, whose children must end as well
        )
    except FileNotFoundError as error:
        raise Failure(
            f"{name}: there is no such command here; run this where it is on the PATH, such as a login node"
        ) from error
    except OSError as error:
        raise Failure(f"{name}: cannot be started ({error.strerror})") from error
    try:
        printed, complaint = process.communicate(timeout=SECONDS)
    except BaseException as error:
        _end(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise NoAnswer(
                f"{name}: gave no answer within {SECONDS:g} s; see whether {name} answers in a shell"
            ) from error
        raise
    if process.returncode not in ends:
        lines = [
            line.strip().removeprefix(f"{name}: ").removeprefix("error: ") for line in complaint.splitlines()
        ]
        why = "; ".join(filter(None, lines)) or f"exited with code {process.returncode}"
        raise Failure(f"{name}: {why}")
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    """Kills a command with all its children; does not wait for one that hangs in the kernel."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def local_states(jobs: Iterable[str]) -> dict[str, State]:
    """The states of jobs of submitit's local executor, whose ids are process ids.

    Raises:
        Failure: ps does not answer.
    """
    return {job: State("RUNNING", os.uname().nodename) if _is_controller(job) else GONE for job in jobs}


def _is_controller(job: str) -> bool:
    """Whether a process of submitit's has this id, and not a later process that was given the same id."""
    return "submitit.local._local" in run_command("ps", "-ww", "-o", "args=", "-p", job, ends=(0, 1))


def cancel_slurm(jobs: Sequence[str]) -> None:
    """Cancels jobs: arrays as a whole, since Slurm forgets at once a task that is cancelled while it waits.

    Raises:
        Failure: Slurm refuses, or does not answer.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    try:
        run_command("scancel", *arrays)
    except NoAnswer as error:
        raise Failure(
            f"{error}. It is not known whether jobs {', '.join(arrays)} were cancelled: scripts/status.py "
            "shows it, and cancelling again does no harm"
        ) from error


def cancel_local(jobs: Sequence[str]) -> None:
    """Ends the processes of jobs of submitit's local executor; they make a checkpoint first.

    Raises:
        Failure: pkill refuses, or does not answer.
    """
    for job in jobs:  # the job is a shell, whose only child sends the signal on
        run_command("pkill", "-TERM", "-P", job, ends=(0, 1))


STATES: Mapping[str, Callable[[Collection[str]], dict[str, State]]] = {
    "slurm": slurm_states,
    "local": local_states,
}
EXITS: Mapping[str, Callable[[Sequence[str]], dict[str, str]]] = {"slurm": slurm_exits}
CANCEL: Mapping[str, Callable[[Sequence[str]], None]] = {"slurm": cancel_slurm, "local": cancel_local}
