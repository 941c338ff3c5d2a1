"""Many comparisons: Holm by its definition, the price of choosing the best by independent integrals."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import difference
from sweepwise.results.statistics.multiple import against_best, family, holm
from sweepwise.results.statistics.selection import bests_level, bests_p, chosen_level, chosen_p

# Blood counts of three groups of animals, Dunnett (1955), table 1: he finds B above the control, and A not.
CONTROL = (7.40, 8.50, 7.20, 8.24, 9.84, 8.32)
DRUG_A = (9.76, 8.80, 7.68, 9.36)
DRUG_B = (12.80, 9.68, 12.16, 9.20, 10.55)


def named(**columns):
    """Groups that share no replicates."""
    return {
        name: {f"{name}-{place}": value for place, value in enumerate(row)} for name, row in columns.items()
    }


def closed_bonferroni(p):
    """Holm's p values by the closure of Bonferroni tests: the largest of all sets with the hypothesis."""
    sets = [each for size in range(1, len(p) + 1) for each in combinations(range(len(p)), size)]
    return [
        max(min(1, len(each) * min(p[i] for i in each)) for each in sets if one in each)
        for one in range(len(p))
    ]


def test_holm_is_the_closure_of_bonferroni():
    generator = np.random.default_rng(0)
    for size in (1, 2, 3, 5):
        p = np.round(generator.uniform(0, 0.3, size), 2)
        assert holm(p) == pytest.approx(closed_bonferroni(p))


def test_holm_takes_many_families():
    """R: p.adjust(c(.01, .02, .03, .04, .05), 'holm') is .05 .08 .09 .09 .09."""
    p = np.array([[0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.04, 0.03, 0.02, 0.01]])
    want = [0.05, 0.08, 0.09, 0.09, 0.09]
    assert holm(p) == pytest.approx(np.array([want, want[::-1]]))


def test_dunnetts_example_has_his_conclusions():
    pairs = [("a", "control"), ("b", "control")]
    a, b = family(named(control=CONTROL, a=DRUG_A, b=DRUG_B), pairs).values()
    assert a.adjusted > 0.05 > b.adjusted
    assert a.low < 0 < a.high and b.low > 0
    assert b.p == pytest.approx(stats.ttest_ind(DRUG_B, CONTROL, equal_var=False).pvalue)
    assert family(named(a=DRUG_A), []) == {}


def test_intervals_agree_with_the_decisions():
    generator = np.random.default_rng(3)
    for _ in range(50):
        groups = {name: dict(enumerate(generator.normal(3 * name, 1, 5))) for name in range(5)}
        for found in family(groups, list(combinations(groups, 2))).values():
            assert (found.adjusted <= 0.05) == (found.low >= 0 or found.high <= 0)
            assert found.level == pytest.approx(0.05 / 10)
        answer = against_best(groups, "max")
        for found in answer.differences.values():
            assert (found.adjusted <= 0.05) == (found.low > 0 or found.high < 0)


def test_two_settings_have_one_comparison():
    """Nothing is paid for choosing the better of two: the two-sided test has both directions already."""
    groups = {"a": {0: 1.0, 1: 1.3, 2: 1.1}, "b": {0: 2.0, 1: 2.0, 2: 2.4}}
    alone = difference(groups["a"], groups["b"])
    for found in (family(groups, [("a", "b")])["a", "b"], against_best(groups, "min").differences["b"]):
        assert found.adjusted == pytest.approx(alone.p, rel=1e-6)
        assert (found.low, found.high) == (
            pytest.approx(alone.low, rel=1e-6),
            pytest.approx(alone.high, rel=1e-6),
        )


def three_means(c):
    """Expected number, of three normals, that lie c (any shape) below the largest: by order statistics."""
    x = np.linspace(-9, 9, 301)
    density, c = stats.norm.pdf(x), np.asarray(c)[..., None]
    both = 3 * np.trapezoid(density * stats.norm.cdf(x - c) ** 2, x)
    return both + 1 - 3 * np.trapezoid(density * (stats.norm.cdf(x) - stats.norm.cdf(x - c)) ** 2, x)


@pytest.mark.parametrize("df", [2, 9, 200])
def test_the_price_of_choice_among_three_is_that_of_order_statistics(df):
    assert three_means(3.0) > stats.studentized_range.sf(3.0, 3, np.inf) > three_means(3.0) / 2
    s = np.linspace(1e-6, 5, 1001)  # the standard error over its true value
    for t in (1.0, 2.5, 4.0):
        of_s = stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df)
        want = np.trapezoid(of_s * three_means(t * s * math.sqrt(2)), s)
        assert chosen_p(t, df, 3) == pytest.approx(min(want, 1), rel=1e-4)


@pytest.mark.parametrize("df", [1, 2, 4.5, 19, 200])
def test_the_price_of_choice_is_students_for_two(df):
    t = np.array([0.5, 2.0, 20.0])
    assert chosen_p(t, df, 2) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-5)


@pytest.mark.parametrize("settings", [3, 10, 32, 1000])
def test_the_price_of_choice_lies_between_one_control_and_all_pairs(settings):
    for df in (2, 4, 19, 200):
        level = float(chosen_level(df, settings, 0.05))
        assert 0.05 / (settings * (settings - 1) / 2) < level < 0.05 / (settings - 1)
        assert chosen_p(stats.t.isf(level / 2, df), df, settings) == pytest.approx(0.05, rel=1e-5)


@pytest.mark.parametrize(("settings", "q"), [(3, 3.31), (5, 3.86), (10, 4.47), (20, 5.01)])
def test_the_price_of_choice_covers_tukeys_range(settings, q):
    """Pearson and Hartley's table of the studentized range, 5 %, infinite degrees of freedom."""
    assert 0.05 <= chosen_p(q / math.sqrt(2), 1e9, settings) <= 0.095


def test_the_best_and_what_is_said_of_it():
    groups = {"a": {0: 1.0, 1: 1.1, 2: 1.2}, "b": {0: 5.0, 1: 5.2, 2: 5.1}, "c": {0: 1.1, 1: 1.0, 2: 1.3}}
    low, high = against_best(groups, "min"), against_best(groups, "max")
    assert (low.best, high.best) == ("a", "b")
    assert low.differences["b"].adjusted < 0.05 < low.differences["c"].adjusted
    assert high.differences["a"].mean == -low.differences["b"].mean
    assert list(low.differences) == ["b", "c"]


def test_a_single_run_is_not_the_best_of_settings_with_several():
    groups = {"lucky": {0: 0.99}, "a": {0: 0.9, 1: 0.92}, "b": {0: 0.8, 1: 0.83}}
    answer = against_best(groups, "max")
    assert answer.best == "a"
    assert answer.differences["lucky"].adjusted == 1 and answer.differences["lucky"].high == math.inf
    assert against_best({"a": {0: 1.0}, "b": {0: 2.0}}, "min").differences["b"].adjusted == 1


def test_exact_differences():
    """Seeds that change nothing: what differs is sure, what does not is equal."""
    groups = {
        "a": dict.fromkeys(range(3), 0.5),
        "b": dict.fromkeys(range(3), 0.7),
        "c": dict.fromkeys(range(3), 0.5),
    }
    groups["d"] = dict.fromkeys(range(3), 0.61803)
    answer = against_best(groups, "min")
    assert [answer.differences[name].adjusted for name in "bcd"] == [0, 1, 0]
    assert family(groups, list(combinations(groups, 2)))["a", "c"].adjusted == 1


def test_a_comparison_needs_two():
    with pytest.raises(UsageError, match="a comparison needs two or more"):
        against_best({"a": {0: 1.0}}, "min")


@pytest.mark.parametrize("settings", [2, 9])
@pytest.mark.parametrize("df", [4, 200])
def test_the_price_of_a_best_against_one_is_that_of_the_largest_of_normals(settings, df):
    """P(largest of m - another normal > c), over a standard error with df: quadrature by scipy."""
    s = np.linspace(1e-6, 5, 801)
    x = np.linspace(-9, 9, 301)
    for t in (1.0, 3.0):
        beyond = 1 - stats.norm.cdf(x[:, None] + t * math.sqrt(2) * s) ** settings
        of_c = np.trapezoid(stats.norm.pdf(x)[:, None] * beyond, x, axis=0)
        largest = np.trapezoid(stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df) * of_c, s)
        assert bests_p(t, df, settings, 1) == pytest.approx(largest + stats.t.sf(t, df), rel=1e-3)
    level = float(bests_level(df, settings, 1, 0.05))
    assert bests_p(stats.t.isf(level / 2, df), df, settings, 1) == pytest.approx(0.05, rel=1e-5)


def test_a_pair_that_was_chosen_pays_for_it_and_its_interval_agrees():
    generator = np.random.default_rng(0)
    for _ in range(50):
        groups = {name: dict(enumerate(generator.normal(size=6))) for name in "ab"}
        groups["b"] = {seed: value + 1 for seed, value in groups["b"].items()}
        alone = difference(groups["a"], groups["b"])
        (pair,) = family(groups, [("a", "b")], 0.95, [(9, 2)]).values()
        assert pair.adjusted == pytest.approx(float(bests_p(alone.t, alone.df, 9, 2)))
        assert (pair.adjusted <= 0.05) == (pair.low >= 0 or pair.high <= 0)
        (pair,) = family(groups, [("a", "b")], 0.95, [(1, 1)]).values()
        assert (pair.adjusted, pair.low, pair.high) == (alone.p, alone.low, alone.high)
