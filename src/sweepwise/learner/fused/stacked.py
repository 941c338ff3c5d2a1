"""The models of several runs as one: their batches follow each other in the first axis, (runs * batch, ...).

What has no parameters and draws nothing does not care whose example is which, so it stays as it is, in a
model's own forward pass too. A layer with parameters is replaced by one that holds those of all runs, (runs,
*shape), and gives each run's examples its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.fused.layers import LAYERS, stacked_dropout
from sweepwise.learner.linear import Gather, Unstackable, does_more


def stacked(models: Sequence[nn.Module], gather: Gather, noises: Sequence[torch.Generator]) -> nn.Module:
    """One model for the examples of all runs.

    Args:
        models: alike but for the values of parameters and buffers, and for the rates of dropout.
        gather: finds the parameters or buffers of all runs as one tensor.
        noises: what the dropout of each run draws from.

    Raises:
        Unstackable: a layer is not known, or the models are not alike.
    """
    modules = [dict(model.named_modules(remove_duplicate=False)) for model in models]
    if any(list(own) != list(modules[0]) for own in modules):
        raise Unstackable("the models have not the same layers")
    layers = {name: _layer([own[name] for own in modules], gather, noises) for name in modules[0]}
    return _rebuilt(models[0], layers)


def _layer(
    modules: Sequence[nn.Module], gather: Gather, noises: Sequence[torch.Generator]
) -> nn.Module | None:
    """What stands for a layer of all runs; None: the layer itself."""
    one, kind = modules[0], type(modules[0])
    if kind in LAYERS and any(map(does_more, modules)):
        raise Unstackable(f"{kind.__name__} has hooks, or a pass of its own")
    if kind not in LAYERS and (one._parameters or one._buffers or one._forward_pre_hooks):
        raise Unstackable(f"{kind.__name__} is a layer with parameters that is not known here")
    if any(type(module) is not kind or _settings(module) != _settings(one) for module in modules):
        raise Unstackable(f"{kind.__name__} differs between the runs in more than numbers")
    if isinstance(one, _DropoutNd):
        return stacked_dropout(modules, noises) if any(module.p for module in modules) else None
    return LAYERS[kind](modules, gather) if kind in LAYERS else None


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a layer was told, beside its rate of dropout: plain values only."""
    plain = (bool, int, float, str, tuple, list, type(None))
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, plain)
        and not key.startswith("_")
        and not (key == "p" and isinstance(module, _DropoutNd))
    }


def _rebuilt(model: nn.Module, layers: dict[str, nn.Module | None]) -> nn.Module:
    """A model of the same structure with other layers, and copies of what stays."""
    memo: dict[int, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if (layer := layers[name]) is not None:
            memo[id(module)] = layer
    return copy.deepcopy(model, memo)
