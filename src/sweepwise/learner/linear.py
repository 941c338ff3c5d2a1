"""Linear layers of one or many runs as products that the backward pass is derived from by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

VECTOR = 16  # numbers, at most


NARROW = 16  # outputs, up to which a product is faster the other way round


LARGE = 16384  # numbers, from which on a product is written where it belongs rather than copied there


Gather = Callable[[Sequence[Tensor]], Tensor]  # the tensors that the runs have at one place -> (runs, *shape)


class Unstackable(Exception):
    """A model that cannot be stacked so; the text says why."""


def does_more(module: nn.Module) -> bool:
    """Whether a layer does more than its class says."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in vars(module)


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
