"""Dropout of many runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.linear import Unstackable

# Whether a layer drops whole channels, the second axis of an example.
DROPOUTS: dict[type[nn.Module], bool] = {
    nn.Dropout: False,
    nn.Dropout1d: True,
    nn.Dropout2d: True,
    nn.Dropout3d: True,
}


class Dropouts(nn.Module):
    """Dropout with the rate and generator of each run, drawn as torch's layer does."""

    def __init__(self, modules: Sequence[_DropoutNd], noises: Sequence[torch.Generator]) -> None:
        super().__init__()
        self._rates = [module.p for module in modules]
        self._noises = list(noises)
        self._dimensions = DROPOUTS[type(modules[0])]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if not self.training:
            return x
        rows = x.view(len(self._rates), -1, *x.shape[1:])
        return (rows * self.mask(rows)).view(x.shape)

    def mask(self, x: Tensor) -> Tensor:
        """By what the inputs of a training step are multiplied, (runs, batch, ...)."""
        shape = x.shape[:3] + (1,) * (x.ndim - 3) if self._dimensions else x.shape
        mask = torch.empty(shape, dtype=x.dtype, device=x.device)
        for own, rate, noise in zip(mask.unbind(), self._rates, self._noises, strict=True):
            if rate:
                own.bernoulli_(1 - rate, generator=noise).div_(1 - rate)
            else:
                own.fill_(1.0)
        return mask


def stacked_dropout(modules: Sequence[nn.Module], noises: Sequence[torch.Generator]) -> nn.Module:
    """The dropout layers of all runs as one layer, each drawing from its run's own generator."""
    if type(modules[0]) not in DROPOUTS:
        raise Unstackable(f"{type(modules[0]).__name__} is a dropout layer that cannot be stacked")
    return Dropouts([module for module in modules if isinstance(module, _DropoutNd)], noises)
