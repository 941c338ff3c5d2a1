"""The folder of a fit: its own while it lasts, begun or gone on with, with a record however the run ends."""

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweepwise.checkpoint import Checkpoints, Saved
from sweepwise.checkpoint.checkpoints import CheckpointsDamaged
from sweepwise.errors import UsageError, reason
from sweepwise.monitor.hparams import settings
from sweepwise.monitor.monitor import START, Monitor
from sweepwise.parts import EXAMPLES, Parts
from sweepwise.predict.kept import PREDICTION, prediction
from sweepwise.provenance import sources
from sweepwise.provenance.changes import differences
from sweepwise.provenance.environment import current_environment
from sweepwise.provenance.hashes import Hashes
from sweepwise.provenance.origin import diff
from sweepwise.store import record
from sweepwise.store.attempt import signed
from sweepwise.store.folders import CHECKPOINTS, CODE, DIFF, LINES, LOCK, NO_LOCKS, RECORD
from sweepwise.store.record import Record
from sweepwise.store.request import Request, identity_part
from sweepwise.store.status import ended, is_fused
from sweepwise.system import atomic, disk, flock
from sweepwise.trainer import Run
from sweepwise.trainer.ending import ending

CONFIG = "config.yaml"
HERE = "sweepwise.library.fit"  # what trains such a run


@dataclass
class Opened:
    """A folder that is this run's own.

    Attributes:
        monitor: of the run.
        checkpoints: of the run.
        saved: the checkpoint that it goes on from; None: it begins.
        log: its record.
    """

    monitor: Monitor
    checkpoints: Checkpoints
    saved: Saved | None
    log: Record


@dataclass(frozen=True)
class Claim:
    """A folder in which no other process can train.

    Attributes:
        fused: whether the run that goes on there was trained as in a group; None: it begins.
        open: begins to write in it, or goes on; it is told how the run is trained now.
    """

    fused: bool | None
    open: Callable[[bool], Opened]


@contextmanager
def claimed(folder: Path, parts: Parts, start: str) -> Iterator[Claim]:
    """Takes a folder for a run.

    Args:
        folder: made if it is missing; other files in it stay.
        parts: of the run.
        start: the fingerprint of the weights before the first step.

    Raises:
        UsageError: it has another run, one that has ended, or one that a process trains now.
    """
    atomic.make_folder(folder, durable=False)
    with _locked(folder) as sign:
        fields = _provenance(parts, start)
        saved, changed, fused = _resume_point(folder, fields)
        sign()

        def open_(fused: bool) -> Opened:
            environment = {**fields["environment"], "fused": fused}
            return _opened(
                folder, parts, fields | {"environment": environment, "not_bit_exact": changed}, saved
            )

        yield Claim(fused, open_)


def close(opened: Opened, run: Run, closing: ExitStack) -> None:
    """Has the run's end brought to the disk when `closing` closes."""

    def end(kind: object, before: BaseException | None, trace: object) -> None:
        try:
            atomic.alone(ending(run, opened.log, opened.monitor, opened.checkpoints))
        except Exception as error:
            if before is None:
                raise
            before.add_note(f"also, when the folder was closed: {reason(error)}")

    closing.push(end)


@contextmanager
def _locked(folder: Path) -> Iterator[Callable[[], None]]:
    """While entered, no other process can train there; yields what tells them which one does."""
    lock = flock.open_(folder / LOCK)
    try:
        if not flock.flock(lock, fcntl.LOCK_EX):
            holder = flock.holder(lock)
            raise UsageError([f"folder={folder}: is being trained in by {holder}; give another folder"])
    except OSError as error:
        if error.errno not in NO_LOCKS:
            flock.close_(lock)
            raise
    except BaseException:
        flock.close_(lock)
        raise
    try:
        yield lambda: flock.write(lock, signed(None, ""))
    finally:
        if flock.is_own(lock):  # not in a forked child
            flock.close_(lock)


def _provenance(parts: Parts, start: str) -> dict[str, Any]:
    """What produces the run now, the hashes of all files in it, and its id: of what can change the result."""
    targets = [*Request(parts.config).targets, HERE]
    identity = [identity_part(parts.config), parts.data.sha256, start]
    return {
        "id": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8],
        "overrides": [],
        "choices": {"data": parts.data.name},
        "init": dict(parts.init),
        "notes": list(parts.notes),
        "start_sha256": start,
        "init_seed": parts.seeds.init,
        "code": sources.code(targets),
        "inputs": sources.inputs(parts.config),
        "environment": current_environment(targets) | {"command": []},
        "data_sha256": parts.data.sha256,
        "parameters": parts.parameters,
    }


def _resume_point(folder: Path, now: Mapping[str, Any]) -> tuple[Saved | None, list[str], bool | None]:
    """The checkpoint from which a run goes on that was interrupted, what has changed since, its `fused`."""
    way_out = "give another folder, or remove it"
    try:
        before = record.read(folder)
    except record.DamagedRecord as error:
        raise UsageError([f"folder={folder}: {str(error).rpartition('; ')[0]}; {way_out}"]) from error
    present = [name for name in (RECORD, LINES, CHECKPOINTS) if (folder / name).exists()]
    if present and (not before or ended(before)):
        raise UsageError([f"folder={folder}: has a run already ({', '.join(present)}); {way_out}"])
    if not before:
        return None, [], None
    if before.get("id") != now["id"]:
        raise UsageError(
            [f"folder={folder}: has a run already, of other parts, which was {before['status']}; {way_out}"]
        )
    changes = differences(before, now, folder)
    if changed := [*changes.code, *changes.inputs]:
        raise UsageError(
            [
                f"folder={folder}: has a run already, which was produced with different code or inputs: "
                f"{'; '.join(changed)}; {way_out}"
            ]
        )
    try:
        saved = Checkpoints(folder).load()
    except CheckpointsDamaged as error:
        raise UsageError([f"folder={str(error).partition('. Restore')[0]}; {way_out}"]) from error
    if saved is None:
        _clear(folder)
        return None, [], None
    return saved, [*before["not_bit_exact"], *changes.versions, *changes.machine], is_fused(before)


def _clear(folder: Path) -> None:
    """Removes what a run has left that had no checkpoint yet, the record first; no file of anyone else's."""
    (folder / RECORD).unlink(missing_ok=True)
    disk.sync(folder)
    for name in (LINES, CONFIG, CODE, DIFF, PREDICTION):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / CHECKPOINTS)


def _opened(folder: Path, parts: Parts, fields: Mapping[str, Any], saved: Saved | None) -> Opened:
    if saved is None:  # so whoever sees the record finds them
        atomic.put(folder / CONFIG, _yaml(parts.config).encode())
        if changed := diff([*Request(parts.config).targets]):
            atomic.put(folder / DIFF, changed.encode())
    code: Hashes = fields["code"]
    atomic.put(folder / CODE, code.content)
    if kept := prediction(parts):
        atomic.put(folder / PREDICTION, kept)
    with ExitStack() as undo:
        step = saved.step if saved else 0
        known = {**fields, "code": code.digest}
        log = Record(folder, going_on=saved is not None, from_step=step, **known)
        atomic.alone(log.begin())
        disk.sync(folder)  # nothing of a run may be there without its record
        undo.push(lambda kind, error, trace: log.end("failed", reason(error)) if error else None)
        checkpoints = Checkpoints(folder)
        undo.push(lambda kind, error, trace: checkpoints.close())
        monitor = Monitor(folder, saved.state if saved else START)
        undo.pop_all()
    return Opened(monitor, checkpoints, saved, log)


def begin(opened: Opened, parts: Parts) -> None:
    """Writes what stays the same throughout a run that begins: its settings, and how its network looks."""
    environment = json.dumps(opened.log.fields["environment"], indent=2)
    texts = {
        "run/config": f"```yaml\n{_yaml(parts.config)}```",
        "run/environment": f"```json\n{environment}\n```",
    }
    names = {group: _short(node) for group, node in parts.config.items()}
    options = {group: name for group, name in names.items() if name} | {"data": parts.data.name}
    opened.monitor.describe(texts, settings(options, parts.config), parts.logged)
    opened.monitor.begin(parts.model, *parts.sample(EXAMPLES))


def _short(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), default_flow_style=False, allow_unicode=True, sort_keys=False)
