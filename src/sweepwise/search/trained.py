"""What is known of the runs of a search, read from their folders."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.improvement import Mode, sign
from sweepwise.results import run_folder
from sweepwise.results.table import CENSORED
from sweepwise.search.strategy import Result
from sweepwise.store import record
from sweepwise.store.request import Request, known_folders
from sweepwise.store.status import ENDED, current_status

KNOWN = (*ENDED, CENSORED)  # statuses of runs that have a result; of all others none is known
FAILED, REFUSED = "failed", "refused"


@dataclass(frozen=True)
class Goal:
    """What the runs of a search are compared by.

    Attributes:
        metric: the one that chooses the weights of a run, such as 'val/loss'.
        mode: which values are better; 'auto': as its name says.
    """

    metric: str
    mode: Mode = "auto"

    @property
    def sign(self) -> int:
        """1 where lower values are better, -1 where higher ones are."""
        return sign(self.metric, self.mode)


def goal(requests: Sequence[Request]) -> Goal:
    """What the runs of a search are compared by.

    Args:
        requests: some of its runs, at least one.

    Raises:
        UsageError: it is not one metric for all of them, or they are not in one experiment.
    """
    rules = [request.config["early_stop"] for request in requests]
    goals = {(rule.get("metric"), rule.get("mode", "auto")) for rule in rules}
    faults = []
    if len(goals) > 1 or not isinstance(next(iter(goals))[0], str):
        shown = ",".join(sorted({str(metric) for metric, _ in goals}))
        faults.append(f"early_stop.metric={shown}: a search compares its runs by one metric; name one")
    if len({request.home for request in requests}) > 1:
        names = ",".join(sorted({str(request.home) for request in requests}))
        faults.append(f"name: a search is one experiment, in one folder, not in {names}; give one name")
    if faults:
        raise UsageError(faults)
    return Goal(*goals.pop())


def known_before(requests: Sequence[Request], epochs: Sequence[int | None]) -> int:
    """How many of some runs have come as far as is asked, so that their results count without any training.

    Args:
        requests: the runs.
        epochs: after which each pauses; None: it is trained to its end.
    """
    folders = {home: known_folders(home) for home in {request.home for request in requests}}
    found = [
        (record.read(folders[request.home][request.id]), end)
        for request, end in zip(requests, epochs, strict=True)
        if request.id in folders[request.home] and not request.config["fresh"]
    ]
    return sum(_has_come(known, end) for known, end in found)


def _has_come(known: Mapping[str, Any], end: int | None) -> bool:
    status = known.get("status")
    return status in ENDED or (
        status == CENSORED and end is not None and known["stopped"]["epoch"] + 1 >= end
    )


def result(request: Request, error: Any = None) -> Result:
    """What is known of a run that has been asked for.

    Args:
        request: the run.
        error: what its launcher returned instead of a value, if it did.

    Raises:
        DamagedRecord: its record cannot be read.
    """
    folder = request.folder
    status = current_status(folder)
    if status not in KNOWN:
        return Result(REFUSED if isinstance(error, UsageError) else FAILED)
    known = record.read(folder)
    best, metric = known["best"], known["best"]["metric"]
    lines = {line["epoch"]: line for line in run_folder.epochs(folder) if isinstance(line.get("epoch"), int)}
    curve = _curve(lines, metric)
    same = f"train/{metric.partition('/')[2]}" if metric else ""
    train = _curve(lines, same).get(best["epoch"] + 1) if isinstance(best.get("epoch"), int) else None
    trained = known["stopped"]["epoch"] + 1
    return Result(status, best["value"], curve, trained, tuple(_spans(known)), train, metrics(known))


def _spans(known: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """When a run was trained; an attempt that was killed does not say until when."""
    for attempt in known.get("attempts", ()):
        if isinstance(seconds := attempt.get("seconds"), (int, float)):
            begin = datetime.datetime.fromisoformat(attempt["started"]).timestamp()
            yield begin, begin + seconds


def _curve(lines: Mapping[int, Mapping[str, Any]], metric: str) -> dict[int, float]:
    """The metric by epoch, from 1 for the first."""
    return {
        epoch + 1: float(line[metric])
        for epoch, line in lines.items()
        if isinstance(line.get(metric), (int, float))
    }


def metrics(known: Mapping[str, Any]) -> dict[str, float]:
    """The quantities of a record that a search may look at beside the metric, see `Result`."""
    of_validation = {f"val/{name}": value for name, value in record.measured(known).get("val", {}).items()}
    kept = {tag: value for tag, value in record.best_metrics(known).items() if tag.startswith("val/")}
    found = {**of_validation, **kept, "parameters": known.get("parameters", ...)}
    return {
        name: math.nan if value is None else float(value)
        for name, value in found.items()
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }
