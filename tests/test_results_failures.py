"""Runs without a value: they count, and never make a setting look good."""

import numpy as np
import pytest
from scipy import stats

from sweepwise.errors import UsageError
from sweepwise.results.statistics.difference import difference
from sweepwise.results.statistics.failures import Group, fisher, with_failures
from sweepwise.results.statistics.verdict import judge

GOOD = {0: 0.90, 1: 0.91, 2: 0.92, 3: 0.90}
BAD = {0: 0.80, 1: 0.81, 2: 0.815, 3: 0.80}


def said(a, b, mode="max"):
    return with_failures(judge(difference(a.values, b.values)), a, b, mode)


@pytest.mark.parametrize("table", [(5, 5, 0, 5), (3, 3, 0, 9), (1, 9, 11, 14), (0, 4, 0, 7), (2, 10, 15, 17)])
def test_fisher_is_scipys(table):
    failed_a, n_a, failed_b, n_b = table
    want = stats.fisher_exact([[failed_a, n_a - failed_a], [failed_b, n_b - failed_b]]).pvalue
    assert fisher(*table) == pytest.approx(want)
    with pytest.raises(UsageError, match="must be between 0 and the runs"):
        fisher(6, 5, 0, 5)


def test_fishers_tea():
    """Fisher, The Design of Experiments (1935): all eight cups right, 1 of 70 one-sided."""
    assert fisher(0, 4, 4, 4) == pytest.approx(2 / 70)
    assert fisher(0, 0, 0, 0) == 1


def test_survivors_alone_are_not_better():
    plain = said(Group(GOOD), Group(BAD))
    assert (plain.kind, plain.by, plain.direction("max")) == ("better", "value", "a")
    luck = said(Group(GOOD, failed=2), Group(BAD))
    assert (luck.kind, luck.by, luck.direction("max")) == ("undecided", "failures", None)
    reliable = said(Group(GOOD), Group(BAD, failed=2))
    assert (reliable.kind, reliable.direction("max")) == ("better", "a")
    equally = said(Group(GOOD, failed=2), Group(BAD, failed=2))
    assert (equally.kind, equally.by) == ("better", "value")


def test_sure_failures_decide():
    found = said(Group(GOOD, failed=30), Group({**BAD, 4: 0.8, 5: 0.8}))
    assert (found.kind, found.by, found.direction("max"), found.needed) == ("better", "failures", "b", None)
    assert found.direction("min") == "b"


def test_equivalent_values_with_other_failures_are_undecided():
    same = {seed: 0.9 + 0.001 * (seed % 3) for seed in range(9)}
    assert (
        with_failures(judge(difference(same, same), 0.1), Group(same), Group(same), "max").kind
        == "equivalent"
    )
    found = with_failures(judge(difference(same, same), 0.1), Group(same, failed=1), Group(same), "max")
    assert (found.kind, found.by) == ("undecided", "failures")


@pytest.mark.slow
@pytest.mark.parametrize(("n", "share"), [(5, 0.1), (20, 0.4)])
def test_failing_by_chance_makes_no_setting_better(n, share):
    """4,000 pairs of equal settings, of which a share of the runs fails."""
    generator = np.random.default_rng(n)
    false = 0
    for failed, values in zip(
        generator.random((4000, 2, n)) < share, generator.normal(size=(4000, 2, n)), strict=True
    ):
        a, b = (
            Group(
                {seed: float(values[side, seed]) for seed in range(n) if not failed[side, seed]},
                int(failed[side].sum()),
            )
            for side in (0, 1)
        )
        if a.values and b.values:
            false += said(a, b).kind == "better"
    print(n, share, false)
    assert false <= 227  # 5 % and two standard deviations of the count
