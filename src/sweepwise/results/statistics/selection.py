"""What comparing the best of many with the others costs: it was chosen by the values that are compared."""

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtr, log_ndtr, stdtr

# Differences between the best mean and another, in standard deviations of a mean; beyond 12 there is nothing.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(240)
_DISTANCES, _WEIGHTS = 6 * (_NODES + 1), 6 * _WEIGHTS
# Degrees of freedom beyond which more make no difference, and would take more nodes.
_MANY = 200.0


def chosen_p(t: ArrayLike, df: ArrayLike, settings: int) -> NDArray:
    """The p value of 'the best is better than this one' where the best is the best mean of many settings.

    Under the null all settings are equal. Which mean is best, and by how much, is independent of the standard
    errors if values are normal. So the expected number of comparisons with the best that reach t is

        k (k - 1) int_0^inf g(d) P(chi2_df / df < (d / t)^2 / 2) dd,
        g(d) = int phi(x) phi(x - d) Phi(x)^(k - 2) dx,

    where g(d) is the density of one mean being best and another d below it (in standard deviations of a
    mean). It bounds the probability that any of them does. With k = 2 it is the two-sided t test. It lies
    between the price for a control named before looking and that of all pairs: with few replicates near the
    first, since then small standard errors make large t, with many near the second, since then large
    distances do.

    Args:
        t: the size of their difference over its standard error, >= 0; any shape, inf where it is exact.
        df: degrees of freedom of the standard error, broadcast against t; 0: no standard error, p = 1. More
            than 200 count as 200.
        settings: k >= 2, how many there were to choose from.

    Returns:
        p in [0, 1]; compare it with 0.05, no further adjustment is due.

    Source: the sum over comparisons is Bonferroni's inequality; the independence of mean and variance is
    Basu, On Statistics Independent of a Complete Sufficient Statistic, Sankhya 15 (1955). Compare Hsu,
    Multiple Comparisons: Theory and Methods (1996), chapter 4.
    """
    return _reached(t, df, _distances(settings * (settings - 1), settings - 2))


def bests_p(t: ArrayLike, df: ArrayLike, settings_a: int, settings_b: int) -> NDArray:
    """The p value of 'the best of these is better than the best of those', both chosen by their means.

    Under the null the best expected values on both sides are equal. The best mean of a side is too good the
    more settings it had, most where all of its settings are equal and the other side has only one that
    counts:

        m int_0^inf g(d) P(chi2_df / df < (d / t)^2 / 2) dd,   g(d) = int phi(x) phi(x - d) Phi(x)^(m - 1) dx.

    This is the error of claiming that a side of m settings is the better one, at worst; p is its sum over
    both sides. With one setting on each it is the two-sided t test.

    Args:
        t: the size of the difference of both best means over its standard error, >= 0; any shape.
        df: degrees of freedom of the standard error, broadcast against t; 0: p = 1.
        settings_a: m >= 1 on one side.
        settings_b: on the other.

    Source: as `chosen_p`.
    """
    return _reached(t, df, _distances(settings_a, settings_a - 1) + _distances(settings_b, settings_b - 1))


def chosen_level(df: ArrayLike, settings: int, level: float) -> NDArray:
    """The level of each t interval with which all comparisons with the best err in `level` together.

    Args:
        df: degrees of freedom, any shape.
        settings: how many there were to choose from, >= 2.
        level: share of sweeps with any error, in (0, 1).
    """
    return _level(df, _distances(settings * (settings - 1), settings - 2), level)


def bests_level(df: ArrayLike, settings_a: int, settings_b: int, level: float) -> NDArray:
    """The level of a t interval for the difference of two bests that errs in `level`; as `chosen_level`."""
    return _level(df, _distances(settings_a, settings_a - 1) + _distances(settings_b, settings_b - 1), level)


def _reached(t: ArrayLike, df: ArrayLike, density: NDArray) -> NDArray:
    """Expected number of distances that are t standard errors or more, at most 1."""
    t, df = np.broadcast_arrays(np.asarray(t, float), np.asarray(df, float))
    freedom = np.clip(df, 1e-9, _MANY)[..., None]
    below = chdtr(freedom, freedom * (_DISTANCES / np.maximum(t, 1e-6)[..., None]) ** 2 / 2)
    return np.where(df > 0, np.minimum(below @ (density * _WEIGHTS), 1), 1.0)


def _level(df: ArrayLike, density: NDArray, level: float) -> NDArray:
    """The two-sided level of Student's t at which `_reached` is `level`."""
    each, back = np.unique(np.minimum(df, _MANY), return_inverse=True)
    # Bisection on log t, for all degrees of freedom at once; scipy.optimize would cost 0.15 s to import.
    low, high = np.full(each.shape, -2.0), np.full(each.shape, 25.0)
    for _ in range(32):
        middle = (low + high) / 2
        beyond = _reached(np.exp(middle), each, density) < level
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    levels = np.where(each > 0, 2 * stdtr(np.maximum(each, 1e-9), -np.exp((low + high) / 2)), level)
    return levels[back].reshape(np.shape(df))


@functools.lru_cache(64)
def _distances(factor: int, power: int) -> NDArray:
    """`factor` int phi(x) phi(x - d) Phi(x)^power dx at the nodes d: (nodes,)."""
    x, step = np.linspace(-9, 9, 361, retstep=True)
    log = -(x**2 + (x - _DISTANCES[:, None]) ** 2) / 2 + power * log_ndtr(x)
    return factor * np.exp(log).sum(axis=1) * step / (2 * np.pi)
