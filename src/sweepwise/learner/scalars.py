"""The numbers that are logged of a watched step, for all runs at once, with one copy from the device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Scalars(NamedTuple):
    """The numbers of one run; see `Watched`.

    Attributes:
        loss: of the batch, without penalties.
        penalty: what the regularizers add to the loss.
        gradient_norm: of the whole gradient, before clipping.
        clipped_norm: after clipping; None if no regularizer clips.
        update_ratio: |update| / |weights| of each weight tensor.
    """

    loss: float
    penalty: float
    gradient_norm: float
    clipped_norm: float | None
    update_ratio: dict[str, float]


def scalars(
    losses: Tensor,
    penalties: Tensor,
    norms: Tensor,
    unclipped: Sequence[Tensor | None],
    names: Sequence[str],
) -> list[Scalars]:
    """The numbers of each run.

    Args:
        losses: (runs,).
        penalties: (runs,).
        norms: (tensors, runs): of each parameter's gradient after clipping, of each weight tensor before the
            step, of the update of each weight tensor.
        unclipped: norm of each run's gradient before clipping, a scalar; None if no regularizer clips.
        names: of the weight tensors.
    """
    clipping = [norm for norm in unclipped if norm is not None]
    numbers = torch.cat([losses, penalties, norms.flatten(), *(norm.view(1) for norm in clipping)]).tolist()
    runs, rest = len(losses), iter(numbers[len(numbers) - len(clipping) :])
    rows = [numbers[i * runs : (i + 1) * runs] for i in range(2 + len(norms))]
    first = len(norms) - 2 * len(names)  # of the norms of the weights
    of_runs = []
    for run, (loss, penalty, *sizes) in enumerate(zip(*rows, strict=True)):
        norm = math.hypot(*sizes[:first])
        weights, updates = sizes[first : first + len(names)], sizes[first + len(names) :]
        ratios = {name: _ratio(*pair) for name, *pair in zip(names, updates, weights, strict=True)}
        clips = unclipped[run] is not None
        of_runs.append(Scalars(loss, penalty, next(rest) if clips else norm, norm if clips else None, ratios))
    return of_runs


def _ratio(update: float, weights: float) -> float:
    if weights:
        return update / weights
    return math.inf if update else 0.0
