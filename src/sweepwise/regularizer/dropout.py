"""Dropout."""

from collections.abc import Sequence
from typing import Annotated

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.config.ranges import Range
from sweepwise.regularizer.base import Regularizer


class Dropout(Regularizer):
    """Sets the rate of the model's dropout layers: while training, a unit is zero with probability p.

    The other units are scaled by 1 / (1 - p), so the mean stays; in evaluation nothing is dropped. Which
    units are dropped depends only on (seed.noise, step).

    Args:
        p: probability in [0, 1).

    Source: Srivastava et al., Dropout, JMLR 15 (2014).

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.0))
        >>> Dropout(p=0.25).prepare_(model, features=(1,), classes=2)
        >>> model[1].p
        0.25
    """

    strength = "_p"

    def __init__(self, *, p: Annotated[float, Range(0, 1, open_high=True)] = 0.5) -> None:
        self._p = p

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Sets the rate of all dropout layers.

        Raises:
            ValueError: the model has no dropout layer, or one whose rate the model itself has set.
        """
        layers = [module for module in model.modules() if isinstance(module, _DropoutNd)]
        if not layers:
            raise ValueError("regularizer=dropout: the model has no dropout layer to set; use another model")
        for layer in layers:
            if layer.p not in (0, self._p):
                raise ValueError(
                    f"regularizer.dropout.p={self._p:g}: the model already has the rate {layer.p:g}; "
                    "set only one of the two"
                )
            layer.p = self._p
