"""What a run was made by: code, the user's files, versions and hardware; and what of it differs from now.

Nothing here imports torch but `machine`, so that a finished run can be compared at once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise import git
from sweepwise.distributed.place import place
from sweepwise.sources import code_folders
from sweepwise.version import __version__

PACKAGES = ("torch", "numpy", "hydra-core")
ORIGIN = "origin.json"  # beside a copy of the code: what git knew of it
# Environment variables that change what is computed or by how many, by their beginnings.
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
# Recorded beside them; they say where a run was, not what it computes.
JOBS = ("SLURM_JOB_ID", "SUBMITIT_LOCAL_JOB_ID")
ARRAY = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
PLACES = ("CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", *JOBS, *ARRAY)
# What of a machine can change the last bits of a result.
COMPARED = {
    "processor": "processor",
    "cpu": "CPU",
    "cpu_capability": "CPU capability",
    "threads": "threads",
    "processes": "processes",
    "parallel": "trainer.parallel",  # of several processes
    "fused": "fused",
    "gpus": "GPUs",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "variables": "variables",
}


@dataclass(frozen=True)
class Differences:
    """What is not now as it was, a line each; all empty when nothing is known to differ.

    Attributes:
        code: source files.
        inputs: files that the config names.
        versions: of Python and packages.
        machine: host and hardware; only if now's is known.
    """

    code: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
    """What differs between two records.

    Args:
        before: a run's record: `code`, `inputs` and `environment`, where it has them.
        now: the same of this process, as far as it is asked about; what it lacks is not compared.
    """
    was, is_now = before.get("environment", {}), now.get("environment", {})
    versions = [name for name in ("python", *PACKAGES, "sweepwise") if name in is_now]
    machine = [name for name in COMPARED if name in is_now]

    def changed(names: Iterable[str]) -> list[str]:
        return [name for name in names if name in was and was[name] != is_now[name]]

    return Differences(
        code=_files(before.get("code"), now.get("code")),
        inputs=_files(before.get("inputs"), now.get("inputs")),
        versions=tuple(f"{name} {_told(was[name])} -> {_told(is_now[name])}" for name in changed(versions)),
        machine=tuple(
            line for name in changed(machine) for line in _moved(COMPARED[name], was[name], is_now[name])
        ),
    )


def _files(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> tuple[str, ...]:
    if before is None or now is None:
        return ()
    lines = {name: f"{name} is gone" for name in before.keys() - now.keys()}
    lines |= {name: f"{name} is new" for name in now.keys() - before.keys()}
    lines |= {name: f"{name} changed" for name in before.keys() & now.keys() if before[name] != now[name]}
    return tuple(lines[name] for name in sorted(lines))


def _moved(label: str, was: Any, is_now: Any) -> list[str]:
    """A line; of a mapping one for each key that differs."""
    if isinstance(was, Mapping) and isinstance(is_now, Mapping):
        names = sorted(name for name in was.keys() | is_now.keys() if was.get(name) != is_now.get(name))
        return [f"{name} {_told(was.get(name))} -> {_told(is_now.get(name))}" for name in names]
    return [f"{label} {_told(was)} -> {_told(is_now)}"]


def _told(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


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
    """Host and hardware, as torch uses it. Call it once threads and device are set."""
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
        "variables": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)
        },
    }


def environment(targets: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, hardware, git's word on the code, and how this process was started.

    Args:
        targets: a config's `_target_`s; their packages' checkouts count to `git_clean`.
    """
    told = origin(targets)
    return {
        **versions(),
        **{key: told[key] for key in ("git_commit", "git_commits", "git_clean")},
        **machine(),
        "places": {name: os.environ[name] for name in PLACES if name in os.environ},
        "pid": os.getpid(),
        "command": sys.argv,
        "working_directory": os.getcwd(),
    }


def job(known: Mapping[str, Any]) -> str:
    """The cluster's job in which a run was trained at last, by its record, such as '17_3'; '' if in none."""
    places = known.get("environment", {}).get("places", {})
    array = "_".join(places[name] for name in ARRAY if name in places)
    return array or next((places[name] for name in JOBS if name in places), "")


def origin(targets: Iterable[str] = ()) -> dict[str, Any]:
    """What git knows of the code that runs; of a copy that was made of it, what git knew then.

    Args:
        targets: a config's `_target_`s.

    Returns:
        `git_commit` of sweepwise, `git_commits` of the targets' packages, whether all is `git_clean`, and
        the `diff`.
    """
    homes = code_folders(targets)
    ours, *others = homes
    copied = homes[ours].parent / ORIGIN
    if copied.is_file():
        return dict(json.loads(copied.read_bytes()))
    return {
        "git_commit": git.commit(homes[ours]),
        "git_commits": {name: git.commit(homes[name]) for name in others},
        "git_clean": git.is_clean(homes.values()),
        "diff": _diff(homes.values()),
    }


def diff(targets: Iterable[str] = ()) -> str:
    """How the code that runs differs from its last commit, untracked .py files included.

    Args:
        targets: a config's `_target_`s.

    Returns:
        Text for `git apply`, at most 5 MiB of a checkout; '' if there is none, or no git.
    """
    return str(origin(targets)["diff"])


def _diff(homes: Iterable[Path]) -> str:
    script = Path(sys.argv[0])
    started = [script.resolve()] if script.suffix == ".py" and script.is_file() else []
    return git.diff([*homes, *started])


def _cpu() -> str:
    """The processor's name, as it calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
