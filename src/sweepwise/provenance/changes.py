"""What differs between what a run was made by and what is here now, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.errors import Failure
from sweepwise.provenance import sources
from sweepwise.provenance.environment import PACKAGES, versions
from sweepwise.store import record
from sweepwise.store.request import Request
from sweepwise.store.status import ENDED, ended

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


class Changed(Failure):
    """A run was made by other code, and nothing was said of what to do about it."""


def made_by(request: Request, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of how a run came about, for `provenance.differences`."""
    code, inputs = sources.code(request.targets), sources.inputs(request.config)
    return {"code": code, "inputs": inputs, "environment": environment}


def refuse_changed(folder: Path, known: Mapping[str, Any], request: Request, changes: Sequence[str]) -> None:
    """Asks what to do with a run that was made by something else than what is here now.

    Raises:
        Changed: with all that differs, unless that was accepted.
    """
    if changes and not request.config["accept_changes"]:
        status = known["status"] if known["status"] != "running" else "killed"
        way = "takes it as it is" if known["status"] in ENDED else "goes on with it"
        raise Changed(
            f"{folder}: {status}, but made by something else: {'; '.join(changes)}. "
            f"fresh=true trains it anew, over what is there; accept_changes=true {way}"
        )


def refuse_made_otherwise(folder: Path, known: Mapping[str, Any], request: Request) -> None:
    """`refuse_changed` for a run that has ended: by code, inputs and versions, which are known without torch.

    Raises:
        Changed: see `refuse_changed`.
    """
    differs = differences(known, made_by(request, versions()))
    refuse_changed(folder, known, request, [*differs.code, *differs.inputs, *differs.versions])


def already_ended(request: Request, folder: Path | None = None) -> dict[str, Any] | None:
    """The record of a run that has ended and can be taken as it is; None if there is something to train.

    Args:
        request: the run.
        folder: the run's folder, if it is known; else it is looked up.

    Raises:
        Changed: the run has ended, but was produced with different code, inputs or versions.
        Damaged: the record cannot be read.
    """
    if request.config["fresh"]:
        return None
    folder = folder or request.folder
    known = record.read(folder)
    if not ended(known):
        return None
    refuse_made_otherwise(folder, known, request)
    return known
