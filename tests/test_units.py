"""Dead and saturated units: the monitor in training and the diagnosis before it say the same."""

import json

import numpy as np
import pytest
import torch
from small_learners import learners
from torch import nn

from sweepwise.diagnosis.measure import examine
from sweepwise.learner import Watch
from sweepwise.learner.units import alive, axes_of_units, saturated
from sweepwise.monitor import Monitor

EXAMPLES = 20


def dying(layer, units):
    """A layer some of whose units are always 0, and the others only here and there."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(1.0)
        layer.bias[:units] = -1.0
    return layer


def at_places(channels=4):
    """Dead in 1 of 4 channels; the others are 0 at all places but the middle one."""
    layer = dying(nn.Conv1d(1, channels, 3, padding=1), 1)
    with torch.no_grad():
        layer.bias[1:] = -1.0
        layer.weight[1:, :, 1] = 1.0
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(5 * channels, 5))


MODELS = {
    "dense": lambda: nn.Sequential(dying(nn.Linear(5, 8), 3), nn.ReLU(), nn.Linear(8, 5)),
    "places": at_places,
    "images": lambda: nn.Sequential(dying(nn.Conv2d(1, 8, 2), 2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)),
    "sequence": lambda: nn.Sequential(dying(nn.Linear(3, 8), 5), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)),
    "sigmoid": lambda: nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 5)),
    "tanh": lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5)),
}
SHAPES = {
    "dense": (5,),
    "places": (1, 5),
    "images": (1, 3, 3),
    "sequence": (4, 3),
    "sigmoid": (5,),
    "tanh": (1, 5),
}
DEAD = {"dense": 3 / 8, "places": 1 / 4, "images": 2 / 8, "sequence": 5 / 8}


def inputs(name):
    x = torch.randn(EXAMPLES, *SHAPES[name], generator=torch.Generator().manual_seed(2)) * 9
    if name == "places":
        x = torch.zeros_like(x)
        x[..., 2] = 5.0
    return x, torch.arange(EXAMPLES) % 5


@pytest.mark.parametrize("name", MODELS)
def test_monitor_and_diagnosis_agree(name, tmp_path):
    x, y = inputs(name)
    (learner,) = learners(MODELS[name], 1)
    seen = examine(learner.model, nn.functional.cross_entropy, x, y)
    assert not seen.failed
    monitor = Monitor(tmp_path, tensorboard=False)
    learner.step(x, y, np.full(1, 0.1), 0, Watch.TENSORS)
    monitor.step(0, 0, 0.1, learner.watched(0))
    monitor.close("finished")
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    shares = {
        tag.rpartition("/")[2]: value for tag, value in line.items() if tag.endswith(("/dead", "/saturated"))
    }
    assert len(shares) == 1
    for kind, share in shares.items():
        assert getattr(seen.layers[0], kind) == pytest.approx(share)
        assert kind == "saturated" or share == pytest.approx(DEAD[name])
        assert kind == "dead" or 0 < share < 1


def test_a_unit_of_a_dense_layer_is_counted_as_before():
    """To the bit: these numbers stand in metrics.jsonl."""
    values = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).sub(1.5).relu()
    living, units = alive(values, -1)
    before = values.amax(0)
    assert torch.equal(1 - living / units, 1 - before.count_nonzero() / before.numel())
    distance = (values.sigmoid() - 0.5).abs() / 0.5
    assert torch.equal(saturated(values.sigmoid(), "Sigmoid"), (distance > 0.97).float().mean())


def test_the_axis_follows_from_the_layer_before():
    layers = {
        "relu, used everywhere": nn.ReLU(),
        "conv": nn.Conv2d(1, 2, 3),
        "norm": nn.BatchNorm2d(2),
        "relu": nn.ReLU(),
        "head": nn.Linear(2, 2),
        "tanh": nn.Tanh(),
    }
    assert list(axes_of_units(layers).values()) == [1, 1, 1, 1, -1, -1]
    assert axes_of_units({"only": nn.ReLU()}) == {"only": -1}
