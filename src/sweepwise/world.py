"""What a process knows of the others that train the same run: from torchrun's variables, or alone.

Nothing here imports torch: a command line that only answers needs none. `ranks.py` is the world of several.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from sweepwise.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sweepwise.lockstep import OutOfStep
    from sweepwise.ranks import Elsewhere, Lost


Result = TypeVar("Result")

NEEDED = ("MASTER_ADDR", "MASTER_PORT")
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
PORTS = range(1, 65536)
WAY_OUT = "torchrun sets these variables; for a process alone, unset WORLD_SIZE"
LINGER_SECONDS = 1.0  # for rank 0 to say what all have found before they know of each other
NAMING_SECONDS = 30.0  # for the name of rank 0's machine to become known: a cluster may still be starting it


class Place(NamedTuple):
    """Which of the processes this one is.

    Attributes:
        rank: 0 leads: it has the folder, writes and prints.
        size: processes.
        local_rank: among those of this machine.
    """

    rank: int
    size: int
    local_rank: int


def place(variables: Mapping[str, str] = os.environ) -> Place:
    """Where this process stands by RANK, WORLD_SIZE and LOCAL_RANK; without WORLD_SIZE it is alone.

    Raises:
        UsageError: with every variable that is wrong: no number, out of its range, or missing. Whether
            MASTER_ADDR is known to this machine is asked in `joined`, for that may take time.
    """
    faults: list[str] = []
    size = _number(variables, "WORLD_SIZE", 1, faults, least=1)
    if not variables.get("WORLD_SIZE"):
        return Place(0, 1, 0)
    rank = _number(variables, "RANK", 0, faults)
    local_rank = _number(variables, "LOCAL_RANK", rank, faults)
    if size > 1:
        _number(variables, "MASTER_PORT", PORTS[0], faults, least=PORTS[0], most=PORTS[-1])
        host = variables.get("MASTER_ADDR", "")
        if host and not _is_host(host):
            faults.append(f"MASTER_ADDR={host}: must be the name or the address of rank 0's machine")
    if not faults:
        faults = [
            f"{name}={number}: must be below WORLD_SIZE={size}"
            for name, number in (("RANK", rank), ("LOCAL_RANK", local_rank))
            if number >= size and variables.get(name)
        ]
    missing = [name for name in ("RANK", *NEEDED) if size > 1 and not variables.get(name)]
    if missing:
        faults.append(f"WORLD_SIZE={size}: needs {', '.join(missing)} beside it")
    if faults:
        raise UsageError([f"{fault}; {WAY_OUT}" for fault in faults])
    return Place(rank, size, local_rank) if size > 1 else Place(0, 1, 0)


def _number(
    variables: Mapping[str, str],
    name: str,
    default: int,
    faults: list[str],
    *,
    least: int = 0,
    most: int | None = None,
) -> int:
    """A variable's value; its default where it is missing or, with a fault more, where it is wrong."""
    text = variables.get(name, "")
    if not text:
        return default
    if WHOLE_NUMBER.fullmatch(text) and least <= int(text) <= (int(text) if most is None else most):
        return int(text)
    span = f"from {least} on" if most is None else f"from {least} to {most}"
    faults.append(f"{name}={text}: must be a whole number {span}")
    return default


def _is_host(text: str) -> bool:
    """Whether a text can be a host's name or address at all."""
    try:
        text.encode("idna")
    except UnicodeError:  # such as two dots in a row
        return False
    return text.isprintable() and not any(map(str.isspace, text))


def _await_name(host: str, port: int) -> None:
    """Waits until this machine knows rank 0's by its name.

    Raises:
        UsageError: it never does.
    """
    import socket  # 10 ms, that a process alone need not spend

    deadline = time.monotonic() + NAMING_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UsageError(
                    [
                        f"MASTER_ADDR={host}: must be a name or an address that this machine knows "
                        f"({error.strerror}); {WAY_OUT}"
                    ]
                ) from error
        time.sleep(0.1)


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

    def each(self, label: str, do: Callable[[], Result]) -> Result:
        """Together: does something in every process. If it fails in one, it fails in all."""
        ...

    def first(self, label: str, do: Callable[[], Result], told: Callable[[Result], Any] = ...) -> Any:
        """Together: does something in rank 0 alone. If it fails, it fails in all.

        Args:
            label: what for.
            do: what.
            told: of its result, what the others get instead.
        """
        ...

    def most(self, label: str, numbers: Sequence[int]) -> list[int]:
        """Together: the greatest of each number, of at most 3, over the processes."""
        ...

    def total(self, label: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Together: the sum over the processes, in the order of their ranks."""
        ...

    def seen(self, label: str, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Together: the sum of scalars over the processes."""
        ...

    def steps(self, label: str, steps: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """Together: of each step (loss, outputs, targets) of the whole batch, in rank 0."""
        ...

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of what belongs to all, such as a batch; it may be empty."""
        ...

    def portion(self, rows: Tensor) -> Tensor:
        """`share`, but never empty: the first row stands for none."""
        ...

    def whole(self, label: str, own: Tensor, rows: int) -> Tensor:
        """Together: all rows, of which every process has its share."""
        ...

    def gathered(self, label: str, own: Tensor) -> Sequence[Tensor]:
        """Together: what each process has, of one shape, on the CPU of rank 0; elsewhere nothing."""
        ...

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """Together: rank 0's values for all."""
        ...

    def lost(self, error: BaseException) -> Lost | Elsewhere | OutOfStep | None:
        """What to raise instead of an error that only says that another process has gone."""
        ...


class Alone:
    """The world of one process: nothing is to be agreed on."""

    rank, size, leads = 0, 1, True

    def enter(self, label: str) -> None:
        """Nobody else is anywhere."""

    def each(self, label: str, do: Callable[[], Result]) -> Result:
        """Does it."""
        return do()

    def first(
        self, label: str, do: Callable[[], Result], told: Callable[[Result], Any] = lambda result: None
    ) -> Result:
        """Does it."""
        return do()

    def most(self, label: str, numbers: Sequence[int]) -> list[int]:
        """The numbers."""
        return list(numbers)

    def total(self, label: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values."""
        return values

    def seen(self, label: str, numbers: Sequence[Tensor]) -> list[Tensor]:
        """The numbers."""
        return list(numbers)

    def steps(self, label: str, steps: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """The steps."""
        return steps

    def share(self, rows: Tensor) -> Tensor:
        """All rows."""
        return rows

    def portion(self, rows: Tensor) -> Tensor:
        """All rows."""
        return rows

    def whole(self, label: str, own: Tensor, rows: int) -> Tensor:
        """All rows."""
        return own

    def gathered(self, label: str, own: Tensor) -> Sequence[Tensor]:
        """What it has."""
        return [own.cpu()]

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """Nothing."""

    def lost(self, error: BaseException) -> None:
        """Nobody can be lost."""


ALONE = Alone()


def joined() -> AbstractContextManager[World]:
    """The world of this process, left at the end.

    Raises:
        UsageError: its variables are wrong.
        Lost: the others do not come, or go before the end.
    """
    here = place()
    if here.size == 1:
        return nullcontext(ALONE)
    _await_name(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    from sweepwise.ranks import met

    return met(here)


def is_led() -> bool:
    """Whether another process says what all of them find."""
    try:
        return place().rank > 0
    except UsageError:  # each finds that by itself
        return False


def quieten() -> None:
    """Several processes: torch's C++ tells of broken connections at length, and one line of ours does.

    To be called before torch is imported.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def linger() -> None:
    """Lets rank 0 say what all have found before they have met.

    A launcher ends all processes once one has ended.
    """
    with suppress(KeyboardInterrupt):
        time.sleep(LINGER_SECONDS)
