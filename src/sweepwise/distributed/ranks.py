"""A `World` of several processes, connected by torch.distributed.

All exchanges here go over gloo, whatever the device: gloo never waits for a GPU, and fails at once when a
process dies, since the kernel closes its connections.
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

RENDEZVOUS_SECONDS = 600.0  # for all processes to start
LEAVING_SECONDS = 5.0  # for torch to end the process group
RELEASE_SECONDS = 0.1  # gloo's threads need microseconds, more on a very busy machine
ATTEMPT = timedelta(seconds=2)  # to connect: rank 0's store may not be there yet
PATIENCE = timedelta(minutes=30)  # for a process that is silent but alive: it may be loading data
DISCONNECTED = ("gloo", "connection closed by peer", "connection reset by peer", "broken pipe")
# In the store that all share: how many have reported an end, and why the first one ended.
REPORTS_KEY, REASON_KEY = "sweepwise/reports", "sweepwise/reason"
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"  # the environment variable with the network interface of gloo

Result = TypeVar("Result")


class Ranks:
    """Several processes; the methods are described in `World`.

    Args:
        here: which of the processes this one is.

    Attributes:
        lockstep: checks that all make the same exchanges.
    """

    def __init__(self, here: Place) -> None:
        self.rank, self.size, self.local_rank = here
        self.leads = self.rank == 0
        self.lockstep = Lockstep(self.rank, PATIENCE)

    def enter(self, label: str) -> None:
        """See `World.enter`."""
        self.lockstep.enter(label)

    def on_all(self, label: str, do: Callable[[], Result]) -> Result:
        """See `World.on_all`; the lowest rank that failed raises its own error."""
        result, failed = _result_or_error(do)
        self.lockstep.meet(label)
        ends: list[int | None] = [None] * self.size
        dist.all_gather_object(ends, None if failed is None else _end_code(failed))
        first = next((rank for rank, end in enumerate(ends) if end is not None), None)
        if first is None:
            return result
        _leave_group()
        raise failed if failed is not None and first == self.rank else _error_of(ends[first])

    def on_rank_0(
        self, label: str, do: Callable[[], Result], to_others: Callable[[Result], Any] = lambda result: None
    ) -> Any:
        """See `World.on_rank_0`."""
        result: Any
        failed: BaseException | None
        result, failed = _result_or_error(do) if self.leads else (None, None)
        end = None if failed is None else _end_code(failed)
        self.lockstep.meet(label)
        message = [end, to_others(result) if self.leads and failed is None else None]
        dist.broadcast_object_list(message)
        if message[0] is not None:
            _leave_group()
            raise failed or _error_of(message[0])
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
        """See `World.lost`; of the remaining processes the first one reports it."""
        text = str(error).lower()
        if not isinstance(error, (RuntimeError, dist.DistError)) or not any(t in text for t in DISCONNECTED):
            return None
        if mismatch := self.lockstep.mismatch():
            return mismatch
        return PeerLost(GONE) if _is_first_to_report() else PeerFailed(1, _reported_reason())


def exit_code(error: BaseException) -> int:
    """The exit code of a process after an error."""
    if isinstance(error, signals.Stopped):
        return signals.exit_code(error.signal)
    if isinstance(error, UsageError):
        return BAD_USAGE
    return int(getattr(error, "exit_code", 1))


def _leave_group() -> None:
    """Leaves the process group once all processes end; if one left alone, gloo's threads could abort it.

    The threads live on where a learner still holds the group. They have also sent Python objects, which they
    release through the interpreter: if that is shutting down, they abort the process. So this waits for them.
    """
    # In a thread: it waits for exchanges that are open, and one that the others do not make stays open.
    leaving = threading.Thread(target=_destroy, daemon=True)
    leaving.start()
    leaving.join(LEAVING_SECONDS)
    time.sleep(RELEASE_SECONDS)


def _destroy() -> None:
    with suppress(RuntimeError, ValueError, dist.DistError):
        dist.destroy_process_group()


def _end_code(error: BaseException) -> int:
    """How a process ends, as one number: its exit code, or minus the signal that stopped it."""
    return -error.signal if isinstance(error, signals.Stopped) else exit_code(error)


def _error_of(end: int | None) -> BaseException:
    """What the other processes raise: a signal to one of them is a signal to all."""
    return signals.Stopped(-end) if end is not None and end < 0 else PeerFailed(end)


def _result_or_error(do: Callable[[], Result]) -> tuple[Any, BaseException | None]:
    try:
        return do(), None
    except BaseException as error:
        return None, error


@contextmanager
def rendezvous(here: Place) -> Iterator[Ranks]:
    """Connects to the other processes, and leaves them at the end.

    Raises:
        PeerLost: they do not all start in time, or one is gone before the end.
        OutOfStep: they do not make the same exchanges.
    """
    _choose_interface(os.environ["MASTER_ADDR"])
    try:
        store = _shared_store(here)
        dist.init_process_group("gloo", store=store, rank=here.rank, world_size=here.size, timeout=PATIENCE)
    except (RuntimeError, dist.DistError) as error:
        why = str(error).strip().partition("\n")[0]
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise PeerLost(
            f"the {here.size} processes of this training could not connect at {address}: {why}; start all of "
            "them, with the same MASTER_ADDR and MASTER_PORT"
        ) from error
    world = Ranks(here)
    world.lockstep.watch(store)
    try:
        yield world
    except OutOfStep as error:
        _is_first_to_report()
        _report_reason(f"rank {here.rank}: {reason(error)}")
        _leave_group()
        raise
    except (PeerLost, PeerFailed):
        raise
    except BaseException as error:
        if instead := world.lost(error):
            raise instead from error
        _is_first_to_report()  # so that the others stay silent: this process reports
        _report_reason(f"rank {here.rank}: {reason(error)}" if isinstance(error, Exception) else "")
        raise
    finally:
        world.lockstep.stop()
    _leave_group()


def _shared_store(here: Place) -> dist.Store:
    """The store at MASTER_ADDR, served by torchrun or rank 0, once all processes have connected to it.

    The waiting is done here and not in torch, where no signal could end it.
    """
    by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    connected = False
    while True:
        try:
            if not connected:
                host = here.rank == 0 and not by_torchrun
                store: dist.Store = dist.TCPStore(
                    address, port, here.size, host, timeout=ATTEMPT, wait_for_workers=False, multi_tenant=True
                )
                store = dist.PrefixStore(f"sweepwise/{attempt}", store)
            count = store.add("connected", 0 if connected else 1)
            connected = True
            if count >= here.size:
                store.set_timeout(PATIENCE)
                return store
        except dist.DistError:
            if connected or time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {count} of them have started within {RENDEZVOUS_SECONDS:.0f} s")
        time.sleep(0.02)


def _is_first_to_report() -> bool:
    """Whether no other process has reported the end of the training yet; True if that cannot be known."""
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=2))
        return store.add(REPORTS_KEY, 1) == 1
    except (RuntimeError, ValueError, dist.DistError):
        return True


def _report_reason(why: str) -> None:
    """Leaves the reason why this process ends in the store, for the others."""
    with suppress(RuntimeError, ValueError, dist.DistError):
        dist.distributed_c10d._get_default_store().set(REASON_KEY, why)


def _reported_reason() -> str:
    """Why another process has ended, if it has reported that in time; else an empty text."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return store.get(REASON_KEY).decode() if store.check([REASON_KEY]) else ""
    except (RuntimeError, ValueError, dist.DistError):
        return ""


def _choose_interface(master: str) -> None:
    """Lets gloo use the network interface that reaches rank 0, if this machine's name resolves to 127.x."""
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
    """The IPv4 address of a network interface; '' if it has none or the system cannot tell."""
    if sys.platform != "linux":
        return ""
    import fcntl

    request = interface.encode()[:15].ljust(256, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR
        except OSError:
            return ""
