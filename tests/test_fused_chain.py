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
from sweepwise.learner.fused import FusedLearner, alone, convolution
from sweepwise.learner.fused.chain import Segment
from sweepwise.learner.fused.convolution import Convolutions
from sweepwise.learner.fused.links import ActivationLink, LayerLink, ReshapeLink
from sweepwise.learner.linear import ONEDNN_LEAST, Products
from sweepwise.model.activation import ACTIVATIONS

LINK, ACTS, SHAPE, SEGMENT = LayerLink, ActivationLink, ReshapeLink, Segment


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
    return frozen_in(model, *names)


def frozen_in(model, *names):
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
        [LINK, ACTS, LINK],
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
        [LINK, LINK, LINK, ACTS, LINK, LINK],
    ),
    "norms of signals": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 7)),
            nn.Conv1d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.GroupNorm(4, 16),
            nn.Tanh(),
            nn.Conv1d(16, 6, 3),
            nn.BatchNorm1d(6, affine=False, momentum=0.3),
            nn.GroupNorm(3, 6, affine=False),
            nn.LayerNorm([6, 5], bias=False),
            nn.LayerNorm(5),
            nn.Flatten(),
            nn.Linear(30, CLASSES),
        ),
        [SHAPE, LINK, LINK, LINK, ACTS, *[LINK] * 5, SHAPE, LINK],
    ),
    "frozen norms": (
        lambda: frozen_in(
            nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.LayerNorm(6), nn.Linear(6, CLASSES)),
            "1.weight",
            "2.bias",
        ),
        [LINK, LINK, LINK, LINK],
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
    "the first frozen": (lambda: frozen("0.weight", "0.bias"), [LINK, LINK, ACTS, LINK]),
    "weights frozen": (lambda: frozen("0.weight", "2.weight"), [LINK, LINK, ACTS, LINK]),
    "biases frozen": (lambda: frozen("0.bias", "2.bias"), [LINK, LINK, ACTS, LINK]),
    **{
        f"activation {name}": (
            lambda make=make: wide(make()),
            [LINK] * 3 if name == "relu" else [LINK, ACTS, LINK, ACTS, LINK],
        )
        for name, make in ACTIVATIONS.items()
    },
    "activations with options": (
        lambda: nn.Sequential(
            nn.Linear(7, 9),
            nn.GELU("tanh"),
            nn.Linear(9, 9),
            nn.LeakyReLU(0.3),
            nn.Linear(9, 9),
            nn.ELU(0.7),
            nn.Linear(9, CLASSES),
        ),
        [LINK, ACTS, LINK, ACTS, LINK, ACTS, LINK],
    ),
    "an activation first": (lambda: nn.Sequential(nn.Tanh(), nn.Linear(7, CLASSES)), [ACTS, LINK]),
    "a signal": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 7)),
            nn.Conv1d(1, 20, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(20, 4, 3, stride=2, padding=2, bias=False),
            nn.Tanh(),
            nn.Conv1d(4, 6, 2, dilation=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(18, CLASSES),
        ),
        [SHAPE, LINK, LINK, ACTS, LINK, SHAPE, LINK],
    ),
    "images": (
        lambda: nn.Sequential(
            nn.Linear(7, 2 * 5 * 6),
            nn.Unflatten(1, (2, 5, 6)),
            nn.Conv2d(2, 6, (3, 2), padding=(1, 0)),
            nn.ReLU(),
            nn.MaxPool2d(2, padding=1),
            nn.Conv2d(6, 4, 3, stride=(1, 2), padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(4, 3, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, CLASSES),
        ),
        [LINK, SHAPE, LINK, SEGMENT, LINK, LINK, SEGMENT, SHAPE, LINK],
    ),
    "volumes, padded otherwise": (
        lambda: nn.Sequential(
            nn.Linear(7, 27),
            nn.Unflatten(1, (1, 3, 3, 3)),
            nn.Conv3d(1, 4, 2, padding=1),
            nn.ReLU(),
            nn.Conv3d(4, 2, 3, padding="same", padding_mode="circular"),
            nn.Flatten(),
            nn.Linear(128, CLASSES),
        ),
        [LINK, SHAPE, LINK, SEGMENT, SHAPE, LINK],
    ),
    "frozen kernels": (
        lambda: frozen_in(
            nn.Sequential(
                nn.Unflatten(1, (1, 7)),
                nn.Conv1d(1, 3, 3),
                nn.ReLU(),
                nn.Conv1d(3, 3, 3),
                nn.Flatten(),
                nn.Linear(9, CLASSES),
            ),
            "1.weight",
            "1.bias",
            "3.weight",
        ),
        [SHAPE, LINK, LINK, SHAPE, LINK],
    ),
}


def put_out(model):
    """What each layer puts out from now on, in the order of calls."""
    found = {}
    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda _, inputs, out, name=name: found.setdefault(name, []).append(out))
    return found


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("batch", [16, 11])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_that_of_autograd(name, batch, runs, in_double):
    make, kinds = MODELS[name]
    check_step(make, kinds, batch, runs)


@pytest.mark.parametrize("name", ["a signal", "images", "volumes, padded otherwise", "frozen kernels"])
def test_a_step_with_large_convolutions_is_that_of_autograd(name, in_double, monkeypatch):
    monkeypatch.setattr(convolution, "FEW", 0)
    check_step(*MODELS[name], batch=11, runs=3)


def check_step(make, kinds, batch, runs):
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
    monkeypatch.setattr(convolution, "ONE_BY_ONE", one_by_one)
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


@pytest.fixture
def one_thread():
    """As a run has it by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_autograd(x, weight, bias, direction):
    """The product, and its derivatives by weight, bias and x, in double precision."""
    x, weight, bias = (own.double().requires_grad_() for own in (x, weight, bias))
    y = x @ weight.mT + bias[:, None]
    return y, *torch.autograd.grad(y, [weight, bias, x], direction.double())


@pytest.mark.parametrize(
    ("rows", "into", "out"), [(64, 256, 128), (107, 300, 77), (1024, 11, 120), (16, 9, 33), (48, 40, 50)]
)
def test_products_are_right_and_have_the_same_bits_whatever_lies_beside_them(rows, into, out, one_thread):
    """Those of oneDNN, where they are large, and the batched ones."""
    runs = 3
    x, direction = torch.randn(runs, rows, into), torch.randn(runs, rows, out)
    rows_of_all = torch.randn(runs, -(-(out * into + out) // 16) * 16)  # as in a group
    results = []
    for chosen in ([0, 1, 2], [1], [2, 1]):
        own = rows_of_all[chosen]
        weight, bias = own[:, : out * into].unflatten(1, (out, into)), own[:, out * into :][:, :out]
        products = Products(weight, bias)
        kept, y = products.forward(x[chosen])
        by_weight, by_bias = torch.empty_like(weight), torch.empty_like(bias)
        by_x = products.backward(direction[chosen].clone(), kept, by_weight, by_bias, True)
        results.append([y, by_weight, by_bias, by_x])
        wanted = by_autograd(x[chosen], weight, bias, direction[chosen])
        for ours, exact in zip(results[-1], wanted, strict=True):
            assert (ours - exact).abs().max() < 2e-6 * exact.abs().max()
    for name, every, second, turned in zip(("y", "weight", "bias", "x"), *results, strict=True):
        assert torch.equal(every[1], second[0]), name
        assert torch.equal(every[[2, 1]], turned), name
    assert rows * into * out > ONEDNN_LEAST or rows * into * out < ONEDNN_LEAST / 2


def trained(learner, x, y, steps=5):
    for step in range(steps):
        learner.step(x, y, np.full(learner.runs, 1e-2), step, Watch.NOTHING)


@pytest.mark.parametrize(
    "make",
    [
        lambda: wide(nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(7, 300), nn.ReLU(), nn.Dropout(0.4), nn.Linear(300, CLASSES)),
        MODELS["a signal"][0],
        MODELS["images"][0],
        MODELS["norms"][0],
        MODELS["norms of signals"][0],
    ],
    ids=["wide", "dropout", "signal", "images", "norms", "norms of signals"],
)
@pytest.mark.parametrize("fused", [None, True])
def test_a_run_alone_has_the_bits_of_one_in_a_group(make, fused, one_thread):
    runs, batch = 5, 64
    x, y = torch.randn(runs, batch, 7), torch.randint(CLASSES, (runs, batch))
    together, by_itself = learners(make, runs), learners(make, runs)
    trained(FusedLearner(together, x[0]), x.flatten(0, 1), y.flatten())
    kinds = {type(link) for link in FusedLearner(learners(make, 1), x[0])._program._links}
    slow = SEGMENT in kinds or make in (MODELS["norms"][0], MODELS["norms of signals"][0])
    for run, own in enumerate(by_itself):
        learner, as_a_group = alone(own, x[0], fused)
        assert as_a_group == isinstance(learner, FusedLearner) == bool(fused or not slow)
        if not as_a_group:
            continue
        trained(learner, x[run], y[run])
        assert torch.equal(own.flat.values, together[run].flat.values)


class Own(nn.ReLU):
    """A person's own layer: it may do anything."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(7, 6), Own(), nn.Linear(6, CLASSES)),
        MODELS["norms"][0],
        MODELS["images"][0],
        MODELS["residual"][0],
        MODELS["tied weights"][0],
        MODELS["in place"][0],
        hooked,
    ],
    ids=["own layer", "norms", "pools", "residual", "tied", "in place", "hooked"],
)
def test_what_autograd_has_to_differentiate_is_trained_as_it_is(make):
    (own,) = learners(make, 1)
    before = {name: value.clone() for name, value in own.model.state_dict().items()}
    learner, fused = alone(own, torch.randn(16, 7))
    assert learner is own and not fused
    assert all(torch.equal(value, before[name]) for name, value in own.model.state_dict().items())
