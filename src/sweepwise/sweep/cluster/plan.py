"""The plan of a submission, `plan.json`: its runs, and which task trains which of them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sweepwise.provenance import environment
from sweepwise.store import record, shape
from sweepwise.store.request import Request
from sweepwise.system import atomic

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """Runs and tasks of a submission.

    Attributes:
        runs: the runs.
        tasks: of each task the indices of its runs in `runs`.
        packages: the user's own packages that configs may build from.
        command: the command that submitted them.
        pool: arguments of `pool.train_all`, by which a task trains several runs.
    """

    runs: Sequence[Request]
    tasks: Sequence[Sequence[int]]
    packages: Sequence[str]
    command: Sequence[str]
    pool: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Writes it into a submission's folder; returns the file."""
        path = folder / PLAN
        atomic.write_atomic(path, json.dumps(asdict(self)).encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads a plan from its file.

        Raises:
            Damaged: it is not whole.
        """
        try:
            values = shape.parsed(path.read_bytes(), shape.PLAN)
        except ValueError as error:
            way_out = "submit its runs again, by the command that has submitted them"
            raise shape.Damaged(shape.message(path, error, way_out)) from error
        names = [own.name for own in fields(cls)]
        runs = [
            Request(run["config"], run["overrides"], run["choices"], tuple(run.get("varying", ())))
            for run in values["runs"]
        ]
        return cls(**{name: values[name] for name in names} | {"runs": runs})

    def of_task(self, task: int) -> list[Request]:
        """The runs of a task, as this attempt of its job has to train them.

        `fresh=true` applies until this job has begun the run; later attempts resume it.

        Args:
            task: its index in `tasks`.
        """
        runs = [self.runs[index] for index in self.tasks[task]]
        return [
            replace(run, config={**run.config, "fresh": run.config["fresh"] and not _begun_here(run)})
            for run in runs
        ]


def _begun_here(run: Request) -> bool:
    """Whether this job has begun a run, in this attempt or an earlier one: then its record names the job."""
    with contextlib.suppress(record.DamagedRecord):
        known = record.read(run.folder).get("environment", {}).get("places", {})
        return any(name in known and known[name] == os.environ.get(name) for name in environment.JOBS)
    return False
