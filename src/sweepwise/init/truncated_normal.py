"""A normal distribution without its tails."""

from typing import Annotated

from torch import Generator, Tensor, nn

from sweepwise.config.ranges import Range


def truncated_normal_(
    tensor: Tensor,
    *,
    std: Annotated[float, Range(0)] = 0.02,
    cut: Annotated[float, Range(0, open_low=True)] = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """N(0, std^2), with values beyond `cut` standard deviations drawn again.

    torch's own takes absolute bounds: its default of +-2 is 100 standard deviations of N(0, 0.02^2), and cuts
    nothing. The second moment is std^2 (1 - 2 c phi(c) / (2 Phi(c) - 1)), with c = cut and phi and Phi the
    standard normal density and distribution: (0.880 std)^2 for c = 2.

    Args:
        tensor: any shape; filled in place.
        std: of the normal before it is cut, [0, inf).
        cut: bound in units of std, (0, inf).
        generator: to draw from.

    Source: Devlin et al., BERT, arXiv:1810.04805 (std 0.02).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> values = truncated_normal_(torch.empty(100_000), std=0.02, generator=generator)
        >>> values.abs().max().item() <= 0.04, abs(values.std().item() / 0.02 - 0.880) < 0.01
        (True, True)
    """
    return nn.init.trunc_normal_(tensor, 0.0, 1.0, -cut, cut, generator=generator).mul_(std)
