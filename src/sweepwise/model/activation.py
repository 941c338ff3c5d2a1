"""Activations by name, as modules, so that monitors see them."""

from typing import Literal

from torch import nn

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "selu", "leaky_relu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "leaky_relu": nn.LeakyReLU,
}
