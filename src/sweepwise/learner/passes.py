"""The forward and backward pass of a batch: as a whole, or in pieces whose gradients add up."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable

from sweepwise.learner.precision import Model

# With several processes: a pass (model's pass, x) whose backward pass adds up the gradients of all, and the
# context for each piece of a batch but the last, in which they are not added up yet.
JointPass = tuple[Callable[..., Tensor], Callable[[], AbstractContextManager[Any]]]
Loss = Callable[[Tensor, Tensor], Tensor]
Passes = Callable[[Model, Tensor, Tensor], tuple[Tensor, Tensor]]


def passes(
    accumulate: int,
    loss: Loss,
    scale: Callable[[Tensor], Tensor],
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
    most_pieces: Callable[[Tensor], int] = len,
) -> Passes:
    """Returns the pass of a batch: (model, x, targets) -> loss and outputs, with gradients in the parameters.

    Args:
        accumulate: number of pieces, >= 1.
        loss: the mean over the examples of (outputs, targets).
        scale: turns the loss into what is differentiated.
        no_sync: the context of each piece but the last, after which the gradients are complete.
        most_pieces: the largest number of pieces for x: its examples, or those of another process if that has
            more, as all need the same number of pieces; a piece without examples has weight 0.
    """
    if accumulate > 1:
        return partial(_in_pieces, accumulate, loss, scale, no_sync, most_pieces)
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
    no_sync: Callable[[], AbstractContextManager[Any]],
    most_pieces: Callable[[Tensor], int],
    model: Model,
    x: Tensor,
    targets: Tensor,
) -> tuple[Tensor, Tensor]:
    """The pass in pieces; each weighs by its examples, so the sum is the mean over the batch."""
    objectives, outputs = [], []
    pieces = min(accumulate, most_pieces(x))
    parts = list(zip(x.tensor_split(pieces), targets.tensor_split(pieces), strict=True))
    for left, (part, wanted) in zip(reversed(range(pieces)), parts, strict=True):
        with no_sync() if left else nullcontext():
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
    """`objective.backward()` for a scalar, without torch's checks at every call.

    Those are a tenth of the backward pass of a small network; tests compare with torch's own.
    """
    one = _one(objective.dtype, objective.device)
    Variable._execution_engine.run_backward(
        (objective,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def refuse_pieces(accumulate: int, batch_size: int, examples: int) -> None:
    """Refuses more pieces than a full batch has examples.

    Args:
        accumulate: pieces of each batch; a smaller last batch has at most one for each example.
        batch_size: examples of a batch.
        examples: number of training examples.

    Raises:
        ValueError: there are more.
    """
    most = min(batch_size, examples)
    if accumulate > max(1, most):
        raise ValueError(f"trainer.accumulate={accumulate}: must be at most {most}, the examples of a batch")
