"""Parameters that take no part in a step stay as they are, as does what the optimizer remembers."""

import functools
import inspect
from functools import partial

import numpy as np
import own_models
import pytest
import torch
from torch import nn
from worlds import doubled

from sweepwise import Arrays, FlatOptimizer, Settings, build, split
from sweepwise.learner import Watch
from sweepwise.learner.fused import FusedLearner, Unfusable
from sweepwise.optimizer import flat
from sweepwise.optimizer.muon import Muon
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.max_norm import MaxNorm
from sweepwise.regularizer.weight_decay import WeightDecay

RATE, STEPS = 0.05, 9
OPTIONS = {"momentum": 0.9, "weight_decay": 0.1}


@functools.cache
def data():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    return doubled(split(Arrays("points", x.numpy(), (x[:, :3].argmax(1)).numpy(), classes=3), batch_size=20))


class Alternates(own_models.Joins):
    """A branch takes part in every other step."""

    def other(self, x):
        self.seen += self.training
        return own_models.Net.other(self, x) if self.seen % 2 else 0


class Idle(own_models.Net):
    """A layer that no pass uses."""

    def other(self, x):
        return 0


class Frozen(own_models.Joins):
    """Branches are frozen for some steps, in turn."""

    def other(self, x):
        self.seen += self.training
        self.b.requires_grad_(int(self.seen) % 3 != 0)
        self.head.requires_grad_(int(self.seen) % 4 != 1)
        return torch.tanh(self.b(x))


class Leaves(own_models.Leaves):
    """A branch takes part in eight steps, then not any more."""


MODELS = [Alternates, Idle, Frozen, Leaves]


def built(make, optimizer, **options):
    whole = partial(FlatOptimizer, optimizer, decay="all")
    model = lambda features, outputs: make(features, outputs).double()  # noqa: E731
    return build(data=data(), model=model, optimizer=whole, settings=Settings(device="cpu"), **options)


def batch(step):
    part = data().train
    return part.x[10 * step : 10 * step + 20], part.y[10 * step : 10 * step + 20]


def take(learner, first, last, watch=Watch.NOTHING):
    for step in range(first, last):
        learner.step(*batch(step), np.full(1, RATE), step, watch)


def plain(make, optimizer, like, steps=STEPS, penalty=lambda model: 0):
    """The same steps in a loop of torch alone."""
    model = make((6,), 3).double()
    model.load_state_dict(like.state_dict())
    own = optimizer(model.parameters())
    for step in range(steps):
        x, y = batch(step)
        own.zero_grad()
        (nn.functional.cross_entropy(model(x), y) + penalty(model)).backward()
        own.step()
    return model


def alike(one, other):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-9, atol=1e-12, msg=name)


def options_of(kind):
    known = inspect.signature(kind).parameters
    return {key: value for key, value in OPTIONS.items() if key in known}


@pytest.mark.parametrize("kind", flat.ELEMENTWISE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("make", MODELS)
def test_as_in_a_plain_loop(make, kind):
    optimizer = partial(kind, lr=RATE, **options_of(kind))
    parts = built(make, optimizer)
    expected = plain(make, optimizer, parts.model)
    take(parts.learner, 0, STEPS)
    alike(expected, parts.model)


@pytest.mark.parametrize("watch", [Watch.SCALARS, Watch.TENSORS])
def test_watched_steps_are_the_same(watch):
    optimizer = partial(torch.optim.AdamW, lr=RATE)
    parts = built(Alternates, optimizer)
    expected = plain(Alternates, optimizer, parts.model)
    take(parts.learner, 0, STEPS, watch)
    alike(expected, parts.model)
    seen = parts.learner.watched(0).update_ratio
    assert (seen["b.weight"] > 0) == (STEPS % 2 == 1)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.NAdam, Muon])
@pytest.mark.parametrize("at", [3, 8])
@pytest.mark.parametrize("make", MODELS)
def test_it_goes_on_to_the_bit(make, at, kind):
    shape = {"first": 0} if kind is Muon else {}
    optimizer = partial(kind, lr=RATE, **options_of(kind), **shape)
    whole, resumed = built(make, optimizer), built(make, optimizer)
    take(whole.learner, 0, at)
    saved = whole.learner.model_state_dict(0, best=False), {}, whole.learner.state_dict(0)
    take(whole.learner, at, STEPS)
    resumed.learner.load_state_dict(0, *saved)
    take(resumed.learner, at, STEPS)
    assert torch.equal(whole.learner.flat.values, resumed.learner.flat.values)


@pytest.mark.parametrize("make", [Alternates, Idle])
def test_a_penalty_is_a_part_of_the_loss(make):
    """Then all weights have a gradient, and biases that are not used have none."""
    sgd = partial(torch.optim.SGD, lr=RATE, momentum=0.9)
    parts = built(make, sgd, regularizers=[L2(coefficient=0.01)])

    def penalty(model):
        return 0.01 * sum(layer.weight.square().sum() for layer in (model.a, model.b, model.head))

    expected = plain(make, sgd, parts.model, penalty=penalty)
    take(parts.learner, 0, STEPS)
    alike(expected, parts.model)


def test_nothing_moves_what_is_frozen_and_no_decay_what_is_idle():
    rules = [WeightDecay(coefficient=0.5), L2(coefficient=0.1), MaxNorm(limit=0.1)]
    parts = built(Frozen, partial(torch.optim.AdamW, lr=RATE, weight_decay=0), regularizers=rules)
    for step in range(STEPS):
        before = parts.model.b.weight.clone()
        take(parts.learner, step, step + 1)
        assert torch.equal(before, parts.model.b.weight) == (not parts.model.b.weight.requires_grad)
    parts = built(Idle, partial(torch.optim.AdamW, lr=RATE, weight_decay=0), regularizers=rules[:1])
    before = parts.model.b.weight.clone()
    take(parts.learner, 0, STEPS)
    assert torch.equal(before, parts.model.b.weight)


def test_such_models_run_alone():
    parts = [built(Idle, partial(torch.optim.SGD, lr=RATE), seed=seed) for seed in (0, 1)]
    with pytest.raises(Unfusable, match=r"its pass does not use its parameters b\.weight, b\.bias"):
        FusedLearner([own.learner for own in parts], data().train.x[:20])
