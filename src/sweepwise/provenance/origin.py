"""Where the code of a run comes from: its commits, and how it differs from them."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sweepwise.provenance import git
from sweepwise.provenance.sources import code_folders

ORIGIN = "origin.json"  # beside a copy of the code: what git knew of it when it was copied


def code_origin(targets: Iterable[str] = ()) -> Mapping[str, Any]:
    """What git knows of the code that runs; for a copy of the code, what git knew when it was made.

    It is found out once in a process, as loaded code stays the same.

    Args:
        targets: a config's `_target_`s.

    Returns:
        `git_commit` of sweepwise, `git_commits` of the targets' packages, whether all is `git_clean`, and
        the `diff`.
    """
    script = Path(sys.argv[0])
    started = script.resolve() if script.suffix == ".py" and script.is_file() else None
    return _origin(tuple(code_folders(targets).items()), started)


@functools.cache
def _origin(homes: tuple[tuple[str, Path], ...], script: Path | None) -> Mapping[str, Any]:
    """As `code_origin`, of packages by name and folder, ours first, and of the script that was started."""
    (_, ours), *others = homes
    folders = [folder for _, folder in homes]
    copied = ours.parent / ORIGIN
    if copied.is_file():
        return dict(json.loads(copied.read_bytes()))
    return {
        "git_commit": git.commit(ours),
        "git_commits": {name: git.commit(folder) for name, folder in others},
        "git_clean": git.is_clean(folders),
        "diff": git.diff([*folders, *([script] if script else [])]),
    }


def diff(targets: Iterable[str] = ()) -> str:
    """How the code that runs differs from its last commit, untracked .py files included.

    Args:
        targets: a config's `_target_`s.

    Returns:
        Text for `git apply`, at most 5 MiB of a checkout; '' if there is none, or no git.
    """
    return str(code_origin(targets)["diff"])
