"""Measures how a signal passes through an untrained network, layer by layer, forwards and backwards.

Forwards it measures the spread of each layer's outputs, backwards the spread of the gradient of one example's
loss with respect to them. It works on a copy, unless all that a pass changes is known and restored, and
restores the random generators: a training is the same to the bit whether its network was examined or not.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.known import changes_buffers_only
from sweepwise.learner.units import BOUNDED, alive, axis_of_units, has_weights, saturated
from sweepwise.learner.without_trace import without_trace

EXAMPLES = 256  # at most
MIN_EXAMPLES = 32  # few, but enough to see whether a unit is dead
INPUTS = 2**18  # numbers in all examples together, so that large images cost no more than 256 small ones
ROUNDING = 100  # units in the last place by which sums of equal numbers may differ


@dataclass(frozen=True)
class Layer:
    """What was measured of one layer with weights; a number is NaN if there was nothing to measure.

    Attributes:
        name: of the module.
        kind: its class.
        received: spread of its input between the examples: the standard deviation of a unit over the
            examples, as a root mean square over the units.
        std: standard deviation of its outputs, all units and examples together, after the norm and the
            activation that follow the layer as modules.
        between: the spread of the same outputs between the examples, 0 if all examples look alike.
        gradient: standard deviation of the gradient of one example's loss with respect to these outputs.
        gradient_norm: its Euclidean norm, as a root mean square over the examples; unlike the standard
            deviation it does not depend on the number of units.
        dead: share of units that are 0 for all examples, after a ReLU.
        saturated: share of outputs near their limits, after a tanh or a sigmoid.
        equal: whether all units have the same outputs and the same gradient, so that they stay equal.
    """

    name: str
    kind: str
    received: float
    std: float
    between: float
    gradient: float
    gradient_norm: float
    dead: float
    saturated: float
    equal: bool


@dataclass(frozen=True)
class Measurements:
    """What was measured of a network.

    Attributes:
        examples: how many were used.
        loss: their mean loss.
        layers: those with weights, in the order of the forward pass; the last one is the output layer.
        first_bad: if the loss is not finite, the first module whose output is not.
        failed: why nothing could be measured; then there are no layers and the loss is NaN.
    """

    examples: int
    loss: float
    layers: tuple[Layer, ...] = ()
    first_bad: str = ""
    failed: str = ""

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """The layers before the output layer."""
        return self.layers[:-1]

    def table(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return asdict(self)


def examples_for(features: int) -> int:
    """How many examples are used, if each has so many features."""
    return max(MIN_EXAMPLES, min(EXAMPLES, INPUTS // max(features, 1)))


def examine(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Measurements:
    """Passes examples forwards and backwards through the model, or a copy of it, in its present mode.

    A layer with weights that is called several times is measured at its last call. An activation that the
    model applies as a function and not as a module cannot be found: then the layer's own output is measured.

    Args:
        model: initialised, on its device; not changed.
        loss: (outputs, y) -> the mean loss, a scalar.
        x: (examples, *features), on the model's device.
        y: (examples,).

    Returns:
        The measurements. If the model cannot be copied or run, they give the reason; the training will raise
        the error.
    """
    with without_trace(model):  # of a copy, too, hooks may lead back to the model
        try:
            if changes_buffers_only(model):
                return _examine(model, loss, x, y, copied=False)
            return _examine(copy.deepcopy(model), loss, x, y, copied=True)
        except Exception as error:  # an examination must never stop a training
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return Measurements(len(x), math.nan, failed=reason)


def _examine(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, *, copied: bool
) -> Measurements:
    recorder = _Recorder(len(x))
    with torch.enable_grad(), _hooked(model, recorder.hook_for), closing(recorder):
        value = loss(model(x.clone()), y)
        if value.requires_grad and copied:
            value.backward()
        elif value.requires_grad:  # the parameters keep the gradients that they have
            trained = [own for own in model.parameters() if own.requires_grad]
            torch.autograd.grad(value, trained, allow_unused=True)
    mean_loss = float(value.detach())
    first_bad = "" if math.isfinite(mean_loss) else _first_bad(model, x)
    return Measurements(len(x), mean_loss, tuple(recorder.layers()), first_bad)


@contextmanager
def _hooked(model: nn.Module, hook_of: Callable[[str, nn.Module], Any]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook_of(name, module)) for name, module in model.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Row:
    """The measurements of a layer while they are taken."""

    name: str
    module: nn.Module
    units: int  # the axis of its units
    numbers: dict[str, float] = field(default_factory=dict)
    equal: list[bool] = field(default_factory=list)
    gradient_hooks: list[torch.utils.hooks.RemovableHandle] = field(default_factory=list)


class _Recorder:
    """Measures layers by hooks, each with the norm and activation that directly follow it."""

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._rows: dict[str, _Row] = {}  # in the order of the last calls
        self._row_of: dict[int, _Row] = {}  # by the id of a tensor, the layer that it comes from
        self._tensors: list[Tensor] = []  # keeps these tensors, so that no id is used twice

    def hook_for(self, name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        """The forward hook for a module."""
        weights = has_weights(module)
        follows = not weights and not any(True for _ in module.children())
        follows &= not isinstance(module, _DropoutNd)

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            x, y = _tensor(inputs), _tensor(output)
            if y is None or not y.is_floating_point():
                return
            if weights:
                self._rows.pop(name, None)
                row = self._rows[name] = _Row(name, module, axis_of_units(module))
                if id(x) in self._row_of:
                    row.numbers["received"] = self._row_of[id(x)].numbers["between"]
                elif x is not None and x.is_floating_point():
                    row.numbers["received"] = _spread(x.detach(), self._axis(x))[1]
                self._measure_output(row, module, y)
            elif follows and x is not None and x.shape == y.shape and id(x) in self._row_of:
                self._measure_output(self._row_of[id(x)], module, y)

        return hook

    def _measure_output(self, row: _Row, module: nn.Module, output: Tensor) -> None:
        """Measures a layer's output, or what a norm or activation after it has made of it."""
        self._row_of[id(output)] = row
        self._tensors.append(output)
        values, kind = output.detach(), type(module).__name__
        row.numbers["std"], row.numbers["between"] = _spread(values, self._axis(values))
        row.equal = [_all_equal(values, row.units)]
        if kind == "ReLU":
            living, units = alive(values, row.units)
            row.numbers["dead"] = 1 - living.item() / units
        if kind in BOUNDED:
            row.numbers["saturated"] = saturated(values, kind).item()
        for handle in row.gradient_hooks:
            handle.remove()
        row.gradient_hooks = [output.register_hook(self._gradient_hook(row))] if output.requires_grad else []

    def _gradient_hook(self, row: _Row) -> Callable[[Tensor], None]:
        def measure(gradient: Tensor) -> None:
            values = gradient.detach()
            scale = _largest(values)
            norm = _norm(values / scale) * scale if scale else 0.0
            # The loss is a mean over the examples: multiplied by their number, it is the gradient for one.
            row.numbers["gradient"] = _spread(values, self._axis(values))[0] * self._examples
            row.numbers["gradient_norm"] = norm * math.sqrt(self._examples)
            row.equal.append(_all_equal(values, row.units))

        return measure

    def _axis(self, values: Tensor) -> int:
        """The axis of the examples, which is the second one in some recurrent layers and attention."""
        shape = list(values.shape)
        return shape.index(self._examples) if self._examples in shape else 0

    def close(self) -> None:
        """Releases the tensors: their hooks refer to this object, in a cycle that is never collected."""
        for row in self._rows.values():
            for handle in row.gradient_hooks:
                handle.remove()
        self._row_of.clear()
        self._tensors.clear()

    def layers(self) -> Iterator[Layer]:
        """The measurements of all layers, in the order of the forward pass."""
        names = [name for name, kind in Layer.__annotations__.items() if kind is float]
        for row in self._rows.values():
            numbers = {name: row.numbers.get(name, math.nan) for name in names}
            equal = len(row.equal) == 2 and all(row.equal)
            yield Layer(row.name or "model", type(row.module).__name__, equal=equal, **numbers)


def _tensor(value: Any) -> Tensor | None:
    """The first tensor among a module's inputs or outputs."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _spread(values: Tensor, examples: int) -> tuple[float, float]:
    """Standard deviation of all values; and over the examples, as a root mean square over the other axes.

    Computed by the law of total variance from the differences to the first example, so that nothing cancels;
    in a tenth of the time of `Tensor.var` along the first axis.
    """
    first = values.narrow(examples, 0, 1)
    apart = values - first
    scale = _largest(apart)
    if not math.isfinite(scale):
        return math.nan, math.nan
    if scale:
        apart = apart.div_(scale)  # squares of 1e-30 would be 0, and those of 1e30 infinite
    means = apart.mean(examples, keepdim=True, dtype=_accurate(apart.dtype)).double()
    between = _norm(apart) ** 2 / apart.numel() - means.square().mean().item()
    between = max(between, 0.0) * scale**2
    units = (first + means * scale).var(correction=0).item()
    return math.sqrt(units + between), math.sqrt(between)


def _norm(values: Tensor) -> float:
    """Euclidean norm of values of at most 1."""
    return torch.linalg.vector_norm(values, dtype=_accurate(values.dtype)).item()


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _largest(values: Tensor) -> float:
    return max(values.amax().item(), -values.amin().item())


def _all_equal(values: Tensor, units: int) -> bool:
    """Whether two or more units have the same values everywhere, but for rounding."""
    if values.shape[units] < 2:
        return False
    apart = (values.amax(units) - values.amin(units)).amax().item()
    return apart <= min(0.1, ROUNDING * torch.finfo(values.dtype).eps) * _largest(values)


def _first_bad(model: nn.Module, x: Tensor) -> str:
    """The first module, in the order in which they finish, whose output is not finite."""
    if not torch.isfinite(x).all():
        return "the examples themselves"
    bad: list[str] = []

    def hook_of(name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            values = _tensor(output)
            if not bad and values is not None and not torch.isfinite(values).all():
                bad.append(name or "model")

        return hook

    with torch.no_grad(), _hooked(model, hook_of):
        model(x.clone())
    return bad[0] if bad else "the loss"
