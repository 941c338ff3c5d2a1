"""The commit and the diff of the code that runs, by git; nothing where git or a checkout is missing.

Git is asked once in a process, as the code that was loaded stays the same if a file is edited during a sweep.
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
# No program that a checkout configures is run, except the filters that make its files what they are.
PLAIN = ("-c", "core.fsmonitor=false")
PLAIN_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv")


def commit(path: Path) -> str | None:
    """The commit that is checked out where a file or folder lies; None outside of a checkout."""
    checkout = _checkout(_folder(path))
    return checkout[0] if checkout else None


def is_clean(paths: Iterable[Path]) -> bool:
    """Whether all paths lie in checkouts whose code is as committed."""
    paths = list(paths)
    return all(commit(path) for path in paths) and not diff(paths)


def diff(paths: Iterable[Path]) -> str:
    """`git diff HEAD` of the checkouts in which paths lie, with untracked .py files as new files.

    Returns:
        The texts of all checkouts, one after the other; each is cut after 5 MiB, with a note at its end.
    """
    checkouts = (_checkout(_folder(path)) for path in paths)
    tops = {(top, index): None for _, top, index in filter(None, checkouts)}
    return "".join(_diff(top, index) for top, index in tops)


@functools.cache
def _checkout(folder: Path) -> tuple[str, Path, Path] | None:
    """The commit, the top folder and the index of the checkout that a folder is in."""
    answer = _git(folder, "rev-parse", "HEAD", "--show-toplevel", "--git-path", "index")
    if answer is None:
        return None
    commit, top, index = os.fsdecode(answer).splitlines()
    return commit, Path(top), (folder / index).resolve()  # git tells it relative to the folder


@functools.cache
def _diff(top: Path, index: Path) -> str:
    """The diff of a checkout, made with a copy of its index to which untracked files are added."""
    untracked = _git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py")
    with tempfile.TemporaryDirectory(prefix="sweepwise-") as scratch:
        environment = {}
        if untracked:
            own = Path(scratch, "index")
            # With its time: by it git knows which files may have changed in the second of the last commit.
            shutil.copy2(index, own)
            environment["GIT_INDEX_FILE"] = str(own)
            names = ["--pathspec-from-file=-", "--pathspec-file-nul"]
            _git(top, "add", "--intent-to-add", *names, given=untracked, environment=environment)
        text = _git(top, "diff", *PLAIN_DIFF, "HEAD", environment=environment, most=DIFF_BYTES)
    if text is None:
        return ""
    if len(text) > DIFF_BYTES:
        text = text[:DIFF_BYTES].rpartition(b"\n")[0] + f"\n# cut after {DIFF_BYTES} bytes\n".encode()
    return text.decode(errors="replace")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _git(
    folder: Path,
    *arguments: str,
    given: bytes = b"",
    environment: dict[str, str] | None = None,
    most: int = -1,
) -> bytes | None:
    """What git answers; None if it fails or takes too long.

    Args:
        folder: in which git runs.
        arguments: the command.
        given: on its standard input.
        environment: variables beside this process's own.
        most: bytes; of a longer answer one byte more than that is returned; -1: no limit.
    """
    with tempfile.TemporaryFile() as source:
        source.write(given)
        source.seek(0)
        try:
            process = subprocess.Popen(
                ["git", "-C", str(folder), *PLAIN, *arguments],
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
            answer = process.stdout.read(most + 1 if most >= 0 else -1)
            if len(answer) > most >= 0:
                process.kill()
                return answer
    finally:
        alarm.cancel()
    return answer if process.returncode == 0 else None
