"""The models of several runs as one model, on batches of shape (runs * batch, ...).

A layer without parameters that draws nothing treats all examples alike, so it stays as it is. A layer with
parameters is replaced by one that has the parameters of all runs, (runs, *shape), and uses for each example
those of its run.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.fused.dropout import stacked_dropout
from sweepwise.learner.fused.layers import LAYERS
from sweepwise.learner.linear import Gather, Unstackable, does_more


def stacked(models: Sequence[nn.Module], gather: Gather, noises: Sequence[torch.Generator]) -> nn.Module:
    """One model for the examples of all runs.

    Args:
        models: alike but for the values of parameters and buffers, and for the rates of dropout.
        gather: returns the same parameter or buffer of all runs as one tensor.
        noises: generators of each run's dropout.

    Raises:
        Unstackable: a layer cannot be stacked, or the models are not alike.
    """
    modules = [dict(model.named_modules(remove_duplicate=False)) for model in models]
    if any(list(own) != list(modules[0]) for own in modules):
        raise Unstackable("the models do not have the same layers")
    layers = {name: _layer([own[name] for own in modules], gather, noises) for name in modules[0]}
    return _rebuilt(models[0], layers)


def _layer(
    modules: Sequence[nn.Module], gather: Gather, noises: Sequence[torch.Generator]
) -> nn.Module | None:
    """The stacked layer of all runs; None: the layer stays as it is."""
    one, kind = modules[0], type(modules[0])
    if kind in LAYERS and any(map(does_more, modules)):
        raise Unstackable(f"{kind.__name__} has hooks, or a forward pass of its own")
    if kind not in LAYERS and (one._parameters or one._buffers or one._forward_pre_hooks):
        raise Unstackable(f"{kind.__name__} is a layer with parameters that cannot be stacked")
    if any(type(module) is not kind or _settings(module) != _settings(one) for module in modules):
        raise Unstackable(f"{kind.__name__} has other settings in other runs")
    if isinstance(one, _DropoutNd):
        return stacked_dropout(modules, noises) if any(module.p for module in modules) else None
    return LAYERS[kind](modules, gather) if kind in LAYERS else None


def _settings(module: nn.Module) -> dict[str, Any]:
    """A layer's settings (plain values), without the rate of dropout."""
    plain = (bool, int, float, str, tuple, list, type(None))
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, plain)
        and not key.startswith("_")
        and not (key == "p" and isinstance(module, _DropoutNd))
    }


def _rebuilt(model: nn.Module, layers: dict[str, nn.Module | None]) -> nn.Module:
    """A copy of the model in which the stacked layers replace its own."""
    memo: dict[int, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if (layer := layers[name]) is not None:
            memo[id(module)] = layer
    return copy.deepcopy(model, memo)
