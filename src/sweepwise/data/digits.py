"""Handwritten digits of 8 x 8 pixels."""

import functools
import gzip
import hashlib
import importlib.util
import io
import zlib
from pathlib import Path

import numpy as np

from sweepwise.config.schema import checked
from sweepwise.data.dataset import Arrays

TABLE = "datasets/data/digits.csv.gz"
SHA256 = "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"  # of its numbers as uint8
LARGEST = 2**22  # bytes that are read of the decompressed table, which has 264,712


@checked("data")
def digits(*, image: bool = False) -> Arrays:
    """1797 images of the ten digits, 8 x 8 pixels from 0 to 16, as 64 features each.

    Args:
        image: whether an example is an image (1, 8, 8), for convolutions; else 64 features.

    Returns:
        x: (examples, 64) or (examples, 1, 8, 8), y: (examples,), classes 0..9.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits" (1998), the test set, UCI
    repository no. 80, as shipped by scikit-learn.

    Example:
        >>> digits().x.shape, digits(image=True).x.shape, float(digits().x.max())
        ((1797, 64), (1797, 1, 8, 8), 16.0)
    """
    x, y = _arrays()
    return Arrays("digits", x.reshape(-1, 1, 8, 8) if image else x, y, classes=10)


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    # To find scikit-learn's file takes 0.1 ms, to import scikit-learn most of a second.
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / TABLE
        if path.is_file():
            return _read(path, path.stat().st_mtime_ns)

    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x, y.astype(np.int64)


@functools.cache
def _read(path: Path, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the table, once in a process unless it changes, as that takes as long as some small epochs."""
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST)
        if not content:
            raise EOFError("it is empty")
        table = np.loadtxt(io.BytesIO(content), delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"data: {path}: cannot be read: {error}; install scikit-learn again") from error
    digest = hashlib.sha256(table.astype(np.uint8).tobytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(
            f"data: {path}: its {len(table)} examples must have the sha256 {SHA256}: found {digest}; install "
            "scikit-learn again"
        )
    x, y = table[:, :-1], table[:, -1].astype(np.int64)
    x.flags.writeable = y.flags.writeable = False
    return x, y
