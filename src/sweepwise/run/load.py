"""Importing torch at the cost of its code alone."""

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


Made = TypeVar("Made")


@contextmanager
def without_searches() -> Iterator[None]:
    """Spares an import of many modules two searches, which together take a fifth of torch's time.

    The garbage collector would look through all objects again and again, during the import and after: it is
    off here, and what is made here is frozen. And torch asks `inspect` in which module a frame is, for which
    the path of every loaded module is resolved, though the frame knows its module: here it is asked.
    """
    search = inspect.getmodule

    def getmodule(thing: Any, _filename: str | None = None) -> Any:
        name = thing.f_globals.get("__name__") if inspect.isframe(thing) else None
        return sys.modules.get(name or "") or search(thing, _filename)

    gc.disable()
    vars(inspect)["getmodule"] = getmodule
    try:
        yield
        gc.freeze()
    finally:
        vars(inspect)["getmodule"] = search
        gc.enable()


@functools.cache
def trainer() -> "Callable[..., Result]":
    """`sweepwise.run.train`; imports torch, which a finished run does not need.

    Once, so that no run's garbage is frozen. A signal waits until it is done.
    """
    with signals.deferred(), without_searches():
        from sweepwise.run.single import train
    return train


def meanwhile(work: Callable[[], Made]) -> Made:
    """What `work` returns, done by a process of its own while this one imports torch, if that has to be done.

    Args:
        work: leaves nothing else behind than what it returns. What it raises it raises here.
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
        found: Made = receiving.recv()
    except EOFError:  # it has failed, and shall say why here
        return work()
    finally:
        worker.kill()
        worker.join()
        receiving.close()
    return found


def _send(work: Callable[[], object], receiver: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the other answers it
    with contextlib.suppress(Exception):
        receiver.send(work())
