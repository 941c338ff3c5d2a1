"""What a submission is to train: `plan.json`, the runs as they were composed, and which task trains which."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sweepwise.provenance import environment
from sweepwise.store import record
from sweepwise.store.request import Request
from sweepwise.system import atomic

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """Runs and tasks of a submission.

    Attributes:
        runs: as composed.
        tasks: of each task the places of its runs in `runs`.
        packages: of the user's own that configs may build from.
        command: by which they were submitted.
        pool: how a task trains several runs: keywords of `pool.train_all`.
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
        """The plan that was written to a file."""
        told = json.loads(path.read_bytes())
        return cls(**{**told, "runs": [Request(**run) for run in told["runs"]]})

    def of_task(self, task: int) -> list[Request]:
        """The runs of a task, as its present attempt has to train them.

        `fresh=true` holds until a run has begun in this job; an attempt after that goes on.

        Args:
            task: its place in `tasks`.
        """
        runs = [self.runs[place] for place in self.tasks[task]]
        return [
            replace(run, config={**run.config, "fresh": run.config["fresh"] and not _begun_here(run)})
            for run in runs
        ]


def _begun_here(run: Request) -> bool:
    """Whether an attempt of this very job has begun a run: its record names the job."""
    with contextlib.suppress(record.DamagedRecord):
        known = record.read(run.folder).get("environment", {}).get("places", {})
        return any(name in known and known[name] == os.environ.get(name) for name in environment.JOBS)
    return False
