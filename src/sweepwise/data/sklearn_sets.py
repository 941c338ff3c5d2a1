"""The small tables that scikit-learn ships: two of classes, one of regression."""

import numpy as np

from sweepwise.data import BatchSize, Data, Fraction, SplitSeed, split


def breast_cancer(
    *,
    batch_size: BatchSize = 32,
    split_seed: SplitSeed = 0,
    validation: Fraction = 0.2,
    test: Fraction = 0.2,
    standardize: bool = True,
) -> Data:
    """569 tumours, 30 measurements of their cell nuclei, malignant (0) or benign (1).

    Args:
        batch_size: examples a step, from 1 to the number of training examples.
        split_seed: at least 0; which examples go to which part.
        validation: fraction of all examples, in (0, 1).
        test: fraction of all examples, in (0, 1).
        standardize: whether each feature is scaled to mean 0 and deviation 1 over the training part.

    Returns:
        x: (examples, 30), y: (examples,), classes 0..1.

    Raises:
        ValueError: see `split`.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, "Breast Cancer Wisconsin (Diagnostic)" (1995),
    UCI repository no. 17, as shipped by scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return split(
        x,
        y.astype(np.int64),
        name="breast_cancer",
        batch_size=batch_size,
        split_seed=split_seed,
        validation=validation,
        test=test,
        standardize=standardize,
        classes=2,
    )


def wine(
    *,
    batch_size: BatchSize = 16,
    split_seed: SplitSeed = 0,
    validation: Fraction = 0.2,
    test: Fraction = 0.2,
    standardize: bool = True,
) -> Data:
    """178 wines of three growers, 13 chemical measurements each.

    Args:
        batch_size: examples a step, from 1 to the number of training examples.
        split_seed: at least 0; which examples go to which part.
        validation: fraction of all examples, in (0, 1).
        test: fraction of all examples, in (0, 1).
        standardize: whether each feature is scaled to mean 0 and deviation 1 over the training part.

    Returns:
        x: (examples, 13), y: (examples,), classes 0..2.

    Raises:
        ValueError: see `split`.

    Source: S. Aeberhard, M. Forina, "Wine" (1991), UCI repository no. 109, as shipped by scikit-learn.
    """
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return split(
        x,
        y.astype(np.int64),
        name="wine",
        batch_size=batch_size,
        split_seed=split_seed,
        validation=validation,
        test=test,
        standardize=standardize,
        classes=3,
    )


def diabetes(
    *,
    batch_size: BatchSize = 32,
    split_seed: SplitSeed = 0,
    validation: Fraction = 0.2,
    test: Fraction = 0.2,
    standardize: bool = True,
) -> Data:
    """442 patients, ten measurements each, and how far their diabetes went in a year (25 to 346).

    Args:
        batch_size: examples a step, from 1 to the number of training examples.
        split_seed: at least 0; which examples go to which part.
        validation: fraction of all examples, in (0, 1).
        test: fraction of all examples, in (0, 1).
        standardize: whether each feature is scaled to mean 0 and deviation 1 over the training part.

    Returns:
        x: (examples, 10), y: (examples,), real, scaled over the training part.

    Raises:
        ValueError: see `split`.

    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression", Annals of Statistics
    32 (2004) 407-499, arXiv math/0406456, as shipped by scikit-learn.
    """
    from sklearn.datasets import load_diabetes

    # The scaled version was scaled over all examples, those of validation and test included.
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return split(
        x,
        y,
        name="diabetes",
        batch_size=batch_size,
        split_seed=split_seed,
        validation=validation,
        test=test,
        standardize=standardize,
        classes=0,
    )
