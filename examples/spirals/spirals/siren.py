"""A network with sines between its layers."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from sweepwise import Range


class Sine(nn.Module):
    """sin(frequency * x)."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sin(self.frequency * x)


def siren(
    features: Sequence[int],
    outputs: int,
    *,
    hidden: list[Annotated[int, Range(1)]],
    frequency: Annotated[float, Range(0, open_low=True)] = 3.0,
) -> nn.Sequential:
    """Linear layers with sines between them.

    Args:
        features: shape of one example; flattened.
        outputs: classes, or 1 for regression.
        hidden: widths.
        frequency: of every sine, > 0.

    Source: Sitzmann et al., Implicit Neural Representations with Periodic Activation Functions,
    arXiv:2006.09661.
    """
    widths = [math.prod(features), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, units in zip(widths, hidden, strict=False):
        layers += [nn.Linear(inputs, units), Sine(frequency)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
