"""What an examination sees of a network, against closed forms, and that it leaves no trace."""

import gc
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.diagnosis.measure import Layer, Measurements, examine, examples_for
from sweepwise.init import initialize_
from sweepwise.learner.units import SATURATED


@pytest.fixture(autouse=True)
def _own_global_stream():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        yield


def towards(direction: Tensor):
    """A loss whose gradient, for each example, is the direction."""
    return lambda outputs, y: (outputs * direction).flatten(1).sum(1).mean()


def look(model: nn.Module, x: Tensor, outputs: int = 3) -> Measurements:
    y = torch.arange(len(x)) % outputs
    return examine(model, functional.cross_entropy, x, y)


def named(found: Measurements) -> dict[str, Layer]:
    assert not found.failed, found.failed
    return {layer.name: layer for layer in found.layers}


def chain(depth: int, width: int, activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=False), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


# --- the numbers


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_that_scale_by_a_factor_scale_the_signal_by_its_powers_in_both_directions(scale, dtype):
    depth, width = 16, 8
    model = nn.Sequential(*[nn.Linear(width, width, bias=False, dtype=dtype) for _ in range(depth)])
    for layer in model:
        nn.init.eye_(layer.weight)
        layer.weight.data *= scale
    x, direction = torch.randn(40, width, dtype=dtype), torch.randn(width, dtype=dtype)
    found = examine(model, towards(direction), x, torch.zeros(40))
    assert [layer.name for layer in found.layers] == [str(place) for place in range(depth)]
    for place, layer in enumerate(found.layers):
        forwards, backwards = scale ** (place + 1), scale ** (depth - 1 - place)
        assert layer.std == pytest.approx(forwards * x.numpy().std(), rel=1e-4)
        between = math.sqrt(x.numpy().var(0).mean())
        assert layer.between == pytest.approx(forwards * between, rel=1e-4)
        assert layer.received == pytest.approx(forwards / scale * between, rel=1e-4)
        assert layer.gradient == pytest.approx(backwards * direction.numpy().std(), rel=1e-4)
        assert layer.gradient_norm == pytest.approx(backwards * direction.norm().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("scale", "theory", "tolerance"),
    [(0.01, 9.90e-11, 0.2 * 9.90e-11), (0.1, 0.2285, 0.02), (1.0, 0.9576, 0.003)],
)
def test_ten_tanh_layers_follow_the_mean_field(scale, theory, tolerance):
    """The recursion of Poole et al., arXiv:1606.05340, as in tests/landmarks/test_init.py; over a batch."""
    spread = []
    for seed in range(10):
        model = chain(10, 100, nn.Tanh)
        initialize_(model, partial(nn.init.normal_, std=scale), seed=seed)
        spread.append(look(model, torch.randn(256, 100)).hidden[-1].std)
    assert np.mean(spread) == pytest.approx(theory, abs=tolerance)


def test_half_of_the_squared_gradient_passes_a_relu_so_kaiming_keeps_its_norm():
    """He et al., arXiv:1502.01852, section 2.2: N(0, 2 / fan_in) neither grows nor fades the gradient."""
    ratios = []
    for seed in range(10):
        model = chain(10, 256, nn.ReLU)
        initialize_(model, partial(nn.init.kaiming_normal_, nonlinearity="relu"), seed=seed)
        hidden = look(model, torch.randn(256, 256)).hidden
        ratios.append(math.log(hidden[0].gradient_norm / hidden[-1].gradient_norm))
    assert np.mean(ratios) == pytest.approx(0, abs=0.3)


def test_a_signal_is_what_differs_between_the_examples():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    nn.init.zeros_(model[0].weight)
    found = named(look(model, torch.randn(20, 4)))
    assert found["0"].between == found["1"].received == 0
    assert found["0"].std == pytest.approx(model[0].bias.detach().numpy().std(), rel=1e-5)


def test_dead_units_are_zero_for_all_examples():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    model[0].bias.data[:3] = -1e3
    model[0].bias.data[3:] = 1e3
    assert named(look(model, torch.randn(20, 4)))["0"].dead == pytest.approx(3 / 8)
    channels = nn.Sequential(nn.Conv1d(1, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(20, 3))
    channels[0].bias.data[:] = torch.tensor([-1e3, 1e3, 1e3, 1e3])
    assert named(look(channels, torch.randn(20, 1, 5)))["0"].dead == pytest.approx(1 / 4)


@pytest.mark.parametrize(("activation", "limit"), [(nn.Tanh, math.atanh(SATURATED)), (nn.Sigmoid, 0)])
def test_saturated_outputs_are_near_a_limit(activation, limit):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), activation(), nn.Linear(1, 3))
    nn.init.constant_(model[0].weight, 5.0)
    x = torch.linspace(-1, 1, 200)[:, None]
    limit = limit or 2 * math.atanh(SATURATED)  # sigmoid(z) = (1 + tanh(z / 2)) / 2
    wanted = (5 * x.abs() > limit).float().mean().item()
    layer = named(look(model, x))["0"]
    assert layer.saturated == pytest.approx(wanted, abs=0.01) and 0 < wanted < 1
    assert math.isnan(layer.dead)


@pytest.mark.parametrize(
    ("scheme", "output_scale", "equal"),
    [
        (nn.init.zeros_, 0.1, True),
        (partial(nn.init.constant_, val=0.01), 0.1, True),
        (nn.init.xavier_normal_, 0.1, False),
        (nn.init.xavier_normal_, 0.0, False),
    ],
)
def test_units_are_equal_if_neither_direction_tells_them_apart(scheme, output_scale, equal):
    model = chain(3, 8, nn.Tanh)
    initialize_(model, scheme, seed=0, output_scale=output_scale)
    assert {layer.equal for layer in look(model, torch.randn(64, 8)).hidden} == {equal}


def test_the_norm_and_the_activation_behind_a_layer_belong_to_it():
    model = nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    layer = named(look(model, 100 * torch.randn(256, 4)))["0"]
    # a half-normal of a standard normal: mean 1 / sqrt(2 pi), mean square 1 / 2
    assert layer.std == pytest.approx(math.sqrt(1 / 2 - 1 / (2 * math.pi)), abs=0.02)


# --- every kind of model


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.long())
        x = x + self.attend(x, x, x)[0]
        return self.head(self.lstm(x)[0][:, -1])


class Residual(nn.Module):
    """With branches that start at zero and an in-place sum, as torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.branch = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(4, 3)
        for branch in self.branch:
            nn.init.zeros_(branch.weight), nn.init.zeros_(branch.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        for branch in self.branch:
            out = branch(x)
            out += x
            x = self.relu(out)
        return self.head(x.mean((2, 3)))


def test_models_of_every_kind_are_seen_with_all_their_layers():
    found = named(look(Tokens(), torch.randint(10, (40, 5)).float()))
    assert list(found) == ["embed", "attend", "lstm", "head"]
    assert all(layer.std > 0 and layer.gradient > 0 for layer in found.values())
    found = named(look(Residual(), torch.randn(32, 1, 6, 6)))
    assert list(found) == ["stem", "branch.0", "branch.1", "branch.2", "head"]
    assert found["branch.1"].gradient > 0 and not any(layer.equal for layer in found.values())
    (only,) = look(nn.Linear(4, 3), torch.randn(20, 4)).layers
    assert only.name == "model" and look(nn.Linear(4, 3), torch.randn(20, 4)).hidden == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_any_dtype(dtype):
    model = chain(2, 16, nn.ReLU).to(dtype)
    found = named(look(model, torch.randn(64, 16, dtype=dtype)))
    assert all(0 < layer.std < 1 and layer.gradient > 0 for layer in found.values())


def test_a_layer_that_is_frozen_and_has_nothing_before_it_gets_no_gradient():
    model = chain(2, 8, nn.Tanh)
    model[0].requires_grad_(False)
    found = named(look(model, torch.randn(16, 8)))
    assert math.isnan(found["0"].gradient) and found["2"].gradient > 0
    assert not look(model.requires_grad_(False), torch.randn(16, 8)).failed


def test_what_cannot_be_run_or_copied_says_why():
    found = look(nn.Linear(5, 3), torch.randn(16, 4))
    assert found.failed.startswith("RuntimeError: mat1 and mat2") and "\n" not in found.failed
    assert math.isnan(found.loss) and found.layers == ()
    model = nn.Linear(4, 3)
    model.derived = model.weight * 2  # not a leaf: torch refuses to copy it
    assert "deepcopy" in look(model, torch.randn(16, 4)).failed


def test_where_a_loss_that_is_not_finite_comes_from():
    model = chain(3, 8, nn.Identity)
    assert look(model, torch.randn(16, 8)).first_bad == ""
    model[2].weight.data[0, 0] = math.inf
    found = look(model, torch.randn(16, 8))
    assert not math.isfinite(found.loss) and found.first_bad == "2"
    x = torch.randn(16, 8)
    x[3, 3] = math.nan
    assert look(model, x).first_bad == "the examples themselves"
    broken = examine(nn.Linear(4, 3), lambda outputs, y: outputs.sum() * math.nan, torch.randn(9, 4), x)
    assert broken.first_bad == "the loss"


@pytest.mark.parametrize(
    ("features", "examples"), [(0, 256), (1, 256), (1024, 256), (2048, 128), (10**9, 32)]
)
def test_large_examples_are_looked_at_in_smaller_numbers(features, examples):
    assert examples_for(features) == examples


# --- it leaves no trace


class Drawing(nn.Module):
    """Draws from every generator, counts its calls, and has state of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.body(x)) * (1 + random.random() + np.random.rand() + torch.rand(()))


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(training):
    model = Drawing().train(training)
    model.head.parametrizations.weight.original.grad = torch.ones(3, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for _ in range(2):
        assert not look(model, torch.ones(16, 4)).failed
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1], strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    gradients = {name for name, p in model.named_parameters() if p.grad is not None}
    assert gradients == {"head.parametrizations.weight.original"}
    assert model.head.parametrizations.weight.original.grad.sum() == 24
    assert model.calls == 0 and all(m.training == training for m in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_same_examination_finds_the_same():
    model, x = Drawing(), torch.randn(16, 4)
    assert repr(look(model, x)) == repr(look(model, x))  # where a nan is no other than a nan


def tensors() -> int:
    gc.collect()
    return sum(type(held) is torch.Tensor for held in gc.get_objects())


def test_no_tensor_is_held_afterwards():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    x, y = torch.randn(16, 4), torch.randint(3, (16,))
    before = tensors()
    assert not examine(model, nn.functional.cross_entropy, x, y).failed
    assert tensors() == before
