"""Convolutions of many runs, with backward passes written by hand: of small layers as products of windows."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sweepwise.learner.linear import VECTOR, Gather, Passes, Products, by_hand

FEW = 100_000  # numbers in a batch's windows and outputs up to which to copy them costs less than the library
ONE_BY_ONE = ("cpu",)  # devices on which the convolutions of the runs are computed one after the other


class Convolutions(nn.Module):
    """A convolution for each run. x: (runs * batch, channels, ...).

    On a GPU it is one convolution with a group of channels for each run, as in HFTA (Wang et al., MLSys
    2021); on a CPU that is no faster than one run after the other, and its rounding depends on the number of
    runs.

    Attributes:
        weights: (runs, out, in, *kernel).
        biases: (runs, out), or None.
        passes: how it is computed and differentiated by hand; None: autograd differentiates it.
    """

    biases: Tensor | None

    def __init__(self, modules: Sequence[_ConvNd], gather: Gather) -> None:
        super().__init__()
        one = modules[0]
        self._one = copy.copy(one)  # for stride and padding; its own weights are not used
        self.weights = gather([module.weight for module in modules])
        self.biases = (
            gather([m.bias for m in modules if m.bias is not None]) if one.bias is not None else None
        )
        self._runs = len(modules)
        self._at_once = self.weights.device.type not in ONE_BY_ONE
        self._one.groups *= self._runs if self._at_once else 1
        vars(self)["_one"] = vars(self)["_modules"].pop("_one")
        plain = one.padding_mode == "zeros" and not isinstance(one.padding, str)
        self.passes: ConvolutionPasses | None = None
        if plain and not self._at_once:
            biases = None if self.biases is None else self.biases.detach()
            self.passes = ConvolutionPasses(one, self.weights.detach(), biases)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if self._at_once:  # (batch, runs * channels, ...)
            beside = x.unflatten(0, (self._runs, -1)).transpose(0, 1).flatten(1, 2)
            bias = None if self.biases is None else self.biases.flatten()
            y = self._one._conv_forward(beside, self.weights.flatten(0, 1), bias)
            return y.unflatten(1, (self._runs, -1)).transpose(0, 1).flatten(0, 1)
        if self.passes:
            return by_hand(x.unflatten(0, (self._runs, -1)), self.weights, self.biases, self.passes).flatten(
                0, 1
            )
        biases: Sequence[Tensor | None] = [None] * self._runs if self.biases is None else self.biases.unbind()
        each = zip(_aligned(x.chunk(self._runs)), self.weights.unbind(), biases, strict=True)
        return torch.cat([self._one._conv_forward(own, weight, bias) for own, weight, bias in each])


class ConvolutionPasses:
    """The convolutions of the runs and their derivatives, in the way that is faster for their shapes.

    Args:
        one: a layer with their settings.
        weights: (runs, out, in / groups, *kernel), read at each call.
        biases: (runs, out), or None.
    """

    def __init__(self, one: _ConvNd, weights: Tensor, biases: Tensor | None) -> None:
        self._windows = Windows(one, weights, biases) if one.groups == 1 else None
        self._library = Library(one, weights, biases)

    def forward(self, x: Tensor) -> tuple[tuple[Passes, Any], Tensor]:
        """See `Passes`; x: (runs, batch, channels, *sides)."""
        way: Passes = self._library
        if self._windows and self._windows.are_faster(x.shape):
            way = self._windows
        saved, y = way.forward(x)
        return (way, saved), y

    def backward(
        self,
        gradient: Tensor,
        saved: tuple[Passes, Any],
        by_weight: Tensor | None,
        by_bias: Tensor | None,
        by_x: bool,
    ) -> Tensor | None:
        """See `Passes`."""
        way, own = saved
        return way.backward(gradient, own, by_weight, by_bias, by_x)


@dataclass(frozen=True)
class Geometry:
    """Where the windows of padded examples lie, whose channels are last in memory.

    Attributes:
        padded: (runs * batch, *sides, channels) with the padding.
        inner: the part of it within the padding.
        out: how many windows there are along each side.
        windows: (runs * batch, *out, *kernel, channels), as a view of the padded examples.
        strides: of that view.
        places: what each position of the kernel meets in the padded examples, once in each window.
    """

    padded: tuple[int, ...]
    inner: tuple[slice, ...]
    out: tuple[int, ...]
    windows: tuple[int, ...]
    strides: tuple[int, ...]
    places: Sequence[tuple[slice, ...]]


def geometry(one: _ConvNd, shape: Sequence[int]) -> Geometry:
    """The geometry of a layer for inputs (runs, batch, channels, *sides)."""
    runs, batch, channels, *sides = shape
    kernel, stride, dilation = one.kernel_size, one.stride, one.dilation
    padding = [int(side) for side in one.padding]
    whole = [side + 2 * more for side, more in zip(sides, padding, strict=True)]
    out = [
        (side - apart * (size - 1) - 1) // step + 1
        for side, size, step, apart in zip(whole, kernel, stride, dilation, strict=True)
    ]
    along = [channels * math.prod(whole[axis + 1 :]) for axis in range(len(whole))]
    every = slice(None)
    places = [
        (
            every,
            *(
                slice(at * apart, at * apart + step * (count - 1) + 1, step)
                for at, apart, step, count in zip(position, dilation, stride, out, strict=True)
            ),
        )
        for position in itertools.product(*map(range, kernel))
    ]
    return Geometry(
        (runs * batch, *whole, channels),
        (every, *(slice(more, more + side) for side, more in zip(sides, padding, strict=True))),
        tuple(out),
        (runs * batch, *out, *kernel, channels),
        (
            channels * math.prod(whole),
            *(step * by for step, by in zip(along, stride, strict=True)),
            *(step * by for step, by in zip(along, dilation, strict=True)),
            1,
        ),
        places,
    )


class Windows:
    """As products of the examples' windows and the kernels; channels are last in memory."""

    def __init__(self, one: _ConvNd, weights: Tensor, biases: Tensor | None) -> None:
        self._one = copy.copy(one)
        self._weights = weights.movedim(2, -1)  # (runs, out, *kernel, in)
        self._rows = torch.empty(self._weights.shape, dtype=weights.dtype)
        self._products = Products(self._rows.flatten(2), biases)
        self._geometries: dict[torch.Size, Geometry] = {}

    def are_faster(self, shape: torch.Size) -> bool:
        """Whether they are faster than the library for such inputs; by shape alone, so that bits repeat."""
        there = self._geometry(shape)
        outputs = math.prod(there.out) * shape[1] * self._one.out_channels
        return math.prod(there.windows) // shape[0] + outputs <= FEW

    def _geometry(self, shape: torch.Size) -> Geometry:
        if shape not in self._geometries:
            self._geometries[shape] = geometry(self._one, shape)
        return self._geometries[shape]

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, torch.Size], Tensor]:
        """See `Passes`."""
        runs, batch = x.shape[:2]
        there = self._geometry(x.shape)
        padded = x.new_zeros(there.padded)
        padded[there.inner].copy_(x.flatten(0, 1).movedim(1, -1))
        windows = padded.as_strided(there.windows, there.strides).reshape(
            runs, batch * math.prod(there.out), -1
        )
        self._rows.copy_(self._weights)
        windows, y = self._products.forward(windows)
        return (windows, x.shape), y.view(runs, batch, *there.out, -1).movedim(-1, 2)

    def backward(
        self,
        gradient: Tensor,
        saved: tuple[Tensor, torch.Size],
        by_weight: Tensor | None,
        by_bias: Tensor | None,
        by_x: bool,
    ) -> Tensor | None:
        """See `Passes`."""
        windows, shape = saved
        by_rows = None if by_weight is None else torch.empty_like(self._products.weight)
        rows = gradient.movedim(2, -1).flatten(1, -2)
        by_windows = self._products.backward(rows, windows, by_rows, by_bias, by_x)
        if by_weight is not None and by_rows is not None:
            by_weight.movedim(2, -1).copy_(by_rows.view(self._weights.shape))
        if by_windows is None:
            return None
        there = self._geometry(shape)
        padded = gradient.new_zeros(there.padded)
        parts = by_windows.reshape(len(padded), *there.out, len(there.places), -1)
        for place, part in zip(there.places, parts.unbind(-2), strict=True):
            padded[place].add_(part)
        return padded[there.inner].movedim(-1, 1).unflatten(0, shape[:2])


class Library:
    """By torch's own convolutions, one run after the other."""

    def __init__(self, one: _ConvNd, weights: Tensor, biases: Tensor | None) -> None:
        self._one, self._weights = copy.copy(one), weights.unbind()
        self._biases = [None] * len(weights) if biases is None else list(biases.unbind())

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `Passes`."""
        parts = _aligned([own.contiguous() for own in x])
        each = zip(parts, self._weights, self._biases, strict=True)
        return parts, torch.stack([self._one._conv_forward(*own) for own in each])

    def backward(
        self,
        gradient: Tensor,
        saved: list[Tensor],
        by_weight: Tensor | None,
        by_bias: Tensor | None,
        by_x: bool,
    ) -> Tensor | None:
        """See `Passes`."""
        one, wanted = self._one, [by_x, by_weight is not None, by_bias is not None]
        parts = _aligned([own.contiguous() for own in gradient])
        of_x = []
        for k, (own, x, weight) in enumerate(zip(parts, saved, self._weights, strict=True)):
            by_input, by_own, by_own_bias = torch.ops.aten.convolution_backward(
                own,
                x,
                weight,
                [one.out_channels],
                one.stride,
                one.padding,
                one.dilation,
                False,
                one.output_padding,
                one.groups,
                wanted,
            )
            if by_weight is not None:
                by_weight[k].copy_(by_own)
            if by_bias is not None:
                by_bias[k].copy_(by_own_bias)
            of_x.append(by_input)
        return torch.stack(of_x) if by_x else None


def _aligned(parts: Sequence[Tensor]) -> list[Tensor]:
    """The part of each run, beginning at a vector's boundary."""
    return [part.clone() for part in parts] if parts[0].numel() % VECTOR else list(parts)
