"""The submissions of a sweep: `ledger.jsonl` in its folder, to which each step of a submission adds a line.

A submission is recorded before sbatch is called, so that its jobs can be found by their name if the launcher
dies in between.
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

from sweepwise.store import folders, shape
from sweepwise.store.folders import SWEEP
from sweepwise.system.atomic import make_folder

LEDGER = "ledger.jsonl"
SUBMISSIONS = "submissions"
LOGS = "logs"
CLUSTERS = ("slurm", "local")


@dataclass(frozen=True)
class Submission:
    """Tasks that were submitted to a cluster at once.

    Attributes:
        name: unique in the cluster; its jobs carry it.
        cluster: 'slurm' or 'local'.
        tasks: the ids of the runs of each task.
        names: the names of the runs' folders, by id.
        fresh: ids of the runs that are trained anew and replace what is in their folders.
        jobs: the id of each task's job; empty as long as they are not known.
        void: why it has no jobs; '' if it has, or may have.
        removed: ids of runs that a person has removed since.
    """

    name: str
    cluster: str
    tasks: Sequence[Sequence[str]]
    names: Mapping[str, str]
    fresh: Sequence[str] = ()
    jobs: Sequence[str] = ()
    void: str = ""
    removed: Sequence[str] = ()


@dataclass(frozen=True)
class Placed:
    """The last job of a run.

    Attributes:
        job: its id.
        submission: to which the job belongs.
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
        """While entered, no other launcher submits runs of this sweep; waits for one that does.

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
        """Records what is about to be submitted."""
        tasks = [list(task) for task in submission.tasks]
        head = {"submission": submission.name, "cluster": submission.cluster}
        self._append(
            {**head, "tasks": tasks, "names": dict(submission.names), "fresh": list(submission.fresh)}
        )

    def add_result(self, submission: Submission) -> None:
        """Records the result of a submission: its `jobs`, or why it is `void`."""
        result = {"void": submission.void} if submission.void else {"jobs": list(submission.jobs)}
        self._append({"submission": submission.name, **result})

    def forget(self, run: str) -> None:
        """Records that a run, which has no live job, was removed: it is as if it had not been submitted.

        Raises:
            Damaged: a line is not what a launcher writes.
            OSError: it cannot be recorded.
        """
        for submission in self.submissions():
            if run in submission.names and run not in submission.removed:
                self._append({"submission": submission.name, "removed": [*submission.removed, run]})

    def submissions(self) -> list[Submission]:
        """All submissions, the oldest first.

        Raises:
            Damaged: a line is not what a launcher writes.
        """
        submissions: dict[str, Submission] = {}
        for line in self._lines():
            name = line["submission"]
            if "tasks" in line:
                values = {key: line[key] for key in ("cluster", "tasks", "names", "fresh") if key in line}
                submissions[name] = Submission(name, **values)
            elif name in submissions:
                values = {key: line[key] for key in ("jobs", "void", "removed") if key in line}
                submissions[name] = replace(submissions[name], **values)
        return list(submissions.values())

    def placed(self) -> dict[str, Placed]:
        """The last job of each run, by the run's id; without the runs that have none."""
        return {
            run: Placed(job, submission)
            for submission in self.submissions()
            for job, runs in zip(submission.jobs, submission.tasks, strict=bool(submission.jobs))
            for run in runs
            if run not in submission.removed
        }

    def home_of(self, submission: Submission) -> Path:
        """The folder of a submission."""
        return self.folder / SUBMISSIONS / submission.name

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        """The entries. An incomplete last line is left out: its writer died, and nobody has relied on it."""
        try:
            text = self._path.read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return
        announced: dict[str, int] = {}  # tasks by submission
        for number, line in enumerate(text.split("\n")[:-1], 1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # incomplete; the writer of the next line has ended it
            if fault := shape.LINE(entry) or _fault(entry, announced):
                why = f"line {number}: {fault}"
                raise shape.Damaged(
                    shape.message(self._path, why, "restore it from a copy, or remove the line")
                )
            yield entry

    def _append(self, entry: Mapping[str, Any]) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            incomplete = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            line = memoryview((b"\n" if incomplete else b"") + json.dumps(entry).encode() + b"\n")
            while line:
                line = line[os.write(handle, line) :]
            os.fsync(handle)
        finally:
            os.close(handle)


def _fault(entry: Mapping[str, Any], announced: dict[str, int]) -> str:
    """What is wrong with a line beside others; '' if nothing is.

    Args:
        entry: the line.
        announced: the number of tasks of each submission so far; that of this line is added.
    """
    name = entry["submission"]
    if "tasks" in entry:
        announced[name] = len(entry["tasks"])
        if entry.get("cluster", "local") not in CLUSTERS:
            return f"cluster must be one of {', '.join(CLUSTERS)}"
        return next((f"{key} is missing" for key in ("cluster", "names") if key not in entry), "") or next(
            (
                f"names.{run} is missing"
                for task in entry["tasks"]
                for run in task
                if run not in entry["names"]
            ),
            "",
        )
    jobs = entry.get("jobs", [])
    wrong = name in announced and len(jobs) not in (0, announced[name])
    return f"jobs must have {announced[name]} items" if wrong else ""


def sweep_of(submission: Path) -> Path:
    """The folder of the sweep to which a submission's folder belongs."""
    return submission.parents[2]


def given_up(submission: Path) -> str:
    """Why a submission was given up before it was submitted; '' if it was not.

    The sbatch of a launcher that was killed may go on, and submit jobs whose runs were submitted again since.

    Args:
        submission: its folder.
    """
    known = Ledger(sweep_of(submission)).submissions()
    return next((one.void for one in known if one.name == submission.name), "")
