"""The best of many settings and what it is worth."""

import math
from itertools import combinations

import numpy as np
import pytest

from sweepwise.errors import UsageError
from sweepwise.results.statistics.winner import winner


def test_the_fair_value_is_that_of_halves():
    """By its definition: every choice of three of five, valued by the other two."""
    table = np.random.default_rng(0).normal(size=(4, 5))
    values, same = [], []
    for way in combinations(range(5), 3):
        chosen = table[:, way].mean(axis=1).argmax()
        values.append(np.delete(table[chosen], way).mean())
        same.append(chosen == table.mean(axis=1).argmax())
    found = winner({name: dict(enumerate(row)) for name, row in enumerate(table)}, "max")
    assert found.fair == pytest.approx(np.mean(values))
    assert found.chosen_again == np.mean(same)
    assert found.name == table.mean(axis=1).argmax() and found.fair < found.seen.mean
    half = (found.seen.high - found.seen.low) / 2
    assert (found.low, found.high) == (
        pytest.approx(found.fair - half),
        pytest.approx(found.seen.mean + half),
    )


def test_lower_is_better_is_the_mirror_image():
    table = np.random.default_rng(1).normal(size=(4, 5))
    up = winner({name: dict(enumerate(row)) for name, row in enumerate(table)}, "max")
    down = winner({name: dict(enumerate(-row)) for name, row in enumerate(table)}, "min")
    assert down.name == up.name
    assert (down.fair, down.low, down.high) == pytest.approx((-up.fair, -up.high, -up.low))


def test_a_clear_best_is_worth_what_it_looks():
    groups = {"a": {0: 10.0, 1: 11.0, 2: 12.0}, "b": {0: 1.0, 1: 2.0, 2: 3.0}}
    found = winner(groups, "max")
    assert (found.name, found.fair, found.chosen_again) == ("a", pytest.approx(11), 1)
    assert winner({"a": groups["a"]}, "max").fair == pytest.approx(11)


def test_gaps_and_seeds_of_ones_own():
    gaps = {"a": {0: 10.0, 1: 11.0}, "b": {1: 2.0, 2: 3.0}, "c": {0: 99.0}}
    found = winner(gaps, "max")
    assert found.name == "a" and found.fair == pytest.approx(10.5)
    own = {name: {(name, seed): float(name * 100 + seed) for seed in range(3)} for name in range(3)}
    assert winner(own, "max").name == 2 and winner(own, "max").fair == pytest.approx(201, abs=0.5)


def test_one_replicate_has_no_fair_value():
    found = winner({"a": {0: 1.0}, "b": {0: 2.0}}, "max")
    assert (found.name, found.low, found.high) == ("b", -math.inf, math.inf)
    assert math.isnan(found.fair)
    with pytest.raises(UsageError, match="there must be one or more"):
        winner({}, "max")
