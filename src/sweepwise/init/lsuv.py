"""Layer-sequential unit variance (LSUV): orthogonal weights, scaled by examples of the data."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.config.ranges import Range
from sweepwise.init import rules

SCALED = (
    nn.Linear,
    nn.Bilinear,
    _ConvNd,
)  # their output is proportional to the weight, as biases are 0


class LSUV:
    """Fills by `orthogonal_`, then divides layer by layer until outputs have standard deviation 1.

    The layers are Linear, Bilinear and (transposed) convolutions, in the order in which a forward pass calls
    them. One pass is enough for them, as a layer's divided output goes on to the next layers. Passes are
    repeated until none divides, for custom layers that add something to the product. The output layer gets
    `output_scale` instead of 1. A layer that the model calls several times is scaled by its first call. Other
    weights, shared weights, and layers that are not called stay orthogonal.

    The model is in training mode (batch norm by the batch), but without dropout. Modes, buffers and global
    generators are restored.

    Args:
        tol: relative tolerance on the standard deviation, (0, inf).
        max_passes: passes that scale, >= 1; one more checks.

    Raises:
        ValueError: from `complete_`: there are no examples, an output is constant or not finite, or a
            standard deviation is still beyond the tolerance after `max_passes`.

    Source: Mishkin & Matas, All you need is a good init, arXiv:1511.06422, algorithm 1.

    Example:
        >>> from sweepwise import initialize_
        >>> x = torch.rand(256, 4, generator=torch.Generator().manual_seed(0))
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8))
        >>> how = initialize_(model, LSUV, x, seed=0, output_scale=0.5)
        >>> ratios = model[:1](x).std(correction=0), model(x).std(correction=0) / 0.5
        >>> [abs(ratio.item() - 1) < 0.011 for ratio in ratios]
        [True, True]
    """

    def __init__(
        self,
        *,
        tol: Annotated[float, Range(0, open_low=True)] = 0.01,
        max_passes: Annotated[int, Range(1)] = 10,
    ) -> None:
        self.__name__ = "orthogonal_"  # what the record says of weights that are not scaled
        self._tol = tol
        self._max_passes = max_passes

    def __call__(self, tensor: Tensor, *, generator: Generator) -> Tensor:
        """Fills with an orthogonal matrix; a kernel is flattened to one."""
        return nn.init.orthogonal_(tensor, generator=generator)

    @torch.no_grad()
    def complete_(self, model: nn.Module, examples: Tensor, generator: Generator) -> dict[str, str]:
        """Scales the layers; returns what it has done to each weight, by name."""
        if not examples.numel():
            raise ValueError("init lsuv: needs examples of the training data; pass them to `initialize_`")
        goals = _goals(model)
        like = next(model.parameters(), examples)
        inputs_on_device = examples.to(like.device, like.dtype if examples.is_floating_point() else None)
        factors = dict.fromkeys(goals, 1.0)
        for _ in range(self._max_passes + 1):  # the last one only checks
            with _training_without_dropout(model, generator.initial_seed()):
                deviations, off_target = self._pass(model, inputs_on_device, goals, factors)
            if not off_target:
                break
        else:
            raise ValueError(
                f"init lsuv: after {self._max_passes} passes the output of {', '.join(off_target)} was still "
                f"off by more than init.tol={self._tol:g}; raise init.max_passes or init.tol"
            )
        return {
            f"{path}.weight".lstrip("."): f"orthogonal_ x {goals[path] * factors[path]:.4g}, "
            f"output std {deviation:.3g}" + (" (output layer)" if abs(goals[path] - 1) > 1e-2 else "")
            for path, deviation in deviations.items()
        }

    def _pass(
        self, model: nn.Module, examples: Tensor, goals: dict[str, float], factors: dict[str, float]
    ) -> tuple[dict[str, float], list[str]]:
        """Scales layers in one forward pass; returns the standard deviations and the scaled layers."""
        deviations: dict[str, float] = {}
        off_target: list[str] = []

        def scale(path: str, module: nn.Module, output: Tensor) -> Tensor | None:
            if path in deviations:
                return None
            deviations[path] = _deviation(path, output)
            factor = goals[path] / deviations[path]
            if abs(factor - 1) <= self._tol:
                return None
            off_target.append(path)
            factors[path] *= factor
            module.weight.mul_(factor)  # type: ignore[operator]
            return output * factor

        hooks = [
            model.get_submodule(path).register_forward_hook(
                lambda module, inputs, output, path=path: scale(path, module, output)
            )
            for path in goals
        ]
        try:
            model(examples.clone())
        finally:
            for hook in hooks:
                hook.remove()
        return deviations, off_target


def _goals(model: nn.Module) -> dict[str, float]:
    """The target standard deviation of each layer's output, by the layer's path.

    It is the factor of the orthogonal weight: output_scale in the output layer, else 1. A layer with factor 0
    is left out.
    """
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values())
    goals: dict[str, float] = {}
    for path, module in model.named_modules():
        fill = rules.rule(module).get("weight", rules.AS_BUILT)
        if isinstance(module, SCALED) and fill.by_scheme and owners[id(module.weight)] == 1:
            weight = module.weight.detach().cpu().double()
            blocks: list[Tensor] = []
            fill.write(weight, blocks.append, torch.Generator())
            orthonormal = math.sqrt(sum(min(len(block), block[0].numel()) for block in blocks))
            if scale := weight.norm().item() / orthonormal:
                goals[path] = scale
    return goals


def _deviation(path: str, output: Tensor) -> float:
    """The standard deviation over examples, units and positions."""
    values = output.float()
    deviation = values.std(correction=0).item()
    if not math.isfinite(deviation):
        raise ValueError(f"init lsuv: the output of {path} is not finite on {len(values)} training examples")
    if deviation <= 1e-6 * values.abs().max().item():
        raise ValueError(
            f"init lsuv: the output of {path} is the same for all {len(values)} training examples and cannot "
            "be scaled; choose another seed.init, a wider model or another init"
        )
    return deviation


@contextmanager
def _training_without_dropout(model: nn.Module, seed: int) -> Iterator[None]:
    """Within it the model is in training mode without dropout; restores modes, buffers and generator."""
    modes = {module: module.training for module in model.modules()}
    buffers = [buffer.clone() for buffer in model.buffers()]
    model.train()
    try:
        for module in modes:
            if isinstance(module, _DropoutNd):
                module.eval()
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)  # for custom layers that draw
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for buffer, saved in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(saved)
