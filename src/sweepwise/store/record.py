"""`record.json` in a run's folder: how the run was produced, its attempts, and how it ended.

Nothing here needs torch, so that a finished run is recognised at once.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from sweepwise.errors import reason
from sweepwise.store.folders import RECORD
from sweepwise.system.atomic import write_atomic
from sweepwise.system.handle import readable

BEST_WEIGHTS = "checkpoints/best/weights.safetensors"
LAST_MANIFEST = "checkpoints/last/manifest.json"
RESET = ("status", "reason", "ended", "seconds")  # what a new attempt does not keep of an earlier record


class Record:
    """`record.json`, rewritten as a whole whenever something is learned about the run.

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
        self._write()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self.fields["status"] == "running":
            self.end("failed", reason(error))

    def end(self, status: str, reason: str, **fields: Any) -> None:
        """Writes how the run ended."""
        own_seconds = round(time.monotonic() - self._started, 3)  # by a clock that nobody sets
        self._attempts[-1] |= {"ended": _now(), "status": status, "seconds": own_seconds}
        seconds = round(sum(attempt["seconds"] for attempt in self._attempts), 3)
        self.fields |= {"status": status, "reason": reason, "ended": self._attempts[-1]["ended"]}
        self.fields |= {"seconds": seconds, **fields}
        self._write()

    def _write(self) -> None:
        content = json.dumps(jsonable(self.fields), indent=2).encode() + b"\n"
        try:
            write_atomic(self._path, content)
        except OSError as error:
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
        saved = (folder / LAST_MANIFEST).stat().st_mtime
        return round(max(0.0, saved - datetime.fromisoformat(started).timestamp()), 3)
    except (OSError, ValueError, TypeError):
        return 0.0


class DamagedRecord(OSError):
    """A record that cannot be read."""


def read(folder: Path) -> dict[str, Any]:
    """A run's record; empty if the folder has none.

    Raises:
        DamagedRecord: it is no JSON object.
    """
    path = folder / RECORD
    try:
        fields = json.loads(path.read_bytes())
        if not isinstance(fields, dict) or "status" not in fields:
            raise ValueError("it holds no status")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise DamagedRecord(
            f"{readable(path)} is damaged ({error}); restore it from a copy, or use fresh=true to train again"
        ) from error
    return fields


def jsonable(value: Any) -> Any:
    """The same value in strict JSON, where a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time()))
