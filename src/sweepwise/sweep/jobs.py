"""What a cluster says of jobs: one question for all, to Slurm's controller, then to its accounting."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweepwise.failure import Failure

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
        Failure: the controller does not answer.
    """
    for job, known, _ in _queue():
        if known == name:
            return job.partition("_")[0]
    told = _asked("sacct", "--noheader", "--parsable2", "--allocations", f"--name={name}", "--format=JobID")
    return told.split("_")[0].split()[0] if told and told.strip() else None


def _queue() -> list[tuple[str, str, State]]:
    """Id, name and state of all jobs of this user's that the controller knows."""
    arguments = ["--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%N|%r|%j"]
    told = _asked("squeue", *arguments)
    if told is None:
        raise Failure("Slurm does not answer (squeue): nothing was submitted or cancelled; try again later")
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
        told = _asked("sacct", *arguments, f"--jobs={','.join(jobs[start : start + MOST_IDS])}")
        yield from (line.split("|") for line in (told or "").splitlines())


def _asked(*command: str) -> str | None:
    """What a command prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def local_states(jobs: Iterable[str]) -> dict[str, State]:
    """How jobs of submitit's local executor stand: theirs are process ids."""
    return {job: State("RUNNING", os.uname().nodename) if _is_controller(job) else GONE for job in jobs}


def _is_controller(job: str) -> bool:
    """Whether a process lives that is one of submitit's, and not another that was given its number."""
    return "submitit.local._local" in (_asked("ps", "-ww", "-o", "args=", "-p", job) or "")


def cancel_slurm(jobs: Sequence[str]) -> None:
    """Ends jobs for good; arrays as a whole, since Slurm forgets at once what is taken out of one that waits.

    Raises:
        Failure: Slurm refuses.
    """
    arrays = sorted({job.partition("_")[0] for job in jobs})
    done = subprocess.run(["scancel", *arrays], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"scancel: {done.stderr.strip()}")


def cancel_local(jobs: Sequence[str]) -> None:
    """Ends the processes of jobs of submitit's local executor, after a checkpoint."""
    for job in jobs:  # a shell, whose only child passes the signal on
        _asked("pkill", "-TERM", "-P", job)


STATES: Mapping[str, Callable[[Collection[str]], dict[str, State]]] = {
    "slurm": slurm_states,
    "local": local_states,
}
EXITS: Mapping[str, Callable[[Sequence[str]], dict[str, str]]] = {"slurm": slurm_exits}
CANCEL: Mapping[str, Callable[[Sequence[str]], None]] = {"slurm": cancel_slurm, "local": cancel_local}
