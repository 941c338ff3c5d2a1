"""Importing torch at the cost of its code alone."""

import functools
import gc
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sweepwise import interrupt

if TYPE_CHECKING:
    from sweepwise.run import Result


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
    with interrupt.deferred(), without_searches():
        from sweepwise.run import train
    return train
