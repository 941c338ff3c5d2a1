"""The models of several runs as one: their batches follow each other in the first axis, (runs * batch, ...).

What has no parameters and draws nothing does not care whose example is which, so it stays as it is, in a
model's own forward pass too. A layer with parameters is replaced by one that holds those of all runs, (runs,
*shape), and gives each run's examples its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

VECTOR = 16  # numbers, at most
NARROW = 16  # outputs, up to which a product is faster the other way round
ONE_BY_ONE = ("cpu",)  # devices where convolutions are
LARGE = 16384  # numbers, from which on a product is written where it belongs rather than copied there
Gather = Callable[[Sequence[Tensor]], Tensor]  # the tensors that the runs have at one place -> (runs, *shape)


class Unstackable(Exception):
    """A model that cannot be stacked so; the text says why."""


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
        return _dropout(modules, noises) if any(module.p for module in modules) else None
    return LAYERS[kind](modules, gather) if kind in LAYERS else None


def does_more(module: nn.Module) -> bool:
    """Whether a layer does more than its class says."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


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


class Products:
    """Of each run x W^T + b and its derivatives, in the forms that small matrices are fast in.

    Args:
        weight: (runs, out, in), read at each call.
        bias: (runs, out), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._wide = weight.shape[1] > NARROW
        self._weight, self._turned = weight, weight.transpose(1, 2)
        self._bias = None if bias is None else bias.unsqueeze(1 if self._wide else 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What `backward` wants as its x, and (runs, rows, out) for (runs, rows, in)."""
        rows = x.shape[1]
        x = _whole_vectors(x)
        one, other = (x, self._turned) if self._wide else (self._weight, x.transpose(1, 2))
        y = torch.bmm(one, other) if self._bias is None else torch.baddbmm(self._bias, one, other)
        y = y if self._wide else y.transpose(1, 2)
        return x, y if y.shape[1] == rows else y[:, :rows]

    def backward(
        self, gradient: Tensor, x: Tensor, by_weight: Tensor | None, by_bias: Tensor | None, by_x: bool
    ) -> Tensor | None:
        """The derivative by x, if that is wanted.

        Autograd itself would make that by the weights transposed, (in, out).

        Args:
            gradient: by what `forward` put out, (runs, rows, out).
            x: from `forward`.
            by_weight: takes the derivative by the weights, if that is wanted.
            by_bias: takes the derivative by the bias, if that is wanted.
            by_x: whether the derivative by x is wanted.
        """
        rows = gradient.shape[1]
        gradient = _whole_vectors(gradient)
        if by_bias is not None:
            torch.sum(gradient, 1, out=by_bias)
        if by_weight is not None:
            if by_weight[0].numel() < LARGE:  # bmm takes rows of a buffer in turn
                by_weight.copy_(torch.bmm(gradient.transpose(1, 2), x))
            else:
                torch.bmm(gradient.transpose(1, 2), x, out=by_weight)
        if not by_x:
            return None
        found = torch.bmm(gradient, self._weight)
        return found if found.shape[1] == rows else found[:, :rows]


class _Linear(torch.autograd.Function):
    """`Products` where autograd differentiates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, products: Products) -> Tensor:
        """See `Products.forward`."""
        x, y = products.forward(x)
        ctx.save_for_backward(x, weight, bias)
        ctx.products = products
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """See `Products.backward`."""
        x, weight, bias = ctx.saved_tensors
        needs = ctx.needs_input_grad
        by_weight = torch.empty_like(weight) if needs[1] else None
        by_bias = torch.empty_like(bias) if needs[2] else None
        by_x = ctx.products.backward(gradient, x, by_weight, by_bias, needs[0])
        return by_x, by_weight, by_bias, None


def _whole_vectors(x: Tensor) -> Tensor:
    """With rows of zeros, so that the rows of each run begin where a vector does.

    Else a product would be rounded by the place that a run has among the others.
    """
    more = -x.shape[1] % VECTOR
    return functional.pad(x, (0, 0, 0, more)) if more else x


class Linears(nn.Module):
    """y = x W^T + b, for each run its own. x: (runs * batch, ..., in).

    Attributes:
        weights: (runs, out, in).
        biases: (runs, out), or None.
        products: of these.
    """

    biases: Tensor | None

    def __init__(self, modules: Sequence[nn.Linear], gather: Gather) -> None:
        super().__init__()
        self.weights = gather([module.weight for module in modules])
        self.biases = gather([m.bias for m in modules]) if modules[0].bias is not None else None
        self.products = Products(self.weights.detach(), None if self.biases is None else self.biases.detach())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        runs, out, into = self.weights.shape
        y: Tensor = _Linear.apply(x.reshape(runs, -1, into), self.weights, self.biases, self.products)
        return y.reshape(*x.shape[:-1], out).contiguous()

    @property
    def weight(self) -> NoReturn:
        """What a model's own pass would take for its own, but here it would be those of all runs."""
        raise Unstackable("its forward pass reads the parameters of a layer")

    bias = weight


class Convolutions(nn.Module):
    """A convolution for each run. x: (runs * batch, channels, ...).

    On a GPU it is one of groups of channels, as in HFTA (Wang et al., MLSys 2021); on a CPU such kernels are
    no faster than one run after the other, and round by how many they are.
    """

    def __init__(self, modules: Sequence[_ConvNd], gather: Gather) -> None:
        super().__init__()
        self._one = copy.copy(modules[0])  # knows stride and padding; its own weights are not used
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
        if self._at_once:  # the channels of all runs beside each other
            beside = x.unflatten(0, (self._runs, -1)).transpose(0, 1).flatten(1, 2)
            bias = None if self._bias is None else self._bias.flatten()
            y = self._one._conv_forward(beside, self._weight.flatten(0, 1), bias)
            return y.unflatten(1, (self._runs, -1)).transpose(0, 1).flatten(0, 1)
        biases: Sequence[Tensor | None] = [None] * self._runs if self._bias is None else self._bias.unbind()
        parts = x.chunk(self._runs)
        if parts[0].numel() % VECTOR:  # each begins where a vector does, whatever its place
            parts = tuple(part.clone() for part in parts)
        each = zip(parts, self._weight.unbind(), biases, strict=True)
        return torch.cat([self._one._conv_forward(own, weight, bias) for own, weight, bias in each])


class BatchNorms(nn.Module):
    """Batch norm over the examples of each run, with running statistics of its own.

    All runs' channels stand beside each other, (batch, runs * channels, ...), as torch's kernel keeps
    channels apart anyway.
    """

    def __init__(self, modules: Sequence[_BatchNorm], gather: Gather) -> None:
        super().__init__()
        one = modules[0]
        if one.momentum is None:
            raise Unstackable(f"{type(one).__name__} with momentum=None")
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
        ):  # beside each other, the rounding of a channel would follow from its place
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
    """Layer or group norm: each example by itself, then the gain and bias of its run."""

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
    """Dropout with the rate of each run, drawn from its own stream as by torch's layer."""

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
        kept = torch.empty(shape, dtype=x.dtype, device=x.device)
        for own, rate, noise in zip(kept.unbind(), self._rates, self._noises, strict=True):
            if rate:
                own.bernoulli_(1 - rate, generator=noise).div_(1 - rate)
            else:
                own.fill_(1.0)
        return (rows * kept).view(x.shape)


def _dropout(modules: Sequence[nn.Module], noises: Sequence[torch.Generator]) -> nn.Module:
    if type(modules[0]) not in DROPOUTS:
        raise Unstackable(f"{type(modules[0]).__name__} is a dropout that is not known here")
    return Dropouts(modules, noises)  # type: ignore[arg-type]


# Whether a layer drops whole channels; those of one example stand in its second axis.
DROPOUTS: dict[type[nn.Module], bool] = {
    nn.Dropout: False,
    nn.Dropout1d: True,
    nn.Dropout2d: True,
    nn.Dropout3d: True,
}
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
