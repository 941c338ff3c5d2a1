"""Learning rates of the usual schedules from 0.1, epoch by epoch."""

import math

import numpy as np
import pytest
from omegaconf import OmegaConf
from small import CONF, option_of

from sweepwise.run import schedule as schedule_of
from sweepwise.scheduler import Schedule

FOLDER = CONF / "scheduler"
STEPS_PER_EPOCH = 3


def schedule(name: str, epochs: int = 100, **changes) -> Schedule:
    node = option_of(FOLDER / f"{name}.yaml") | changes
    config = OmegaConf.to_container(
        OmegaConf.create({"scheduler": node, "optimizer": {"lr": 0.1}}), resolve=True
    )
    return schedule_of(config, epochs * STEPS_PER_EPOCH, STEPS_PER_EPOCH)


def by_epoch(name: str, epochs: int = 100, **changes) -> np.ndarray:
    rates = schedule(name, epochs, **changes).rates.reshape(epochs, STEPS_PER_EPOCH)
    assert (rates == rates[:, :1]).all()
    return rates[:, 0]


def test_constant():
    assert by_epoch("constant").tolist() == [0.1] * 100


def test_step_divides_by_ten_every_thirty_epochs():
    rates = by_epoch("step", step_size=30, gamma=0.1)
    expected = [0.1] * 30 + [0.01] * 30 + [0.001] * 30 + [1e-4] * 10
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_exponential():
    rates = by_epoch("exponential", gamma=0.95)
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.0076944975, abs=5e-11)
    assert rates[99] == pytest.approx(0.0006232136, abs=5e-11)
    np.testing.assert_allclose(rates, 0.1 * 0.95 ** np.arange(100), rtol=1e-12)


def test_cosine():
    rates = by_epoch("cosine", T_max=100)
    printed = {0: 0.1, 25: 0.08535534, 50: 0.05, 75: 0.01464466}
    assert {epoch: rates[epoch] for epoch in printed} == pytest.approx(printed, abs=5e-9)
    assert rates[99] == pytest.approx(2.4672e-5, abs=5e-10)
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(math.pi * np.arange(100) / 100)), rtol=1e-9)


def test_cosine_stays_down_after_its_end():
    rates = by_epoch(
        "cosine", epochs=250, T_max=100, eta_min=0.002
    )  # torch's own is at 0.1 again in epoch 200
    np.testing.assert_allclose(rates[100:], 0.002, rtol=1e-9)
    assert (np.diff(rates) <= 0).all()


def test_plateau_under_a_constant_loss():
    plateau = schedule("plateau", patience=10)
    seen = []
    for epoch in range(100):
        seen.append(plateau.rates[epoch * STEPS_PER_EPOCH])
        plateau.observe((epoch + 1) * STEPS_PER_EPOCH, 1.0)
    drops = [epoch for epoch in range(1, 100) if seen[epoch] < seen[epoch - 1]]
    assert drops == [12, 23, 34, 45, 56, 67, 78]
    assert [seen[epoch] for epoch in drops] == pytest.approx([10.0**-k for k in range(2, 9)], rel=1e-9)
    assert seen[99] == pytest.approx(1e-8, rel=1e-9)  # a change below eps is left out
