"""A stacked model as a chain of links, each with its own forward and backward pass.

Linear layers, convolutions, activations, dropout and changes of shape need no autograd: their backward passes
are written out in `links`, and put the gradients of the parameters where the optimizer reads them. Autograd
differentiates the layers between them, segment by segment.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import Variable

from sweepwise.learner.forward import record_outputs
from sweepwise.learner.fused.convolution import Convolutions
from sweepwise.learner.fused.dropout import Dropouts
from sweepwise.learner.fused.links import (
    ACTIVATIONS,
    RESHAPES,
    WEIGHTED,
    ActivationLink,
    DropoutLink,
    GradientOf,
    LayerLink,
    Link,
    Named,
    ReshapeLink,
)
from sweepwise.learner.linear import does_more


class Segment:
    """Consecutive other layers, differentiated by autograd, on inputs of shape (runs * batch, ...)."""

    def __init__(
        self, named: Sequence[Named], recorded: Container[str], gradient_of: GradientOf, learns_before: bool
    ) -> None:
        self._named = list(named)
        self._recorded = {
            inner: module
            for name, layer in named
            for inner, module in layer.named_modules(prefix=name)
            if inner in recorded
        }
        tensors = {id(leaf): leaf for _, layer in named for leaf in _tensors_of(layer)}
        pairs = [(leaf, gradient_of(leaf)) for leaf in tensors.values()]
        self._leaves = [(leaf, gradient) for leaf, gradient in pairs if gradient is not None]
        self._learns_before = learns_before
        self._x = self._y = torch.empty(0)
        self.learns = learns_before or bool(self._leaves)

    def forward(self, x: Tensor, activations: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        runs = len(x)
        x = x.detach().flatten(0, 1).contiguous()  # else rounding would depend on how many runs there are
        self._x = x.requires_grad_() if self._learns_before and torch.is_grad_enabled() else x
        if activations is None:
            self._y = self._run_layers(self._x)
        else:
            self._y, outputs = record_outputs(self._recorded, lambda: self._run_layers(self._x))
            activations |= {name: out.view(runs, -1, *out.shape[1:]) for name, out in outputs.items()}
        return self._y.detach().view(runs, -1, *self._y.shape[1:])

    def _run_layers(self, x: Tensor) -> Tensor:
        for _, layer in self._named:
            x = layer(x)
        return x

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        if gradient is None or not self._y.requires_grad:
            for _, part in self._leaves:
                part.zero_()
            return None
        wanted = [leaf for leaf, _ in self._leaves] + [self._x] * self._learns_before
        gradients = derivatives(self._y, gradient.reshape(self._y.shape).contiguous(), wanted)
        for (_, part), own in zip(self._leaves, gradients, strict=False):
            part.zero_() if own is None else part.copy_(own)
        by_x = gradients[-1] if self._learns_before else None
        return None if by_x is None else by_x.view(len(gradient), -1, *by_x.shape[1:])


def are_faster_alone(links: Sequence[Link]) -> bool:
    """Whether links are faster than autograd for a single run, too: there are no segments and no norms."""
    return not any(isinstance(link, Segment) or getattr(link, "norms", False) for link in links)


def derivatives(of: Tensor, gradient: Tensor, by: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """torch.autograd.grad with allow_unused, without its checks at every call."""
    gradients: Sequence[Tensor | None] = Variable._execution_engine.run_backward(
        (of,), (gradient,), False, False, tuple(by), allow_unreachable=True, accumulate_grad=False
    )
    return gradients


def chain(model: nn.Module, recorded: Container[str], gradient_of: GradientOf) -> list[Link]:
    """The links of a stacked model; a single segment if its layers are not a simple chain.

    Args:
        model: from `stacked`.
        recorded: names of the layers whose outputs can be recorded.
        gradient_of: see `GradientOf`.
    """
    links = list(_links(model, recorded, gradient_of))
    owned = [tensor for _, layer in _layers_in_order(model) for tensor in set(map(id, _tensors_of(layer)))]
    alters = any(does_more(layer) or getattr(layer, "inplace", False) for layer in model.modules())
    if len(set(owned)) == len(owned) and not alters:
        return links
    return [Segment([("", model)], recorded, gradient_of, learns_before=False)]


def _links(model: nn.Module, recorded: Container[str], gradient_of: GradientOf) -> Iterator[Link]:
    """The links, assuming that each layer only passes its output on to the next."""
    learns_before, others = False, list[Named]()
    layers = _layers_in_order(model)
    while layers:
        named = layers.pop(0)
        kind = _kind(named[1])
        if kind is None:
            others.append(named)
        if others and (not layers or kind):
            segment = Segment(others, recorded, gradient_of, learns_before)
            learns_before, others = segment.learns, []
            yield segment
        if kind is LayerLink:
            relu = layers.pop(0) if layers and type(layers[0][1]) is nn.ReLU else None
            joined = bool(layers) and isinstance(layers[0][1], Convolutions)
            link = LayerLink(named, relu, recorded, gradient_of, learns_before, joined)
            learns_before = link.learns
            yield link
        elif kind:
            yield kind(named, recorded, learns_before)


def _kind(layer: nn.Module) -> Callable[..., Link] | None:
    """The link of a layer; None: autograd differentiates it."""
    if isinstance(layer, WEIGHTED) and layer.passes:
        return LayerLink
    if isinstance(layer, Dropouts):
        return DropoutLink
    if type(layer) in ACTIVATIONS:
        return ActivationLink
    return ReshapeLink if type(layer) in RESHAPES and _keeps_examples(layer) else None


def _keeps_examples(layer: nn.Module) -> bool:
    """Whether a change of shape leaves the first axis alone."""
    axis = layer.start_dim if isinstance(layer, nn.Flatten) else layer.dim
    return isinstance(axis, int) and axis > 0


def _layers_in_order(model: nn.Module) -> list[Named]:
    """The layers in the order of their calls, without those that do nothing."""
    names = {id(layer): name for name, layer in model.named_modules()}  # a shared layer has its first name
    return [(names[id(layer)], layer) for layer in _flattened(model)]


def _flattened(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is nn.Sequential:
        for layer in model:
            yield from _flattened(layer)
    elif not isinstance(model, nn.Identity) and not (isinstance(model, nn.Dropout) and not model.p):
        yield model


def _tensors_of(layer: nn.Module) -> list[Tensor]:
    """The stacked tensors of a layer: parameters, also frozen ones, and buffers."""
    return [value for part in layer.modules() for value in vars(part).values() if isinstance(value, Tensor)]
