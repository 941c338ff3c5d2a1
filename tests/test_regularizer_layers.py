"""Regularizers of units and whole layers: norms of rows, Gram matrices, singular values."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sweepwise.learner import Watch
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.max_norm import MaxNorm
from sweepwise.regularizer.orthogonal import Orthogonal
from sweepwise.regularizer.spectral_norm import SpectralNorm
from sweepwise.task import Classification

SGD, ADAM = partial(torch.optim.SGD, lr=1.0), partial(torch.optim.Adam, lr=1.0)


def network(seed: int = 0) -> nn.Sequential:
    """A wide, a tall and a square weight: (6, 1 * 3 * 3), (12, 6 * 2 * 2), (3, 12)."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 2), nn.Flatten(), nn.Linear(12, 24), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(24, 3))


def batch(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 1, 4, 4, generator=generator, dtype=dtype)
    return x, torch.randint(3, (16,), generator=generator)


def made(model: nn.Module, optimizer=SGD, *regularizers: Regularizer) -> ModuleLearner:
    for regularizer in regularizers:
        regularizer.prepare_(model, (1, 4, 4), 3)
    return ModuleLearner(model, Classification(3), partial(FlatOptimizer, optimizer), regularizers, 0)


def trained(learner: ModuleLearner, steps: int = 10, rate: float = 0.1) -> ModuleLearner:
    for step in range(steps):
        learner.step(*batch(step), np.array([rate]), step, Watch.NOTHING)
    return learner


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    }


def rows(shapes, runs: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = sum(np.prod(shape) for shape in shapes)
    return torch.randn(runs, size, dtype=torch.float64, generator=generator)


# --- max_norm


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_norms_stay_below_the_limit_after_every_step(optimizer):
    learner = made(network(), optimizer, MaxNorm(limit=0.4))
    free = made(network(), optimizer)
    exceeded = 0
    for step in range(10):
        for one in (learner, free):
            one.step(*batch(step), np.array([0.1]), step, Watch.NOTHING)
        for weight in weights_of(learner.model).values():
            assert (weight.flatten(1).norm(dim=1) <= 0.4 * (1 + 1e-6)).all()
        exceeded += sum((w.flatten(1).norm(dim=1) > 0.4).sum() for w in weights_of(free.model).values())
    assert exceeded > 50


@pytest.mark.parametrize("runs", [1, 3])
def test_a_unit_keeps_its_direction_and_one_below_the_limit_its_bits(runs):
    shapes = [torch.Size((4, 5)), torch.Size((2, 3, 2, 2)), torch.Size((3, 1))]
    regularizer = MaxNorm(limit=2.0)
    regularizer.shapes = shapes
    weights = rows(shapes, runs)
    weights[0, :5] = 0  # a unit without weights stays one
    before = weights.clone()
    regularizer.after_step_(weights, 0.1)
    seen = {True: 0, False: 0}
    for old, new in zip(regularizer.matrices(before), regularizer.matrices(weights), strict=True):
        for was, unit in zip(old.flatten(0, 1), new.flatten(0, 1), strict=True):
            above = bool(was.norm() > 2)
            seen[above] += 1
            if above:
                torch.testing.assert_close(unit, 2 * was / was.norm(), rtol=1e-14, atol=0)
            else:
                assert torch.equal(unit, was)
    assert min(seen.values()) >= 1


def test_biases_and_gains_have_no_limit():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    with torch.no_grad():
        model[1].bias.fill_(7.0)
    trained(made(model, SGD, MaxNorm(limit=1e-3)), 1, 0.0)
    assert (model[1].bias == 7).all() and (model[2].weight == 1).all()
    assert torch.allclose(model[1].weight.norm(dim=1), torch.tensor(1e-3))


def test_an_embeddings_vectors_are_bounded_as_by_torchs_renorm():
    embedding = nn.Embedding(9, 4)
    regularizer = MaxNorm(limit=1.5)
    flat = FlatParameters(embedding)
    regularizer.shapes = flat.shapes
    expected = torch.renorm(embedding.weight.detach(), 2, 0, 1.5)
    regularizer.after_step_(flat.values, 0.1)
    torch.testing.assert_close(embedding.weight.detach(), expected)


# --- orthogonal


@pytest.mark.parametrize("runs", [1, 3])
def test_the_orthogonality_gradient_is_that_of_autograd(runs):
    shapes = [torch.Size((4, 6)), torch.Size((6, 4)), torch.Size((3, 2, 2, 2)), torch.Size((5, 5)), (1, 4)]
    shapes = [torch.Size(shape) for shape in shapes]
    regularizer = Orthogonal(coefficient=0.25)
    regularizer.shapes = shapes
    weights = rows(shapes, runs).requires_grad_()
    written = torch.zeros(runs, dtype=torch.float64)
    for run in range(runs):
        for part, shape in zip(weights[run].split([s.numel() for s in shapes]), shapes, strict=True):
            matrix = part.view(shape).flatten(1)
            gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
            written[run] += 0.25 * (gram - torch.eye(len(gram))).square().sum()
    written.sum().backward()
    gradient = torch.ones_like(weights)
    with torch.no_grad():
        regularizer.before_step_(weights, gradient, 0.1)
        penalty = regularizer.penalty(weights)
    torch.testing.assert_close(gradient - 1, weights.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(penalty, written.detach(), rtol=1e-12, atol=0)


def test_descent_on_the_penalty_makes_the_layers_orthonormal():
    """With a zero learning signal, all singular values go to 1, on whichever side can have them."""
    shapes = [torch.Size((4, 6)), torch.Size((6, 4)), torch.Size((3, 2, 2, 2))]
    regularizer = Orthogonal(coefficient=1.0)
    regularizer.shapes = shapes
    weights = 0.5 * rows(shapes, 2)
    assert regularizer.penalty(weights).min() > 1
    for _ in range(400):
        gradient = torch.zeros_like(weights)
        regularizer.before_step_(weights, gradient, 0.02)
        weights -= 0.02 * gradient
    for matrix in regularizer.matrices(weights):
        np.testing.assert_allclose(np.linalg.svd(matrix.numpy(), compute_uv=False), 1, rtol=1e-6)
    assert regularizer.penalty(weights).max() < 1e-10


def test_orthogonality_acts_on_weights_alone_and_is_logged():
    model = network()
    learner = made(model, SGD, Orthogonal(coefficient=0.5))
    expected = 0.0
    for weight in weights_of(model).values():
        matrix = weight.flatten(1).double()
        gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        expected += 0.5 * (gram - torch.eye(len(gram))).square().sum().item()
    plain = made(network(), SGD)
    for one in (learner, plain):
        one.step(*batch(0), np.array([0.1]), 0, Watch.SCALARS)
    assert learner.watched(0).penalty == pytest.approx(expected, rel=1e-5)
    assert learner.watched(0).loss == plain.watched(0).loss
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)) == name.endswith("bias")


@pytest.mark.parametrize("regularizer", [Orthogonal(coefficient=0.0), MaxNorm(limit=1e30)])
def test_a_strength_of_nothing_changes_no_bit(regularizer):
    ours, plain = trained(made(network(), SGD, regularizer)), trained(made(network(), SGD))
    for one, other in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)


# --- spectral_norm


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_the_largest_singular_value_of_each_layer_is_one_after_training(optimizer):
    model = network()
    learner = trained(made(model, optimizer, SpectralNorm()), 100, 0.02)
    before = trained(made(network(), optimizer), 100, 0.02).model
    trained(learner, 20, 0.0)  # as at the end of a schedule
    for name, weight in weights_of(model.eval()).items():
        largest = np.linalg.svd(weight.flatten(1).double().numpy(), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=1e-3), name
        free = before.get_submodule(name).weight.detach().flatten(1).numpy()
        assert np.linalg.svd(free, compute_uv=False)[0] != pytest.approx(1, abs=0.05)


def test_transposed_convolutions_are_normalised_by_output_channel():
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2))
    SpectralNorm(n_power_iterations=50).prepare_(model, (3, 4, 4), 3)
    model(torch.randn(2, 3, 4, 4))
    matrix = model[0].weight.detach().transpose(0, 1).flatten(1).numpy()
    assert np.linalg.svd(matrix, compute_uv=False)[0] == pytest.approx(1, rel=1e-4)


def test_spectral_norm_starts_the_same_whatever_was_drawn_and_moves_no_generator():
    def prepared(draws: int) -> dict[str, Tensor]:
        model = network()
        torch.manual_seed(5)
        torch.rand(draws)
        state = torch.get_rng_state()
        SpectralNorm().prepare_(model, (1, 4, 4), 3)
        assert torch.equal(torch.get_rng_state(), state)
        return dict(model.state_dict())

    one, other = prepared(0), prepared(7)
    assert len([name for name in one if name.endswith("._u")]) == 4
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_evaluation_moves_no_singular_vector_and_the_best_come_back_with_theirs():
    model = network()
    learner = trained(made(model, SGD, SpectralNorm(), L2(coefficient=0.01)), 5)
    vectors = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss = learner.evaluate([batch(99)])[0]
    assert len(vectors) == 8
    assert all(torch.equal(vectors[name], buffer) for name, buffer in model.named_buffers())
    learner.save_best(0)
    best = learner.model_state_dict(0, best=True)
    trained(learner, 5)
    assert not torch.equal(model[0].parametrizations.weight[0]._u, vectors["0.parametrizations.weight.0._u"])
    assert learner.evaluate([batch(99)])[0] != loss
    assert all(
        torch.equal(best[name], tensor) for name, tensor in learner.model_state_dict(0, best=True).items()
    )
    learner.load_best(0)
    assert learner.evaluate([batch(99)])[0] == loss
    loaded = network(seed=1)
    SpectralNorm().prepare_(loaded, (1, 4, 4), 3)
    loaded.load_state_dict(best)
    x = batch(99)[0]
    torch.testing.assert_close(loaded.eval()(x), model.eval()(x))  # not in one row: rounding differs


@pytest.mark.parametrize("watch", [Watch.SCALARS, Watch.TENSORS])
def test_watching_and_validating_move_no_singular_vector(watch):
    plain, watched = trained(made(network(), SGD, SpectralNorm())), made(network(), SGD, SpectralNorm())
    for step in range(10):
        watched.step(*batch(step), np.array([0.1]), step, watch)
        watched.evaluate([batch(99)])
    left, right = (learner.model_state_dict(0, best=False) for learner in (plain, watched))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_deep_copy_trains_apart_and_alike():
    model = network()
    SpectralNorm().prepare_(model, (1, 4, 4), 3)
    twin = copy.deepcopy(model)
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    left = trained(made(model)).model_state_dict(0, best=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in twin.state_dict().items())
    right = trained(made(twin)).model_state_dict(0, best=False)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not torch.equal(
        left["0.parametrizations.weight.original"], before["0.parametrizations.weight.original"]
    )


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(16, 16) for _ in range(3))
        self.second.weight = self.first.weight


def test_layers_that_are_frozen_tied_or_parametrized_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Tied(), nn.LayerNorm(4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    parametrizations.orthogonal(model[1])
    SpectralNorm().prepare_(model, (4,), 3)
    normalised = [name.split(".parametrizations")[0] for name, _ in model.named_buffers() if "_u" in name]
    assert normalised == ["2.third", "4"]
    assert model[2].second.weight is model[2].first.weight


def test_a_model_without_a_layer_to_normalise_is_refused():
    for model in (nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False)):
        with pytest.raises(ValueError, match=r"^regularizer=spectral_norm: the model must have a linear"):
            SpectralNorm().prepare_(model, (4,), 3)


def test_weights_that_are_all_zero_are_refused():
    model = network()
    nn.init.zeros_(model[4].weight)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=r"^regularizer=spectral_norm: 4: its weights are all 0.*another init"
    ):
        SpectralNorm().prepare_(model, (1, 4, 4), 3)
    assert model.state_dict().keys() == before.keys()
