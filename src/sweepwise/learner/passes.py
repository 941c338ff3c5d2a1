"""The forward and backward pass of a batch: at once, or in pieces that add their gradients up."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.modules.batchnorm import _BatchNorm

from sweepwise.learner.precision import Model

# Of several processes: a pass (model's pass, x) with the gradients of all, and what is around each piece of a
# batch but the last.
Joint = tuple[Callable[..., Tensor], Callable[[], AbstractContextManager[Any]]]


Loss = Callable[[Tensor, Tensor], Tensor]
Passes = Callable[[Model, Tensor, Tensor], tuple[Tensor, Tensor]]


def passes(
    accumulate: int,
    loss: Loss,
    scale: Callable[[Tensor], Tensor],
    unfinished: Callable[[], AbstractContextManager[Any]] = nullcontext,
    most: Callable[[Tensor], int] = len,
) -> Passes:
    """How a batch is passed: (model, x, targets) -> its loss and outputs; gradients stay in the parameters.

    Args:
        accumulate: pieces, >= 1.
        loss: the mean over the examples of (outputs, targets).
        scale: what to differentiate instead of a loss.
        unfinished: around each piece but the last, after which the gradients are complete.
        most: of x, pieces that it can have: its examples, or those of another process if that has more, for
            all must pass as many; a piece without examples is passed with weight 0.
    """
    if accumulate > 1:
        return partial(_in_pieces, accumulate, loss, scale, unfinished, most)
    return partial(_whole, loss, scale)


def _whole(
    loss: Loss, scale: Callable[[Tensor], Tensor], model: Model, x: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = model(x)
    objective = loss(outputs, targets)
    differentiate(scale(objective))
    return objective, outputs


def _in_pieces(
    accumulate: int,
    loss: Loss,
    scale: Callable[[Tensor], Tensor],
    unfinished: Callable[[], AbstractContextManager[Any]],
    most: Callable[[Tensor], int],
    model: Model,
    x: Tensor,
    targets: Tensor,
) -> tuple[Tensor, Tensor]:
    """Each piece weighs what its examples weigh, so the sum is the mean over the batch."""
    objectives, outputs = [], []
    pieces = min(accumulate, most(x))
    parts = list(zip(x.tensor_split(pieces), targets.tensor_split(pieces), strict=True))
    for left, (part, wanted) in zip(reversed(range(pieces)), parts, strict=True):
        with unfinished() if left else nullcontext():
            output = model(part if len(part) else x[:1])
            objective = loss(output, wanted if len(part) else targets[:1]) * (len(part) / len(x))
            differentiate(scale(objective))
        objectives.append(objective.detach())
        outputs.append(output.detach()[: len(part)])
    return torch.stack(objectives).sum(), torch.cat(outputs)


@functools.cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones((), dtype=dtype, device=device)


def differentiate(objective: Tensor) -> None:
    """`objective.backward()` for a scalar, without what torch checks and makes at every call.

    That is a tenth of the backward pass of a small network; tests compare with torch's own.
    """
    one = _one(objective.dtype, objective.device)
    Variable._execution_engine.run_backward(
        (objective,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def refuse_pieces(model: nn.Module, accumulate: int, batch_size: int, examples: int) -> None:
    """Refuses pieces that are too small.

    Args:
        model: batch norm needs two examples a piece.
        accumulate: pieces a batch; a smaller last batch has no more of them than examples.
        batch_size: examples.
        examples: of the training part.

    Raises:
        ValueError: more pieces than a full batch has examples, or one example for a batch norm.
    """
    key = f"trainer.accumulate={accumulate}"
    if accumulate > 1 and accumulate > min(batch_size, examples):
        raise ValueError(f"{key}: must be at most the {min(batch_size, examples)} examples of a batch")
    normed = any(isinstance(module, _BatchNorm) for module in model.modules())
    last = examples % batch_size or batch_size
    least = min(batch_size, examples, last)
    if accumulate > 1 and normed and least < 2 * accumulate:
        raise ValueError(
            f"{key}: leaves 1 example alone in a batch of {least}, which batch norm cannot normalise; "
            f"use at most {max(1, least // 2)}"
        )
