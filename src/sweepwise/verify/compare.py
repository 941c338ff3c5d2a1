"""Compares two runs' folders to the bit, and names the first differences.

Not compared is what must differ: wall times, the texts 'run/...' and the settings for the HParams tab
(folder, command and host are among them), where TensorBoard's event files begin, and how long the logs were
when a checkpoint was made.
"""

import io
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import Tensor

from sweepwise.checkpoint.contents import BEST, STATE, extra_of
from sweepwise.checkpoint.manifest import WEIGHTS
from sweepwise.monitor.read import Entry, difference_text, events, lines
from sweepwise.store import record
from sweepwise.store.folders import CHECKPOINTS, LINES, RECORD
from sweepwise.store.status import ended

EVENTS = "events"
RESULTS = ("status", "reason", "best", "stopped", "last", "metrics", "final")  # of a record
LOG = "log"  # in a state: how long the logs were


@dataclass(frozen=True)
class Difference:
    """A difference between two runs.

    Attributes:
        kind: 'metrics.jsonl', 'events', 'record.json', or a file of a checkpoint such as
            'last/weights.safetensors'.
        where: the place in that file.
        text: what the first run has there, and what the second has.
    """

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}" if self.where else f"{self.kind}: {self.text}"


def compare(one: Path, other: Path) -> list[Difference]:
    """The first difference of each kind between two runs' folders, in a fixed order; empty: identical.

    Raises:
        FileNotFoundError: one of the folders is not there.
    """
    for folder in (one, other):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: is not a folder")
    differences = [_logs(LINES, one, other, lines), _logs(EVENTS, one, other, events)]
    for name, read in READERS.items():
        if name in TO_GO_ON and _has_ended(one) and _has_ended(other):  # kept by earlier versions alone
            continue
        differences.append(_files(name, one / CHECKPOINTS / name, other / CHECKPOINTS / name, read))
    differences.append(_files(RECORD, one / RECORD, other / RECORD, _results))
    return [difference for difference in differences if difference]


def _has_ended(folder: Path) -> bool:
    """Whether a run has ended for good, by its record."""
    try:
        return ended(record.read(folder))
    except (ValueError, OSError):
        return False


def _logs(kind: str, one: Path, other: Path, read: Callable[[Path], Iterator[Entry]]) -> Difference | None:
    """The first entry that two logs do not share."""
    try:
        first, second = list(read(one)), list(read(other))
    except ValueError as error:
        return Difference(kind, "", str(error))
    for a, b in zip(first, second, strict=False):
        if a.key == b.key and a.content != b.content:
            return Difference(kind, _place(a), difference_text(a, b))
        if a.key != b.key:
            return _misplaced(kind, (a, b), first, second)
    rest = (first[len(second) :] or second[len(first) :])[:1]
    return _misplaced(kind, rest, first, second) if rest else None


def _misplaced(
    kind: str, differing: Sequence[Entry], first: Sequence[Entry], second: Sequence[Entry]
) -> Difference:
    counts, others = (Counter(entry.key for entry in log) for log in (first, second))
    for entry in differing:
        here, there = counts[entry.key], others[entry.key]
        if here != there:
            return Difference(kind, _place(entry), f"{_times(here)} and {_times(there)}")
    return Difference(kind, _place(differing[0]), "is in another order")


def _place(entry: Entry) -> str:
    return f"step {entry.step}, {entry.tag}"


def _times(count: int) -> str:
    return "missing" if count == 0 else "there" if count == 1 else f"there {count} times"


def _files(kind: str, one: Path, other: Path, read: Callable[[bytes], Any]) -> Difference | None:
    """The first difference between two files of nested values."""
    there = [path.exists() for path in (one, other)]
    if not all(there):
        return Difference(kind, "", " and ".join(map(_times, there))) if any(there) else None
    contents = []
    for path in (one, other):
        try:
            contents.append(read(path.read_bytes()))
        except (ValueError, OSError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
            return Difference(kind, "", f"{path} cannot be read ({str(error).partition(chr(10))[0]})")
    differing = list(_differing(contents[0], contents[1], ""))
    if not differing:
        return None
    (where, text), more = differing[0], len(differing) - 1
    return Difference(kind, where, text + (f"; and {more} more" if more else ""))


def _differing(one: Any, other: Any, where: str) -> Iterator[tuple[str, str]]:
    """Paths to what differs in nested values, and how."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            inner = f"{where}.{key}" if where else str(key)
            if key in one and key in other:
                yield from _differing(one[key], other[key], inner)
            else:
                yield inner, " and ".join(_times(key in side) for side in (one, other))
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if text := _between(one, other):
            yield where, text
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            yield where, f"{len(one)} and {len(other)} entries"
        for index, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from _differing(a, b, f"{where}[{index}]")
    elif type(one) is not type(other) or _plain(one) != _plain(other):
        yield where, f"{one!r:.80} and {other!r:.80}"


def _between(one: Tensor, other: Tensor) -> str:
    """How two tensors differ; '' if they are the same to the bit."""
    if one.shape != other.shape or one.dtype != other.dtype:
        about = [f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (one, other)]
        return " and ".join(about)
    bits = [
        tensor.contiguous().view(-1).view(torch.uint8).view(tensor.numel(), -1) for tensor in (one, other)
    ]
    if not one.numel() or torch.equal(*bits):
        return ""
    count = int((bits[0] != bits[1]).any(1).sum())
    wide = torch.complex128 if one.is_complex() else torch.float64
    apart = (one.to(wide) - other.to(wide)).abs().max().item()
    return f"{count:,} of {one.numel():,} elements differ, by at most {apart:.3g}"


def _plain(value: Any) -> Any:
    """A value that is equal to another only if both are the same to the bit."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def _results(content: bytes) -> dict[str, Any]:
    return {key: value for key, value in json.loads(content).items() if key in RESULTS}


def _state(content: bytes) -> dict[str, Any]:
    return {key: value for key, value in _extra(content).items() if key != LOG}


def _extra(content: bytes) -> dict[str, Any]:
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def _weights(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file, sorted by name: their order in a file is arbitrary."""
    return dict(sorted(from_bytes(content).items()))


READERS: Mapping[str, Callable[[bytes], Any]] = {
    f"last/{WEIGHTS}": _weights,
    f"last/{BEST}": _weights,
    f"last/{STATE}": _state,
    f"best/{WEIGHTS}": _weights,
    f"last/{extra_of(WEIGHTS)}": _extra,
    f"last/{extra_of(BEST)}": _extra,
    f"best/{extra_of(WEIGHTS)}": _extra,
}
TO_GO_ON = (f"last/{BEST}", f"last/{STATE}", f"last/{extra_of(BEST)}")  # what only a run that goes on needs
