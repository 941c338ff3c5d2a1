"""The signature of a target is the schema of its yaml: values are bound to it, typed and range-checked.

`bind` looks up the `_target_` of a config node, adds every fault of the node's values to a list and returns
the target with its values bound. Nothing is built here, so a bad value costs no time and leaves no files.
`checked` and `plain_arguments` hold values that are given in Python to the same signatures.
"""

import functools
import inspect
import itertools
import math
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from sweepwise.config import allowlist
from sweepwise.config.ranges import TORCH_RANGES, TORCH_TYPES, Increasing, Range
from sweepwise.errors import UsageError, did_you_mean, shell_override

Filled = TypeVar("Filled")
Taker = TypeVar("Taker", bound=Callable[..., Any])
LONGEST_SHOWN = 500  # characters of a value in a message
NO_NODES = "only a group itself may name a target; nothing within its values is built"
FLAT = (bool, int, float, str, type(None))
MOST_KNOWN = 1000  # nodes; a sweep has a few, run by run
ANY = Range()
OF_TORCH = ("Tensor", "device")  # types that no config can hold
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
        The target with its own values bound, and the values for the envelope, both not to be changed: the
        same values at the same place are bound once. Not to be used if there are faults.
    """
    place = key, repr(node), tuple(given), envelope, allowlist.own_packages()
    if (known := _known.get(place)) is not None and allowlist.names(node["_target_"], known.target.func):
        return known
    found = list[str]()
    bound = _bind(key, node, found, given, envelope)
    if not found and all(map(_is_flat, node.values())):
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[place] = bound
    faults += found
    return bound


_known: dict[tuple[Any, ...], Bound] = {}  # nodes that were bound without a fault, by what decides that


def _is_flat(value: Any) -> bool:
    """Whether it is a number or a text, or a list of them: nothing that a target could change for others."""
    if isinstance(value, list):
        return all(type(item) in FLAT for item in value)
    return type(value) in FLAT


def _bind(
    key: str,
    node: Mapping[str, Any],
    faults: list[str],
    given: Collection[str],
    envelope: Callable[..., Any] | None,
) -> Bound:
    """See `bind`."""
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
                way = _as_text(f"{key}.{name}", value, _hint(takers[name], name))
                yield f"{key}.{name}{fault}{more}{way}"


def _as_text(key: str, value: Any, hint: Any) -> str:
    """How to write a value of which only the quotes or brackets are wrong, so that Hydra reads it as text."""
    several = isinstance(value, (list, tuple))
    words = [item if isinstance(item, str) else _shown(item) for item in (value if several else [value])]
    if value is None or not words:
        return ""
    if not several and not isinstance(value, str) and _fits(words[0], hint):
        return f"; as text: {shell_override(key, words[0])}"
    if _fits(words, hint):
        return f"; as text: {shell_override(key, [word.strip('[]') for word in words])}"
    return ""


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
    limits = ANY
    extras: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        limits = next((extra for extra in extras if isinstance(extra, Range)), limits)
    if not _fits(value, hint):
        return [
            f"{key}={_shown(value)}: must be {_type_name(hint)}" + (f" in {limits}" if limits != ANY else "")
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


def checked(key: str) -> Callable[[Taker], Taker]:
    """A decorator for a function or class that is also called from Python: it gets `plain_arguments`.

    Args:
        key: where the values stand in a config, for messages.

    Raises:
        UsageError: when the function is called, with every fault of its arguments.

    Example:
        >>> @checked("data")
        ... def points(*, count: Annotated[int, Range(1)]):
        ...     return count
        >>> import numpy as np
        >>> type(points(count=np.int64(3))).__name__
        'int'
        >>> points(count=0)
        Traceback (most recent call last):
            ...
        sweepwise.errors.UsageError: data.count=0: must be in [1, inf)
    """

    def around(taker: Taker) -> Taker:
        if inspect.isclass(taker):
            taker.__init__ = around(taker.__init__)  # type: ignore[method-assign]
            return taker
        signature = inspect.signature(taker)

        @functools.wraps(taker)
        def with_plain_arguments(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return taker(*args, **kwargs)  # which raises it in Python's own words
            faults: list[str] = []
            given.arguments |= plain_arguments(key, taker, given.arguments, faults)
            if faults:
                raise UsageError(faults)
            return taker(*given.args, **given.kwargs)

        return with_plain_arguments  # type: ignore[return-value]

    return around


def plain_arguments(
    key: str, function: Callable[..., Any], values: Mapping[str, Any], faults: list[str]
) -> dict[str, Any]:
    """Arguments that were given in Python, as a config would give them, for a function of ours or of torch.

    Numbers of numpy and torch become Python's if no digit is lost by it. Of other functions only those
    parameters are looked at that are annotated with a range.

    Args:
        key: where the values stand, for messages.
        function: takes them.
        values: by the names of its parameters; unknown names are left to Python.
        faults: every fault of type and range is appended here.
    """
    plain_values = dict(values)
    if not _has_parameters(function):
        return plain_values
    looked_at = _looked_at(function)
    for name in values.keys() & looked_at.keys():
        hint, default, unwritable = looked_at[name]
        plain_values[name] = value = plain(values[name], hint)
        if value is default or (type(value) in FLAT and type(value) is type(default) and value == default):
            continue
        if not unwritable:
            faults += check(f"{key}.{name}", value, hint)
    return plain_values


@functools.cache  # asked for again for each object that a run is made of
def _looked_at(function: Callable[..., Any]) -> dict[str, tuple[Any, Any, bool]]:
    """Annotation and default of the parameters that are looked at, and whether no config can hold a value."""
    return {
        name: (_hint(function, name), parameter.default, _unwritable(function, name))
        for name, parameter in _parameters(function).items()
        if _is_ours(function) or get_origin(_hints(function).get(name, Any)) is Annotated
    }


def plain(value: Any, hint: Any = Any) -> Any:
    """A value with numbers of numpy and torch, also in lists, as Python's of the same value; paths as text.

    An array stays one if its annotation takes it, and so does a number that no float is equal to.

    Example:
        >>> import numpy as np
        >>> plain(np.float32(0.5)), plain(np.array(3)), plain([np.int64(1)]), plain(np.arange(2), list[int])
        (0.5, 3, [1], [0, 1])
    """
    if type(value) in FLAT:
        return value
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if hasattr(value, "tolist") and (getattr(value, "ndim", None) == 0 or not _fits(value, hint)):
        value = value.tolist()
    if isinstance(value, os.PathLike) and not _fits(value, hint):
        return os.fspath(value)
    if isinstance(value, numbers.Real) and not isinstance(value, (int, float)):  # longdouble, Fraction
        near = float(value)
        return near if near == value else value
    return value


def _has_parameters(function: Callable[..., Any]) -> bool:
    """Whether it is a function or a class; another object with `__call__` may be unhashable."""
    return inspect.isfunction(function) or inspect.isclass(function)


def _is_ours(function: Callable[..., Any]) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("sweepwise", "torch")


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


@functools.cache  # a sweep asks for the same few, run by run
def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind not in variable}


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    home = function.__init__ if inspect.isclass(function) else function
    try:
        return typing.get_type_hints(home, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return {}  # annotations that name what is imported for type checkers only


@functools.cache
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


def counts(function: Callable[..., Any], name: str) -> bool:
    """Whether a parameter takes whole numbers only: one, a list of them, or none at all.

    Example:
        >>> from torch.optim.lr_scheduler import MultiStepLR
        >>> counts(MultiStepLR, "milestones"), counts(MultiStepLR, "gamma")
        (True, False)
    """
    if not _has_parameters(function) or name not in _parameters(function):
        return False
    hint = _hint(function, name)
    while (origin := get_origin(hint)) is not None and origin is not Literal:
        hint = next((one for one in get_args(hint) if one is not type(None)), Any)
    return hint is int


def _unwritable(function: Callable[..., Any], name: str) -> bool:
    """Whether no config can hold a value for a parameter of torch."""
    return function.__module__.startswith("torch.") and name in UNWRITABLE


def _from_default(default: Any) -> Any:
    """The type of a parameter without an annotation, by its default; Any if that does not show it."""
    return type(default) if isinstance(default, (bool, int, float, str)) else Any


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type that a hint says."""
    if type(value) is hint:
        return True
    origin = get_origin(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin is Annotated:
        return not check("", value, hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in get_args(hint))
    if origin is tuple:
        inner = get_args(hint)
        sized = isinstance(value, Sequence) and not isinstance(value, str)
        if inner[1:] == (...,):
            return sized and all(_fits(item, inner[0]) for item in value)
        return sized and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        sized = isinstance(value, Sequence) and not isinstance(value, str)
        return sized and all(_fits(item, (get_args(hint) or (Any,))[0]) for item in value)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        names, items = get_args(hint) or (Any, Any)
        return isinstance(value, Mapping) and all(
            _fits(name, names) and _fits(item, items) for name, item in value.items()
        )
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
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"{{NAME: VALUE, ...}}, each {_type_name((get_args(hint) or (Any, Any))[1])}"
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
    """A value as it would be written on the command line; of a long one its beginning."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{' '.join(text[:LONGEST_SHOWN].split())} ..."
