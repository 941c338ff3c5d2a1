"""Folders of which every byte is checked when they are read.

Their names end in their step: `step-00001234`, or `step-00001234.1` for a second folder of the same step.
`manifest.json` holds the size and sha256 of each file, and its own sha256. A folder with nothing but a file
of weights needs none: that file says itself whether it is whole (`store/stamp.py`).
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from sweepwise.store.stamp import stamp_of

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
# What the readers raise for content of another format.
MALFORMED = (UnpicklingError, zipfile.BadZipFile, SafetensorError, RuntimeError, LookupError, TypeError)


def order(folder: Path) -> tuple[int, ...]:
    """The sort key of a folder: the numbers in its name, the step first; (-1,) if it has none."""
    digits = folder.name.partition("-")[2].split(".")
    return tuple(map(int, digits)) if all(map(str.isdecimal, digits)) else (-1,)


def manifest(step: int, files: Mapping[str, bytes]) -> bytes:
    """The content of the manifest for the files of a step."""
    about = {name: {"bytes": len(content), "sha256": _digest(content)} for name, content in files.items()}
    fields = {"step": step, "files": about}
    return _json(fields | {"sha256": _digest(_json(fields))})


def sealed(step: int, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files as a folder of this step has them: with a manifest, if one is needed.

    Args:
        step: the folder's.
        files: content by name; weights that may stand alone are stamped.
    """
    return dict(files) if files.keys() == {WEIGHTS} else {**files, MANIFEST: manifest(step, files)}


def _check_stamp(step: int, content: bytes) -> None:
    """Raises a ValueError if a file of weights is not as its stamp says, or of another step."""
    stamp = stamp_of(io.BytesIO(content))
    if stamp is None:
        raise ValueError(f"{WEIGHTS} has no sha256 of its own, and {MANIFEST} is missing")
    if stamp.found != stamp.sha256 or stamp.step != step:
        raise ValueError(f"{WEIGHTS} has sha256 {stamp.found}, not {stamp.sha256} of step {step}")


def read_verified(folder: Path) -> dict[str, bytes]:
    """Reads the files of a folder and compares each with the manifest, or with what it says of itself.

    Raises:
        ValueError: a file, or the manifest itself, is missing or damaged.
    """
    if not (folder / MANIFEST).exists():
        try:
            content = (folder / WEIGHTS).read_bytes()
        except OSError as error:
            raise ValueError(f"{MANIFEST} is missing, and {WEIGHTS} cannot be read") from error
        _check_stamp(order(folder)[0], content)
        return {WEIGHTS: content}
    files = {}
    for name, about in _listed(folder).items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != about["bytes"]:
                raise ValueError(f"{name} has {size:,} bytes, not {about['bytes']:,}")
            files[name] = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{name} cannot be read ({error.strerror})") from error
        if _digest(files[name]) != about["sha256"]:
            raise ValueError(f"{name} has sha256 {_digest(files[name])}, not {about['sha256']}")
    return files


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file that a manifest names, if it is intact and belongs to this folder."""
    try:
        content = (folder / MANIFEST).read_bytes()
        fields = json.loads(content)
        own = fields.pop("sha256")
        intact = content == _json(fields | {"sha256": own}) and own == _digest(_json(fields))
        intact = intact and fields["step"] == order(folder)[0]
        intact = intact and all("/" not in name and about.keys() for name, about in fields["files"].items())
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} is missing or damaged") from error
    if not intact:
        raise ValueError(f"{MANIFEST} is damaged")
    return dict(fields["files"])


def serialize(state: Mapping[str, Any]) -> bytes:
    """Tensors on the CPU, numbers, texts and None, in dictionaries and lists, as `torch.save` writes them."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def deserialize(content: bytes) -> Any:
    """The state that `serialize` was given; refuses content that could run code or grow in memory.

    Raises:
        ValueError: it is compressed or claims too many bytes; other malformed content raises one of
            `MALFORMED`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("the state is compressed, which torch never does")
    if sum(entry.file_size for entry in entries) > len(content):
        raise ValueError("the state claims to hold more bytes than its file has")
    return torch.load(io.BytesIO(content), weights_only=True)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
