"""A run's weights on disk."""

import time
from pathlib import Path

from safetensors.torch import save as to_bytes
from torch import Tensor

from sweepwise.record import write_aside


class Checkpoints:
    """A run's weights as safetensors: `checkpoints/best/weights.safetensors`, and `last` beside it.

    While the run trains, the best weights are written at most every `seconds`: they are kept in memory, so
    nothing but a kill can lose them, and then no more than that. Writing at every improvement would cost
    half the time of a small network.

    Args:
        folder: the run's.
        seconds: between two writes during the training.
    """

    def __init__(self, folder: Path, seconds: float = 10.0) -> None:
        self._folder = folder / "checkpoints"
        self._seconds = seconds
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether the time between two writes has passed."""
        return time.monotonic() - self._written >= self._seconds

    def save(self, name: str, state: dict[str, Tensor]) -> None:
        """Writes one set of weights.

        Args:
            name: 'best' or 'last'.
            state: tensors on the CPU by name.
        """
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        write_aside(folder / "weights.safetensors", to_bytes(state))
        self._written = time.monotonic()
