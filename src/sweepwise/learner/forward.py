"""A model's forward pass: in training, in evaluation, and while the outputs of its layers are recorded."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.compiled import compiled
from sweepwise.learner.contract import Precision
from sweepwise.learner.precision import in_precision
from sweepwise.learner.units import axes_of_units
from sweepwise.learner.without_trace import without_trace

_NOT_RECORDED = (_DropoutNd, nn.Flatten, nn.Identity)


class Forward:
    """The forward passes of one model; the model itself where neither precision nor compile change it.

    Args:
        model: on its device.
        like: its parameters, for their device and type.
        precision: see `in_precision`.
        compile: whether the pass for steps is compiled. Evaluation and recorded passes never are.

    Attributes:
        train: x -> outputs, for steps.
        evaluate: x -> outputs, by the plain model.
        kinds: class name of each layer whose outputs can be recorded, by its name.
        units: the axis of the units in each layer's outputs, by its name.
        needs_gradients: whether the model takes gradients in its forward pass, also in evaluation.
    """

    def __init__(self, model: nn.Module, like: Tensor, precision: Precision, compile: bool) -> None:
        self._model = model
        self.needs_gradients = False
        self._precision: Precision = precision
        self._like = like
        self.evaluate = self.pass_of(model)
        self.train = in_precision(compiled(model, like.device), precision, like) if compile else self.evaluate
        self._layers = {
            name: module
            for name, module in model.named_modules()
            if name and not any(True for _ in module.children()) and not isinstance(module, _NOT_RECORDED)
        }
        self.kinds = {name: type(module).__name__ for name, module in self._layers.items()}
        self.units = axes_of_units(self._layers)

    def pass_of(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """The evaluation pass of another model, such as a copy of this one: x -> outputs."""
        return in_precision(model, self._precision, self._like)

    def evaluating(self) -> AbstractContextManager[None]:
        """The context of passes that are not differentiated.

        It is not inference mode: what a model keeps from there, such as a table, could not be trained with.
        """
        return torch.set_grad_enabled(self.needs_gradients)

    def activations(self, outputs: dict[str, list[Tensor]]) -> Callable[[Tensor], Tensor]:
        """A pass for a step that also appends the output of each layer to `outputs`, by its name."""
        plain = self.train is self.evaluate
        return partial(self._record_in_pass if plain else self._record_beside, outputs)

    def _record_in_pass(self, outputs: dict[str, list[Tensor]], x: Tensor) -> Tensor:
        """Records during the plain model's own pass."""
        result, activations = record_outputs(self._layers, lambda: self.evaluate(x))
        for name, output in activations.items():
            outputs.setdefault(name, []).append(output)
        return result

    def _record_beside(self, outputs: dict[str, list[Tensor]], x: Tensor) -> Tensor:
        """Records an extra pass of the plain model, as the compiled one calls no hooks."""
        self.record_without_trace(outputs, x)
        return self.train(x)

    def record_without_trace(self, outputs: dict[str, list[Tensor]], x: Tensor) -> None:
        """Records an extra pass of the plain model that leaves it and the generators as they were."""
        with self.evaluating(), without_trace(self._model):
            self._record_in_pass(outputs, x.clone())


def record_outputs(
    layers: Mapping[str, nn.Module], call: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Calls `call`; returns its result, and the last output of each of these layers by name."""
    last: dict[str, Tensor] = {}

    def hook_of(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                last[name] = output.detach()

        return record

    hooks = [module.register_forward_hook(hook_of(name)) for name, module in layers.items()]
    result = call()
    for hook in hooks:
        hook.remove()
    return result, last


def concatenated(outputs: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """The layers' outputs for the whole batch, from the outputs for its pieces."""
    return {
        name: parts[0] if len(parts) == 1 else torch.cat([torch.atleast_1d(part) for part in parts])
        for name, parts in outputs.items()
    }
