"""How large a share may be of which a few cases were seen, or none."""

from scipy.special import betaincinv

from sweepwise.errors import UsageError


def largest_share(seen: int, n: int, level: float) -> float:
    """The upper end of Clopper and Pearson's one-sided interval for a share; 1 where nothing was tried.

    None of n seen leaves 1 - level^(1/n): at 5 % 63 % of three, 10 % of 29, 5 % of 59. Where the cases have
    shares of their own it holds for the mean of these.

    Args:
        seen: cases, 0 to n.
        n: independent tries, >= 0.
        level: how often the end may lie below the share, in (0, 1).

    Raises:
        UsageError: a number is out of range.

    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial, Biometrika 26 (1934); of unequal shares Hoeffding, On the Distribution of the Number of
    Successes in Independent Trials, Annals of Mathematical Statistics 27 (1956).

    Example:
        >>> round(largest_share(0, 59, 0.05), 4), round(largest_share(1, 20, 0.05), 4)
        (0.0495, 0.2161)
    """
    if not (0 <= seen <= n and 0 < level < 1):
        raise UsageError([f"seen={seen}, n={n}, level={level}: must be 0 <= seen <= n and 0 < level < 1"])
    return float(betaincinv(seen + 1, n - seen, 1 - level)) if seen < n else 1.0
