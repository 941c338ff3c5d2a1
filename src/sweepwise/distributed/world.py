"""What a process can do with the others that train the same run; and the world of a single process.

Nothing here imports torch, so that commands that train nothing need none. `ranks.py` has the world of
several.
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

    All processes must call the methods marked 'Together' in the same order. Each of these exchanges has a
    label that says what it is for: if one process makes another exchange than the others, all end with an
    error that names both labels.

    Attributes:
        rank: this process's number.
        size: how many processes there are.
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
        """Together: announces that torch itself exchanges data next."""
        ...

    def on_all(self, label: str, do: Callable[[], Result]) -> Result:
        """Together: calls a function in every process. If it fails in one, it fails in all."""
        ...

    def on_rank_0(
        self, label: str, do: Callable[[], Result], to_others: Callable[[Result], Any] = ...
    ) -> Any:
        """Together: calls a function in rank 0 only. If it fails, it fails in all.

        Args:
            label: says what for.
            do: the function.
            to_others: makes of its result what is sent to the other ranks.

        Returns:
            In rank 0 the result, in the others what they were sent.
        """
        ...

    def max(self, label: str, numbers: Sequence[int]) -> list[int]:
        """Together: the maximum of each number, of at most 3, over the processes."""
        ...

    def sum(self, label: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Together: the sum over the processes, in the order of their ranks."""
        ...

    def sum_scalars(self, label: str, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Together: the sum of scalars over the processes."""
        ...

    def steps(self, label: str, steps: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """Together: in rank 0 (loss, outputs, targets) of the whole batch for each step."""
        ...

    def shard(self, rows: Tensor) -> Tensor:
        """This process's part of rows that all have, such as a batch; it may be empty."""
        ...

    def padded_shard(self, rows: Tensor) -> Tensor:
        """As `shard`, but never empty: the first row takes the place of no rows."""
        ...

    def all_gather(self, label: str, own: Tensor, rows: int) -> Tensor:
        """Together: all rows, of which every process has its shard."""
        ...

    def gather(self, label: str, own: Tensor) -> Sequence[Tensor]:
        """Together: in rank 0 the tensors of all processes, of one shape, on the CPU; elsewhere nothing."""
        ...

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """Together: overwrites the tensors with rank 0's values."""
        ...

    def lost(self, error: BaseException) -> PeerLost | PeerFailed | OutOfStep | None:
        """What to raise instead of an error that only says that another process is gone; else None."""
        ...


class SingleProcess:
    """The world of a single process, which has nobody to exchange with."""

    rank, size, leads = 0, 1, True

    def enter(self, label: str) -> None:
        """Nothing."""

    def on_all(self, label: str, do: Callable[[], Result]) -> Result:
        """Calls the function."""
        return do()

    def on_rank_0(
        self, label: str, do: Callable[[], Result], to_others: Callable[[Result], Any] = lambda result: None
    ) -> Result:
        """Calls the function."""
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
        """The tensor."""
        return [own.cpu()]

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """Nothing."""

    def lost(self, error: BaseException) -> None:
        """None: no other process can be gone."""


SINGLE_PROCESS = SingleProcess()
GONE = (
    "another process of this training is gone: it was killed, or its own output says why; the same command "
    "resumes from the last checkpoint"
)


class PeerLost(Failure):
    """Another process of this training is gone."""

    status = "interrupted"


class PeerFailed(SystemExit):
    """This process ends because another one has failed; that one prints the reason.

    Args:
        code: the other's exit code.
        why: the other's reason, if it is known.

    Attributes:
        status: the run's.
    """

    def __init__(self, code: int | None, why: str = "") -> None:
        super().__init__(code)
        self.status = "failed" if why else PeerLost.status
        self._why = why or GONE

    def __str__(self) -> str:
        return self._why
