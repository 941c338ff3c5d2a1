"""The signature of a target is the schema of its yaml: values are bound to it, typed and range-checked.

`bind` looks up the `_target_` of a config node, adds every fault of the node's values to a list and returns
the target with its values bound. Nothing is built here, so a bad value costs no time and leaves no files.
"""

import functools
import inspect
import itertools
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from sweepwise.config import allowlist
from sweepwise.config.ranges import TORCH_RANGES, TORCH_TYPES, Increasing, Range
from sweepwise.errors import UsageError, did_you_mean

Filled = TypeVar("Filled")
NO_NODES = "only a group itself may name a target; nothing within its values is built"
# Parameters of torch whose values no config can hold.
UNWRITABLE = {"lr_lambda": "a function", "scale_fn": "a function", "schedulers": "a list of schedulers"}


@dataclass(frozen=True)
class Bound:
    """A target with its values bound, and the values for the function around it (`bind`'s `envelope`)."""

    target: functools.partial[Any]
    envelope: Mapping[str, Any]


def locate(key: str, target: Any) -> Callable[..., Any]:
    """The object that the `_target_` of a config node names, by the rules of `allowlist`.

    Args:
        key: where the node stands; what is before its first dot is its group.
        target: as the config has it.

    Raises:
        UsageError: it is not allowed, or does not exist.
    """
    try:
        return allowlist.find(target, key.partition(".")[0])
    except ValueError as error:
        shown = _shown(target) if str(target).isprintable() else ascii(target)
        raise UsageError([f"{key}._target_={shown}: {error}"]) from error


def bind(
    key: str,
    node: Mapping[str, Any],
    faults: list[str],
    *,
    given: Collection[str] = (),
    envelope: Callable[..., Any] | None = None,
) -> Bound:
    """Binds a config node to its target.

    Args:
        key: where the node stands, for messages ('scheduler').
        node: plain values with a `_target_`.
        faults: every fault is appended here, so that all can be reported at once.
        given: parameters of the target that the caller passes, which the config may not.
        envelope: a function around the target, whose keyword-only parameters with a default the node may set
            as well (a scheduler's `warmup`); those without one come from the caller.

    Returns:
        The target with its own values bound, and the values for the envelope. Not to be used if there are
        faults.
    """
    try:
        target = locate(key, node.get("_target_"))
    except UsageError as error:
        faults += error.faults
        return Bound(functools.partial(dict), {})
    values = {name: value for name, value in node.items() if name != "_target_"}
    around = _parameters(envelope) if envelope is not None else {}
    outer = [n for n, p in around.items() if p.kind is p.KEYWORD_ONLY and p.default is not p.empty]
    own = {n: p for n, p in _parameters(target).items() if n not in given and n not in around}
    faults += _value_faults(key, values, {**dict.fromkeys(own, target), **dict.fromkeys(outer, envelope)})
    faults += _missing_faults(key, values, own, target)
    bound = functools.partial(target, **{n: _as_annotated(v) for n, v in values.items() if n in own})
    return Bound(bound, {n: v for n, v in values.items() if n in outer})


def _value_faults(key: str, values: Mapping[str, Any], takers: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values that a node gives.

    Args:
        key: where the node stands.
        values: by name.
        takers: by the name of each known parameter, the function that has it.
    """
    wrong = {
        name: check("", value, _hint(takers[name], name))
        for name, value in values.items()
        if name in takers and not _unwritable(takers[name], name)
    }
    for name, value in values.items():
        yield from (f"{node}: {NO_NODES}" for node in _nodes(f"{key}.{name}", value))
        if name not in takers:
            yield f"{key}.{name}: unknown; {did_you_mean(name, sorted(takers))}"
        for fault in wrong.get(name, ()):
            # By interpolation one value may stand at several names: its fault is reported at the first.
            first, *others = (other for other, faults in wrong.items() if fault in faults)
            if name == first:
                more = f"; the same for {', '.join(others)}" if others else ""
                yield f"{key}.{name}{fault}{more}"


def _missing_faults(
    key: str,
    values: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    target: Callable[..., Any],
) -> Iterator[str]:
    """The parameters of a target that a node must give, and those that no config can give."""
    for name, parameter in parameters.items():
        missing = parameter.default is parameter.empty and name not in values
        if _unwritable(target, name) and (missing or values.get(name) is not None):
            yield (
                f"{key}.{name}: must be {UNWRITABLE[name]}, which no config can hold; choose another "
                "_target_, or a function of your own package that builds this one"
            )
        elif missing:
            yield f"{key}.{name}: must be given"


def check(key: str, value: Any, hint: Any) -> list[str]:
    """The faults of one value against its annotation: type, finite, range."""
    limits = Range()
    extras: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        limits = next((extra for extra in extras if isinstance(extra, Range)), limits)
    if not _fits(value, hint):
        return [
            f"{key}={_shown(value)}: must be {_type_name(hint)}"
            + (f" in {limits}" if limits != Range() else "")
        ]
    faults = []
    for number in _numbers(value):
        if isinstance(number, float) and not math.isfinite(number):
            faults.append(f"{key}={_shown(value)}: must be finite")
        elif number not in limits:
            faults.append(f"{key}={_shown(value)}: must be in {limits}")
    if Increasing() in extras and any(later <= number for number, later in itertools.pairwise(value)):
        faults.append(f"{key}={_shown(value)}: must increase from each number to the next")
    return faults


def filled(key: str, values: Mapping[str, Any], kind: Callable[..., Filled]) -> Filled:
    """Builds an object of a class from values, which are checked against the annotations of its parameters.

    Args:
        key: above the values, for messages.
        values: by the names of parameters.
        kind: the class.

    Raises:
        UsageError: with every fault: unknown names, and values of the wrong type or range.
    """
    known = _parameters(kind)
    faults = []
    for name, value in values.items():
        if name in known:
            faults += check(f"{key}.{name}", value, _hint(kind, name))
        else:
            faults.append(f"{key}.{name}: unknown; there is {', '.join(known)}")
    if faults:
        raise UsageError(faults)
    return kind(**values)


def _nodes(path: str, value: Any) -> Iterable[str]:
    """The places in a value at which a target is named."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield f"{path}._target_={_shown(value['_target_'])}"
        for name, item in value.items():
            yield from _nodes(f"{path}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _nodes(f"{path}[{index}]", item)


@functools.cache
def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind not in variable}


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    home = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(home, include_extras=True)
    except (NameError, TypeError):
        return {}  # annotations that name what is imported for type checkers only


def _hint(function: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter, with its range; of one of torch's also from `ranges`."""
    hint = _hints(function).get(name, Any)
    if hint is Any:
        hint = _from_default(_parameters(function)[name].default)
    if function.__module__.startswith("torch."):
        path = f"{function.__name__}.{name}"
        if get_origin(hint := TORCH_TYPES.get(path, hint)) is Annotated:
            return hint
        return Annotated[hint, TORCH_RANGES[name]] if name in TORCH_RANGES else hint
    return hint


def _unwritable(function: Callable[..., Any], name: str) -> bool:
    """Whether no config can hold a value for a parameter of torch."""
    return function.__module__.startswith("torch.") and name in UNWRITABLE


def _from_default(default: Any) -> Any:
    """The type of a parameter without an annotation, by its default; Any if that does not show it."""
    return type(default) if isinstance(default, (bool, int, float, str)) else Any


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type that a hint says."""
    origin = get_origin(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin is Annotated:
        return not check("", value, hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return any(value == word and type(value) is type(word) for word in get_args(hint))
    if origin is tuple:
        inner = get_args(hint)
        sized = isinstance(value, Sequence) and not isinstance(value, str)
        if inner[1:] == (...,):
            return sized and all(_fits(item, inner[0]) for item in value)
        return sized and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        sized = isinstance(value, Sequence) and not isinstance(value, str)
        return sized and all(_fits(item, (get_args(hint) or (Any,))[0]) for item in value)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        return whole or isinstance(value, float)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not inspect.isclass(hint) or isinstance(value, hint)


def _type_name(hint: Any) -> str:
    """A type in words, such as 'a whole number'."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        return f"{_type_name(inner)} in {extras[0]}"
    if origin in (Union, types.UnionType):
        names = [
            _type_name(option) for option in get_args(hint) if getattr(option, "__name__", "") != "Tensor"
        ]
        return " or ".join(names)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if origin is tuple and get_args(hint)[1:] != (...,):
        inner = get_args(hint)
        return f"{len(inner)} values, each {_type_name(inner[0])}"
    if origin is not None:
        return f"a list, each {_type_name((get_args(hint) or (Any,))[0])}"
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return plain.get(hint, str(getattr(hint, "__name__", hint)))


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _as_annotated(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    """A value as it would be written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
