"""What has changed since a run was trained, and whether its result may still be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.errors import Failure
from sweepwise.provenance import hashes, sources
from sweepwise.provenance.environment import PACKAGES, versions
from sweepwise.store import record
from sweepwise.store.request import Request
from sweepwise.store.status import current_status, ended, settled

# Properties of a machine that can change the last bits of a result, and what messages call them.
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
NAMED = 8  # differences that a message names
UNNAMED = "the code, in files that are not known"


class Changed(Failure):
    """A run was produced with different code, inputs or versions, and that was not accepted."""


@dataclass(frozen=True)
class Differences:
    """What has changed, one line each; all are empty if no change is known.

    Attributes:
        code: source files.
        inputs: the user's own files, which the config names.
        versions: of Python and packages.
        machine: hardware; only if that of this process is known.
    """

    code: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path | None = None,
    other: Path | None = None,
) -> Differences:
    """What differs between a run's record and this process, or another record.

    Args:
        before: the record: `code`, `inputs` and `environment`, where it has them.
        now: the same keys for this process, with the hashes of the files as its `code`, or another record; a
            key that is missing is not compared.
        folder: of the run whose record `before` is: there the files are looked up if the code differs.
        other: of that of `now`, if it is a record.
    """
    was, is_now = before.get("environment", {}), now.get("environment", {})
    versions = [name for name in ("python", *PACKAGES, "sweepwise") if name in is_now]
    machine = [name for name in COMPARED if name in is_now]

    def changed(names: Iterable[str]) -> list[str]:
        return [name for name in names if name in was and was[name] != is_now[name]]

    return Differences(
        code=_changed_code(before.get("code"), now.get("code"), folder, other),
        inputs=_changed_files(before.get("inputs"), now.get("inputs")),
        versions=tuple(
            f"{name} {_value_text(was[name])} -> {_value_text(is_now[name])}" for name in changed(versions)
        ),
        machine=tuple(
            line
            for name in changed(machine)
            for line in _changed_lines(COMPARED[name], was[name], is_now[name])
        ),
    )


def _changed_code(
    before: str | Mapping[str, str] | None,
    now: str | Mapping[str, str] | None,
    folder: Path | None,
    other: Path | None,
) -> tuple[str, ...]:
    if before is None or now is None or hashes.digest(before) == hashes.digest(now):
        return ()
    tables = hashes.table(before, folder), hashes.table(now, other)
    return (UNNAMED,) if None in tables else _changed_files(*tables)


def _changed_files(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> tuple[str, ...]:
    if before is None or now is None:
        return ()
    lines = {name: f"{name} is gone" for name in before.keys() - now.keys()}
    lines |= {name: f"{name} is new" for name in now.keys() - before.keys()}
    lines |= {name: f"{name} changed" for name in before.keys() & now.keys() if before[name] != now[name]}
    return tuple(lines[name] for name in sorted(lines))


def _changed_lines(label: str, was: Any, is_now: Any) -> list[str]:
    """A line for a value that has changed; for a mapping, a line for each key that has."""
    if isinstance(was, Mapping) and isinstance(is_now, Mapping):
        names = sorted(name for name in was.keys() | is_now.keys() if was.get(name) != is_now.get(name))
        return [f"{name} {_value_text(was.get(name))} -> {_value_text(is_now.get(name))}" for name in names]
    return [f"{label} {_value_text(was)} -> {_value_text(is_now)}"]


def _value_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def refuse_changed(folder: Path, known: Mapping[str, Any], request: Request, changes: Sequence[str]) -> None:
    """Refuses a run that was produced with something else than what is here now.

    Raises:
        Changed: something differs, and accept_changes=true is not set; names what differs, `NAMED` at most.
    """
    if changes and not request.config["accept_changes"]:
        named = [*changes[:NAMED], *([f"{len(changes) - NAMED} more"] if changes[NAMED:] else [])]
        status = known["status"] if known["status"] != "running" else "killed"
        effect = "uses it as it is" if settled(known, request.config) else "continues it"
        raise Changed(
            f"{folder}: {status}, but was produced with different code, inputs or versions: "
            f"{'; '.join(named)}. fresh=true trains it again, over what is there; "
            f"accept_changes=true {effect}"
        )


def already_ended(request: Request, folder: Path | None = None) -> dict[str, Any] | None:
    """The record of a run that can be taken as it is; None if what is asked for is still to be trained.

    Args:
        request: the run.
        folder: the run's folder, if it is known; else it is looked up.

    Raises:
        Changed: it has ended, or begun and nobody trains it, but with different code, inputs or versions.
        DamagedRecord: the record cannot be read.
    """
    if request.config["fresh"]:
        return None
    folder = folder or request.folder
    known = record.read(folder)
    if not known or (not ended(known) and current_status(folder, known) == "running"):
        return None
    code, inputs = sources.code(request.targets), sources.inputs(request.config)
    # What is known without torch: of the environment the versions, which a run that goes on only notes.
    differs = differences(known, {"code": code, "inputs": inputs, "environment": versions()}, folder)
    others = differs.versions if settled(known, request.config) else ()
    refuse_changed(folder, known, request, [*differs.code, *differs.inputs, *others])
    return known if settled(known, request.config) else None
