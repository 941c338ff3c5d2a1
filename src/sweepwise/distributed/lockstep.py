"""Whether all processes of a training are at the same place: each place has a number and a label.

A place is an exchange, or a part of a step in which torch exchanges something by itself. Processes count
alike, so one that makes an exchange more than the others gives a number to another label than they do. Two
that meet in an exchange see that from what they exchange. Where one is in an exchange and the other in one
of torch's own, both wait in vain: so who waits for long leaves its label at its number in the store that all
have.
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

LOOK_SECONDS = 1.0  # at one place, before a process looks where the others are
WRONG = "out of step"  # the key in the store: what one of the processes has seen


class OutOfStep(Failure):
    """The processes of one training do not do the same any more."""

    status = "failed"

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__(
            f"the processes of this training are out of step: {'; '.join(places)}. A part of the program "
            "exchanges something in one process and not in all: every process must make the same exchanges "
            "in the same order"
        )


class Lockstep:
    """Counts the places of this process and compares them with those of the others.

    Args:
        rank: of this process.
        patience: for one that is silent.
    """

    def __init__(self, rank: int, patience: timedelta) -> None:
        self._rank, self._patience = rank, patience.total_seconds()
        self._place = (0, "the beginning")
        self._wrong = ""  # what the thread has seen
        self._store: dist.Store | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, label: str) -> None:
        """This process comes to its next place."""
        self._place = (self._place[0] + 1, label)

    def meet(self, label: str, numbers: Sequence[int] = ()) -> list[int]:
        """Together: comes to an exchange; returns the greatest of each number over the processes.

        Raises:
            OutOfStep: the others are in another exchange.
        """
        self.enter(label)
        number, code = self._place[0], zlib.crc32(label.encode())
        # Of what is alike in all, the greatest is the least as well.
        agreed = torch.tensor([number, -number, code, -code, len(numbers), -len(numbers), *_filled(numbers)])
        self._wait(dist.all_reduce(agreed, dist.ReduceOp.MAX, async_op=True))
        values = agreed.tolist()
        if any(values[i] != -values[i + 1] for i in (0, 2, 4)):
            self._raise_everywhere()
        return values[6 : 6 + len(numbers)]

    def _wait(self, work: dist.Work) -> None:
        """Waits in pieces, for the thread may see meanwhile that it is in vain."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                work.wait(timedelta(seconds=LOOK_SECONDS))
                return
            except RuntimeError:
                if self._wrong:
                    raise OutOfStep([self._wrong]) from None
                if work.is_completed() or time.monotonic() > deadline:
                    raise

    def _raise_everywhere(self) -> None:
        places: list[str] = [""] * dist.get_world_size()
        number, label = self._place
        dist.all_gather_object(places, f"rank {self._rank} is at exchange {number}, {label!r}")
        raise OutOfStep(places)

    def watch(self, store: dist.Store) -> None:
        """Begins to look, in a thread, where the others are while this process waits."""
        self._store = store
        self._thread = threading.Thread(target=self._look, args=(store,), daemon=True, name="lockstep")
        self._thread.start()

    def wrong(self) -> OutOfStep | None:
        """Whether the processes have gone out of step while this one waited in an exchange of torch's own."""
        with suppress(RuntimeError, dist.DistError):  # the store has gone
            if not self._wrong and self._store and self._store.check([WRONG]):
                self._wrong = self._store.get(WRONG).decode()
        return OutOfStep([self._wrong]) if self._wrong else None

    def stop(self) -> None:
        """Looks no more; a thread that is in the store while Python ends would abort the process."""
        self._over.set()
        if self._thread:
            self._thread.join(LOOK_SECONDS)

    def _look(self, store: dist.Store) -> None:
        before, left = self._place, ""
        with suppress(RuntimeError, dist.DistError):  # the store has gone, and so has the training
            while not self._over.wait(LOOK_SECONDS):
                number, label = self._place
                if (number, label) != before:
                    before = number, label
                    if left:
                        store.delete_key(left)
                        left = ""
                    continue
                if not left:
                    left = f"place {number}"
                    own = f"rank {self._rank} is at exchange {number}, {label!r}"
                    other = store.compare_set(left, "", own).decode()
                    if other.partition(",")[2] != own.partition(",")[2]:
                        store.set(WRONG, f"{other}; {own}")
                if store.check([WRONG]):
                    self._wrong = store.get(WRONG).decode()
                    return


def _filled(numbers: Sequence[int], length: int = 3) -> list[int]:
    """As many numbers in every exchange, for those of different lengths would not meet."""
    assert len(numbers) <= length
    return [*map(int, numbers), *[0] * (length - len(numbers))]
