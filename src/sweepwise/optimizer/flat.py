"""Any torch optimizer over a flat row of parameters, with little overhead.

For small networks torch's optimizers spend more time in Python than in arithmetic, and to build the first one
imports torch._dynamo (1.6 s). Here the same classes are built and stepped without torch's decorators; Adam
and AdamW call torch's fused kernel directly once their state exists.
"""

import copy
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sweepwise.config.calling import Kind, default_of, takes

Step = Callable[[float, Sequence[Tensor]], None]
Gathering = Callable[[Tensor, int], Tensor]

# Optimizers whose update of an element depends on that element alone, so one row can replace all tensors.
ELEMENTWISE = (
    torch.optim.ASGD,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.SGD,
)


def _unchanged(part: Tensor, first: int) -> Tensor:
    return part


class FlatOptimizer:
    """Steps one flat row of parameters with a torch optimizer.

    A class whose update depends on the whole tensor (Adafactor, Muon), or that is not torch's own, gets one
    view of the row for each tensor instead, in two groups: the weights, then the rest. So does any class from
    the first step on in which a parameter takes no part: its state and its count of steps stay then.

    Args:
        build: a torch.optim class with its options bound.
        values: (parameters,) weights first, then biases and norm gains.
        gradient: (parameters,) read by `step_`.
        weights: number of the row's elements that are weights.
        shapes: of each parameter tensor in the row, weights first.
        decay: whether the optimizer's `weight_decay` acts on the weights only or on all parameters.

    Attributes:
        optimizer: the torch optimizer, with its state.
        by_element: whether an element's update depends on that element alone.
        takes_parts: whether `step_parts_` can be used: for Adam and AdamW, from the second step on.

    Raises:
        ValueError: the class needs a closure or sparse gradients, or refuses its options.

    Source: no decay of biases and gains: He et al., Bag of Tricks, arXiv:1812.01187, section 3.1.

    Example:
        >>> values, gradient = torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0])
        >>> decaying = partial(torch.optim.SGD, weight_decay=0.5)
        >>> shapes = [torch.Size([1, 1]), torch.Size([1])]
        >>> FlatOptimizer(decaying, values=values, gradient=gradient, weights=1, shapes=shapes).step_(0.1)
        >>> values  # the weight: 1 - 0.1 * (2 + 0.5 * 1), the bias: 1 - 0.1 * 2
        tensor([0.7500, 0.8000])
    """

    def __init__(
        self,
        build: functools.partial[torch.optim.Optimizer],
        *,
        values: Tensor,
        gradient: Tensor,
        weights: int,
        shapes: Sequence[torch.Size],
        decay: Literal["weights", "all"] = "weights",
    ) -> None:
        _refuse_unsuited(build.func)
        own = {"weight_decay": 0.0} if decay == "weights" and _decay_of(build) != 0 else {}
        self.by_element = build.func in ELEMENTWISE
        if self.by_element:
            groups = _rows(values, gradient, weights, own)
        else:
            groups = _tensors(values, gradient, weights, own, shapes)
        self.optimizer = _build_light(build, groups)
        self._step = inspect.unwrap(type(self.optimizer).step)
        self._values, self._gradient, self._shapes = values, gradient, shapes
        self._by_tensor = not self.by_element
        self._absent: list[int] = []
        self._kernels: list[Step] = []

    def state_dict(self, whole: Gathering = _unchanged) -> dict[str, Any]:
        """The optimizer's options and state, as copies on the CPU; see `load_state_dict`.

        Args:
            whole: gathers a part of the row, which begins at a given element, from all processes.
        """
        groups = self.optimizer.param_groups
        return {
            "by_tensor": self._by_tensor,
            "groups": [{k: _copy(v) for k, v in group.items() if k != "params"} for group in groups],
            "state": [
                {
                    key: (_copy(_gathered(value, tensor, whole)), _on_device_of(value, tensor))
                    for key, value in self.optimizer.state[tensor].items()
                }
                if tensor in self.optimizer.state
                else {}
                for group in groups
                for tensor in group["params"]
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any], own: Gathering = _unchanged) -> None:
        """Restores what `state_dict` returned, so that the next step is the one that would have followed.

        Args:
            state: of the whole row.
            own: cuts out this process's part; the reverse of `whole`.
        """
        if state.get("by_tensor"):  # checkpoints of before have no such entry
            self._separate_()
        groups = self.optimizer.param_groups
        for group, options in zip(groups, state["groups"], strict=True):
            group |= {key: _copy(value) for key, value in options.items()}
        tensors = [tensor for group in groups for tensor in group["params"]]
        for tensor, entries in zip(tensors, state["state"], strict=True):
            if entries:
                self.optimizer.state[tensor] = {
                    key: _gathered(_copy(value), tensor, own).to(tensor.device) if beside else _copy(value)
                    for key, (value, beside) in entries.items()
                }
        self._make_kernels()

    def _make_kernels(self) -> None:
        if not self._by_tensor and self.optimizer.state:
            self._kernels = _fused_adam(self.optimizer, self._shapes)

    def _separate_(self) -> None:
        """Replaces rows by their tensors, each with its part of the state."""
        if not self._by_tensor:
            shapes = list(self._shapes)
            for group in self.optimizer.param_groups:
                group["params"] = _separated(self.optimizer, group["params"], shapes)
                if "dampening" in group:  # torch's fused SGD wants momentum of all tensors or of none
                    group["fused"] = False
        self._by_tensor, self._kernels = True, []

    def move_(self, values: Tensor, gradient: Tensor) -> None:
        """Takes the parameters from another row, with the same values; the optimizer's state stays.

        Args:
            values: (parameters,).
            gradient: (parameters,).
        """
        for group in self.optimizer.param_groups:
            for tensor in group["params"]:
                first = tensor.storage_offset() - self._values.storage_offset()
                own = slice(first, first + tensor.numel())
                tensor.grad = None  # before the data, as torch compares their devices
                tensor.data = values[own].view(tensor.shape)
                tensor.grad = gradient[own].view(tensor.shape)
        self._values, self._gradient = values, gradient
        self._make_kernels()

    @property
    def takes_parts(self) -> bool:
        """See the class."""
        return bool(self._kernels)

    def step_(self, rate: float, absent: Sequence[int] = ()) -> None:
        """Takes one step of learning rate `rate`, from the row of gradients.

        Args:
            rate: >= 0.
            absent: numbers of the tensors of the row that have no gradient: they, and what the optimizer
                remembers of them, stay as they are.
        """
        if absent or self._absent:
            self._leave_out_(absent)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._step(self.optimizer)
        if not self._kernels:
            self._make_kernels()

    def _leave_out_(self, absent: Sequence[int]) -> None:
        """Gives these tensors no gradient, and all others theirs."""
        self._separate_()
        self._absent = list(absent)
        gradients = _cut(self._gradient, self._shapes)
        by_place = {part.storage_offset(): part for part in gradients}
        left_out = {gradients[number].storage_offset() for number in absent}
        for group in self.optimizer.param_groups:
            for tensor in group["params"]:
                place = tensor.storage_offset() - self._values.storage_offset()
                place += self._gradient.storage_offset()
                tensor.grad = None if place in left_out else by_place[place]

    def step_parts_(self, rate: float, gradients: Sequence[Tensor]) -> None:
        """Takes the same step from the gradients of the parameter tensors, by the fused kernel."""
        for step_ in self._kernels:
            step_(rate, gradients)

    def largest(self) -> Tensor:
        """The largest magnitude in its state, (1,): not finite as soon as one element of it is not."""
        own = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [value for value in own if isinstance(value, Tensor) and value.ndim and value.numel()]
        tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
        if not tensors:
            return self._values.new_zeros(1)
        return torch.stack(torch._foreach_norm(tensors, math.inf)).amax().to(self._values)[None]


def _gathered(value: Any, tensor: Tensor, gather: Gathering) -> Any:
    """A state tensor with an entry for each element, gathered or cut; other state unchanged."""
    if not (isinstance(value, Tensor) and value.ndim > 0):
        return value
    return gather(value.reshape(-1), int(tensor.storage_offset())).view(-1, *value.shape[1:])


def _copy(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def _on_device_of(value: Any, tensor: Tensor) -> bool:
    """Whether a state tensor is on the device of the parameters (a step count may stay on the CPU)."""
    return isinstance(value, Tensor) and value.device == tensor.device


def _decay_of(build: functools.partial[torch.optim.Optimizer]) -> float:
    """The weight decay that is bound, else the default of the class; 0 if it has none."""
    default = default_of(build, "weight_decay")
    return 0.0 if default is Kind.empty else default


def _refuse_unsuited(kind: Callable[..., Any]) -> None:
    if not isinstance(kind, type):
        raise ValueError(
            f"optimizer: must be a class with its options bound, such as partial(torch.optim.SGD, lr=0.1), "
            f"and not the function {getattr(kind, '__name__', kind)}"
        )
    step = inspect.unwrap(kind.step)  # type: ignore[attr-defined]
    closure = takes(step).get("closure")
    if closure is not None and closure.default is closure.empty:
        reason = "must not need a closure, which evaluates the loss again within a step"
    elif kind is torch.optim.SparseAdam:
        reason = "must not need sparse gradients, as gradients here are dense"
    elif kind is torch.optim.Muon:
        raise ValueError(
            "optimizer: torch's Muon takes matrices only; use optimizer=muon, which gives AdamW the others"
        )
    else:
        return
    raise ValueError(f"optimizer: {kind.__name__} {reason}; use optimizer=adam")


def _rows(values: Tensor, gradient: Tensor, weights: int, own: dict[str, Any]) -> list[dict[str, Any]]:
    """The row as one group, or as two if biases and gains have options of their own."""
    cuts = [(slice(0, weights), {}), (slice(weights, None), own)] if own else [(slice(None), {})]
    return [
        {"params": [_with_gradient(values[cut], gradient[cut])], **options}
        for cut, options in cuts
        if len(values[cut])
    ]


def _tensors(
    values: Tensor, gradient: Tensor, weights: int, own: dict[str, Any], shapes: Sequence[torch.Size]
) -> list[dict[str, Any]]:
    """The tensors of the row in two groups: the weights, and the rest with its own options."""
    tensors = list(map(_with_gradient, _cut(values, shapes), _cut(gradient, shapes)))
    count = list(itertools.accumulate((shape.numel() for shape in shapes), initial=0)).index(weights)
    return [{"params": tensors[:count]}, {"params": tensors[count:], **own}]


def _cut(row: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The tensors of a row, as views of it."""
    parts = row.split_with_sizes([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _separated(
    optimizer: torch.optim.Optimizer, rows: Sequence[Tensor], shapes: list[torch.Size]
) -> list[Tensor]:
    """The tensors of the rows of a group, each with its own state, if the rows have one.

    Args:
        optimizer: loses the state of the rows.
        rows: of the group.
        shapes: of the tensors of these and of later rows; those of these are removed.
    """
    tensors = []
    for row in rows:
        own = list[torch.Size]()
        while sum(shape.numel() for shape in own) < row.numel():
            own.append(shapes.pop(0))
        assert row.grad is not None
        cut = list(map(_with_gradient, _cut(row, own), _cut(row.grad, own)))
        for key, value in optimizer.state.pop(row, {}).items():
            beside = isinstance(value, Tensor) and value.ndim > 0
            parts = _cut(value, own) if beside else [copy.deepcopy(value) for _ in own]
            for tensor, part in zip(cut, parts, strict=True):
                optimizer.state[tensor][key] = part
        tensors += cut
    return tensors


def _with_gradient(values: Tensor, gradient: Tensor) -> Tensor:
    values.grad = gradient
    return values


def _build_light(
    build: functools.partial[torch.optim.Optimizer], groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Builds the optimizer without torch's wrapper around `add_param_group`, which imports torch._dynamo.

    A pickle or copy of it keeps all attributes, which torch's would leave out.
    """
    cls: type = build.func  # type: ignore[assignment]
    options = dict(build.keywords)
    excluding = options.get("foreach") or options.get("differentiable")  # torch takes one of the three
    if "fused" in takes(cls) and not excluding:
        options.setdefault("fused", True)
    return _light(cls)(groups, **options)


@functools.cache
def _light(cls: type) -> Callable[..., torch.optim.Optimizer]:
    """The class that `_build_light` builds in place of one of torch's."""
    own = {
        "add_param_group": inspect.unwrap(torch.optim.Optimizer.add_param_group),
        "__getstate__": lambda self: dict(vars(self)),
        "__module__": cls.__module__,
    }
    return type(cls.__name__, (cls,), own)


def _fused_adam(optimizer: torch.optim.Optimizer, shapes: Sequence[torch.Size]) -> list[Step]:
    """For Adam and AdamW, a step of each parameter group by the fused kernel; else none."""
    if (
        type(optimizer).__mro__[1] not in (torch.optim.Adam, torch.optim.AdamW)
        or not optimizer.defaults["fused"]
    ):
        return []
    steps = []
    first = 0
    for group in optimizer.param_groups:
        (values,) = group["params"]
        last = first
        while sum(shape.numel() for shape in shapes[first:last]) < values.numel():
            last += 1
        steps.append(_fused_group(group, optimizer.state[values], shapes[first:last], slice(first, last)))
        first = last
    return steps


def _fused_group(
    group: dict[str, Any],
    state: dict[str, Tensor],
    shapes: Sequence[torch.Size],
    own: slice,
) -> Step:
    """A step of one group by the fused kernel, on its state cut into the parameter tensors."""
    kernel: Callable[..., Any] = (
        torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    )
    values, first, second = (
        _cut(row, shapes) for row in (group["params"][0], state["exp_avg"], state["exp_avg_sq"])
    )
    largest = _cut(state["max_exp_avg_sq"], shapes) if group["amsgrad"] else []
    count = state["step"]
    counts = [count] * len(shapes)
    options = {name: group[name] for name in ("weight_decay", "eps", "amsgrad", "maximize")}
    options["beta1"], options["beta2"] = group["betas"]

    def step_(rate: float, gradients: Sequence[Tensor]) -> None:
        count.add_(1)
        kernel(values, gradients[own], first, second, largest, counts, lr=rate, **options)

    return step_
