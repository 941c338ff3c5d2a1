"""What an initialised network does with a signal, before it is trained: layer by layer, in both directions.

Forwards it is the spread of a layer's outputs, backwards that of the gradient of one example's loss with
respect to them. Everything is measured on a copy, and the generators are put back: a training is the same to
the bit whether its network was examined or not.
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

from sweepwise.learner.units import BOUNDED, alive, axis_of_units, has_weights, saturated
from sweepwise.seed import same_generators_after

EXAMPLES = 256  # at most
LEAST_EXAMPLES = 32  # few, but enough to see whether a unit is dead
INPUTS = 2**18  # numbers in all examples together, so that large images cost no more than 256 small ones
ROUNDING = 100  # units in the last place by which sums of equal numbers may differ


@dataclass(frozen=True)
class Layer:
    """What was seen of one layer with weights. All numbers are NaN where there was nothing to see.

    Attributes:
        name: of the module.
        kind: its class.
        received: spread between the examples of its input: the deviation of a unit over the examples, as a
            root mean square over the units.
        std: standard deviation of its outputs, all units and examples together, behind the norm and the
            activation that follow the layer as modules.
        between: the same outputs' spread between the examples, 0 if all examples look alike.
        gradient: standard deviation of the gradient that arrives there, of one example's loss.
        gradient_norm: its Euclidean norm, as a root mean square over the examples; unlike the deviation it
            does not depend on how many units share it.
        dead: share of units that are 0 for all examples, behind a ReLU.
        saturated: share of outputs near their limits, behind a tanh or a sigmoid.
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
    """What was seen of a network.

    Attributes:
        examples: how many were looked at.
        loss: their mean loss.
        layers: those with weights, in the order of the forward pass; the last one is the output layer.
        first_bad: where the loss comes from if it is not finite: the first module whose output is not.
        failed: why nothing could be seen; then there are no layers and the loss is NaN.
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
    """How many examples are looked at, if each holds so many numbers."""
    return max(LEAST_EXAMPLES, min(EXAMPLES, INPUTS // max(features, 1)))


def examine(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Measurements:
    """Passes examples through a copy of the model, forwards and backwards, in the mode that it is in.

    A layer with weights that is called several times is seen at its last call. An activation that the model
    applies as a function, not as a module, is not seen: then the layer's own output is measured.

    Args:
        model: initialised, on its device; not changed.
        loss: (outputs, y) -> the mean loss, a scalar.
        x: (examples, *features), on the model's device.
        y: (examples,).

    Returns:
        What was seen. A model that cannot be copied or run gives the reason instead; its training will raise
        what there is to raise.
    """
    with same_generators_after(x.device):
        try:
            return _examine(copy.deepcopy(model), loss, x, y)
        except Exception as error:  # the examination must never be what stops a training
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return Measurements(len(x), math.nan, failed=reason)


def _examine(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Measurements:
    seen = _Seen(len(x))
    with torch.enable_grad(), _hooked(model, seen.of), closing(seen):
        value = loss(model(x), y)
        if value.requires_grad:
            value.backward()
    found = float(value.detach())
    first_bad = "" if math.isfinite(found) else _first_bad(model, x)
    return Measurements(len(x), found, tuple(seen.layers()), first_bad)


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
    """A layer while it is looked at."""

    name: str
    module: nn.Module
    units: int  # the axis of its units
    numbers: dict[str, float] = field(default_factory=dict)
    equal: list[bool] = field(default_factory=list)
    listening: list[torch.utils.hooks.RemovableHandle] = field(default_factory=list)


class _Seen:
    """Gathers what hooks see of the layers, each with the norm and activation that directly follow it."""

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._rows: dict[str, _Row] = {}  # in the order of the last calls
        self._behind: dict[int, _Row] = {}  # by the identity of the tensor that leaves it
        self._held: list[Tensor] = []  # so that an identity is not given again

    def of(self, name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        """The hook of a module."""
        weights = has_weights(module)
        follows = not weights and not any(True for _ in module.children())
        follows &= not isinstance(module, _DropoutNd)

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            came, left = _tensor(inputs), _tensor(output)
            if left is None or not left.is_floating_point():
                return
            if weights:
                self._rows.pop(name, None)
                row = self._rows[name] = _Row(name, module, axis_of_units(module))
                if id(came) in self._behind:
                    row.numbers["received"] = self._behind[id(came)].numbers["between"]
                elif came is not None and came.is_floating_point():
                    row.numbers["received"] = _spread(came.detach(), self._axis(came))[1]
                self._look(row, module, left)
            elif follows and came is not None and came.shape == left.shape and id(came) in self._behind:
                self._look(self._behind[id(came)], module, left)

        return hook

    def _look(self, row: _Row, module: nn.Module, output: Tensor) -> None:
        """Takes a layer's output, or what the module behind it has made of it."""
        self._behind[id(output)] = row
        self._held.append(output)
        values, kind = output.detach(), type(module).__name__
        row.numbers["std"], row.numbers["between"] = _spread(values, self._axis(values))
        row.equal = [_all_equal(values, row.units)]
        if kind == "ReLU":
            living, units = alive(values, row.units)
            row.numbers["dead"] = 1 - living.item() / units
        if kind in BOUNDED:
            row.numbers["saturated"] = saturated(values, kind).item()
        for handle in row.listening:
            handle.remove()
        row.listening = [output.register_hook(self._arrives(row))] if output.requires_grad else []

    def _arrives(self, row: _Row) -> Callable[[Tensor], None]:
        def arrives(gradient: Tensor) -> None:
            values = gradient.detach()
            scale = _largest(values)
            norm = _norm(values / scale) * scale if scale else 0.0
            # The loss is a mean: times the number of examples it is one example's again.
            row.numbers["gradient"] = _spread(values, self._axis(values))[0] * self._examples
            row.numbers["gradient_norm"] = norm * math.sqrt(self._examples)
            row.equal.append(_all_equal(values, row.units))

        return arrives

    def _axis(self, values: Tensor) -> int:
        """The axis of the examples: recurrent layers and attention may have it second."""
        shape = list(values.shape)
        return shape.index(self._examples) if self._examples in shape else 0

    def close(self) -> None:
        """Lets go of the tensors, which hold us by their hooks: a circle that nobody else would ever see."""
        for row in self._rows.values():
            for handle in row.listening:
                handle.remove()
        self._behind.clear()
        self._held.clear()

    def layers(self) -> Iterator[Layer]:
        """What was seen."""
        wanted = [name for name, kind in Layer.__annotations__.items() if kind is float]
        for row in self._rows.values():
            numbers = {name: row.numbers.get(name, math.nan) for name in wanted}
            equal = len(row.equal) == 2 and all(row.equal)
            yield Layer(row.name or "model", type(row.module).__name__, equal=equal, **numbers)


def _tensor(value: Any) -> Tensor | None:
    """The tensor that a module has been given or returns: of several, the first."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _spread(values: Tensor, examples: int) -> tuple[float, float]:
    """Deviation of all values together; deviation over the examples, as a root mean square over the rest.

    By the law of total variance, from the differences to the first example, so that nothing cancels; a tenth
    of the time of `Tensor.var` along the first axis.
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
    """Euclidean norm; the values are at most 1."""
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
        model(x)
    return bad[0] if bad else "the loss"
