"""The numbers that are logged of a watched step, for all runs at once and with one transfer."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Scalars(NamedTuple):
    """Of one run; see `Watched`.

    Attributes:
        loss: of the batch, without penalties.
        penalty: that the regularizers add.
        gradient_norm: of the whole gradient, before clipping.
        clipped_norm: after clipping; None if nobody clips.
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
    """What a step says of each run.

    Args:
        losses: (runs,).
        penalties: (runs,).
        norms: (tensors, runs): of each parameter's gradient, after clipping; of each weight tensor before the
            step; of what the step has added to each weight tensor.
        unclipped: of each run the norm of its gradient before clipping, a scalar; None if nobody clips.
        names: of the weight tensors.
    """
    clipping = [norm for norm in unclipped if norm is not None]
    found = torch.cat([losses, penalties, norms.flatten(), *(norm.view(1) for norm in clipping)]).tolist()
    runs, rest = len(losses), iter(found[len(found) - len(clipping) :])
    rows = [found[i * runs : (i + 1) * runs] for i in range(2 + len(norms))]
    first = len(norms) - 2 * len(names)  # of the weights' own
    told = []
    for run, (loss, penalty, *sizes) in enumerate(zip(*rows, strict=True)):
        norm = math.hypot(*sizes[:first])
        weights, updates = sizes[first : first + len(names)], sizes[first + len(names) :]
        ratios = {name: _ratio(*pair) for name, *pair in zip(names, updates, weights, strict=True)}
        clips = unclipped[run] is not None
        told.append(Scalars(loss, penalty, next(rest) if clips else norm, norm if clips else None, ratios))
    return told


def _ratio(update: float, weights: float) -> float:
    if weights:
        return update / weights
    return math.inf if update else 0.0
