"""Arrays in the idx format of the MNIST files, plain or compressed by gzip."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sweepwise.data.download import damaged

UNSIGNED_BYTE = 8


def read_idx(path: Path, shape: tuple[int, ...], sha256: str, published: str = "") -> NDArray[np.uint8]:
    """Reads an array whose shape and content are known.

    Args:
        path: of the file; one that ends in .gz is decompressed.
        shape: that the array must have.
        sha256: hex digest of the file, decompressed.
        published: hex digest of the file on the mirrors, for messages; another compression is read too.

    Returns:
        The array, read-only.

    Raises:
        ValueError: the file is damaged, or has other content.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats".
    """
    header = bytes([0, 0, UNSIGNED_BYTE, len(shape)]) + np.array(shape, ">u4").tobytes()
    size = len(header) + math.prod(shape)
    packed = path.suffix == ".gz"
    whole = published if packed else sha256
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(size + 1)  # one byte more is enough to see that it is too long
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"cannot be read: {error}", whole) from error
    if len(content) != size:
        actual = f"more than {size}" if len(content) > size else str(len(content))
        raise damaged(path, f"must hold {size} bytes: found {actual}", whole)
    if content[: len(header)] != header:
        axes = " x ".join(map(str, shape))
        rule = f"must begin as an idx file of {axes} unsigned bytes does ({header.hex()})"
        raise damaged(path, f"{rule}: found {content[: len(header)].hex()}", whole)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        when = ", decompressed" if packed else ""
        raise damaged(path, f"must have the sha256 {sha256}{when}: found {digest}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
