"""Orthogonal convolutions, however deep they are stacked."""

from typing import Annotated

import torch
from torch import Generator, Tensor, nn

from sweepwise.config.ranges import Range


def delta_orthogonal_(
    tensor: Tensor, *, gain: Annotated[float, Range(0)] = 1.0, generator: Generator | None = None
) -> Tensor:
    """Gain times an orthogonal matrix at the kernel's centre, zeros elsewhere.

    The convolution then maps the channels of every pixel orthogonally, so it keeps the norm of the signal;
    `orthogonal_`, which flattens the kernel, does not. A matrix is filled by `orthogonal_`.

    Args:
        tensor: (out, in, *kernel), of one group; filled in place. The centre of a kernel is size // 2.
        gain: [0, inf); sqrt(2) suits ReLU.
        generator: to draw from.

    Raises:
        ValueError: a kernel has fewer output than input channels in a group.

    Source: Xiao et al., Dynamical Isometry and a Mean Field Theory of CNNs, arXiv:1806.05393, algorithm 1.

    Example:
        >>> kernel = delta_orthogonal_(torch.empty(4, 2, 3))
        >>> centre, others = kernel[:, :, 1], kernel[:, :, [0, 2]]
        >>> torch.allclose(centre.T @ centre, torch.eye(2), atol=1e-6), others.any().item()
        (True, False)
    """
    with torch.no_grad():
        if tensor.ndim == 2:
            return nn.init.orthogonal_(tensor, gain, generator=generator)
        n_out, n_in, *kernel = tensor.shape
        if n_out < n_in:
            raise ValueError(
                "a convolution must have at least as many output as input channels in each group, not "
                f"{n_out} and {n_in}"
            )
        matrix = nn.init.orthogonal_(tensor.new_empty(n_out, n_in), gain, generator=generator)
        centre = tensor.zero_()
        for size in reversed(kernel):
            centre = centre[..., size // 2]
        centre.copy_(matrix)
        return tensor
