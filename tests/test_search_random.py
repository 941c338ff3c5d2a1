"""Random search: its points are scipy's, a longer search begins with the shorter one."""

import itertools
import warnings
from collections import Counter

import numpy as np
import pytest
from scipy.stats import qmc

from sweepwise.results.answer import ranking
from sweepwise.results.loading import from_records
from sweepwise.search.parameters import Choice, Number
from sweepwise.search.random import Random, RandomSettings
from sweepwise.search.sequence import rows
from sweepwise.search.space import Space
from sweepwise.search.strategy import Result

SPACE = Space(
    (Number("lr", 1e-4, 0.1, log=True), Choice("init", ("a", "b", "c", "d")), Number("p", 0, 0.5)),
    ("x=1",),
)


def beginning(name, dimensions, seed, count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.array(list(itertools.islice(rows(name, dimensions, seed), count)))


@pytest.mark.filterwarnings("ignore:The balance properties")
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 50])
@pytest.mark.parametrize("seed", [0, 7])
def test_sequences_are_those_of_scipy_and_numpy_in_any_number_without_a_warning(count, seed):
    assert (beginning("sobol", 3, seed, count) == qmc.Sobol(3, rng=seed).random(count)).all()
    assert (beginning("halton", 3, seed, count) == qmc.Halton(3, rng=seed).random(count)).all()
    assert (beginning("random", 3, seed, count) == np.random.default_rng(seed).random((count, 3))).all()


@pytest.mark.parametrize("count", [16, 20, 64])
def test_low_discrepancy_is_lower_than_that_of_random_points(count):
    def discrepancy(name):
        return np.mean([qmc.discrepancy(beginning(name, 3, seed, count)) for seed in range(5)])

    assert discrepancy("sobol") < 0.6 * discrepancy("random")
    assert discrepancy("halton") < 0.6 * discrepancy("random")


@pytest.mark.parametrize("name", ["sobol", "halton", "random"])
def test_a_longer_search_begins_with_the_shorter_one(name):
    shorter, longer = (Random(SPACE, RandomSettings(samples, 3, name)).points for samples in (11, 40))
    assert longer[:11] == shorter and len(set(longer)) == 40
    assert Random(SPACE, RandomSettings(11, 4, name)).points != shorter


def test_with_sobol_each_option_comes_equally_often():
    points = Random(SPACE, RandomSettings(32)).points
    assert Counter(point[1] for point in points) == {f"init={name}": 8 for name in "abcd"}


def test_a_small_space_is_exhausted_and_no_point_comes_twice():
    space = Space((Choice("a", ("1", "2", "3")), Choice("b", ("x", "y"))))
    search = Random(space, RandomSettings(50))
    assert len(search.points) == len(set(search.points)) == 6
    step = search.next({point: Result("finished", 1.0) for point in search.points})
    assert not step.trials and "no more than these 6 points" in step.decisions[0].why


def test_points_that_differ_in_a_key_that_they_lack_count_once():
    def kept(overrides):
        return tuple(one for one in overrides if "a=2" not in overrides or not one.startswith("a.b"))

    space = Space((Choice("a", ("1", "2")), Choice("a.b", ("x", "y", "z"))), kept=kept)
    points = Random(space, RandomSettings(50)).points
    assert sorted(points) == [*((("a=1", f"a.b={b}")) for b in "xyz"), ("a=2",)]


def test_points_come_in_batches_with_all_seeds_and_known_ones_are_not_asked_for():
    space = Space(SPACE.parameters, SPACE.fixed, (("seed.value=0",), ("seed.value=1",)))
    search, known, sizes = Random(space, RandomSettings(10, at_once=4)), {}, []
    while (step := search.next(known)).trials:
        assert search.next(known) == step
        sizes.append(len(step.trials))
        known |= {trial.overrides: Result("failed") for trial in step.trials}
    assert sizes == [8, 8, 4] and len(known) == 20
    assert Counter(overrides[-1] for overrides in known) == {"seed.value=0": 10, "seed.value=1": 10}
    assert step.decisions[0].what == "end" and step.decisions[0].about == {"points": 10, "best": None}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_point_is_that_of_an_answer_with_failures_and_equal_ones(seed, sign):
    """Brute force, and the ranking of an answer on the same runs; coarse values, of which some are equal."""
    g = np.random.default_rng(seed)
    space = Space(SPACE.parameters, replicates=tuple((f"seed.value={k}",) for k in range(3)))
    statuses = ["finished", "stopped early", "diverged", "failed"]
    known, records = {}, []
    search = Random(space, RandomSettings(12), sign)
    for place, point in enumerate(search.points):
        for k in range(3):
            status = g.choice(statuses, p=[0.6, 0.2, 0.1, 0.1])
            value = None if status == "failed" else float(g.integers(1, 4)) / 7
            known[*point, f"seed.value={k}"] = Result(status, value)
            records.append({"place": place, "seed": k, "loss": value, "status": status})
    (end,) = search.next(known).decisions
    ranked = ranking(from_records(records, "loss", mode="min" if sign == 1 else "max"))
    ranks = {
        one.setting[0]: (one.failed, sign * one.estimate.mean) if one.estimate else (3, 0.0) for one in ranked
    }
    first = min(ranks, key=lambda place: (*ranks[place], place))
    assert end.about["best"] == list(search.points[first]) and end.about["value"] == sign * ranks[first][1]
    assert end.about["equal"] == sum(rank == ranks[first] for rank in ranks.values()) - 1
    said = f"all 12 points have been tried; the best of them: {' '.join(search.points[first])}, "
    assert search.next(known).said[0].startswith(said + f"{end.about['value']:.4g}")
