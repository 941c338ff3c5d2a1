"""The shape of what is read from the folders of runs and sweeps, and what is said where it differs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweepwise.errors import DONE, FAILED
from sweepwise.system.handle import readable

Check = Callable[[Any], str]  # what a value must be; '' if it is

# Statuses with nothing left to do, and the exit code of each.
ENDED = {"finished": DONE, "stopped early": DONE, "diverged": FAILED}
PRUNED = "pruned"  # paused before its end, as was asked
# What the record of a run has from the beginning, and once the run has ended.
BEGUN_KEYS = ("overrides", "code", "inputs", "environment", "data_sha256", "not_bit_exact")
ENDED_KEYS = ("best", "stopped", "seconds")


class Damaged(OSError):
    """A file of a run or a sweep that cannot be used as it is."""


def parsed(content: str | bytes, check: Check) -> Any:
    """The value that a JSON text holds, of the shape that is asked for.

    Raises:
        ValueError: the text holds no such value; says what it must hold.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if fault := check(value):
        raise ValueError(fault)
    return value


def message(path: Path, why: object, way_out: str) -> str:
    """What is said of a file that is not whole."""
    return f"{readable(path)} is damaged ({why}); {way_out}"


def a(words: str, *kinds: type) -> Check:
    """A check of a value's type; a boolean is no number."""

    def check(value: Any) -> str:
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        return "" if fits else f"must be {words}"

    return check


TEXT, WHOLE, NUMBER = a("a text", str), a("a whole number", int), a("a number", int, float)
MAPPING, LIST = a("a mapping", dict), a("a list", list)


def or_none(check: Check) -> Check:
    """A check that takes None too."""
    return lambda value: "" if value is None else check(value)


def either(first: Check, second: Check) -> Check:
    """A check that takes what either takes; the fault of what neither does is that of the second."""
    return lambda value: first(value) and second(value)


def each(check: Check, container: Check = LIST) -> Check:
    """A check of a list, or of the values of a mapping."""

    def check_all(value: Any) -> str:
        if fault := container(value):
            return fault
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return next((_at(key, fault) for key, entry in entries if (fault := check(entry))), "")

    return check_all


def of(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A check of a mapping with these keys; it may have others."""

    def check(value: Any) -> str:
        if fault := MAPPING(value):
            return fault
        for key, own in {**required, **(optional or {})}.items():
            if key in value and (fault := own(value[key])):
                return _at(key, fault)
        return next((f"{key} is missing" for key in required if key not in value), "")

    return check


def _at(key: object, fault: str) -> str:
    """A fault of an entry: 'best.epoch must be a whole number'."""
    inner = fault.startswith("must be ")
    return f"{key} {fault}" if inner else f"{key}.{fault}"


TEXTS, BY_NAME = each(TEXT), each(TEXT, MAPPING)
VALUES = each(or_none(NUMBER), MAPPING)  # of a line of metrics.jsonl
BEST = of(
    {"metric": or_none(TEXT), "value": or_none(NUMBER), "epoch": WHOLE, "step": WHOLE},
    {"metrics": VALUES, "measured": MAPPING},
)
ATTEMPT = of({"started": TEXT, "seconds": NUMBER, "status": TEXT})
ENVIRONMENT = of({}, {"places": BY_NAME, "fused": a("true or false", bool)})
_RECORD = of(
    {"status": TEXT},
    {
        "reason": TEXT,
        "overrides": TEXTS,
        "parameters": WHOLE,
        "init_seed": WHOLE,
        "attempts": each(ATTEMPT),
        "seconds": NUMBER,
        "best": or_none(BEST),
        "stopped": of({"epoch": WHOLE, "step": WHOLE, "why": TEXT}),
        "last": VALUES,
        "metrics": VALUES,  # in place of "last", with those of the test part, in earlier records
        "final": MAPPING,
        "code": either(TEXT, BY_NAME),  # the hash of the files' hashes; those themselves in earlier records
        "inputs": BY_NAME,
        "environment": ENVIRONMENT,
        "data_sha256": TEXT,
        "not_bit_exact": TEXTS,
    },
)


def record(value: Any) -> str:
    """The shape of `record.json`."""
    if fault := _RECORD(value):
        return fault
    if sum(key in value for key in BEGUN_KEYS) < 2:  # what `Record` alone has written
        return ""
    measured = "metrics" if "metrics" in value else "last"
    needed = (*BEGUN_KEYS, *((*ENDED_KEYS, measured) if value["status"] in (*ENDED, PRUNED) else ()))
    return next((f"{key} is missing" for key in needed if value.get(key) is None), "")


def epoch(value: Any) -> str:
    """A line of metrics.jsonl with the metrics of an epoch."""
    return of({"epoch": WHOLE, "step": WHOLE})(value) or VALUES(value)


REQUEST = of({"config": MAPPING, "overrides": TEXTS, "choices": BY_NAME}, {"varying": TEXTS})
PLAN = of(
    {"runs": each(REQUEST), "tasks": each(each(WHOLE)), "packages": TEXTS, "command": TEXTS, "pool": MAPPING}
)
LINE = of(
    {"submission": TEXT},
    {
        "cluster": TEXT,
        "tasks": each(TEXTS),
        "names": BY_NAME,
        "fresh": TEXTS,
        "jobs": TEXTS,
        "void": TEXT,
        "removed": TEXTS,
    },
)
