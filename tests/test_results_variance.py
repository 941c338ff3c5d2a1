"""Sources of variance: published data, closed forms, and planted values."""

import itertools

import numpy as np
import pytest

from sweepwise.errors import UsageError
from sweepwise.results.statistics.variance import components, split_standard_error

# Yields of dyestuff of six batches, Davies and Goldsmith (1972); lme4: 1764.05 for batches, 2451.25 within.
DYESTUFF = (
    (1545, 1440, 1440, 1520, 1580),
    (1540, 1555, 1490, 1560, 1495),
    (1595, 1550, 1605, 1510, 1560),
    (1445, 1440, 1595, 1465, 1545),
    (1595, 1630, 1515, 1635, 1625),
    (1520, 1455, 1450, 1480, 1445),
)


def test_dyestuff():
    batches = [batch for batch in range(6) for _ in range(5)]
    found = components(np.ravel(DYESTUFF), {"batch": batches})
    assert found.variances == {
        "batch": pytest.approx(1764.05, abs=0.01),
        "rest": pytest.approx(2451.25, abs=0.01),
    }
    assert found.shares["batch"] == pytest.approx(1764.05 / (1764.05 + 2451.25))
    assert found.levels == {"batch": 6}


def test_a_full_grid_is_the_analysis_of_variance():
    """Expected mean squares of two crossed random effects, a levels by b levels, one run each."""
    generator = np.random.default_rng(0)
    table = (
        generator.normal(size=(6, 1)) * 2 + generator.normal(size=(1, 5)) * 3 + generator.normal(size=(6, 5))
    )
    rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    within = np.sum((table - rows - columns + table.mean()) ** 2) / 20
    of_rows, of_columns = 5 * np.var(rows, ddof=1), 6 * np.var(columns, ddof=1)
    split, init = zip(*itertools.product(range(6), range(5)), strict=True)
    found = components(table.ravel(), {"split": split, "init": init}).variances
    assert found["rest"] == pytest.approx(within, rel=1e-4)
    assert found["split"] == pytest.approx((of_rows - within) / 5, rel=1e-4)
    assert found["init"] == pytest.approx((of_columns - within) / 6, rel=1e-4)


def test_means_of_settings_are_no_variance():
    generator = np.random.default_rng(1)
    seeds = list(range(5)) * 4
    settings = [name for name in "abcd" for _ in range(5)]
    values = generator.normal(size=5)[seeds] + 0.1 * generator.normal(size=20)
    shifted = values + np.array([{"a": 0, "b": 10, "c": -30, "d": 7}[name] for name in settings])
    plain = components(values, {"seed": seeds}, settings).variances
    assert components(shifted, {"seed": seeds}, settings).variances == pytest.approx(plain, rel=1e-6)
    assert components(shifted, {"seed": seeds}).shares["rest"] > 0.9


def test_what_did_not_vary_and_what_varied_together_is_named():
    found = components([1, 2, 4, 8], {"split": [7, 7, 7, 7], "init": [0, 1, 2, 3], "order": "abcd"})
    assert found.not_varied == ("split",)
    assert found.variances == {"init + order": pytest.approx(np.var([1, 2, 4, 8], ddof=1))}
    assert components([1.0, 2.0], {"split": [0, 0]}).variances == {"rest": pytest.approx(0.5)}
    assert components([5.0, 5.0], {"init": [0, 1]}).shares == {"init": 0}
    assert components([5.0], {"init": [0]}).variances == {}


def test_one_source_at_a_time_has_no_rest():
    base = {"split": 0, "init": 0, "order": 0}
    runs = [base, *({**base, name: level} for name in base for level in range(1, 6))]
    values = np.random.default_rng(0).normal(size=len(runs))
    found = components(values, {name: [run[name] for run in runs] for name in base})
    assert list(found.variances) == ["split", "init", "order"]


def test_scale_is_of_no_matter():
    batches = [batch for batch in range(6) for _ in range(5)]
    tiny = components(np.ravel(DYESTUFF) * 1e-120, {"batch": batches})
    assert tiny.variances["batch"] == pytest.approx(1764.05e-240, rel=1e-4)


def test_faults_are_named():
    with pytest.raises(UsageError, match="init: must have a level for each of the 2 runs"):
        components([1, 2], {"init": [0]})
    with pytest.raises(UsageError, match="not be called 'rest'"):
        components([1, 2], {"rest": [0, 1]})


def test_split_standard_error_is_binomial():
    shares = np.random.default_rng(0).binomial(200, 0.9, size=20_000) / 200
    assert split_standard_error(0.9, 200) == pytest.approx(shares.std(), rel=0.02)
    assert split_standard_error(1.0, 5) == 0
    with pytest.raises(UsageError, match=r"share=1\.5"):
        split_standard_error(1.5, 10)
