"""Counts dead and saturated units."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sweepwise.learner.flat import is_weight

SATURATED = 0.97  # of the way to its limit; tanh has 6 % of its slope left there
BOUNDED = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}


def has_weights(module: nn.Module) -> bool:
    """Whether a module itself holds a matrix or kernel."""
    return any(is_weight(module, parameter) for parameter in module.parameters(recurse=False))


def axis_of_units(layer: nn.Module) -> int:
    """The axis along which the units of a layer's outputs lie: a convolution's channels, else the last."""
    return 1 if isinstance(layer, _ConvNd) else -1


def axes_of_units(layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """The axis of the units in the outputs of each layer, by its name.

    Activations and norms have the units of the last layer with weights before them. One that comes before
    all of these, as a model may name it first and call it everywhere, has the units of the first.

    Args:
        layers: in the order in which the model names them.
    """
    axis = axis_of_units(next(filter(has_weights, layers.values()), nn.Identity()))
    axes = {}
    for name, layer in layers.items():
        axis = axis_of_units(layer) if has_weights(layer) else axis
        axes[name] = axis
    return axes


def alive(values: Tensor, axis: int) -> tuple[Tensor, int]:
    """The number of units that are not 0 for all examples, and of all units; the others are dead.

    A unit of a convolution is a channel, as all its positions share one kernel: it is dead if it is 0 at
    every position of every example. One that is 0 only at some positions, such as all borders, still learns.

    Args:
        values: (examples, ...), behind a ReLU.
        axis: of the units.

    Returns:
        The number, a scalar on the values' device, and the number of all units.

    Source: Hu, Peng, Tai, Tang: Network Trimming, arXiv:1607.03250, equation 1: the share of zeros of a
        channel over all examples and positions; a channel is dead if it is 1.
    """
    greatest = values.amax(0)  # first over the examples: that is nearly all of the work
    if greatest.dim() > 1:
        greatest = greatest.movedim(axis - 1 if axis > 0 else axis, 0).flatten(1).amax(1)
    return greatest.count_nonzero(), greatest.numel()


def saturated(values: Tensor, kind: str) -> Tensor:
    """Share of the values that are near their limits, a scalar on their device.

    Args:
        values: behind a bounded activation.
        kind: its class, one of `BOUNDED`.
    """
    low, high = BOUNDED[kind]
    distance = (values - (low + high) / 2).abs_()
    return distance.gt_(SATURATED * (high - low) / 2).mean(dtype=torch.float32)
