"""All that a model holds: modules, tensors, and what it reaches by attributes, lists and functions."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

CONTAINERS = (dict, list, set, deque)
NOT_LOOKED_INTO = (type, ModuleType, str, bytes, int, float, complex, bool, type(None))
OF_PROCESS = {
    "_io",
    "_thread",
    "asyncio",
    "concurrent",
    "io",
    "logging",
    "multiprocessing",
    "queue",
    "threading",
}
MOST = 100_000  # objects that are looked into


def reached(model: Any, without: Iterable[Any] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The model, or another object, and all that it holds, each once; what holds a thing comes before it.

    Not looked into are threads, locks, queues, files and loggers, and the names of a Python module: they are
    the process's, and others may use them at the same time.

    Args:
        model: or what else holds things.
        without: objects that are left out, with what only they hold.

    Returns:
        Pairs of a path, which is nested (the path of the holder, a key), and the object.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()] if isinstance(model, nn.Module) else []
    waiting: deque[tuple[tuple[Any, ...], Any]] = deque([((), model), *(((), one) for _, one in tensors)])
    seen = set(map(id, without))
    kept = []  # so that no id is used twice
    while waiting and len(seen) < MOST:
        path, value = waiting.popleft()
        if isinstance(value, NOT_LOOKED_INTO) or id(value) in seen or _of_process(value):
            continue
        seen.add(id(value))
        kept.append(value)
        yield path, value
        waiting.extend(((path, key), held) for key, held in _held(value))


def _of_process(value: Any) -> bool:
    """Whether a value belongs to the process and not to a model."""
    if type(value) is dict:
        return "__builtins__" in value
    return any(kind.__module__.partition(".")[0] in OF_PROCESS for kind in type(value).__mro__)


def name_of(path: tuple[Any, ...]) -> str:
    """A path as a text, such as 'layers.0.generator'."""
    keys = []
    while path:
        path, key = path
        keys.append(str(key))
    return ".".join(key for key in reversed(keys) if key)


def _held(value: Any) -> Iterable[tuple[Any, Any]]:
    """What an object holds, by keys; that of an object's or a function's own attributes is ''."""
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (*CONTAINERS, tuple)):
        return enumerate(value)
    if isinstance(value, (MethodType, FunctionType, BuiltinMethodType)):
        return enumerate([getattr(value, "__self__", None), *(getattr(value, "__closure__", None) or ())])
    if isinstance(value, partial):
        return enumerate([value.func, value.args, value.keywords])
    if isinstance(value, CellType):
        return [("", content(value))]
    return [("", vars(value))] if hasattr(value, "__dict__") else ()


def content(cell: CellType) -> Any:
    """The value of a closure's variable; None if it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
