"""The protocols of monitor, checkpoints and progress, and a monitor and checkpoints that do nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from sweepwise.learner import Watch, Watched

Weights = Mapping[str, Any]  # what a model is, from `Learner.model_state_dict`


class NoMonitor:
    """A monitor that watches and writes nothing."""

    def watch(self, step: int) -> Watch:
        """It wants nothing."""
        return Watch.NOTHING

    def step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Does nothing."""

    def epoch(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def begin(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        """Does nothing."""

    def mark(self) -> dict[str, int]:
        """There are no files."""
        return {}

    def final(
        self, step: int, part: str, values: Mapping[str, Any], outputs: Tensor, targets: Tensor
    ) -> None:
        """Does nothing."""

    def close(self, status: str) -> list[Path]:
        """There are no files."""
        return []


class NoCheckpoints:
    """Checkpoints that save nothing."""

    def due(self, step: int, epochs: int = 0) -> bool:
        """Never."""
        return False

    def save(self, step: int, *what: object) -> None:
        """Does nothing."""

    def finish(self, step: int, *what: object) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Monitor(Protocol):
    """Watches one run; it never changes the training."""

    def watch(self, step: int) -> Watch:
        """How much of a step it wants."""
        ...

    def step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Logs a watched step."""
        ...

    def epoch(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Logs the metrics of an epoch, by tag."""
        ...

    def mark(self) -> dict[str, int]:
        """Writes everything to its files; returns the size of each in bytes, by name."""
        ...

    def final(
        self, step: int, part: str, values: Mapping[str, Any], outputs: Tensor, targets: Tensor
    ) -> None:
        """Logs the results of the best weights on a part, once, at the end.

        Args:
            step: after which the best weights were kept; -1: there are none, and these are the last ones.
            part: 'val' or 'test'.
            values: all metrics of the task.
            outputs: (examples, outputs).
            targets: (examples,).
        """
        ...


class Checkpoints(Protocol):
    """Saves what one run needs to resume; see `sweepwise.checkpoint.Checkpoints`."""

    def due(self, step: int, epochs: int = 0) -> bool:
        """Whether to save after `step` steps; and after `epochs` epochs, if one has just ended."""
        ...

    def save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Saves a checkpoint after `step` steps: current and best weights, and all other state."""
        ...

    def finish(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Writes the last checkpoint aside; with an empty state if the run ends for good."""
        ...


class Progress(Protocol):
    """Shows the user how far the training is."""

    def advance(self, step: int) -> None:
        """Called every few steps."""
        ...

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """Called after every epoch."""
        ...
