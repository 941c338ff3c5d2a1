"""Models that change their input: the data stay as they are, and so do results."""

from functools import partial

import pytest
import torch
from torch import nn

from sweepwise import Settings, build, fit, split
from sweepwise.data.sklearn_sets import wine


class Halved(nn.Module):
    """Halves its input, in place or not."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place

    def forward(self, x):
        return x.mul_(0.5) if self.in_place else x * 0.5


def network(in_place):
    def model(features, outputs):
        return nn.Sequential(Halved(in_place), nn.Linear(features[0], 8), nn.ReLU(), nn.Linear(8, outputs))

    return model


def trained(in_place, **more):
    parts = build(
        data=split(wine(), batch_size=16),
        model=network(in_place),
        optimizer=partial(torch.optim.Adam, lr=0.01),
        settings=Settings(max_epochs=4, device="cpu", **more),
        seed=0,
    )
    contents = [
        (part.x, part.x.clone()) for part in (parts.data.train, parts.data.validation, parts.data.test)
    ]
    fitted = fit(parts)
    assert all(torch.equal(now, before) for now, before in contents)
    return parts, fitted


@pytest.mark.parametrize("more", [{}, {"ema": 0.9}])
def test_results_are_those_of_a_model_that_leaves_its_input_alone(more):
    _, plain = trained(False, **more)
    _, fitted = trained(True, **more)
    assert fitted.history == plain.history and fitted.metrics == plain.metrics
    for one, other in zip(fitted.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_to_build_leaves_the_data_as_they_are():
    data = split(wine(), batch_size=16)
    before = data.train.x.clone()
    build(
        data=data,
        model=network(True),
        optimizer=partial(torch.optim.Adam, lr=0.01),
        settings=Settings(max_epochs=1, device="cpu"),
    )
    assert torch.equal(data.train.x, before)
