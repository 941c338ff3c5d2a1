"""All parameters of a model in one flat row, weights first, with the model's own tensors as views of it.

One kernel then penalises the weights, keeps the best ones or measures an update, however many layers there
are. Gradients stay the tensors that the backward pass makes, since adding them into a row would cost a pass
over all of them; the row of gradients is collected where somebody needs it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class FlatParameters:
    """Moves a model's trainable parameters into one buffer.

    Attributes:
        values: (1, parameters) weights first, then biases and norm gains.
        gradient: (1, parameters), as of the last `collect`.
        weights: how many of the parameters are weights: what decays and is penalised.
        names: of the parameters in the order of the buffer, weights first.
        weight_names: of the weight tensors among them.
        shapes: of each parameter, in that order.
        parameters: the model's own, in that order.

    Raises:
        ValueError: the parameters differ in dtype or device, or there are none.
    """

    def __init__(self, model: nn.Module) -> None:
        weights: dict[str, nn.Parameter] = {}
        rest: dict[str, nn.Parameter] = {}
        seen: set[int] = set()
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(path, recurse=False):
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    (weights if is_weight(module, parameter) else rest)[name] = parameter
        parameters = {**weights, **rest}
        if len({(p.dtype, p.device) for p in parameters.values()}) != 1:
            raise ValueError("model: its trainable parameters must exist and share one dtype and device")
        self.names = list(parameters)
        self.weight_names = list(weights)
        self.weights = sum(p.numel() for p in weights.values())
        self.shapes = [p.shape for p in parameters.values()]
        self._sizes = [shape.numel() for shape in self.shapes]
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters.values()])[None]
        self.gradient = torch.zeros_like(self.values)
        self.parameters = list(parameters.values())
        for parameter, value in zip(self.parameters, self.views(self.values).values(), strict=True):
            parameter.data = value
            parameter.grad = None

    def forget_gradients(self) -> None:
        """Before a backward pass, so that it need not add."""
        for parameter in self.parameters:
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """The gradients of the last backward pass, in the order of `names`; zeros where it made none."""
        return [g if (g := p.grad) is not None else torch.zeros_like(p) for p in self.parameters]

    def collect(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Copies gradients into the row `gradient`; returns them as views of it."""
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self.gradient[0])
        return list(self.views(self.gradient).values())

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """Each parameter's part of a buffer laid out like `values`, in its own shape."""
        parts = row.view(-1).split_with_sizes(self._sizes)
        return {
            name: part.view(shape) for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def weight_parts(self, row: Tensor) -> list[Tensor]:
        """The part of each weight tensor, flat, in a row laid out like `values`."""
        return list(row.view(-1).split_with_sizes(self._sizes)[: len(self.weight_names)])


def is_weight(module: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter decays by default: a matrix or kernel; not a bias, a norm's gain or a scalar."""
    return parameter.ndim >= 2 and not isinstance(module, NORMS)
