"""The schedules that are more than a yaml, or whose end, warm-up or refusal needs a word."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small import CONF, option_of
from torch import nn
from torch.optim import lr_scheduler as torchs

from sweepwise.errors import UsageError
from sweepwise.run import schedule as schedule_of
from sweepwise.scheduler import Schedule
from sweepwise.scheduler import schedule as schedules
from sweepwise.scheduler.inverse_sqrt import inverse_sqrt
from sweepwise.scheduler.wsd import wsd

FOLDER = CONF / "scheduler"
LR = 0.1
FORMS = [
    "cosine_restarts",
    "cyclic",
    "inverse_sqrt",
    "linear",
    "multistep",
    "onecycle",
    "polynomial",
    "wsd",
]


def config_of(name: str, **changes) -> dict:
    node = option_of(FOLDER / f"{name}.yaml") | changes
    config = OmegaConf.create({"scheduler": node, "optimizer": {"lr": LR}})
    return OmegaConf.to_container(config, resolve=True)


def composed(name: str, steps: int, steps_per_epoch: int = 1, **changes) -> Schedule:
    return schedule_of(config_of(name, **changes), steps, steps_per_epoch)


def share(percent: int, total: int) -> int:
    """What a yaml's '30%' is in a training of so many epochs or steps."""
    return max(1, round(total * percent / 100))


def restarts(t: int, first: int, factor: int = 2, eta_min: float = 0.0) -> float:
    length = first
    while t >= length:
        t, length = t - length, length * factor
    return eta_min + (LR - eta_min) * (1 + math.cos(math.pi * t / length)) / 2


def onecycle(t: int, total: int, rise: float = 0.3, div: float = 25.0, final: float = 1e4) -> float:
    """Smith & Topin, arXiv:1708.07120, as torch places it."""
    low, least, top, end = LR / div, LR / div / final, rise * total - 1, total - 1
    t = min(t, end)
    start, stop, x = (low, LR, t / top) if t <= top else (LR, least, (t - top) / (end - top))
    return stop + (start - stop) * (1 + math.cos(math.pi * x)) / 2


def triangle(t: int, up: int, base: float = 1e-4) -> float:
    """Smith, arXiv:1506.01186, section 3.1."""
    cycle = math.floor(1 + t / (2 * up))
    return base + (LR - base) * max(0, 1 - abs(t / up - 2 * cycle + 1))


def decayed(t: int, total: int, fraction: float = 0.2, shape: str = "1-sqrt", end: float = 0.0) -> float:
    """Hägele et al., arXiv:2405.18392, section 3."""
    begin = total * (1 - fraction)
    if t <= begin:
        return LR
    x = min((t - begin) / (total - begin), 1)
    left = {"linear": 1 - x, "cosine": 0.5 + 0.5 * math.cos(math.pi * x), "1-sqrt": 1 - x**0.5}[shape]
    return LR * (end + (1 - end) * left)


def closed_form(name: str, t: int, total: int) -> float:
    """The rate of each option as it stands, at epoch or step t of a training of `total`."""
    return {
        "multistep": lambda: (
            LR * 0.1 ** sum(t >= after for after in {share(30, total), share(60, total), share(80, total)})
        ),
        "cosine_restarts": lambda: restarts(t, share(10, total)),
        "linear": lambda: LR * max(1 - t / total, 0),
        "polynomial": lambda: LR * max(1 - t / total, 0) ** 0.9,
        "onecycle": lambda: onecycle(t, total),
        "inverse_sqrt": lambda: LR / math.sqrt(1 + t / 10),
        "wsd": lambda: decayed(t, total),
        "cyclic": lambda: triangle(t, share(10, total)),
    }[name]()


# --- closed forms: first, middle, last and past the end


def test_every_option_has_a_closed_form_here_or_among_the_landmarks():
    landmarks = {"constant", "cosine", "exponential", "plateau", "step"}
    named_only = {"other"}  # below, by its name
    assert {path.stem for path in FOLDER.glob("*.yaml")} == landmarks | named_only | set(FORMS)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("warmup", [0, 2, 0.5])
def test_every_rate_is_the_closed_form(name, per, warmup):
    steps, steps_per_epoch = 400, 4
    first = int(warmup * steps_per_epoch)
    rates = composed(name, steps, steps_per_epoch, per=per, warmup=warmup).rates
    stride = steps_per_epoch if per == "epoch" else 1
    total = math.ceil((steps - first) / stride)
    expected = [closed_form(name, step // stride, total) for step in range(steps - first)]
    np.testing.assert_allclose(rates[first:], expected, rtol=1e-9, atol=1e-15)
    ramp = expected[0] * np.arange(1, first + 1) / (first + 1)
    np.testing.assert_allclose(rates[:first], ramp, rtol=1e-12)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("horizon", [1, 2, 3])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_the_shortest_trainings(name, horizon, per):
    rates = composed(name, horizon, per=per).rates
    expected = [closed_form(name, t, horizon) for t in range(horizon)]
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "length", "last"),
    [
        ("linear", {"total_iters": 10}, 0.0),
        ("linear", {"total_iters": 10, "end_factor": 0.1}, 0.01),
        ("linear", {"total_iters": 10, "start_factor": 0.5, "end_factor": 1.0}, LR),
        ("polynomial", {"total_iters": 10}, 0.0),
        ("onecycle", {"total_steps": 11}, LR / 25 / 1e4),
        ("onecycle", {"total_steps": 11, "anneal_strategy": "linear"}, LR / 25 / 1e4),
        ("wsd", {"total_iters": 10}, 0.0),
        ("wsd", {"total_iters": 10, "end_factor": 0.1}, 0.01),
        ("wsd", {"total_iters": 10, "decay_fraction": 0.0}, LR),
    ],
)
@pytest.mark.parametrize("end", [{}, {"end": None}])
def test_past_its_end_a_schedule_stays(name, length, last, end):
    rates = composed(name, 300, per="step", **length, **end).rates
    np.testing.assert_allclose(rates[10:], last, rtol=1e-9, atol=1e-15)
    assert (rates[9] != rates[10]) == (length.get("decay_fraction") != 0)


@pytest.mark.parametrize("name", ["linear", "polynomial", "wsd"])
def test_notes_say_when_a_schedule_does_not_fit(name):
    (note,) = composed(name, 10, total_iters=4, per="epoch").notes()
    assert note == "the schedule ends after 4 of 10 epochs; the rate then stays at 0"
    (note,) = composed(name, 10, total_iters=99, per="epoch").notes()
    assert note.startswith("the schedule is 99 epochs long, the training only 10")


def test_notes_say_when_a_cycle_does_not_fit():
    (note,) = composed("onecycle", 100, total_steps=51).notes()
    assert note == "the schedule ends after 50 of 100 steps; the rate then stays at 4e-07"
    assert composed("onecycle", 100, total_steps=99).notes() != composed("onecycle", 100).notes() == []


@settings(max_examples=60)
@given(
    st.sampled_from(["linear", "polynomial"]),
    st.integers(1, 400),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0, 4),
)
def test_a_decay_to_zero_ends_there_and_not_a_rounding_error_below(name, total, start, end, power):
    options = {"linear": {"start_factor": start, "end_factor": end * start}, "polynomial": {"power": power}}
    for changes in (options[name], options[name] | ({"end_factor": 0.0} if name == "linear" else {})):
        rates = composed(name, total + 5, per="step", total_iters=total, **changes).rates
        assert np.isfinite(rates).all() and (rates >= 0).all()
        floor = changes.get("end_factor", float(power == 0))
        np.testing.assert_allclose(rates[total:], LR * floor, rtol=1e-6, atol=1e-9 * LR)


# --- each one's own


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.33, 1.0])
@pytest.mark.parametrize("end", [0.0, 0.25])
def test_wsd_shapes(shape, fraction, end):
    rates = composed("wsd", 50, decay_fraction=fraction, shape=shape, end_factor=end, per="step").rates
    expected = [decayed(t, 50, fraction, shape, end) for t in range(50)]
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15)


def test_wsd_over_its_whole_length_is_linear_or_cosine():
    linear = composed("wsd", 40, decay_fraction=1.0, shape="linear").rates
    np.testing.assert_allclose(linear, composed("linear", 40).rates, rtol=1e-9, atol=1e-15)
    cosine = composed("wsd", 40, decay_fraction=1.0, shape="cosine").rates
    np.testing.assert_allclose(cosine, composed("cosine", 40).rates, rtol=1e-9, atol=1e-15)


def test_inverse_sqrt_behind_its_warmup_is_the_transformers():
    """Vaswani et al., equation 3: d^-0.5 min(n^-0.5, n W^-1.5), n from 1, scaled to a peak of LR at n = W."""
    peak = 16
    rates = composed("inverse_sqrt", 200, 5, per="step", warmup=(peak - 1) / 5, timescale=peak).rates
    n = np.arange(1, 201)
    expected = np.minimum(n**-0.5, n * peak**-1.5)
    np.testing.assert_allclose(rates, LR * expected / expected.max(), rtol=1e-12)


def test_inverse_sqrt_halves_after_three_timescales():
    rates = composed("inverse_sqrt", 100, timescale=7).rates
    assert rates[0] == LR and rates[21] == pytest.approx(LR / 2) and rates[7] == pytest.approx(LR / 2**0.5)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize(("total", "pct_start"), [(100, 0.3), (7, 0.5), (2, 0.3), (1, 0.3), (13, 0.99)])
def test_onecycle_is_what_torch_drives_a_real_optimizer_with(strategy, three_phase, total, pct_start):
    options = {"pct_start": pct_start, "anneal_strategy": strategy, "three_phase": three_phase}
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=LR, momentum=0.9)
    driver = torchs.OneCycleLR(optimizer, max_lr=LR, total_steps=total, cycle_momentum=False, **options)
    used = []
    for step in range(total):
        used.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.ones(3)
        optimizer.step()
        if step + 1 < total:
            driver.step()
    assert composed("onecycle", total, **options).rates.tolist() == used


def test_onecycle_tops_at_the_rate_of_the_optimizer_and_leaves_its_momentum():
    rates = composed("onecycle", 100).rates
    assert rates.max() == pytest.approx(LR) and rates.argmax() == 29
    assert composed("onecycle", 100, max_lr=3.0).rates.max() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("mode", "second", "third"),
    [("triangular", 1, 1), ("triangular2", 0.5, 0.25), ("exp_range", 0.9**15, 0.9**25)],
)
def test_cyclic_modes(mode, second, third):
    options = {"mode": mode, "gamma": 0.9, "step_size_up": 5, "base_lr": 0.02}
    rates = composed("cyclic", 30, **options).rates
    first = 0.9**5 if mode == "exp_range" else 1
    tops = [0.02 + 0.08 * height for height in (first, second, third)]
    np.testing.assert_allclose(rates[[5, 15, 25]], tops, rtol=1e-9)
    np.testing.assert_allclose(rates[[0, 10, 20]], 0.02, rtol=1e-9)


def test_cyclic_may_come_down_faster():
    rates = composed("cyclic", 8, step_size_up=3, step_size_down=1, base_lr=0.0).rates
    np.testing.assert_allclose(rates, LR * np.array([0, 1 / 3, 2 / 3, 1] * 2), rtol=1e-9, atol=1e-15)


def test_restarts_come_when_the_yaml_says():
    rates = composed("cosine_restarts", 100).rates
    assert np.flatnonzero(np.diff(rates) > 0).tolist() == [9, 29, 69]
    rates = composed("cosine_restarts", 150, T_0=10).rates
    assert np.flatnonzero(np.diff(rates) > 0).tolist() == [9, 29, 69]
    held = composed("cosine_restarts", 150, T_0=10, end=29).rates
    assert (held[29:] == rates[29]).all()


# --- any scheduler by its name


SWALR = {
    "_target_": "torch.optim.swa_utils.SWALR",
    "swa_lr": 0.05,
    "anneal_epochs": 4,
    "anneal_strategy": "linear",
}


def named(node: dict, steps: int = 10, **options) -> Schedule:
    around = {"per": "epoch", "warmup": 0, "end": None}
    return schedule_of({"scheduler": {**around, **node, **options}, "optimizer": {"lr": LR}}, steps, 1)


def test_a_scheduler_without_a_yaml_works_by_its_name():
    # lr + (swa_lr - lr) min(1, t / 4)
    expected = [LR + (0.05 - LR) * min(1, t / 4) for t in range(10)]
    np.testing.assert_allclose(named(SWALR).rates, expected, rtol=1e-9)


def refusal(node: dict, **options) -> str:
    with pytest.raises(ValueError) as refused:
        named(node, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "key", "what"),
    [
        ("LambdaLR", "lr_lambda", "a function"),
        ("MultiplicativeLR", "lr_lambda", "a function"),
        ("SequentialLR", "schedulers", "a list of schedulers"),
        ("ChainedScheduler", "schedulers", "a list of schedulers"),
    ],
)
@pytest.mark.parametrize("given_", [False, True])
def test_what_no_config_can_hold_is_refused_at_once(name, key, what, given_):
    node = {"_target_": f"torch.optim.lr_scheduler.{name}"} | ({key: "lambda t: 0.5"} if given_ else {})
    node |= {"milestones": [3]} if name == "SequentialLR" else {}
    assert refusal(node) == (
        f"scheduler.{key}: must be {what}, which no config can hold; choose another _target_, "
        "or a function of your own package that builds this one"
    )


def test_a_scale_of_ones_own_cannot_be_written_but_null_can():
    node = config_of("cyclic")["scheduler"]
    assert "scale_fn: must be a function" in refusal(node, scale_fn="abs")
    assert named(node, scale_fn=None).rates[10 - 1] > 0.08


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch.optim.lr_scheduler.LRScheduler", "must be a scheduler, not their base class"),
        ("torch.nn.Identity", "must be one of sweepwise.scheduler.*, torch.optim.*"),
        ("torch.optim.SGD", "must be a class of torch.optim.lr_scheduler.LRScheduler"),
    ],
)
def test_what_is_no_scheduler_is_refused(target, message):
    assert message in refusal({"_target_": target})


def test_what_builds_no_scheduler_is_refused():
    with pytest.raises(ValueError, match="must build an LRScheduler, not a list"):
        Schedule(lambda optimizer: [], lr=LR, steps=10, steps_per_epoch=1)


@pytest.mark.parametrize("name", ["onecycle", "cyclic"])
def test_a_schedule_that_would_move_the_momentum_is_refused(name):
    node = config_of(name)["scheduler"]
    for wrong in (node | {"cycle_momentum": True}, {k: v for k, v in node.items() if k != "cycle_momentum"}):
        assert refusal(wrong).startswith("scheduler.cycle_momentum=true: must be false")


def test_a_cycle_whose_rise_has_no_step_is_refused_in_words():
    assert "pct_start * total_steps is 1" in refusal(config_of("onecycle", pct_start=0.1)["scheduler"])


@pytest.mark.parametrize(
    ("name", "key", "value", "rule"),
    [
        ("multistep", "milestones", [60, 30], "must increase from each number to the next"),
        ("multistep", "milestones", [30, 30], "must increase from each number to the next"),
        ("multistep", "milestones", [-1, 30], "must be in [1, inf)"),
        ("multistep", "milestones", [0], "must be in [1, inf)"),
        ("multistep", "milestones", [2.5], "must be a list, each a whole number in [1, inf)"),
        ("multistep", "milestones", 30, "must be a list, each a whole number in [1, inf)"),
        ("multistep", "milestones", "30", "must be a list, each a whole number in [1, inf)"),
        ("constant", "factor", 0, "must be in (0, 1]"),
        ("multistep", "gamma", 0, "must be in (0, inf)"),
        ("cosine_restarts", "T_0", 0, "must be in [1, inf)"),
        ("cosine_restarts", "T_mult", 0, "must be in [1, inf)"),
        ("cosine_restarts", "T_mult", 1.5, "must be a whole number in [1, inf)"),
        ("linear", "start_factor", 0, "must be in (0, 1]"),
        ("linear", "end_factor", 1.5, "must be in [0, 1]"),
        ("linear", "total_iters", 0, "must be in [1, inf)"),
        ("polynomial", "total_iters", 0, "must be in [1, inf)"),
        ("polynomial", "power", -1, "must be in [0, inf)"),
        ("onecycle", "max_lr", -1, "must be in [0, inf)"),
        ("onecycle", "total_steps", 0, "must be in [1, inf)"),
        ("onecycle", "pct_start", 0, "must be in (0, 1)"),
        ("onecycle", "pct_start", 1, "must be in (0, 1)"),
        ("onecycle", "pct_start", 1.5, "must be in (0, 1)"),
        ("onecycle", "div_factor", 0.5, "must be in [1, inf)"),
        ("onecycle", "final_div_factor", 0, "must be in (0, inf)"),
        ("onecycle", "anneal_strategy", "sin", "must be one of cos, linear"),
        ("inverse_sqrt", "timescale", 0, "must be in (0, inf)"),
        ("wsd", "decay_fraction", 1.1, "must be in [0, 1]"),
        ("wsd", "total_iters", 0, "must be in [1, inf)"),
        ("wsd", "shape", "sqrt", "must be one of linear, cosine, 1-sqrt"),
        ("cyclic", "base_lr", -1, "must be in [0, inf)"),
        ("cyclic", "base_lr", "low", "must be a number in [0, inf)"),
        ("cyclic", "step_size_up", 0, "must be in [1, inf)"),
        ("cyclic", "step_size_down", 2.5, "must be a whole number or null in [1, inf)"),
        ("cyclic", "mode", "square", "must be one of triangular, triangular2, exp_range"),
    ],
)
def test_bad_values_are_refused_with_key_value_and_rule(name, key, value, rule):
    with pytest.raises(UsageError) as refused:
        named(config_of(name)["scheduler"], **{key: value} | ({"end": None} if key != "end" else {}))
    assert refused.value.faults == [f"scheduler.{key}={value}: {rule}"]


def test_the_functions_take_any_optimizer():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert isinstance(inverse_sqrt(optimizer), torchs.LRScheduler)
    driver = partial(wsd, total_iters=4, decay_fraction=0.5, shape="linear")(optimizer)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        driver.step()
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("name", ["constant", "linear", "multistep", "polynomial"])
@pytest.mark.parametrize("warmup", [0, 2])
def test_a_table_that_ends_where_the_rate_stays_is_the_whole_of_it(name, warmup, monkeypatch):
    """Torch's scheduler, stepped to the end, gives the same bits; the table's length no longer counts."""
    kept = composed(name, 4000, 3, warmup=warmup)
    monkeypatch.setattr(schedules, "_kept", {})
    monkeypatch.setattr(schedules, "_changes_until", lambda scheduler: None)
    whole = composed(name, 4000, 3, warmup=warmup)
    assert kept.rates.tobytes() == whole.rates.tobytes() and kept.notes() == whole.notes()
    assert kept.last_rate == whole.rates[-1]


def test_runs_with_one_schedule_step_torchs_once(monkeypatch):
    monkeypatch.setattr(schedules, "_kept", {})
    first = composed("cosine", 50, 2)
    monkeypatch.setattr(schedules._RateHolder, "step", lambda self: pytest.fail("stepped again"))
    again = composed("cosine", 50, 2)
    assert again.rates.tobytes() == first.rates.tobytes() and again.rates is not first.rates
