"""JSON that any program reads, without NaN and infinity, and a person too."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_STRICT = json.JSONEncoder(allow_nan=False).encode
_DENSE = json.JSONEncoder(allow_nan=False, separators=(",", ": ")).encode


def text(fields: Mapping[str, Any]) -> str:
    """Strict JSON for a person: a line for each entry of a mapping that holds others, one for other values.

    Python's own indentation, a line for each number, would take twice the room and half as long again.

    Args:
        fields: in which a number that is not finite becomes null.
    """
    try:
        return _lines({**fields}, "\n")
    except (ValueError, TypeError):
        return _lines(jsonable(fields), "\n")


def _lines(value: Any, end: str) -> str:
    """A value in JSON; `end` is what comes before its last bracket, if it has lines of its own."""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # as the encoder does, which takes microseconds to begin
    begin = f"{end} "
    if isinstance(value, dict) and any(isinstance(entry, (dict, list, tuple)) for entry in value.values()):
        texts = [f"{_STRICT(str(key))}: {_lines(entry, begin)}" for key, entry in value.items()]
        return f"{{{begin}{f',{begin}'.join(texts)}{end}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(entry, dict) for entry in value):
        return f"[{begin}{f',{begin}'.join(_lines(entry, begin) for entry in value)}{end}]"
    return _STRICT(value) if isinstance(value, dict) else _DENSE(value)


def jsonable(value: Any) -> Any:
    """The same value in strict JSON, where a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rounded(value: Any) -> Any:
    """The same value as `jsonable`, with numbers of six significant digits: for what is only shown."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
