"""Differences of two settings: paired by replicate or Welch's, against published examples and scipy."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from test_results_estimate import SLEEP_1, SLEEP_2

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import difference, paired, resolution, satterthwaite, welch


def test_students_pairs():
    """R's documentation of t.test: t = -4.0621, df = 9, p = 0.002833, interval [-2.4598858, -0.7001142]."""
    found = paired(SLEEP_1, SLEEP_2)
    assert (found.mean, found.df, found.how) == (pytest.approx(-1.58), 9, "paired")
    assert found.t == pytest.approx(4.0621, abs=1e-4)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert (found.low, found.high) == (
        pytest.approx(-2.4598858, abs=1e-7),
        pytest.approx(-0.7001142, abs=1e-7),
    )
    assert found.correlation == pytest.approx(stats.pearsonr(SLEEP_1, SLEEP_2)[0], abs=1e-12)


def test_welchs_on_students_data():
    """R's documentation: t = -1.8608, df = 17.776, p = 0.07939, interval [-3.3654832, 0.2054832]."""
    found = welch(SLEEP_1, SLEEP_2)
    assert (found.t, found.df) == (pytest.approx(1.8608, abs=1e-4), pytest.approx(17.776, abs=1e-3))
    assert found.p == pytest.approx(0.07939, abs=1e-5)
    assert (found.low, found.high) == (
        pytest.approx(-3.3654832, abs=1e-7),
        pytest.approx(0.2054832, abs=1e-7),
    )
    assert found.correlation is None and found.gain is None


def test_the_gain_is_the_ratio_of_both_widths():
    pairs, apart = paired(SLEEP_1, SLEEP_2), welch(SLEEP_1, SLEEP_2)
    assert pairs.gain == pytest.approx((pairs.high - pairs.low) / (apart.high - apart.low), rel=1e-12)
    assert pairs.gain < 0.5  # r = 0.8: sqrt(1 - r) of the width, but for the degrees of freedom


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (3, 8), (20, 2)])
def test_welch_is_scipys(n_a, n_b):
    generator = np.random.default_rng(n_a)
    a, b = generator.normal(0, 1, n_a), generator.normal(1, 5, n_b)
    found, want = welch(a, b, 0.9), stats.ttest_ind(a, b, equal_var=False)
    assert (found.p, found.df) == (pytest.approx(want.pvalue, rel=1e-9), pytest.approx(want.df, rel=1e-9))
    low, high = want.confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))


def test_the_design_chooses():
    a, b = dict(enumerate(SLEEP_1)), dict(enumerate(SLEEP_2))
    assert difference(a, b) == paired(SLEEP_1, SLEEP_2)
    shuffled = dict(reversed(b.items()))
    assert difference(a, shuffled).p == pytest.approx(paired(SLEEP_1, SLEEP_2).p)
    others = {key + 100: value for key, value in b.items()}
    assert difference(a, others) == welch(SLEEP_1, SLEEP_2)
    del b[3]
    missing = difference(a, b)
    assert (missing.how, missing.n_a, missing.left_out) == ("paired", 9, 1)
    one_shared = {0: SLEEP_2[0], **{key + 100: value for key, value in b.items()}}
    assert difference(a, one_shared).how == "welch"


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0], [2.0, 3.0]), ([1.0, 2.0], [5.0])])
def test_too_few_replicates_have_no_interval(a, b):
    found = welch(a, b)
    assert (found.low, found.high, found.p, found.df) == (-math.inf, math.inf, 1, 0)


def test_constant_columns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = paired([2, 2, 2], [2, 2, 2])
        assert (same.mean, same.p, same.low, same.high, same.exact) == (0, 1, 0, 0, True)
        sure = paired([3, 3, 3], [2, 2, 2])
        assert (sure.mean, sure.p, sure.low, sure.high, sure.exact) == (1, 0, 1, 1, True)
        shifted = paired([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])  # equal but for rounding
        assert shifted.exact and shifted.mean == pytest.approx(-0.3) and shifted.p == 0
        assert shifted.correlation is None and shifted.gain is None
        rounded = paired([0.1 + 0.2, 0.7], [0.3, 0.1 * 7])
        assert (rounded.mean, rounded.p) == (0, 1)
        apart = welch([3, 3, 3], [2, 2])
        assert (apart.mean, apart.p, apart.exact, apart.df) == (1, 0, True, 3)
        one = welch([3, 3, 3], [2, 4])
        assert not one.exact and (one.mean, one.df, one.p) == (0, 1, 1)
        one_paired = paired([3, 3, 3], [2, 4, 3.5])
        assert not one_paired.exact and one_paired.correlation is None
        in_steps = paired([0.9, 0.9, 0.9], [0.9, 0.9, 0.9], resolution=0.02)  # of an accuracy of 50 examples
        assert not in_steps.exact and in_steps.correlation is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_faults_are_named(bad):
    with pytest.raises(UsageError, match=r"b=(nan|inf): must be finite"):
        welch([1, 2], [1, bad])
    with pytest.raises(UsageError, match="2 and 3 values: pairs need the same number"):
        paired([1, 2], [1, 2, 3])


def test_huge_values_do_not_overflow():
    found = welch([1e300, 2e300, 3e300], [1e-300, 2e-300, 3e-300])
    assert found.p == pytest.approx(stats.ttest_ind([1, 2, 3], [0, 0, 0], equal_var=False).pvalue)
    assert satterthwaite(1e300, 1e-300, 3, 5) == pytest.approx(2)


def test_resolution_is_the_step_of_a_share():
    shares = np.random.default_rng(0).binomial(360, 0.95, size=40) / 360
    assert resolution(shares) == pytest.approx(1 / 360)
    assert resolution(np.float32(shares)) == pytest.approx(1 / 360, rel=1e-4)
    assert resolution(np.random.default_rng(0).normal(size=40)) == 0
    assert resolution([]) == resolution([0.5]) == resolution([0.5, 0.5]) == 0


def test_equal_shares_are_not_taken_for_certain():
    """Three pairs one example apart: the deviation is that of rounding, step / sqrt(6) (Sheppard)."""
    a, b = [0.95, 0.96, 0.95], [0.94, 0.95, 0.94]
    assert paired(a, b).exact
    found = paired(a, b, resolution=0.01)
    assert not found.exact
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(6) / math.sqrt(3))
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(18), 2))
    assert welch([0.95] * 3, [0.94] * 3, resolution=0.01).standard_error == pytest.approx(
        0.01 / math.sqrt(12) * math.sqrt(2 / 3)
    )
