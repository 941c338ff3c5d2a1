"""Checks that all processes of a training make the same exchanges in the same order.

An exchange has a number and a label; a part of a step in which torch itself exchanges data, such as DDP's
backward pass, counts as one. If a process makes one exchange more than the others, the same number stands for
different labels. Processes that are both in an exchange of ours see this from the numbers and labels that
they exchange. If one of them is in an exchange of torch's own, both would wait for ever: so a process that
has waited for `LOOK_SECONDS` writes its label under its number into the shared store, and compares.
"""

import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from sweepwise.errors import Failure

LOOK_SECONDS = 1.0  # in one exchange, before a process checks which one the others are in
MISMATCH_KEY = "out of step"  # in the store: the mismatch that a process has found


class OutOfStep(Failure):
    """The processes of one training do not make the same exchanges."""

    status = "failed"

    def __init__(self, positions: Sequence[str]) -> None:
        super().__init__(
            f"the processes of this training are out of step: {'; '.join(positions)}. Some part of the "
            "program exchanges data in one process but not in all; every process must make the same "
            "exchanges in the same order"
        )


class Lockstep:
    """Counts the exchanges of this process and compares them with those of the others.

    Args:
        rank: this process's.
        patience: how long to wait for the others in one exchange.
    """

    def __init__(self, rank: int, patience: timedelta) -> None:
        self._rank, self._patience = rank, patience.total_seconds()
        self._position = (0, "the beginning")
        self._mismatch = ""  # as found by the thread
        self._store: dist.Store | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, label: str) -> None:
        """Begins the next exchange."""
        self._position = (self._position[0] + 1, label)

    def meet(self, label: str, numbers: Sequence[int] = ()) -> list[int]:
        """Together: begins an exchange, and returns the maximum of each number over the processes.

        Raises:
            OutOfStep: another process is in another exchange.
        """
        self.enter(label)
        number, code = self._position[0], zlib.crc32(label.encode())
        # Where all processes agree, the maximum of x equals the minimum, which is -max(-x).
        agreed = torch.tensor([number, -number, code, -code, len(numbers), -len(numbers), *_padded(numbers)])
        self._wait(dist.all_reduce(agreed, dist.ReduceOp.MAX, async_op=True))
        values = agreed.tolist()
        if any(values[i] != -values[i + 1] for i in (0, 2, 4)):
            self._raise_everywhere()
        return values[6 : 6 + len(numbers)]

    def _wait(self, work: dist.Work) -> None:
        """Waits in short intervals, since the thread may find a mismatch in between."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                work.wait(timedelta(seconds=LOOK_SECONDS))
                return
            except RuntimeError:
                if self._mismatch:
                    raise OutOfStep([self._mismatch]) from None
                if work.is_completed() or time.monotonic() > deadline:
                    raise

    def _raise_everywhere(self) -> None:
        positions: list[str] = [""] * dist.get_world_size()
        number, label = self._position
        dist.all_gather_object(positions, f"rank {self._rank} is at exchange {number}, {label!r}")
        raise OutOfStep(positions)

    def watch(self, store: dist.Store) -> None:
        """Starts a thread that checks which exchange the others are in while this process waits."""
        self._store = store
        self._thread = threading.Thread(target=self._look, args=(store,), daemon=True, name="lockstep")
        self._thread.start()

    def mismatch(self) -> OutOfStep | None:
        """The mismatch that some process has found while this one waited in an exchange of torch's own."""
        with suppress(RuntimeError, dist.DistError):  # the store is gone
            if not self._mismatch and self._store and self._store.check([MISMATCH_KEY]):
                self._mismatch = self._store.get(MISMATCH_KEY).decode()
        return OutOfStep([self._mismatch]) if self._mismatch else None

    def stop(self) -> None:
        """Ends the thread: one that uses the store while Python exits would abort the process."""
        self._over.set()
        if self._thread:
            self._thread.join(LOOK_SECONDS)

    def _look(self, store: dist.Store) -> None:
        before, key = self._position, ""
        with suppress(RuntimeError, dist.DistError):  # the store is gone, so the training has ended
            while not self._over.wait(LOOK_SECONDS):
                number, label = self._position
                if (number, label) != before:
                    before = number, label
                    if key:
                        store.delete_key(key)
                        key = ""
                    continue
                if not key:
                    key = f"exchange {number}"
                    own = f"rank {self._rank} is at exchange {number}, {label!r}"
                    other = store.compare_set(key, "", own).decode()
                    if other.partition(",")[2] != own.partition(",")[2]:
                        store.set(MISMATCH_KEY, f"{other}; {own}")
                if store.check([MISMATCH_KEY]):
                    self._mismatch = store.get(MISMATCH_KEY).decode()
                    return


def _padded(numbers: Sequence[int], length: int = 3) -> list[int]:
    """The numbers with zeros behind them: torch exchanges only tensors of the same length."""
    assert len(numbers) <= length
    return [*map(int, numbers), *[0] * (length - len(numbers))]
