"""Whom a rule of early stopping harms: shares by another library, and losses that are rare and large."""

import itertools

import numpy as np
import pytest
from logged_runs import Logged
from scipy.stats import binomtest, ttest_ind

from sweepwise.errors import UsageError
from sweepwise.results.replay.early_stopping import replay
from sweepwise.results.replay.losing import losing, seeds_needed
from sweepwise.results.replay.over_settings import layout, over_settings
from sweepwise.results.statistics.share import largest_share


@pytest.mark.parametrize(("seen", "n"), [(0, 1), (0, 59), (1, 20), (7, 9), (9, 9)])
@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_the_largest_share_is_clopper_and_pearsons(seen, n, level):
    expected = binomtest(seen, n, alternative="less").proportion_ci(1 - level, method="exact").high
    assert largest_share(seen, n, level) == pytest.approx(expected)


def test_a_share_of_nothing_may_be_all_and_bad_numbers_are_refused():
    assert largest_share(0, 0, 0.05) == 1
    for seen, n, level in ((2, 1, 0.05), (-1, 1, 0.05), (0, 1, 0.0), (0, 1, 1.0)):
        with pytest.raises(UsageError, match="must be 0 <= seen <= n"):
            largest_share(seen, n, level)


@pytest.mark.parametrize(("rare", "level"), [(0.05, 0.05), (0.05, 0.0125), (0.5, 0.05), (0.1, 0.025)])
def test_the_seeds_that_are_needed_are_the_fewest_that_suffice(rare, level):
    needed = seeds_needed(rare, level)
    assert largest_share(0, needed, level) <= rare < largest_share(0, needed - 1, level)


def test_a_seed_counts_once_however_many_settings_share_it():
    names = [((a,), (seed,)) for a in range(20) for seed in range(3)]
    shared = losing(np.zeros(60), 0.1, layout(*zip(*names, strict=True)), 0.05)
    assert (shared.of, shared.everywhere) == (3, True) and shared.bound == largest_share(0, 3, 0.05)
    own = losing(np.zeros(60), 0.1, layout([a for a, _ in names], [(n,) for n in range(60)]), 0.05)
    assert (own.of, own.everywhere) == (60, False) and own.bound == largest_share(0, 60, 0.05)
    splits = layout([()] * 60, [(split, seed) for split in range(3) for seed in range(20)])
    crossed = losing(np.zeros(60), 0.1, splits, 0.05)  # of splits times seeds what there are fewer of
    assert (crossed.of, crossed.bound) == (3, largest_share(0, 3, 0.05))
    lost = np.zeros(60)
    lost[[0, 3]], lost[5], lost[7] = 0.2, np.nan, 0.05  # seed 0 at two settings
    some = losing(lost, 0.1, layout(*zip(*names, strict=True)), 0.05)
    assert (some.runs, some.seeds, some.of, some.everywhere) == (2, 1, 3, False)


def test_settings_with_seeds_of_their_own_are_as_sure_as_welchs_test():
    """The mean of two settings, a and b, is half of the difference between a and -b."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=4), 3 * generator.normal(size=7)
    mean, _ = over_settings([*a, *b], layout([("a",)] * 4 + [("b",)] * 7, [(n,) for n in range(11)]))
    welch = ttest_ind(a, -b, equal_var=False)
    ends = welch.confidence_interval(0.95)
    assert mean.df == pytest.approx(welch.df)
    assert (2 * mean.low, 2 * mean.high) == pytest.approx((ends.low, ends.high))


def test_settings_that_are_tied_by_a_third_count_as_one_group():
    """a and b share no seed, but both share some with c."""
    seeds = {"a": (0, 1), "b": (2, 3), "c": (0, 1, 2, 3)}
    names = [((key,), (seed,)) for key, found in seeds.items() for seed in found]
    mean, _ = over_settings(np.arange(8.0) ** 2, layout(*zip(*names, strict=True)))
    assert mean.df == pytest.approx(3 / (1 / 2 + 1 / 2 + 1 / 4) - 1)


# --- losses that are nothing in most runs, and much in a few


def sweep(generator, share, loss, seeds, settings=1, alike=False):
    """Runs at their floor at epoch 1; after a plateau some go down by `loss`, which a rule then loses."""
    runs = Logged()
    fate = generator.random((settings, seeds)) < share
    for a, seed in itertools.product(range(settings), range(seeds)):
        floor = 1.0 + 0.05 * generator.normal() + 0.3 * a
        last = floor - loss if fate[0 if alike else a, seed] else floor + 0.5
        runs.add(a, seed, val_loss=[floor + 2, floor, *[floor + 0.5] * 10, last, *[floor + 0.5] * 7])
    return runs


def recommends(runs):
    return replay(runs.table(), patiences=[2, 4, 8], margin=0.1, reader=runs.read).recommended is not None


def test_many_seeds_of_which_none_loses_are_enough_and_few_are_not():
    generator = np.random.default_rng(0)
    assert recommends(sweep(generator, 0, 0, seeds=72)) and not recommends(sweep(generator, 0, 0, seeds=71))
    assert not recommends(sweep(generator, 0, 0, seeds=5, settings=15))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "seeds", "settings", "alike"),
    [
        (0.05, 3, 1, False),
        (0.05, 5, 10, False),
        (0.01, 5, 20, False),
        (0.05, 80, 1, False),
        (0.05, 160, 1, False),
        (0.1, 80, 1, False),
        (0.05, 80, 3, True),
    ],
)
def test_a_rule_by_which_few_lose_much_is_rarely_recommended(share, seeds, settings, alike):
    """The mean loss is the margin, and 5 % of the runs or more lose all of it; seeds alike or not.

    Where 1 % do, five seeds are too few for any recommendation.
    """
    wrong, trials = 0, 100
    for trial in range(trials):
        wrong += recommends(sweep(np.random.default_rng(trial), share, 0.1 / share, seeds, settings, alike))
    assert wrong <= 0.05 * trials
