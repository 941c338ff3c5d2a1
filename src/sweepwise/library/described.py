"""What was given to `build`, written down as a config would say it."""

import dataclasses
import enum
import hashlib
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweepwise.config.schema import plain
from sweepwise.data import Data
from sweepwise.data.stored import StoredPart
from sweepwise.init import initialize_
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import Schedule
from sweepwise.seed import Seeds
from sweepwise.trainer import Settings

TARGET = "_target_"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Our wrappers, each with the parameter that takes what is wrapped.
ENVELOPES: dict[Any, str] = {FlatOptimizer: "build", initialize_: "scheme", Schedule: "scheduler"}


def describe(
    *,
    init: Callable[..., Any],
    optimizer: Callable[..., Any],
    scheduler: Callable[..., Any],
    regularizers: Sequence[Regularizer],
    early_stop: object,
    settings: Settings,
    seeds: Seeds,
) -> dict[str, Any]:
    """The groups of a config: classes and functions by their names, options as plain values.

    What a config could not say is there as a hash: values of arrays, and code of one's own. Data and model
    are left empty, until they are there.

    Args:
        init: a function, with options bound.
        optimizer: a class, with options bound.
        scheduler: a class, with options bound.
        regularizers: objects that have not acted yet.
        early_stop: an object.
        settings: an object.
        seeds: an object.
    """
    named = {_snake(type(one).__name__): one for one in regularizers}
    if len(named) < len(regularizers):
        named = {f"{_snake(type(one).__name__)}{n}": one for n, one in enumerate(regularizers)}
    return {
        "seed": _object(seeds),
        "data": {},
        "model": {},
        "init": _call(init),
        "optimizer": _call(optimizer),
        "scheduler": _call(scheduler),
        "regularizer": {name: _object(one) for name, one in named.items()},
        "early_stop": _object(early_stop),
        "trainer": _object(dataclasses.replace(settings, pause_after=None)),
    }


def describe_model(model: Callable[..., Any] | nn.Module, network: nn.Module) -> dict[str, Any]:
    """The group of the model.

    Args:
        model: as `build` was given it.
        network: that it has made.
    """
    own = _object(model) if isinstance(model, nn.Module) else _call(model)
    sources = [_source(_function(model)), *(_source(type(module)) for module in network.modules())]
    code = _digest(filter(None, sources))
    structure = _digest([ADDRESS.sub("", repr(network))])
    return own | {"structure": structure} | ({"code": code} if code else {})


def describe_data(data: Data) -> dict[str, Any]:
    """The group of the data."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    digests = [_array(part.y.numpy(force=True)) for part in parts.values()]
    if not isinstance(data.train, StoredPart):
        digests.append(_array(data.train.x.numpy(force=True)))
    return {
        TARGET: "sweepwise.data.Data",
        "name": data.name,
        "batch_size": data.batch_size,
        "shuffle": data.shuffle,
        **{name: len(part.y) for name, part in parts.items()},
        "split": _digest(digests),
    }


def _call(thing: Callable[..., Any]) -> dict[str, Any]:
    """A class or function, with the options that are bound to it, and the defaults of torch's and ours."""
    function, options = _function(thing), dict[str, Any]()
    while hasattr(thing, "func"):
        positional = {f"argument{place}": value for place, value in enumerate(getattr(thing, "args", ()))}
        options = positional | getattr(thing, "keywords", {}) | options
        thing = thing.func
    if inspect.isroutine(function) or inspect.isclass(function):
        wrapped = ENVELOPES.get(function)
    else:
        return _object(function) | _values(options)
    if wrapped:
        inner = options.pop("argument0", None) or options.pop(wrapped)
        return _call(inner) | _values(options)
    code = _source(function)
    options = ({} if code else _defaults(function)) | options
    return {TARGET: _name(function), **_values(options)} | ({"code": _digest([code])} if code else {})


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return {}
    defaults = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    return {name: value for name, value in defaults.items() if value is not None and _is_plain(value)}


def _function(thing: Any) -> Any:
    while hasattr(thing, "func"):
        thing = thing.func
    return thing


def _object(thing: object) -> dict[str, Any]:
    """An object: its class, and those of its values that are plain."""
    if dataclasses.is_dataclass(thing):
        own = {one.name: getattr(thing, one.name) for one in dataclasses.fields(thing)}
    elif isinstance(thing, nn.Module):
        own = {}
    else:
        own = {name.lstrip("_"): value for name, value in getattr(thing, "__dict__", {}).items()}
        own = {name: value for name, value in own.items() if _is_plain(value)}
    code = _source(type(thing))
    return {TARGET: _name(type(thing)), **_values(own)} | ({"code": _digest([code])} if code else {})


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor, np.ndarray))


def _values(options: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _value(value) for name, value in options.items()}


def _value(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):  # not a subclass, which YAML does not know
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (list, tuple)):
        return [_value(one) for one in value]
    if isinstance(value, Mapping):
        return _values(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Tensor):
        return _array(value.detach().float().numpy(force=True))
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, (torch.device, torch.dtype)):
        return str(value)
    if callable(value):
        return _call(value)
    return _object(value)


def _array(values: "np.ndarray[Any, Any]") -> str:
    shape = " x ".join(map(str, values.shape)) or "one"
    return (
        f"{shape} {values.dtype}, {hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]}"
    )


def _name(kind: Any) -> str:
    """Where a class or function is found, by the shortest path: torch.optim.Adam."""
    home, name = str(getattr(kind, "__module__", "")), str(getattr(kind, "__qualname__", repr(kind)))
    shorter = home.rpartition(".")[0]
    while "." in shorter:
        try:
            found = getattr(importlib.import_module(shorter), name, None)
        except ImportError:
            break
        if found is not kind:
            break
        home, shorter = shorter, shorter.rpartition(".")[0]
    return f"{home}.{name}"


def _source(kind: Any) -> str:
    """The code of a class or function of one's own, if it can be read; '' of torch's, ours and Python's."""
    home = str(getattr(kind, "__module__", "")).partition(".")[0]
    if home in ("torch", "sweepwise", "builtins", "functools"):
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


def _digest(texts: Sequence[str] | Iterator[str]) -> str:
    """A hash of texts, 8 hex digits; '' without any."""
    found = dict.fromkeys(texts)
    return hashlib.sha256("\n".join(found).encode(errors="surrogatepass")).hexdigest()[:8] if found else ""


def _snake(name: str) -> str:
    """`WeightDecay` as weight_decay."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
