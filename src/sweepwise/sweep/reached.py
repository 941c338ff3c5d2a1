"""How far runs have come that train now: epoch, last values and time left, from their folders alone.

So whoever sees the folders can tell, on whatever machine a run trains. Its lines reach metrics.jsonl every
two seconds.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sweepwise.store.folders import LINES

TAIL = 2**17  # bytes at the end of metrics.jsonl that are read
MOST_LOOKS = 64  # runs of one process that are looked at
SHOWN = ("val/loss", "train/loss")  # the first that was measured


@dataclass(frozen=True)
class Reached:
    """How far a run has come.

    Attributes:
        epoch: how many epochs have ended.
        epochs: of the training, up to where it pauses, unless it stops early.
        share: of the training that is done, in [0, 1].
        metric: that was measured last, such as 'val/loss'; '' if no epoch has ended.
        value: of it; not finite without one.
        seconds: that this attempt has trained.
        left: seconds until its last epoch has ended; not finite if it cannot be told yet.
    """

    epoch: int
    epochs: int
    share: float
    metric: str
    value: float
    seconds: float
    left: float


def reached(
    folder: Path, trainer: Mapping[str, Any], attempt: Mapping[str, Any], now: float
) -> Reached | None:
    """How far a run has come; None if it has logged nothing yet.

    Args:
        folder: of the run.
        trainer: this group of its config.
        attempt: the last one in its record.
        now: seconds since the epoch of the clock.
    """
    last, ended, written = _last_lines(folder / LINES)
    if not last:
        return None
    step, epoch = last["step"], last["epoch"]
    if ended.get("epoch") == epoch:
        epoch += 1
    epochs, share = _length(trainer, ended, step, epoch)
    metric, value = next(((tag, ended[tag]) for tag in SHOWN if tag in ended), ("", None))
    began = _clock(attempt.get("started"))
    trained, spent = step + 1 - int(attempt.get("from_step", 0)), written - began
    whole = (step + 1) / share if share else math.inf
    rate = trained / spent if trained > 0 and spent > 0 else 0.0
    left = (whole - step - 1) / rate - (now - written) if rate and math.isfinite(whole) else math.inf
    return Reached(
        min(epoch, epochs),
        epochs,
        share,
        metric,
        value if isinstance(value, (int, float)) else math.nan,
        max(0.0, now - began),
        max(0.0, left),
    )


def _length(trainer: Mapping[str, Any], ended: Mapping[str, Any], step: int, epoch: int) -> tuple[int, float]:
    """The epochs of a training, and the share of it that is done."""
    epochs, most = int(trainer["max_epochs"]), trainer.get("max_steps")
    epochs = min(epochs, int(trainer.get("pause_after") or epochs))
    if "epoch" not in ended:
        return epochs, epoch / epochs
    each = (ended["step"] + 1) / (ended["epoch"] + 1)
    steps = min(epochs * each, most) if most is not None else epochs * each
    return math.ceil(steps / each), min(1.0, (step + 1) / steps)


def _last_lines(path: Path) -> tuple[dict[str, Any], dict[str, Any], float]:
    """The last whole line of a log, the last that ends an epoch, and when it was written; {} without one."""
    last: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            file.seek(max(0, stat.st_size - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return {}, {}, 0.0
    for line in reversed(lines):
        if not last or b'"train/loss"' in line:
            values = _values(line)
            last = last or values
            if "train/loss" in values:
                return last, values, stat.st_mtime
    return last, {}, stat.st_mtime


def _values(line: bytes) -> dict[str, Any]:
    """A line's values; {} if it is not whole, as the first of a tail may be."""
    with contextlib.suppress(ValueError):
        values = json.loads(line)
        if isinstance(values, dict) and all(isinstance(values.get(key), int) for key in ("step", "epoch")):
            return values
    return {}


def _clock(started: Any) -> float:
    """The time in a record as seconds; now, more or less, if it is not one."""
    try:
        return datetime.fromisoformat(str(started)).timestamp()
    except ValueError:
        return math.inf


def together(found: Sequence[Reached | None]) -> str:
    """How far runs have come that one process trains: '3 of 20 epochs, val/loss 0.21 to 0.4, 35 s left'."""
    known = [one for one in found if one]
    if not known:
        return "starting"
    last = max(known, key=lambda one: one.left if math.isfinite(one.left) else -1.0)
    measured = [one for one in known if one.metric and math.isfinite(one.value)]
    parts = [f"{max(one.epoch for one in known)} of {last.epochs} epochs"]
    if measured:
        low, high = (f"{end(one.value for one in measured):.4g}" for end in (min, max))
        parts.append(f"{measured[0].metric} {low if low == high else f'{low} to {high}'}")
    if math.isfinite(last.left):
        parts.append(f"{duration(last.left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as a person says it.

    Example:
        >>> [duration(seconds) for seconds in (0.4, 35, 130, 4000, 200_000)]
        ['0 s', '35 s', '2 min', '1 h 7 min', '55 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 10 else f"{hours} h"
