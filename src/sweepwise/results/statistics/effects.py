"""Which knob mattered: main effects and two-way interactions, with the part that is noise beside them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from sweepwise.errors import UsageError
from sweepwise.results.statistics.multiple import holm

FULL = 0.8  # share of all combinations of levels that a grid has at least
FEWEST = 10  # settings of a sweep that is no grid
SURE = 0.05  # adjusted p value up to which a knob counts as deciding whether runs fail


@dataclass(frozen=True)
class Effect:
    """What one knob does, or two together beyond what each does.

    Attributes:
        knobs: one name or two.
        share: omega squared, the share of the variance between runs that it explains, less what chance
            would; in [0, 1]. By a forest: the share of held-out variance that is lost without it.
        p: adjusted (Holm) for all effects of the table; NaN by a forest, which has none.
    """

    knobs: tuple[str, ...]
    share: float
    p: float


@dataclass(frozen=True)
class Effects:
    """What the knobs of a sweep do.

    Attributes:
        failing: effects on whether a run fails, the largest first; empty where none or all failed.
        value: effects on the value, the largest first; the value's rank among all runs, failed ones last,
            where any failed.
        noise: share of the variance between runs of equal settings, in [0, 1]; NaN without replicates.
        scale: 'value', or 'rank' where runs failed.
        method: 'anova' for a grid, 'forest' for what is none.
    """

    failing: tuple[Effect, ...]
    value: tuple[Effect, ...]
    noise: float
    scale: Literal["value", "rank"]
    method: Literal["anova", "forest"]

    @property
    def deciding(self) -> list[Effect]:
        """Effects that surely decide whether runs fail."""
        return [
            effect
            for effect in self.failing
            if effect.p <= SURE or (np.isnan(effect.p) and effect.share > 0.1)
        ]

    @property
    def first(self) -> tuple[str, ...]:
        """The knobs, the most important first; before all others those that surely make runs fail."""
        return tuple(dict.fromkeys(knob for effect in [*self.deciding, *self.value] for knob in effect.knobs))


def effects(
    settings: Sequence[Mapping[str, Hashable]],
    values: Sequence[float | None],
    mode: Literal["min", "max"],
    replicates: Sequence[Hashable] | None = None,
    *,
    forest: bool = True,
) -> Effects:
    """Which knobs decide whether runs fail, and which how good they are.

    A grid has an analysis of variance with type II sums of squares. What is no grid, such as a random
    search, has a forest whose loss is measured on settings it has not seen. A failed run counts as the
    worst: were it left out, the knob that makes runs diverge would look as if it did nothing.

    Args:
        settings: one mapping a run, knob -> value, all with the same knobs.
        values: (n,) one a run; None or not finite for a run that failed.
        mode: whether low or high values are better.
        replicates: (n,) the seed of each run, where seeds are shared between settings: what they do alone is
            then no noise.
        forest: whether what is no grid gets a forest, which takes a second or two; else it has no effects.
            With fewer than `FEWEST` settings it never has: what a forest says of unseen ones is chance then.

    Source: Langsrud, ANOVA for Unbalanced Data: Use Type II Instead of Type III Sums of Squares, Statistics
    and Computing 13 (2003); Olejnik and Algina, Generalized Eta and Omega Squared Statistics, Psychological
    Methods 8 (2003).

    Example:
        >>> runs = [{"lr": lr, "init": init} for lr in (0.1, 0.2) for init in "ab" for seed in range(2)]
        >>> found = effects(runs, [1.0, 1.2, 1.1, 1.1, 5.0, 5.1, 5.2, 4.9], "min")
        >>> found.first[0], found.value[0].knobs, round(found.value[0].share, 2), round(found.noise, 3)
        ('lr', ('lr',), 1.0, 0.004)
    """
    if len(settings) != len(values) or not len(values):
        raise UsageError([f"{len(settings)} settings, {len(values)} values: there must be one of each a run"])
    knobs = {name: _codes([each[name] for each in settings]) for name in settings[0]}
    knobs = {name: codes for name, codes in knobs.items() if codes.max() > 0}
    y = np.array([np.nan if value is None else value for value in values], float)
    failed = ~np.isfinite(y)
    if failed.all() or not knobs:
        return Effects((), (), np.nan, "value", "anova")
    scale: Literal["value", "rank"] = "rank" if failed.any() else "value"
    ranked = (
        _ranks(np.where(failed, np.inf, y if mode == "min" else -y))
        if failed.any()
        else y / max(abs(y).max(), 1e-300)
    )
    cells = _codes(list(zip(*knobs.values(), strict=True)))
    block = None if replicates is None else _codes(list(replicates))
    grid = _is_grid(knobs, cells)
    if not grid and (not forest or cells.max() + 1 < FEWEST):
        return Effects((), (), np.nan, scale, "forest")
    table = _anova if grid else _forest
    if not grid:
        knobs = {name: _numbers([each[name] for each in settings], codes) for name, codes in knobs.items()}
    return Effects(
        failing=table(failed.astype(float), knobs, block, cells) if failed.any() else (),
        value=table(ranked, knobs, block, cells),
        noise=_noise(ranked, cells, block),
        scale=scale,
        method="anova" if grid else "forest",
    )


def type_ii(
    y: NDArray, terms: Sequence[NDArray], contains: Sequence[Sequence[int]]
) -> tuple[NDArray, NDArray, float, int]:
    """Type II sums of squares: each term after all those that do not contain it.

    Args:
        y: (n,).
        terms: each (n, columns): dummies of a term.
        contains: for each term the places of those terms that contain it, such as the interactions of a main
            effect.

    Returns:
        Sums of squares and degrees of freedom of the terms, (terms,) each, and those of the residual.
    """
    n = len(y)
    constant, *terms, y = _rotated([np.ones((n, 1)), *terms, y[:, None]])

    def left(places: Sequence[int]) -> tuple[float, int]:
        design = np.hstack([constant, *(terms[place] for place in places)])
        solved, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-10)
        return float(np.sum((y - design @ solved) ** 2)), int(rank)

    everything = range(len(contains))
    residual, rank = left(everything)
    squares, df = np.zeros(len(terms)), np.zeros(len(terms), int)
    for place in everything:
        others = [other for other in everything if other != place and other not in contains[place]]
        (without, rank_without), (with_it, rank_with) = left(others), left([*others, place])
        squares[place], df[place] = without - with_it, rank_with - rank_without
    return squares, df, residual, n - rank


def _rotated(columns: Sequence[NDArray]) -> list[NDArray]:
    """Columns turned so that as many rows hold all of them as there are columns: fits leave the same sums."""
    together = np.hstack(columns)
    if together.shape[0] > together.shape[1]:
        together = np.asarray(np.linalg.qr(together, mode="r"))
    ends = np.cumsum([block.shape[1] for block in columns])[:-1]
    return np.split(together, ends, axis=1)


def _anova(
    y: NDArray, knobs: Mapping[str, NDArray], block: NDArray | None, cells: NDArray
) -> tuple[Effect, ...]:
    """Omega squared and p of each main effect and each interaction of two, the largest first."""
    marks = {name: _dummies(codes) for name, codes in knobs.items()}
    names: list[tuple[str, ...]] = [(name,) for name in knobs]
    if _columns(knobs) < len(y):
        names += list(combinations(knobs, 2))
    terms = [marks[name[0]] if len(name) == 1 else _product(marks[name[0]], marks[name[1]]) for name in names]
    contains = [[place for place, other in enumerate(names) if set(name) < set(other)] for name in names]
    if block is not None:
        terms, contains = [*terms, _dummies(block)], [*contains, []]
    squares, df, residual, residual_df = type_ii(y, terms, contains)
    total = float(np.sum((y - y.mean()) ** 2))
    if not total or residual_df < 1:
        return tuple(Effect(name, 0.0, 1.0) for name in names)
    mean_square = max(residual / residual_df, 1e-12 * total)
    shares = np.clip((squares - df * mean_square) / (total + mean_square), 0, 1)
    p = holm(
        np.where(
            df > 0, fdtrc(np.maximum(df, 1), residual_df, squares / np.maximum(df, 1) / mean_square), 1.0
        )[: len(names)]
    )
    found = [
        Effect(name, float(share), float(each)) for name, share, each in zip(names, shares, p, strict=False)
    ]
    return tuple(sorted(found, key=lambda effect: -effect.share))


def _forest(
    y: NDArray, knobs: Mapping[str, NDArray], block: NDArray | None, cells: NDArray
) -> tuple[Effect, ...]:
    """Share of the variance between unseen settings that a forest loses without a knob, the largest first."""
    from sklearn.ensemble import RandomForestRegressor  # 0.8 s to import
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import GroupKFold

    x = np.column_stack(list(knobs.values()))
    folds = min(5, cells.max() + 1)
    lost = np.zeros((folds, len(knobs)))
    for fold, (seen, unseen) in enumerate(GroupKFold(folds).split(x, y, cells)):
        forest = RandomForestRegressor(100, min_samples_leaf=2, random_state=0).fit(x[seen], y[seen])
        scores = permutation_importance(
            forest, x[unseen], y[unseen], scoring="neg_mean_squared_error", n_repeats=5, random_state=0
        )
        lost[fold] = scores.importances_mean * len(unseen) / len(y)
    # Shuffling a knob adds twice the variance that it explains.
    shares = np.clip(lost.sum(axis=0) / max(2 * float(np.var(y)), 1e-300), 0, 1)
    found = [Effect((name,), float(share), np.nan) for name, share in zip(knobs, shares, strict=True)]
    return tuple(sorted(found, key=lambda effect: -effect.share))


def _noise(y: NDArray, cells: NDArray, block: NDArray | None) -> float:
    """Share of the variance between runs of equal settings; NaN without replicates.

    The means of the cells are taken off first, from the marks of the replicates as well, which leaves the
    same residual as a fit with a column for each cell (Frisch and Waugh, Econometrica 1, 1933).
    """
    size = np.bincount(cells)

    def within(column: NDArray) -> NDArray:
        return column - (np.bincount(cells, column) / size)[cells]

    left, rank = within(y), len(size)
    if block is not None and block.max() > 0:
        design = np.apply_along_axis(within, 0, _dummies(block))
        solved, _, more, _ = np.linalg.lstsq(design, left, rcond=1e-10)
        left, rank = left - design @ solved, rank + int(more)
    total = float(np.var(y, ddof=1)) if len(y) > 1 else 0.0
    if len(y) == rank or not total:
        return np.nan if len(y) == rank else 0.0
    return float(min(np.sum(left**2) / (len(y) - rank) / total, 1.0))


def _is_grid(knobs: Mapping[str, NDArray], cells: NDArray) -> bool:
    """Whether nearly all combinations of levels were tried, with runs left to tell noise by."""
    combinations_there = np.prod([float(codes.max() + 1) for codes in knobs.values()])
    main = 1 + sum(int(codes.max()) for codes in knobs.values())
    return cells.max() + 1 >= FULL * combinations_there and main < len(cells)


def _columns(knobs: Mapping[str, NDArray]) -> int:
    """Parameters of all main effects and interactions of two."""
    free = [int(codes.max()) for codes in knobs.values()]
    return 1 + sum(free) + sum(one * two for one, two in combinations(free, 2))


def _codes(levels: Sequence[Hashable]) -> NDArray:
    """(n,) the number of each run's level, in the order in which they appear."""
    place = {level: number for number, level in enumerate(dict.fromkeys(levels))}
    return np.array([place[level] for level in levels])


def _numbers(levels: Sequence[Hashable], codes: NDArray) -> NDArray:
    """(n,) the levels themselves where all are numbers, as far as a forest takes them, else their codes."""
    if all(isinstance(level, (int, float)) for level in levels):
        largest = float(np.finfo(np.float32).max)
        return np.clip(np.array(levels, float), -largest, largest)
    return codes.astype(float)


def _dummies(codes: NDArray) -> NDArray:
    """(n, levels - 1): all levels but the first."""
    return (codes[:, None] == np.arange(1, codes.max() + 1)).astype(float)


def _product(one: NDArray, two: NDArray) -> NDArray:
    """(n, columns of one * columns of two): the interaction."""
    return (one[:, :, None] * two[:, None, :]).reshape(len(one), -1)


def _ranks(y: NDArray) -> NDArray:
    """(n,) ranks, ties have their mean rank."""
    _, back, count = np.unique(y, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[back]
