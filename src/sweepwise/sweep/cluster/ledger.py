"""What was given to a cluster: `ledger.jsonl` in a sweep's folder, a line for each thing that was learned.

A submission is announced before it is made, so that one whose launcher died in between is found again by its
job name.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweepwise.store import folders
from sweepwise.store.folders import SWEEP
from sweepwise.system.atomic import make_folder

LEDGER = "ledger.jsonl"
SUBMISSIONS = "submissions"
LOGS = "logs"


@dataclass(frozen=True)
class Submission:
    """Tasks that were given to a cluster at once.

    Attributes:
        name: unique in the cluster; its jobs carry it.
        cluster: 'slurm' or 'local'.
        tasks: the runs of each: ids.
        names: of the runs' folders, by id.
        fresh: runs of those that are trained anew, over what is there: ids.
        jobs: the id of each task's job; empty as long as they are not known.
        void: why there are none; '' if there are, or may be.
    """

    name: str
    cluster: str
    tasks: Sequence[Sequence[str]]
    names: Mapping[str, str]
    fresh: Sequence[str] = ()
    jobs: Sequence[str] = ()
    void: str = ""


@dataclass(frozen=True)
class Placed:
    """Where a run was given to at last.

    Attributes:
        job: id of the job.
        submission: with which it went.
    """

    job: str
    submission: Submission


class Ledger:
    """The ledger of a sweep.

    Args:
        home: the sweep's folder, which holds those of its runs.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / SWEEP
        self._path = self.folder / LEDGER

    @contextmanager
    def held(self) -> Iterator[None]:
        """While entered, no other launcher gives runs of this sweep away; waits for one that does.

        Raises:
            OSError: the folder cannot be made or locked.
        """
        make_folder(self.folder)
        lock = os.open(self.folder / folders.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def announce(self, submission: Submission) -> None:
        """Writes down what is about to be submitted."""
        tasks = [list(task) for task in submission.tasks]
        told = {"submission": submission.name, "cluster": submission.cluster}
        self._append(
            {**told, "tasks": tasks, "names": dict(submission.names), "fresh": list(submission.fresh)}
        )

    def learned(self, submission: Submission) -> None:
        """Writes down what became of it: `jobs`, or why it is void."""
        what = {"void": submission.void} if submission.void else {"jobs": list(submission.jobs)}
        self._append({"submission": submission.name, **what})

    def submissions(self) -> list[Submission]:
        """All submissions, the oldest first."""
        found: dict[str, Submission] = {}
        for line in self._lines():
            name = line["submission"]
            if "tasks" in line:
                told = {key: line[key] for key in ("cluster", "tasks", "names", "fresh") if key in line}
                found[name] = Submission(name, **told)
            elif name in found:
                told = {key: line[key] for key in ("jobs", "void") if key in line}
                found[name] = replace(found[name], **told)
        return list(found.values())

    def placed(self) -> dict[str, Placed]:
        """Where each run was given to at last, by its id; runs without a job are not there."""
        return {
            run: Placed(job, submission)
            for submission in self.submissions()
            for job, runs in zip(submission.jobs, submission.tasks, strict=bool(submission.jobs))
            for run in runs
        }

    def home_of(self, submission: Submission) -> Path:
        """The folder of a submission."""
        return self.folder / SUBMISSIONS / submission.name

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        """What was written; a last line that is torn was never told to anybody."""
        try:
            text = self._path.read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return
        for line in text.split("\n")[:-1]:
            try:
                yield json.loads(line)
            except ValueError:
                continue  # torn, and ended by the next one's writer

    def _append(self, entry: Mapping[str, Any]) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            line = memoryview((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")
            while line:
                line = line[os.write(handle, line) :]
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep_of(submission: Path) -> Path:
    """The folder of a sweep from that of one of its submissions."""
    return submission.parents[2]


def given_up(submission: Path) -> str:
    """Why a submission was given up while it was made; '' if it was not.

    A launcher that is killed may leave an sbatch behind that submits when nobody counts on it any more.

    Args:
        submission: its folder.
    """
    known = Ledger(sweep_of(submission)).submissions()
    return next((one.void for one in known if one.name == submission.name), "")
