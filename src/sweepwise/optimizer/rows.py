"""Steps the optimizers of several runs, with one call of a fused kernel for as many rows as possible."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sweepwise.optimizer.flat import FlatOptimizer


class Kernel(NamedTuple):
    """A fused kernel of torch, and its arguments other than the learning rate.

    Attributes:
        call: the kernel, (*lists of tensors, lr, options).
        tensors: of one group of parameters: values, gradient and state; None: the kernel gets an empty list.
        state: of the optimizer, with the number of steps if the kernel needs it.
        options: other arguments, the same for all rows of a call.
    """

    call: Callable[..., Any]
    tensors: tuple[Tensor | None, ...]
    state: dict[str, Tensor]
    options: tuple[tuple[str, Any], ...]


class Rows:
    """The optimizers of several runs, each with its own row of parameters.

    Args:
        optimizers: of the runs, of one class.
    """

    def __init__(self, optimizers: Sequence[FlatOptimizer]) -> None:
        self._optimizers = list(optimizers)
        self._kernels: list[list[Kernel]] | None = None
        self._rates: Sequence[float] | None = None
        self._steps: Tensor | None = None
        self._calls: list[Callable[[], Any]] = []

    def step_(self, rates: Sequence[float]) -> None:
        """Takes one step of each run with its learning rate, from the rows of gradients."""
        if self._kernels is None:
            kernels = [kernels_of(optimizer.optimizer) for optimizer in self._optimizers]
            self._kernels = [own for own in kernels if own]
            if len(self._kernels) < len(kernels):  # the state does not exist yet, or torch has no such kernel
                self._kernels = None
                for optimizer, rate in zip(self._optimizers, rates, strict=True):
                    optimizer.step_(rate)
                return
            self._steps = _counted_together(self._kernels)
        if rates != self._rates:
            self._arrange(rates, self._kernels)
        if self._steps is not None:
            self._steps.add_(1)
        for call in self._calls:
            call()

    def _arrange(self, rates: Sequence[float], kernels: Sequence[Sequence[Kernel]]) -> None:
        """Prepares one call for all rows with the same learning rate and options."""
        groups: dict[tuple[Any, ...], list[Kernel]] = {}
        for rate, own in zip(rates, kernels, strict=True):
            for kernel in own:
                groups.setdefault((kernel.call, rate, kernel.options), []).append(kernel)
        self._rates = rates
        self._calls = [_call(group, rate, options) for (_, rate, options), group in groups.items()]


def _call(kernels: Sequence[Kernel], rate: float, options: Sequence[tuple[str, Any]]) -> Callable[[], Any]:
    lists = [
        [tensor for tensor in column if tensor is not None]
        for column in zip(*(kernel.tensors for kernel in kernels), strict=True)
    ]
    counts = [kernel.state["step"] for kernel in kernels if "step" in kernel.state]
    arguments = [*lists, counts] if counts else lists
    named = dict(options)
    function = kernels[0].call
    return lambda: function(*arguments, lr=rate, **named)


def _counted_together(kernels: Sequence[Sequence[Kernel]]) -> Tensor | None:
    """The step counts of all runs as one tensor, so that one addition counts; None if there are none."""
    states = [kernel.state for own in kernels for kernel in own if "step" in kernel.state]
    if not states:
        return None
    together = torch.stack([state["step"] for state in states])
    for state, count in zip(states, together.unbind(), strict=True):
        state["step"] = count
    return together


def kernels_of(optimizer: torch.optim.Optimizer) -> list[Kernel]:
    """The kernel of each parameter group; [] if torch has none for the class, or no step was taken yet."""
    kind = type(optimizer).__mro__[1]
    tensors = [(group, tensor) for group in optimizer.param_groups for tensor in group["params"]]
    if kind not in KERNELS or not optimizer.defaults["fused"]:
        return []
    make, needs = KERNELS[kind]
    states = [optimizer.state.get(tensor, {}) for _, tensor in tensors]
    if any(needs(group) not in (None, *state) for (group, _), state in zip(tensors, states, strict=True)):
        return []
    return [make(group, tensor, state) for (group, tensor), state in zip(tensors, states, strict=True)]


def _adam(group: dict[str, Any], values: Tensor, state: dict[str, Tensor]) -> Kernel:
    options = {name: group[name] for name in ("weight_decay", "eps", "amsgrad", "maximize")}
    options["beta1"], options["beta2"] = group["betas"]
    largest = state["max_exp_avg_sq"] if group["amsgrad"] else None
    return Kernel(
        torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_,
        (values, values.grad, state["exp_avg"], state["exp_avg_sq"], largest),
        state,
        tuple(options.items()),
    )


def _sgd(group: dict[str, Any], values: Tensor, state: dict[str, Tensor]) -> Kernel:
    names = ("weight_decay", "momentum", "dampening", "nesterov", "maximize")
    options = {name: group[name] for name in names} | {"is_first_step": False}
    return Kernel(
        torch._fused_sgd_, (values, values.grad, state.get("momentum_buffer")), state, tuple(options.items())
    )


# How to make the kernel of a class, and the entry that must be in the state before.
KERNELS: dict[type, tuple[Callable[..., Kernel], Callable[[dict[str, Any]], str | None]]] = {
    torch.optim.Adam: (_adam, lambda group: "exp_avg"),
    torch.optim.AdamW: (_adam, lambda group: "exp_avg"),
    torch.optim.SGD: (_sgd, lambda group: "momentum_buffer" if group["momentum"] else None),
}
