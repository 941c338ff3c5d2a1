"""Synthetic data sets, generated from a seed."""

from typing import Annotated

import numpy as np
from numpy.random import RandomState

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.data.dataset import Arrays

Points = Annotated[int, Range(4)]
Noise = Annotated[float, Range(0)]
GeneratorSeed = Annotated[int, Range(0, 2**32 - 1)]
BOX = 10.0  # centres of blobs lie within +-BOX


@checked("data")
def blobs(
    *,
    points: Points = 1000,
    features: Annotated[int, Range(1)] = 2,
    centers: Annotated[int, Range(2)] = 3,
    std: Noise = 1.0,
    generator_seed: GeneratorSeed = 0,
) -> Arrays:
    """Normal clouds, one for each class, of equal size (up to one point), with centres uniform in [-10, 10].

    Args:
        points: number of points of all clouds together.
        features: of a point.
        centers: number of clouds.
        std: of a cloud, in each feature; 0 gives the centres themselves.
        generator_seed: of centres and points; not the seed of the split.

    Returns:
        x: (points, features), y: (points,), classes 0..centers-1.

    Example:
        >>> arrays = blobs(points=5, centers=3, std=0.0)
        >>> arrays.y.tolist(), np.array_equal(arrays.x[0], arrays.x[3])
        ([0, 1, 2, 0, 1], True)
    """
    if points < centers:
        raise ValueError(f"data.points={points}: must be at least the {centers} of data.centers")
    generator = RandomState(generator_seed)
    middles = generator.uniform(-BOX, BOX, (centers, features))
    y = np.arange(points) % centers
    return Arrays("blobs", middles[y] + std * generator.normal(size=(points, features)), y, centers)


@checked("data")
def moons(*, points: Points = 1000, noise: Noise = 0.1, generator_seed: GeneratorSeed = 0) -> Arrays:
    """Two interleaved half circles, which no line separates.

    The first is (cos t, sin t), the second (1 - cos t, 1/2 - sin t), t from 0 to pi.

    Args:
        points: number of points of both together.
        noise: standard deviation of what is added to each coordinate.
        generator_seed: of the noise; not the seed of the split.

    Returns:
        x: (points, 2), y: (points,), classes 0..1.

    Example:
        >>> moons(points=4, noise=0.0).x.round(6).tolist()
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [2.0, 0.5]]
    """
    first, second = (np.linspace(0, np.pi, size) for size in (points // 2, points - points // 2))
    upper = np.column_stack([np.cos(first), np.sin(first)])
    lower = np.column_stack([1 - np.cos(second), 0.5 - np.sin(second)])
    x = np.concatenate([upper, lower])
    y = np.repeat([0, 1], [len(first), len(second)])
    return Arrays("moons", x + noise * RandomState(generator_seed).normal(size=x.shape), y, 2)


@checked("data")
def linear(
    *,
    points: Points = 1000,
    features: Annotated[int, Range(1)] = 10,
    noise: Noise = 0.1,
    generator_seed: GeneratorSeed = 0,
) -> Arrays:
    """A linear regression with known weights: y = x w + noise, all normal.

    Args:
        points: number of examples.
        features: of an example, independent, of deviation 1.
        noise: standard deviation of what is added to y; no model can have a smaller error.
        generator_seed: of weights, features and noise; not the seed of the split.

    Returns:
        x: (points, features), y: (points,) real; `true_weights` returns w.

    Example:
        >>> from sweepwise.data.synthetic import true_weights
        >>> arrays = linear(points=50, features=3, noise=0.0)
        >>> np.allclose(arrays.x @ true_weights(features=3), arrays.y)
        True
    """
    generator = RandomState(generator_seed)
    w = generator.normal(size=features)
    x = generator.normal(size=(points, features))
    return Arrays("linear", x, x @ w + noise * generator.normal(size=points), 0)


def true_weights(features: int = 10, generator_seed: int = 0) -> np.ndarray:
    """The weights behind `linear`, (features,), in the units of its raw features and targets."""
    return RandomState(generator_seed).normal(size=features)
