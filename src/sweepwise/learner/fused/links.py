"""Links of a chain whose backward passes are written by hand, without autograd."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sweepwise.learner.fused.convolution import Convolutions
from sweepwise.learner.fused.dropout import Dropouts
from sweepwise.learner.fused.norms import BatchNorms, Norms
from sweepwise.learner.linear import Linears

aten = torch.ops.aten
GradientOf = Callable[[Tensor], Tensor | None]  # where to write a parameter's gradient; None: it is frozen
Named = tuple[str, nn.Module]
relu_backward = aten.threshold_backward.grad_input  # writes into `grad_input`

SELU = 1.6732632423543772, 1.0507009873554805  # alpha and scale of Klambauer et al., NeurIPS 2017
# (gradient by the outputs, inputs, outputs, layer) -> gradient by the inputs, of each activation.
ACTIVATIONS: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor, Any], Tensor]] = {
    nn.ReLU: lambda gradient, x, y, layer: aten.threshold_backward(gradient, y, 0),
    nn.Tanh: lambda gradient, x, y, layer: aten.tanh_backward(gradient, y),
    nn.Sigmoid: lambda gradient, x, y, layer: aten.sigmoid_backward(gradient, y),
    nn.GELU: lambda gradient, x, y, layer: aten.gelu_backward(gradient, x, approximate=layer.approximate),
    nn.SiLU: lambda gradient, x, y, layer: aten.silu_backward(gradient, x),
    nn.LeakyReLU: lambda gradient, x, y, layer: aten.leaky_relu_backward(
        gradient, x, layer.negative_slope, False
    ),
    nn.ELU: lambda gradient, x, y, layer: aten.elu_backward(gradient, layer.alpha, 1, 1, False, x),
    nn.SELU: lambda gradient, x, y, layer: aten.elu_backward(gradient, *SELU, 1, False, x),
}
RESHAPES = (nn.Flatten, nn.Unflatten)
WEIGHTED = (Linears, Convolutions, BatchNorms, Norms)


class Link(Protocol):
    """A part of a chain.

    Attributes:
        learns: whether it, or a link before it, has trainable parameters.
    """

    learns: bool

    def forward(self, x: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        """Returns the outputs, (runs, batch, ...), for inputs of shape (runs, batch, ...).

        Args:
            x: not to be changed in place.
            activations: receives the layers' outputs by name; None: they are not wanted.
        """
        ...

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """Returns the gradient with respect to x; None if there is none, or no link before needs it.

        Also writes the gradients of the parameters.

        Args:
            gradient: with respect to the last outputs; may be overwritten. None: zeros.
        """
        ...


class LayerLink:
    """A layer of all runs that has weights, with the ReLU that follows it, if there is one.

    Attributes:
        norms: whether the layer is a norm.
    """

    def __init__(
        self,
        named: Named,
        relu: Named | None,
        recorded: Container[str],
        gradient_of: GradientOf,
        learns_before: bool,
        before_convolution: bool,
    ) -> None:
        name, layer = named
        self._in_order = isinstance(layer, Convolutions) and not before_convolution
        assert isinstance(layer, WEIGHTED) and layer.passes
        self._layer, self._passes = layer, layer.passes
        self.norms = isinstance(layer, BatchNorms | Norms)
        self._by_weight = None if layer.weights is None else gradient_of(layer.weights)
        self._by_bias = None if layer.biases is None else gradient_of(layer.biases)
        self._relu = relu is not None
        self._name = name if name in recorded else None
        self._relu_name = relu[0] if relu and relu[0] in recorded else None
        self._learns_before = learns_before
        self._saved: tuple[Any, Tensor] | None = None
        self.learns = learns_before or self._by_weight is not None or self._by_bias is not None

    def forward(self, x: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        if isinstance(self._layer, BatchNorms):
            self._layer.begin()
        saved, y = self._passes.forward(x)
        y = y.contiguous() if self._in_order else y
        if activations is not None and self._name is not None:
            activations[self._name] = y.clone() if self._relu else y
        if self._relu:
            y = y.relu_()
            if activations is not None and self._relu_name is not None:
                activations[self._relu_name] = y
        self._saved = saved, y
        return y

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        if gradient is None:
            for part in (self._by_weight, self._by_bias):
                if part is not None:
                    part.zero_()
            return None
        assert self._saved is not None
        saved, y = self._saved
        self._saved = None
        if self._relu:
            own = gradient if gradient.is_contiguous() else torch.empty_like(y)
            gradient = relu_backward(gradient, y, 0, grad_input=own)
        del y
        return self._passes.backward(gradient, saved, self._by_weight, self._by_bias, self._learns_before)


class _Plain:
    """A layer without parameters.

    Args:
        named: the layer.
        recorded: names of the layers whose outputs can be recorded.
        learns_before: whether a link before it has trainable parameters.
    """

    def __init__(self, named: Named, recorded: Container[str], learns_before: bool) -> None:
        self._name, self._layer = named
        self._recorded = self._name in recorded
        self.learns = learns_before

    def _record(self, y: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        if activations is not None and self._recorded:
            activations[self._name] = y
        return y


class ActivationLink(_Plain):
    """A function of each number."""

    _saved: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        with torch.no_grad():
            y: Tensor = self._layer(x)
        self._saved = x, y
        return self._record(y, activations)

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        if gradient is None or not self.learns:
            return None
        assert self._saved is not None
        x, y = self._saved
        self._saved = None
        return ACTIVATIONS[type(self._layer)](gradient, x, y, self._layer)


class ReshapeLink(_Plain):
    """The same numbers in another shape."""

    _shape = torch.Size()

    def forward(self, x: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        self._shape = x.shape
        y = self._layer(x.flatten(0, 1))
        return self._record(y.view(*x.shape[:2], *y.shape[1:]), activations)

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        return None if gradient is None or not self.learns else gradient.reshape(self._shape)


class DropoutLink(_Plain):
    """Dropout, which multiplies by a mask."""

    _mask: Tensor | None = None

    def forward(self, x: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        assert isinstance(self._layer, Dropouts)
        if not self._layer.training:
            return self._record(x, activations)
        self._mask = self._layer.mask(x)
        return self._record(x * self._mask, activations)

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        if gradient is None or not self.learns:
            return None
        assert self._mask is not None
        mask, self._mask = self._mask, None
        return gradient * mask
