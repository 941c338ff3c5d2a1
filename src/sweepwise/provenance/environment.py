"""The environment of a run: versions, hardware, git's state, and how the process was started.

Only `machine` imports torch, so that a finished run can be compared at once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from sweepwise.distributed.place import place
from sweepwise.provenance.origin import code_origin
from sweepwise.version import __version__

PACKAGES = ("torch", "numpy", "hydra-core")
# Prefixes of environment variables that change what is computed or the number of threads.
VARIABLES = (
    "ATEN_",
    "CUBLAS_",
    "CUDNN_",
    "DNNL_",
    "KMP_",
    "MKL_",
    "NVIDIA_TF32",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
)
# Variables that are recorded too; they say where a run was trained, not what it computes.
JOBS = ("SLURM_JOB_ID", "SUBMITIT_LOCAL_JOB_ID")
ARRAY = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
PLACES = ("CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", *JOBS, *ARRAY)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a result depends on, none of them imported for it."""
    own = {"python": platform.python_version(), "sweepwise": __version__}
    return {**own, **{name: _installed(name) for name in PACKAGES}}


@functools.cache
def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Host and hardware, as torch uses it. Call it after threads and device are set."""
    import torch

    cuda = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": place().size,
        "gpus": [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus],
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(VARIABLES)},
    }


def current_environment(targets: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, hardware, the commits of the code, and how this process was started.

    Args:
        targets: a config's `_target_`s; the checkouts of their packages count for `git_clean` too.
    """
    origin = code_origin(targets)
    return {
        **versions(),
        **{key: origin[key] for key in ("git_commit", "git_commits", "git_clean")},
        **machine(),
        "places": {name: os.environ[name] for name in PLACES if name in os.environ},
        "pid": os.getpid(),
        "command": sys.argv,
        "working_directory": os.getcwd(),
    }


def job(known: Mapping[str, Any]) -> str:
    """The cluster's job that has trained a run last, by the run's record, such as '17_3'; '' if none has."""
    places = known.get("environment", {}).get("places", {})
    array = "_".join(places[name] for name in ARRAY if name in places)
    return array or next((places[name] for name in JOBS if name in places), "")


@functools.cache
def _cpu() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
