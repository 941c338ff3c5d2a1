"""Weights for networks of sines."""

import math
from typing import Annotated

import torch
from torch import Tensor

from sweepwise import Range


def sine_uniform_(
    tensor: Tensor,
    generator: torch.Generator,
    *,
    frequency: Annotated[float, Range(0, open_low=True)] = 3.0,
) -> Tensor:
    """U(-b, b) with b = sqrt(6 / fan_in) / frequency, which keeps the sines' distribution through the depth.

    Args:
        tensor: (out, in, *kernel).
        generator: what to draw from.
        frequency: of the sines, > 0.

    Source: Sitzmann et al., arXiv:2006.09661, theorem 1.8.
    """
    bound = math.sqrt(6 / tensor[0].numel()) / frequency
    return tensor.uniform_(-bound, bound, generator=generator)
