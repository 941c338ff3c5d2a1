"""What was tried of runs before a sweep on this machine, remembered for the next one with the same question.

It decides no result: which runs are trained as one program was found by trying it once, and by measuring.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweepwise.provenance import environment, sources
from sweepwise.store.request import NOT_IDENTITY, Request
from sweepwise.system import cache

WIDTH, NOTES = "widths", "notes"
# Groups whose numbers are no part of the form of a step.
NUMBERS = ("seed", "init", "optimizer", "scheduler", "regularizer")


def without_numbers(value: Any) -> Any:
    """A part of a config in which all numbers are alike."""
    if isinstance(value, Mapping):
        return {str(key): without_numbers(inner) for key, inner in value.items()}
    return "a number" if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def form(config: Mapping[str, Any], groups: Sequence[str] = NUMBERS) -> dict[str, Any]:
    """What of a config can matter where only numbers of these groups differ, and where results go."""
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    return {**kept, **{key: without_numbers(kept.get(key)) for key in groups}}


def recalled(kind: str, requests: Sequence[Request], *more: object) -> Any:
    """What was found out about these runs, or others of the same form; None if nothing was."""
    question = _question(kind, requests, *more)
    return None if question is None else cache.recall(kind, question)


def remember(kind: str, requests: Sequence[Request], *more: object, found: object) -> None:
    """Remembers what was found out about runs."""
    question = _question(kind, requests, *more)
    if question is not None:
        cache.keep(kind, question, found)


def _question(kind: str, requests: Sequence[Request], *more: object) -> object:
    """Code, runs, the files that they name, machine and versions; None if they cannot be told."""
    groups = NUMBERS if kind == WIDTH else ("seed",)
    try:
        return [
            [form(request.config, groups) for request in requests],
            [sources.inputs(request.config) for request in requests],
            [sorted(sources.code(request.targets).items()) for request in requests],
            _ours(),
            _machine(),
            environment.versions(),
            more,
        ]
    except OSError:
        return None


@functools.cache
def _ours() -> Sequence[str]:
    """Hashes of the files that try runs, which change no run."""
    names = ("beforehand", "groups", "group_size", "tried")
    paths = [Path(__file__).with_name(f"{name}.py") for name in names]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@functools.cache
def _machine() -> Mapping[str, Any]:
    unlike = ("host", "memory_gib", "threads")  # says nothing of a step on one thread
    return {key: value for key, value in environment.machine().items() if key not in unlike}
