"""Convolutional networks for signals and for images."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from torch import nn

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.model.activation import ACTIVATIONS, Activation

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
BATCH_NORMS: dict[int, Callable[[int], nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
POOLS: dict[str, dict[int, Callable[[int], nn.Module]]] = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d},
    "mean": {1: nn.AvgPool1d, 2: nn.AvgPool2d},
}
HEADS: dict[str, dict[int, Callable[[int], nn.Module]]] = {
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d},
    "mean": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d},
}
SUITABLE = {
    1: "signals (length,) or (channels, length)",
    2: "images (channels, height, width) or (height, width)",
}
INSTEAD = {
    1: "use data=mnist1d, or model=cnn2d for images",
    2: "use data=digits data.image=true, or model=cnn1d or mlp",
}


@checked("model")
def cnn(
    features: Sequence[int],
    outputs: int,
    *,
    dimensions: Literal[1, 2],
    channels: list[Annotated[int, Range(1)]],
    kernels: list[Annotated[int, Range(1)]],
    stride: Annotated[int, Range(1)] = 1,
    padding: Annotated[int, Range(0)] = 1,
    norm: Literal["none", "batch", "layer"] = "none",
    activation: Activation = "relu",
    pool: Literal["none", "max", "mean"] = "none",
    head: Literal["flatten", "max", "mean"] = "flatten",
    hidden: list[Annotated[int, Range(1)]],
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0,
    bias: bool = True,
) -> nn.Sequential:
    """Convolution, norm, activation, pooling, dropout for each number of channels; then linear layers.

    Args:
        features: shape of one example: (length,) or (channels, length), (height, width) or (channels, height,
            width).
        outputs: classes, or 1 for regression.
        dimensions: 1 for signals, 2 for images.
        channels: of each convolution's output, each >= 1; at least one.
        kernels: size of each convolution, one for each of `channels`.
        stride: of every convolution, >= 1.
        padding: zeros on either side before every convolution, >= 0.
        norm: before each activation: per channel over the batch, or all channels of an example.
        activation: after each convolution and hidden linear layer.
        pool: halves each side after each activation, by the maximum or mean of 2 (or 2 x 2) values.
        head: the input of the linear layers: every position, or each channel's maximum or mean over all
            positions, which ignores where in the signal something was.
        hidden: widths of linear layers before the output, each >= 1.
        dropout: probability in [0, 1) after each convolution's block and hidden linear layer.
        bias: whether convolutions have biases.

    Returns:
        x: (batch, *features) -> logits or predictions: (batch, outputs).

    Raises:
        ValueError: the data have other dimensions, or a layer leaves no positions.
    """
    width, *sides = _channels_and_sides(features, dimensions)
    if len(kernels) != len(channels) or not channels:
        raise ValueError(
            f"model.kernels={list(kernels)}: must be one kernel for each of model.channels={list(channels)}, "
            "at least one"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(features) == dimensions:
        layers["channel"] = nn.Unflatten(1, (1, features[0]))
    for number, (out, kernel) in enumerate(zip(channels, kernels, strict=True)):
        sides = _sides_after(sides, number, kernel, stride, padding, pool)
        layers[f"conv{number}"] = CONVOLUTIONS[dimensions](
            width, out, kernel, stride=stride, padding=padding, bias=bias
        )
        if norm != "none":
            layers[f"norm{number}"] = (
                nn.GroupNorm(1, out) if norm == "layer" else BATCH_NORMS[dimensions](out)
            )
        layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
        if pool != "none":
            layers[f"pool{number}"] = POOLS[pool][dimensions](2)
        layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = out
    if head != "flatten":
        layers["head"] = HEADS[head][dimensions](1)
        sides = [1] * dimensions
    layers["flatten"] = nn.Flatten()
    width *= math.prod(sides)
    for number, size in enumerate(hidden, start=len(channels)):
        layers[f"linear{number}"] = nn.Linear(width, size)
        layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
        layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = size
    layers["output"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)


def _channels_and_sides(features: Sequence[int], dimensions: int) -> tuple[int, ...]:
    """Channels and lengths of an example."""
    if len(features) not in (dimensions, dimensions + 1):
        raise ValueError(
            f"model=cnn{dimensions}d: needs {SUITABLE[dimensions]}, the data has {tuple(features)}; "
            f"{INSTEAD[dimensions]}"
        )
    return tuple(features) if len(features) > dimensions else (1, *features)


def _sides_after(
    sides: Sequence[int], number: int, kernel: int, stride: int, padding: int, pool: str
) -> list[int]:
    """The length of each dimension after a convolution and its pooling."""
    after = [(size + 2 * padding - kernel) // stride + 1 for size in sides]
    after = after if pool == "none" else [size // 2 for size in after]
    if min(after) < 1:
        raise ValueError(
            f"model: convolution {number} with kernel {kernel}, stride {stride}, padding {padding} and pool "
            f"{pool} leaves nothing of an input of size {' x '.join(map(str, sides))}; use fewer "
            "model.channels, a smaller model.stride, model.pool=none or more model.padding"
        )
    return after
