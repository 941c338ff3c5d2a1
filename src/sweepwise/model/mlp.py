"""Multi-layer perceptron."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

from torch import nn

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.model.activation import ACTIVATIONS, Activation

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


@checked("model")
def mlp(
    features: Sequence[int],
    outputs: int,
    *,
    hidden: list[Annotated[int, Range(1)]],
    activation: Activation = "relu",
    norm: Literal["none", "batch", "layer"] = "none",
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0,
    bias: bool = True,
) -> nn.Sequential:
    """Linear, norm, activation, dropout for each width; then a linear output layer.

    Args:
        features: shape of one example; flattened.
        outputs: classes, or 1 for regression.
        hidden: widths of the hidden layers, each >= 1; none gives a linear model.
        activation: after each hidden layer.
        norm: before each activation.
        dropout: probability in [0, 1) after each activation.
        bias: whether the hidden layers have biases; the output layer always has.

    Returns:
        x: (batch, *features) -> logits or predictions: (batch, outputs).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = math.prod(features)
    if len(features) != 1:
        layers["flatten"] = nn.Flatten()
    for number, size in enumerate(hidden):
        layers[f"linear{number}"] = nn.Linear(width, size, bias=bias)
        if norm != "none":
            layers[f"norm{number}"] = NORMS[norm](size)
        layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
        layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = size
    layers["output"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)
