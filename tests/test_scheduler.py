import math
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small import CONF, option_of
from torch import nn
from torch.optim import lr_scheduler as torchs

from sweepwise.early_stop.patience import Patience
from sweepwise.run import schedule as schedule_of
from sweepwise.scheduler import HORIZON, Schedule, warmup_steps

FOLDER = CONF / "scheduler"
CONSTANT = partial(torchs.ConstantLR, factor=1.0, total_iters=0)


def schedule(scheduler=CONSTANT, *, lr=0.1, steps=20, steps_per_epoch=2, **options) -> Schedule:
    return Schedule(scheduler, lr=lr, steps=steps, steps_per_epoch=steps_per_epoch, **options)


def composed(name: str, *, steps: int, steps_per_epoch: int, lr: float = 0.1, **changes) -> Schedule:
    """From the yaml, as a run makes it."""
    return schedule_of(config_of(name, lr, **changes), steps, steps_per_epoch)


def config_of(name: str, lr: float = 0.1, **changes) -> dict:
    node = option_of(FOLDER / f"{name}.yaml") | changes
    config = OmegaConf.create({"scheduler": node, "optimizer": {"lr": lr}})
    return OmegaConf.to_container(config, resolve=True)


def cosine(t: np.ndarray, length: int, lr: float = 0.1, eta_min: float = 0.0) -> np.ndarray:
    """Loshchilov & Hutter, arXiv:1608.03983, equation 5; past its length it stays."""
    return eta_min + (lr - eta_min) * (1 + np.cos(math.pi * np.minimum(t, length) / length)) / 2


# --- any torch scheduler: the rates of the loop that torch documents


@pytest.mark.parametrize(
    "scheduler",
    [
        CONSTANT,
        partial(torchs.ConstantLR, factor=0.5, total_iters=3),
        partial(torchs.StepLR, step_size=3, gamma=0.5),
        partial(torchs.MultiStepLR, milestones=[2, 5, 6], gamma=0.1),
        partial(torchs.ExponentialLR, gamma=0.9),
        partial(torchs.LinearLR, start_factor=0.25, total_iters=4),
        partial(torchs.PolynomialLR, total_iters=7, power=2.0),
        partial(torchs.CosineAnnealingLR, T_max=4, eta_min=0.01),
        partial(torchs.CosineAnnealingWarmRestarts, T_0=3),
        partial(torchs.OneCycleLR, max_lr=0.3, total_steps=20, cycle_momentum=False),
        partial(torchs.CyclicLR, base_lr=0.1, max_lr=0.3, step_size_up=3, cycle_momentum=False),
        partial(torchs.LambdaLR, lr_lambda=lambda epoch: 1 / (1 + epoch)),
    ],
    ids=lambda scheduler: scheduler.func.__name__,
)
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_rates_are_those_of_torchs_own_loop(scheduler, per):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = scheduler(optimizer)
    expected = []
    for _ in range(10):
        for _ in range(2):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per == "step":
                theirs.step()
        if per == "epoch":
            theirs.step()
    assert schedule(scheduler, per=per).rates.tolist() == expected


# --- closed forms over the whole table


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_every_step_has_a_rate_and_the_first_has_the_base_rate(steps, per):
    rates = schedule(partial(torchs.ExponentialLR, gamma=0.5), steps=steps, steps_per_epoch=4, per=per).rates
    moves = np.arange(steps) // (4 if per == "epoch" else 1)
    assert rates.shape == (steps,) and rates.dtype == np.float64
    np.testing.assert_allclose(rates, 0.1 * 0.5**moves, rtol=1e-12)
    assert rates[0] == 0.1


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_step_to_its_last(per):
    rates = composed("step", steps=600, steps_per_epoch=5, step_size=30, gamma=0.5, per=per).rates
    moves = np.arange(600) // (5 if per == "epoch" else 1)
    np.testing.assert_allclose(rates, 0.1 * 0.5 ** (moves // 30), rtol=1e-9)


@pytest.mark.parametrize("eta_min", [0.0, 0.02])
@pytest.mark.parametrize("length", [1, 2, 7, 19, 20, 33, 1000])
def test_cosine_past_its_end_too(length, eta_min):
    rates = composed("cosine", steps=60, steps_per_epoch=3, T_max=length, eta_min=eta_min).rates
    expected = cosine(np.arange(60) // 3, length, eta_min=eta_min)
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15)
    assert (np.diff(rates) <= 0).all()


@given(st.integers(1, 200), st.integers(1, 300), st.floats(0, 0.1))
def test_cosine_never_rises(length, steps, eta_min):
    scheduler = partial(torchs.CosineAnnealingLR, T_max=length, eta_min=eta_min)
    rates = schedule(scheduler, steps=steps, per="step", end=length).rates
    assert (np.diff(rates) <= 1e-17).all()
    np.testing.assert_allclose(rates[length:], eta_min, atol=1e-15)


@pytest.mark.parametrize("end", [0, 1, 5, 9, 10, 11])
def test_past_any_end_the_rate_stays(end):
    rates = schedule(partial(torchs.ExponentialLR, gamma=0.5), end=end).rates
    np.testing.assert_allclose(rates, 0.1 * 0.5 ** np.minimum(np.arange(20) // 2, end), rtol=1e-12)


def test_a_rate_of_zero_is_a_rate():
    assert schedule(lr=0.0).rates.tolist() == [0.0] * 20
    assert schedule(partial(torchs.ExponentialLR, gamma=0.5), lr=0.0).rates.tolist() == [0.0] * 20


# --- warm-up


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (1, 10), (2.5, 25), (0.1, 1), (0.04, 0), (0.06, 1)])
def test_warmup_is_a_whole_number_of_steps(warmup, steps):
    assert warmup_steps(warmup, 10) == steps


@pytest.mark.parametrize("length", [1, 2, 5, 19])
def test_warmup_rises_linearly_to_the_first_rate(length):
    rates = schedule(steps=20, steps_per_epoch=1, warmup=length).rates
    expected = [0.1 * (step + 1) / (length + 1) for step in range(length)] + [0.1] * (20 - length)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("warmup", [1, 2.5])
def test_the_scheduler_begins_after_the_warmup(per, warmup):
    rates = schedule(
        partial(torchs.ExponentialLR, gamma=0.5), steps=40, steps_per_epoch=4, per=per, warmup=warmup
    ).rates
    first = int(warmup * 4)
    moves = np.arange(40 - first) // (4 if per == "epoch" else 1)
    ramp = 0.1 * np.arange(1, first + 1) / (first + 1)
    np.testing.assert_allclose(rates, [*ramp, *(0.1 * 0.5**moves)], rtol=1e-12)


def test_warmup_leads_to_the_rate_that_the_scheduler_begins_with():
    rates = schedule(
        partial(torchs.ConstantLR, factor=0.5, total_iters=2), steps=8, steps_per_epoch=1, warmup=3
    ).rates
    np.testing.assert_allclose(rates, [0.0125, 0.025, 0.0375, 0.05, 0.05, 0.1, 0.1, 0.1], rtol=1e-12)


@pytest.mark.parametrize("warmup", [10, 11, 1000, 9.8])
def test_a_warmup_that_fills_the_training_is_refused(warmup):
    rule = rf"^scheduler\.warmup={warmup:g}: must be shorter than the training of 10 epochs$"
    with pytest.raises(ValueError, match=rule):
        schedule(warmup=warmup)


def test_a_warmup_that_leaves_one_step_is_not():
    assert schedule(warmup=9.5).rates[-1] == 0.1


# --- the horizon


@pytest.mark.parametrize(("steps", "warmup"), [(20, 0), (20, 2), (21, 0), (18, 2.5), (2, 0)])
def test_the_horizon_is_what_is_left_after_the_warmup(steps, warmup):
    first = round(4 * warmup)
    by_step = composed("cosine", steps=steps, steps_per_epoch=4, warmup=warmup, per="step").rates
    expected = cosine(np.arange(steps - first), steps - first)
    np.testing.assert_allclose(by_step[first:], expected, rtol=1e-9, atol=1e-15)
    by_epoch = composed("cosine", steps=steps, steps_per_epoch=4, warmup=warmup).rates
    expected = cosine(np.arange(steps - first) // 4, math.ceil((steps - first) / 4))
    np.testing.assert_allclose(by_epoch[first:], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("warmup", [5, 6])
def test_a_warmup_that_leaves_no_horizon_is_refused_by_its_own_rule(warmup):
    with pytest.raises(
        ValueError, match=r"scheduler\.warmup=.*must be shorter than the training of 5 epochs"
    ):
        composed("cosine", steps=20, steps_per_epoch=4, warmup=warmup)


def test_the_horizon_may_stand_anywhere():
    assert yaml.safe_load((FOLDER / "cosine.yaml").read_text())["T_max"] == HORIZON
    rates = composed("step", steps=20, steps_per_epoch=1, step_size=HORIZON, gamma=0.5, per="step").rates
    assert rates.tolist() == [0.1] * 20  # it would drop at the horizon, which is the end


# --- what a user should know


@pytest.mark.parametrize(
    ("length", "note"),
    [
        (8, "the schedule ends after 8 of 10 epochs; the rate then stays at 0"),
        (9, None),
        (10, None),
        (11, "the schedule is 11 epochs long, the training only 10: it ends at the rate 0.00794"),
        (1000, "the schedule is 1000 epochs long, the training only 10: it ends at the rate 0.1"),
    ],
)
def test_notes_of_a_cosine_that_does_not_fit(length, note):
    notes = composed("cosine", steps=20, steps_per_epoch=2, T_max=length).notes()
    assert notes == ([note] if note else [])
    if length == 11:
        assert f"{cosine(np.array(9), 11):.3g}" == "0.00794"


def test_notes_speak_of_steps_where_the_scheduler_moves_per_step():
    fast = partial(torchs.CosineAnnealingLR, T_max=5, eta_min=0.05)
    assert schedule(fast, per="step", end=5).notes() == [
        "the schedule ends after 5 of 20 steps; the rate then stays at 0.05"
    ]


@pytest.mark.parametrize("size", [10, 11, 99])
def test_notes_of_a_schedule_that_never_changes(size):
    assert schedule(partial(torchs.StepLR, step_size=size)).notes() == [
        f"the rate first changes after {size} epochs, the training has 10: it stays at 0.1"
    ]


def test_notes_of_a_schedule_that_changes_only_long_after():
    (note,) = schedule(partial(torchs.StepLR, step_size=500)).notes()
    assert note == "the rate stays at 0.1 in all 10 epochs of the training, and long after"
    assert schedule(partial(torchs.ConstantLR, factor=1.0, total_iters=0)).notes() == []


def test_a_warmup_hides_no_schedule_that_never_changes():
    (note,) = schedule(partial(torchs.StepLR, step_size=9), warmup=2).notes()
    assert note == "the rate first changes after 9 epochs, the training has 8: it stays at 0.1"


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.yaml")} - {"other"}))
@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("epochs", [33, 100])
def test_the_options_are_right_as_they_stand(name, warmup, epochs):
    assert composed(name, steps=5 * epochs, steps_per_epoch=5, warmup=warmup).notes() == []


def test_a_step_that_comes_in_the_last_epoch_needs_no_note():
    assert schedule(partial(torchs.StepLR, step_size=9)).notes() == []


# --- plateau


def plateau(**options) -> partial:
    return partial(torchs.ReduceLROnPlateau, **{"patience": 1, "factor": 0.5, **options})


def driven(rule: Schedule, values, steps_per_epoch: int = 2) -> list[float]:
    """The rate that each step has used."""
    used = []
    for epoch, value in enumerate(values):
        first, after = epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch
        used += rule.rates[first:after].tolist()
        rule.observe(after, value)
    return used


def test_plateau_drops_after_more_than_patience_bad_epochs():
    used = driven(schedule(plateau()), [1.0, 0.5, 0.5, 0.5, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5])
    # bad epochs: 2, 3 -> from 4 on; 5, 6 -> from 7 on; 7, 8 -> from 9 on
    np.testing.assert_allclose(used[::2], [0.1] * 4 + [0.05] * 3 + [0.025] * 2 + [0.0125], rtol=1e-12)
    assert used[::2] == used[1::2]


def test_plateau_is_torchs_own_rule():
    values = [1, 0.9, 0.91, 0.9, 0.95, 0.9, 0.2, 0.3, math.nan, 0.3]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs, expected = plateau(cooldown=1, threshold=0.05)(optimizer), []
    for value in values:
        expected += [optimizer.param_groups[0]["lr"]] * 2
        theirs.step(value)
    ours = driven(schedule(plateau(cooldown=1, threshold=0.05)), values)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert len(set(expected)) > 1


def test_plateau_before_anything_is_observed_is_constant():
    assert schedule(plateau()).rates.tolist() == [0.1] * 20


@pytest.mark.parametrize(("mode", "falls"), [("max", False), ("min", True)])
def test_plateau_knows_its_direction(mode, falls):
    rule = schedule(plateau(mode=mode, patience=2), metric="val/accuracy")
    driven(rule, [0.1 * epoch for epoch in range(1, 11)])
    assert bool(rule.rates[-1] < 0.1) == falls
    assert rule.metric == "val/accuracy"


def test_plateau_stops_at_min_lr():
    rule = schedule(plateau(patience=0, min_lr=0.03), steps=40)
    used = driven(rule, [1.0] * 20)
    np.testing.assert_allclose(used[::2], [0.1, 0.1, 0.05] + [0.03] * 17, rtol=1e-12)


def test_plateau_with_factor_zero_ends_at_zero():
    assert driven(schedule(plateau(patience=0, factor=0.0)), [1.0] * 4)[::2] == [0.1, 0.1, 0.0, 0.0]


@pytest.mark.parametrize("warmup", [0, 2, 5])
@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_begins_after_the_warmup(patience, warmup):
    values = [1.0, 1.0, 0.5, 0.5, 0.5, 0.7, 0.4, 0.4, 0.4, 0.4]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs, expected = plateau(patience=patience)(optimizer), []
    for value in values[warmup:]:
        expected += [optimizer.param_groups[0]["lr"]] * 2
        theirs.step(value)
    used = driven(schedule(plateau(patience=patience), warmup=warmup), values)
    ramp = 0.1 * np.arange(1, 2 * warmup + 1) / (2 * warmup + 1)
    np.testing.assert_allclose(used, [*ramp, *expected], rtol=1e-12)


def test_plateau_leaves_a_warmup_that_ends_within_an_epoch_as_it_is():
    rule = schedule(plateau(patience=0), warmup=2.5)
    used = driven(rule, [1.0] * 5)
    ramp = 0.1 * np.arange(1, 6) / 6
    np.testing.assert_allclose(used, [*ramp, 0.1, 0.1, 0.1, 0.05, 0.05], rtol=1e-12)


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(("mode", "values"), [("max", [-0.5, -0.4, -0.3]), ("min", [-0.3, -0.4, -0.5])])
def test_plateau_and_early_stopping_have_one_rule_for_negative_metrics(mode, values, threshold_mode):
    """torch's own relative rule takes an equal negative value for an improvement, and never acts."""
    values = [*values, *[values[-1]] * 6]
    rule = schedule(plateau(mode=mode, patience=2, threshold_mode=threshold_mode), metric="val/score")
    used = driven(rule, values)
    stop = Patience(metric="val/score", mode=mode, patience=3)
    stopped = [bool(stop.update(epoch, value)) for epoch, value in enumerate(values)]
    assert stopped.index(True) == 5  # the third epoch without improvement
    np.testing.assert_allclose(used[::2], [0.1] * 6 + [0.05] * 3, rtol=1e-12)


def test_what_improves_a_negative_metric_by_less_than_the_threshold_is_none():
    values = [-1.0, -0.99, -0.98, -0.97]
    rule = schedule(plateau(mode="max", patience=1, threshold=0.05), metric="val/r2")
    assert driven(rule, values)[::2] == [0.1, 0.1, 0.1, 0.05]
    rule = schedule(plateau(mode="max", patience=1, threshold=0.005), metric="val/r2")
    assert driven(rule, values)[::2] == [0.1] * 4


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_plateau_counts_epochs_however_often_is_validated(every, patience, cooldown):
    """As torch's rule would, stepped after every epoch, but acting only when there is a new value."""
    values = [1.0, 0.5, *[0.5] * 28]
    bad, cooling, rate, wanted = 0, 0, 0.1, []
    for epoch in range(30):
        wanted.append(rate)
        validated = (epoch + 1) % every == 0
        improved = validated and epoch < 2 * every  # the first two values
        bad = 0 if improved or cooling else bad + 1
        cooling = max(0, cooling - 1)
        if validated and bad > patience:
            bad, cooling, rate = 0, cooldown, rate / 2
    rule = schedule(plateau(patience=patience, cooldown=cooldown), steps=60)
    used = []
    for epoch in range(30):
        used.append(rule.rates[2 * epoch])
        if (epoch + 1) % every == 0:
            rule.observe(2 * epoch + 2, values[epoch // every])
    np.testing.assert_allclose(used, wanted, rtol=1e-12)
    assert len(set(used)) > 1


class OwnPlateau(torchs.ReduceLROnPlateau):
    def step(self, metrics, epoch=None):
        if metrics > 1:
            self._reduce_lr(epoch)


def test_a_plateau_with_a_rule_of_its_own_keeps_it():
    assert driven(schedule(partial(OwnPlateau, factor=0.5)), [1.0, 2.0, 0.0])[::2] == [0.1, 0.1, 0.05]


@pytest.mark.parametrize(
    ("scheduler", "options", "message"),
    [
        (plateau(), {"per": "step"}, "scheduler.per=step: must be epoch"),
        (plateau(), {"end": 3}, "scheduler.end=3: must be null"),
        (
            partial(torchs.StepLR, step_size=2),
            {"metric": "val/loss"},
            "scheduler.metric=val/loss: must be left",
        ),
    ],
)
def test_an_argument_that_the_scheduler_would_not_read_is_refused(scheduler, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        schedule(scheduler, **options)


def test_other_schedules_ignore_the_metric():
    rule = schedule(partial(torchs.ExponentialLR, gamma=0.5))
    before = rule.rates.copy()
    for epoch in range(10):
        rule.observe(2 * epoch + 2, 1.0)
    assert (rule.rates == before).all()


# --- refused


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(lambda epoch: 1 - epoch, "-0.1"), (lambda epoch: 1 if epoch < 2 else math.nan, "nan")],
)
def test_negative_and_undefined_rates_are_refused(rate, shown):
    with pytest.raises(ValueError, match=rf"^scheduler: the rate {shown} at step 4 must be finite and not"):
        schedule(partial(torchs.LambdaLR, lr_lambda=rate))
    assert schedule(partial(torchs.LambdaLR, lr_lambda=rate), steps=4).rates[-1] >= 0
