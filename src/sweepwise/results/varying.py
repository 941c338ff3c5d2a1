"""What varies between runs: the settings that are compared, and the replicates that repeat each of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sweepwise.errors import UsageError, did_you_mean
from sweepwise.results.run_folder import RunFolder, is_replicate

ABSENT = None  # the value of a key that a run's option does not have


@dataclass(frozen=True)
class Varying:
    """The keys that vary.

    Attributes:
        settings: keys that are compared.
        replicates: keys that repeat a setting: seeds.
        tied: other keys that vary with a setting's, one to one, so that their effects cannot be told apart.
    """

    settings: tuple[str, ...]
    replicates: tuple[str, ...]
    tied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def find(
    runs: Sequence[RunFolder], by: Iterable[str] | None = None, replicates: Iterable[str] | None = None
) -> Varying:
    """Finds out what varies between runs, over all keys of their configs.

    Args:
        runs: the runs.
        by: the keys that are compared; all others that vary are replicates then.
        replicates: the keys that are replicates; all others that vary are compared then.

    Raises:
        UsageError: one of these keys does not vary, or is in both.
    """
    columns = _columns(runs)
    overridden = frozenset[str]().union(*(run.overridden for run in runs))
    candidates = [key for key in columns if _varies(key, columns)]
    asked = {"by": list(by or ()), "replicates": list(replicates or ())}
    for name, keys in asked.items():
        for key in keys:
            if key not in candidates:
                hint = did_you_mean(key, candidates)
                raise UsageError([f"{name}={key}: must be a key that varies between the runs; {hint}"])
    if both := set(asked["by"]) & set(asked["replicates"]):
        raise UsageError([f"by={min(both)}: must not be in replicates= as well"])
    if by:
        compared = asked["by"]
        repeats = asked["replicates"] or [key for key in candidates if key not in compared]
    elif replicates is not None:
        repeats = asked["replicates"]
        compared = [key for key in candidates if key not in repeats]
    else:
        repeats = [key for key in candidates if is_replicate(key)]
        compared = [key for key in candidates if not is_replicate(key)]
    settings, tied = _independent(compared, columns, overridden, kept=asked["by"])
    repeated, _ = _independent(repeats, columns, overridden, kept=asked["replicates"])
    return Varying(tuple(settings), tuple(repeated), tied)


def _columns(runs: Sequence[RunFolder]) -> dict[str, list[Hashable]]:
    """The values of each key, run by run; keys in the order of the configs."""
    names: dict[str, None] = {}
    for run in runs:
        names.update(dict.fromkeys(run.settings))
    return {name: [run.settings.get(name, ABSENT) for run in runs] for name in names}


def _varies(key: str, columns: Mapping[str, Sequence[Hashable]]) -> bool:
    """Whether a key varies, within one option of the group that it belongs to."""
    values = columns[key]
    if len({_typed(value) for value in values}) == 1:
        return False
    above = key.rpartition(".")[0]
    while above:
        if above in columns and len(set(columns[above])) > 1:
            inside: dict[Hashable, set[Hashable]] = {}
            for option, value in zip(columns[above], values, strict=True):
                inside.setdefault(option, set()).add(_typed(value))
            return any(len(found) > 1 for found in inside.values())
        above = above.rpartition(".")[0]
    return True


def _typed(value: Hashable) -> Hashable:
    """The value; True and 1 are two."""
    return (isinstance(value, bool), value)


def _independent(
    keys: Sequence[str],
    columns: Mapping[str, Sequence[Hashable]],
    overridden: frozenset[str],
    kept: Sequence[str],
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Leaves out keys that follow from others: by interpolation, or as they vary with them one to one."""
    first = [key for key in keys if key in kept or key in overridden]
    left: list[str] = []
    tied: dict[str, tuple[str, ...]] = {}
    for key in [*first, *(key for key in keys if key not in first)]:
        like = next((other for other in left if _one_to_one(columns[other], columns[key])), None)
        if like is not None and key not in kept:
            if key in overridden:
                tied[like] = (*tied.get(like, ()), key)
        elif key in first or not _follows([columns[other] for other in left], columns[key]):
            left.append(key)
    return [key for key in keys if key in left], tied


def _one_to_one(one: Sequence[Hashable], other: Sequence[Hashable]) -> bool:
    pairs = set(zip(map(_typed, one), map(_typed, other), strict=True))
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _follows(given: Sequence[Sequence[Hashable]], values: Sequence[Hashable]) -> bool:
    """Whether the values are a function of those of the other keys."""
    if not given:
        return False
    known: dict[tuple[Hashable, ...], Hashable] = {}
    return all(
        known.setdefault(row, value) == value
        for row, value in zip(zip(*given, strict=True), values, strict=True)
    )
