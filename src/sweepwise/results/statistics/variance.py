"""How much of the variance between runs comes from where: split, init, order, noise."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweepwise.errors import UsageError
from sweepwise.results.statistics.estimate import checked

REST = "rest"
ROUNDS = 20  # of solving for the variances
LARGE = 400  # runs beyond which they are solved for once: inverting V costs n^3


@dataclass(frozen=True)
class Sources:
    """The variance between runs of a setting, by where it comes from.

    Attributes:
        variances: source -> variance, >= 0, in the metric's unit squared. Sources that always changed
            together are one, 'init + order'; 'rest' is what no source alone explains: how they act together.
        shares: the same as parts of their sum, in [0, 1]; all 0 where nothing varies.
        not_varied: sources that had one value in all runs; nothing can be said of them, and no verdict
            covers them.
        levels: source -> how many values it took: of few levels a variance is hardly known.
    """

    variances: dict[str, float]
    shares: dict[str, float]
    not_varied: tuple[str, ...]
    levels: dict[str, int]


def components(
    values: Iterable[float],
    factors: Mapping[str, Sequence[Hashable]],
    settings: Sequence[Hashable] | None = None,
) -> Sources:
    """Variances of crossed random effects, for any design: a full grid, one at a time, with gaps.

    With V = sum_i s_i^2 Z_i Z_i', where Z_i marks which runs share a level of source i, and P the projection
    off the settings' means in the metric of V, the sums of squares y'P Z_i Z_i'P y have expectation
    sum_j s_j^2 ||Z_i'P Z_j||^2. These equations are solved for s^2, and V is formed anew from what came out
    (at least 0), which converges to restricted maximum likelihood; in balanced designs it is the analysis of
    variance. More than LARGE runs are solved once, with V = 1, which is unbiased as well. With one source
    changed at a time, what sources do together cannot be told from what they do alone, and there is no rest.

    Args:
        values: (n,), finite: one a run.
        factors: source -> (n,) its level in each run, such as {'split': [0, 0, 1], 'init': [0, 1, 0]}.
        settings: (n,) the setting of each run, where there are several: their means are not counted as
            variance.

    Raises:
        UsageError: lengths that differ, values that are not finite, or a factor called 'rest'.

    Source: Searle, Casella and McCulloch, Variance Components (1992), sections 6.6 (REML) and 11.3 (MINQUE);
    Hartley, Rao and LaMotte, A Simple 'Synthesis'-Based Method of Variance Component Estimation, Biometrics
    34 (1978), for V = 1.

    Example:
        >>> levels = {"split": [0, 0, 1, 1], "init": [0, 1, 0, 1], "noise": [0, 0, 0, 0]}
        >>> found = components([1, 2, 1, 2], levels)
        >>> {name: round(share, 2) for name, share in found.shares.items()}, found.not_varied
        ({'split': 0.0, 'init': 1.0, 'rest': 0.0}, ('noise',))
    """
    y = np.array(checked(values))
    settings = [0] * len(y) if settings is None else settings
    for name, levels in {**factors, "settings": settings}.items():
        if len(levels) != len(y) or name == REST:
            raise UsageError(
                [f"{name}: must have a level for each of the {len(y)} runs, and not be called 'rest'"]
            )
    marks, not_varied = _merged({name: _marks(levels) for name, levels in factors.items()})
    centre = _marks(settings)
    scale = max(np.abs(y).max(), 1e-300)
    names, sides = list(marks), list(marks.values())
    if np.linalg.matrix_rank(np.hstack([centre, *sides])) < len(y):
        names, sides = [*names, REST], [*sides, np.eye(len(y))]
    variances = _solved(y / scale, centre, sides) if sides else np.zeros(0)
    total = variances.sum()
    return Sources(
        variances={name: float(each) * scale**2 for name, each in zip(names, variances, strict=True)},
        shares={
            name: float(each / total) if total else 0.0 for name, each in zip(names, variances, strict=True)
        },
        not_varied=not_varied,
        levels={name: z.shape[1] for name, z in marks.items()},
    )


def _solved(y: NDArray, centre: NDArray, sides: Sequence[NDArray]) -> NDArray:
    """The variance of each side, (n, levels) marks, by iterated MINQUE; y: (n,), centre: (n, settings)."""
    n = len(y)
    inverse = np.eye(n)
    variances = np.zeros(len(sides))
    for _ in range(ROUNDS if n <= LARGE else 1):
        projected = inverse @ centre
        onto = inverse - projected @ np.linalg.pinv(centre.T @ projected) @ projected.T
        lifted = [onto @ z for z in sides]
        squares = [float(np.sum((z.T @ y) ** 2)) for z in lifted]
        expected = [[float(np.sum((one.T @ two) ** 2)) for two in lifted] for one in sides]
        before, solved = variances, np.linalg.lstsq(np.array(expected), np.array(squares), rcond=None)[0]
        variances = np.where(solved > 1e-15, solved, 0.0)
        if not variances.sum() or np.abs(variances - before).max() < 1e-6 * variances.sum():
            break
        ridge = 1e-4 * variances.sum() * np.eye(n)  # without a rest V may be singular
        inverse = np.linalg.inv(sum((s * z @ z.T for s, z in zip(variances, sides, strict=True)), ridge))
    return variances


def split_standard_error(share: float, examples: int) -> float:
    """Standard error of an accuracy, or another share, that was measured on one part of the data.

    It is what another part of that size would change, and no number of seeds makes it smaller. Between two
    settings measured on the same part it is smaller as far as they err on the same examples.

    Args:
        share: in [0, 1].
        examples: in the part, >= 1.

    Source: the binomial distribution. Compare Dietterich, Approximate Statistical Tests for Comparing
    Supervised Classification Learning Algorithms, Neural Computation 10 (1998).

    Example:
        >>> round(split_standard_error(0.9, 900), 4)
        0.01
    """
    if not 0 <= share <= 1 or examples < 1:
        raise UsageError([f"share={share}, examples={examples}: must be in [0, 1] and at least 1"])
    return math.sqrt(share * (1 - share) / examples)


def _marks(levels: Sequence[Hashable]) -> NDArray:
    """(n, levels): 1 where a run has a level."""
    place = {level: number for number, level in enumerate(dict.fromkeys(levels))}
    marks = np.zeros((len(levels), len(place)))
    marks[np.arange(len(levels)), [place[level] for level in levels]] = 1
    return marks


def _merged(marks: Mapping[str, NDArray]) -> tuple[dict[str, NDArray], tuple[str, ...]]:
    """Sources that varied, those that always changed together as one, and the names of those that did not."""
    kept: dict[str, NDArray] = {}
    not_varied = []
    for name, z in marks.items():
        same = next((other for other, known in kept.items() if np.array_equal(known, z)), None)
        if z.shape[1] < 2:
            not_varied.append(name)
        elif (
            same is not None
        ):  # levels are numbered in the order of the runs, so equal partitions are equal arrays
            kept = {(f"{key} + {name}" if key == same else key): known for key, known in kept.items()}
        else:
            kept[name] = z
    return kept, tuple(not_varied)
