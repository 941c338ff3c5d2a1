"""Arrays in numpy's own files, looked at before memory is taken and never unpickled."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from sweepwise.data.limits import refuse_larger

MOST_EXPANDED = 1032  # bytes that deflate can make of one: longest match over shortest code
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What numpy and zipfile raise for files that are not as they should be.
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
        where: what names the file in a message.
        path: of the file.
        mapped: the array stays in its file, and is read where it is used.

    Raises:
        ValueError: it is no .npy file, holds objects, or is longer or shorter than its header says.
    """
    if not path.is_file():
        raise ValueError(f"{where}: {_absent(path)}")
    try:
        with path.open("rb") as file:
            size = _announced(file, path.stat().st_size)
    except BROKEN as error:
        raise ValueError(f"{where}: cannot be read as .npy ({_told(error)})") from error
    if not mapped:
        refuse_larger(where, size)
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except BROKEN as error:
        raise ValueError(f"{where}: cannot be read as .npy ({_told(error)})") from error


def read_npz(where: str, path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file by name; its checksums are compared.

    Args:
        where: what names the file in a message.
        path: of the file.

    Raises:
        ValueError: it is no .npz file, holds objects, is damaged, or claims more than it can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            refuse_larger(where, _expanded(members, path.stat().st_size))
            return {
                member.filename.removesuffix(".npy"): _of_member(archive, member)
                for member in members
                if member.filename.endswith(".npy")
            }
    except BROKEN as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where}: cannot be read as arrays ({_told(error)})") from error


def _expanded(members: list[zipfile.ZipInfo], size: int) -> int:
    """Bytes that the members of a zip file say they hold, if the file can hold them."""
    if sum(member.compress_size for member in members) > size:
        raise ValueError(
            f"its members overlap or are cut off: together they are larger than its {size} bytes"
        )
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is compressed in a way that numpy does not write")
        if member.file_size > MOST_EXPANDED * member.compress_size + MOST_EXPANDED:
            raise ValueError(
                f"{member.filename} cannot hold {member.file_size:,} bytes in {member.compress_size:,}"
            )
    return sum(member.file_size for member in members)


def _of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        with archive.open(member) as file:
            _announced(file, member.file_size)
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except BROKEN as error:
        raise ValueError(f"{member.filename}: {_told(error)}") from error


def _announced(file: IO[bytes], size: int) -> int:
    """Bytes of the array in a file of a size, by its header, which must agree with that size.

    Raises:
        ValueError: it does not; numpy would take the memory that the header claims before it looks.
    """
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format is not known")
    shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds objects, which are pickled and could run code when read")
    announced = math.prod(shape) * dtype.itemsize
    found = size - file.tell()
    if announced != found or min(shape, default=0) < 0:
        raise ValueError(f"its header says {dtype} {shape}, {announced} bytes: found {found}")
    return announced


def _absent(path: Path) -> str:
    return "is no file, but a folder or device" if path.exists() else f"no such file, seen from {Path.cwd()}"


def _told(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
