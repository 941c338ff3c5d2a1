"""Checks that a model's pass depends only on tensors, and changes only its buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sweepwise.learner.fused.module_state import ModuleState


class Unfusable(Exception):
    """Raised for runs that cannot be trained as one program; the text says why."""


def check_modes(model: nn.Module) -> None:
    """Refuses a model that keeps state when its mode changes, as the comparison changes it, too."""
    before = ModuleState(model.train())
    model.eval()
    if changed := before.changed(model.train()):
        raise Unfusable(f"train() or eval() changes {changed}")


def checked_outputs(model: nn.Module, examples: Tensor) -> Tensor:
    """A model's outputs.

    Raises:
        Unfusable: its pass depends on values of tensors, keeps state, or changes parameters.
    """
    before = ModuleState(model)
    parameters = [
        (name, own, (own._version, own.data_ptr()), own.detach().clone())
        for name, own in model.named_parameters()
    ]
    with _RefuseDecisions(), _RefuseReads():
        outputs: Tensor = model(examples)
    if changed := before.changed(model):
        raise Unfusable(f"its forward pass changes {changed}")
    for name, own, state, copy in parameters:
        if (own._version, own.data_ptr()) != state or not torch.equal(own, copy):
            raise Unfusable(f"its forward pass changes its parameter {name}")
    return outputs


class _RefuseDecisions(TorchDispatchMode):
    """Refuses operations that read values to decide by them, as all runs would share one decision."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes 1.6 s

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            raise Unfusable("its forward pass reads values of tensors")
        return func(*args, **(kwargs or {}))


class _RefuseReads(TorchFunctionMode):
    """Refuses the other ways to read values, which are no operations of torch's dispatcher."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr):
            raise Unfusable("its forward pass reads values of tensors")
        return func(*args, **(kwargs or {}))
