"""CIFAR-10: colour photographs of 32 x 32 pixels in ten classes."""

import hashlib
import tarfile
import zlib
from pathlib import Path

import numpy as np

from sweepwise.config.schema import checked
from sweepwise.data.dataset import Arrays
from sweepwise.data.download import Published, damaged, download, folder_of, is_there

# The binary version: the others are pickles, which can run code when they are read.
ARCHIVE = Published(
    "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
)
MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
BATCHES = tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "cifar-10-batches-bin/test_batch.bin"
BATCH = 10_000  # examples
SHAPE = (3, 32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@checked("data")
def cifar10(*, root: str | None = None) -> Arrays:
    """60,000 photographs, 3 x 32 x 32 pixels from 0 to 255; the published 10,000 are the test part.

    Args:
        root: folder that has or gets cifar10/; null: $SWEEPWISE_DATA, else ~/.cache/sweepwise.

    Returns:
        x: (50000, 3, 32, 32) uint8, y: (50000,), classes 0..9; the test part likewise, (10000, ...).

    Raises:
        ValueError: the archive is damaged, or cannot be downloaded.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).

    Example:
        >>> from sweepwise.data.cifar10 import ARCHIVE
        >>> from sweepwise.data.download import folder_of
        >>> str(folder_of("cifar10", root="/data") / ARCHIVE.name)  # put there, it is not downloaded
        '/data/cifar10/cifar-10-binary.tar.gz'
    """
    folder = folder_of("cifar10", root)
    path = folder / ARCHIVE.name
    if not is_there(path):
        download([ARCHIVE], MIRRORS, folder)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}") from error
    if digest != ARCHIVE.sha256:
        size = path.stat().st_size
        raise damaged(
            path, f"must have the sha256 {ARCHIVE.sha256}: found {digest}, in a file of {size:,} bytes"
        )
    records = _records(path)
    labels, pixels = records[:, 0].astype(np.int64), records[:, 1:].reshape(-1, *SHAPE)
    train = len(BATCHES) * BATCH
    return Arrays(
        "cifar10", pixels[:train], labels[:train], 10, pixels[train:], labels[train:], labels=CLASSES
    )


def _records(path: Path) -> np.ndarray:
    """All examples, those of the test part last: (examples, 1 + pixels) uint8, the label first.

    Nothing is unpacked to the disk.
    """
    missing = {name: index for index, name in enumerate((*BATCHES, TEST_BATCH))}
    records = np.empty((len(missing), BATCH, 1 + np.prod(SHAPE)), np.uint8)
    size = records[0].nbytes
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                index = missing.pop(member.name, None)
                file = archive.extractfile(member) if index is not None else None
                if index is None or file is None:
                    continue
                content = file.read(size + 1)
                if len(content) != size:
                    raise damaged(path, f"{member.name} must hold {size} bytes: found {member.size}")
                records[index] = np.frombuffer(content, np.uint8).reshape(records[index].shape)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"cannot be read: {error}") from error
    if missing:
        raise damaged(path, f"lacks {', '.join(missing)}")
    return records.reshape(-1, records.shape[-1])
