"""Mixed precision, against plain torch: autocast around forward pass and loss, and torch's own scaler."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.precision import in_precision
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.task import task_of

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOMENTUM = partial(torch.optim.SGD, lr=1.0, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=1.0)


def network(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs))


def batch(number: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Targets that follow from the features, so that they can be learned."""
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(number))
    return (x, x[:, :classes].argmax(1)) if classes else (x, x.sum(1))


def made(model, precision, regularizers=(), optimizer=MOMENTUM, classes=3, **options) -> ModuleLearner:
    flat, task = partial(FlatOptimizer, optimizer), task_of(classes, 1.0)
    return ModuleLearner(model, task, flat, list(regularizers), 0, precision=precision, **options)


def take(learner, number, rate=0.05, watch=Watch.SCALARS, x=None, y=None, classes=3):
    made_x, made_y = batch(number, classes)
    x, y = made_x if x is None else x, made_y if y is None else y
    return learner.step(x, y, np.array([rate]), number, watch)


class Clip(Regularizer):
    """Clips the norm of the gradient."""

    def clip_(self, gradient):
        gradient *= min(1.0, 0.5 / torch.linalg.vector_norm(gradient).item())


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("classes", [3, 0], ids=["classes", "regression"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_steps_equal_autocast_around_forward_and_loss(precision, classes, optimizer):
    model = network(classes or 1)
    reference = copy.deepcopy(model)
    learner = made(model, precision, [L2(coefficient=0.01), Clip()], optimizer, classes)
    plain = optimizer(reference.parameters())
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    weights = [reference[0].weight, reference[3].weight]
    clipped = 0
    for number in range(6):
        x, y = batch(number, classes)
        plain.param_groups[0]["lr"] = 0.05
        plain.zero_grad()
        with torch.autocast("cpu", TYPES[precision]):
            outputs = reference(x)
            loss = functional.cross_entropy(outputs, y) if classes else functional.mse_loss(outputs[:, 0], y)
        scaler.scale(loss).backward()
        scaler.unscale_(plain)
        for weight in weights:
            weight.grad += 2 * 0.01 * weight.detach()
        clipped += nn.utils.clip_grad_norm_(reference.parameters(), 0.5).item() > 0.5
        scaler.step(plain)
        scaler.update()
        measured, found = take(learner, number, watch=Watch.TENSORS, classes=classes)
        assert measured.dtype == found.dtype == torch.float32
        assert measured.item() == pytest.approx(loss.item(), rel=1e-4)
    assert clipped
    for name, parameter in reference.named_parameters():
        own = model.get_parameter(name)
        assert own.dtype == own.grad.dtype == torch.float32
        torch.testing.assert_close(own, parameter, rtol=1e-3, atol=1e-4)
    seen = learner.watched(0)
    assert seen.activations["0"].dtype == TYPES[precision]
    assert seen.clipping["clipped_norm"] <= 0.5 * (1 + 1e-5)
    x, y = batch(50, classes)
    with torch.no_grad(), torch.autocast("cpu", TYPES[precision]):
        outputs = copy.deepcopy(model).eval()(x).float()
    right = functional.cross_entropy(outputs, y) if classes else functional.mse_loss(outputs[:, 0], y)
    assert learner.evaluate([(x, y)])[0] == pytest.approx([right.item()], rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_short_training_comes_out_as_in_float32(precision):
    models = [network(), network()]
    learners = [made(models[0], "fp32"), made(models[1], precision)]
    losses = [[take(one, number)[0].item() for number in range(60)] for one in learners]
    for fine, coarse in zip(*losses, strict=True):
        assert coarse == pytest.approx(fine, abs=0.03)
    assert losses[0] != losses[1] and losses[1][-1] < 0.3 < 0.8 < losses[1][0]
    scores = [one.evaluate([batch(100)])[0].item() for one in learners]
    assert scores[1] == pytest.approx(scores[0], abs=0.03)


def test_float32_is_the_model_itself_and_float64_is_left_alone():
    model = network()
    assert in_precision(model, "fp32", torch.zeros(1)) is model
    wide = network().double()
    reference = copy.deepcopy(wide)
    x, y = batch(0)
    loss, outputs = take(made(wide, "bf16"), 0, x=x.double())
    wanted = reference(x.double())
    assert outputs.dtype == torch.float64 and torch.equal(outputs[0], wanted)
    assert loss.item() == functional.cross_entropy(wanted, y).item()


def test_a_device_without_it_is_refused(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(torch, "autocast", refuse)
    with pytest.raises(ValueError, match=r"trainer.precision=bf16: cannot be used here \(no such thing\)"):
        made(network(), "bf16")


# --- loss scaling


class Overflowing(nn.Module):
    """Its gradient is 2^10 times as large as it should be, or not a number, for chosen steps."""

    class Factor(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * ctx.factor, None

    def __init__(self):
        super().__init__()
        self.inner = network()
        self.factor = 1.0

    def forward(self, x):
        return self.Factor.apply(self.inner(x), self.factor)


def everything(learner) -> list[Tensor]:
    """Copies of all that a step may move, and the momentum."""
    (state,) = learner.optimizer.optimizer.state.values() or [{}]
    return [t.clone() for t in (*learner.model_state_dict(0, best=False).values(), *state.values())]


def test_a_step_whose_gradients_overflow_changes_no_parameter_and_halves_the_scale():
    model = Overflowing()
    regularizers = [WeightDecay(coefficient=0.5), L2(coefficient=0.1)]
    learner = made(model, "fp16", regularizers, ema=0.9)
    take(learner, 0)
    assert learner.watched(0).clipping == {"loss_scale": 2.0**16, "skipped_steps": 0}
    before = {
        name: t
        for name, t in learner.model_state_dict(0, best=False).items()
        if ".running_" not in name and "tracked" not in name
    }
    moments = everything(learner)
    model.factor = 1e8
    for skipped in (1, 2, 3):
        loss, _ = take(learner, skipped)
        seen = learner.watched(0)
        assert seen.clipping == {"loss_scale": 2.0 ** (16 - skipped), "skipped_steps": skipped}
        assert not math.isfinite(seen.gradient_norm) and not math.isfinite(learner.gradient_norm(0))
        assert math.isfinite(loss.item()) and math.isfinite(seen.loss)  # not what divergence looks like
        assert set(seen.update_ratio.values()) == {0.0} and np.isfinite(learner.checksums()).all()
    after = learner.model_state_dict(0, best=False)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    momentum = everything(learner)[-1]
    assert momentum.shape == moments[-1].shape and torch.equal(momentum, moments[-1])
    model.factor = 1.0
    take(learner, 4)
    assert learner.watched(0).clipping == {"loss_scale": 2.0**13, "skipped_steps": 3}
    moved = learner.model_state_dict(0, best=False)
    assert not any(torch.equal(moved[name], tensor) for name, tensor in before.items())


def test_the_scale_doubles_after_so_many_steps_that_are_not_skipped():
    model = Overflowing()
    learner = made(model, "fp16")
    scaler = learner._scaling._scaler
    assert [scaler.get_growth_interval(), scaler.get_growth_factor()] == [2000, 2.0]
    scaler.set_growth_interval(3)
    scales = []
    for number, factor in enumerate([1.0, 1.0, 1.0, 1.0, 1.0, 1e8, 1.0, 1.0, 1.0, 1.0]):
        model.factor = factor
        take(learner, number, rate=0.0)
        scales.append(math.log2(learner.watched(0).clipping["loss_scale"]))
    # doubled after 3, halved at the overflow, which also begins the count again
    assert scales == [16, 16, 17, 17, 17, 16, 16, 16, 17, 17]


def test_gradients_that_no_scale_makes_finite_are_divergence():
    model = Overflowing()
    learner = made(model, "fp16")
    take(learner, 0)
    model.factor = math.nan
    for number in range(1, 41):
        take(learner, number)
    assert learner.watched(0).clipping["loss_scale"] == 2.0**-24
    assert np.isfinite(learner.checksums()).all()
    take(learner, 41)
    assert np.isnan(learner.checksums()).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_loss_that_is_not_finite_is_told(precision):
    learner = made(network(), precision)
    take(learner, 0)
    loss, _ = take(learner, 1, x=torch.full((32, 4), math.nan))
    assert math.isnan(loss.item())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_a_scale_nothing_is_told_and_nan_reaches_the_checksum(precision):
    model = Overflowing()
    learner = made(model, precision)
    take(learner, 0)
    assert learner.watched(0).clipping == {}
    model.factor = math.nan
    take(learner, 1)
    assert np.isnan(learner.checksums()).all()


class Small:
    """Classification with a loss a millionth as large."""

    def __getattr__(self, name):
        return getattr(task_of(3, 1.0), name)

    def loss(self, outputs, targets):
        return functional.cross_entropy(outputs, targets) * 1e-6


def test_small_gradients_survive_by_the_scale():
    """One of 1e-8 is 0 in float16, and is not once the loss is scaled by 2^16."""
    model = network()
    exact, unscaled = copy.deepcopy(model), copy.deepcopy(model)
    x, y = batch(0)
    (functional.cross_entropy(exact(x), y) * 1e-6).backward()
    with torch.autocast("cpu", torch.float16):
        (functional.cross_entropy(unscaled(x), y) * 1e-6).backward()
    learner = ModuleLearner(model, Small(), partial(FlatOptimizer, MOMENTUM), [], 0, precision="fp16")
    take(learner, 0, watch=Watch.TENSORS)
    for name in ("0.weight", "3.weight"):
        wanted = exact.get_parameter(name).grad
        assert (learner.watched(0).gradients[name] - wanted).norm() < 0.01 * wanted.norm()
        assert (unscaled.get_parameter(name).grad - wanted).norm() > 0.1 * wanted.norm()
