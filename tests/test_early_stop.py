import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from sweepwise import Settings, build, fit, split
from sweepwise.config.schema import bind
from sweepwise.data.sklearn_sets import wine
from sweepwise.early_stop import Best, sign
from sweepwise.early_stop.after import After
from sweepwise.early_stop.never import Never
from sweepwise.early_stop.patience import Patience

NAN, INF = math.nan, math.inf


def stopped(rule, values) -> int | None:
    """The first epoch after which the rule stops."""
    return next((epoch for epoch, value in enumerate(values) if rule.update(epoch, value)), None)


def best_of(values, mode="min", min_delta=0.0) -> Best:
    best = Best("val/loss", mode, min_delta)
    for epoch, value in enumerate(values):
        best.update(epoch, 10 * epoch + 9, value)
    return best


# --- direction


@pytest.mark.parametrize(
    ("metric", "lower_is_better"),
    [
        ("val/loss", True),
        ("train/loss", True),
        ("val/mse", True),
        ("val/mae", True),
        ("val/accuracy", False),
        ("train/accuracy", False),
        ("val/r2", False),
    ],
)
def test_auto_knows_the_direction(metric, lower_is_better):
    assert sign(metric, "auto") == (1 if lower_is_better else -1)
    assert (sign(metric, "min"), sign(metric, "max")) == (1, -1)
    best = Best(metric, "auto")
    best.update(0, 0, 0.5)
    assert best.update(1, 1, 0.4) is lower_is_better
    assert best.update(2, 2, 0.6) is not lower_is_better


# --- the best value


def test_best_is_the_first_of_the_lowest():
    best = best_of([3, 1, 2, 1, 5])
    assert (best.epoch, best.step, best.value) == (1, 19, 1)
    best = best_of([3, 5, 2, 5], mode="max")
    assert (best.epoch, best.step, best.value) == (1, 19, 5)


def test_best_says_when_it_improves_and_equality_is_no_improvement():
    best = Best("val/loss", "min")
    assert [best.update(epoch, epoch, value) for epoch, value in enumerate([2, 2, 1, 1, 3, 0])] == [
        *(True, False, True, False, False, True)
    ]


def test_nothing_seen_has_no_best():
    best = Best("val/loss", "min")
    assert (best.epoch, best.step, best.metric) == (-1, -1, "val/loss") and math.isnan(best.value)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_the_best(mode):
    assert best_of([NAN, NAN], mode).epoch == -1
    assert best_of([NAN, 4.0], mode).epoch == 1
    assert best_of([4.0, NAN, NAN], mode).epoch == 0
    assert best_of([4.0, NAN, 3.0 if mode == "min" else 5.0], mode).epoch == 2


def test_infinite_values():
    assert best_of([INF, 1e308]).epoch == 1
    assert best_of([INF, INF]).epoch == 0
    assert best_of([-INF, 0.0], "max").epoch == 1
    assert best_of([1.0, INF]).epoch == 0


def test_min_delta_is_measured_from_the_best_that_counted():
    # 0.75 is better than 1 by exactly min_delta and does not count; 0.5 is better than 1 by more.
    assert best_of([1, 0.75, 0.5], min_delta=0.25).epoch == 2
    assert best_of([1, 0.75, 0.75], min_delta=0.25).epoch == 0
    assert best_of([1, 0.875, 0.75, 0.625], min_delta=0.25).epoch == 3
    assert best_of([1, 1.25, 1.5], "max", min_delta=0.25).epoch == 2
    assert best_of([1, 1.25, 1.25], "max", min_delta=0.25).epoch == 0


@given(st.lists(st.floats(allow_nan=True), max_size=20), st.sampled_from(["min", "max"]))
def test_best_is_pythons_own_choice(values, mode):
    numbers = [value for value in values if not math.isnan(value)]
    best = best_of(values, mode)
    if numbers:
        expected = (min if mode == "min" else max)(numbers)
        assert best.value == expected and best.epoch == values.index(expected)
    else:
        assert best.epoch == -1 and math.isnan(best.value)


# --- patience


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([3, 2, 1, 1], 1, 3),
        ([3, 2, 1, 1], 0, 3),  # patience 0 waits for the first epoch without improvement, as 1 does
        ([3, 2, 1, 0], 0, None),
        ([3, 4], 1, 1),
        ([3, 4, 2, 5, 6], 2, 4),  # an improvement starts the count again
        ([3, 4, 2, 5, 6], 3, None),
        ([1, 2, 2, 2], 3, 3),
        ([1, 2, 2, 2], 4, None),
    ],
)
def test_patience(values, patience, expected):
    assert stopped(Patience(patience=patience), values) == expected
    assert stopped(Patience(patience=patience, mode="max"), [-value for value in values]) == expected


def test_the_reason_names_metric_best_and_epochs():
    rule = Patience(metric="val/accuracy", patience=2)
    assert [rule.update(epoch, value) for epoch, value in enumerate([0.5, 0.625, 0.5, 0.625])] == [
        *("", "", ""),
        "val/accuracy has not improved on 0.625 for 2 epochs",
    ]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_no_improvement(mode):
    assert stopped(Patience(patience=3, mode=mode), [1, NAN, NAN, NAN]) == 3
    assert stopped(Patience(patience=3, mode=mode), [NAN] * 5) == 2  # three epochs, none of them good
    better = 0.5 if mode == "min" else 1.5
    assert stopped(Patience(patience=3, mode=mode), [NAN, NAN, 1, better, NAN, NAN, NAN]) == 6


def test_min_delta():
    falling = [1 - 0.125 * epoch for epoch in range(8)]
    assert stopped(Patience(patience=1), falling) is None
    assert stopped(Patience(patience=1, min_delta=0.125), falling) == 1
    assert stopped(Patience(patience=2, min_delta=0.125), falling) is None  # two epochs gain 0.25


@pytest.mark.parametrize(("min_epochs", "expected"), [(0, 3), (4, 3), (5, 4), (8, 7)])
def test_min_epochs_are_trained_in_any_case(min_epochs, expected):
    assert stopped(Patience(patience=3, min_epochs=min_epochs), [1.0] * 20) == expected


def test_min_epochs_hold_for_the_thresholds_too():
    assert stopped(Patience(min_epochs=4, stopping_threshold=0.5), [0.0] * 9) == 3
    assert stopped(Patience(min_epochs=4, divergence_threshold=0.5), [1.0] * 9) == 3


def test_epochs_between_validations_count():
    rule = Patience(patience=6)
    assert [bool(rule.update(epoch, 1.0)) for epoch in (2, 5, 8, 11)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("metric", "values", "threshold", "expected"),
    [
        ("val/loss", [3, 0.6, 0.5, 0.1], 0.5, 2),
        ("val/loss", [3, 0.6], 0.5, None),
        ("val/loss", [NAN, NAN, 0.0], 0.5, 2),
        ("val/loss", [3, 1, 0], 0.0, 2),
        ("val/accuracy", [0.1, 0.9, 0.95], 0.95, 2),
        ("val/accuracy", [0.1, 0.9], 0.95, None),
    ],
)
def test_stopping_threshold(metric, values, threshold, expected):
    assert stopped(Patience(metric=metric, stopping_threshold=threshold), values) == expected


@pytest.mark.parametrize(
    ("metric", "values", "threshold", "expected"),
    [
        ("val/loss", [1, 4, 5, 5.1], 5.0, 3),
        ("val/loss", [1, 5], 5.0, None),
        ("val/loss", [1, INF], 5.0, 1),
        ("val/loss", [1, NAN], 5.0, 1),
        ("val/loss", [-1, 0, 0.1], 0.0, 2),
        ("val/r2", [0.1, -1, -1.1], -1.0, 2),
    ],
)
def test_divergence_threshold(metric, values, threshold, expected):
    assert stopped(Patience(metric=metric, divergence_threshold=threshold), values) == expected


def test_thresholds_say_which_one():
    assert Patience(stopping_threshold=0.5).update(0, 0.25) == (
        "val/loss 0.25 reached the stopping threshold 0.5"
    )
    assert Patience(divergence_threshold=0.5).update(0, 0.75) == (
        "val/loss 0.75 passed the divergence threshold 0.5"
    )


@pytest.mark.parametrize(
    ("options", "constant", "epochs"),
    [
        ({"patience": 3}, 1.0, 4),
        ({"patience": 10}, 1.0, 11),
        ({"patience": 10, "stopping_threshold": 0.5}, 0.0, 1),
        ({"patience": 10, "divergence_threshold": 0.5}, 1.0, 1),
    ],
)
def test_least_epochs_is_the_shortest_training_it_can_end(options, constant, epochs):
    rule = Patience(**options)
    assert rule.least_epochs == epochs
    assert stopped(rule, [constant] * 20) == epochs - 1


@pytest.mark.parametrize("threshold", [None, 2.0])
def test_least_epochs_with_min_epochs(threshold):
    rule = Patience(patience=3, min_epochs=9, stopping_threshold=threshold)
    assert stopped(rule, [1.0] * 20) == 8
    assert rule.least_epochs == 9


@pytest.mark.parametrize(
    "values",
    [{"patience": -1}, {"patience": 1.5}, {"min_delta": -0.1}, {"min_epochs": -1}, {"mode": "least"}],
)
def test_options_out_of_range(values):
    faults: list[str] = []
    bind("early_stop", {"_target_": "sweepwise.early_stop.patience.Patience", **values}, faults)
    assert len(faults) == 1 and faults[0].startswith(f"early_stop.{next(iter(values))}=")


# --- never


def test_never_never_stops_and_still_names_the_metric():
    rule = Never(metric="val/accuracy", mode="max")
    assert stopped(rule, [1.0, NAN, INF, *[1.0] * 500]) is None
    assert (rule.metric, rule.mode, rule.least_epochs) == ("val/accuracy", "max", 0)
    assert (Never().metric, Never().mode) == ("val/loss", "auto")


# --- after some epochs


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_after_stops_once_so_many_epochs_have_ended(epochs):
    assert stopped(After(epochs=epochs), [NAN] * 4) == (epochs - 1 if epochs <= 4 else None)
    assert stopped(After(epochs=epochs), [INF, -INF, 0.0]) == (epochs - 1 if epochs <= 3 else None)


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_after_keeps_the_rates_of_the_longer_training(validation):
    def fitted(rule=None):
        torch.manual_seed(0)
        parts = build(
            data=split(wine(), validation=validation),
            model=nn.Linear(13, 3),
            optimizer=partial(torch.optim.SGD, lr=0.1),
            scheduler=partial(CosineAnnealingLR, T_max=6),
            settings=Settings(max_epochs=6, device="cpu"),
            **({} if rule is None else {"early_stop": rule}),
        )
        return fit(parts)

    whole, part = fitted(), fitted(After(epochs=3))
    assert (part.status, part.reason) == ("stopped early", "as early_stop.epochs=3 says")
    assert list(part.history) == list(whole.history[:3])
    assert (part.best.metric, part.best.epoch) == (None, 2)
    enough, beyond = fitted(After(epochs=6)), fitted(After(epochs=7))
    assert enough.status == beyond.status == "finished"
    note = "early_stop.epochs=7 never acts: the training has 6 epochs"
    assert note in beyond.notes and not any("never acts" in told for told in (*enough.notes, *part.notes))
