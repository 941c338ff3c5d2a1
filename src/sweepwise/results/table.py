"""The one table of results: a row a run, read from run folders alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweepwise.improvement import Mode, sign
from sweepwise.results import export, run_folder
from sweepwise.results.run_folder import RunFolder
from sweepwise.store.record import TEST

if TYPE_CHECKING:
    from pandas import DataFrame

ENDED = ("finished", "stopped early")
FAILED = ("failed", "diverged")
CENSORED = "pruned"  # ended by a search before its time

Values = tuple[Hashable, ...]


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        setting: its values of the table's settings.
        replicate: its values of the table's replicates.
        value: of the table's metric, with the weights that the run kept; None if it has none.
        status: how it stands: 'finished', 'running', ...
        best: metrics of the validation part with the weights that the run kept, by tag.
        last: metrics at the end, by tag; those of the test part belong to the weights that it kept.
        best_epoch: at which these weights were reached, from 0; -1 without any.
        epochs: that were trained.
        seconds: that it took.
        folder: of the run.
        run: all else that its folder tells.
        measured: whether it measured the table's metric at all.
    """

    setting: Values
    replicate: Values
    value: float | None
    status: str
    best: Mapping[str, float | None]
    last: Mapping[str, float | None]
    best_epoch: int
    epochs: int
    seconds: float
    folder: Path
    run: RunFolder = field(repr=False)
    measured: bool = True

    @property
    def ended(self) -> bool:
        """Whether it has ended with a value."""
        return self.status in ENDED and self.value is not None

    @property
    def failed(self) -> bool:
        """Whether it has failed or diverged, or ended with a value that is not finite."""
        return self.status in FAILED or (self.status in ENDED and self.value is None and self.measured)


@dataclass(frozen=True)
class Table:
    """The runs of one experiment or of several.

    Attributes:
        rows: the runs, by setting and replicate.
        settings: keys that are compared.
        replicates: keys that repeat a setting.
        tied: keys that vary with one of the settings one to one.
        metric: what is compared, such as 'val/loss'.
        homes: the folders that were read.
        damaged: folders that could not be read, and why.
        remarks: what else a reader must know of the runs.
        notes: what the runs themselves note, with those that each note holds for.
        whole: it holds all runs of its folders, by their own metric, settings and replicates.
        direction: which values are better; 'auto': as the runs say, or by the name of the metric.
    """

    rows: tuple[Row, ...]
    settings: tuple[str, ...]
    replicates: tuple[str, ...]
    tied: Mapping[str, tuple[str, ...]]
    metric: str
    homes: tuple[Path, ...]
    damaged: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = True
    direction: Mode = "auto"

    @cached_property
    def sign(self) -> int:
        """1 where lower values of the metric are better, -1 where higher ones are."""
        if self.direction != "auto":
            return sign(self.metric, self.direction)
        modes = {
            row.run.settings.get("early_stop.mode", "auto")
            for row in self.rows
            if chosen_by(row.run) == self.metric
        }
        mode = modes.pop() if len(modes) == 1 else "auto"
        return sign(self.metric, mode if mode in ("min", "max") else "auto")

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether low or high values of the metric are better."""
        return "min" if self.sign == 1 else "max"

    @cached_property
    def cells(self) -> dict[Values, list[Row]]:
        """The runs of each setting, in the order of the table."""
        cells: dict[Values, list[Row]] = {}
        for row in self.rows:
            cells.setdefault(row.setting, []).append(row)
        return cells

    def curves(self) -> list[dict[str, Any]]:
        """Every metric of every epoch: the long table, with 'folder', 'epoch', 'step', 'tag', 'value'."""
        return [
            {
                "folder": str(row.folder),
                "epoch": line.get("epoch"),
                "step": line.get("step"),
                "tag": tag,
                "value": value,
            }
            for row in self.rows
            for line in run_folder.epochs(row.folder)
            for tag, value in line.items()
            if "/" in tag
        ]

    def records(self) -> list[dict[str, Any]]:
        """The table as one dictionary a run: settings and replicates by key, then what became of it.

        Results of the test part are left out, as nobody should choose by them; each run's record has them.
        """
        return [self._record(row) for row in self.rows]

    def to_pandas(self, *, curves: bool = False) -> DataFrame:
        """The table as a data frame; with `curves` the long table.

        Raises:
            UsageError: pandas is not installed.
        """
        return export.data_frame(self.curves() if curves else self.records())

    def write(self, path: Path | str, *, curves: bool = False) -> None:
        """Writes the table, or with `curves` the long one, as .csv or .parquet.

        Raises:
            UsageError: the path ends in neither.
        """
        export.write(Path(path), self.curves() if curves else self.records())

    def _record(self, row: Row) -> dict[str, Any]:
        return {
            **dict(zip(self.settings, row.setting, strict=True)),
            **dict(zip(self.replicates, row.replicate, strict=True)),
            "status": row.status,
            self.metric: row.value,
            **{f"best {tag}": value for tag, value in row.best.items()},
            **{f"last {tag}": value for tag, value in row.last.items() if not tag.startswith(TEST)},
            "best epoch": row.best_epoch,
            "epochs": row.epochs,
            "seconds": row.seconds,
            "id": row.run.id,
            "folder": str(row.folder),
        }


def chosen_by(run: RunFolder) -> str | None:
    """The metric that chose the weights which a run kept; None if there is none."""
    best = run.known.get("best")
    metric = best.get("metric") if isinstance(best, Mapping) else run.settings.get("early_stop.metric")
    return metric if isinstance(metric, str) else None
