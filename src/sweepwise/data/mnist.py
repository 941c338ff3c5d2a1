"""Images of 28 x 28 pixels in ten classes: handwritten digits, and clothes in the same form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweepwise.config.schema import checked
from sweepwise.data.dataset import Arrays
from sweepwise.data.download import Published, download, folder_of, is_there
from sweepwise.data.idx import read_idx

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of its package dataset-fashion-mnist


@dataclass(frozen=True)
class IdxFile(Published):
    """A published .gz file; a local copy may also be compressed differently, or decompressed.

    Attributes:
        content: hex digest (sha256) of the decompressed file.
        shape: of the array in it.
    """

    content: str
    shape: tuple[int, ...]


MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        (60_000, 28, 28),
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        (60_000,),
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        (10_000, 28, 28),
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        (10_000,),
    ),
)
FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FASHION_MNIST = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        (60_000, 28, 28),
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        (60_000,),
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        (10_000, 28, 28),
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        (10_000,),
    ),
)


CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@checked("data")
def mnist(*, root: str | None = None) -> Arrays:
    """70,000 handwritten digits, 28 x 28 pixels from 0 to 255; the published 10,000 are the test part.

    Args:
        root: folder that has or gets mnist/; null: $SWEEPWISE_DATA, else ~/.cache/sweepwise.

    Returns:
        x: (60000, 1, 28, 28) uint8, y: (60000,), classes 0..9; the test part likewise, (10000, ...).

    Raises:
        ValueError: a file is damaged, or cannot be downloaded.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86 (1998) 2278-2324.

    Example:
        >>> from sweepwise.data.download import folder_of
        >>> from sweepwise.data.mnist import MNIST
        >>> str(folder_of("mnist", root="/data") / MNIST[0].name), MNIST[0].shape  # not downloaded
        ('/data/mnist/train-images-idx3-ubyte.gz', (60000, 28, 28))
    """
    return _images("mnist", folder_of("mnist", root), MNIST, MNIST_MIRRORS)


@checked("data")
def fashion_mnist(*, root: str | None = None) -> Arrays:
    """70,000 pictures of clothes, 28 x 28 pixels from 0 to 255; the published 10,000 are the test part.

    Debian's package dataset-fashion-mnist is used if it is installed and no root is given.

    Args:
        root: folder that has or gets fashion_mnist/; null: $SWEEPWISE_DATA, else ~/.cache/sweepwise.

    Returns:
        x: (60000, 1, 28, 28) uint8, y: (60000,), classes 0..9; the test part likewise, (10000, ...).

    Raises:
        ValueError: a file is damaged, or cannot be downloaded.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms", arXiv 1708.07747.

    Example:
        >>> from sweepwise.data.download import folder_of
        >>> from sweepwise.data.mnist import FASHION_MNIST
        >>> str(folder_of("fashion_mnist", root="/data") / FASHION_MNIST[3].name), FASHION_MNIST[3].shape
        ('/data/fashion_mnist/t10k-labels-idx1-ubyte.gz', (10000,))
    """
    there = root is None and all((DEBIAN / file.name).is_file() for file in FASHION_MNIST)
    folder = DEBIAN if there else folder_of("fashion_mnist", root)
    return _images("fashion_mnist", folder, FASHION_MNIST, FASHION_MIRRORS, CLOTHES)


def _images(
    name: str, folder: Path, files: Sequence[IdxFile], mirrors: Sequence[str], labels: tuple[str, ...] = ()
) -> Arrays:
    absent = [file for file in files if not is_there(_path(folder, file))]
    if absent:
        download(absent, mirrors, folder)
    x, y, x_test, y_test = (
        read_idx(_path(folder, file), file.shape, file.content, file.sha256) for file in files
    )
    images, targets = (x[:, None], x_test[:, None]), (y.astype(np.int64), y_test.astype(np.int64))
    return Arrays(name, images[0], targets[0], 10, images[1], targets[1], labels=labels)


def _path(folder: Path, file: IdxFile) -> Path:
    """The path of a file: the decompressed one if it exists, else the published one."""
    plain = folder / file.name.removesuffix(".gz")
    return plain if plain.is_file() else folder / file.name
