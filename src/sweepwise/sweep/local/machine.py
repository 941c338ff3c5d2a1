"""The cores, GPUs and GPU memory that this machine has for the processes of a sweep."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweepwise.config.schema import filled
from sweepwise.errors import UsageError
from sweepwise.store.request import Request

if TYPE_CHECKING:
    from sweepwise.trainer import Settings

OWN_FILES, FILES_A_RUN = 64, 3  # that a process holds open, and each run of a group
ANSWER_SECONDS = 30  # that a GPU's driver may take to start


def slots(requests: Sequence[Request], max_parallel: int | None) -> list[str | None]:
    """The GPU of each process that may train at the same time; None: it has none of its own.

    Args:
        requests: runs, of which some may be refused when they start.
        max_parallel: processes at a time; None: one a GPU, or as many as the cores have threads for.
    """
    different = {repr(request.config["trainer"]): request for request in requests}
    trainers = list(filter(None, map(_trainer, different.values())))
    wants_gpu = any(trainer.device in ("auto", "cuda") for trainer in trainers)
    gpus: list[str | None] = list(_gpus()) if wants_gpu else []
    threads = max((trainer.threads for trainer in trainers), default=1)
    number = max_parallel or len(gpus) or max(1, _cores() // threads)
    number = min(number, len(requests))
    return [gpus[slot % len(gpus)] if gpus else None for slot in range(number)]


def _trainer(request: Request) -> Settings | None:
    """The settings of a run's trainer; None if they are refused, which the run reports when it starts."""
    from sweepwise.trainer import Settings  # imports torch

    values = {key: value for key, value in request.config["trainer"].items() if key != "_target_"}
    try:
        return filled("trainer", values, Settings)
    except UsageError:
        return None


def _cores() -> int:
    """The cores that this process may use; in a Slurm job at most those that the job was given."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, int(os.environ.get("SLURM_CPUS_ON_NODE", available)))


def runs_of_a_process() -> int:
    """The most runs that one process may train, by the files that each holds open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else max(1, (hard - OWN_FILES) // FILES_A_RUN)


def allow_files_of(runs: int) -> None:
    """Lets this process hold open as many files as so many runs do, up to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OWN_FILES + FILES_A_RUN * runs
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a group that lacks files is trained in smaller ones
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _gpus() -> list[str]:
    """The GPUs that this process may use; without torch, since CUDA must not be initialised before a fork."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [word for word in visible.split(",") if word]
    return [str(i) for i, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))]


def free_memory(slots: Sequence[str | None]) -> int | None:
    """Free bytes for each process on the GPU with the least of them; None if no GPU can be asked."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    used = Counter(slot for slot in slots if slot is not None)
    if not used:
        return None
    try:
        table = subprocess.run(
            query, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        ).stdout
        free = {
            name.strip(): int(mebibytes) * 2**20
            for *names, mebibytes in (line.split(",") for line in table.splitlines())
            for name in names
        }
        return min(free[gpu] // processes for gpu, processes in used.items())
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None
