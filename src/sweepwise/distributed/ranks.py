"""A world of several processes: torch.distributed, with gloo between CPUs and nccl between GPUs.

What is agreed on goes over gloo, whatever the device: it never waits for a GPU, and it breaks at once when a
process dies, as the kernel closes its connections.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.distributed.lockstep import Lockstep, OutOfStep
from sweepwise.distributed.place import Place
from sweepwise.distributed.world import GONE, PeerFailed, PeerLost
from sweepwise.errors import BAD_USAGE, UsageError, reason
from sweepwise.system import signals

MEETING_SECONDS = 600.0  # for all processes to start
LEAVING_SECONDS = 5.0  # for torch to end the group of processes
LETTING_GO_SECONDS = 0.1  # microseconds, unless the machine is very busy
LOOK = timedelta(seconds=2)  # for rank 0, whose store may not be there yet
PATIENCE = timedelta(minutes=30)  # for one that is silent but whose machine lives: it may load data
BROKEN = ("gloo", "connection closed by peer", "connection reset by peer", "broken pipe")
SAID = "sweepwise/said"  # a counter in the store that all have: who is first says why the world ended
WHY = "sweepwise/why"
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"

Result = TypeVar("Result")


class Ranks:
    """See `sweepwise.world.World`.

    Args:
        here: which of the processes this one is.

    Attributes:
        lockstep: that it does what the others do.
    """

    def __init__(self, here: Place) -> None:
        self.rank, self.size, self.local_rank = here
        self.leads = self.rank == 0
        self.lockstep = Lockstep(self.rank, PATIENCE)

    def enter(self, label: str) -> None:
        """See `World.enter`."""
        self.lockstep.enter(label)

    def on_all(self, label: str, do: Callable[[], Result]) -> Result:
        """See `World.on_all`; the first rank that failed says why."""
        result, failed = _tried(do)
        self.lockstep.meet(label)
        ends: list[int | None] = [None] * self.size
        dist.all_gather_object(ends, None if failed is None else _end(failed))
        first = next((rank for rank, end in enumerate(ends) if end is not None), None)
        if first is None:
            return result
        _part()
        raise failed if failed is not None and first == self.rank else _ended(ends[first])

    def on_rank_0(
        self, label: str, do: Callable[[], Result], told: Callable[[Result], Any] = lambda result: None
    ) -> Any:
        """See `World.on_rank_0`."""
        result: Any
        failed: BaseException | None
        result, failed = _tried(do) if self.leads else (None, None)
        end = None if failed is None else _end(failed)
        self.lockstep.meet(label)
        message = [end, told(result) if self.leads and failed is None else None]
        dist.broadcast_object_list(message)
        if message[0] is not None:
            _part()
            raise failed or _ended(message[0])
        return result if self.leads else message[1]

    def max(self, label: str, numbers: Sequence[int]) -> list[int]:
        """See `World.max`."""
        return self.lockstep.meet(label, numbers)

    def sum(self, label: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `World.sum`."""
        self.lockstep.meet(label)
        own = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own)
        return reduce(torch.add, every).numpy()

    def sum_scalars(self, label: str, numbers: Sequence[Tensor]) -> list[Tensor]:
        """See `World.sum_scalars`."""
        own = torch.stack(list(numbers))
        totals = self.sum(label, own.double().numpy(force=True))
        return list(torch.from_numpy(totals).to(own.device, own.dtype))

    def steps(self, label: str, steps: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """See `World.steps`; the loss of a batch is the sum of what the processes contribute."""
        self.lockstep.meet(label)
        own = [[tensor.cpu() for tensor in step] for step in steps]
        every: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(own, every)
        if every is None:
            return own
        return [
            [reduce(torch.add, (loss.double() for loss in losses)), *map(torch.cat, rows)]
            for losses, *rows in (zip(*parts, strict=True) for parts in zip(*every, strict=True))
        ]

    def shard(self, rows: Tensor) -> Tensor:
        """See `World.shard`: contiguous, of sizes as equal as can be."""
        return rows.tensor_split(self.size)[self.rank]

    def padded_shard(self, rows: Tensor) -> Tensor:
        """See `World.padded_shard`."""
        own = self.shard(rows)
        return own if len(own) else rows[:1]

    def all_gather(self, label: str, own: Tensor, rows: int) -> Tensor:
        """See `World.all_gather`."""
        self.lockstep.meet(label)
        sizes = [len(part) for part in torch.arange(rows).tensor_split(self.size)]
        padded = own.new_zeros(max(sizes), *own.shape[1:], device="cpu")
        padded[: len(own)] = own.cpu()
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded)
        return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)]).to(own.device)

    def gather(self, label: str, own: Tensor) -> Sequence[Tensor]:
        """See `World.gather`."""
        self.lockstep.meet(label)
        part = own.detach().cpu().contiguous()
        every = [torch.empty_like(part) for _ in range(self.size)] if self.leads else None
        dist.gather(part, every)
        return every or []

    def align_(self, label: str, tensors: Sequence[Tensor]) -> None:
        """See `World.align_`."""
        self.lockstep.meet(label)
        for tensor in tensors:
            leading = tensor.cpu()
            dist.broadcast(leading, 0)
            tensor.copy_(leading)

    def lost(self, error: BaseException) -> "PeerLost | PeerFailed | OutOfStep | None":
        """See `World.lost`; of all processes that are left the first one says it."""
        text = str(error).lower()
        if not isinstance(error, (RuntimeError, dist.DistError)) or not any(word in text for word in BROKEN):
            return None
        if wrong := self.lockstep.wrong():
            return wrong
        return PeerLost(GONE) if _first_to_speak() else PeerFailed(1, _told())


def exit_code(error: BaseException) -> int:
    """What a process exits with after an error."""
    if isinstance(error, signals.Stopped):
        return signals.exit_code(error.signal)
    if isinstance(error, UsageError):
        return BAD_USAGE
    return int(getattr(error, "exit_code", 1))


def _part() -> None:
    """All have agreed to end: each takes its leave, as threads of gloo may abort without the others.

    They live on where a learner still holds the group. What they have sent belongs to Python, too: they need
    the interpreter once more to let go of it, and abort the process if that is ending.
    """
    # In a thread: it waits for exchanges that are open, and one that the others do not make stays open.
    leaving = threading.Thread(target=_destroy, daemon=True)
    leaving.start()
    leaving.join(LEAVING_SECONDS)
    time.sleep(LETTING_GO_SECONDS)


def _destroy() -> None:
    with suppress(RuntimeError, ValueError, dist.DistError):
        dist.destroy_process_group()


def _end(error: BaseException) -> int:
    """How a process ends, for the others: its exit code, or below 0 the signal that it was asked by."""
    return -error.signal if isinstance(error, signals.Stopped) else exit_code(error)


def _ended(end: int | None) -> BaseException:
    """What the others raise: a signal at one of them is a signal to all."""
    return signals.Stopped(-end) if end is not None and end < 0 else PeerFailed(end)


def _tried(do: Callable[[], Result]) -> tuple[Any, BaseException | None]:
    try:
        return do(), None
    except BaseException as error:
        return None, error


@contextmanager
def met(here: Place) -> Iterator[Ranks]:
    """Meets the other processes, and leaves them at the end.

    Raises:
        Lost: they do not come, or one goes before the end.
        OutOfStep: they do not make the same exchanges.
    """
    _choose_interface(os.environ["MASTER_ADDR"])
    try:
        store = _meeting(here)
        dist.init_process_group("gloo", store=store, rank=here.rank, world_size=here.size, timeout=PATIENCE)
    except (RuntimeError, dist.DistError) as error:
        why = str(error).strip().partition("\n")[0]
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise PeerLost(
            f"the {here.size} processes of this training do not meet at {address}: {why}"
        ) from error
    world = Ranks(here)
    world.lockstep.watch(store)
    try:
        yield world
    except OutOfStep as error:
        _first_to_speak()
        _tell(f"rank {here.rank}: {reason(error)}")
        _part()
        raise
    except (PeerLost, PeerFailed):
        raise
    except BaseException as error:
        if instead := world.lost(error):
            raise instead from error
        _first_to_speak()  # the others need not: this process does
        _tell(f"rank {here.rank}: {reason(error)}" if isinstance(error, Exception) else "")
        raise
    finally:
        world.lockstep.stop()
    _part()


def _meeting(here: Place) -> dist.Store:
    """The store at MASTER_ADDR, which torchrun or rank 0 keeps, once all processes have come there.

    They are waited for here and not by torch, whose waiting no signal ends.
    """
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    deadline = time.monotonic() + MEETING_SECONDS
    came = False
    while True:
        try:
            if not came:
                host = here.rank == 0 and not kept
                store: dist.Store = dist.TCPStore(
                    address, port, here.size, host, timeout=LOOK, wait_for_workers=False, multi_tenant=True
                )
                store = dist.PrefixStore(f"sweepwise/{attempt}", store)
            count = store.add("came", 0 if came else 1)
            came = True
            if count >= here.size:
                store.set_timeout(PATIENCE)
                return store
        except dist.DistError:
            if came or time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count} of them have come within {MEETING_SECONDS:.0f} s")
        time.sleep(0.02)


def _first_to_speak() -> bool:
    """Whether no other process has said yet why the world ended; True if that cannot be known."""
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=2))
        return store.add(SAID, 1) == 1
    except (RuntimeError, ValueError, dist.DistError):
        return True


def _tell(why: str) -> None:
    """Leaves for the others why this process ends."""
    with suppress(RuntimeError, ValueError, dist.DistError):
        dist.distributed_c10d._get_default_store().set(WHY, why)


def _told() -> str:
    """Why another process has ended, if it had the time to say so."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return store.get(WHY).decode() if store.check([WHY]) else ""
    except (RuntimeError, ValueError, dist.DistError):
        return ""


def _choose_interface(master: str) -> None:
    """Where this machine's own name leads to itself alone, gloo takes the network that leads to rank 0."""
    if GLOO_INTERFACE in os.environ:
        return
    with suppress(OSError):
        own = socket.gethostbyname(socket.gethostname())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            route.connect((master, 9))  # sends nothing
            address = route.getsockname()[0]
        if own.startswith("127.") and not address.startswith("127."):
            with suppress(StopIteration):
                os.environ[GLOO_INTERFACE] = next(
                    name for _, name in socket.if_nameindex() if _address(name) == address
                )


def _address(interface: str) -> str:
    """The IPv4 address of a network interface; '' if it has none, or where that cannot be asked."""
    if sys.platform != "linux":
        return ""
    import fcntl

    request = interface.encode()[:15].ljust(256, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            return socket.inet_ntoa(fcntl.ioctl(asking.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR
        except OSError:
            return ""
