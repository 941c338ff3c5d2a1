"""Layers that start as the identity."""

from typing import Annotated

import torch
from torch import Tensor, nn

from sweepwise.config.ranges import Range


def identity_(tensor: Tensor, *, gain: Annotated[float, Range(0)] = 1.0) -> Tensor:
    """Output channel i is gain times input channel i where both exist; all other outputs are 0.

    A matrix is `eye_`; a kernel is `dirac_`, whose one is at its centre (size // 2). A grouped convolution
    is filled group by group, so every group is an identity.

    Args:
        tensor: (out, in, *kernel), kernels of 1 to 3 dimensions; filled in place.
        gain: of every channel, [0, inf).

    Source: Le, Jaitly & Hinton, A Simple Way to Initialize Recurrent Networks of Rectified Linear Units,
    arXiv:1504.00941. Zagoruyko & Komodakis, DiracNets, arXiv:1706.00388.

    Example:
        >>> identity_(torch.empty(2, 3), gain=2.0).tolist()
        [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """
    with torch.no_grad():
        filled = nn.init.eye_(tensor) if tensor.ndim == 2 else nn.init.dirac_(tensor)
        return filled.mul_(gain)
