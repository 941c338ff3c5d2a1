"""Runs that were never trained, as a table with curves in memory: values of each epoch that a test gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweepwise.early_stop.patience import Patience
from sweepwise.improvement import Best
from sweepwise.results.loading import from_records
from sweepwise.results.table import Table

Curve = Sequence[float | None]  # a value an epoch; None: it was not measured; NaN: it was not finite


def lines(curves: Mapping[str, Curve]) -> list[dict[str, Any]]:
    """What `run_folder.epochs` reads of a run: NaN is logged as null."""
    return [
        {
            "epoch": epoch,
            "step": 10 * epoch + 9,
            **{
                tag: None if math.isnan(value) else value
                for tag, value in zip(curves, values, strict=True)
                if value is not None
            },
        }
        for epoch, values in enumerate(zip(*curves.values(), strict=True))
    ]


class Logged:
    """A sweep: settings of the key 'a', replicates 'seed.value'.

    Args:
        metric: of the table, which also chose the weights.
    """

    def __init__(self, metric: str = "val/loss") -> None:
        self.metric = metric
        self.records: list[dict[str, Any]] = []
        self.lines: list[list[dict[str, Any]]] = []
        self.known: list[dict[str, Any]] = []

    def add(
        self, a: Any, seed: int, status: str = "finished", own: Patience | None = None, **curves: Curve
    ) -> "Logged":
        """Adds a run; tags are written val_loss for val/loss. `own`: the rule that it was trained with."""
        logged = lines({name.replace("_", "/", 1): curve for name, curve in curves.items()})
        best = Best(self.metric)
        for place, line in enumerate(logged):
            if self.metric not in line:
                continue
            value = math.nan if line[self.metric] is None else line[self.metric]
            best.update(place, -1, value)
            if own and own.update(place, value) and place + 1 < len(logged):
                status, logged = "stopped early", logged[: place + 1]
                break
        self.records.append({"a": a, "seed.value": seed, self.metric: best.value, "status": status})
        self.lines.append(logged)
        self.known.append({"best_epoch": best.epoch, "epochs": len(logged) + (status == "diverged")})
        return self

    def table(self, **changes: Any) -> Table:
        found = from_records(self.records, self.metric, ["seed.value"])
        rows = []
        for row in found.rows:
            number = int(row.folder.name.split()[1])
            known = {"best": {"metric": self.metric}}
            tags = {tag: 0.0 for tag in self.lines[number][-1] if "/" in tag} if self.lines[number] else {}
            run = replace(row.run, known=known)
            rows.append(replace(row, run=run, best=tags, **self.known[number]))
        return replace(found, rows=tuple(rows), **changes)

    def read(self, folder: Any) -> list[dict[str, Any]]:
        """A reader of curves, as `replay` takes it."""
        return self.lines[int(folder.name.split()[1])]
