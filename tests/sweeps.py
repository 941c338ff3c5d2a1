"""Sweeps that were never trained: folders as runs leave them, with results that a test gives; and tables."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from small import composed

from sweepwise.results.loading import from_records
from sweepwise.results.table import Table
from sweepwise.run.description import config_text

ENVIRONMENT = {
    "python": "3.11.7",
    "sweepwise": "0.1.0",
    "command": ["train.py", "-m"],
    "fused": True,
    "threads": 1,
}


def run(home: Path, *overrides: str, value: float | None, status: str = "finished", **fields: Any) -> Path:
    """Writes the folder of one run.

    Args:
        home: of the experiment.
        overrides: of the run.
        value: of its best validation loss; None: it has none.
        status: in its record.
        fields: of its record, instead of the usual ones.
    """
    given = [*overrides, f"output_dir={home.parent}", f"name={home.name}"]
    request = composed(*given)
    folder = request.new_folder
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_text(request.config))
    (folder / "record.json").write_text(
        json.dumps(
            record(value, status)
            | {"id": request.id, "overrides": given, "choices": dict(request.choices)}
            | fields
        )
    )
    return folder


def record(value: float | None, status: str = "finished") -> dict[str, Any]:
    """A record of a run with this best validation loss."""
    metrics = {"val/loss": value, "val/accuracy": None if value is None else max(0.0, 1 - value)}
    return {
        "status": status,
        "reason": "",
        "notes": [],
        "code": {"sweepwise/run/single.py": "1"},
        "inputs": {},
        "environment": ENVIRONMENT,
        "data_sha256": "d",
        "not_bit_exact": [],
        "ended": "2026-01-01T00:00:00+0000",
        "seconds": 1.5,
        "best": {
            "metric": "val/loss",
            "value": value,
            "epoch": -1 if value is None else 3,
            "step": 60,
            "metrics": {**metrics, "test/loss": value, "test/accuracy": 0.5},
        },
        "stopped": {"epoch": 7, "step": 120, "why": "the last epoch"},
        "last": {"train/loss": 0.1, **metrics},
    }


def grid(home: Path, values: Mapping[tuple[str, ...], Iterable[float | None]]) -> None:
    """Writes runs with seeds 0, 1, ...; those without a value have diverged."""
    for overrides, results in values.items():
        for seed, value in enumerate(results):
            run(
                home,
                *overrides,
                f"seed.value={seed}",
                value=value,
                status="finished" if value is not None else "diverged",
            )


def table(
    values: Mapping[tuple[Any, ...], Iterable[float | None]], keys: tuple[str, ...], metric: str = "val/loss"
) -> Table:
    """A table in memory: the values of each setting for seeds 0, 1, ...; a run without one has diverged."""
    records = [
        {**dict(zip(keys, setting, strict=True)), "seed.value": seed, metric: value, "status": status}
        for setting, results in values.items()
        for seed, value in enumerate(results)
        for status in ["finished" if value is not None else "diverged"]
    ]
    return from_records(records, metric, ["seed.value"])
