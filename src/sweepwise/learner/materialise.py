"""Models whose layers have no parameters yet, or none that can be moved."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sweepwise.errors import reason


@torch.no_grad()
def materialise_(model: nn.Module, examples: Tensor) -> None:
    """Gives the lazy layers of a model (`torch.nn.LazyLinear` and others) their parameters, by a first pass.

    Args:
        model: in any mode; it is in training mode afterwards.
        examples: (examples, *features).

    Raises:
        ValueError: the pass fails or leaves parameters without values, or a layer is one of torch.jit.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            layer = f"its layer {name}" if name else "it"
            raise ValueError(
                f"model: {layer} is made by torch.jit, whose parameters can be neither initialised nor moved "
                "into a row; use the plain module, and trainer.compile=true for speed"
            )
    if not _lazy(model):
        return
    model.eval()  # so that norms keep their statistics
    try:
        model(examples[:2].clone())
    except Exception as error:
        raise ValueError(
            f"model: its lazy layers get their parameters from a first pass, which raises {reason(error)}"
        ) from error
    model.train()
    if names := _lazy(model):
        raise ValueError(
            f"model: {', '.join(names)} have no values after a pass in evaluation mode; give lazy layers "
            "their number of inputs instead"
        )


def _lazy(model: nn.Module) -> list[str]:
    """The names of parameters and buffers that have no values yet."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, tensor in tensors if is_lazy(tensor)]
