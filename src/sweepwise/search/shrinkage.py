"""The variances of settings between seeds, shrunk towards what all of them agree on.

Source: Smyth, Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray
Experiments, Statistical Applications in Genetics and Molecular Biology 3 (2004), section 6.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, fdtrc, polygamma

ODD = 0.1  # chance with which a setting that varies as the others do is taken alone
FLOOR = 0.05  # of the median variance, the least that is believed: of a coarse metric it may be 0
FEWEST = 4  # variances from which it is learned how far they agree

Floats = NDArray[np.float64]


def variances(values: Floats) -> Floats:
    """The variance of each setting between seeds, without what all settings share of a seed.

    Args:
        values: (settings, seeds), at least two of each.
    """
    settings, seeds = values.shape
    rest = values - values.mean(axis=1, keepdims=True)
    rest -= rest.mean(axis=0)
    found: Floats = (rest**2).sum(axis=1) / (seeds - 1) * settings / (settings - 1)
    return found


def prior(found: Floats, df: Floats) -> tuple[float, float]:
    """The variance that settings have in common, and how many degrees of freedom that knowledge is worth.

    The variances are taken as scaled inverse chi-square around it, and both are estimated by the mean and the
    variance of their logarithms.

    Args:
        found: variances of settings, > 0.
        df: degrees of freedom of each.

    Returns:
        The common variance; its degrees of freedom, 0 with fewer than `FEWEST` settings, and fewer than there
        are settings, as how far variances agree is not known better.

    Source: Smyth (2004), section 6.2; `limma::fitFDist`.
    """
    if len(found) < FEWEST:
        return 1.0, 0.0
    logs = np.log(found) - digamma(df / 2) + np.log(df / 2)
    spread = float(logs.var(ddof=1) - polygamma(1, df / 2).mean())
    most = len(found) - 1.0
    if spread <= 0:
        return float(np.exp(logs.mean())), most
    worth = 2 * _trigamma_inverse(spread)
    return float(np.exp(logs.mean() + digamma(worth / 2) - math.log(worth / 2))), min(worth, most)


def _trigamma_inverse(value: float) -> float:
    """The number > 0 whose trigamma is a value, by Newton's method on 1 / trigamma, which is nearly linear.

    Source: Smyth (2004), appendix.

    Example:
        >>> round(_trigamma_inverse(math.pi**2 / 6), 9)
        1.0
    """
    if value > 1e7:
        return 1 / math.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step < 1e-10 * x:
            break
    return x


def of_pairs(
    values: Floats, best: int, others: Floats | None, others_df: Floats | None
) -> tuple[Floats, Floats]:
    """The variance of the difference of each setting from the best, of one seed, and its df.

    Args:
        values: (settings, seeds), lower is better.
        best: place of the setting with the best mean.
        others: variances of further settings, see `variances`; None: there are none.
        others_df: degrees of freedom of each.
    """
    settings, seeds = values.shape
    df = seeds - 1.0
    own = variances(values)
    every, every_df = own, np.full(settings, df)
    if others is not None and others_df is not None:
        every, every_df = np.concatenate([own, others]), np.concatenate([every_df, others_df])
    seen: Floats = (values - values[best]).var(axis=1, ddof=1)
    if not (every > 0).any():
        return seen, np.full(settings, df)
    floor = FLOOR * float(np.median(every[every > 0]))
    common, worth = prior(np.maximum(every, floor), every_df)
    if not worth:
        return seen, np.full(settings, df)
    shrunk = (worth * common + df * np.maximum(own, floor)) / (worth + df)
    shared = (worth * (shrunk + shrunk[best]) + df * seen) / (worth + df)
    odd = fdtrc(df, worth, own / common) < ODD
    alone = odd | odd[best]
    variance = np.where(alone, np.maximum(shared, seen), shared)
    return variance, np.where(alone, df, worth + df)
