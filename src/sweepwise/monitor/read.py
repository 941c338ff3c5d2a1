# mypy: disable-error-code="import-untyped"
"""Reads the logs of a run back, entry by entry, so that two runs can be compared.

Whatever differs between two equal runs is left out: wall times, the texts 'run/...' and the settings for the
HParams tab (they contain folder, command and host), and at which steps event files begin.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweepwise.monitor.tfrecord import masked_crc
from sweepwise.store.folders import LINES

DESCRIPTIONS = ("run/", "_hparams_/session_start_info")  # tags that differ between equal runs
GRAPH_TAG = "graph"  # in place of a tag, since a graph has none


@dataclass(frozen=True)
class Entry:
    """The value of a tag at a step: text from metrics.jsonl, bytes from an event file."""

    step: int
    tag: str
    content: str | bytes

    @property
    def key(self) -> tuple[int, str]:
        """What identifies it: no two entries of a run have the same step and tag."""
        return self.step, self.tag


def lines(folder: Path) -> Iterator[Entry]:
    """Every value in metrics.jsonl, as the text that stands there."""
    path = folder / LINES
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        try:
            if not line.endswith("\n"):
                raise ValueError("no newline at its end")
            values = json.loads(line, parse_float=str, parse_int=str)
            step = int(values.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: is not whole") from error
        # An epoch's line has the step of a batch's line, but none of its tags.
        kind = "epoch" if "train/loss" in values or "val/loss" in values else "epoch of the batch"
        for tag, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            yield Entry(step, kind if tag == "epoch" else tag, text)


def events(folder: Path) -> Iterator[Entry]:
    """Every value in the event files of a folder, one file after the other."""
    from tensorboard.compat.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*")):
        for content in records(path):
            event = Event.FromString(content)
            if event.HasField("graph_def"):
                yield Entry(event.step, GRAPH_TAG, event.graph_def)
            for value in event.summary.value:
                if not value.tag.startswith(DESCRIPTIONS):
                    yield Entry(event.step, value.tag, _timeless(value))


def records(path: Path) -> Iterator[bytes]:
    """The records of an event file.

    Raises:
        ValueError: one of them is not whole, or its checksum does not hold.
    """
    content, start = path.read_bytes(), 0
    while start < len(content):
        head, fault = content[start : start + 12], f"{path}: the record at byte {start} is not whole"
        if len(head) < 12 or head[8:] != masked_crc(head[:8]):
            raise ValueError(fault)
        end = start + 12 + struct.unpack("<Q", head[:8])[0]
        record, checksum = content[start + 12 : end], content[end : end + 4]
        if checksum != masked_crc(record):
            raise ValueError(fault)
        yield record
        start = end + 4


def _timeless(value: Any) -> bytes:
    """A serialised summary value without the time at which the run ended."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    if value.tag == "_hparams_/session_end_info":
        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        data.session_end_info.end_time_secs = 0
        value.metadata.plugin_data.content = data.SerializeToString(deterministic=True)
    return value.SerializeToString(deterministic=True)


def difference_text(one: Entry, other: Entry) -> str:
    """The difference between two entries of the same tag, in words."""
    if isinstance(one.content, str) or isinstance(other.content, str):
        return f"{one.content!s} and {other.content!s}"
    if one.tag == GRAPH_TAG:
        return _sizes(one.content, other.content)
    from tensorboard.compat.proto.summary_pb2 import Summary

    a, b = Summary.Value.FromString(one.content), Summary.Value.FromString(other.content)
    kinds = {value.WhichOneof("value") for value in (a, b)}
    if kinds == {"simple_value"}:
        return f"{a.simple_value!r} and {b.simple_value!r}"
    if kinds == {"histo"}:
        for name in ("min", "max", "num", "sum", "sum_squares"):
            x, y = getattr(a.histo, name), getattr(b.histo, name)
            if _bits(x) != _bits(y):
                return f"{name} {x!r} and {y!r}"
        for name in ("bucket_limit", "bucket"):
            x, y = list(getattr(a.histo, name)), list(getattr(b.histo, name))
            if len(x) != len(y):
                return f"{len(x)} and {len(y)} buckets"
            for index, (u, v) in enumerate(zip(x, y, strict=True)):
                if _bits(u) != _bits(v):
                    return f"{name} {index}: {u!r} and {v!r}"
    return _sizes(one.content, other.content)


def _sizes(one: bytes, other: bytes) -> str:
    first = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return f"{len(one):,} and {len(other):,} bytes, which differ from byte {first} on"


def _bits(number: float) -> bytes:
    return struct.pack("<d", number)
