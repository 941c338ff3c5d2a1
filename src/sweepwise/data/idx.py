"""Arrays in the idx format of the MNIST files, plain or compressed by gzip."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTE = 8


def read_idx(path: Path, shape: tuple[int, ...], sha256: str) -> NDArray[np.uint8]:
    """Reads an array whose shape and content are known.

    Args:
        path: of the file; one that ends in .gz is decompressed.
        shape: that the array must have.
        sha256: hex digest of the file, decompressed.

    Returns:
        The array; it cannot be written to.

    Raises:
        ValueError: the file is damaged or another one.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats".
    """
    header = bytes([0, 0, UNSIGNED_BYTE, len(shape)]) + np.array(shape, ">u4").tobytes()
    size = len(header) + math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(path, "cannot be read", str(error)) from error
    if len(content) != size:
        found = f"more than {size}" if len(content) > size else len(content)
        raise _wrong(path, f"must hold {size} bytes", f"found {found}")
    if content[: len(header)] != header:
        axes = " x ".join(map(str, shape))
        rule = f"must begin as an idx file of {axes} unsigned bytes does ({header.hex()})"
        raise _wrong(path, rule, f"found {content[: len(header)].hex()}")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise _wrong(path, f"must have the sha256 {sha256}, decompressed", f"found {found}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def _wrong(path: Path, rule: str, found: str) -> ValueError:
    return ValueError(f"data: {path}: {rule}: {found}; remove it to have it downloaded again")
