import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from sweepwise.config.schema import bind
from sweepwise.model.activation import ACTIVATIONS
from sweepwise.model.mlp import mlp

ACTIVATION_FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
}


def kinds(model: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("features", [(7,), (3, 5), (2, 3, 4), (1, 1)])
@pytest.mark.parametrize("hidden", [[], [1], [6, 4], [8, 8, 8]])
@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("bias", [True, False])
def test_shapes_and_number_of_parameters(features, hidden, outputs, bias):
    model = mlp(features, outputs, hidden=hidden, bias=bias)
    assert model(torch.randn(3, *features)).shape == (3, outputs)
    widths = [math.prod(features), *hidden, outputs]
    weights = sum(n_in * n_out for n_in, n_out in itertools.pairwise(widths))
    assert parameters(model) == weights + outputs + bias * sum(hidden)


def test_no_hidden_layers_is_a_linear_model():
    model = mlp((4,), 3, hidden=[], activation="tanh", norm="layer", dropout=0.5, bias=False)
    assert kinds(model) == ["Linear"]
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x), x @ model.output.weight.T + model.output.bias)


def test_layers_stand_in_their_order():
    expected = ["Flatten", *["Linear", "LayerNorm", "Tanh", "Dropout"] * 2, "Linear"]
    assert kinds(mlp((2, 2), 3, hidden=[5, 6], activation="tanh", norm="layer")) == expected
    assert kinds(mlp((4,), 3, hidden=[5], norm="batch")) == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    assert kinds(mlp((4,), 3, hidden=[5])) == ["Linear", "ReLU", "Dropout", "Linear"]


def test_names_tell_the_place():
    names = [
        name for name, _ in mlp((2, 2), 3, hidden=[5, 6], activation="gelu", norm="batch").named_children()
    ]
    assert names == [
        "flatten",
        *("linear0", "norm0", "gelu0", "dropout0"),
        *("linear1", "norm1", "gelu1", "dropout1"),
        "output",
    ]


@pytest.mark.parametrize("features", [(6,), (2, 3), (1, 2, 3)])
def test_forward_by_hand(features):
    model = mlp(features, 2, hidden=[4, 3], activation="tanh").double().eval()
    x = torch.randn(5, *features, dtype=torch.float64)
    h = x.numpy().reshape(5, -1)  # row-major, so the last axis runs fastest
    for layer in (model.linear0, model.linear1, model.output):
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        h = h if layer is model.output else np.tanh(h)
    np.testing.assert_allclose(model(x).detach().numpy(), h, rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATION_FORMULAS)
def test_activations(activation):
    assert list(ACTIVATIONS) == list(ACTIVATION_FORMULAS)
    model = mlp((1,), 1, hidden=[1, 1], activation=activation).double()
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    expected = [ACTIVATION_FORMULAS[activation](value) for value in x.tolist()]
    for place in (0, 1):
        ours = model.get_submodule(f"{activation}{place}")(x)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_only_the_hidden_layers_lose_their_bias():
    model = mlp((4,), 3, hidden=[5, 5], norm="batch", bias=False)
    assert model.linear0.bias is None and model.linear1.bias is None
    assert model.output.bias is not None and model.norm0.bias is not None


@pytest.mark.parametrize(("norm", "axis"), [("batch", 0), ("layer", 1)])
def test_norms_standardise_before_the_activation(norm, axis):
    model = mlp((4,), 3, hidden=[50], norm=norm).double()
    h = model.norm0(model.linear0(torch.randn(60, 4, dtype=torch.float64))).detach().numpy()
    np.testing.assert_allclose(h.mean(axis), 0, atol=1e-12)
    np.testing.assert_allclose(h.std(axis), 1, rtol=1e-3)


def test_dropout_has_its_rate_after_every_activation_and_none_after_the_output():
    model = mlp((4,), 3, hidden=[5, 6, 7], dropout=0.25)
    layers = [layer for layer in model if isinstance(layer, nn.Dropout)]
    assert [layer.p for layer in layers] == [0.25] * 3
    model.eval()
    x = torch.randn(5, 4)
    assert torch.equal(model(x), model(x))
    assert [layer.p for layer in mlp((4,), 3, hidden=[5]) if isinstance(layer, nn.Dropout)] == [0.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": [0]}, "model.hidden=[0]: must be a list, each a whole number in [1, inf)"),
        ({"hidden": [8, 1.5]}, "model.hidden=[8, 1.5]: must be a list, each a whole number in [1, inf)"),
        ({"hidden": 256}, "model.hidden=256: must be a list, each a whole number in [1, inf)"),
        ({"hidden": [], "activation": "rleu"}, "model.activation=rleu: must be one of relu, tanh, sigmoid, "),
        ({"hidden": [], "norm": None}, "model.norm=null: must be one of none, batch, layer"),
        ({"hidden": [], "dropout": 1.0}, "model.dropout=1.0: must be in [0, 1)"),
        ({"hidden": [], "dropout": -0.1}, "model.dropout=-0.1: must be in [0, 1)"),
        ({"hidden": [], "bias": 1}, "model.bias=1: must be true or false"),
    ],
)
def test_options_out_of_range(values, message):
    faults: list[str] = []
    bind("model", {"_target_": "sweepwise.model.mlp.mlp", **values}, faults, given={"features", "outputs"})
    assert len(faults) == 1 and faults[0].startswith(message)


def test_every_activation_of_the_signature_exists():
    for activation in ACTIVATIONS:
        faults: list[str] = []
        node = {"_target_": "sweepwise.model.mlp.mlp", "hidden": [2], "activation": activation}
        bound = bind("model", node, faults, given={"features", "outputs"})
        assert faults == [] and bound.target((3,), 2)(torch.ones(4, 3)).shape == (4, 2)
