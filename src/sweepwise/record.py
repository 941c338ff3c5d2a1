"""What a run is and what became of it: its id, its folder, its status, and the environment it ran in.

Nothing here needs torch until a run is described, so that a finished one is recognised at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

NAME_BYTES = 120
BEST_WEIGHTS = "checkpoints/best/weights.safetensors"

SAFE_NAME = re.compile(r"[A-Za-z0-9_.+=-]*[A-Za-z0-9_+=-]")

# What cannot change a run's result, so is no part of what it is.
NOT_IDENTITY = {"name", "output_dir", "fresh", "progress", "monitor", "trainer.workers", "data.root"}


def identity(config: Mapping[str, Any]) -> str:
    """A short hash of all that can change the result, 8 hex digits.

    Args:
        config: the resolved config, plain values.
    """
    parts = {
        key: {k: v for k, v in value.items() if f"{key}.{k}" not in NOT_IDENTITY}
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if key not in NOT_IDENTITY
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def folder_name(overrides: Sequence[str], seed: int, run_id: str) -> str:
    """A readable name for a run's folder: what was overridden, the seed last, and the id.

    Args:
        overrides: as given on the command line, such as 'init=xavier'.
        seed: the run's seed.
        run_id: from `identity`.

    Returns:
        ASCII, at most 120 bytes, safe as one level of a path: 'init=xavier,scheduler=cosine,seed=0-1a2b3c4d'.
    """
    told = [
        override
        for key, override in zip(keys(overrides), overrides, strict=True)
        if NOT_IDENTITY.isdisjoint((key, key.split(".")[0])) and key not in ("seed", "seed.value")
    ]
    readable = ",".join(re.sub(r"[^A-Za-z0-9_.=+-]+", "_", item).strip("_") for item in told)
    tail = f"seed={seed}-{run_id}"
    room = NAME_BYTES - len(tail) - 1
    return f"{readable[:room].rstrip(',')},{tail}" if readable else tail


def keys(overrides: Sequence[str]) -> list[str]:
    """What each override sets: 'init=xavier' sets 'init'."""
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def find_folder(home: Path, overrides: Sequence[str], seed: int, run_id: str) -> Path:
    """Where a run lives: the folder that carries its id, however it was first asked for, else a new name."""
    known = sorted(home.glob(f"*-{run_id}"))
    return known[0] if known else home / folder_name(overrides, seed, run_id)


@dataclass(frozen=True)
class Request:
    """A run as it was asked for.

    Attributes:
        config: resolved, plain values.
        overrides: what was said on the command line; names the folder.
        choices: the option chosen of each config group.
    """

    config: Mapping[str, Any]
    overrides: Sequence[str] = ()
    choices: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Hash of what can change the result."""
        return identity(self.config)

    @cached_property
    def folder(self) -> Path:
        """Where the run lives."""
        home = Path(self.config["output_dir"]) / str(self.config["name"])
        return find_folder(home, self.overrides, self.config["seed"]["value"], self.id)


def write_aside(path: Path, content: bytes) -> None:
    """Replaces a file in one step; after a crash it holds the old content or the new, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Record:
    """`record.json`, rewritten as a whole whenever something is learned about the run.

    Args:
        folder: the run's; must exist.
        fields: what is known at the start.

    Attributes:
        fields: all that is known, as `record.json` holds it.
    """

    def __init__(self, folder: Path, **fields: Any) -> None:
        self._path = folder / "record.json"
        self._started = time.monotonic()
        self.fields = {"status": "running", "reason": "", "started": _now(), **fields}
        self._write()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self.fields["status"] == "running":
            self.end("failed", described(error))

    def end(self, status: str, reason: str, **fields: Any) -> None:
        """Writes how the run ended."""
        seconds = round(time.monotonic() - self._started, 3)
        self.fields |= {"status": status, "reason": reason, "ended": _now(), "seconds": seconds, **fields}
        self._write()

    def _write(self) -> None:
        write_aside(self._path, json.dumps(jsonable(self.fields), indent=2).encode() + b"\n")


def described(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".strip(": ")


def read(folder: Path) -> dict[str, Any]:
    """A run's record; empty if the folder has none."""
    path = folder / "record.json"
    return json.loads(path.read_text()) if path.exists() else {}


class Busy(RuntimeError):
    """Another process trains the run."""


def claim(folder: Path) -> int:
    """Makes a run's folder this process's own, empty of what an earlier attempt left.

    Returns:
        The file descriptor of the lock, which dies with this process.

    Raises:
        Busy: another process holds the folder.
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 100).decode()
        os.close(lock)
        raise Busy(f"{folder} is being trained by {holder}") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {platform.node()} since {_now()}".encode())
    for entry in folder.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return lock


def jsonable(value: Any) -> Any:
    """The same value in strict JSON, where a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def environment() -> dict[str, Any]:
    """Versions, hardware and code that a result depends on. Call it once threads and device are set."""
    import numpy
    import torch

    from sweepwise import __version__

    commit = _git("rev-parse", "HEAD")
    return {
        "sweepwise": __version__,
        "git_commit": commit,
        "git_clean": commit is not None and not _git("status", "--porcelain", "--untracked-files=no"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "host": platform.node(),
        "pid": os.getpid(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": sys.argv,
    }


def _git(*arguments: str) -> str | None:
    """What git says of the code that runs; None without git or outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
