"""Folders that are believed only if every byte is as their manifest says.

Their names end in the step that they belong to: `step-00001234`, or the next of that step `step-00001234.1`.
The manifest holds size and sha256 of each file, and its own.
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

MANIFEST = "manifest.json"
# What readers say of content that is not theirs.
MALFORMED = (UnpicklingError, zipfile.BadZipFile, SafetensorError, RuntimeError, LookupError, TypeError)


def order(folder: Path) -> tuple[int, ...]:
    """The numbers in a folder's name, by which the newest comes last; the first is the step. (-1,): none."""
    digits = folder.name.partition("-")[2].split(".")
    return tuple(map(int, digits)) if all(map(str.isdecimal, digits)) else (-1,)


def manifest(step: int, files: Mapping[str, bytes]) -> bytes:
    """What vouches for the files of a step."""
    about = {name: {"bytes": len(content), "sha256": _digest(content)} for name, content in files.items()}
    told = {"step": step, "files": about}
    return _json(told | {"sha256": _digest(_json(told))})


def opened(folder: Path) -> dict[str, bytes]:
    """The files of a folder, each as its manifest says.

    Raises:
        ValueError: one is missing or differs, or the manifest does.
    """
    files = {}
    for name, about in _vouched(folder).items():
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


def _vouched(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file that a manifest names, if it is whole and of this folder."""
    try:
        content = (folder / MANIFEST).read_bytes()
        told = json.loads(content)
        own = told.pop("sha256")
        whole = content == _json(told | {"sha256": own}) and own == _digest(_json(told))
        whole = whole and told["step"] == order(folder)[0]
        whole = whole and all("/" not in name and about.keys() for name, about in told["files"].items())
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} is missing or damaged") from error
    if not whole:
        raise ValueError(f"{MANIFEST} is damaged")
    return dict(told["files"])


def packed(state: Mapping[str, Any]) -> bytes:
    """Tensors on the CPU, numbers, texts and None, in dictionaries and lists, as `torch.save` writes them."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> Any:
    """What `packed` was given; nothing that could run code, or grow, is read.

    Raises:
        ValueError: it could grow; or one of `MALFORMED`, whatever else it is.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("the state is packed, which torch never does")
    if sum(entry.file_size for entry in entries) > len(content):
        raise ValueError("the state says that it holds more than it has bytes")
    return torch.load(io.BytesIO(content), weights_only=True)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
