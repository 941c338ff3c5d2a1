"""A batch in pieces, against the same batch at once in plain torch."""

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
from sweepwise.learner.passes import differentiate, refuse_pieces
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.task import task_of


def network(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, outputs)).double()


def batch(size: int, classes: int = 3, step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    if classes:
        return x, torch.randint(classes, (size,), generator=generator)
    return x, torch.randn(size, generator=generator, dtype=torch.float64)


def made(model, accumulate, optimizer=None, regularizers=(), classes=3) -> ModuleLearner:
    flat = partial(FlatOptimizer, optimizer or partial(torch.optim.SGD, lr=1.0))
    return ModuleLearner(model, task_of(classes, 1.0), flat, list(regularizers), 0, accumulate=accumulate)


class Sizes(nn.Linear):
    """Notes the sizes of the batches that pass."""

    def __init__(self):
        super().__init__(4, 3, dtype=torch.float64)
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    "examples, pieces, sizes",
    [
        (100, 1, [100]),
        (100, 4, [25] * 4),
        (10, 4, [3, 3, 2, 2]),
        (5, 4, [2, 1, 1, 1]),
        (4, 4, [1] * 4),
        (3, 4, [1, 1, 1]),
        (1, 4, [1]),
    ],
)
def test_sizes_of_the_pieces(examples, pieces, sizes):
    model = Sizes()
    made(model, pieces).step(*batch(examples), np.array([0.1]), 0, Watch.NOTHING)
    assert model.seen == sizes


@pytest.mark.parametrize("classes", [3, 0], ids=["classes", "regression"])
@pytest.mark.parametrize("examples, pieces", [(100, 4), (10, 4), (7, 3), (3, 5), (1, 2)])
@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.SGD, lr=1.0, momentum=0.9), partial(torch.optim.Adam, lr=1.0)]
)
def test_pieces_add_up_to_the_whole_batch(optimizer, examples, pieces, classes):
    model = network(classes or 1)
    reference = copy.deepcopy(model)
    learner = made(model, pieces, optimizer, classes=classes)
    plain = optimizer(reference.parameters())
    for number, rate in enumerate((0.1, 0.02, 0.3)):
        x, y = batch(examples, classes, number)
        plain.param_groups[0]["lr"] = rate
        plain.zero_grad()
        wanted = reference(x)
        right = functional.cross_entropy if classes else lambda z, y: functional.mse_loss(z[:, 0], y)
        loss = right(wanted, y)
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in reference.parameters()))
        watch = Watch(number)
        measured, outputs = learner.step(x, y, np.array([rate]), number, watch)
        assert measured.item() == pytest.approx(loss.item(), rel=1e-12)
        torch.testing.assert_close(outputs[0], wanted.detach(), rtol=1e-9, atol=1e-12)
        if watch:
            seen = learner.watched(0)
            assert [seen.loss, seen.gradient_norm] == pytest.approx([loss.item(), norm], rel=1e-9)
        plain.step()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-11)


def test_activations_are_those_of_the_whole_batch():
    whole, pieces = made(network(), 1), made(network(), 3)
    for learner in (whole, pieces):
        learner.step(*batch(10), np.array([0.1]), 0, Watch.TENSORS)
    wanted, seen = whole.watched(0), pieces.watched(0)
    assert seen.kinds == wanted.kinds and list(seen.activations) == ["0", "1", "2", "3"]
    for name, activation in wanted.activations.items():
        torch.testing.assert_close(seen.activations[name], activation)
    for name, gradient in wanted.gradients.items():
        torch.testing.assert_close(seen.gradients[name], gradient)


class Mixed(Regularizer):
    """Mixes each example with its mirror image in the batch, as mixup does with a drawn one."""

    def __init__(self):
        self.drawn = []

    def examples(self, x, targets, noise):
        self.drawn.append(torch.rand(1, generator=noise).item())
        share = 0.5 + self.drawn[-1] / 2
        return share * x + (1 - share) * x.flip(0), share * targets + (1 - share) * targets.flip(0)


@pytest.mark.parametrize("classes", [3, 0], ids=["classes", "regression"])
def test_examples_are_mixed_before_the_batch_is_cut(classes):
    results = []
    for pieces in (1, 4):
        mixed, model = Mixed(), network(classes or 1)
        learner = made(model, pieces, regularizers=[mixed], classes=classes)
        losses = [
            learner.step(*batch(10, classes, n), np.array([0.1]), n, Watch.SCALARS)[0].item()
            for n in range(3)
        ]
        results.append((losses, mixed.drawn, learner.watched(0).penalty, model.state_dict()))
    (losses, drawn, penalty, whole), (losses_cut, drawn_cut, penalty_cut, cut) = results
    assert drawn == drawn_cut and len(drawn) == 3
    assert losses_cut == pytest.approx(losses, rel=1e-7)  # one-hot targets are float32
    assert penalty_cut == pytest.approx(penalty, rel=1e-6)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=1e-6, atol=1e-8)


def test_batch_norm_takes_its_statistics_from_each_piece():
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=0.1, dtype=torch.float64), nn.Linear(4, 3).double())
    x, y = batch(10)
    made(model, 2).step(x, y, np.array([0.1]), 0, Watch.NOTHING)
    assert model[0].num_batches_tracked == 2
    torch.testing.assert_close(model[0].running_mean, 0.9 * 0.1 * x[:5].mean(0) + 0.1 * x[5:].mean(0))


@pytest.mark.parametrize(
    "accumulate, batch_size, examples, told",
    [
        (1, 1, 1, ""),
        (8, 8, 24, ""),
        (9, 8, 24, "trainer.accumulate=9: must be at most 8, the examples of a batch"),
        (6, 8, 5, "trainer.accumulate=6: must be at most 5, the examples of a batch"),
    ],
)
def test_more_pieces_than_examples_are_refused(accumulate, batch_size, examples, told):
    if told:
        with pytest.raises(ValueError, match=told):
            refuse_pieces(accumulate, batch_size, examples)
    else:
        refuse_pieces(accumulate, batch_size, examples)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differentiating_is_torchs_backward(dtype):
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype),
        torch.randn(5, 4).to(dtype),
    )
    found = []
    for backward in (Tensor.backward, differentiate):
        model.zero_grad()
        for _ in range(2):  # gradients add up
            backward(model(x).square().mean())
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(map(torch.equal, *found))
