"""The columns of TensorBoard's HParams tab, from all runs of an experiment.

Each run adds its own when it begins. The end of a sweep knows better which of those that vary come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweepwise.monitor import columns
from sweepwise.monitor.hparams import settings
from sweepwise.results.table import Row, Table
from sweepwise.store.record import TEST


def write(home: Path, table: Table) -> None:
    """Writes the columns of an experiment: all settings of its runs, those that vary first, and all metrics.

    Of keys that vary together one comes first.

    Args:
        home: folder of the experiment.
        table: its runs.

    Raises:
        OSError: the file cannot be written.
    """
    rows = sorted((row for row in table.rows if in_tensorboard(row)), key=lambda row: not row.ended)
    if not rows:
        return
    runs = {
        row.folder: settings(_mapping(row.run.known.get("choices")), row.run.config)
        for row in rows
        if row.folder.parent == home
    }
    tags = list(dict.fromkeys(tag for row in rows for tag in row.last))
    measured = [tag for tag in tags if not tag.startswith(TEST)]
    columns.write(home, runs, [*table.settings, *table.replicates], measured, len(measured) < len(tags))


def in_tensorboard(row: Row) -> bool:
    """Whether a run has written what TensorBoard shows."""
    return bool(_mapping(row.run.config.get("monitor")).get("tensorboard"))


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
