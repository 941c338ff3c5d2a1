"""What git knows of the code that runs; nothing where it is missing or knows nothing.

Asked once a process: what was loaded stays loaded, also if a file is edited during a sweep.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

DIFF_BYTES = 5 * 2**20
SECONDS = 10
# No program that a checkout names is run for it, but the filters that make its files what they are.
PLAIN = ("-c", "core.fsmonitor=false")
PLAIN_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv")


def commit(place: Path) -> str | None:
    """The commit that is checked out where a file or folder lies; None outside of a checkout."""
    found = _checkout(_folder(place))
    return found[0] if found else None


def is_clean(places: Iterable[Path]) -> bool:
    """Whether all places lie in checkouts whose code is as committed."""
    places = list(places)
    return all(commit(place) for place in places) and not diff(places)


def diff(places: Iterable[Path]) -> str:
    """`git diff HEAD` of the checkouts in which places lie, with untracked .py files as new ones.

    Returns:
        One text for each checkout after the other, at most 5 MiB each; a longer one says so at its end.
    """
    found = (_checkout(_folder(place)) for place in places)
    tops = {(top, index): None for _, top, index in filter(None, found)}
    return "".join(_diff(top, index) for top, index in tops)


@functools.cache
def _checkout(folder: Path) -> tuple[str, Path, Path] | None:
    """The commit, the top and the index of the checkout that a folder is in."""
    told = _git(folder, "rev-parse", "HEAD", "--show-toplevel", "--git-path", "index")
    if told is None:
        return None
    commit, top, index = os.fsdecode(told).splitlines()
    return commit, Path(top), folder / index


@functools.cache
def _diff(top: Path, index: Path) -> str:
    """Made with a copy of the index, in which the untracked files are announced."""
    untracked = _git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py")
    with tempfile.TemporaryDirectory(prefix="sweepwise-") as scratch:
        environment = {}
        if untracked:
            own = Path(scratch, "index")
            shutil.copyfile(index, own)
            environment["GIT_INDEX_FILE"] = str(own)
            names = ["--pathspec-from-file=-", "--pathspec-file-nul"]
            _git(top, "add", "--intent-to-add", *names, given=untracked, environment=environment)
        told = _git(top, "diff", *PLAIN_DIFF, "HEAD", environment=environment, most=DIFF_BYTES)
    if told is None:
        return ""
    if len(told) > DIFF_BYTES:
        told = told[:DIFF_BYTES].rpartition(b"\n")[0] + f"\n# cut after {DIFF_BYTES} bytes\n".encode()
    return told.decode(errors="replace")


def _folder(place: Path) -> Path:
    return place if place.is_dir() else place.parent


def _git(
    place: Path,
    *arguments: str,
    given: bytes = b"",
    environment: dict[str, str] | None = None,
    most: int = -1,
) -> bytes | None:
    """What git answers; None if it fails or takes too long.

    Args:
        place: folder in which it is asked.
        arguments: the command.
        given: on its standard input.
        environment: variables beside this process's own.
        most: bytes of an answer that is longer, of which one more is returned; -1: no limit.
    """
    with tempfile.TemporaryFile() as source:
        source.write(given)
        source.seek(0)
        try:
            process = subprocess.Popen(
                ["git", "-C", str(place), *PLAIN, *arguments],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(environment or {})},
            )
        except OSError:
            return None
    alarm = threading.Timer(SECONDS, process.kill)
    alarm.start()
    try:
        with process:
            assert process.stdout is not None
            told = process.stdout.read(most + 1 if most >= 0 else -1)
            if len(told) > most >= 0:
                process.kill()
                return told
    finally:
        alarm.cancel()
    return told if process.returncode == 0 else None
