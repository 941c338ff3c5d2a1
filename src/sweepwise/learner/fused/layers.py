"""Stacked layers of many runs: convolutions, norms and dropout; linear layers are in `learner.linear`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.linear import VECTOR, Gather, Linears, Unstackable

ONE_BY_ONE = ("cpu",)  # devices on which the convolutions of the runs are computed one after the other
# Whether a layer drops whole channels, the second axis of an example.
DROPOUTS: dict[type[nn.Module], bool] = {
    nn.Dropout: False,
    nn.Dropout1d: True,
    nn.Dropout2d: True,
    nn.Dropout3d: True,
}


class Convolutions(nn.Module):
    """A convolution for each run. x: (runs * batch, channels, ...).

    On a GPU it is one convolution with a group of channels for each run, as in HFTA (Wang et al., MLSys
    2021); on a CPU that is no faster than one run after the other, and its rounding depends on the number of
    runs.
    """

    def __init__(self, modules: Sequence[_ConvNd], gather: Gather) -> None:
        super().__init__()
        self._one = copy.copy(modules[0])  # for stride and padding; its own weights are not used
        self._weight = gather([module.weight for module in modules])
        self._bias = (
            gather([m.bias for m in modules if m.bias is not None]) if modules[0].bias is not None else None
        )
        self._runs = len(modules)
        self._at_once = self._weight.device.type not in ONE_BY_ONE
        self._one.groups *= self._runs if self._at_once else 1
        vars(self)["_one"] = vars(self)["_modules"].pop("_one")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self._at_once:  # (batch, runs * channels, ...)
            beside = x.unflatten(0, (self._runs, -1)).transpose(0, 1).flatten(1, 2)
            bias = None if self._bias is None else self._bias.flatten()
            y = self._one._conv_forward(beside, self._weight.flatten(0, 1), bias)
            return y.unflatten(1, (self._runs, -1)).transpose(0, 1).flatten(0, 1)
        biases: Sequence[Tensor | None] = [None] * self._runs if self._bias is None else self._bias.unbind()
        parts = x.chunk(self._runs)
        if parts[0].numel() % VECTOR:  # so that each run begins at a vector's boundary
            parts = tuple(part.clone() for part in parts)
        each = zip(parts, self._weight.unbind(), biases, strict=True)
        return torch.cat([self._one._conv_forward(own, weight, bias) for own, weight, bias in each])


class BatchNorms(nn.Module):
    """Batch norm over the examples of each run, with its own running statistics.

    The channels of all runs are put side by side, (batch, runs * channels, ...), as batch norm treats each
    channel by itself.
    """

    def __init__(self, modules: Sequence[_BatchNorm], gather: Gather) -> None:
        super().__init__()
        one = modules[0]
        if one.momentum is None:
            raise Unstackable(f"{type(one).__name__} with momentum=None cannot be stacked")
        self._runs, self._channels = len(modules), one.num_features
        self._momentum, self._eps = one.momentum, one.eps
        self._weight = gather([m.weight for m in modules]) if one.affine else None
        self._bias = gather([m.bias for m in modules]) if one.affine else None
        self._tracks = one.running_mean is not None
        if self._tracks:
            self._mean, self._variance, self._counter = (
                gather([m.get_buffer(name) for m in modules])
                for name in ("running_mean", "running_var", "num_batches_tracked")
            )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.training and self._tracks:
            self._counter.add_(1)
        if (
            self._channels % VECTOR
        ):  # side by side, the rounding of a channel would depend on the run's position
            rows = zip(x.chunk(self._runs), *map(self._each, self._of_channels()), strict=True)
            return torch.cat([self._normed(*row) for row in rows])
        beside = x.view(self._runs, -1, *x.shape[1:]).transpose(0, 1)
        flat = beside.reshape(beside.shape[0], -1, *x.shape[2:])
        normed = self._normed(flat, *(None if t is None else t.reshape(-1) for t in self._of_channels()))
        return normed.view(beside.shape).transpose(0, 1).reshape(x.shape)

    def _of_channels(self) -> tuple[Tensor | None, ...]:
        statistics = (self._mean, self._variance) if self._tracks else (None, None)
        return (*statistics, self._weight, self._bias)

    def _each(self, of_runs: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * self._runs if of_runs is None else of_runs.unbind()

    def _normed(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        alone = self.training or not self._tracks
        return functional.batch_norm(x, mean, variance, weight, bias, alone, self._momentum, self._eps)


class Norms(nn.Module):
    """Layer or group norm of each example, with the gain and bias of its run."""

    def __init__(self, modules: Sequence[nn.LayerNorm | nn.GroupNorm], gather: Gather) -> None:
        super().__init__()
        one = modules[0]
        self._runs, self._eps = len(modules), one.eps
        self._groups = one.num_groups if isinstance(one, nn.GroupNorm) else 0
        self._shape = list(one.normalized_shape) if isinstance(one, nn.LayerNorm) else []
        self._weight = gather([m.weight for m in modules]) if one.weight is not None else None
        self._bias = gather([m.bias for m in modules]) if one.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self._groups:
            x = functional.group_norm(x, self._groups, None, None, self._eps)
            shape = [self._runs, 1, x.shape[1], *[1] * (x.ndim - 2)]
        else:
            x = functional.layer_norm(x, self._shape, None, None, self._eps)
            shape = [self._runs, *[1] * (x.ndim - len(self._shape)), *self._shape]
        folded = x.view(self._runs, -1, *x.shape[1:])
        if self._weight is not None:
            folded = folded * self._weight.view(shape)
        if self._bias is not None:
            folded = folded + self._bias.view(shape)
        return folded.view(x.shape)


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
        shape = rows.shape[:3] + (1,) * (rows.ndim - 3) if self._dimensions else rows.shape
        mask = torch.empty(shape, dtype=x.dtype, device=x.device)
        for own, rate, noise in zip(mask.unbind(), self._rates, self._noises, strict=True):
            if rate:
                own.bernoulli_(1 - rate, generator=noise).div_(1 - rate)
            else:
                own.fill_(1.0)
        return (rows * mask).view(x.shape)


def stacked_dropout(modules: Sequence[nn.Module], noises: Sequence[torch.Generator]) -> nn.Module:
    """The dropout layers of all runs as one layer, each drawing from its run's own generator."""
    if type(modules[0]) not in DROPOUTS:
        raise Unstackable(f"{type(modules[0]).__name__} is a dropout layer that cannot be stacked")
    return Dropouts(modules, noises)  # type: ignore[arg-type]


LAYERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: Linears,
    nn.Conv1d: Convolutions,
    nn.Conv2d: Convolutions,
    nn.Conv3d: Convolutions,
    nn.BatchNorm1d: BatchNorms,
    nn.BatchNorm2d: BatchNorms,
    nn.BatchNorm3d: BatchNorms,
    nn.LayerNorm: Norms,
    nn.GroupNorm: Norms,
}
