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
    """Compiles a model's forward pass; that happens at its first call with each size of batch.

    It draws what the plain model draws (`fallback_random`), so dropout takes the same units. What has been
    compiled in this process before does not matter: sizes are never made variable, and caches are cleared.

    Args:
        model: on its device.
        device: where it computes.

    Raises:
        UsageError: there is no compiler for the device.
    """
    if device.type == "cpu":
        compiler = (os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")).split()[0]
        missing = None if shutil.which(compiler) else f"a C++ compiler, and {compiler} is not there (CXX)"
    else:
        missing = None if find_spec("triton") else "the package triton"
    if missing:
        raise UsageError([f"trainer.compile=true: needs {missing}; install it, or leave it false"])
    from torch._dynamo.exc import TorchDynamoException  # 2 s, for those who compile

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
                f"trainer.compile=true: the model cannot be compiled here: {reason}"
            ) from error

    return checked
