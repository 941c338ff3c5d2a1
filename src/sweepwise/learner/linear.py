"""Linear layers of many runs as batched products, with a backward pass written by hand."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

VECTOR = 16  # numbers in the largest vector register
NARROW = 16  # outputs of a layer up to which the transposed product is faster; likewise inputs, backward
LARGE = 16384  # numbers of a weight from which on a product is written in place instead of copied
# Multiplications from which on oneDNN's product is faster than the batched one, which is MKL's: that has no
# AVX-512 for AMD's processors, where oneDNN's takes half its time. By shape alone, so that bits repeat.
ONEDNN_LEAST = 1_200_000

Gather = Callable[[Sequence[Tensor]], Tensor]  # the same parameter of each run -> (runs, *shape)


class Unstackable(Exception):
    """A model whose layers cannot be stacked; the text says why."""


def does_more(module: nn.Module) -> bool:
    """Whether a layer has hooks, or a forward pass of its own instead of its class's."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


class Passes(Protocol):
    """A layer's forward and backward pass for all runs."""

    def forward(self, x: Tensor) -> tuple[Any, Tensor]:
        """Returns what to give to `backward`, and the outputs, (runs, batch, ...), for (runs, batch, ...)."""
        ...

    def backward(
        self, gradient: Tensor, saved: Any, by_weight: Tensor | None, by_bias: Tensor | None, by_x: bool
    ) -> Tensor | None:
        """Writes the derivatives by weights and bias; returns that by x, if it is wanted.

        Args:
            gradient: by the outputs of `forward`.
            saved: from `forward`.
            by_weight: receives the derivative by the weights; None: it is not wanted.
            by_bias: receives the derivative by the bias; None: it is not wanted.
            by_x: whether the derivative by x is wanted.
        """
        ...


class Products:
    """x W^T + b of each run and its derivatives, in the forms that are fast for small matrices.

    Args:
        weight: (runs, out, in), read at each call.
        bias: (runs, out), or None.

    Attributes:
        weight: as given.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        out, into = weight.shape[1:]
        self._wide, self._few_inputs = out > NARROW, into < min(NARROW, out)
        self.weight, self._weight_transposed = weight, weight.transpose(1, 2)
        self._bias = None if bias is None else bias.unsqueeze(1 if self._wide else 2)
        self._biases = [None] * len(weight) if bias is None else list(bias.unbind())
        self._least_rows = ONEDNN_LEAST / weight[0].numel() if _has_onednn(weight) else math.inf

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the x to give to `backward`, and the outputs (runs, rows, out), for (runs, rows, in)."""
        rows = x.shape[1]
        if rows >= self._least_rows:
            return x, _each_by_onednn(x, self.weight, self._biases)
        x = _padded(x)
        one, other = (x, self._weight_transposed) if self._wide else (self.weight, x.transpose(1, 2))
        y = torch.bmm(one, other) if self._bias is None else torch.baddbmm(self._bias, one, other)
        y = y if self._wide else y.transpose(1, 2)
        return x, y if y.shape[1] == rows else y[:, :rows]

    def backward(
        self, gradient: Tensor, x: Tensor, by_weight: Tensor | None, by_bias: Tensor | None, by_x: bool
    ) -> Tensor | None:
        """See `Passes.backward`; gradient: (runs, rows, out)."""
        rows = gradient.shape[1]
        large = rows >= self._least_rows
        gradient = gradient if large else _padded(gradient)
        if by_bias is not None:
            torch.sum(gradient, 1, out=by_bias)
        if by_weight is not None:
            if large:
                for own, across, inputs in zip(by_weight, gradient.mT, x.mT, strict=True):
                    own.copy_(_by_onednn(across, inputs, None))
            else:
                self._small_by_weight(gradient, x, by_weight)
        if not by_x:
            return None
        if large:
            return _each_by_onednn(gradient, self._weight_transposed, [None] * len(gradient))
        by_input = torch.bmm(gradient, self.weight)
        return by_input if by_input.shape[1] == rows else by_input[:, :rows]

    def _small_by_weight(self, gradient: Tensor, x: Tensor, by_weight: Tensor) -> None:
        """Writes the derivative by the weights."""
        out, size = by_weight.shape[1], by_weight[0].numel()
        more = -out % VECTOR if size % VECTOR else 0
        if more:  # so that each run's result begins at a vector's boundary, too
            gradient = functional.pad(gradient, (0, more))
        if self._few_inputs:
            by_weight.copy_(torch.bmm(x.mT, gradient).mT[:, :out])
        elif more or size < LARGE:  # into the rows of a buffer bmm writes one by one
            by_weight.copy_(torch.bmm(gradient.mT, x)[:, :out])
        else:
            torch.bmm(gradient.mT, x, out=by_weight)


def _has_onednn(weight: Tensor) -> bool:
    """Whether oneDNN takes products with a weight here, and nobody has turned it off."""
    single = weight.device.type == "cpu" and weight.dtype == torch.float32
    return single and bool(torch.backends.mkldnn.enabled) and _onednn_works()


@functools.cache
def _onednn_works() -> bool:
    """Whether torch was built with it, and has a kernel for this processor."""
    one = torch.ones(1, 1)
    try:
        return torch.backends.mkldnn.is_available() and bool(_by_onednn(one, one, None) == 1)
    except (AttributeError, RuntimeError):
        return False


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product x W^T + b, (rows, out), of x (rows, in) and W (out, in)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _each_by_onednn(x: Tensor, weight: Tensor, biases: Sequence[Tensor | None]) -> Tensor:
    """`_by_onednn` of each run, (runs, rows, out)."""
    if len(x) == 1:
        return _by_onednn(x[0], weight[0], biases[0])[None]
    return torch.stack([_by_onednn(*own) for own in zip(x, weight, biases, strict=True)])


class _ByHand(torch.autograd.Function):
    """`Passes` where autograd differentiates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, passes: Passes) -> Tensor:
        """See `Passes.forward`."""
        ctx.save_for_backward(x)  # so that autograd refuses an x that has changed since
        ctx.saved, y = passes.forward(x)
        ctx.passes, ctx.tensors = passes, (weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """See `Passes.backward`."""
        by_x, *wanted, _ = ctx.needs_input_grad
        by_weight, by_bias = (
            torch.empty_like(tensor) if needed else None
            for tensor, needed in zip(ctx.tensors, wanted, strict=True)
        )
        _ = ctx.saved_tensors
        saved, ctx.saved = ctx.saved, None
        return ctx.passes.backward(gradient, saved, by_weight, by_bias, by_x), by_weight, by_bias, None


def by_hand(x: Tensor, weight: Tensor | None, bias: Tensor | None, passes: Passes) -> Tensor:
    """What passes make of x, where autograd differentiates: (runs, ...) -> (runs, ...)."""
    y: Tensor = _ByHand.apply(x, weight, bias, passes)
    return y


def _padded(x: Tensor) -> Tensor:
    """Adds rows of zeros, so that the rows of each run begin at a vector's boundary.

    Else the rounding of a product would depend on the run's position among the others.
    """
    more = -x.shape[1] % VECTOR
    return functional.pad(x, (0, 0, 0, more)) if more else x


class Linears(nn.Module):
    """y = x W^T + b with the parameters of each run. x: (runs * batch, ..., in).

    Attributes:
        weights: (runs, out, in).
        biases: (runs, out), or None.
        passes: their `Products`.
    """

    biases: Tensor | None

    def __init__(self, modules: Sequence[nn.Linear], gather: Gather) -> None:
        super().__init__()
        self.weights = gather([module.weight for module in modules])
        self.biases = gather([m.bias for m in modules]) if modules[0].bias is not None else None
        self.passes = Products(self.weights.detach(), None if self.biases is None else self.biases.detach())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        runs, out, into = self.weights.shape
        y = by_hand(x.reshape(runs, -1, into), self.weights, self.biases, self.passes)
        return y.reshape(*x.shape[:-1], out).contiguous()

    @property
    def weight(self) -> NoReturn:
        """Refused: a model that reads a layer's weight would get those of all runs here."""
        raise Unstackable("its forward pass reads the parameters of a layer")

    bias = weight
