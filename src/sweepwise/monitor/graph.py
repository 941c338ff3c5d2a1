# mypy: disable-error-code="import-untyped"
"""Records the structure of a model in one forward pass, for TensorBoard's Graphs tab.

A layer (a module without children) is one node. Whatever a larger module computes itself, such as the sum of
a residual connection, is one node per torch function. Names are paths, so TensorBoard draws a module that has
children as a box; edges are tensors. torch.jit and torch.fx are not used: they take seconds to import, and
reject models that run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sweepwise.learner.without_trace import trial_copy


def graph_definition(model: nn.Module, x: Tensor) -> bytes:
    """A serialised GraphDef of a model, which stays as it is, with all random generators.

    Args:
        model: any model.
        x: (batch, *features), on the model's device.
    """
    with trial_copy(model) as own:
        own.eval()
        try:
            return _traced(own, x, with_gradients=False)
        except RuntimeError:  # it takes a gradient in its pass
            return _traced(own, x, with_gradients=True)


def _traced(model: nn.Module, x: Tensor, *, with_gradients: bool) -> bytes:
    trace = _Trace(model)
    with torch.set_grad_enabled(with_gradients), ExitStack() as removals:
        for name, module in model.named_modules():
            for handle in trace.hooks(name.replace(".", "/"), module):
                removals.callback(handle.remove)
        trace.begin(x)
        with trace:
            model(x)
    return trace.serialised()


class _Trace(TorchFunctionMode):
    """Records each layer, and each torch function that is called outside of layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        self._graph = GraphDef()
        self._names: set[str] = set()
        self._producers: dict[int, str] = {}  # by the id of a tensor, the node that made it
        self._alive: list[Tensor] = []  # keeps all these tensors, so that no id is used twice
        self._scopes: list[str] = []
        self._depth = 0  # of nested layer calls
        self._batch = 0
        self._paths = {id(p): name.replace(".", "/") for name, p in model.named_parameters()}
        self._paths |= {id(b): name.replace(".", "/") for name, b in model.named_buffers()}

    def begin(self, x: Tensor) -> None:
        """Adds the node of the input batch."""
        self._batch = len(x)
        self._node("input", "Input", [], [x], {})

    def hooks(self, path: str, module: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Registers hooks that note when a module's forward pass begins and ends."""
        if path and not any(True for _ in module.children()):
            yield module.register_forward_pre_hook(self._enter_layer)
            yield module.register_forward_hook(partial(self._leave_layer, path), with_kwargs=True)
        else:
            yield module.register_forward_pre_hook(lambda *_: self._scopes.append(path))
            yield module.register_forward_hook(lambda *_: self._leave_scope())

    def _leave_scope(self) -> None:
        self._scopes.pop()

    def _enter_layer(self, *_: object) -> None:
        self._depth += 1

    def _leave_layer(self, path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._depth -= 1
        if not self._depth:
            attributes: dict[str, str | int] = {
                "module": repr(module),
                "parameters": sum(p.numel() for p in module.parameters()),
            }
            self._node(path, type(module).__name__, [args, kwargs], output, attributes)

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Calls a torch function, and adds a node if it returns tensors."""
        output = function(*args, **(kwargs or {}))
        if not self._depth and any(True for _ in _tensors(output)):
            name = getattr(function, "__name__", "function")
            if name == "__get__":  # of a property, such as Tensor.T
                name = getattr(getattr(function, "__self__", None), "__name__", name)
            name = name.strip("_")
            path = "/".join(filter(None, (*self._scopes[-1:], name)))
            self._node(path, name, [args, kwargs], output, {})
        return output

    def _node(
        self, path: str, kind: str, inputs: Any, outputs: Any, attributes: Mapping[str, str | int]
    ) -> None:
        """Adds a node under a unique name, as the producer of its outputs."""
        sources = dict.fromkeys(self._source(tensor) for tensor in _tensors(inputs))
        name, number = path, 0
        while name in self._names:
            number += 1
            name = f"{path}_{number}"
        self._names.add(name)
        node = self._graph.node.add(name=name, op=kind, input=[source for source in sources if source])
        for key, value in attributes.items():
            if isinstance(value, int):
                node.attr[key].i = value
            else:
                node.attr[key].s = value.encode()
        for tensor in _tensors(outputs):
            shape = node.attr["_output_shapes"].list.shape.add()
            for axis, size in enumerate(tensor.shape):
                any_size = axis == 0 and size == self._batch and kind != "Parameter"
                shape.dim.add(size=-1 if any_size else size)
            self._producers[id(tensor)] = name
            self._alive.append(tensor)

    def _source(self, tensor: Tensor) -> str:
        """The node that made a tensor; a parameter that is used outside of a layer becomes a node."""
        if id(tensor) in self._producers or id(tensor) not in self._paths:
            return self._producers.get(id(tensor), "")
        self._node(self._paths[id(tensor)], "Parameter", [], [tensor], {"parameters": tensor.numel()})
        return self._producers[id(tensor)]

    def serialised(self) -> bytes:
        """The recorded graph as a serialised GraphDef."""
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
