import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweepwise.config.schema import bind
from sweepwise.learner import Watch
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.dropout import Dropout
from sweepwise.regularizer.elastic_net import ElasticNet
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.task import Regression

# Each regularizer, and the penalty of one run's weights as its documentation writes it.
WRITTEN = {
    "l1": (L1(coefficient=0.25), lambda w: 0.25 * w.abs().sum()),
    "l2": (L2(coefficient=0.25), lambda w: 0.25 * (w**2).sum()),
    "elastic_net": (
        ElasticNet(alpha=0.5, l1_ratio=0.25),
        lambda w: 0.5 * (0.25 * w.abs().sum() + (1 - 0.25) / 2 * (w**2).sum()),
    ),
    "ridge": (ElasticNet(alpha=0.5, l1_ratio=0.0), lambda w: 0.5 / 2 * (w**2).sum()),
    "lasso": (ElasticNet(alpha=0.5, l1_ratio=1.0), lambda w: 0.5 * w.abs().sum()),
    "none": (Regularizer(), lambda w: 0 * w.sum()),
}


@pytest.fixture
def weights() -> Tensor:
    """Three runs; one weight is zero, where |w| has the subgradient 0."""
    rows = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows[1, 2] = 0
    return rows


def model_of_every_kind() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.LayerNorm(5), nn.PReLU(), nn.Linear(5, 1)]
    return nn.Sequential(*layers).double()


def learner(model: nn.Module, optimizer, *regularizers: Regularizer, decay: str = "weights") -> ModuleLearner:
    build = partial(FlatOptimizer, optimizer, decay=decay)
    return ModuleLearner(model, Regression(1.0), build, regularizers, 0)


def train(
    trained: ModuleLearner, steps: int = 1, rate: float = 0.125, scale: float = 1.0
) -> dict[str, Tensor]:
    """The parameters after some steps; with scale 0 all inputs are zero."""
    generator = torch.Generator().manual_seed(1)
    x = scale * torch.randn(16, 4, dtype=torch.float64, generator=generator)
    y = torch.randn(16, dtype=torch.float64, generator=generator)
    for step in range(steps):
        trained.step(x, y, np.array([rate]), step, Watch.SCALARS)
    return {name: parameter.detach().clone() for name, parameter in trained.model.named_parameters()}


# --- penalties and their gradients


@pytest.mark.parametrize(("regularizer", "written"), WRITTEN.values(), ids=WRITTEN)
def test_penalty_and_gradient_are_those_of_the_written_formula(weights, regularizer, written):
    leaf = weights.clone().requires_grad_()
    expected = torch.stack([written(run) for run in leaf])
    expected.sum().backward()
    gradient = torch.randn_like(weights)
    before = gradient.clone()
    regularizer.before_step_(weights, gradient, 0.1)
    regularizer.after_step_(weights, 0.1)
    torch.testing.assert_close(regularizer.penalty(weights), expected.detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient - before, leaf.grad, rtol=1e-12, atol=1e-15)
    assert torch.equal(weights, leaf)


@pytest.mark.parametrize(
    ("regularizer", "threshold", "shrink"),
    [
        (L1(coefficient=0.5, proximal=True), 0.2 * 0.5, 0.0),
        (ElasticNet(alpha=2.0, l1_ratio=0.25, proximal=True), 0.2 * 0.5, 2.0 * 0.75),
        (L1(coefficient=0.0, proximal=True), 0.0, 0.0),
    ],
)
def test_proximal_mode_thresholds_softly_after_the_step(regularizer, threshold, shrink):
    weights = torch.tensor([[-1.0, -0.125, -0.0625, 0.0, 0.0625, 0.125, 1.0]], dtype=torch.float64)
    gradient = torch.zeros_like(weights)
    start = weights.clone()
    regularizer.before_step_(weights, gradient, 0.2)
    assert torch.equal(weights, start)
    torch.testing.assert_close(gradient, shrink * start, rtol=1e-14, atol=0)  # only of the squares
    regularizer.after_step_(weights, 0.2)
    expected = [math.copysign(max(abs(w) - threshold, 0), w) for w in start[0].tolist()]
    torch.testing.assert_close(weights, torch.tensor([expected], dtype=torch.float64), rtol=1e-14, atol=0)
    assert (weights == 0).sum() == (3 if threshold else 1)


def test_proximal_and_subgradient_have_the_same_penalty(weights):
    for kind in (partial(L1, coefficient=0.5), partial(ElasticNet, alpha=0.5)):
        assert torch.equal(kind(proximal=True).penalty(weights), kind(proximal=False).penalty(weights))


def test_decoupled_decay_leaves_the_gradient_and_the_loss_alone(weights):
    start, gradient = weights.clone(), torch.ones_like(weights)
    regularizer = WeightDecay(coefficient=0.5)
    regularizer.before_step_(weights, gradient, 0.25)
    torch.testing.assert_close(weights, start * (1 - 0.25 * 0.5), rtol=1e-15, atol=0)
    assert torch.equal(gradient, torch.ones_like(gradient))
    assert regularizer.penalty(weights).tolist() == [0, 0, 0]


# --- through the learner: weights only


@pytest.mark.parametrize(
    ("regularizer", "shift"),
    [
        (L1(coefficient=0.25), lambda w, after: -0.125 * 0.25 * w.sign()),
        (L2(coefficient=0.25), lambda w, after: -0.125 * 2 * 0.25 * w),
        (WeightDecay(coefficient=0.25), lambda w, after: -0.125 * 0.25 * w),
        (L1(coefficient=0.25, proximal=True), lambda w, after: -after.clamp(-0.125 * 0.25, 0.125 * 0.25)),
    ],
    ids=["l1", "l2", "weight_decay", "proximal"],
)
def test_biases_and_gains_are_left_alone(regularizer, shift):
    model = model_of_every_kind()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    plain = train(learner(model_of_every_kind(), partial(torch.optim.SGD, lr=1.0)))
    ours = train(learner(model, partial(torch.optim.SGD, lr=1.0), regularizer))
    for name in start:
        if name in ("0.weight", "5.weight"):
            expected = plain[name] + shift(start[name], plain[name])
            torch.testing.assert_close(ours[name], expected, rtol=1e-12, atol=1e-14)
            assert not torch.equal(ours[name], plain[name])
        else:
            assert torch.equal(ours[name], plain[name]), name


def test_what_counts_as_a_weight():
    flat = FlatParameters(model_of_every_kind())
    assert flat.weight_names == ["0.weight", "5.weight"] and flat.weights == 4 * 5 + 5
    assert flat.names[:2] == flat.weight_names and len(flat.names) == 9


def test_the_watched_penalty_is_the_sum_at_the_weights_the_step_began_with():
    model = model_of_every_kind()
    weights = torch.cat([model[0].weight.detach().flatten(), model[5].weight.detach().flatten()])
    both = learner(model, partial(torch.optim.SGD, lr=1.0), L1(coefficient=0.25), L2(coefficient=0.5))
    train(both)
    expected = 0.25 * weights.abs().sum() + 0.5 * weights.square().sum()
    assert both.watched(0).penalty == pytest.approx(expected.item(), rel=1e-12)
    plain = learner(model_of_every_kind(), partial(torch.optim.SGD, lr=1.0))
    train(plain)
    assert plain.watched(0).penalty == 0
    assert both.watched(0).loss == plain.watched(0).loss  # free of every penalty


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_l2_under_sgd_is_weight_decay_of_twice_the_coefficient(momentum):
    sgd = partial(torch.optim.SGD, lr=1.0, momentum=momentum)
    by_penalty = train(learner(model_of_every_kind(), sgd, L2(coefficient=0.25)), steps=20, rate=0.01)
    by_option = train(learner(model_of_every_kind(), partial(sgd, weight_decay=0.5)), steps=20, rate=0.01)
    plain = train(learner(model_of_every_kind(), sgd), steps=20, rate=0.01)
    for name in plain:
        torch.testing.assert_close(by_penalty[name], by_option[name], rtol=1e-10, atol=1e-13)
    assert not torch.allclose(by_penalty["0.weight"], plain["0.weight"], rtol=1e-2)


def test_regularizers_act_together():
    sgd = partial(torch.optim.SGD, lr=1.0)
    one = train(learner(model_of_every_kind(), sgd, ElasticNet(alpha=0.5, l1_ratio=0.25)))
    two = train(learner(model_of_every_kind(), sgd, L1(coefficient=0.125), L2(coefficient=0.1875)))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-12, atol=1e-15)


# --- dropout


def test_dropout_sets_every_layer_and_keeps_what_agrees():
    model = nn.Sequential(
        nn.Dropout(0), nn.Sequential(nn.Dropout2d(0.0), nn.AlphaDropout(0.25)), nn.Linear(2, 2)
    )
    Dropout(p=0.25).prepare_(model, (4,), 0)
    assert [layer.p for layer in (model[0], *model[1])] == [0.25] * 3


def test_dropout_of_zero_drops_nothing():
    model = nn.Sequential(nn.Dropout(0))
    Dropout(p=0).prepare_(model, (4,), 0)
    assert torch.equal(model(torch.ones(100)), torch.ones(100))


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU())])
def test_a_model_without_dropout_layers_is_refused(model):
    with pytest.raises(ValueError, match=r"^regularizer=dropout: the model has no dropout layer to set; use"):
        Dropout().prepare_(model, (4,), 0)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_two_rates_are_refused(p):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.125))
    rule = rf"^regularizer\.dropout\.p={p:g}: the model already has the rate 0\.125; set only one of the two$"
    with pytest.raises(ValueError, match=rule):
        Dropout(p=p).prepare_(model, (4,), 0)
    assert model[1].p == 0.125


def test_dropout_adds_no_penalty_and_moves_no_weight(weights):
    start, gradient = weights.clone(), torch.zeros_like(weights)
    Dropout(p=0.5).before_step_(weights, gradient, 0.1)
    Dropout(p=0.5).after_step_(weights, 0.1)
    assert torch.equal(weights, start) and not gradient.any() and not Dropout().penalty(weights).any()


def test_dropout_is_off_in_evaluation():
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(), nn.Linear(50, 1)).double()
    model[1].p = 0.0
    Dropout(p=0.9).prepare_(model, (4,), 0)
    trained = learner(model, partial(torch.optim.SGD, lr=1.0))
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    expected = model[2](model[0](x)).square().mean().item()
    assert trained.evaluate([(x, y)])[0] == pytest.approx([expected], rel=1e-12)
    loss, _ = trained.step(x, y, np.array([0.0]), 0, Watch.NOTHING)  # and on again in training
    assert loss.item() != pytest.approx(expected, rel=1e-3)


# --- options


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ("l1.L1", {"coefficient": -1}),
        ("l1.L1", {"proximal": 1}),
        ("l2.L2", {"coefficient": -1e-9}),
        ("elastic_net.ElasticNet", {"alpha": -1}),
        ("elastic_net.ElasticNet", {"l1_ratio": 1.5}),
        ("weight_decay.WeightDecay", {"coefficient": math.inf}),
        ("dropout.Dropout", {"p": 1}),
        ("dropout.Dropout", {"p": -0.1}),
    ],
)
def test_options_out_of_range(target, values):
    faults: list[str] = []
    bind("regularizer", {"_target_": f"sweepwise.regularizer.{target}", **values}, faults)
    assert len(faults) == 1 and faults[0].startswith(f"regularizer.{next(iter(values))}=")
