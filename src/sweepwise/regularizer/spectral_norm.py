"""Spectral normalisation."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import spectral_norm

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer
from sweepwise.seed import seed_torch

_START = 0  # seed of the initial singular vectors, the same for every run


class SpectralNorm(Regularizer):
    """Divides the weight of every linear and convolutional layer by its largest singular value.

    The layer computes with W / (u' W v); power iterations at each training step keep u and v close to W's
    first singular vectors, and evaluation does not change them. torch's parametrization does it, so the
    parameter that is trained, penalised and saved is `LAYER.parametrizations.weight.original`, u and v are
    buffers beside it, and `LAYER.weight` is what the layer computes with. A kernel counts as a matrix
    (out, in * kernel).

    Unchanged: weights that are frozen, shared by several modules, or parametrized already.

    Args:
        n_power_iterations: power iterations of a step, >= 1; torch makes 15 at the start.

    Source: Miyato et al., Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957,
    algorithm 1.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> layer.weight.data = torch.diag(torch.tensor([8.0, 2.0]))
        >>> SpectralNorm().prepare_(nn.Sequential(layer), features=(2,), classes=2)
        >>> layer.eval().weight.detach()
        tensor([[1.0000, 0.0000],
                [0.0000, 0.2500]])
    """

    def __init__(self, *, n_power_iterations: Annotated[int, Range(1)] = 1) -> None:
        self._iterations = n_power_iterations

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Parametrizes the layers. It draws from its own seed and restores all generators.

        Raises:
            ValueError: there is no such layer, or the weights of one are all 0.
        """
        layers = _layers(model)
        if not layers:
            raise ValueError(
                "regularizer=spectral_norm: the model must have a linear or convolutional layer with a "
                "trainable weight that is not shared and not parametrized; choose another model"
            )
        zero = [name for name, layer in layers.items() if not layer.get_parameter("weight").any()]
        if zero:
            raise ValueError(
                f"regularizer=spectral_norm: {', '.join(zero)}: its weights are all 0 and cannot be divided "
                "by their norm; choose another init"
            )
        devices = {p.device.index for p in model.parameters() if p.is_cuda}
        with torch.random.fork_rng(devices=devices):
            seed_torch(_START)
            for layer in layers.values():
                spectral_norm(layer, n_power_iterations=self._iterations)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolutional layers with a trained weight of their own, by name."""
    owned = {name: dict(module.named_parameters(recurse=False)) for name, module in model.named_modules()}
    owners = Counter(id(parameter) for own in owned.values() for parameter in own.values())
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, _ConvNd))
        and (weight := owned[name].get("weight")) is not None
        and weight.requires_grad
        and owners[id(weight)] == 1
    }
