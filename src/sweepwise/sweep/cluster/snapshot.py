"""A copy of the code, made when a sweep is submitted, from which its jobs import.

So later edits do not change what queued jobs do. A copy is named by the hash of its content, and submissions
of the same code share it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from sweepwise.provenance import sources
from sweepwise.provenance.origin import ORIGIN, code_origin
from sweepwise.system import atomic, disk

SNAPSHOTS = "snapshots"
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")


def take(sweep: Path, targets: Iterable[str], packages: Iterable[str]) -> Path:
    """Copies sweepwise and the packages that configs build from; returns the folder to import them from.

    Args:
        sweep: the folder of the sweep's own files.
        targets: `_target_`s of the configs.
        packages: the user's own packages that configs may build from.

    Raises:
        OSError: the copy cannot be written; an incomplete one is removed.
    """
    names = sorted({*targets, *packages})
    homes = sources.code_folders(names)
    code = sources.code(names)
    origin = code_origin(names)
    known = json.dumps([code, origin], sort_keys=True).encode()
    folder = sweep / SNAPSHOTS / hashlib.sha256(known).hexdigest()[:16]
    if folder.is_dir():
        return folder
    atomic.make_folder(folder.parent)
    try:
        with atomic.new_folder(folder) as aside:
            for home in homes.values():
                if home.is_dir():
                    shutil.copytree(home, aside / home.name, ignore=LEFT_OUT)
                else:
                    shutil.copy2(home, aside / home.name)
            (aside / ORIGIN).write_text(json.dumps(origin, indent=2))
            disk.sync_all(aside)
    except FileExistsError:  # another launcher was faster; its copy is the same
        if not folder.is_dir():
            raise
    return folder
