"""The test by which a race drops settings, against closed forms, scipy, and simulation."""

import numpy as np
import pytest
from scipy import special, stats

from sweepwise.errors import UsageError
from sweepwise.search import shrinkage
from sweepwise.search.elimination import look, looks, spent
from sweepwise.search.shrinkage import prior, variances


def test_the_looks_spend_alpha_and_no_more():
    assert spent(10**6) == pytest.approx(1) and spent(10**6) <= 1
    assert spent(0) == 0 and spent(20) == pytest.approx(0.8)
    assert looks(3, 3) == [3] and looks(5, 4) == [4] and looks(2, 7) == [2, 3, 4, 5, 6, 7]


def test_two_settings_are_a_paired_t_test():
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    b += a.mean() - b.mean() + 0.5
    found = look(np.array([b, a]), 6)
    assert found.best == 1 and found.p[0] == pytest.approx(stats.ttest_rel(b, a).pvalue) and found.p[1] == 1
    assert found.errors[0] == pytest.approx(stats.sem(b - a)) and found.df.tolist() == [8, 8]
    assert found.level == pytest.approx(0.03 * (81 / 181 - 36 / 136))


def test_the_variance_of_a_setting_lacks_what_a_seed_adds_to_all():
    g = np.random.default_rng(0)
    own = np.array([1.0, 2.0, 3.0, 0.5] * 5)
    values = g.normal(size=(20, 4000)) * own[:, None] + 50 * g.normal(size=4000)
    assert variances(values) == pytest.approx(own**2 * 18 / 19 + (own**2).mean() / 19, rel=0.1)


def test_the_prior_is_that_of_scaled_inverse_chi_squares():
    """Variances drawn as the source's model draws them: 1 / v ~ chi2(d0) / (d0 s0)."""
    g = np.random.default_rng(0)
    true = 8 * 2.5 / g.chisquare(8, size=20000)
    df = np.full(20000, 4.0)
    found, worth = prior(true * g.chisquare(4, size=20000) / 4, df)
    assert found == pytest.approx(2.5, rel=0.03) and worth == pytest.approx(8, rel=0.1)


def test_equal_variances_are_worth_as_many_degrees_of_freedom_as_there_are_others():
    g = np.random.default_rng(1)
    found, worth = prior(np.full(10, 3.0) * (1 + 0.01 * g.normal(size=10)), np.full(10, 2.0))
    assert worth == 9
    bias = special.digamma(1) - np.log(1)  # of the mean of the logarithm with 2 df
    assert found == pytest.approx(3 * np.exp(-bias), rel=0.02)


def test_few_variances_agree_on_nothing():
    assert prior(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0))[1] == 0


@pytest.mark.parametrize("value", [1e-8, 1e-3, 0.3, 1.0, 20.0, 1e9])
def test_the_inverse_of_trigamma(value):
    assert special.polygamma(1, shrinkage._trigamma_inverse(value)) == pytest.approx(value, rel=1e-5)


def test_a_setting_that_varies_as_no_other_is_taken_alone():
    g = np.random.default_rng(2)
    values = g.normal(size=(12, 5))
    values[3] = 200 + 40 * values[3]
    found = look(values, 0)
    assert found.df[3] == 4 and (np.delete(found.df, 3) > 4).all()
    assert found.errors[3] >= np.std(values[3] - values[found.best], ddof=1) / np.sqrt(5) * (1 - 1e-9)


def test_results_that_are_equal_to_the_bit_are_never_apart():
    values = np.tile(np.arange(4.0), (3, 1))
    found = look(values, 0)
    assert not found.dropped.any() and found.equivalent(None)
    assert look(values + np.array([[0.0], [0.0], [1.0]]), 0).dropped.tolist() == [False, False, True]


def test_equivalent_is_what_a_one_sided_bound_leaves():
    values = np.random.default_rng(3).normal(size=(2, 30))
    found = look(values, 20)
    other = 1 - found.best
    d = values[other] - values[found.best]
    bound = stats.ttest_rel(values[other], values[found.best]).confidence_interval(1 - found.level).high
    assert found.equivalent(bound * 1.001) and not found.equivalent(bound * 0.999) and d.mean() >= 0


def test_the_last_that_is_left_is_equivalent_to_itself():
    found = look(np.array([[0.0, 0.1, 0.2], [9.0, 9.2, 9.1]]), 0).left()
    assert len(found.behind) == 1 and found.best == 0 and found.equivalent(None)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_what_cannot_be_compared_is_refused(shape):
    with pytest.raises(UsageError, match="at least two settings and two seeds"):
        look(np.zeros(shape), 0)
