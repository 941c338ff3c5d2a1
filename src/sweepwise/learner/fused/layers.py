"""Which layers can be stacked, and as what."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sweepwise.learner.fused.convolution import Convolutions
from sweepwise.learner.fused.norms import BatchNorms, Norms
from sweepwise.learner.linear import Linears

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
