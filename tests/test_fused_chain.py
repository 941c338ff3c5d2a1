"""The passes of stacked models: gradients against torch's own, for whatever stands in a chain."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from small_learners import CLASSES, RATE, at_once, in_turn, learners
from torch import nn
from torch.nn.functional import cross_entropy

from sweepwise.learner import Watch
from sweepwise.learner.chain import LinearLink, Segment
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused import layers as layers_module
from sweepwise.learner.fused.layers import Convolutions
from sweepwise.model.activation import ACTIVATIONS

LINK, SEGMENT = LinearLink, Segment


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(7, 7), nn.Tanh())

    def forward(self, x):
        return x + self.inner(x)


def tied():
    first, second = nn.Linear(7, 7), nn.Linear(7, 7)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(7, CLASSES))


def twice():
    layer, relu = nn.Linear(7, 7), nn.ReLU()
    return nn.Sequential(layer, relu, layer, relu, nn.Linear(7, CLASSES))


def one_relu():
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(7, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, CLASSES))


def frozen(*names):
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def hooked():
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    model[1].register_forward_hook(lambda layer, inputs, output: output * 2)
    return model


def wide(activation):
    return nn.Sequential(
        nn.Linear(7, 140), activation, nn.Linear(140, 130), activation, nn.Linear(130, CLASSES)
    )


MODELS = {
    "one linear": (lambda: nn.Linear(7, CLASSES), [LINK]),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(7, 6, bias=False), nn.ReLU(), nn.Linear(6, CLASSES)),
        [LINK, LINK],
    ),
    "relu": (lambda: wide(nn.ReLU()), [LINK, LINK, LINK]),
    "one relu": (one_relu, [LINK, LINK, LINK]),
    "relu at the end": (lambda: nn.Sequential(nn.Linear(7, CLASSES), nn.ReLU()), [LINK]),
    "relu twice": (
        lambda: nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.ReLU(), nn.Linear(6, CLASSES)),
        [LINK, SEGMENT, LINK],
    ),
    "nested": (
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(7, 6), nn.ReLU()), nn.Sequential(nn.Linear(6, CLASSES))
        ),
        [LINK, LINK],
    ),
    "dropout of 0": (
        lambda: nn.Sequential(
            nn.Linear(7, 6), nn.ReLU(), nn.Dropout(0), nn.Identity(), nn.Linear(6, CLASSES)
        ),
        [LINK, LINK],
    ),
    "norms": (
        lambda: nn.Sequential(
            nn.LayerNorm(7),
            nn.Linear(7, 6),
            nn.BatchNorm1d(6),
            nn.GELU(),
            nn.Linear(6, CLASSES),
            nn.LayerNorm(CLASSES),
        ),
        [SEGMENT, LINK, SEGMENT, LINK, SEGMENT],
    ),
    "residual": (
        lambda: nn.Sequential(nn.Linear(7, 7), nn.ReLU(), Residual(), nn.Linear(7, CLASSES)),
        [LINK, SEGMENT, LINK],
    ),
    "no chain": (Residual, [SEGMENT]),
    "in place": (
        lambda: nn.Sequential(nn.Linear(7, 6), nn.ReLU(inplace=True), nn.Linear(6, CLASSES)),
        [SEGMENT],
    ),
    "tied weights": (tied, [SEGMENT]),
    "a layer twice": (twice, [SEGMENT]),
    "the first frozen": (lambda: frozen("0.weight", "0.bias"), [LINK, LINK, SEGMENT, LINK]),
    "weights frozen": (lambda: frozen("0.weight", "2.weight"), [LINK, LINK, SEGMENT, LINK]),
    "biases frozen": (lambda: frozen("0.bias", "2.bias"), [LINK, LINK, SEGMENT, LINK]),
    **{
        f"activation {name}": (lambda make=make: wide(make()), [LINK] * 3 if name == "relu" else None)
        for name, make in ACTIVATIONS.items()
    },
}


def put_out(model):
    """What each layer puts out from now on, in the order of calls."""
    found = {}
    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda _, inputs, out, name=name: found.setdefault(name, []).append(out))
    return found


@pytest.mark.parametrize("batch", [16, 11])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_that_of_autograd(name, batch, in_double):
    make, kinds = MODELS[name]
    runs = 3
    own = learners(make, runs, 7 if make is Residual else CLASSES)
    alone = [copy.deepcopy(learner.model) for learner in own]
    x, y = torch.randn(runs, batch, 7), torch.randint(CLASSES, (runs, batch))
    together = FusedLearner(own, x[0])
    if kinds is not None:
        assert [type(link) for link in together._program._links] == kinds
    for learner in own:
        learner.flat.gradient.fill_(1e6)  # of an earlier step
    losses, _ = together.step(x.flatten(0, 1), y.flatten(), np.full(runs, RATE), 0, Watch.TENSORS)
    for run, (learner, model) in enumerate(zip(own, alone, strict=True)):
        wanted = put_out(model)
        loss = cross_entropy(model(x[run]), y[run])
        loss.backward()
        assert losses[run].item() == pytest.approx(loss.item(), rel=1e-12)
        for parameter, other in zip(learner.model.parameters(), model.parameters(), strict=True):
            moved = other if other.grad is None else other - RATE * other.grad
            torch.testing.assert_close(parameter, moved, rtol=1e-12, atol=1e-14)
        told = together.watched(run).activations
        assert set(told) == set(learner.forward.kinds)
        for layer, output in told.items():
            torch.testing.assert_close(output, wanted[layer][-1].detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("one_by_one", [["cpu"], []], ids=["one by one", "at once"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (partial(nn.Conv1d, 4, 6, 3, stride=2), (4, 9)),
        (partial(nn.Conv2d, 4, 6, 3, groups=2, padding=1, bias=False), (4, 5, 6)),
        (partial(nn.Conv2d, 4, 6, (3, 1), dilation=2, padding="same", padding_mode="circular"), (4, 7, 6)),
        (partial(nn.Conv3d, 4, 2, 2, padding=(1, 0, 1), padding_mode="reflect"), (4, 3, 4, 5)),
    ],
)
def test_convolutions_are_those_of_each_run(layer, shape, one_by_one, in_double, monkeypatch):
    monkeypatch.setattr(layers_module, "ONE_BY_ONE", one_by_one)
    layers = [layer() for _ in range(3)]
    x = torch.randn(3 * 5, *shape, requires_grad=True)
    y = Convolutions(layers, torch.stack)(x)
    alone = torch.cat([one(rows) for one, rows in zip(layers, x.chunk(3), strict=True)])
    torch.testing.assert_close(y, alone, rtol=1e-12, atol=1e-13)
    direction, of = torch.randn_like(y), [x, *(own for one in layers for own in one.parameters())]
    for ours, wanted in zip(
        torch.autograd.grad(y, of, direction), torch.autograd.grad(alone, of, direction), strict=True
    ):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-13)


def test_what_a_hook_changes_is_not_lost():
    own = learners(hooked, 2)
    x = torch.randn(2, 4, 7)
    wanted = [learner.model(rows).detach() for learner, rows in zip(own, x, strict=True)]
    together = FusedLearner(own, x[0])
    _, outputs = together.step(
        x.flatten(0, 1), torch.zeros(8, dtype=torch.int64), np.full(2, RATE), 0, Watch.NOTHING
    )
    torch.testing.assert_close(outputs.view(2, 4, -1), torch.stack(wanted))


def test_in_float32_they_differ_as_after_a_change_of_the_last_bit():
    """A sum in another order is one rounding at first; from then on the training itself amplifies it.

    So it does a change of the first weights by half a unit in the last place, made here for comparison.
    """
    runs, steps, unit = 4, 100, torch.finfo(torch.float32).eps
    make = partial(wide, nn.ReLU())
    batches = [(torch.randn(runs, 32, 7), torch.randint(CLASSES, (runs, 32))) for _ in range(steps)]
    alone = in_turn(learners(make, runs), batches)
    moved = learners(make, runs)
    for learner in moved:
        learner.flat.values.mul_(1 + unit * (torch.rand_like(learner.flat.values) - 0.5))
    by_us, by_a_bit = (
        np.array(
            [
                [torch.dist(*pair).item() for pair in zip(*run, strict=True)]
                for run in zip(alone, other, strict=True)
            ]
        )
        for other in (at_once(learners(make, runs), batches), in_turn(moved, batches))
    )
    sizes = np.array([torch.linalg.vector_norm(run[0]).item() for run in alone])
    assert (by_us[:, 0] > 0).all() and (by_us[:, 0] < unit * sizes).all()
    assert np.median(by_us / by_a_bit) < 2 and (by_us / by_a_bit).max() < 20
