"""What can be found out again is kept in the user's cache folder, which anybody may remove at any time.

A file a question, put in place in one step. What is damaged, foreign or
from another question counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sweepwise.system import atomic

VARIABLE = "SWEEPWISE_CACHE"
MOST_FILES = 512  # of a kind; then the older half is removed
MOST_BYTES = 2**16  # of a file


def folder() -> Path:
    """`SWEEPWISE_CACHE`, or sweepwise in XDG_CACHE_HOME, or in ~/.cache."""
    if own := os.environ.get(VARIABLE):
        return Path(own)
    above = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(above, "sweepwise")


def recall(kind: str, question: object) -> Any:
    """The answer that was kept; None if there is none.

    Args:
        kind: of question, the name of a folder.
        question: all that decides the answer, as JSON can hold it.
    """
    text = _text(question)
    with contextlib.suppress(OSError, ValueError, RecursionError):
        with _path(kind, text).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) <= MOST_BYTES:
            digest, _, kept = content.partition(b"\n")
            value = json.loads(kept)
            if digest.decode() == _digest(kept) and isinstance(value, list) and value[0] == text:
                return value[1]
    return None


def keep(kind: str, question: object, answer: object) -> None:
    """Keeps an answer; does nothing where the folder cannot be written, or the answer is large.

    Args:
        kind: of question, the name of a folder.
        question: all that decides the answer, as JSON can hold it.
        answer: what JSON can hold, but None.
    """
    text = _text(question)
    kept = json.dumps([text, answer]).encode()
    content = f"{_digest(kept)}\n".encode() + kept
    if len(content) > MOST_BYTES:
        return
    path = _path(kind, text)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.put(path, content)
        _bound(path.parent)


def _bound(kind: Path) -> None:
    """Removes the older half of the files in a folder, if they are too many."""
    found = os.listdir(kind)
    if len(found) <= MOST_FILES:
        return
    times = {}
    for name in found:
        with contextlib.suppress(OSError):
            times[name] = (kind / name).stat().st_mtime_ns
    for name in sorted(times, key=times.__getitem__)[: len(times) - MOST_FILES // 2]:
        with contextlib.suppress(OSError):
            (kind / name).unlink()


def _text(question: object) -> str:
    return _digest(json.dumps(question, sort_keys=True, default=str).encode())


def _path(kind: str, text: str) -> Path:
    return folder() / kind / f"{text[:32]}.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
