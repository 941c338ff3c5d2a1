"""Which runs of a sweep a person wants removed, and their removal, with what the sweep knows of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sweepwise.errors import UsageError
from sweepwise.provenance import sources
from sweepwise.provenance.changes import differences
from sweepwise.provenance.environment import versions
from sweepwise.results import run_folder
from sweepwise.results.in_words import in_words
from sweepwise.results.loading import selected
from sweepwise.results.run_folder import RunFolder
from sweepwise.store import removal, shared
from sweepwise.store.claim import Busy, holder
from sweepwise.store.folders import LOCK, MEAN, RECORD, SWEEP
from sweepwise.store.request import Request
from sweepwise.sweep.cluster import overview
from sweepwise.sweep.cluster.ledger import LOGS, Ledger

CHANGED = "changed"  # made by other code, inputs or versions than are here now
WORDS = ("diverged", "failed", "interrupted", "pruned", CHANGED)
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Wish:
    """Which runs are to be removed: those of which a word is true, and all the rest.

    Attributes:
        words: of `WORDS`; none: any run that is not being trained.
        older: seconds since it ended, at least.
        where: values of its settings, as written in an override.
    """

    words: Sequence[str] = ()
    older: float = 0.0
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether it says anything; else no run is meant."""
        return bool(self.words or self.older or self.where)


@dataclass(frozen=True)
class Unwanted:
    """A run that is to be removed.

    Attributes:
        run: the run.
        why: its status, or that it has changed.
        words: its name in words.
        size: bytes.
    """

    run: RunFolder
    why: str
    words: str
    size: int


@dataclass
class Found:
    """What there is to remove in an experiment's folder.

    Attributes:
        home: the folder.
        number: of its runs.
        unwanted: the runs to remove.
        left: runs that are asked for but stay, and why.
        leftovers: what killed processes have left.
    """

    home: Path
    number: int = 0
    unwanted: list[Unwanted] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)


def seconds(text: str) -> float:
    """A duration in seconds, such as 30d.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not match or not float(match[1]):
        raise UsageError(
            [f"older={text}: must be a number of minutes, hours, days or weeks: 90m, 12h, 30d, 2w"]
        )
    return float(match[1]) * UNITS[match[2]]


def homes(top: Path) -> list[Path]:
    """The folders of experiments at or below a folder; no link is followed, but `top` itself may be one.

    Raises:
        UsageError: it is missing, or the folder of a run, or holds no experiment.
    """
    if not top.is_dir():
        raise UsageError([f"{top}: must be an experiment's folder, such as outputs/main, but is missing"])
    if (top / RECORD).exists():
        rule = "must be an experiment's folder, or one above several, but is that of a run"
        raise UsageError([f"{top}: {rule}; {top.parent} is its experiment's"])
    found = []
    for level, names, _ in os.walk(top):
        here = Path(level)
        if SWEEP in names or any((here / name / RECORD).is_file() for name in names):
            found.append(here)
        names[:] = [name for name in sorted(names) if _is_walked(here / name)]
    if not found and not removal.leftovers(top) and not (top / LOCK).exists():
        raise UsageError([f"{top}: must be an experiment's folder, or one above several, but holds no run"])
    return found or [top]


def _is_walked(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != MEAN and not (path / RECORD).exists()


def look(home: Path, wish: Wish) -> Found:
    """What there is to remove in an experiment's folder.

    Raises:
        Failure: the cluster does not answer, so nobody knows which runs are in its jobs.
        UsageError: no run has a key of `wish.where`, or such a value.
        OSError: the folder cannot be read.
    """
    found = Found(home, leftovers=removal.leftovers(home))
    rows = {row.name: row for row in overview.look(home)} if (home / SWEEP).exists() else {}
    runs = []
    for folder in removal.runs(home):
        try:
            runs.append(run_folder.read(folder))
        except run_folder.Unreadable as error:
            found.left.append(f"{folder.name}: {error}")
    found.number = len(runs)
    if not wish.any:
        return found
    names = dict(zip((run.folder for run in runs), in_words(runs), strict=True))
    for run in selected(runs, wish.where) if wish.where and runs else runs:
        row = rows.get(run.folder.name)
        if not (why := _why(run, row.status if row else run.status, wish)):
            continue
        if stays := _stays(run, row):
            found.left.append(f"{run.folder.name}: {stays}")
        else:
            found.unwanted.append(Unwanted(run, why, names[run.folder], removal.size(run.folder)))
    return found


def look_at_all(homes: Sequence[Path], wish: Wish) -> list[Found]:
    """As `look`, of those experiments that have the keys and values of `wish.where`.

    Raises:
        UsageError: none of them has.
        Failure, OSError: see `look`.
    """
    found, faults = [], []
    for home in homes:
        try:
            found.append(look(home, wish))
        except UsageError as error:
            faults.append(error)
    if faults and not found:
        raise faults[0]
    return found


def _why(run: RunFolder, status: str, wish: Wish) -> str:
    """Why a run is to be removed, in a word; '' if it is not."""
    if time.time() - _ended(run) < wish.older:
        return ""
    if not wish.words or status in wish.words:
        return status
    return CHANGED if CHANGED in wish.words and status != "running" and _has_changed(run) else ""


def _ended(run: RunFolder) -> float:
    """When a run has ended, or last wrote its record."""
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(str(run.known.get("ended"))).timestamp()
    return (run.folder / RECORD).stat().st_mtime


def _has_changed(run: RunFolder) -> bool:
    """Whether a run was made by other code, inputs or versions; as train.py would ask."""
    request = Request(run.config)
    code, inputs = sources.code(request.targets), sources.inputs(request.config)
    now = {"code": code, "inputs": inputs, "environment": versions()}
    differs = differences(run.known, now, run.folder)
    return bool(differs.code or differs.inputs or differs.versions)


def _stays(run: RunFolder, row: overview.Row | None) -> str:
    """Why a run must not be removed; '' if it may."""
    if who := holder(run.folder):
        return f"is being trained by {who}"
    if row and row.live:
        return f"is in the cluster's job {row.job}, {row.status}" if row.job else f"is {row.status}"
    if others := removal.foreign(run.folder):
        return f"holds what is no part of a run: {', '.join(others[:3])}{', ...' * bool(others[3:])}"
    return ""


def clean(found: Found, wish: Wish) -> tuple[list[Unwanted], list[str]]:
    """Removes what was found, as far as it is still there and nobody has taken it up.

    Returns:
        The runs that were removed; and what could not be, and why.

    Raises:
        Failure: the cluster does not answer.
    """
    removed, faults = [], []
    ledger = Ledger(found.home)
    with ledger.held() if ledger.folder.is_dir() else contextlib.nullcontext():
        now = look(found.home, wish) if found.unwanted else found
        asked = {one.run.folder for one in found.unwanted}
        for one in now.unwanted:
            if one.run.folder not in asked:
                continue
            try:
                _remove(one.run, ledger)
                removed.append(one)
            except (Busy, OSError) as error:
                faults.append(f"{one.run.folder.name}: {error}")
        faults += [text for text in now.left if text not in found.left]
        _remove_submissions(ledger)
    for path in found.leftovers:
        try:
            removal.remove_leftover(path)
        except OSError as error:
            faults.append(f"{path.name}: {error.strerror or error}")
    try:
        shared.tidy(found.home)
    except OSError as error:
        faults.append(f"{shared.SHARED}: {error.strerror or error}")
    return removed, faults


def _remove(run: RunFolder, ledger: Ledger) -> None:
    """Removes a run, after the sweep has forgotten it: a kill in between leaves nothing that nobody finds."""

    def forget() -> None:
        ledger.forget(run.id)
        for log in (ledger.folder / LOGS).glob(f"{run.id}.*log"):
            log.unlink(missing_ok=True)

    removal.remove(run.folder, run.known, forget)


def _remove_submissions(ledger: Ledger) -> None:
    """Removes the plans of submissions of which no run is left."""
    for submission in ledger.submissions():
        if submission.removed and {run for task in submission.tasks for run in task} <= {*submission.removed}:
            shutil.rmtree(ledger.home_of(submission), ignore_errors=True)


def refresh(home: Path) -> list[str]:
    """Writes what shows a sweep's runs together anew, after some were removed; returns what is stale now."""
    from sweepwise.results import answer, loading
    from sweepwise.results.page import files
    from sweepwise.sweep.summary import tell_tensorboard

    page, means = home / f"{files.NAME}.html", home / MEAN
    if not page.exists() and not means.is_dir():
        return []
    command = f"python scripts/report.py {home} writes it anew"
    try:
        found = loading.load(home)
        if means.is_dir():
            tell_tensorboard([home], mean_runs=True)
        if page.exists() and not files.beside(answer.answer(found, thorough=False)):
            return [f"{page} shows runs that are gone; {command}"]
    except UsageError as error:
        if not any(removal.runs(home)):
            there = [str(path) for path in (page, means) if path.exists()]
            return [f"{' and '.join(there)} show runs that are gone, as no run is left; remove them"]
        return [f"{page} shows runs that are gone: {error}"]
    return []
