"""What a process knows of the others that train the same run: from torchrun's variables, or alone.

Nothing here imports torch: a command line that only answers needs none. `ranks.py` is the world of several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sweepwise.errors import Failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sweepwise.distributed.lockstep import OutOfStep


Result = TypeVar("Result")


class World(Protocol):
    """The processes that train one run together. Rank 0 leads.

    What all must call alike, in the same order, is marked 'together'. Each such exchange has a label that
    says what it is for: if one process makes another exchange than the others, all end with both labels.

    Attributes:
        rank: of this process.
        size: of the world.
        leads: whether this is rank 0.
    """

    @property
    def rank(self) -> int:
        """See the class."""
        ...

    @property
    def size(self) -> int:
        """See the class."""
        ...

    @property
    def leads(self) -> bool:
        """See the class."""
        ...

    def enter(self, label: str) -> None:
        """Together: what follows is exchanged by torch itself."""
        ...

    def on_all(self, label: str, do: Callable[[], Result]) -> Result:
        """Together: does something in every process. If it fails in one, it fails in all."""
        ...

    def on_rank_0(self, label: str, do: Callable[[], Result], told: Callable[[Result], Any] = ...) -> Any:
        """Together: does something in rank 0 alone. If it fails, it fails in all.

        Args:
            label: what for.
            do: what.
            told: of its result, what the others get instead.
        """
        ...

    def max(self, label: str, numbers: Sequence[int]) -> list[int]:
        """Together: the greatest of each number, of at most 3, over the processes."""
        ...

    def sum(self, label: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Together: the sum over the processes, in the order of their ranks."""
        ...

    def sum_scalars(self, label: str, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Together: the sum of scalars over the processes."""
        ...

    def steps(self, label: str, steps: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """Together: of each step (loss, outputs, targets) of the whole batch, in rank 0."""
        ...

    def shard(self, rows: Tensor) -> Tensor:
        """This process's part of what belongs to all, such as a batch; it may be empty."""
        ...

    def padded_shard(self, rows: Tensor) -> Tensor:
        """`shard`, but never empty: the first row stands for none."""
        ...

    def all_gather(self, label: str, own: Tensor, rows: int) -> Tensor:
        """Together: all rows, of which every process has its share."""
        ...

    def gather(self, label: str, own: Tensor) -> Sequence[Tensor]:
        """Together: what each process has, of one shape, on the CPU of rank 0; elsewhere nothing."""
        ...

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """Together: rank 0's values for all."""
        ...

    def lost(self, error: BaseException) -> PeerLost | PeerFailed | OutOfStep | None:
        """What to raise instead of an error that only says that another process has gone."""
        ...


class SingleProcess:
    """The world of one process: nothing is to be agreed on."""

    rank, size, leads = 0, 1, True

    def enter(self, label: str) -> None:
        """Nobody else is anywhere."""

    def on_all(self, label: str, do: Callable[[], Result]) -> Result:
        """Does it."""
        return do()

    def on_rank_0(
        self, label: str, do: Callable[[], Result], told: Callable[[Result], Any] = lambda result: None
    ) -> Result:
        """Does it."""
        return do()

    def max(self, label: str, numbers: Sequence[int]) -> list[int]:
        """The numbers."""
        return list(numbers)

    def sum(self, label: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values."""
        return values

    def sum_scalars(self, label: str, numbers: Sequence[Tensor]) -> list[Tensor]:
        """The numbers."""
        return list(numbers)

    def steps(self, label: str, steps: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """The steps."""
        return steps

    def shard(self, rows: Tensor) -> Tensor:
        """All rows."""
        return rows

    def padded_shard(self, rows: Tensor) -> Tensor:
        """All rows."""
        return rows

    def all_gather(self, label: str, own: Tensor, rows: int) -> Tensor:
        """All rows."""
        return own

    def gather(self, label: str, own: Tensor) -> Sequence[Tensor]:
        """What it has."""
        return [own.cpu()]

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """Nothing."""

    def lost(self, error: BaseException) -> None:
        """Nobody can be lost."""


SINGLE_PROCESS = SingleProcess()


GONE = (
    "another process of this training has gone: killed, or its own output says why; the same command goes on "
    "from the last checkpoint"
)


class PeerLost(Failure):
    """Another process of this training has gone."""

    status = "interrupted"


class PeerFailed(SystemExit):
    """This process ends as another one does, which says why.

    Args:
        code: the exit code.
        why: what it says, if that is known.

    Attributes:
        status: what that makes of the run.
    """

    def __init__(self, code: int | None, why: str = "") -> None:
        super().__init__(code)
        self.status = "failed" if why else PeerLost.status
        self._why = why or GONE

    def __str__(self) -> str:
        return self._why
