"""Which run of a sweep is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweepwise.errors import UsageError
from sweepwise.results import loading
from sweepwise.results.answer import ranking
from sweepwise.results.remarks import refuse_several_data_sets

if TYPE_CHECKING:
    from sweepwise.predict.predictor import Predictor

VALIDATION = "val/"


def best(home: Path | str, metric: str | None = None, **options: Any) -> Predictor:
    """The network of the run that `best_run` chooses, ready for new rows.

    Args:
        home: see `best_run`.
        metric: see `best_run`.
        options: see `Predictor.read`.

    Raises:
        UsageError: see `best_run` and `Predictor.read`.
        Failure: see `Predictor.read`.

    Example:
        >>> from sweepwise import best
        >>> best("no/sweep")
        Traceback (most recent call last):
            ...
        sweepwise.errors.UsageError: no/sweep: must be an experiment's folder, ..., but is missing
    """
    from sweepwise.predict.predictor import Predictor  # imports torch

    return Predictor.read(best_run(home, metric), **options)


def best_run(home: Path | str, metric: str | None = None) -> Path:
    """The run of a sweep to be used, chosen by the validation part alone.

    Of the setting that ranks first (`results.answer.ranking`: fewest failures, then the best mean over its
    replicates), the run whose own value is best.

    Args:
        home: the experiment's folder.
        metric: of the validation part, such as 'val/accuracy', with the weights that were kept; None: the one
            that chose the weights of most runs.

    Returns:
        The run's folder.

    Raises:
        UsageError: no run has ended with a value of the metric, or the runs are of several data sets.
    """
    if metric and not metric.startswith(VALIDATION):
        raise UsageError([f"metric={metric}: must be one of the validation part, such as val/loss"])
    table = loading.load(home, metric=metric)
    refuse_several_data_sets(table)
    if not table.metric.startswith(VALIDATION):
        raise UsageError([f"{home}: no run has a validation part to choose by; name a run instead"])
    first = ranking(table)[0]
    rows = [row for row in table.cells[first.setting] if row.ended]
    if not rows:
        raise UsageError([f"{home}: holds no run that has ended with a value of {table.metric}"])
    return min(rows, key=lambda row: table.sign * (row.value or 0.0)).folder
