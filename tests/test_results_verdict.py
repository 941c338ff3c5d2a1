"""Verdicts, and the replicates that would settle one: Cohen's tables and scipy."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from test_results_estimate import SLEEP_1, SLEEP_2

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import difference, paired, welch
from sweepwise.results.statistics.multiple import family
from sweepwise.results.statistics.verdict import MOST, default_margin, judge, seeds_needed


def test_better_where_the_interval_leaves_0_out():
    verdict = judge(paired(SLEEP_1, SLEEP_2))
    assert (verdict.kind, verdict.needed) == ("better", None)
    assert (verdict.direction("min"), verdict.direction("max")) == ("a", "b")
    assert judge(welch(SLEEP_1, SLEEP_2)).kind == "undecided"
    assert judge(welch(SLEEP_1, SLEEP_2)).direction("min") is None


def test_equivalent_by_two_one_sided_tests():
    """TOST at 5 % is the 90 % interval within the margin; scipy's one-sided tests say the same."""
    generator = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        a, b = generator.normal(0, 1, 30), generator.normal(0.1, 1, 30)
        found = welch(a, b)
        above = stats.ttest_ind(a, b - 0.6, equal_var=False, alternative="greater").pvalue
        below = stats.ttest_ind(a, b + 0.6, equal_var=False, alternative="less").pvalue
        verdict = judge(found, 0.6)
        assert verdict.within_margin == (max(above, below) < 0.05)
        assert verdict.kind == (
            "better" if found.p <= 0.05 else "equivalent" if verdict.within_margin else "undecided"
        )
        kinds.add(verdict.kind)
    assert kinds == {"better", "equivalent", "undecided"}


def test_a_family_makes_equivalence_harder_too():
    generator = np.random.default_rng(1)
    groups = {name: {f"{name}-{seed}": generator.normal() for seed in range(40)} for name in range(8)}
    pairs = family(groups, list(combinations(groups, 2)))
    narrow = next(pair for pair in pairs.values() if abs(pair.mean) < 0.1)
    half = stats.t.isf(narrow.level, narrow.df) * narrow.standard_error
    assert narrow.level == pytest.approx(0.05 / 28)
    assert judge(narrow, abs(narrow.mean) + half * 1.001).kind == "equivalent"
    assert judge(narrow, abs(narrow.mean) + half * 0.999).kind == "undecided"


def test_the_default_margin_is_three_wins_of_four():
    """P(A > B) of two normals that lie so far apart."""
    margin = default_margin(welch(SLEEP_1, SLEEP_2))
    spread = math.sqrt(np.var(SLEEP_1, ddof=1) + np.var(SLEEP_2, ddof=1))
    assert stats.norm.cdf(margin.value / spread) == pytest.approx(0.75)
    assert "3 of 4" in margin.rule
    assert judge(welch(SLEEP_1, SLEEP_2), 0.3).margin.rule == "given"


@pytest.mark.parametrize(
    ("effect", "apart", "pairs"), [(0.2, 394, 199), (0.5, 64, 34), (0.8, 26, 15), (1.5, 9, 6)]
)
def test_cohens_tables_of_sample_sizes(effect, apart, pairs):
    """Cohen (1988), tables 2.4.1, two-sided 5 %, power 80 %; pairs and 1.5: statsmodels 0.15, solve_power."""
    assert seeds_needed(effect, 1, 10, paired=False).n == apart
    assert seeds_needed(3 * effect, 3, 10, paired=True).n == pairs


def test_a_stricter_level_needs_more():
    """statsmodels 0.15, TTestIndPower().solve_power(0.8, power=0.8, alpha=0.001): 56.09."""
    assert seeds_needed(-0.8, 1, 10, paired=False, level=0.001).n == 57


def test_the_range_is_that_of_the_deviation():
    needed = seeds_needed(1.0, 1.0, 9, paired=True)
    low, high = np.sqrt(9 / stats.chi2.ppf([0.975, 0.025], 9))
    assert needed.low == seeds_needed(1.0, low, 9, paired=True).n < needed.n
    assert needed.high == seeds_needed(1.0, high, 9, paired=True).n > needed.n


@pytest.mark.parametrize("effect", [1e-300, 1e-9, 1e300])
def test_any_effect_has_an_answer(effect):
    assert seeds_needed(effect, 1.0, 1, paired=False).n == (MOST + 1 if effect < 1 else 2)


def test_undecided_names_the_replicates_for_what_was_seen_or_for_the_margin():
    seen = judge(welch(SLEEP_1, SLEEP_2), 0.1)
    assert seen.needed.n == seeds_needed(seen.difference.mean, seen.difference.deviation, 17, paired=False).n
    small = judge(welch(SLEEP_1, SLEEP_2), 3.0)
    assert small.needed.n == seeds_needed(3.0, small.difference.deviation, 17, paired=False).n
    pair = paired(SLEEP_1[:3], SLEEP_2[:3])
    assert pair.deviation == pytest.approx(np.std(np.subtract(SLEEP_1[:3], SLEEP_2[:3]), ddof=1))


def test_one_replicate_decides_nothing_and_says_so():
    verdict = judge(difference({0: 1.0}, {0: 5.0}))
    assert (verdict.kind, verdict.needed) == ("undecided", None)
    assert math.isnan(verdict.margin.value)


def test_exact_differences_are_decided():
    assert judge(paired([1, 1], [2, 2])).kind == "better"
    assert judge(paired([1, 1], [2, 2]), 5).within_margin
    same = judge(paired([1, 1], [1, 1]), 0.1)
    assert (same.kind, same.needed) == ("equivalent", None)
    assert judge(paired([1, 2], [1, 2])).kind == "equivalent"


@pytest.mark.parametrize("margin", [0, -1, math.inf, math.nan])
def test_a_margin_is_a_positive_number(margin):
    with pytest.raises(UsageError, match=r"margin=.*: must be more than 0 and finite"):
        judge(paired(SLEEP_1, SLEEP_2), margin)


def test_the_range_of_seeds_is_in_order_at_any_level():
    """Far out in its tail scipy's noncentral t is nan."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        level, effect, df = (
            10 ** generator.uniform(-12, -1),
            10 ** generator.uniform(-2, 3),
            generator.integers(1, 20),
        )
        needed = seeds_needed(effect, 1, int(df), paired=bool(generator.integers(2)), level=level)
        assert 2 <= needed.low <= needed.n <= needed.high
