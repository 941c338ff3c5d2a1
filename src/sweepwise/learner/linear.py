"""Linear layers of many runs as batched products, with a backward pass written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

VECTOR = 16  # numbers in the largest vector register
NARROW = 16  # outputs of a layer up to which the transposed product is faster
LARGE = 16384  # numbers of a weight from which on a product is written in place instead of copied

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


class Products:
    """x W^T + b of each run and its derivatives, in the forms that are fast for small matrices.

    Args:
        weight: (runs, out, in), read at each call.
        bias: (runs, out), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._wide = weight.shape[1] > NARROW
        self._weight, self._weight_transposed = weight, weight.transpose(1, 2)
        self._bias = None if bias is None else bias.unsqueeze(1 if self._wide else 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the x to give to `backward`, and the outputs (runs, rows, out), for (runs, rows, in)."""
        rows = x.shape[1]
        x = _padded(x)
        one, other = (x, self._weight_transposed) if self._wide else (self._weight, x.transpose(1, 2))
        y = torch.bmm(one, other) if self._bias is None else torch.baddbmm(self._bias, one, other)
        y = y if self._wide else y.transpose(1, 2)
        return x, y if y.shape[1] == rows else y[:, :rows]

    def backward(
        self, gradient: Tensor, x: Tensor, by_weight: Tensor | None, by_bias: Tensor | None, by_x: bool
    ) -> Tensor | None:
        """Writes the derivatives by weights and bias; returns that by x, if it is wanted.

        Args:
            gradient: by the outputs of `forward`, (runs, rows, out).
            x: from `forward`.
            by_weight: receives the derivative by the weights; None: it is not wanted.
            by_bias: receives the derivative by the bias; None: it is not wanted.
            by_x: whether the derivative by x is wanted.
        """
        rows = gradient.shape[1]
        gradient = _padded(gradient)
        if by_bias is not None:
            torch.sum(gradient, 1, out=by_bias)
        if by_weight is not None:
            if by_weight[0].numel() < LARGE:  # into the rows of a buffer bmm writes one by one
                by_weight.copy_(torch.bmm(gradient.transpose(1, 2), x))
            else:
                torch.bmm(gradient.transpose(1, 2), x, out=by_weight)
        if not by_x:
            return None
        by_input = torch.bmm(gradient, self._weight)
        return by_input if by_input.shape[1] == rows else by_input[:, :rows]


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
        products: their `Products`.
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
        """Refused: a model that reads a layer's weight would get those of all runs here."""
        raise Unstackable("its forward pass reads the parameters of a layer")

    bias = weight
