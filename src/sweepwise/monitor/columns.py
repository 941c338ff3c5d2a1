# mypy: disable-error-code="import-untyped"
"""The columns of TensorBoard's HParams tab, for all runs of an experiment.

TensorBoard takes them from one run, the first that it finds a description in. So one run of an experiment
carries it, in an event file of its own in that run's folder: beside the runs it would be a run itself, '.'.
What is known of the settings so far stands in a file of the experiment's folder, which is locked while it is
changed: of runs that begin at the same instant none loses its columns.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sweepwise.monitor import tags
from sweepwise.monitor.hparams import Hparam, Interval, experiment, settings
from sweepwise.monitor.known import Column, Columns
from sweepwise.monitor.tfrecord import SUMMARY, framed, version_record
from sweepwise.store import folders
from sweepwise.store.request import Request, keys
from sweepwise.system import atomic, flock

EVENTS = folders.COLUMNS  # TensorBoard reads all files with 'tfevents' in the name, this one first
EARLIER = "events.out.tfevents.0000000000.experiment"  # beside the runs
KNOWN = ".hparams.json"


def expect(requests: Sequence[Request]) -> None:
    """Tells of the runs of a sweep before they begin: what varies is known from the first one on."""
    homes: dict[Path, list[Request]] = {}
    for request in requests:
        if request.config["monitor"].get("tensorboard"):
            homes.setdefault(request.home, []).append(request)
    for home, own in homes.items():
        runs = [settings(request.choices, request.config) for request in own]
        given = {key for request in own for key in keys(request.overrides)}
        with _changing(home) as known:
            known.append(known[-1].with_runs(runs, given))


def forget(home: Path) -> None:
    """Takes back what was told of a sweep none of whose runs has begun."""
    if not (home / KNOWN).exists() or read(home).carrier:
        return
    lock = _locked(home / KNOWN)
    try:
        if not read(home).carrier:
            (home / KNOWN).unlink()
    finally:
        flock.close_(lock)


def add(
    folder: Path, run: Mapping[str, Hparam], given: Collection[str], metrics: Sequence[str], tested: bool
) -> None:
    """Adds a run that begins; it carries the description if no other one does.

    Args:
        folder: of the run.
        run: its settings.
        given: those that were asked for.
        metrics: keys of the metrics of an epoch.
        tested: whether it has a test part.
    """
    with _changing(folder.parent, [folder]) as known:
        before = known[-1]
        measured = tuple(dict.fromkeys([*before.metrics, *metrics]))
        added = replace(before, metrics=measured, tested=before.tested or tested)
        known.append(added.with_runs([run], given))


def write(
    home: Path,
    runs: Mapping[Path, Mapping[str, Hparam]],
    first: Collection[str],
    metrics: Sequence[str],
    tested: bool,
) -> None:
    """Describes all runs of an experiment anew; columns that none of them has stay.

    Args:
        home: folder of the experiment.
        runs: the settings of each run by its folder, the one that may carry the description first.
        first: the settings that come first; none: as before.
        metrics: keys of the metrics of an epoch.
        tested: whether a run has a test part.
    """
    with _changing(home, list(runs)) as known:
        before = known[-1]
        given = first or [name for name, column in before.settings.items() if column.given]
        now = Columns().with_runs(list(runs.values()), given).settings
        measured = tuple(dict.fromkeys([*before.metrics, *metrics]))
        known.append(replace(before, settings={**before.settings, **now}, metrics=measured, tested=tested))
        for folder in runs:
            if folder.name != before.carrier:  # of a run that began when no other one was known
                (folder / EVENTS).unlink(missing_ok=True)


def read(home: Path) -> Columns:
    """What is known of the runs of an experiment; nothing if that is damaged."""
    try:
        return _parsed((home / KNOWN).read_text(errors="replace"))
    except FileNotFoundError:
        return Columns()


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> Columns:
    try:
        found = json.loads(text.partition("\n")[0])
        json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be written
        listed = {name: Column(**column) for name, column in found.pop("settings").items()}
        for name, column in listed.items():
            if column.interval is not None:
                low, high = column.interval
                listed[name] = replace(column, interval=(float(low), float(high)))
        metrics, carrier = tuple(map(str, found["metrics"])), Path(found["carrier"]).name
        return Columns(listed, metrics, bool(found["tested"]), carrier.strip("."))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Columns()


@contextlib.contextmanager
def _changing(home: Path, carriers: Sequence[Path] = ()) -> Iterator[list[Columns]]:
    """What is known, for its one writer, who appends what is known now; this and the description are written.

    Args:
        home: folder of the experiment.
        carriers: folders of runs that may carry the description, if none does.

    Raises:
        OSError: it cannot be written.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = _locked(home / KNOWN)
    try:
        text = (home / KNOWN).read_text(errors="replace")
        known = [_parsed(text)]
        yield known
        now = known[-1]
        carrier = home / now.carrier
        if carriers and not (now.carrier and (carrier / EVENTS).is_file()):
            carrier = carriers[0]
            now = replace(now, carrier=carrier.name)
        written = text if now == known[0] else f"{json.dumps(asdict(now))}\n"
        if written != text:
            flock.write(lock, written)
        if now.carrier and carrier.is_dir():
            _describe(carrier, written)
        (home / EARLIER).unlink(missing_ok=True)
    finally:
        flock.close_(lock)


def _locked(path: Path) -> int:
    """Opens a file as its only writer, made if it is missing."""
    while True:
        lock = flock.open_(path)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if flock.is_at(lock, path):
            return lock
        flock.close_(lock)  # `forget` has removed it in the meantime


def _describe(carrier: Path, known: str) -> None:
    """Writes the description into the folder of a run, unless it is there.

    Args:
        carrier: the folder.
        known: of all runs, as the experiment's file has it.
    """
    path, content = carrier / EVENTS, _description(known, _began(carrier))
    if not path.is_file() or path.read_bytes() != content:
        atomic.put(path, content)


@functools.lru_cache(maxsize=8)
def _description(text: str, began: float) -> bytes:
    """The event file that the experiment's file leads to; most runs of a sweep change nothing in it."""
    known = _parsed(text)
    first = known.first
    columns = {
        name: Interval(*column.interval) if column.interval and column.varies else None
        for name, column in known.settings.items()
    }
    results = tags.columns(known.metrics, tested=known.tested)
    summary = experiment(columns, results, first, began)
    return version_record(began) + framed(0, SUMMARY, summary, began)


def _began(folder: Path) -> float:
    """When a run began, by its event files' names; TensorBoard takes it from the first event it reads."""
    times = [name.split(".")[3] for name in os.listdir(folder) if name.startswith("events.out.tfevents.")]
    return float(min((int(seconds) for seconds in times if seconds.isdigit()), default=0))
