"""Means with Student's interval, against published examples."""

import math

import numpy as np
import pytest
from scipy import stats

from sweepwise.errors import UsageError
from sweepwise.results.statistics.estimate import mean_interval, skewed

# Extra hours of sleep of ten patients under two drugs, from Student (1908); R's `sleep`.
SLEEP_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SLEEP_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def test_students_own_example():
    """R: t.test(extra, subset = group == 1)$conf.int, and the mean and deviation in Student's table."""
    found = mean_interval(SLEEP_1)
    assert (found.mean, found.deviation) == (pytest.approx(0.75), pytest.approx(1.789010, abs=1e-6))
    assert (found.low, found.high) == (pytest.approx(-0.5297804, abs=1e-6), pytest.approx(2.029780, abs=1e-6))
    assert found.n == 10 and not found.constant and not found.skewed


@pytest.mark.parametrize("n", [2, 3, 7, 20])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_is_scipys(n, confidence):
    values = np.random.default_rng(n).normal(3, 2, n)
    found = mean_interval(values, confidence)
    want = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (found.low, found.high) == (pytest.approx(want.low, rel=1e-9), pytest.approx(want.high, rel=1e-9))


def test_one_replicate_says_nothing_about_others():
    found = mean_interval([0.5])
    assert (found.mean, found.low, found.high) == (0.5, -math.inf, math.inf)
    assert math.isnan(found.deviation) and not found.constant


@pytest.mark.parametrize("value", [0.1, 0.0, 1e-320, 1e308, -1e308])
def test_equal_replicates_have_an_interval_without_width(value):
    found = mean_interval([value] * 7)
    assert (found.mean, found.low, found.high, found.deviation) == (value, value, value, 0)
    assert found.constant


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e307])
def test_any_scale_is_as_good(scale):
    found = mean_interval([1.0 * scale, 2.0 * scale, 4.0 * scale])
    assert found.mean == pytest.approx(7 / 3 * scale, rel=1e-14)
    assert found.deviation == pytest.approx(math.sqrt(7 / 3) * scale, rel=1e-14)
    assert math.isfinite(found.high)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_no_value(bad):
    with pytest.raises(
        UsageError, match=r"values=.*: must be finite; a run without a finite value has failed"
    ):
        mean_interval([0.1, bad])


def test_nothing_has_no_mean_and_no_confidence_is_certain():
    with pytest.raises(UsageError, match="one value or more"):
        mean_interval([])
    for confidence in (0, 1, 95):
        with pytest.raises(UsageError, match="must be between 0 and 1"):
            mean_interval([1, 2], confidence)


def test_skewness_is_that_of_scipy_over_fishers_deviation():
    values = np.random.default_rng(0).exponential(size=9)
    z = abs(stats.skew(values)) / math.sqrt(6 * 7 / (10 * 12))
    assert skewed([values]) == (z > 2)
    assert skewed([(values - values.mean()) * 1e200]) == (z > 2)


def test_a_sweep_shows_skewness_that_one_setting_does_not():
    generator = np.random.default_rng(1)
    lognormal, normal = np.exp(generator.normal(size=(200, 12, 5))), generator.normal(size=(200, 12, 5))
    assert sum(map(skewed, lognormal)) >= 190
    assert sum(map(skewed, normal)) <= 20
    assert not skewed([[1, 1, 1], [1, 2], [5]])
