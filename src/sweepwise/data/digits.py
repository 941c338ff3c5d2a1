"""Handwritten digits of 8 x 8 pixels."""

import importlib.util
from pathlib import Path

import numpy as np

from sweepwise.data import BatchSize, Data, Fraction, SplitSeed, split

TABLE = "datasets/data/digits.csv.gz"


def digits(
    *,
    batch_size: BatchSize = 64,
    split_seed: SplitSeed = 0,
    validation: Fraction = 0.2,
    test: Fraction = 0.2,
    standardize: bool = True,
) -> Data:
    """1797 images of the ten digits, 8 x 8 pixels from 0 to 16, as 64 features each.

    Args:
        batch_size: examples a step, from 1 to the number of training examples.
        split_seed: at least 0; which examples go to which part.
        validation: fraction of all examples, in (0, 1).
        test: fraction of all examples, in (0, 1).
        standardize: whether each pixel is scaled to mean 0 and deviation 1 over the training part.

    Returns:
        x: (examples, 64), y: (examples,), classes 0..9.

    Raises:
        ValueError: see `split`.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits" (1998), the test set, UCI
    repository no. 80, as shipped by scikit-learn.
    """
    x, y = _arrays()
    return split(
        x,
        y,
        name="digits",
        batch_size=batch_size,
        split_seed=split_seed,
        validation=validation,
        test=test,
        standardize=standardize,
        classes=10,
    )


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    # Finding scikit-learn's file takes 0.1 ms, importing scikit-learn most of a second.
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / TABLE
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)

    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x, y.astype(np.int64)
