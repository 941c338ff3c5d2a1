"""Draws the weights of a network again, as its layers drew theirs when they were made.

Only where they still are such a first draw: weights that were trained, loaded, frozen or initialised by the
network's own code are there on purpose.
"""

import inspect
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

SIGMAS = 8.0  # beyond which the mean or deviation of a tensor is not that of a draw: once in 10^15


def draw_again_(network: nn.Module) -> None:
    """Lets all layers draw their weights again from torch's global generator, in the order of their making.

    Parameters of a layer without `reset_parameters` stay as they are.

    Example:
        >>> _ = torch.manual_seed(3)
        >>> made = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        >>> before = made[0].weight.clone()
        >>> _ = torch.manual_seed(3)
        >>> draw_again_(made)
        >>> torch.equal(made[0].weight, before)
        True
    """
    for _, module in _inner_first(network):
        if (reset := _reset_of(module)) is not None:
            reset()


def why_not(network: nn.Module) -> str:
    """Why a network's weights must not be drawn again; '' if each may have been drawn just now.

    Example:
        >>> layer = nn.Linear(50, 50)
        >>> why_not(layer)
        ''
        >>> layer.weight.data.mul_(0.1).shape
        torch.Size([50, 50])
        >>> why_not(layer)
        'weight is no first draw of Linear, but trained, loaded or initialised by code of its own'
    """
    for path, module in _inner_first(network):
        own = {name: p for name, p in module._parameters.items() if p is not None}
        prefix = f"{path}." if path else ""
        for name, parameter in own.items():
            if not parameter.requires_grad:
                return f"{prefix}{name} is frozen, so its values are there on purpose"
        if own and _reset_of(module) is None:
            return (
                f"{type(module).__name__} has no reset_parameters, which would draw {prefix}{next(iter(own))}"
            )
        values = own | {name: b for name, b in module._buffers.items() if b is not None}
        for name, drawn in _first_draw(module).items():
            if name in values and not drawn(values[name].detach()):
                kind = type(module).__name__
                return (
                    f"{prefix}{name} is no first draw of {kind}, but trained, loaded or initialised by code "
                    "of its own"
                )
    return ""


def _inner_first(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All modules, each once and after those within it: as they are made."""
    seen: set[int] = set()

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        for name, child in module.named_children():
            yield from walk(child, f"{path}.{name}" if path else name)
        yield path, module

    return walk(module, path)


def _reset_of(module: nn.Module) -> Callable[[], object] | None:
    """What draws the parameters of a layer; None if there is nothing that can be called without arguments."""
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(module, name, None)
        if callable(reset):
            try:
                inspect.signature(reset).bind()
            except (TypeError, ValueError):
                return None
            return reset
    return None


Drawn = Callable[[Tensor], bool]


def _first_draw(module: nn.Module) -> dict[str, Drawn]:
    """For parameters and buffers of torch's layers, whether values can be those that it begins with."""
    if isinstance(module, (nn.Linear, _ConvNd)):
        within = _uniform(1 / math.sqrt(max(1, module.weight[0].numel())))
        constant = isinstance(module, NonDynamicallyQuantizableLinear)  # the output of an attention
        return {"weight": within, "bias": _constant(0.0) if constant else within}
    if isinstance(module, nn.Bilinear):
        return dict.fromkeys(("weight", "bias"), _uniform(1 / math.sqrt(module.in1_features)))
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return dict.fromkeys(module._parameters, _uniform(1 / math.sqrt(module.hidden_size)))
    if isinstance(module, (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
        ones = dict.fromkeys(("weight", "running_var"), _constant(1.0))
        return ones | dict.fromkeys(("bias", "running_mean", "num_batches_tracked"), _constant(0.0))
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        padding = module.padding_idx
        return {"weight": lambda t: _alike(t if padding is None else _without(t, padding), 1.0, 0.71)}
    if isinstance(module, nn.MultiheadAttention):
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return {**dict.fromkeys(names, _xavier), "in_proj_bias": _constant(0.0)}
    if isinstance(module, nn.PReLU):
        return {"weight": _constant(module.init)}
    return {}


def _without(values: Tensor, row: int) -> Tensor:
    return torch.cat([values[:row], values[row + 1 :]])


def _constant(value: float) -> Drawn:
    return lambda values: bool((values == value).all())


def _uniform(bound: float) -> Drawn:
    """Whether values can be drawn from U(-bound, bound)."""

    def drawn(values: Tensor) -> bool:
        rounding = 1 + 4 * (torch.finfo(values.dtype).eps if values.is_floating_point() else 0)
        if values.numel() and values.abs().max().item() > bound * rounding:
            return False
        return _alike(values, bound / math.sqrt(3), 0.45)

    return drawn


def _xavier(values: Tensor) -> bool:
    outputs, inputs = values.shape
    return _uniform(math.sqrt(6 / (inputs + outputs)))(values)


def _alike(values: Tensor, deviation: float, spread: float) -> bool:
    """Whether values may come from a distribution of mean 0 with this deviation.

    Args:
        values: any shape.
        deviation: of the distribution.
        spread: of a sample's deviation, relative, times the root of the sample's size.
    """
    count = values.numel()
    if not count:
        return True
    own = values.double()
    limit = SIGMAS / math.sqrt(count)
    near = abs(own.mean().item()) <= limit * deviation
    return near and abs(own.square().mean().sqrt().item() / deviation - 1) <= limit * spread
