"""Batch, layer and group norm of many runs, with backward passes written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sweepwise.learner.linear import VECTOR, Gather, Unstackable, by_hand

aten = torch.ops.aten


class BatchNorms(nn.Module):
    """Batch norm over the examples of each run, with its own running statistics.

    Attributes:
        weights: gains, (runs, channels), or None.
        biases: (runs, channels), or None.
        passes: its forward and backward pass.
    """

    weights: Tensor | None
    biases: Tensor | None

    def __init__(self, modules: Sequence[_BatchNorm], gather: Gather) -> None:
        super().__init__()
        one = modules[0]
        if one.momentum is None:
            raise Unstackable(f"{type(one).__name__} with momentum=None cannot be stacked")
        self._runs = len(modules)
        self.weights = gather([m.weight for m in modules]) if one.affine else None
        self.biases = gather([m.bias for m in modules]) if one.affine else None
        self._tracks = one.running_mean is not None
        of_channels = [self.weights, self.biases, None, None]
        if self._tracks:
            *of_channels[2:], self._counter = (
                gather([m.get_buffer(name) for m in modules])
                for name in ("running_mean", "running_var", "num_batches_tracked")
            )
        self.passes = BatchNormPasses(of_channels, one.num_features, one.momentum, one.eps)

    def forward(self, x: Tensor) -> Tensor:
        """See the class. x: (runs * batch, channels, ...)."""
        self.begin()
        return by_hand(x.unflatten(0, (self._runs, -1)), self.weights, self.biases, self.passes).flatten(0, 1)

    def begin(self) -> None:
        """Called before each pass: counts the batches that change the running statistics."""
        self.passes.by_batch = self.training or not self._tracks
        if self.training and self._tracks:
            self._counter.add_(1)


class BatchNormPasses:
    """The passes of batch norm.

    The channels of all runs are put side by side, (batch, runs * channels, ...), as batch norm treats each
    channel by itself.

    Args:
        of_channels: gains, biases, running means and variances of all runs, each (runs, channels) or None;
            read at each call.
        channels: of a run.
        momentum: of the running statistics.
        eps: added to the variances.

    Attributes:
        by_batch: whether the statistics of the batch are used, and not the running ones.
    """

    def __init__(
        self, of_channels: Sequence[Tensor | None], channels: int, momentum: float, eps: float
    ) -> None:
        self._of_channels = [None if tensor is None else tensor.detach() for tensor in of_channels]
        self._one_by_one = (
            channels % VECTOR > 0
        )  # else a channel's rounding would depend on the run's position
        self._momentum, self._eps = momentum, eps
        self.by_batch = True

    def forward(self, x: Tensor) -> tuple[Any, Tensor]:
        """See `Passes`; x: (runs, batch, channels, ...)."""
        saved, outputs = [], []
        for number, part in enumerate(self._split(x)):
            own = [self._part(tensor, number) for tensor in self._of_channels]
            y, mean, deviation = aten.native_batch_norm(part, *own, self.by_batch, self._momentum, self._eps)
            saved.append((part, own, mean, deviation))
            outputs.append(y)
        return saved, self._joined(outputs, len(x))

    def _part(self, tensor: Tensor | None, number: int) -> Tensor | None:
        """What a batch that is computed needs of (runs, channels)."""
        if tensor is None:
            return None
        return tensor[number] if self._one_by_one else tensor.reshape(-1)

    def backward(
        self, gradient: Tensor, saved: Any, by_weight: Tensor | None, by_bias: Tensor | None, by_x: bool
    ) -> Tensor | None:
        """See `Passes`."""
        wanted = [by_x, by_weight is not None, by_bias is not None]
        results = [
            aten.native_batch_norm_backward(
                by_y, x, weight, running, variance, mean, deviation, self.by_batch, self._eps, wanted
            )
            for by_y, (x, (weight, _, running, variance), mean, deviation) in zip(
                self._split(gradient), saved, strict=True
            )
        ]
        of_x, of_weight, of_bias = zip(*results, strict=True)
        for by, own in ((by_weight, of_weight), (by_bias, of_bias)):
            if by is not None:
                by.copy_(torch.cat(own).view(by.shape))
        return self._joined(of_x, len(gradient)) if by_x else None

    def _split(self, x: Tensor) -> list[Tensor]:
        """(runs, batch, channels, ...) as the batches that are computed."""
        if self._one_by_one:
            return [own.contiguous() for own in x]
        beside = x.transpose(0, 1)
        return [beside.reshape(len(beside), -1, *x.shape[3:])]

    def _joined(self, parts: Sequence[Tensor], runs: int) -> Tensor:
        """The reverse."""
        if self._one_by_one:
            return torch.stack(list(parts))
        return parts[0].unflatten(1, (runs, -1)).transpose(0, 1).contiguous()


class Norms(nn.Module):
    """Layer or group norm of each example, with the gain and bias of its run.

    Attributes:
        weights: gains, (runs, ...), or None.
        biases: (runs, ...), or None.
        passes: its forward and backward pass.
    """

    weights: Tensor | None
    biases: Tensor | None

    def __init__(self, modules: Sequence[nn.LayerNorm | nn.GroupNorm], gather: Gather) -> None:
        super().__init__()
        one = modules[0]
        self._runs = len(modules)
        self.weights = gather([m.weight for m in modules]) if one.weight is not None else None
        self.biases = gather([m.bias for m in modules]) if one.bias is not None else None
        detached = [None if own is None else own.detach() for own in (self.weights, self.biases)]
        self.passes = NormPasses(one, *detached)

    def forward(self, x: Tensor) -> Tensor:
        """See the class. x: (runs * batch, ...)."""
        return by_hand(x.unflatten(0, (self._runs, -1)), self.weights, self.biases, self.passes).flatten(0, 1)


class NormPasses:
    """The passes of layer or group norm; gains and biases are applied to what is normed, as they differ.

    Args:
        one: a layer with the settings of all.
        weights: gains, (runs, ...), or None.
        biases: (runs, ...), or None.
    """

    def __init__(
        self, one: nn.LayerNorm | nn.GroupNorm, weights: Tensor | None, biases: Tensor | None
    ) -> None:
        self._eps = one.eps
        self._groups = one.num_groups if isinstance(one, nn.GroupNorm) else 0
        self._shape = list(one.normalized_shape) if isinstance(one, nn.LayerNorm) else []
        self._weights, self._biases = weights, biases

    def _group_sizes(self, x: Tensor) -> tuple[int, int, int, int]:
        """Examples, channels, numbers of a channel and groups, for native_group_norm."""
        return len(x), x.shape[1], math.prod(x.shape[2:]), self._groups

    def _beside(self, of_runs: Tensor, x: Tensor) -> Tensor:
        """Gains or biases in a shape that fits x, (runs, batch, ...)."""
        if self._groups:
            return of_runs.view(len(x), 1, -1, *[1] * (x.ndim - 3))
        return of_runs.view(len(x), *[1] * (x.ndim - 1 - len(self._shape)), *self._shape)

    def forward(self, x: Tensor) -> tuple[Any, Tensor]:
        """See `Passes`."""
        flat = x.flatten(0, 1).contiguous()
        if self._groups:
            of_all = aten.native_group_norm(flat, None, None, *self._group_sizes(flat), self._eps)
        else:
            of_all = aten.native_layer_norm(flat, self._shape, None, None, self._eps)
        normed = y = of_all[0].view(x.shape)
        if self._weights is not None:
            y = y * self._beside(self._weights, x)
        if self._biases is not None:
            y = y + self._beside(self._biases, x)
        return (flat, normed, *of_all[1:]), y.clone() if y is normed else y

    def backward(
        self, gradient: Tensor, saved: Any, by_weight: Tensor | None, by_bias: Tensor | None, by_x: bool
    ) -> Tensor | None:
        """See `Passes`."""
        flat, normed, mean, deviation = saved
        if by_weight is not None:
            self._summed(gradient * normed, by_weight)
        if by_bias is not None:
            self._summed(gradient, by_bias)
        if not by_x:
            return None
        if self._weights is not None:
            gradient = gradient * self._beside(self._weights, gradient)
        by_y, only_x = gradient.reshape(flat.shape).contiguous(), [True, False, False]
        if self._groups:
            sizes = self._group_sizes(flat)
            by = aten.native_group_norm_backward(by_y, flat, mean, deviation, None, *sizes, only_x)
        else:
            options = self._shape, mean, deviation, None, None, only_x
            by = aten.native_layer_norm_backward(by_y, flat, *options)
        by_input: Tensor = by[0].view(normed.shape)
        return by_input

    def _summed(self, terms: Tensor, into: Tensor) -> None:
        """Writes the sum over all that share a gain or bias."""
        if self._groups:
            into.copy_(terms.sum([1, *range(3, terms.ndim)]))
        else:
            into.copy_(terms.flatten(1, terms.ndim - 1 - len(self._shape)).sum(1))
