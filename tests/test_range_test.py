"""The learning-rate range test, against the stability limit of a quadratic loss."""

import math

import numpy as np
import pytest
import torch
from small import composed

from sweepwise import run
from sweepwise.parts import Parts
from sweepwise.tools.lr_finder import BROKEN, Curve, range_test, smooth, suggestions


def parts_of(*overrides: str) -> Parts:
    return run.build(composed("early_stop=none", "trainer.device=cpu", *overrides))


def curve_of(losses, low: float = 1e-6, high: float = 1.0, memory: float = 0.0) -> Curve:
    losses = np.asarray(losses, float)
    rates = low * (high / low) ** (np.arange(len(losses)) / (len(losses) - 1))
    return Curve(rates, losses, smooth(losses, memory), memory, "")


# --- smoothing


@pytest.mark.parametrize("memory", [0.0, 0.8, 0.98])
def test_smoothing_is_a_weighted_mean_of_what_came_before(memory):
    losses = np.random.default_rng(0).normal(2, 1, 30)
    for step, value in enumerate(smooth(losses, memory)):
        weights = memory ** np.arange(step, -1, -1.0)
        assert value == pytest.approx(np.average(losses[: step + 1], weights=weights))
    assert smooth([3.0, 3.0, 3.0], memory) == pytest.approx([3, 3, 3])
    assert len(smooth([], memory)) == 0


# --- a problem whose limit is known


@pytest.fixture(scope="module")
def quadratic():
    """Linear regression by plain gradient descent on all examples: it is stable below 2 / lambda_max."""
    parts = parts_of(
        "data=diabetes",
        "data.batch_size=265",
        "model=linear",
        "optimizer=sgd",
        "optimizer.momentum=0",
    )
    x = np.c_[parts.data.train.x.numpy().astype(float), np.ones(265)]
    limit = 2 / np.linalg.eigvalsh(2 * x.T @ x / 265).max()
    return range_test(parts, 1e-3, 10, 400), limit


def test_the_loss_of_a_quadratic_falls_up_to_its_limit_and_breaks_soon_after(quadratic):
    curve, limit = quadratic
    stable = curve.losses[1:][curve.rates[:-1] < limit]  # a loss is that before its step
    assert len(stable) > 200 and (np.diff(stable) <= 1e-6).all()
    assert limit < curve.rates[-1] < 3 * limit  # smoothed over 20 steps, at 2.3 % a step
    assert curve.ended.endswith("times its best") and curve.smoothed[-1] > BROKEN * curve.smoothed.min()
    assert (curve.smoothed[:-1] <= BROKEN * np.minimum.accumulate(curve.smoothed)[:-1]).all()


def test_every_suggestion_is_stable(quadratic):
    curve, limit = quadratic
    found = suggestions(curve)
    assert set(found) == {"minimum / 10", "steepest", "valley"}
    assert all(0 < rate < limit for rate in found.values())
    assert found["minimum / 10"] == pytest.approx(curve.rates[curve.smoothed.argmin()] / 10)


def test_rates_grow_by_a_constant_factor_between_the_ends():
    curve = range_test(parts_of("data=wine", "model.hidden=[8]"), 1e-6, 1e-4, 21)
    assert curve.rates == pytest.approx(np.geomspace(1e-6, 1e-4, 21)) and curve.ended == ""
    assert len(curve.losses) == len(curve.smoothed) == 21


def test_the_same_seed_gives_the_same_curve():
    def losses(seed: int) -> list[float]:
        parts = parts_of("data=wine", "model.hidden=[8]", "regularizer=dropout", f"seed.value={seed}")
        return range_test(parts, 1e-4, 1e-1, 30).losses.tolist()

    assert losses(0) == losses(0) != losses(1)


def test_batches_are_those_of_the_training_in_its_order():
    parts = parts_of("data=wine", "model.hidden=[8]", "seed.data=3")
    seen = []
    step = parts.learner.step
    parts.learner.step = lambda x, y, *others: (seen.append(y), step(x, y, *others))[1]
    range_test(parts, 1e-9, 1e-8, 20)
    order = torch.cat([parts.data.order(3, epoch) for epoch in range(3)])
    wanted = parts.data.train.y[order]
    assert torch.equal(torch.cat(seen), wanted[: sum(map(len, seen))]) and len(seen) == 20


def test_a_loss_that_is_not_finite_ends_the_test():
    parts = parts_of("data=diabetes", "model.hidden=[8]", "optimizer=sgd")
    curve = range_test(parts, 1.0, 1e38, 20)
    assert len(curve.rates) < 20 and curve.ended
    next(parts.model.parameters()).data.fill_(math.nan)
    curve = range_test(parts, 1e-3, 1.0, 20)
    assert (len(curve.rates), curve.ended) == (1, "the loss is nan")
    with pytest.raises(ValueError, match="never falls"):
        suggestions(curve)


@pytest.mark.parametrize(
    ("low", "high", "steps", "words"),
    [
        (0, 1, 50, "0 < min < max"),
        (1, 1, 50, "0 < min < max"),
        (2, 1, 50, "0 < min < max"),
        (1e-3, math.inf, 50, "0 < min < max"),
        (1e-3, 1, 19, "at least 20"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(low, high, steps, words):
    with pytest.raises(ValueError, match=words):
        range_test(parts_of("data=wine", "model.hidden=[8]"), low, high, steps)


# --- the rules


def test_the_steepest_place_of_a_known_curve():
    places = np.arange(100)
    found = suggestions(curve_of(2 - np.tanh((places - 60) / 5), 1e-10, 1.0))
    assert found["steepest"] == pytest.approx(1e-10 * 1e10 ** (60 / 99))
    ramp = np.r_[np.full(40, 2.0), np.linspace(2, 1, 31), np.linspace(1, 9, 10)]
    found = suggestions(curve_of(ramp, 1e-8, 1.0))
    place = {name: round(80 * (math.log10(rate) + 8) / 8) for name, rate in found.items()}
    assert place["minimum / 10"] == 70 - 10 and 40 <= place["steepest"] <= 70
    assert place["valley"] == pytest.approx((40 + 70) / 2, abs=1)


def test_the_smaller_of_two_rates_comes_first():
    early = np.r_[np.full(20, 2.0), np.linspace(2, 0.1, 10), np.linspace(0.1, 0, 71)]  # it never breaks
    found = suggestions(curve_of(early, 1e-8, 1.0))
    assert next(iter(found)) == "steepest" and found["steepest"] < found["minimum / 10"] == pytest.approx(0.1)
    late = np.r_[np.full(80, 2.0), np.linspace(2, 0, 10), np.linspace(0, 9, 11)]
    found = suggestions(curve_of(late, 1e-8, 1.0))
    assert next(iter(found)) == "minimum / 10" and found["minimum / 10"] < found["steepest"]


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_fall(seed):
    noise = np.random.default_rng(seed).normal(0, 0.2, 100)
    with pytest.raises(ValueError, match="never falls"):
        suggestions(curve_of(2 + noise, memory=0.8))
    with pytest.raises(ValueError, match="never falls"):
        suggestions(curve_of(np.linspace(2, 5, 50)))
    fall = np.r_[np.zeros(50), np.linspace(0, -1.5, 50)]
    steep = suggestions(curve_of(2 + noise + fall, memory=0.8))["steepest"]
    assert steep > 1e-6 * 1e6 ** (48 / 99)  # not a place of the noise before the fall


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_suggested_rate_trains_digits_well(optimizer, tmp_path):
    chosen = [f"optimizer={optimizer}", "init=kaiming", "model.hidden=[64]", "trainer.max_epochs=5"]
    rate = next(iter(suggestions(range_test(parts_of(*chosen), 1e-7, 10, 100)).values()))
    quiet = ["monitor=none", "progress=false", f"output_dir={tmp_path}", "trainer.device=cpu"]
    ended = run.train(composed(*chosen, "early_stop=none", f"optimizer.lr={rate:.2g}", *quiet))
    assert ended.run.metrics["val/accuracy"] > 0.9
