"""Small tables that come with scikit-learn: two for classification, one for regression."""

import numpy as np

from sweepwise.data.dataset import Arrays


def breast_cancer() -> Arrays:
    """569 tumours, 30 measurements of their cell nuclei, malignant (0) or benign (1).

    Returns:
        x: (examples, 30), y: (examples,), classes 0..1.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, "Breast Cancer Wisconsin (Diagnostic)" (1995),
    UCI repository no. 17, as shipped by scikit-learn.

    Example:
        >>> np.bincount(breast_cancer().y).tolist()
        [212, 357]
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return Arrays("breast_cancer", x, y.astype(np.int64), classes=2, labels=("malignant", "benign"))


def wine() -> Arrays:
    """178 wines of three growers, 13 chemical measurements each.

    Returns:
        x: (examples, 13), y: (examples,), classes 0..2.

    Source: S. Aeberhard, M. Forina, "Wine" (1991), UCI repository no. 109, as shipped by scikit-learn.

    Example:
        >>> np.bincount(wine().y).tolist()
        [59, 71, 48]
    """
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return Arrays("wine", x, y.astype(np.int64), classes=3)


def diabetes() -> Arrays:
    """442 patients, ten measurements each, and how far their diabetes went in a year (25 to 346).

    Returns:
        x: (examples, 10), y: (examples,), real, scaled over the training part.

    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression", Annals of Statistics
    32 (2004) 407-499, arXiv math/0406456, as shipped by scikit-learn.

    Example:
        >>> arrays = diabetes()
        >>> arrays.x.shape, arrays.y.min().item(), arrays.y.max().item()
        ((442, 10), 25.0, 346.0)
    """
    from sklearn.datasets import load_diabetes

    # The scaled version was scaled over all examples, those of validation and test included.
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return Arrays("diabetes", x, y, classes=0)
