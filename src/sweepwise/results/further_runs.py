"""What would be most worth running next, as commands."""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sweepwise.results.answer import Answer
from sweepwise.results.languages import Both
from sweepwise.results.run_folder import SPLIT, RunFolder, shown
from sweepwise.results.statistics.verdict import MOST
from sweepwise.results.table import Table, Values
from sweepwise.store.folders import SWEEP
from sweepwise.store.record import from_python
from sweepwise.store.request import keys

SEED = "seed.value"
PLAN = "confirmation.json"  # in the sweep's own folder: finalists, and the seeds that are kept for them
UNREPEATED = (
    "fresh",
    "accept_changes",
    "progress",
    "report",
    "mean_runs",
)  # of an earlier command, not of the runs
SPARE = 2  # runs of a grid for each that is asked for; one sweep is answered at its end, two are not
MOST_SEEDS = 50  # that one command adds
MOST_COMMANDS = 3  # for settings of one run each
# Hydra's, by which it finds configs; each with its value, in one word or two.
FLAGS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
LISTED = 5  # seeds in a row that are listed; more are a range
NO_CLAIM = Both(
    "each setting has one run, so nothing can be claimed; the next command adds seeds",
    "每个设置只有一次运行，无法下结论；下一条命令会增加种子",
)


def commands(table: Table, settings: Sequence[Values], more: int) -> list[str]:
    """The commands that train more replicates of some settings; none if they were not trained by commands.

    Args:
        table: of the runs.
        settings: some of the table's cells.
        more: how many seeds are added; at most `MOST_SEEDS` are.
    """
    repeated = replicates_of(table, settings, min(more, MOST_SEEDS))
    return _commands(table, settings, {}, repeated)


def one_command(
    table: Table,
    settings: Sequence[Values],
    changes: Mapping[str, Sequence[Hashable] | None],
    repeated: Mapping[str, Sequence[Hashable]],
) -> str:
    """One command that trains settings with other values of some keys.

    Where they are no grid it is for as many of the first ones as are: half of them, a quarter ...

    Args:
        table: of the runs.
        settings: some of the table's cells, the most important first.
        changes: the values of a key instead of those that it had; None: its default.
        repeated: the values of the keys that repeat a setting.

    Returns:
        '' where there are no settings, or they were not trained by commands.
    """
    order = {setting: place for place, setting in enumerate(table.cells)}
    while settings:
        found = _commands(table, sorted(settings, key=order.__getitem__), changes, repeated)
        if len(found) < 2:
            return found[0] if found else ""
        settings = settings[: len(settings) // 2]
    return ""


def all_commands(table: Table, settings: Sequence[Values], repeated: Mapping[str, Sequence[Hashable]]) -> str:
    """The commands that train all of these settings, one after another; '' as in `one_command`."""
    order = {setting: place for place, setting in enumerate(table.cells)}
    return " && ".join(_commands(table, sorted(settings, key=order.__getitem__), {}, repeated))


def replicates_of(table: Table, settings: Sequence[Values], more: int = 0) -> dict[str, list[Hashable]]:
    """The values of the keys that repeat a setting: those that settings have, or as many new seeds."""
    rows = [row for setting in settings for row in table.cells[setting]]
    had = {
        key: list(dict.fromkeys(row.replicate[place] for row in rows))
        for place, key in enumerate(table.replicates)
    }
    if not more:
        return {key: values for key, values in had.items() if None not in values}
    split = {SPLIT: had[SPLIT]} if SPLIT in had else {}
    return {**split, SEED: list(new_seeds(table, settings, more))}


def _commands(
    table: Table,
    settings: Sequence[Values],
    changes: Mapping[str, Sequence[Hashable] | None],
    repeated: Mapping[str, Sequence[Hashable]],
) -> list[str]:
    runs = [table.cells[setting][0].run for setting in settings]
    if not runs or SEED in table.settings or not all(trained_by_command(run) for run in runs):
        return []
    overrides = [_changed(given(run, table.replicates), changes) for run in runs]
    repeats = [f"{key}={_sweep_of(values)}" for key, values in repeated.items()]
    return [shlex.join([*program_of(runs[0]), "-m", *grid, *repeats]) for grid in _grids(overrides)]


def _sweep_of(values: Sequence[Hashable]) -> str:
    """Values of a key as they are swept: 0,1,2, or range(5,24) of more whole numbers in a row.

    Example:
        >>> _sweep_of([5, 6, 7]), _sweep_of([5, 6, 7, 8, 9, 10]), _sweep_of([5, 7, 9, 11, 13, 15])
        ('5,6,7', 'range(5,11)', '5,7,9,11,13,15')
    """
    first = values[0] if values else None
    if len(values) > LISTED and isinstance(first, int) and not isinstance(first, bool):
        after = first + len(values)
        if list(values) == list(range(first, after)):
            return f"range({first},{after})"
    return ",".join(map(shown, values))


def _changed(given: Mapping[str, str], changes: Mapping[str, Sequence[Hashable] | None]) -> dict[str, str]:
    """The overrides of a run with other values of some keys."""
    without = [key for key, values in changes.items() if values is None]
    changed = {
        key: text
        for key, text in given.items()
        if key not in without and not key.startswith(tuple(f"{group}." for group in without))
    }
    for key, values in changes.items():
        if values is not None:
            head = changed.get(key, key).partition("=")[0]
            changed[key] = f"{head}={','.join(map(shown, values))}"
    return changed


def new_seeds(table: Table, settings: Sequence[Values], more: int) -> list[int]:
    """The smallest seeds that not all of these settings have, and that no confirmation keeps."""
    each = [{row.run.settings.get(SEED) for row in table.cells[setting]} for setting in settings]
    complete = set.intersection(*each) if each else set()
    kept = {seed for home in table.homes for seed in kept_seeds(home)}
    free = (seed for seed in itertools.count() if seed not in complete and seed not in kept)
    return list(itertools.islice(free, more))


def kept_seeds(home: Path) -> list[int]:
    """The seeds that a sweep keeps for its confirmation; none if it has none, or its plan is damaged."""
    try:
        return [int(seed) for seed in json.loads((home / SWEEP / PLAN).read_bytes())["seeds"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def trained_by_command(run: RunFolder) -> bool:
    """Whether a command line trained a run, and not a program that called the library."""
    environment = run.known.get("environment")
    return isinstance(environment, Mapping) and bool(environment.get("command"))


def script_of(run: RunFolder) -> str:
    """The program that trained a run, as it was called."""
    environment = run.known.get("environment")
    called = environment.get("command") if isinstance(environment, Mapping) else None
    first = Path(str(called[0])) if isinstance(called, list) and called else Path()
    return str(first) if first.suffix == ".py" and first.parent.name != "scripts" else "train.py"


def program_of(run: RunFolder) -> list[str]:
    """How the program that trained a run was called, with the flags by which it found its configs."""
    environment = run.known.get("environment")
    called = environment.get("command") if isinstance(environment, Mapping) else None
    words = list(map(str, called[1:])) if isinstance(called, list) else []
    flags = []
    for place, word in enumerate(words):
        if word in FLAGS:
            flags += words[place : place + 2]
        elif word.partition("=")[0] in FLAGS or word.lstrip("+").startswith("hydra.searchpath="):
            flags.append(word)
    return ["python", script_of(run), *flags]


def given(run: RunFolder, replicates: Iterable[str] = ()) -> dict[str, str]:
    """What was given on the command line of a run, by key, but for its seeds."""
    overrides = [str(text) for text in run.known.get("overrides", ())]
    left_out = {*replicates, *UNREPEATED}
    return {
        key: text
        for key, text in zip(keys(overrides), overrides, strict=True)
        if key not in left_out and not key.startswith("seed.")
    }


def _grids(given: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """The overrides of as few sweeps as hold these runs: one where they are at least half of a grid."""
    every = dict.fromkeys(key for run in given for key in run)
    rows = list(dict.fromkeys(tuple(run.get(key, "") for key in every) for run in given))
    if any("" in row for row in rows):  # keys that only some have
        parts: dict[tuple[bool, ...], list[Mapping[str, str]]] = {}
        for run in given:
            parts.setdefault(tuple(key in run for key in every), []).append(run)
        return [grid for part in parts.values() for grid in _grids(part)] if len(parts) > 1 else []
    columns = [list(dict.fromkeys(values)) for values in zip(*rows, strict=True)]
    if math.prod(map(len, columns)) <= SPARE * len(rows):
        return [[_swept(values) for values in columns]]
    widest = max(range(len(columns)), key=lambda place: len(columns[place]))
    split: dict[str, list[Mapping[str, str]]] = {}
    for run in given:
        split.setdefault(run[list(every)[widest]], []).append(run)
    return [grid for part in split.values() for grid in _grids(part)]


def _swept(overrides: Sequence[str]) -> str:
    """Overrides of one key as one: 'init=xavier' and 'init=kaiming' are 'init=xavier,kaiming'."""
    head = overrides[0].partition("=")[0]
    return f"{head}={','.join(text.partition('=')[2] for text in overrides)}"


def worth_running(answer: Answer) -> Iterator[tuple[str, str]]:
    """The command that is most worth running next."""
    table = answer.table
    if not answer.replicated:
        if not answer.ranking or answer.ranking[0].estimate is None:
            return
        settings = [ranked.setting for ranked in answer.ranking if ranked.estimate]
        yield "no claim", NO_CLAIM
        lines = commands(table, settings, 4)
        if len(lines) > MOST_COMMANDS:  # they are no grid: the best of them
            lines = commands(table, settings[:MOST_COMMANDS], 4)
        for line in lines:
            yield "next", line
        return
    open_ones = [
        one
        for found in answer.comparisons.values()
        for one in found
        if one.verdict
        and one.verdict.kind == "undecided"
        and one.verdict.needed
        and not (one.identical or one.better.failed or one.other.failed)
    ]
    if open_ones:
        firsts = [
            next((one for one in found if one in open_ones), None) for found in answer.comparisons.values()
        ]
        leading = [one for one in firsts if one and one.better == answer.comparisons[one.key][0].better]
        one = min(
            leading or open_ones,
            key=lambda one: one.verdict.needed.n if one.verdict and one.verdict.needed else MOST,
        )
        assert one.verdict and one.verdict.needed
        more = one.verdict.needed.n - min(one.better.n, one.other.n)
        settings = list(dict.fromkeys([*one.better.where, *one.other.where]))
        for line in commands(table, settings, max(more, 1)):
            yield "next", line
        return
    home = {row.folder.parent for row in table.rows}
    one_experiment = table.whole and len(home) == 1 and home == set(table.homes)
    one_experiment = one_experiment and not any(from_python(row.run.known) for row in table.rows)
    if len(answer.ranking) > 1 and answer.ranking[0].estimate and one_experiment:
        yield "next", f"python scripts/confirm.py {homes(answer)}"


def homes(answer: Answer) -> str:
    """The folders of an answer, as they stand in a command."""
    return shlex.join(map(os.fspath, answer.table.homes))
