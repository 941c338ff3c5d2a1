"""Recurrent networks: GRU and LSTM."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.model.pooling import Last, Mean


@checked("model")
def recurrent(
    features: Sequence[int],
    outputs: int,
    *,
    cell: Literal["gru", "lstm"],
    width: Annotated[int, Range(1)] = 64,
    layers: Annotated[int, Range(1, 10_000)] = 1,
    bidirectional: bool = False,
    pool: Literal["last", "mean"] = "last",
    dropout: Annotated[float, Range(0, 1, open_high=True)] = 0.0,
) -> nn.Sequential:
    """Layers of GRU or LSTM over the steps of an example, its last or mean state, a linear layer.

    Args:
        features: shape of one example: (length,), read value by value; (channels, length), all channels at
            once; (channels, height, width), row by row from the top.
        outputs: classes, or 1 for regression.
        cell: of every layer.
        width: of the state of each direction, >= 1.
        layers: >= 1, each reading the states of the one before.
        bidirectional: whether each layer reads in both directions, side by side.
        pool: the input of the output layer: the last state of each direction, or the mean of all.
        dropout: probability in [0, 1) after each layer, drawn anew for every step.

    Returns:
        x: (batch, *features) -> logits or predictions: (batch, outputs).

    Raises:
        ValueError: the data have more than three dimensions.

    Source: Hochreiter & Schmidhuber, Long Short-Term Memory (1997). Cho et al., arXiv:1406.1078.
    """
    if not 1 <= len(features) <= 3:
        raise ValueError(
            f"model={cell}: needs (length,), (channels, length) or (channels, height, width), the data has "
            f"{tuple(features)}; use model=mlp"
        )
    stack: OrderedDict[str, nn.Module] = OrderedDict(steps=Steps())
    inputs = 1 if len(features) == 1 else features[0] * math.prod(features[2:])
    for number in range(layers):
        stack[f"{cell}{number}"] = CELLS[cell](inputs, width, batch_first=True, bidirectional=bidirectional)
        stack[f"dropout{number}"] = nn.Dropout(dropout)
        inputs = 2 * width if bidirectional else width
    stack["pool"] = Last(width) if pool == "last" else Mean()
    stack["output"] = nn.Linear(inputs, outputs)
    return nn.Sequential(stack)


class Steps(nn.Module):
    """Moves the axis of steps behind the batch axis, and flattens the rest into one vector for each step."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, length), (batch, channels, length or height, ...) -> (batch, steps, values)."""
        return x.unsqueeze(2) if x.ndim == 2 else x.transpose(1, 2).flatten(2)


class GRU(nn.GRU):
    """nn.GRU that returns only the states of all steps."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: (batch, steps, values) -> (batch, steps, width or 2 width)."""
        states: Tensor = super().forward(x)[0]
        return states


class LSTM(nn.LSTM):
    """nn.LSTM that returns only the states of all steps."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: (batch, steps, values) -> (batch, steps, width or 2 width)."""
        states: Tensor = super().forward(x)[0]
        return states


CELLS: dict[str, type[GRU] | type[LSTM]] = {"gru": GRU, "lstm": LSTM}
