"""A model's forward pass: in training, in evaluation, and while its layers are heard."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.learner.compiled import compiled
from sweepwise.learner.contract import Precision
from sweepwise.learner.precision import in_precision
from sweepwise.learner.units import axes_of_units

_UNHEARD = (_DropoutNd, nn.Flatten, nn.Identity)


class Forward:
    """The forward pass of one model; the model itself where nothing else is asked for.

    Args:
        model: on its device.
        like: its parameters, for their device and type.
        precision: see `in_precision`.
        compile: whether the training's pass is compiled. Evaluation and what is heard never are.

    Attributes:
        train: x -> outputs, for steps.
        evaluate: x -> outputs, by the plain model.
    """

    def __init__(self, model: nn.Module, like: Tensor, precision: Precision, compile: bool) -> None:
        self._model = model
        self._device = like.device
        self.evaluate = in_precision(model, precision, like)
        self.train = in_precision(compiled(model, like.device), precision, like) if compile else self.evaluate
        self._layers = {
            name: module
            for name, module in model.named_modules()
            if name and not any(True for _ in module.children()) and not isinstance(module, _UNHEARD)
        }
        self.kinds = {name: type(module).__name__ for name, module in self._layers.items()}
        self.units = axes_of_units(self._layers)

    def activations(self, outputs: dict[str, list[Tensor]]) -> Callable[[Tensor], Tensor]:
        """A pass for a step that leaves what each layer puts out, by its name; one tensor a call."""
        plain = self.train is self.evaluate
        return partial(self._within if plain else self._beside, outputs)

    def _within(self, outputs: dict[str, list[Tensor]], x: Tensor) -> Tensor:
        """Listens to the plain model's own pass."""
        result, heard = listening(self._layers, lambda: self.evaluate(x))
        for name, output in heard.items():
            outputs.setdefault(name, []).append(output)
        return result

    def _beside(self, outputs: dict[str, list[Tensor]], x: Tensor) -> Tensor:
        """Listens to a pass of the plain model beside the compiled one, which calls no hooks."""
        self.without_trace(outputs, x)
        return self.train(x)

    def without_trace(self, outputs: dict[str, list[Tensor]], x: Tensor) -> None:
        """Listens to a pass of the plain model after which everything is as before."""
        buffers = [buffer.clone() for buffer in self._model.buffers()]
        devices = [self._device] if self._device.type != "cpu" else []
        with torch.no_grad(), torch.random.fork_rng(devices, device_type=self._device.type):
            self._within(outputs, x)
            for buffer, before in zip(self._model.buffers(), buffers, strict=True):
                buffer.copy_(before)


def listening(
    layers: Mapping[str, nn.Module], call: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Calls, and returns with the result what each of these layers has put out last, by name."""
    last: dict[str, Tensor] = {}

    def listener(name: str) -> Callable[[nn.Module, object, object], None]:
        def listen(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                last[name] = output.detach()

        return listen

    hooks = [module.register_forward_hook(listener(name)) for name, module in layers.items()]
    result = call()
    for hook in hooks:
        hook.remove()
    return result, last


def joined(outputs: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """The layers' outputs for the whole batch, from those for its pieces."""
    return {
        name: parts[0] if len(parts) == 1 else torch.cat([torch.atleast_1d(part) for part in parts])
        for name, parts in outputs.items()
    }
