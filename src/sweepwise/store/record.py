"""`record.json` in a run's folder: how the run was produced, its attempts, and how it ended.

Nothing here needs torch, so that a finished run is recognised at once.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sweepwise.store import shape, strict_json, takeover
from sweepwise.store.folders import RECORD
from sweepwise.system import atomic
from sweepwise.system.handle import readable

BEST_WEIGHTS = "checkpoints/best/weights.safetensors"
LAST = "checkpoints/last"
TEST = "test/"  # begins the tags of the test part
RESET = ("status", "reason", "ended", "seconds")  # what a new attempt does not keep of an earlier record


class Record:
    """`record.json`, rewritten as a whole when the run begins and when it ends.

    Each process that trains the run is one attempt. `seconds` is the sum over all attempts; one that
    was killed counts up to its last checkpoint.

    Args:
        folder: the run's; must exist.
        going_on: keeps the fields that earlier attempts wrote, unless `fields` gives new ones.
        from_step: optimizer steps that were taken before this attempt.
        fields: what is known at the start.

    Attributes:
        fields: all that is known, as `record.json` holds it.

    Raises:
        DamagedRecord: there is a record to go on with, but it cannot be read.
    """

    def __init__(self, folder: Path, *, going_on: bool = False, from_step: int = 0, **fields: Any) -> None:
        self._path = folder / RECORD
        self._started = time.monotonic()
        before = read(folder) if going_on else {}
        self._attempts = [*_earlier_attempts(before, folder), _new_attempt(from_step)]
        self.fields = {
            "status": "running",
            "reason": "",
            "started": self._attempts[-1]["started"],  # of the first attempt, if there was one before
            **{key: value for key, value in before.items() if key not in RESET},
            "attempts": self._attempts,
            **fields,
        }

    def begin(self) -> atomic.Durable:
        """Writes what is known at the start. After a power failure there is all of it, or no record."""
        yield from self._writing(named=False)

    def end(self, status: str, reason: str, **fields: Any) -> None:
        """As `ending`, alone."""
        atomic.alone(self.ending(status, reason, **fields))

    def ending(self, status: str, reason: str, **fields: Any) -> atomic.Durable:
        """Writes how the run ended."""
        own_seconds = round(time.monotonic() - self._started, 3)  # by a clock that nobody sets
        self._attempts[-1] |= {"ended": _now(), "status": status, "seconds": own_seconds}
        seconds = round(sum(attempt["seconds"] for attempt in self._attempts), 3)
        self.fields |= {"status": status, "reason": reason, "ended": self._attempts[-1]["ended"]}
        self.fields |= {"seconds": seconds, **fields}
        yield from self._writing()

    def _writing(self, *, named: bool = True) -> atomic.Durable:
        content = strict_json.text(self.fields).encode() + b"\n"
        try:
            yield from atomic.replacing(self._path, content, named=named)
        except OSError as error:
            takeover.refuse_lost(self._path)
            path = readable(self._path)
            why = f"{path}: cannot be written ({error.strerror}); once it can, the same command goes on"
            raise OSError(error.errno, why) from error


def _new_attempt(from_step: int) -> dict[str, Any]:
    """What is known of the attempt that begins now."""
    return {
        "started": _now(),
        "ended": None,
        "seconds": 0.0,
        "host": platform.node(),
        "pid": os.getpid(),
        "from_step": from_step,
        "status": "running",
    }


def _earlier_attempts(before: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The attempts in a record; one that is still "running" there was killed and could not write its end."""
    attempts = [dict(attempt) for attempt in before.get("attempts", [])]
    for attempt in attempts:
        if attempt["status"] == "running":
            attempt |= {"status": "interrupted", "seconds": _until_saved(folder, attempt["started"])}
    return attempts


def _until_saved(folder: Path, started: Any) -> float:
    """Seconds from the start of an attempt to its last checkpoint, from which the next attempt goes on."""
    try:
        saved = (folder / LAST).stat().st_mtime
        return round(max(0.0, saved - datetime.fromisoformat(started).timestamp()), 3)
    except (OSError, ValueError, TypeError):
        return 0.0


class DamagedRecord(shape.Damaged):
    """A record that is not whole."""


def read(folder: Path) -> dict[str, Any]:
    """A run's record; empty if the folder has none.

    Raises:
        DamagedRecord: it is no JSON object, or a key is missing or has a value of another type.
    """
    path = folder / RECORD
    try:
        fields: dict[str, Any] = shape.parsed(path.read_bytes(), shape.record)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        way_out = "restore it from a copy, or use fresh=true to train again"
        raise DamagedRecord(shape.message(path, error, way_out)) from error
    return fields


def from_python(known: Mapping[str, Any]) -> bool:
    """Whether `sweepwise.fit` made a run, by its record: no command line trains it again."""
    environment = known.get("environment")
    return isinstance(environment, Mapping) and environment.get("command") == []


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time()))


def best_metrics(known: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the best weights in a record, by tag: of the validation part and of the test part.

    A record of before 'last' was written has those of the test part among the last ones.
    """
    kept = (known.get("best") or {}).get("metrics") or {}
    mixed = {} if "last" in known else known.get("metrics") or {}
    return {**kept, **{tag: value for tag, value in mixed.items() if tag.startswith(TEST)}}


def last_metrics(known: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics in a record that were measured at the end of the training, by tag."""
    mixed = known["last"] if "last" in known else known.get("metrics") or {}
    return {tag: value for tag, value in mixed.items() if not tag.startswith(TEST)}


def measured(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """All that was measured of the best weights in a record, by part."""
    best = known.get("best") or {}
    found: Mapping[str, Any] = best["measured"] if "measured" in best else known.get("final") or {}
    return found


def best(known: Mapping[str, Any], form: str = ".6g") -> str:
    """The best weights of a record in words, such as 'val/loss 0.25 at epoch 3'; '' if there are none.

    Args:
        known: the record.
        form: of the value, as `format` takes it.
    """
    entry = known.get("best") or {"epoch": -1}
    if entry["epoch"] < 0:
        return ""
    if entry["metric"] is None:
        return f"the last weights, at epoch {entry['epoch']}"
    value = "not finite" if entry["value"] is None else format(entry["value"], form)
    return f"{entry['metric']} {value} at epoch {entry['epoch']}"
