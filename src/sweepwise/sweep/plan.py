"""What a submission is to train: `plan.json`, the runs as they were composed, and which task trains which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sweepwise import durable
from sweepwise.identity import Request

PLAN = "plan.json"
BEGUN = "begun"


@dataclass(frozen=True)
class Plan:
    """Runs and tasks of a submission.

    Attributes:
        runs: as composed.
        tasks: of each task the places of its runs in `runs`.
        packages: of the user's own that configs may build from.
        logs: folder for what is printed.
        command: by which they were submitted.
        max_parallel: runs that one task trains at the same time; None: one a core or GPU.
    """

    runs: Sequence[Request]
    tasks: Sequence[Sequence[int]]
    packages: Sequence[str]
    logs: str
    command: Sequence[str]
    max_parallel: int | None = None

    def write(self, folder: Path) -> Path:
        """Writes it into a submission's folder; returns the file."""
        path = folder / PLAN
        durable.write_aside(path, json.dumps(asdict(self)).encode())
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan that was written to a file."""
        told = json.loads(path.read_bytes())
        return cls(**{**told, "runs": [Request(**run) for run in told["runs"]]})

    def of_task(self, task: int, path: Path) -> list[Request]:
        """The runs of a task, as its present attempt has to train them.

        `fresh=true` holds for the first attempt at a run, which is noted beside the plan; a requeued job
        goes on.

        Args:
            task: its place in `tasks`.
            path: of the plan's file.
        """
        begun = path.parent / BEGUN
        begun.mkdir(exist_ok=True)
        runs = []
        for run in (self.runs[place] for place in self.tasks[task]):
            if run.config["fresh"] and (begun / run.id).exists():
                run = replace(run, config={**run.config, "fresh": False})
            runs.append(run)
        return runs


def note_begun(path: Path, run: Request) -> None:
    """Notes that a run is begun now, so that no later attempt trains it anew."""
    if run.config["fresh"]:
        (path.parent / BEGUN / run.id).touch()
