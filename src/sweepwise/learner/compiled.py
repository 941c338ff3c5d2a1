"""A forward pass, and with it the backward pass, compiled by torch.compile."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from sweepwise.errors import UsageError


def compiled(model: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Compiles a model's forward pass, at the first call with each batch size.

    It draws the same random numbers as the plain model (`fallback_random`), so dropout drops the same units.
    Earlier compilations in this process have no influence: batch sizes stay fixed, and caches are cleared.

    Args:
        model: on its device.
        device: of the model.

    Raises:
        UsageError: there is no compiler for the device.
    """
    if device.type == "cpu":
        compiler = (os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")).split()[0]
        missing = (
            None
            if shutil.which(compiler)
            else f"a C++ compiler, and {compiler} is not installed ($CXX names another one)"
        )
    else:
        missing = None if find_spec("triton") else "the package triton"
    if missing:
        raise UsageError([f"trainer.compile=true: needs {missing}; install it, or use trainer.compile=false"])
    from torch._dynamo.exc import TorchDynamoException  # importing it takes 2 s

    torch.compiler.reset()
    forward: Callable[[Tensor], Tensor] = torch.compile(
        model, dynamic=False, options={"fallback_random": True}
    )

    def checked(x: Tensor) -> Tensor:
        try:
            return forward(x)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise RuntimeError(
                f"trainer.compile=true: torch cannot compile this model ({reason}); use trainer.compile=false"
            ) from error

    return checked
