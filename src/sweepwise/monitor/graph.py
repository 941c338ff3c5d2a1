# mypy: disable-error-code="import-untyped"
"""The structure of a model, for TensorBoard's Graphs tab, as one forward pass shows it.

A layer (a module without children) is one node. What a larger module computes by itself, such as the sum of
a residual connection, is a node for each torch function. Names are paths, so TensorBoard draws a module that
has children as a box; edges are the tensors that are handed on. No tracing by torch.jit or torch.fx: those
take seconds to import, and refuse models that run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def graph(model: nn.Module, x: Tensor) -> bytes:
    """A serialised GraphDef of a model; changes no parameter, buffer, mode or state of a generator.

    Args:
        model: any.
        x: (batch, *features), on the model's device.
    """
    trace = _Trace(model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    devices = [x.device] if x.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices), ExitStack() as hooks:
        model.eval()
        for name, module in model.named_modules():
            for handle in trace.listen(name.replace(".", "/"), module):
                hooks.callback(handle.remove)
        trace.begin(x)
        try:
            with trace:
                model(x)
        finally:
            for module, training in modes:
                module.training = training
            for buffer, before in buffers:
                buffer.copy_(before)
    return trace.serialised()


class _Trace(TorchFunctionMode):
    """Sees each layer, and each torch function outside of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        self._graph = GraphDef()
        self._names: set[str] = set()
        self._makers: dict[int, str] = {}  # of a tensor, by its id: the node
        self._alive: list[Tensor] = []  # all of them: an id holds as long as its tensor
        self._scopes: list[str] = []
        self._layers = 0  # how deep in them
        self._batch = 0
        self._own = {id(p): name.replace(".", "/") for name, p in model.named_parameters()}
        self._own |= {id(b): name.replace(".", "/") for name, b in model.named_buffers()}

    def begin(self, x: Tensor) -> None:
        """The batch that goes in."""
        self._batch = len(x)
        self._node("input", "Input", [], [x], {})

    def listen(self, path: str, module: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Hooks that tell when a module begins and ends."""
        if path and not any(True for _ in module.children()):
            yield module.register_forward_pre_hook(self._into_layer)
            yield module.register_forward_hook(partial(self._out_of_layer, path), with_kwargs=True)
        else:
            yield module.register_forward_pre_hook(lambda *_: self._scopes.append(path))
            yield module.register_forward_hook(lambda *_: self._leave_scope())

    def _leave_scope(self) -> None:
        self._scopes.pop()

    def _into_layer(self, *_: object) -> None:
        self._layers += 1

    def _out_of_layer(self, path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._layers -= 1
        if not self._layers:
            told: dict[str, str | int] = {
                "module": repr(module),
                "parameters": sum(p.numel() for p in module.parameters()),
            }
            self._node(path, type(module).__name__, [args, kwargs], output, told)

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Calls the function; a node for what it returns, if that is tensors."""
        output = function(*args, **(kwargs or {}))
        if not self._layers and any(True for _ in _tensors(output)):
            name = getattr(function, "__name__", "function")
            if name == "__get__":  # of a property, such as Tensor.T
                name = getattr(getattr(function, "__self__", None), "__name__", name)
            name = name.strip("_")
            path = "/".join(filter(None, (*self._scopes[-1:], name)))
            self._node(path, name, [args, kwargs], output, {})
        return output

    def _node(self, path: str, kind: str, inputs: Any, outputs: Any, told: Mapping[str, str | int]) -> None:
        """Adds a node under a name of its own; what it returns is its from now on."""
        sources = dict.fromkeys(self._source(tensor) for tensor in _tensors(inputs))
        name, number = path, 0
        while name in self._names:
            number += 1
            name = f"{path}_{number}"
        self._names.add(name)
        node = self._graph.node.add(name=name, op=kind, input=[source for source in sources if source])
        for key, value in told.items():
            if isinstance(value, int):
                node.attr[key].i = value
            else:
                node.attr[key].s = value.encode()
        for tensor in _tensors(outputs):
            shape = node.attr["_output_shapes"].list.shape.add()
            for place, size in enumerate(tensor.shape):
                any_size = place == 0 and size == self._batch and kind != "Parameter"
                shape.dim.add(size=-1 if any_size else size)
            self._makers[id(tensor)] = name
            self._alive.append(tensor)

    def _source(self, tensor: Tensor) -> str:
        """The node that made a tensor; a parameter becomes one where it is used outside of a layer."""
        if id(tensor) in self._makers or id(tensor) not in self._own:
            return self._makers.get(id(tensor), "")
        self._node(self._own[id(tensor)], "Parameter", [], [tensor], {"parameters": tensor.numel()})
        return self._makers[id(tensor)]

    def serialised(self) -> bytes:
        """What was seen so far, as a GraphDef."""
        return bytes(self._graph.SerializeToString(deterministic=True))


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
