"""Two runs beside each other: what differs between them, and how their curves and results do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.provenance.changes import differences
from sweepwise.results import run_folder
from sweepwise.results.run_folder import RunFolder, is_replicate, shown
from sweepwise.store import record
from sweepwise.store.record import TEST

Passage = tuple[str, str]
MOST_NAMED = 8  # files that are named one by one
NOTHING = "no difference"


def read(one: Path, other: Path) -> list[RunFolder]:
    """Two runs.

    Raises:
        UsageError: a folder is not that of a run.
    """
    runs = []
    for folder in (one, other):
        try:
            runs.append(run_folder.read(folder))
        except run_folder.Unreadable as error:
            raise UsageError([f"{folder}: must be the folder of a run ({error})"]) from error
    return run_folder.named_alike(runs)


def differing(one: RunFolder, other: RunFolder) -> list[Passage]:
    """What differs between two runs, by subject; the first run's value stands first."""
    passages = [("runs", str(one.folder)), ("", str(other.folder))]
    settings = [
        key for key in {**one.settings, **other.settings} if one.settings.get(key) != other.settings.get(key)
    ]
    seeds = [key for key in settings if is_replicate(key)]
    passages += _each("config", [_two(key, one, other) for key in settings if key not in seeds])
    passages += _each("seeds", [_two(key, one, other) for key in seeds])
    found = differences(one.known, other.known, one.folder, other.folder)
    passages += _each("code", _named(found.code))
    data = list(found.inputs)
    if one.known.get("data_sha256") != other.known.get("data_sha256"):
        data.append("the examples that were trained on are others (sha256 of the data)")
    passages += _each("data", data)
    passages += _each("versions", found.versions)
    return [*passages, *_each("machine", [*found.machine, *_ways(one, other)])]


def _each(key: str, lines: list[str] | tuple[str, ...]) -> list[Passage]:
    return [(key if place == 0 else "", line) for place, line in enumerate(lines or [NOTHING])]


def _two(key: str, one: RunFolder, other: RunFolder) -> str:
    return f"{key} {shown(one.settings.get(key))} -> {shown(other.settings.get(key))}"


def _named(files: tuple[str, ...]) -> list[str]:
    more = [f"and {len(files) - MOST_NAMED} more files"] if len(files) > MOST_NAMED else []
    return [*files[:MOST_NAMED], *more]


def _ways(one: RunFolder, other: RunFolder) -> Iterator[str]:
    """In which ways they were trained that change roundings."""
    ways = [_mapping(run.known.get("environment")) for run in (one, other)]
    names = {"fused": "rounded as in a group", "processes": "processes", "threads": "threads"}
    for key, name in names.items():
        first, second = (way.get(key) for way in ways)
        if first != second:
            yield f"{name} {shown(first)} -> {shown(second)}"


def results(one: RunFolder, other: RunFolder) -> list[Passage]:
    """How the results and curves of two runs differ, but for the test part: nobody should choose by it."""
    passages = []
    for place, run in enumerate((one, other)):
        seconds = run.known.get("seconds")
        took = f", {seconds:.1f} s" if isinstance(seconds, (int, float)) else ""
        passages.append(
            ("results" if not place else "", f"{run.status}: {record.best(run.known) or 'no value'}{took}")
        )
    first, second = (
        {line.get("epoch"): line for line in run_folder.epochs(run.folder)} for run in (one, other)
    )
    shared = [epoch for epoch in first if epoch in second]
    tags = [
        tag
        for tag in dict.fromkeys(tag for lines in (first, second) for line in lines.values() for tag in line)
        if "/" in tag and not tag.startswith(TEST)
    ]
    if not shared:
        return [*passages, ("curves", "no epoch that both have trained")]
    for tag in tags:
        passages.append((tag, _curve(tag, first, second, shared)))
    return passages


def _curve(tag: str, one: Mapping[Any, Any], other: Mapping[Any, Any], shared: list[Any]) -> str:
    """Where the curves of a metric part, and how far apart they come."""
    pairs = [(epoch, one[epoch].get(tag), other[epoch].get(tag)) for epoch in shared]
    apart = [(epoch, first, second) for epoch, first, second in pairs if first != second]
    if not apart:
        return f"equal to the bit in all {len(shared)} epochs that both have trained"
    known = [(abs(second - first), epoch) for epoch, first, second in apart if None not in (first, second)]
    widest, at = max(known, default=(0.0, apart[0][0]))
    last = pairs[-1]
    end = " -> ".join("not finite" if value is None else f"{value:.6g}" for value in last[1:])
    return f"apart from epoch {apart[0][0]} on, by up to {widest:.3g} in epoch {at}; {end} in epoch {last[0]}"


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
