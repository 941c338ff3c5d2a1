"""Imports torch faster: without needless searches, and while a child process does other work."""

import contextlib
import functools
import gc
import inspect
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from sweepwise.system import signals

if TYPE_CHECKING:
    from sweepwise.run.single import Result

Returned = TypeVar("Returned")


@contextmanager
def without_searches() -> Iterator[None]:
    """Avoids two searches during a large import, which together take a fifth of the time to import torch.

    The garbage collector would scan all objects many times during the import and afterwards: it is off here,
    and objects that are created here are frozen. And torch asks `inspect` for the module of a frame, which
    resolves the path of every loaded module: here the frame's own globals answer.
    """
    original = inspect.getmodule

    def getmodule(thing: Any, _filename: str | None = None) -> Any:
        name = thing.f_globals.get("__name__") if inspect.isframe(thing) else None
        return sys.modules.get(name or "") or original(thing, _filename)

    gc.disable()
    vars(inspect)["getmodule"] = getmodule
    try:
        yield
        gc.freeze()
    finally:
        vars(inspect)["getmodule"] = original
        gc.enable()


@functools.cache
def trainer() -> "Callable[..., Result]":
    """`sweepwise.run.train`; imports torch, which a run that has ended does not need.

    Cached, so that the garbage of a run is never frozen. A signal waits until the import is done.
    """
    with signals.deferred(), without_searches():
        from sweepwise.run.single import train
    return train


def while_torch_loads(work: Callable[[], Returned]) -> Returned:
    """Calls `work` in a child process while this one imports torch; directly, if torch is imported already.

    Args:
        work: has no effect but its result; if it fails in the child, it is called again here and raises here.

    Returns:
        What `work` returns.
    """
    if "torch" in sys.modules or (os.cpu_count() or 1) < 2 or not hasattr(os, "fork"):
        return work()
    fork = multiprocessing.get_context("fork")
    receiving, sending = fork.Pipe(duplex=False)
    worker = fork.Process(target=_send, args=(work, sending), daemon=True)
    worker.start()
    sending.close()
    try:
        trainer()
        returned: Returned = receiving.recv()
    except EOFError:  # it has failed there: let it raise its error here
        return work()
    finally:
        worker.kill()
        worker.join()
        receiving.close()
    return returned


def _send(work: Callable[[], object], receiver: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal signals both processes; the parent handles it
    with contextlib.suppress(Exception):
        receiver.send(work())
