"""What is compared with what, against the same said by hand; and what choosing among many must not win."""

import numpy as np
import pytest
import sweeps

from sweepwise.errors import UsageError
from sweepwise.results.loading import load
from sweepwise.results.question import SETTING, ask

KEYS = ("init", "optimizer.lr")


def filled(shape: dict[str, int], seeds: int, generator) -> dict:
    """For each level so many rates, with standard normal values."""
    return {
        (level, rate / 100): generator.normal(size=seeds).tolist()
        for level, rates in shape.items()
        for rate in range(rates)
    }


def level(question, name):
    return next(one for one in question.levels if one.name == name)


def test_at_its_best_a_level_has_the_values_of_its_best_setting():
    values = filled({"a": 4}, 5, np.random.default_rng(1))
    found = level(ask(sweeps.table(values, KEYS), "init"), "a")
    best = min(values, key=lambda at: np.mean(values[at]))
    assert [found.values[(seed,)] for seed in range(5)] == values[best]
    assert (found.at, found.candidates, found.where) == (f"optimizer.lr={best[1]:g}", 4, (best,))


def test_settings_that_are_surely_worse_were_not_chosen_from():
    values = {
        ("a", 0.1): [0.10, 0.11, 0.12, 0.10],
        ("a", 0.2): [0.1, 0.12, 0.12, 0.11],
        ("a", 0.3): [9.0, 9.1, 9.2, 9.1],
    }
    assert level(ask(sweeps.table(values, KEYS), "init"), "a").candidates == 2


def test_a_setting_with_one_lucky_run_is_not_the_best():
    values = {("a", 0.1): [0.5, 0.6, 0.7], ("a", 0.2): [0.1]}
    found = level(ask(sweeps.table(values, KEYS), "init"), "a")
    assert found.at == "optimizer.lr=0.1" and found.candidates == 1


def test_higher_may_be_better():
    values = {("a", 0.1): [0.1, 0.1, 0.1], ("a", 0.2): [0.9, 0.8, 0.7]}
    found = level(ask(sweeps.table(values, KEYS, "val/accuracy"), "init"), "a")
    assert list(found.values.values()) == [0.9, 0.8, 0.7]


def test_equal_settings_are_those_that_all_levels_were_run_at():
    values = {("a", 0.1): [1.0, 2.0], ("a", 0.2): [3.0, 4.0], ("b", 0.1): [5.0, 6.0], ("b", 0.3): [7.0, 8.0]}
    table = sweeps.table(values, KEYS)
    equal = ask(table, "init", "equal")
    assert [list(one.values.values()) for one in equal.levels] == [[1.0, 2.0], [5.0, 6.0]]
    averaged = ask(table, "init", "averaged")
    assert [list(one.values.values()) for one in averaged.levels] == [[2.0, 3.0], [6.0, 7.0]]
    with pytest.raises(UsageError, match=r"^rest=equal: no values of init were run with every optimizer\.lr"):
        ask(table, "optimizer.lr", "equal")


def test_failures_rank_behind_all_that_has_a_value():
    values = {("a", 0.1): [0.1, None, 0.1], ("a", 0.2): [0.5, 0.5, 0.5]}
    found = level(ask(sweeps.table(values, KEYS), "init"), "a")
    assert found.at == "optimizer.lr=0.2" and list(found.values.values()) == [0.5, 0.5, 0.5]
    averaged = level(ask(sweeps.table(values, KEYS), "init", "averaged"), "a")
    assert averaged.failed == {(1,)} and list(averaged.values) == [(0,), (2,)]


def test_whole_settings_can_be_compared():
    values = {("a", 0.1): [1.0, 2.0], ("b", 0.2): [3.0, None]}
    first, second = ask(sweeps.table(values, KEYS), SETTING).levels
    assert (first.name, second.name) == ("init=a, optimizer.lr=0.1", "init=b, optimizer.lr=0.2")
    assert second.failed == {(1,)} and second.n == 2


def test_one_seed_each_is_taken_as_it_is():
    values = {("a", 0.1): [1.0], ("a", 0.2): [0.5], ("b", 0.1): [2.0]}
    question = ask(sweeps.table(values, KEYS), "init")
    assert [list(one.values.values()) for one in question.levels] == [[0.5], [2.0]]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("inti",), "^compare=inti: must be a setting that varies; did you mean 'init'"),
        (("init", "worst"), "^rest=worst"),
    ],
)
def test_wrong_questions_are_refused(arguments, rule):
    with pytest.raises(UsageError, match=rule):
        ask(sweeps.table({("a", 0.1): [1.0], ("b", 0.1): [2.0]}, KEYS), *arguments)


def test_a_key_that_only_one_option_has_is_compared_within_it(tmp_path):
    """What has no gamma is no value of gamma."""
    home = tmp_path / "outputs" / "main"
    steps = {("scheduler=step", f"scheduler.gamma={gamma}"): [gamma, gamma + 0.1] for gamma in (0.1, 0.5)}
    sweeps.grid(home, {**steps, ("scheduler=constant",): [0.2, 0.3], ("scheduler=cosine",): [0.4, 0.6]})
    table = load(home)
    assert [level.name for level in ask(table, "scheduler.gamma").levels] == ["0.1", "0.5"]
    assert {level.name for level in ask(table, "scheduler").levels} == {"step", "constant", "cosine"}
