"""The protocol of a task, and helpers for its sums over examples."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Means = NDArray[np.float64]
# Outputs (runs, examples, outputs), and targets (examples,), the same for all runs.
Pieces = Iterable[tuple[Tensor, Tensor]]


class Task(Protocol):
    """Loss and metrics of one kind of target."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of those computed during training, the loss first."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch of one run, a scalar.

        Args:
            outputs: (batch, outputs).
            targets: (batch,), or as `soft` gives them.
        """
        ...

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch of each run, (runs,).

        Args:
            outputs: (runs, batch, outputs).
            targets: (runs, batch), or as `soft` gives them.
        """
        ...

    def losses_and_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`losses`, and their derivative with respect to the outputs, (runs, batch, outputs)."""
        ...

    def soft(self, targets: Tensor) -> Tensor:
        """Targets that can be mixed: (batch, classes) probabilities, or real targets as they are."""
        ...

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The terms of the metrics besides the loss, summed over the examples in float64.

        Args:
            outputs: (runs, examples, outputs).
            targets: (runs, examples).

        Returns:
            (runs, terms).
        """
        ...

    def finish(self, loss: Means, means: Means) -> dict[str, Means]:
        """The metrics, each (runs,), from the mean loss (runs,) and the means of the terms, (runs, terms)."""
        ...

    def measure(self, pieces: Pieces) -> list[dict[str, Any]]:
        """All metrics of each run, not only the chosen ones: numbers and lists, by name."""
        ...


def totals(
    loss: Callable[[Tensor, Tensor], Tensor], sums: Callable[[Tensor, Tensor], Tensor], pieces: Pieces
) -> tuple[Means, Means, int]:
    """Sums over all examples of the loss, (runs,), and the terms, (runs, terms); the number of examples."""
    losses: Means | float = 0.0
    terms: Means | float = 0.0
    examples = 0
    for outputs, targets in pieces:
        losses = losses + np.array([loss(own, targets).item() * len(targets) for own in outputs])
        terms = terms + sums(outputs, targets.expand(len(outputs), -1)).numpy(force=True)
        examples += len(targets)
    return np.asarray(losses), np.asarray(terms), examples


def rows(values: Mapping[str, Means]) -> list[dict[str, Any]]:
    """Metrics over runs, as plain numbers for each run."""
    return [dict(zip(values, row, strict=True)) for row in np.stack(list(values.values()), 1).tolist()]


def chosen(names: Sequence[str]) -> list[str]:
    """The chosen metrics, each once, without the loss, which is always computed."""
    return [name for name in dict.fromkeys(names) if name != "loss"]
