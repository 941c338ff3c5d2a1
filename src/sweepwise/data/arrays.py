"""Reads .npy and .npz files; their size is checked first, and nothing is ever unpickled."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from sweepwise.data.limits import refuse_larger

MOST_EXPANDED = 1032  # bytes that deflate can expand one byte to: longest match over shortest code
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What numpy and zipfile raise for damaged files.
BROKEN = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npy(where: str, path: Path, *, mapped: bool = False) -> np.ndarray:
    """Reads an .npy file.

    Args:
        where: the config key and value, for messages.
        path: of the file.
        mapped: whether the array stays in its file (`np.memmap`).

    Raises:
        ValueError: it is not an .npy file, holds objects, or is longer or shorter than its header says.
    """
    if not path.is_file():
        raise ValueError(f"{where}: {_absent(path)}")
    try:
        with path.open("rb") as file:
            size = _size_by_header(file, path.stat().st_size)
    except BROKEN as error:
        raise ValueError(f"{where}: cannot be read as .npy ({_reason(error)})") from error
    if not mapped:
        refuse_larger(where, size)
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except BROKEN as error:
        raise ValueError(f"{where}: cannot be read as .npy ({_reason(error)})") from error


def read_npz(where: str, path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file by name, and checks its checksums.

    Args:
        where: the config key and value, for messages.
        path: of the file.

    Raises:
        ValueError: it is not an .npz file, holds objects, is damaged, or claims more than it can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            refuse_larger(where, _expanded_size(members, path.stat().st_size))
            return {
                member.filename.removesuffix(".npy"): _read_member(archive, member)
                for member in members
                if member.filename.endswith(".npy")
            }
    except BROKEN as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where}: cannot be read as arrays ({_reason(error)})") from error


def _expanded_size(members: list[zipfile.ZipInfo], size: int) -> int:
    """The expanded size of the members of a zip file in bytes, by its own index.

    Raises:
        ValueError: the file cannot hold so much.
    """
    if sum(member.compress_size for member in members) > size:
        raise ValueError(
            f"its members overlap or are cut off: together they are larger than the file of {size} bytes"
        )
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{member.filename} must be stored or deflated, as numpy writes it; save it by numpy.savez"
            )
        if member.file_size > MOST_EXPANDED * member.compress_size + MOST_EXPANDED:
            raise ValueError(
                f"{member.filename} cannot hold {member.file_size:,} bytes in {member.compress_size:,}"
            )
    return sum(member.file_size for member in members)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        with archive.open(member) as file:
            _size_by_header(file, member.file_size)
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except BROKEN as error:
        raise ValueError(f"{member.filename}: {_reason(error)}") from error


def _size_by_header(file: IO[bytes], size: int) -> int:
    """The size of an array in bytes by its header, which must agree with the size of the file.

    Raises:
        ValueError: it does not; numpy would allocate the memory that the header claims before it checks.
    """
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the .npy format is not supported; save it by numpy.save")
    shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code when read; save numbers or text")
    expected = math.prod(shape) * dtype.itemsize
    actual = size - file.tell()
    if expected != actual or min(shape, default=0) < 0:
        raise ValueError(f"its header says {dtype} {shape}, {expected} bytes: found {actual}")
    return expected


def _absent(path: Path) -> str:
    return (
        "must be a file, not a folder or device" if path.exists() else f"no such file, seen from {Path.cwd()}"
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
