"""The learner of one run, against plain torch: autograd, torch.optim and hooks."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.learner import Watch
from sweepwise.learner.flat import FlatParameters, is_weight
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.l1 import L1
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.weight_decay import WeightDecay
from sweepwise.task import Classification

RATES = [0.1, 0.05, 0.02, 0.0, 0.1, 0.3]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [
        nn.Conv1d(1, 3, 3),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.LayerNorm(5),
        nn.Tanh(),
        nn.Linear(5, 3),
    ]
    return nn.Sequential(*layers)


def batch(step: int, features: tuple[int, ...] = (1, 6), dtype=torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(7, *features, generator=generator, dtype=dtype)
    return x, torch.randint(3, (7,), generator=generator)


def made(model, optimizer=None, regularizers=(), decay="weights", seed=0) -> ModuleLearner:
    build = optimizer or partial(torch.optim.SGD, lr=1.0)
    flat = partial(FlatOptimizer, build, decay=decay)
    return ModuleLearner(model, Classification(3), flat, list(regularizers), seed)


def step(learner, number=0, rate=0.1, watch=Watch.NOTHING, **options):
    return learner.step(*batch(number, **options), np.array([rate]), number, watch)


def weights_of(model: nn.Module) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if name in ("0.weight", "2.weight", "5.weight")]


def textbook(model, optimizer, regularizer="none", dtype=torch.float32, rates=RATES):
    """Plain steps with weight decay on the weights only and penalties through autograd; yields the losses."""
    options = dict(optimizer.keywords)
    decay = options.pop("weight_decay", 0.0)
    weights = weights_of(model)
    rest = [p for p in model.parameters() if all(p is not w for w in weights)]
    groups = [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    plain = optimizer.func(groups, **options)
    for number, rate in enumerate(rates):
        for group in plain.param_groups:
            group["lr"] = rate
        x, y = batch(number, dtype=dtype)
        plain.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        penalty = {
            "none": lambda: 0.0,
            "l1": lambda: 0.01 * sum(w.abs().sum() for w in weights),
            "l2": lambda: 0.01 * sum(w.square().sum() for w in weights),
            "weight_decay": lambda: 0.0,
        }[regularizer]()
        (loss + penalty).backward()
        if regularizer == "weight_decay":
            with torch.no_grad():
                for w in weights:
                    w *= 1 - rate * 0.1
        plain.step()
        yield loss.item()


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=1.0),
    "momentum": partial(torch.optim.SGD, lr=1.0, momentum=0.9, nesterov=True),
    "sgd, decay": partial(torch.optim.SGD, lr=1.0, momentum=0.5, weight_decay=0.1),
    "adam": partial(torch.optim.Adam, lr=1.0),
    "adam, decay": partial(torch.optim.Adam, lr=1.0, betas=(0.8, 0.9), weight_decay=0.1),
    "amsgrad": partial(torch.optim.Adam, lr=1.0, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=1.0, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=1.0, momentum=0.5, weight_decay=0.1),
}
PENALTIES = {
    "none": Regularizer(),
    "l1": L1(coefficient=0.01),
    "l2": L2(coefficient=0.01),
    "weight_decay": WeightDecay(coefficient=0.1),
}


@pytest.mark.parametrize("watch", Watch)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_those_of_torch_optim(name, watch):
    model = network().double()
    reference = copy.deepcopy(model)
    learner = made(model, OPTIMIZERS[name])
    for number, loss in enumerate(textbook(reference, OPTIMIZERS[name], dtype=torch.float64)):
        measured, outputs = step(learner, number, RATES[number], watch, dtype=torch.float64)
        assert measured.item() == pytest.approx(loss, rel=1e-12)
        assert outputs.shape == (1, 7, 3)
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("name", PENALTIES)
def test_regularizers_equal_terms_of_the_loss(name, optimizer):
    model = network().double()
    reference = copy.deepcopy(model)
    learner = made(model, OPTIMIZERS[optimizer], [PENALTIES[name]])
    for number, loss in enumerate(textbook(reference, OPTIMIZERS[optimizer], name, torch.float64)):
        measured, _ = step(learner, number, RATES[number], dtype=torch.float64)
        assert measured.item() == pytest.approx(loss, rel=1e-10)  # without the penalty
    for key, parameter in reference.named_parameters():
        torch.testing.assert_close(model.get_parameter(key), parameter, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_one_step_in_float32_equals_torch_to_the_bit(name):
    model = network()
    reference = copy.deepcopy(model)
    loss, _ = step(made(model, OPTIMIZERS[name]), 0, RATES[0])
    options = {"fused": True} if name == "adam" else {}
    plain = partial(OPTIMIZERS[name].func, **OPTIMIZERS[name].keywords, **options)
    assert next(textbook(reference, plain)) == loss.item()
    assert all(torch.equal(p, model.get_parameter(key)) for key, p in reference.named_parameters())


def test_decay_of_all_parameters_reaches_biases_and_gains():
    for decay, factor in (("weights", 1.0), ("all", 1 - 0.1 * 0.5)):
        model = network()
        before = copy.deepcopy(dict(model.named_parameters()))
        learner = made(model, partial(torch.optim.AdamW, lr=1.0, weight_decay=0.5), decay=decay)
        x, y = batch(0)
        learner.step(x, y, np.array([0.1]), 0, Watch.NOTHING)
        gradient_free = copy.deepcopy(before)
        plain = torch.optim.AdamW([{"params": list(gradient_free.values()), "weight_decay": 0.0}], lr=0.1)
        loss = functional.cross_entropy(torch.func.functional_call(network(), gradient_free, (x,)), y)
        loss.backward()
        plain.step()
        for name in ("0.bias", "3.weight", "3.bias"):
            moved = gradient_free[name].detach() + before[name].detach() * (factor - 1)
            torch.testing.assert_close(model.get_parameter(name).detach(), moved)


# --- what is watched


def test_a_step_is_watched_as_it_began():
    regularizers = [L2(coefficient=0.01), L1(coefficient=0.02), WeightDecay(coefficient=0.3)]
    model = network()
    reference = copy.deepcopy(model)
    learner = made(model, regularizers=regularizers)
    outputs: dict[str, Tensor] = {}
    for name, module in reference.named_children():
        module.register_forward_hook(lambda module, inputs, out, name=name: outputs.update({name: out}))
    x, y = batch(0)
    loss = functional.cross_entropy(reference(x), y)
    weights = {"0.weight", "2.weight", "5.weight"}
    flat = torch.cat([p.reshape(-1) for p in weights_of(reference)])
    penalty = 0.01 * flat.square().sum() + 0.02 * flat.abs().sum()
    (loss + penalty).backward()
    learner.step(x, y, np.array([0.1]), 0, Watch.TENSORS)
    seen = learner.watched(0)
    assert seen.loss == pytest.approx(loss.item(), rel=1e-6)
    assert seen.penalty == pytest.approx(penalty.item(), rel=1e-6)
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in reference.parameters()))
    assert seen.gradient_norm == pytest.approx(norm, rel=1e-5)
    assert set(seen.update_ratio) == weights
    assert seen.weights.keys() == seen.gradients.keys() == dict(reference.named_parameters()).keys()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(seen.weights[name], parameter.detach())
        torch.testing.assert_close(seen.gradients[name], parameter.grad, rtol=1e-5, atol=1e-7)
        if name in weights:
            update = -0.1 * parameter.grad - 0.1 * 0.3 * parameter
            wanted = (update.norm() / parameter.norm()).item()
            assert seen.update_ratio[name] == pytest.approx(wanted, rel=1e-4)
    # Flatten only changes the shape; the others are watched by their names and kinds
    assert set(seen.activations) == {"0", "2", "3", "4", "5"}
    assert seen.kinds == {"0": "Conv1d", "2": "Linear", "3": "LayerNorm", "4": "Tanh", "5": "Linear"}
    for name, activation in seen.activations.items():
        torch.testing.assert_close(activation, outputs[name].detach())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_watching_is_the_same_on_every_later_step(name):
    """From the second step on Adam takes the gradients past the row; what is seen must not differ."""
    model = network().double()
    learner = made(model, OPTIMIZERS[name])
    for number in range(4):
        before = copy.deepcopy(model)
        x, y = batch(number, dtype=torch.float64)
        functional.cross_entropy(before(x), y).backward()
        step(learner, number, watch=Watch.TENSORS, dtype=torch.float64)
        seen = learner.watched(0)
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in before.parameters()))
        assert seen.gradient_norm == pytest.approx(norm, rel=1e-9)
        assert learner.gradient_norm(0) == pytest.approx(norm, rel=1e-9)
        for key, parameter in before.named_parameters():
            torch.testing.assert_close(seen.weights[key], parameter.detach())
            torch.testing.assert_close(seen.gradients[key], parameter.grad)
            if key in seen.update_ratio:
                wanted = (model.get_parameter(key) - parameter).norm() / parameter.norm()
                assert seen.update_ratio[key] == pytest.approx(wanted.item(), rel=1e-9)


def test_ratio_of_weights_that_are_zero():
    model = nn.Sequential(nn.Linear(4, 3))
    nn.init.zeros_(model[0].weight)
    learner = made(model)
    step(learner, watch=Watch.SCALARS, features=(4,))
    assert learner.watched(0).update_ratio == {"0.weight": math.inf}
    nn.init.zeros_(model[0].weight)
    step(learner, rate=0.0, watch=Watch.SCALARS, features=(4,))
    assert learner.watched(0).update_ratio == {"0.weight": 0.0}


def test_scalars_hold_no_tensors():
    learner = made(network())
    step(learner, watch=Watch.SCALARS)
    seen = learner.watched(0)
    assert not seen.weights and not seen.gradients and not seen.activations
    assert seen.gradient_norm > 0 and seen.update_ratio


class Spy(nn.Module):
    """Counts, during its forward pass, the hooks on all its modules."""

    def __init__(self):
        super().__init__()
        self.inner = network()
        self.hooks = []

    def forward(self, x):
        self.hooks.append(sum(len(m._forward_hooks) + len(m._backward_hooks) for m in self.modules()))
        return self.inner(x)


def test_hooks_are_there_only_while_tensors_are_watched():
    model = Spy()
    learner = made(model)
    for number, watch in enumerate((Watch.NOTHING, Watch.SCALARS, Watch.TENSORS, Watch.NOTHING)):
        step(learner, number, watch=watch)
        assert not any(module._forward_hooks for module in model.modules())
    assert model.hooks == [0, 0, 5, 0]


def test_nothing_is_computed_on_a_step_that_is_not_watched(monkeypatch):
    class Penalty(Regularizer):
        def penalty(self, weights):
            raise AssertionError("computed")

    def refuse(*arguments, **options):
        raise AssertionError("computed")

    learner = made(network(), regularizers=[Penalty()])
    monkeypatch.setattr(torch.linalg, "vector_norm", refuse)
    monkeypatch.setattr(nn.Module, "register_forward_hook", refuse)
    step(learner)
    with pytest.raises(AssertionError, match="computed"):
        step(learner, 1, watch=Watch.SCALARS)


# --- models of all kinds


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.idle = nn.Linear(4, 3)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "amsgrad"])
def test_a_parameter_without_gradient_stays(name):
    torch.manual_seed(0)
    model = Unused()
    before = copy.deepcopy(model.idle)
    reference = copy.deepcopy(model.used)
    learner = made(model, OPTIMIZERS[name])
    plain = OPTIMIZERS[name](reference.parameters())
    for number in range(3):
        step(learner, number, watch=Watch.TENSORS, features=(4,))
        plain.param_groups[0]["lr"] = 0.1
        plain.zero_grad()
        x, y = batch(number, (4,))
        functional.cross_entropy(reference(x), y).backward()
        plain.step()
    assert torch.equal(model.idle.weight, before.weight) and torch.equal(model.idle.bias, before.bias)
    torch.testing.assert_close(model.used.weight, reference.weight)
    seen = learner.watched(0)
    assert not seen.gradients["idle.weight"].any() and seen.update_ratio["idle.weight"] == 0
    assert "idle" not in seen.activations


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def test_tied_weights_are_one_parameter_that_both_layers_move():
    torch.manual_seed(0)
    model = Tied()
    reference = copy.deepcopy(model)
    assert reference.second.weight is reference.first.weight
    learner = made(model)
    assert learner.weights == 9
    x, y = batch(0, (3,))
    step(learner, features=(3,), watch=Watch.TENSORS)
    functional.cross_entropy(reference(x), y).backward()
    assert model.second.weight is model.first.weight
    wanted = reference.first.weight.detach() - 0.1 * reference.first.weight.grad
    torch.testing.assert_close(model.first.weight.detach(), wanted)
    assert list(learner.watched(0).weights) == ["first.weight", "first.bias", "second.bias"]
    learner.save_best(0)
    kept = learner.model_state_dict(0, best=True)
    step(learner, 1, features=(3,))
    assert not torch.equal(kept["first.weight"], model.second.weight)
    learner.load_best(0)
    assert torch.equal(kept["first.weight"], model.second.weight)


def test_frozen_parameters_stay_are_not_watched_and_are_part_of_the_state():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    learner = made(model, regularizers=[WeightDecay(coefficient=0.5)])
    step(learner, watch=Watch.TENSORS)
    assert torch.equal(model[0].weight, before) and not torch.equal(model[2].weight, network()[2].weight)
    assert "0.weight" not in learner.watched(0).weights and "0.weight" not in learner.watched(0).update_ratio
    learner.save_best(0)
    for best in (True, False):
        assert torch.equal(learner.model_state_dict(0, best=best)["0.weight"], before)
    assert learner.model_state_dict(0, best=True).keys() == model.state_dict().keys()


def norm_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def states(learner) -> list[dict[str, Tensor]]:
    return [learner.model_state_dict(0, best=best) for best in (True, False)]


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_best_is_kept_with_its_buffers_and_put_back():
    model = norm_network()
    learner = made(model, OPTIMIZERS["momentum"])
    best, present = states(learner)
    assert equal(best, present)  # nothing is kept yet
    learner.load_best(0)
    assert equal(present, learner.model_state_dict(0, best=False))
    for number in range(3):
        step(learner, number, features=(4,))
    learner.save_best(0)
    kept = copy.deepcopy(model.state_dict())
    assert kept["1.num_batches_tracked"] == 3 and kept["1.running_mean"].abs().sum() > 0
    for number in range(3, 5):
        step(learner, number, features=(4,))
    best, present = states(learner)
    assert equal(best, dict(kept)) and equal(present, dict(model.state_dict()))
    assert present["1.num_batches_tracked"] == 5
    moved = ("0.weight", "3.weight", "3.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert not any(torch.equal(best[name], present[name]) for name in moved)
    learner.load_best(0)
    assert equal(dict(model.state_dict()), dict(kept))
    step(learner, 5, features=(4,))  # goes on from there, and keeps what was kept
    assert equal(learner.model_state_dict(0, best=True), dict(kept))
    learner.save_best(0)
    assert equal(learner.model_state_dict(0, best=True), dict(model.state_dict()))


def test_a_state_is_a_copy():
    learner = made(norm_network())
    state = learner.model_state_dict(0, best=False)
    before = copy.deepcopy(state)
    step(learner, features=(4,))
    assert equal(state, before)
    assert not any(tensor.requires_grad for tensor in state.values())


def test_evaluation_uses_running_statistics_and_changes_nothing():
    model = norm_network()
    learner = made(model)
    for number in range(3):
        step(learner, number, features=(4,))
    before = copy.deepcopy(model.state_dict())
    batches = [batch(9, (4,)), (batch(10, (4,))[0][:2], batch(10, (4,))[1][:2])]
    loss, means = learner.evaluate(batches)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    reference = copy.deepcopy(model).eval()
    with torch.no_grad():
        outputs = reference(x)
    assert loss == pytest.approx([functional.cross_entropy(outputs, y).item()], rel=1e-6)
    assert means == pytest.approx(np.array([[(outputs.argmax(1) == y).double().mean().item()]]))
    assert equal(dict(before), dict(model.state_dict()))
    assert model.training


def test_dropout_is_a_function_of_seed_and_step():
    def outputs(seed, steps):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3))
        learner = made(model, seed=seed)
        torch.rand(7 * seed)  # other draws must not shift it
        return [step(learner, number, rate=0.0, features=(4,))[1].detach() for number in steps]

    first, again, later = outputs(3, (0, 1, 0))
    assert torch.equal(first, later)
    assert not torch.equal(first, outputs(3, (1, 0))[0][: len(first)])
    assert torch.equal(outputs(3, (1, 0))[1], first)
    assert not torch.equal(outputs(4, (0,))[0], first)
    assert torch.equal(again, outputs(3, (1,))[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_checksum_is_not_finite_once_a_parameter_is_not(value):
    model = network()
    learner = made(model)
    total = sum(p.double().sum().item() for p in model.parameters())
    assert learner.checksums() == pytest.approx([total], rel=1e-4)
    with torch.no_grad():
        model[3].bias[2] = value
    assert not np.isfinite(learner.checksums()).any()


# --- one row for all parameters


class Matrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(2, 2))
        self.gain = nn.Parameter(torch.ones(()))


WEIGHTS = {
    "linear": (nn.Linear(3, 2), {"weight"}),
    "no bias": (nn.Linear(3, 2, bias=False), {"weight"}),
    "conv": (nn.Conv2d(2, 2, 3), {"weight"}),
    "embedding": (nn.Embedding(3, 2), {"weight"}),
    "lstm": (nn.LSTM(3, 2), {"weight_ih_l0", "weight_hh_l0"}),
    "attention": (nn.MultiheadAttention(4, 2), {"in_proj_weight", "out_proj.weight"}),
    "layer norm": (nn.LayerNorm(4), set()),
    "layer norm over two dimensions": (nn.LayerNorm((3, 4)), set()),
    "rms norm over two dimensions": (nn.RMSNorm((3, 4)), set()),
    "batch norm": (nn.BatchNorm2d(4), set()),
    "instance norm": (nn.InstanceNorm1d(4, affine=True), set()),
    "group norm": (nn.GroupNorm(2, 4), set()),
    "prelu": (nn.PReLU(4), set()),
    "own": (Matrix(), {"matrix"}),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_told_by_shape_and_kind_of_module(name):
    module, weights = WEIGHTS[name]
    flat = FlatParameters(copy.deepcopy(module))
    assert set(flat.weight_names) == weights
    assert flat.weights == sum(p.numel() for key, p in module.named_parameters() if key in weights)
    own = dict(module.named_parameters(recurse=False))
    assert {key for key, p in own.items() if is_weight(module, p)} == weights & own.keys()


def test_the_row_holds_weights_first_and_the_model_lives_in_it():
    model = network()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    flat = FlatParameters(model)
    weights = ["0.weight", "2.weight", "5.weight"]
    rest = ["0.bias", "2.bias", "3.weight", "3.bias", "5.bias"]
    assert flat.names == weights + rest and flat.weight_names == weights
    assert flat.weights == 3 * 3 + 12 * 5 + 5 * 3
    assert flat.shapes == [before[name].shape for name in flat.names]
    assert torch.equal(flat.values[0], torch.cat([before[name].reshape(-1) for name in flat.names]))
    assert all(torch.equal(view, before[name]) for name, view in flat.views(flat.values).items())
    assert [part.numel() for part in flat.weight_parts(flat.values)] == [9, 60, 15]
    flat.values.mul_(2)
    assert all(torch.equal(p, 2 * before[name]) for name, p in model.named_parameters())
    model(batch(0)[0]).sum().backward()
    collected = flat.collect(flat.gradients())
    for name, part in zip(flat.names, collected, strict=True):
        assert torch.equal(part, model.get_parameter(name).grad)
    assert torch.equal(flat.gradient[0], torch.cat([part.reshape(-1) for part in collected]))
    flat.forget_gradients()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(gradient.any() for gradient in flat.gradients())


def test_transposed_parameters_keep_their_values():
    model = nn.Linear(3, 2)
    model.weight = nn.Parameter(torch.arange(6.0).view(3, 2).T)
    flat = FlatParameters(model)
    assert torch.equal(model.weight, torch.arange(6.0).view(3, 2).T)
    assert flat.names == ["weight", "bias"]


def test_parameters_that_do_not_fit_one_row_are_refused():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    for model in (frozen, nn.ReLU(), mixed):
        with pytest.raises(ValueError, match="must have trainable parameters, all of one dtype"):
            FlatParameters(model)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_without_biases_and_one_without_weights_learn(name):
    for model in (nn.Linear(3, 3, bias=False), nn.LayerNorm(3)):
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        learner = made(model, OPTIMIZERS[name])
        for number in range(3):
            step(learner, number, watch=Watch.TENSORS, features=(3,))
        assert all(not torch.equal(before[key], p) for key, p in model.named_parameters())
        assert np.isfinite(learner.checksums()).all()
