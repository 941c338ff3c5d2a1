"""What a cluster says of jobs: one question for all, to Slurm's controller, then to its accounting."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweepwise.errors import Failure

SECONDS = 60  # that Slurm may take to answer
MOST_IDS = 5_000  # of one question to the accounting, whose command line has an end
PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})


@dataclass(frozen=True)
class State:
    """How a job stands.

    Attributes:
        word: Slurm's, in capitals: 'PENDING', 'COMPLETED', 'NODE_FAIL' ...; 'GONE' if nobody knows it;
            'ENDING' if it was cancelled, but its processes may still live.
        node: on which it runs or ran; ''.
        reason: why it waits; ''.
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
    """How Slurm's jobs stand, by id; with one question, or two if some have left the controller's memory.

    The controller is asked first: the accounting is late, and calls a job NODE_FAIL that is being requeued.

    Args:
        jobs: ids, such as '17' and '17_3'.

    Raises:
        Failure: the controller does not answer, so that nothing is known.
    """
    if not jobs:
        return {}
    found = {job: state for job, _, state in _queue() if job in jobs}
    # To the controller a job whose processes live is COMPLETING, whether it comes back or was cancelled.
    for job, state in _accounted([job for job in found if found[job].word == "COMPLETING"]).items():
        found[job] = replace(found[job], word=ENDING) if state.word == "CANCELLED" else found[job]
    missing = sorted(set(jobs) - found.keys())
    found |= _accounted(missing)
    return {job: found.get(job, GONE) for job in jobs}


def slurm_named(name: str) -> str | None:
    """The id of the job of a name; of an array that of the whole. None if there is none.

    Raises:
        Failure: the controller or the accounting does not answer, so that nothing is known.
    """
    for job, known, _ in _queue():
        if known == name:
            return job.partition("_")[0]
    try:
        told = asked(
            "sacct", "--noheader", "--parsable2", "--allocations", f"--name={name}", "--format=JobID"
        )
    except NoAnswer:
        raise
    except Failure:  # there is no accounting here
        return None
    return told.split("_")[0].split()[0] if told.strip() else None


def _queue() -> list[tuple[str, str, State]]:
    """Id, name and state of all jobs of this user's that the controller knows."""
    arguments = ["--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%N|%r|%j"]
    try:
        told = asked("squeue", *arguments)
    except Failure as error:
        raise Failure(
            f"Slurm does not answer: {error}. Nothing was submitted or cancelled; try again later"
        ) from error
    rows = (line.split("|", 4) for line in told.splitlines() if line.count("|") >= 4)
    return [(job, name, State(word, node, _reason(reason))) for job, word, node, reason, name in rows]


def _reason(told: str) -> str:
    return "" if told == "None" else told


def _accounted(jobs: Sequence[str]) -> dict[str, State]:
    """How ended jobs stand in the accounting; nothing where there is none."""
    found = {}
    for job, state, node in _accounts(jobs, "State,NodeList"):
        word = (state.split() or ["GONE"])[0]  # 'CANCELLED by 1000'
        # What has left the controller has ended, whatever the late accounting says.
        found[job] = State(word if word not in PENDING | RUNNING else "GONE", node)
    return found


def slurm_exits(jobs: Sequence[str]) -> dict[str, str]:
    """How ended jobs have ended, in words, by id; nothing where there is no accounting."""
    found = {}
    for job, told in _accounts(jobs, "ExitCode"):
        code, _, number = told.partition(":")
        found[job] = f"signal {number}" if number not in ("", "0") else f"exit code {code}"
    return found


def _accounts(jobs: Sequence[str], columns: str) -> Iterator[list[str]]:
    """Id and columns of jobs, as the accounting tells them."""
    arguments = ["--noheader", "--parsable2", "--allocations", f"--format=JobID,{columns}"]
    for start in range(0, len(jobs), MOST_IDS):
        try:
            told = asked("sacct", *arguments, f"--jobs={','.join(jobs[start : start + MOST_IDS])}")
        except Failure:  # there is no accounting, or it does not answer: the next question would cost as long
            return
        yield from (line.split("|") for line in told.splitlines())


class NoAnswer(Failure):
    """A command did not end within its time, so what it has done is not known."""


def asked(*command: str, ends: Collection[int] = (0,)) -> str:
    """What a command of the cluster prints; it and what it has started are ended after `SECONDS`.

    Args:
        command: a program and its arguments.
        ends: exit codes that are an answer.

    Raises:
        NoAnswer: it took too long.
        Failure: it is not there, or refuses; in one line.
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
    """Ends a command with all that it has started; one that hangs in the kernel is left to it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def local_states(jobs: Iterable[str]) -> dict[str, State]:
    """How jobs of submitit's local executor stand: theirs are process ids.

    Raises:
        Failure: ps does not answer, so that nothing is known.
    """
    return {job: State("RUNNING", os.uname().nodename) if _is_controller(job) else GONE for job in jobs}


def _is_controller(job: str) -> bool:
    """Whether a process lives that is one of submitit's, and not another that was given its number."""
    return "submitit.local._local" in asked("ps", "-ww", "-o", "args=", "-p", job, ends=(0, 1))


def cancel_slurm(jobs: Sequence[str]) -> None:
    """Ends jobs for good; arrays as a whole, since Slurm forgets at once what is taken out of one that waits.

    Raises:
        Failure: Slurm refuses, or does not answer.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    try:
        asked("scancel", *arrays)
    except NoAnswer as error:
        raise Failure(
            f"{error}. It is not known whether jobs {', '.join(arrays)} were cancelled: scripts/status.py "
            "tells, and cancelling once more does no harm"
        ) from error


def cancel_local(jobs: Sequence[str]) -> None:
    """Ends the processes of jobs of submitit's local executor, after a checkpoint.

    Raises:
        Failure: pkill refuses, or does not answer.
    """
    for job in jobs:  # a shell, whose only child passes the signal on
        asked("pkill", "-TERM", "-P", job, ends=(0, 1))


STATES: Mapping[str, Callable[[Collection[str]], dict[str, State]]] = {
    "slurm": slurm_states,
    "local": local_states,
}
EXITS: Mapping[str, Callable[[Sequence[str]], dict[str, str]]] = {"slurm": slurm_exits}
CANCEL: Mapping[str, Callable[[Sequence[str]], None]] = {"slurm": cancel_slurm, "local": cancel_local}
