"""A compiled step beside the plain one, and everything at once."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweepwise.learner import Watch
from sweepwise.learner import forward as forward_module
from sweepwise.learner.compiled import compiled
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.task import Classification

CPU = torch.device("cpu")
SIZES = (8, 8, 5, 8, 5, 8)  # a last batch is smaller
LEVELS = (Watch.TENSORS, Watch.NOTHING, Watch.SCALARS, Watch.TENSORS, Watch.TENSORS, Watch.NOTHING)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)]
    return nn.Sequential(*layers)


def batch(number: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(size, 4, generator=generator), torch.randint(3, (size,), generator=generator)


def made(regularizers=(), **options) -> ModuleLearner:
    flat = partial(FlatOptimizer, partial(torch.optim.Adam, lr=1.0))
    return ModuleLearner(network(), Classification(3), flat, list(regularizers), 7, **options)


def trained(learner, levels=LEVELS):
    """Losses, the activations of the steps that are watched, and the state at the end."""
    losses, activations = [], []
    for number, (size, level) in enumerate(zip(SIZES, levels, strict=True)):
        loss, _ = learner.step(*batch(number, size), np.array([0.01]), number, level)
        losses.append(loss.item())
        if level == Watch.TENSORS:
            activations.append(copy.deepcopy(dict(learner.watched(0).activations)))
    return losses, activations, learner.model_state_dict(0, best=False)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def deaf(model, device):
    """Stands in for a compiled model: calls no hooks that were attached later."""

    def forward(x):
        assert not any(module._forward_hooks for module in model.modules())
        forward.calls += 1
        return model(x)

    forward.calls = 0
    deaf.latest = forward
    return forward


def test_what_is_heard_of_a_compiled_model_changes_nothing(monkeypatch):
    plain = trained(made())
    monkeypatch.setattr(forward_module, "compiled", deaf)
    for levels in (LEVELS, [Watch.TENSORS] * 6, [Watch.NOTHING] * 6):
        losses, activations, state = trained(made(compile=True), levels)
        assert deaf.latest.calls == 6  # every step, watched or not
        assert losses == plain[0] and equal(state, plain[2])
        assert state["1.num_batches_tracked"] == 6
        if levels == LEVELS:
            assert len(activations) == 3
            assert all(equal(own, wanted) for own, wanted in zip(activations, plain[1], strict=True))


def test_evaluation_is_not_compiled(monkeypatch):
    monkeypatch.setattr(forward_module, "compiled", deaf)
    learner = made(compile=True)
    assert learner.evaluate([batch(0, 8)])[0] == made().evaluate([batch(0, 8)])[0]
    assert deaf.latest.calls == 0


def test_a_missing_compiler_is_told_beforehand(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++ -O3")
    with pytest.raises(ValueError, match=r"trainer.compile=true: needs a C\+\+ compiler, and /nowhere/c\+\+"):
        compiled(network(), CPU)
    monkeypatch.setattr("sweepwise.learner.compiled.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"compile=true: needs the package triton"):
        compiled(network(), torch.device("cuda"))


class Halved(Regularizer):
    """Trains on the mean of each example and its mirror image in the batch."""

    def examples(self, x, targets, noise):
        return (x + x.flip(0)) / 2, (targets + targets.flip(0)) / 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_three_at_once_equal_the_plain_step_in_pieces(precision, monkeypatch):
    """Accumulation, average and precision with a stand-in for the compiler: to the bit without it."""
    monkeypatch.setattr(forward_module, "compiled", deaf)
    options = {"accumulate": 2, "ema": 0.5, "precision": precision}
    one, two = made([Halved()], **options), made([Halved()], compile=True, **options)
    plain, all_four = trained(one), trained(two)
    assert plain[0] == all_four[0] and equal(plain[2], all_four[2])
    assert {"ema/0.weight", "0.weight"} <= plain[2].keys()
    assert plain[1][0]["0"].shape == (8, 6) and plain[1][0]["0"].dtype != torch.float32
    exact = trained(made([Halved()], accumulate=2))
    assert plain[0] == pytest.approx(exact[0], abs=0.03)


# --- with the real compiler


@pytest.mark.slow
def test_a_compiled_step_equals_the_plain_one_and_repeats():
    plain, first = trained(made()), trained(made(compile=True))
    again = trained(made(compile=True))  # in a process that has compiled before
    assert first[0] == again[0] and equal(first[2], again[2])
    assert first[0] == pytest.approx(plain[0], rel=1e-4)
    for name, tensor in plain[2].items():
        torch.testing.assert_close(first[2][name], tensor, rtol=1e-3, atol=1e-3)
    for own, wanted in zip(first[1], plain[1], strict=True):  # the same units are dropped
        assert own.keys() == wanted.keys()
        for name, tensor in wanted.items():
            torch.testing.assert_close(own[name], tensor, rtol=1e-3, atol=1e-3)
    unwatched = trained(made(compile=True), [Watch.NOTHING] * 6)
    assert unwatched[0] == first[0] and equal(unwatched[2], first[2])


@pytest.mark.slow
def test_all_four_at_once_train_two_steps():
    options = {"accumulate": 2, "ema": 0.5, "precision": "bf16"}
    learner, plain = made(compile=True, **options), made(**options)
    for one in (learner, plain):
        weights = [one.model_state_dict(0, best=False)["0.weight"].double()]
        losses = []
        for number in range(2):
            loss, _ = one.step(*batch(number, 8), np.array([0.01]), number, Watch.TENSORS)
            losses.append(loss.item())
            weights.append(one.model_state_dict(0, best=False)["0.weight"].double())
        average = 0.25 * weights[0] + 0.25 * weights[1] + 0.5 * weights[2]
        torch.testing.assert_close(one.model_state_dict(0, best=False)["ema/0.weight"].double(), average)
        if one is learner:
            compiled_losses = losses
    assert compiled_losses == pytest.approx(losses, abs=0.02)
    assert learner.evaluate([batch(5, 8)])[0] == pytest.approx(plain.evaluate([batch(5, 8)])[0], abs=0.02)


@pytest.mark.slow
def test_a_model_that_cannot_be_compiled_is_told(monkeypatch):
    from torch._dynamo.exc import Unsupported

    def refuse(model, **options):
        def forward(x):
            raise Unsupported("no such operation\nmore", "case")

        return forward

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(
        RuntimeError, match=r"^trainer.compile=true: torch cannot compile this model .*no such op.*$"
    ):
        compiled(network(), CPU)(torch.zeros(2, 4))
