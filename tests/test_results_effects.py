"""Which knob mattered: statsmodels' analysis of variance, and planted effects."""

import numpy as np
import pytest

from sweepwise.errors import UsageError
from sweepwise.results.statistics.effects import effects

A, B = "aaaaabbbbbcccccc", "xxyyyxxxyyxyyyxx"
Y = (4.1, 3.9, 5.2, 5.0, 5.4, 6.1, 6.3, 5.8, 6.0, 6.4, 7.2, 8.8, 9.1, 8.7, 7.0, 7.5)
RUNS = [{"lr": one, "init": two} for one, two in zip(A, B, strict=True)]


def omega(squares, df, residual):
    """Olejnik and Algina (2003), of statsmodels' sums of squares; the total is that of Y."""
    total = np.sum((np.array(Y) - np.mean(Y)) ** 2)
    return (squares - df * residual) / (total + residual)


def test_an_unbalanced_grid_is_statsmodels_analysis():
    """statsmodels 0.15: anova_lm(ols('Y ~ C(A) * C(B)').fit(), typ=2)."""
    found = {effect.knobs: effect for effect in effects(RUNS, Y, "min").value}
    assert found["lr",].share == pytest.approx(omega(32.238519, 2, 0.052), rel=1e-5)
    assert found["init",].share == pytest.approx(omega(4.205769, 1, 0.052), rel=1e-5)
    assert found["lr", "init"].share == pytest.approx(omega(1.545231, 2, 0.052), rel=1e-5)
    # Holm's factors 3, 2, 1 on statsmodels' p values.
    assert found["lr",].p == pytest.approx(3 * 1.007849e-09, rel=1e-5)
    assert found["init",].p == pytest.approx(2 * 4.165679e-06, rel=1e-5)
    assert found["lr", "init"].p == pytest.approx(1.011984e-03, rel=1e-5)
    assert effects(RUNS, Y, "min").noise == pytest.approx(0.052 / np.var(Y, ddof=1), rel=1e-6)


def grid(**levels):
    runs = [{}]
    for name, choices in levels.items():
        runs = [{**run, name: choice} for run in runs for choice in choices]
    return runs


def test_a_knob_that_makes_runs_diverge_comes_first():
    """Its diverged runs have no value, and those that survive are the best ones."""
    generator = np.random.default_rng(0)
    runs = grid(lr=[0.01, 0.1, 0.3], init="abc", seed=range(8))
    seeds = [run.pop("seed") for run in runs]
    values = [
        None
        if run["lr"] == 0.3 and generator.random() < 0.6
        else 0.3 * "abc".index(run["init"]) + 0.1 * generator.normal()
        for run in runs
    ]
    found = effects(runs, values, "max", seeds)
    assert (found.first[0], found.method, found.scale) == ("lr", "anova", "rank")
    assert found.failing[0].knobs == ("lr",) and found.failing[0].p < 1e-6
    assert found.value[0].knobs == ("init",)
    without = [run for run, value in zip(runs, values, strict=True) if value is not None]
    ended = effects(without, [value for value in values if value is not None], "max")
    assert ended.first[0] == "init" and ended.failing == () and ended.scale == "value"


def test_noise_is_what_is_left_between_equal_settings():
    """Mean squares of a table of settings by seeds, over the variance of all runs."""
    table = np.random.default_rng(1).normal(size=(4, 9)) + np.arange(4)[:, None] + np.arange(9)
    runs = grid(lr=range(4), seed=range(9))
    seeds = [run.pop("seed") for run in runs]
    rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0)
    within = np.sum((table - rows) ** 2) / 32
    beside = np.sum((table - rows - columns + table.mean()) ** 2) / 24
    total = np.var(table, ddof=1)
    assert effects(runs, table.ravel(), "min").noise == pytest.approx(within / total)
    assert effects(runs, table.ravel(), "min", seeds).noise == pytest.approx(beside / total)
    assert np.isnan(effects(runs[::9], [1.0, 2.0, 3.0, 5.0], "min").noise)


def test_only_an_interaction():
    generator = np.random.default_rng(2)
    runs = grid(a=[0, 1], b=[0, 1], c=[0, 1], seed=range(10))
    values = [float(run["a"] != run["b"]) + 0.1 * generator.normal() for run in runs]
    for run in runs:
        del run["seed"]
    found = effects(runs, values, "max")
    assert found.value[0].knobs == ("a", "b") and found.value[0].share > 0.9
    assert all(effect.share < 0.02 for effect in found.value[1:])


def test_a_random_search_has_a_forest():
    generator = np.random.default_rng(0)
    runs = [
        {"lr": 10 ** generator.uniform(-4, 0), "decay": generator.random(), "init": "ab"[place % 2]}
        for place in range(40)
    ]
    values = [np.log10(run["lr"]) + 0.1 * generator.normal() for run in runs]
    found = effects(runs, values, "min")
    assert (found.method, found.first[0]) == ("forest", "lr")
    assert found.value[0].share > 0.7 and max(effect.share for effect in found.value[1:]) < 0.1
    assert np.isnan(found.noise)


def test_nothing_to_tell():
    same = [{"lr": 0.1}] * 4
    assert effects(same, [1, 2, 3, 4], "min").value == ()
    assert effects([{"lr": 1}, {"lr": 2}], [None, None], "min").first == ()
    constant = effects([{"lr": place % 2} for place in range(6)], [5.0] * 6, "min")
    assert constant.value[0].share == 0 and constant.value[0].p == 1 and constant.noise == 0
    with pytest.raises(UsageError, match="1 settings, 2 values"):
        effects([{"lr": 1}], [1, 2], "min")


@pytest.mark.parametrize("draw", range(20))
def test_the_noise_is_what_a_fit_of_all_cells_and_seeds_leaves(draw):
    """numpy's least squares with a column for each cell and each seed, in grids with gaps."""
    random = np.random.default_rng(draw)
    runs = [(*place, seed) for place in np.ndindex(3, 2) for seed in range(4) if random.random() < 0.8]
    y = random.normal(size=len(runs)) + [place[0] + seed for *place, seed in runs]
    settings = [{"lr": one, "init": two} for one, two, _ in runs]
    cells, seeds = [run[:2] for run in runs], [run[2] for run in runs]
    columns = [[cell == one for cell in cells] for one in sorted(set(cells))]
    columns += [[seed == one for seed in seeds] for one in sorted(set(seeds))]
    design = np.array(columns, float).T
    fitted, _, rank, _ = np.linalg.lstsq(design, y)
    expected = np.sum((y - design @ fitted) ** 2) / (len(y) - rank) / np.var(y, ddof=1)
    assert effects(settings, list(y), "min", seeds).noise == pytest.approx(min(expected, 1), rel=1e-9)


def test_few_settings_that_are_no_grid_have_no_effects():
    """Which of three knobs mattered in four settings cannot be told by leaving one of them out."""
    settings = [
        ("step", 0.1, "none"),
        ("step", 0.5, "none"),
        ("constant", None, "l1"),
        ("cosine", None, "none"),
    ]
    runs = [dict(zip(("scheduler", "gamma", "regularizer"), one, strict=True)) for one in settings * 3]
    values = np.random.default_rng(0).normal(size=len(runs)).tolist()
    found = effects(runs, values, "min", [seed for seed in range(3) for _ in settings])
    assert found.value == found.failing == ()
