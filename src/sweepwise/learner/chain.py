"""A stacked model as a chain of links, each with its own pass forward and backward.

Linear layers, and the ReLU behind them, need no autograd: their backward pass is known, and writes the
gradients of their parameters where the optimizer reads them. What stands between them is differentiated by
autograd, piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Variable

from sweepwise.learner.forward import listening
from sweepwise.learner.linear import Linears, does_more

GradientOf = Callable[[Tensor], Tensor | None]  # where a parameter's gradient belongs; None: it is frozen
Named = tuple[str, nn.Module]
relu_backward = torch.ops.aten.threshold_backward.grad_input  # writes where it is told to


class Link(Protocol):
    """A part of a chain.

    Attributes:
        learns: whether it, or a link before it, has parameters that are trained.
    """

    learns: bool

    def forward(self, x: Tensor, put_out: dict[str, Tensor] | None) -> Tensor:
        """Puts out (runs, batch, ...) for (runs, batch, ...).

        Args:
            x: not to be changed.
            put_out: takes what the layers put out by their names, if asked for.
        """
        ...

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """The gradient by x from that by what was put out last; None if there is none, or nobody wants it.

        Notes the gradients of the parameters.

        Args:
            gradient: may be overwritten; None stands for zeros.
        """
        ...


class LinearLink:
    """A linear layer of all runs, and the ReLU that follows it, if one does."""

    def __init__(
        self,
        named: Named,
        relu: Named | None,
        heard: Container[str],
        gradient_of: GradientOf,
        before: bool,
    ) -> None:
        name, layer = named
        assert isinstance(layer, Linears)
        self._products = layer.products
        self._by_weight = gradient_of(layer.weights)
        self._by_bias = None if layer.biases is None else gradient_of(layer.biases)
        self._relu = relu is not None
        self._name = name if name in heard else None
        self._relu_name = relu[0] if relu and relu[0] in heard else None
        self._before = before
        self._saved: tuple[Tensor, Tensor] | None = None
        self.learns = before or self._by_weight is not None or self._by_bias is not None

    def forward(self, x: Tensor, put_out: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        x, y = self._products.forward(x)
        if put_out is not None and self._name is not None:
            put_out[self._name] = y.clone() if self._relu else y
        if self._relu:
            y = y.relu_()
            if put_out is not None and self._relu_name is not None:
                put_out[self._relu_name] = y
        self._saved = x, y
        return y

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        if gradient is None:
            for part in (self._by_weight, self._by_bias):
                if part is not None:
                    part.zero_()
            return None
        assert self._saved is not None
        x, y = self._saved
        self._saved = None
        if self._relu:
            own = gradient if gradient.is_contiguous() else torch.empty_like(y)
            gradient = relu_backward(gradient, y, 0, grad_input=own)
        del y
        return self._products.backward(gradient, x, self._by_weight, self._by_bias, self._before)


class Segment:
    """Other layers, differentiated by autograd. They take the examples of all runs in one axis."""

    def __init__(
        self, named: Sequence[Named], heard: Container[str], gradient_of: GradientOf, before: bool
    ) -> None:
        self._named = list(named)
        self._heard = {
            inner: module
            for name, layer in named
            for inner, module in layer.named_modules(prefix=name)
            if inner in heard
        }
        found = {id(leaf): leaf for _, layer in named for leaf in _tensors_of(layer)}
        pairs = [(leaf, gradient_of(leaf)) for leaf in found.values()]
        self._leaves = [(leaf, gradient) for leaf, gradient in pairs if gradient is not None]
        self._before = before
        self._x = self._y = torch.empty(0)
        self.learns = before or bool(self._leaves)

    def forward(self, x: Tensor, put_out: dict[str, Tensor] | None) -> Tensor:
        """See `Link`."""
        runs = len(x)
        x = x.detach().flatten(0, 1).contiguous()  # else a run alone would be rounded otherwise than several
        self._x = x.requires_grad_() if self._before and torch.is_grad_enabled() else x
        if put_out is None:
            self._y = self._through(self._x)
        else:
            self._y, heard = listening(self._heard, lambda: self._through(self._x))
            put_out |= {name: out.view(runs, -1, *out.shape[1:]) for name, out in heard.items()}
        return self._y.detach().view(runs, -1, *self._y.shape[1:])

    def _through(self, x: Tensor) -> Tensor:
        for _, layer in self._named:
            x = layer(x)
        return x

    def backward(self, gradient: Tensor | None) -> Tensor | None:
        """See `Link`."""
        if gradient is None or not self._y.requires_grad:
            for _, part in self._leaves:
                part.zero_()
            return None
        wanted = [leaf for leaf, _ in self._leaves] + [self._x] * self._before
        found = derivatives(self._y, gradient.reshape(self._y.shape).contiguous(), wanted)
        for (_, part), own in zip(self._leaves, found, strict=False):
            part.zero_() if own is None else part.copy_(own)
        by_x = found[-1] if self._before else None
        return None if by_x is None else by_x.view(len(gradient), -1, *by_x.shape[1:])


def derivatives(of: Tensor, gradient: Tensor, by: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """As torch.autograd.grad with allow_unused, without what that checks and makes at every call."""
    found: Sequence[Tensor | None] = Variable._execution_engine.run_backward(
        (of,), (gradient,), False, False, tuple(by), allow_unreachable=True, accumulate_grad=False
    )
    return found


def chain(model: nn.Module, heard: Container[str], gradient_of: GradientOf) -> list[Link]:
    """The links of a stacked model; one segment, if it is not a chain.

    Args:
        model: from `stacked`.
        heard: names of the layers that can be listened to.
        gradient_of: see `GradientOf`.
    """
    links = list(_links(model, heard, gradient_of))
    owned = [tensor for _, layer in _in_turn(model) for tensor in set(map(id, _tensors_of(layer)))]
    alters = any(does_more(layer) or getattr(layer, "inplace", False) for layer in model.modules())
    if len(set(owned)) == len(owned) and not alters:
        return links
    return [Segment([("", model)], heard, gradient_of, before=False)]


def _links(model: nn.Module, heard: Container[str], gradient_of: GradientOf) -> Iterator[Link]:
    """As if the model were a chain."""
    before, others = False, list[Named]()
    layers = _in_turn(model)
    while layers:
        named = layers.pop(0)
        if not isinstance(named[1], Linears):
            others.append(named)
        if others and (not layers or isinstance(named[1], Linears)):
            segment = Segment(others, heard, gradient_of, before)
            before, others = segment.learns, []
            yield segment
        if isinstance(named[1], Linears):
            relu = layers.pop(0) if layers and type(layers[0][1]) is nn.ReLU else None
            link = LinearLink(named, relu, heard, gradient_of, before)
            before = link.learns
            yield link


def _in_turn(model: nn.Module) -> list[Named]:
    """Layers that are called one after the other, without those that do nothing."""
    names = {id(layer): name for name, layer in model.named_modules()}  # the first of a layer's
    return [(names[id(layer)], layer) for layer in _flat(model)]


def _flat(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is nn.Sequential:
        for layer in model:
            yield from _flat(layer)
    elif not isinstance(model, nn.Identity) and not (isinstance(model, nn.Dropout) and not model.p):
        yield model


def _tensors_of(layer: nn.Module) -> list[Tensor]:
    """What the layers of all runs have gathered, frozen parameters and buffers too."""
    return [value for part in layer.modules() for value in vars(part).values() if isinstance(value, Tensor)]
