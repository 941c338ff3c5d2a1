"""A run in words: 'kaiming init, cosine scheduler, lr 0.01, seed 3'."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from sweepwise.results import varying
from sweepwise.results.run_folder import RunFolder, is_replicate, shown
from sweepwise.store import request


def in_words(runs: Sequence[RunFolder]) -> list[str]:
    """The name of each run: what differs between them, and where nothing does, what was overridden.

    Args:
        runs: those of one experiment.

    Example:
        'xavier init, lr 0.01, seed 3'; 'seed 0' for one run of the defaults.
    """
    if not runs:
        return []
    found = varying.find(runs)
    keys = [*found.settings, *found.replicates]
    return [_named(run, keys or _given(run)) for run in runs]


def _given(run: RunFolder) -> list[str]:
    """The keys that were given for a run, in their order."""
    return list(dict.fromkeys(request.keys(run.known.get("overrides") or ())))


def _named(run: RunFolder, keys: Sequence[str]) -> str:
    told = [key for key in keys if run.settings.get(key) is not None]
    settings = [_said(key, run.settings[key], run) for key in told if not is_replicate(key)]
    repeats = [_said(key, run.settings[key], run) for key in told if is_replicate(key)]
    return ", ".join([*settings, *repeats]) or _said("seed.value", run.settings.get("seed.value"), run)


def _said(key: str, value: Hashable, run: RunFolder) -> str:
    if key == "seed.value":
        return f"seed {shown(value)}"
    if key in run.targets or "." not in key:  # the option of a group
        option = "no" if value == "none" else shown(value)
        return f"{option} {key.rpartition('.')[2].replace('_', ' ')}"
    group, _, inner = key.partition(".")
    name = inner.replace("_", " ").replace(".", " ")
    return f"{group} {name} {shown(value)}" if group == "seed" else f"{name} {shown(value)}"
