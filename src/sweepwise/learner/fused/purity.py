"""Whether a model's pass depends on tensors alone, and changes no more than its buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sweepwise.learner.fused.module_state import Remembered


class Unfusable(Exception):
    """Runs that cannot be trained as one program; the text says why."""


def check_modes(model: nn.Module) -> None:
    """Refuses a model that remembers how often its mode was changed; a trial does that, too."""
    remembered = Remembered(model.train())
    model.eval()
    if changed := remembered.changed(model.train()):
        raise Unfusable(f"a change of its mode changes {changed}")


def watched(model: nn.Module, examples: Tensor) -> Tensor:
    """What a model puts out.

    Raises:
        Unfusable: its pass looks at values, remembers something, or changes parameters.
    """
    remembered = Remembered(model)
    before = [(name, own, own._version, own.detach().clone()) for name, own in model.named_parameters()]
    with _NoLooks(), _NoReads():
        outputs: Tensor = model(examples)
    if changed := remembered.changed(model):
        raise Unfusable(f"its forward pass changes {changed}")
    for name, own, version, kept in before:
        if own._version != version or not torch.equal(own, kept):
            raise Unfusable(f"its forward pass changes its parameter {name}")
    return outputs


class _NoLooks(TorchDispatchMode):
    """Refuses what a pass needs to decide by values: those of all runs would decide together."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes 1.6 s

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            raise Unfusable("its forward pass looks at values")
        return func(*args, **(kwargs or {}))


class _NoReads(TorchFunctionMode):
    """Refuses the other ways to values, which are no operations of torch's."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr):
            raise Unfusable("its forward pass looks at values")
        return func(*args, **(kwargs or {}))
