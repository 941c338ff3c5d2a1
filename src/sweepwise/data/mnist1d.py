"""MNIST-1D: ten digits as noisy signals of 40 points."""

import functools
import hashlib

import numpy as np
import torch

from sweepwise.data.dataset import Arrays
from sweepwise.seed import same_generators_after

# The first 16 hex digits of the sha256 of each array, little-endian float32 and int64.
FINGERPRINTS = {
    "x": "d53506bddd12d3b7",
    "y": "d97dc7aecec8ad6b",
    "x_test": "30addc43827c82aa",
    "y_test": "8de99be3ff9dab15",
}


def mnist1d() -> Arrays:
    """5000 signals of 40 points, ten classes; the published 1000 are the test part.

    They are generated (about a second, no network), then compared with the published ones. The signals are
    scaled as a whole, so that a shift does not change their shape: published results are without scaling of
    each point.

    Returns:
        x: (examples, 40), y: (examples,), classes 0..9.

    Raises:
        RuntimeError: the generated signals are not the published ones.

    Source: S. Greydanus, D. Kobak, "Scaling Down Deep Learning with MNIST-1D", arXiv 2011.14439.

    Example:
        >>> arrays = mnist1d()
        >>> arrays.x.shape, arrays.x_test.shape, arrays.classes
        ((4000, 40), (1000, 40), 10)
    """
    arrays = {key: array.copy() for key, array in _generated().items()}
    for key, expected in FINGERPRINTS.items():
        digest = hashlib.sha256(arrays[key].tobytes()).hexdigest()[: len(expected)]
        if digest != expected:
            raise RuntimeError(
                f"data=mnist1d: the generated {key} must have sha256 {expected}..., found {digest}...; "
                "install another version of mnist1d, numpy or scipy, as this one makes other signals"
            )
    return Arrays(
        name="mnist1d",
        x=arrays["x"],
        y=arrays["y"],
        x_test=arrays["x_test"],
        y_test=arrays["y_test"],
        classes=10,
    )


@functools.cache
def _generated() -> dict[str, np.ndarray]:
    """The arrays, made once a process: it takes seconds of CPU."""
    from mnist1d.data import get_dataset_args, make_dataset

    with same_generators_after(torch.device("cpu")):  # `make_dataset` seeds Python's and numpy's
        made = make_dataset(get_dataset_args())
    return {key: made[key].astype("<f4" if key.startswith("x") else "<i8") for key in FINGERPRINTS}
