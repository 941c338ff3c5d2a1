"""Any torch optimizer over flat parameters, at the cost of its kernel.

torch's optimizers spend more time in Python than in arithmetic on small networks, and building the first
one imports torch._dynamo (1.6 s). Here the same classes are built and stepped through the functions that
torch's own decorators wrap; Adam and AdamW go straight to torch's fused kernel once their state exists.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor


class FlatOptimizer:
    """Steps one flat row of parameters with a torch optimizer.

    Args:
        build: a torch.optim class with its options bound.
        values: (parameters,) weights first, then biases and norm gains.
        gradient: (parameters,) read at every step.
        weights: how many of the parameters are weights.
        decay: whether the optimizer's `weight_decay` acts on the weights only or on all parameters.

    Attributes:
        optimizer: the torch optimizer, with its state.

    Source: no decay of biases and gains: He et al., Bag of Tricks, arXiv:1812.01187, section 3.1.
    """

    def __init__(
        self,
        build: functools.partial[torch.optim.Optimizer],
        *,
        values: Tensor,
        gradient: Tensor,
        weights: int,
        decay: Literal["weights", "all"] = "weights",
    ) -> None:
        split = decay == "weights" and build.keywords.get("weight_decay", 0.0) != 0
        parts = [slice(0, weights), slice(weights, None)] if split else [slice(None)]
        groups: list[dict[str, Any]] = [{"params": [_with_gradient(values[p], gradient[p])]} for p in parts]
        if split:
            groups[1]["weight_decay"] = 0.0
        self.optimizer = _build_light(build, groups)
        self._step = inspect.unwrap(type(self.optimizer).step)
        self._kernel: Callable[[float], None] | None = None

    def step_(self, rate: float) -> None:
        """One update with the learning rate `rate`, from the gradient as it stands."""
        if self._kernel is not None:
            self._kernel(rate)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._step(self.optimizer)
        self._kernel = _fused_kernel(self.optimizer)


def _with_gradient(values: Tensor, gradient: Tensor) -> Tensor:
    values.grad = gradient
    return values


def _build_light(
    build: functools.partial[torch.optim.Optimizer], groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Builds the optimizer without torch's wrapper around `add_param_group`, which imports torch._dynamo."""
    cls: type = build.func  # type: ignore[assignment]
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    light = type(cls.__name__, (cls,), {"add_param_group": add_param_group, "__module__": cls.__module__})
    options = dict(build.keywords)
    if "fused" in inspect.signature(cls).parameters:
        options.setdefault("fused", True)
    return light(groups, **options)


def _fused_kernel(optimizer: torch.optim.Optimizer) -> Callable[[float], None] | None:
    """Adam's and AdamW's fused kernel on the optimizer's own state; None for every other optimizer."""
    kernels = {torch.optim.Adam: torch._fused_adam_, torch.optim.AdamW: torch._fused_adamw_}
    kernel = kernels.get(type(optimizer).__mro__[1])
    if kernel is None or not optimizer.defaults["fused"]:
        return None
    calls = []
    counts = []
    for group in optimizer.param_groups:
        (values,) = group["params"]
        state = optimizer.state[values]
        largest = [state["max_exp_avg_sq"]] if group["amsgrad"] else []
        options = {name: group[name] for name in ("weight_decay", "eps", "amsgrad", "maximize")}
        options["beta1"], options["beta2"] = group["betas"]
        lists = ([values], [values.grad], [state["exp_avg"]], [state["exp_avg_sq"]], largest, [state["step"]])
        calls.append(functools.partial(kernel, *lists, **options))
        counts.append(state["step"])

    def step(rate: float) -> None:
        for count, call in zip(counts, calls, strict=True):
            count += 1
            call(lr=rate)

    return step
