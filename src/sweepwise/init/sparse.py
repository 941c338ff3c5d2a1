"""Sparse weights: a fixed number of incoming weights for each unit, the others 0."""

from typing import Annotated

import torch
from torch import Generator, Tensor

from sweepwise.config.ranges import Range


def sparse_(
    tensor: Tensor,
    *,
    connections: Annotated[int, Range(1)] = 15,
    std: Annotated[float, Range(0)] = 0.25,
    generator: Generator | None = None,
) -> Tensor:
    """Each unit gets `connections` random incoming weights from N(0, std^2); the others are 0.

    A unit's input then has the variance connections std^2 E[x^2], whatever its fan-in. torch's own sparse_
    differs: it sets a fraction of the weights of each input to 0, for matrices only, drawn from the global
    generator.

    Args:
        tensor: (out, in, *kernel); filled in place. A kernel's weights are one row: in times its size.
        connections: non-zero weights of each unit, >= 1; with a smaller fan-in all weights are.
        std: of the non-zero weights, [0, inf).
        generator: to draw from.

    Raises:
        ValueError: the tensor has fewer than 2 dimensions.

    Source: Martens, Deep learning via Hessian-free optimization, ICML 2010, section 5 (15 connections).
    Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013 (N(0, 1),
    for tanh 0.25 times that).

    Example:
        >>> (sparse_(torch.empty(3, 40), connections=15) != 0).sum(1).tolist()
        [15, 15, 15]
    """
    if tensor.ndim < 2:
        raise ValueError("it must have 2 or more dimensions")
    with torch.no_grad():
        weights = tensor.new_empty(tensor.shape).flatten(1).normal_(0, std, generator=generator)
        order = torch.rand(weights.shape, generator=generator).argsort(dim=1, stable=True)
        weights.scatter_(1, order[:, connections:], 0.0)
        return tensor.copy_(weights.view(tensor.shape))
