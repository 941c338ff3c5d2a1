"""What the loop expects of those that watch and save, and the objects that do nothing."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from sweepwise.learner import Watch, Watched

Weights = Mapping[str, Tensor]


class NoMonitor:
    """Writes nothing."""

    def watch(self, step: int) -> Watch:
        """Nothing."""
        return Watch.NOTHING

    def step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Nothing."""

    def epoch(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def begin(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        """Nothing."""

    def mark(self) -> dict[str, int]:
        """No files."""
        return {}

    def final(
        self, step: int, part: str, values: Mapping[str, Any], outputs: Tensor, targets: Tensor
    ) -> None:
        """Nothing."""

    def close(self, status: str) -> None:
        """Nothing."""


class NoCheckpoints:
    """Keeps nothing on disk."""

    def due(self, step: int, epochs: int = 0) -> bool:
        """Never."""
        return False

    def save(self, step: int, *what: object) -> None:
        """Nothing."""

    def finish(self, step: int, *what: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Monitor(Protocol):
    """Watches one run; what it writes changes nothing in the training."""

    def watch(self, step: int) -> Watch:
        """How much it wants to see of a step."""
        ...

    def step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Takes what was seen of a step."""
        ...

    def epoch(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Takes the metrics of an epoch, by tag."""
        ...

    def mark(self) -> dict[str, int]:
        """Brings what was written to the disk; returns how many bytes each file has, by name."""
        ...

    def final(
        self, step: int, part: str, values: Mapping[str, Any], outputs: Tensor, targets: Tensor
    ) -> None:
        """Takes what the best weights make of a part, 'val' or 'test': once, at the end.

        Args:
            step: that the best weights come from; -1: there are none, these are the last ones.
            part: its name.
            values: all that the task measures.
            outputs: (examples, outputs).
            targets: (examples,).
        """
        ...


class Checkpoints(Protocol):
    """Keeps on disk what one run needs to go on; see `sweepwise.checkpoint.Checkpoints`."""

    def due(self, step: int, epochs: int = 0) -> bool:
        """Whether it is time for a checkpoint, after so many steps; and epochs, if one has ended."""
        ...

    def save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Makes a checkpoint: present and best weights after so many steps, and everything else."""
        ...

    def finish(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Makes the last one; with an empty state if the run cannot go on."""
        ...


class Progress(Protocol):
    """Shows the person how far the training is."""

    def advance(self, step: int) -> None:
        """Every few steps."""
        ...

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """After every epoch."""
        ...
