"""All parameters of a model in one flat row, weights first, with the model's own tensors as views of it.

One kernel then zeroes the gradient, penalises the weights or takes the optimizer's step, however many layers
there are.
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
        gradient: (1, parameters), which the backward pass adds to.
        weights: how many of the parameters are weights: what decays and is penalised.
        names: of the parameters in the order of the buffer, weights first.
        weight_names: of the weight tensors among them.

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
        self._weight_sizes = [p.numel() for p in weights.values()]
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters.values()])[None]
        self.gradient = torch.zeros_like(self.values)
        self._parameters = list(parameters.values())
        for parameter, value, gradient in zip(
            self._parameters,
            self.views(self.values).values(),
            self.views(self.gradient).values(),
            strict=True,
        ):
            parameter.data = value
            parameter.grad = gradient

    def views(self, row: Tensor) -> dict[str, Tensor]:
        """Each parameter's part of a buffer laid out like `values`, in its own shape."""
        parts = row.view(-1).split([shape.numel() for shape in self._shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def weight_parts(self, row: Tensor) -> Sequence[Tensor]:
        """The part of each weight tensor, flat, in a row that begins with the weights."""
        return row[0, : self.weights].split(self._weight_sizes)

    def check_gradient_views(self) -> None:
        """Raises ValueError if a backward pass has replaced a gradient instead of adding to it."""
        for name, parameter, view in zip(
            self.names, self._parameters, self.views(self.gradient).values(), strict=True
        ):
            if parameter.grad is None or parameter.grad.data_ptr() != view.data_ptr():
                raise ValueError(f"model: the gradient of {name} is not dense (sparse=True?)")


def is_weight(module: nn.Module, parameter: Tensor) -> bool:
    """Whether a parameter decays by default: a matrix or kernel; not a bias, a norm's gain or a scalar."""
    return parameter.ndim >= 2 and not isinstance(module, NORMS)
