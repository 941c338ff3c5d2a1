"""`search.jsonl` in a sweep's folder: every decision of a search, a line each, in order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sweepwise.search.strategy import Decision
from sweepwise.store import shape
from sweepwise.store.strict_json import jsonable

_LINE = shape.of({"what": shape.TEXT, "why": shape.TEXT})


class Log:
    """The log of a search.

    A search that is started again decides the same as before, so lines that are there already, in this order,
    are not written again. What is decided otherwise, as with a larger budget, is added behind them.

    Args:
        path: of the file, whose folder must exist once something is written.

    Raises:
        Damaged: a line before the last is not what a search writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = list(_lines(path))
        self._at = 0

    def write(self, decisions: Iterable[Decision]) -> None:
        """Adds decisions; they have reached the disk when this returns.

        Raises:
            OSError: they cannot be written.
        """
        new = [line for decision in decisions if (line := self._next(decision))]
        if not new:
            return
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _end_line(handle)
            os.write(handle, "".join(f"{json.dumps(line)}\n" for line in new).encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def _next(self, decision: Decision) -> dict[str, Any] | None:
        line: dict[str, Any] = jsonable({"what": decision.what, "why": decision.why, **decision.about})
        try:
            self._at = self._before.index(line, self._at) + 1
        except ValueError:
            return line
        return None


def read(path: Path) -> list[dict[str, Any]]:
    """The decisions of a search, as its log has them; empty without one.

    Raises:
        Damaged: a line before the last is not what a search writes.
    """
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        *whole, _ = path.read_bytes().split(b"\n")  # what a killed process has begun to write is left out
    except FileNotFoundError:
        return
    for number, text in enumerate(whole, 1):
        try:
            yield shape.parsed(text, _LINE)
        except ValueError as error:
            way_out = "restore it from a copy, or remove it: the search then writes it again"
            raise shape.Damaged(shape.message(path, f"line {number}: {error}", way_out)) from error


def _end_line(handle: int) -> None:
    """Cuts off what a process that was killed had begun to write."""
    size = os.lseek(handle, 0, os.SEEK_END)
    content = os.pread(handle, size, 0)
    os.ftruncate(handle, content.rfind(b"\n") + 1)
