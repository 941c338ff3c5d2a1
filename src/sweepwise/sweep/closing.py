"""What is said at the end of a sweep, said again at once where nothing has changed since.

The answer, the page and what TensorBoard shows follow from the folders of the runs. Where record and config
of each run are the files that they were, and page, means and columns are there, the same words are right.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from sweepwise.provenance import environment
from sweepwise.results import run_folder
from sweepwise.results.page.files import NAME, is_automatic
from sweepwise.results.table import ENDED, FAILED, Table
from sweepwise.store.folders import COLUMNS, MEAN, RECORD
from sweepwise.sweep import announced
from sweepwise.system import cache
from sweepwise.system.console import on_terminal

KIND = "ends"
PACKAGE = Path(__file__).resolve().parents[1]


def tell(homes: Sequence[Path], asked: object, say: Callable[[], Table | None]) -> None:
    """Prints what is said at the end of a sweep.

    Args:
        homes: of its experiments.
        asked: what it depends on beside their folders.
        say: prints it, and writes what goes with it; returns the runs that it was said of, or None if
            something was wrong that is not in their folders, such as a full disk.
    """
    question = _question(homes, asked)
    known = cache.recall(KIND, question)
    if known:
        print(known, end="", flush=True)
        return
    runs = [_runs(home) for home in homes]
    with _heard() as printed:
        table = say()
    whole = table is not None and all(row.status in (*ENDED, *FAILED) for row in table.rows)
    if whole and [_runs(home) for home in homes] == runs:  # else somebody has trained meanwhile
        cache.keep(KIND, _question(homes, asked), "".join(printed))


def _question(homes: Sequence[Path], asked: object) -> object:
    columns = shutil.get_terminal_size().columns if on_terminal() else 0
    folders = []
    for home in homes:
        runs = _runs(home)
        folders.append([str(home), os.path.abspath(home), runs, _beside(home, [path for path, *_ in runs])])
    return [folders, asked, columns, _code(), environment.versions()]


def _runs(home: Path) -> list[tuple[str, *tuple[object, ...]]]:
    """Which files the records and configs of an experiment's runs are."""
    paths = map(str, run_folder.folders(home))
    return [(path, *(_version(f"{path}/{name}") for name in (RECORD, run_folder.CONFIG))) for path in paths]


def _beside(home: Path, runs: Sequence[str]) -> list[object]:
    """Which files there are of all runs together, and which runs are still to be trained."""
    means = home / MEAN
    return [
        _page(home / f"{NAME}.html"),
        sorted(os.listdir(means)) if means.is_dir() else None,
        [run for run in runs if os.path.exists(f"{run}/{COLUMNS}")],
        [*announced.waiting(home)],
    ]


def _page(path: Path) -> str:
    """What stands where the page of an experiment belongs."""
    try:
        return "automatic" if is_automatic(path) else "of somebody"
    except FileNotFoundError:
        return "none"
    except OSError as error:
        return str(error)


def _version(path: str) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@functools.cache
def _code() -> list[object]:
    """Which files the code is that says it."""
    walked = os.walk(PACKAGE)
    found = sorted(f"{folder}/{name}" for folder, _, names in walked for name in names if name[-4:] != ".pyc")
    return [(path, *_version(path)) for path in found]


class _Heard:
    """A stream that also keeps what is written to it."""

    def __init__(self, stream: TextIO, words: list[str]) -> None:
        self._stream, self._words = stream, words

    def write(self, text: str) -> int:
        self._words.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    words: list[str] = []
    before = sys.stdout
    if before is None:  # closed by who has started the command
        yield words
        return
    sys.stdout = _Heard(before, words)
    try:
        yield words
    finally:
        sys.stdout = before
