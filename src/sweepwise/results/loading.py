"""Reads run folders, or records from anywhere else, into the table of results."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweepwise.errors import UsageError, did_you_mean
from sweepwise.improvement import Mode
from sweepwise.results import run_folder, varying
from sweepwise.results.languages import Both
from sweepwise.results.remarks import notes_of, remarks
from sweepwise.results.run_folder import RunFolder, shown
from sweepwise.results.table import ENDED, FAILED, Row, Table, Values, chosen_by
from sweepwise.store import record
from sweepwise.store.record import TEST
from sweepwise.store.request import identity


def load(
    *homes: Path | str,
    metric: str | None = None,
    by: Iterable[str] | None = None,
    replicates: Iterable[str] | None = None,
    where: Mapping[str, Hashable] | None = None,
    like: Iterable[Mapping[str, Any]] | None = None,
) -> Table:
    """The runs in one or more folders as one table, also while they train.

    Args:
        homes: folders of experiments, such as 'outputs/main', of runs, or above both.
        metric: of the validation or training part; None: the one that chose the weights of most runs.
        by: keys that are compared, such as 'init'; all others that vary are replicates then.
        replicates: keys that repeat a setting; None: 'seed.*' and 'data.split_seed'.
        where: only runs with these values, such as {'data': 'digits'}.
        like: only runs that have, or repeat, one of these configs.

    Raises:
        UsageError: there is no run, no run has the metric, or a key does not vary.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        sweepwise.errors.UsageError: nowhere: must be an experiment's folder, ..., but is missing
    """
    if not homes:
        raise UsageError(["load: must be given a folder, such as outputs/main"])
    paths = tuple(Path(home) for home in homes)
    runs, damaged, twice = _read(paths)
    if not runs:
        why = f"; {len(damaged)} could not be read: {damaged[0]}" if damaged else ""
        raise UsageError(
            [f"{', '.join(map(str, paths))}: must hold the folder of a run, but holds none{why}"]
        )
    if like is not None:
        runs = _family(runs, list(like))
    runs = selected(runs, where or {})
    runs = run_folder.named_alike(runs)
    varies = varying.find(runs, _listed(by), _listed(replicates))
    chosen = metric or _usual_metric(runs)
    if chosen.startswith(TEST):
        rule = "the test part is looked at only for what was chosen; scripts/confirm.py does that"
        raise UsageError([f"metric={chosen}: must be of the validation or training part, as {rule}"])
    rows = [_row(run, varies, chosen) for run in runs]
    if metric and not any(row.value is not None for row in rows):
        there = sorted({tag for row in rows for tag in (*row.best, *row.last) if not tag.startswith(TEST)})
        raise UsageError([f"metric={metric}: must have been measured; there is {', '.join(there) or 'none'}"])
    return Table(
        tuple(sorted(rows, key=lambda row: (_sortable(row.setting), _sortable(row.replicate)))),
        varies.settings,
        varies.replicates,
        varies.tied,
        chosen,
        paths,
        tuple(damaged),
        (*twice, *remarks(rows, varies, chosen)),
        notes_of(rows, varies),
        whole=not (metric or by or replicates or where),
    )


def from_records(
    records: Iterable[Mapping[str, Any]],
    metric: str,
    replicates: Iterable[str] = ("seed",),
    mode: Mode = "auto",
) -> Table:
    """Results from anywhere else as a table: a dictionary a run.

    Args:
        records: settings and replicates by key, the metric, and 'status' where a run has failed. A value that
            is missing or not finite is that of a failed run.
        metric: the key of what is compared.
        replicates: the keys that repeat a setting; all others are settings.
        mode: 'min' or 'max', which values are better; 'auto': higher ones of a metric whose name ends in
            accuracy, r2 or topK, lower ones of any other.

    Raises:
        UsageError: there is no record, or a setting has the same replicate twice.

    Example:
        >>> runs = [{"init": i, "seed": seed, "loss": seed + len(i)} for i in ("a", "bb") for seed in (0, 1)]
        >>> table = from_records(runs, "loss")
        >>> table.settings, [row.value for row in table.rows]
        (('init',), [1.0, 2.0, 2.0, 3.0])
    """
    listed = [dict(record) for record in records]
    if not listed:
        raise UsageError(["records: there must be one or more"])
    repeats = tuple(replicates)
    names = dict.fromkeys(name for record in listed for name in record)
    settings = tuple(name for name in names if name not in (metric, "status", *repeats))
    rows = []
    for number, given in enumerate(listed):
        value = _finite(given.get(metric))
        status = str(given.get("status") or ("failed" if value is None else "finished"))
        values = {name: run_folder.frozen(given.get(name)) for name in (*settings, *repeats)}
        folder = Path(f"record {number}")
        run = RunFolder(folder, values, frozenset(), {"status": status}, status, {}, frozenset(), {})
        setting, replicate = (tuple(values[key] for key in keys) for keys in (settings, repeats))
        rows.append(Row(setting, replicate, value, status, {metric: value}, {}, -1, 0, 0.0, folder, run))
    rows.sort(key=lambda row: (_sortable(row.setting), _sortable(row.replicate)))
    for row, following in itertools.pairwise(rows):
        if (row.setting, row.replicate) == (following.setting, following.replicate):
            rule = "each setting must have each replicate once; replicates= names the keys that repeat it"
            raise UsageError(
                [f"records: {dict(zip(repeats, row.replicate, strict=True))} is there twice; {rule}"]
            )
    return Table(tuple(rows), settings, repeats, {}, metric, (), direction=mode)


def _listed(keys: Iterable[str] | None) -> list[str] | None:
    """Keys as a list; one text may hold several, with commas."""
    if keys is None:
        return None
    return [key.strip() for key in keys.split(",")] if isinstance(keys, str) else list(keys)


def _read(homes: Sequence[Path]) -> tuple[list[RunFolder], list[str], list[str]]:
    """The runs, each once; what could not be read; and what was there twice."""
    runs: dict[str, RunFolder] = {}
    damaged, twice = [], 0
    for home in homes:
        if not home.is_dir():
            raise UsageError(
                [f"{home}: must be an experiment's folder, such as outputs/main, but is missing"]
            )
        for folder in run_folder.folders(home):
            try:
                run = run_folder.read(folder)
            except run_folder.Unreadable as error:
                damaged.append(str(error))
                continue
            before = runs.get(run.id)
            twice += before is not None and before.folder.resolve() != run.folder.resolve()
            runs[run.id] = max(filter(None, (before, run)), key=_preference)
    more = Both(
        f"{twice} runs are there more than once; the one that ended last counts",
        f"{twice} 次运行重复出现；以最后结束的为准",
    )
    return list(runs.values()), damaged, [more] if twice else []


def _family(runs: list[RunFolder], configs: Sequence[Mapping[str, Any]]) -> list[RunFolder]:
    """The runs that have or repeat one of these configs.

    Where all of these only add replicates to settings that were run before, the settings that these were
    chosen from belong to them: all for which the same keys were given. Else what was chosen for looking good
    would be compared as if it had been asked for alone.
    """
    settings = {run_folder.setting_of(config) for config in configs}
    ids = {identity(config) for config in configs}
    alike = [run for run in runs if run_folder.setting_of(run.config) in settings]
    before = {run_folder.setting_of(run.config) for run in alike if run.id not in ids}
    if before != settings:
        return alike
    given = {_given(run) for run in alike}
    return [run for run in runs if _given(run) in given]


def _given(run: RunFolder) -> tuple[Hashable, ...]:
    """The keys that were given for a run, and its data set."""
    return run_folder.compared_keys(run), run.settings.get("data"), run.settings.get("data.path")


def selected(runs: list[RunFolder], where: Mapping[str, Hashable]) -> list[RunFolder]:
    """The runs that have these values; a value may be given as it is written in an override."""
    for key, value in where.items():
        known = dict.fromkeys(name for run in runs for name in run.settings)
        if key not in known:
            raise UsageError([f"{key}: no run has such a key; {did_you_mean(key, known)}"])
        there = {shown(run.settings.get(key)) for run in runs}
        written = value if isinstance(value, str) else shown(value)
        if written not in there:
            raise UsageError([f"{key}={written}: no run has it; there is {', '.join(sorted(there))}"])
        runs = [run for run in runs if shown(run.settings.get(key)) == written]
    return runs


def _preference(run: RunFolder) -> tuple[bool, str]:
    return run.status in (*ENDED, *FAILED), str(run.known.get("ended") or "")


def _usual_metric(runs: Sequence[RunFolder]) -> str:
    """The metric that chose the weights of most runs."""
    chosen = Counter(filter(None, (chosen_by(run) for run in runs)))
    return chosen.most_common(1)[0][0] if chosen else "train/loss"


def _row(run: RunFolder, varies: varying.Varying, metric: str) -> Row:
    known = run.known
    best = _mapping(known.get("best"))
    of_best = _numbers(record.best_metrics(known))
    kept = {tag: value for tag, value in of_best.items() if not tag.startswith(TEST)}
    last = _numbers(record.last_metrics(known)) | {tag: of_best[tag] for tag in of_best.keys() - kept.keys()}
    value = _finite(best.get("value")) if best.get("metric") == metric else kept.get(metric)
    if value is None and metric not in kept and best.get("metric") != metric:
        value = last.get(metric)  # of the training part, which is measured at the end of an epoch
    stopped = _mapping(known.get("stopped"))
    return Row(
        tuple(run.settings.get(key, varying.ABSENT) for key in varies.settings),
        tuple(run.settings.get(key, varying.ABSENT) for key in varies.replicates),
        value,
        run.status,
        kept,
        last,
        _whole(best.get("epoch"), -1),
        _whole(stopped.get("epoch"), -1) + 1,
        _finite(known.get("seconds")) or 0.0,
        run.folder,
        run,
        metric in kept or metric in last or best.get("metric") == metric or run.status not in ENDED,
    )


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _finite(found: Any) -> float | None:
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        return None
    try:
        number = float(found)
    except OverflowError:  # a whole number beyond all floats
        return None
    return number if math.isfinite(number) else None


def _whole(found: Any, otherwise: int) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) else otherwise


def _numbers(found: Any) -> dict[str, float | None]:
    return {str(tag): _finite(value) for tag, value in _mapping(found).items()}


def _sortable(values: Values) -> list[tuple[int, float, str]]:
    """Sorts numbers by size, before words by letters."""
    return [
        (0, float(value), "") if isinstance(value, (int, float)) else (1, 0.0, str(value)) for value in values
    ]
