"""The hashes of a run's source files: a record has the hash of their table, `code.json` beside it the table.

So two runs are compared by one short text, and the table is read only where files are to be named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from sweepwise.store import shape
from sweepwise.store.folders import CODE


class Hashes(dict[str, str]):
    """The first 16 hex digits of the sha256 of source files, by path; nobody changes it."""

    @cached_property
    def content(self) -> bytes:
        """Of `code.json`, a line a file."""
        return json.dumps(self, indent=0, sort_keys=True).encode() + b"\n"

    @cached_property
    def digest(self) -> str:
        """The first 16 hex digits of the sha256 of `content`: what a record has under `code`."""
        return hashlib.sha256(self.content).hexdigest()[:16]


def digest(code: str | Mapping[str, str]) -> str:
    """The hash of a table, which may be the hash itself; a record of an earlier version has the table."""
    if isinstance(code, str):
        return code
    return (code if isinstance(code, Hashes) else Hashes(code)).digest


def table(code: str | Mapping[str, str], folder: Path | None = None) -> Mapping[str, str] | None:
    """The table that belongs to what a record has under `code`; None if nobody knows it any more.

    Args:
        code: of the record.
        folder: of the run, where `code.json` is looked for; None: there is none.
    """
    if not isinstance(code, str):
        return code
    try:
        found = Hashes(shape.parsed((folder / CODE).read_bytes(), shape.BY_NAME)) if folder else None
    except (OSError, ValueError):
        return None
    return found if found is not None and found.digest == code else None
