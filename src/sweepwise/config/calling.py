"""How a class or function that makes a network is called: by what its signature takes."""

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

from sweepwise.errors import UsageError

NAMES = ("features", "outputs")
Kind = inspect.Parameter


def called_with(make: Callable[..., Any]) -> Callable[[tuple[int, ...], int], Any]:
    """What makes a network, as a function of (features, outputs), the shape of an example and a number.

    Parameters of these names get them; else two that must be given, by their place. What takes no arguments,
    or has a default for each, is called without any.

    Raises:
        UsageError: it takes something else.

    Example:
        >>> called_with(dict)((13,), 3)
        {}
        >>> called_with(lambda outputs: outputs)((13,), 3)
        3
        >>> called_with(lambda shape, count, width=8: (shape, count, width))((13,), 3)
        ((13,), 3, 8)
        >>> called_with(lambda width: width)
        Traceback (most recent call last):
            ...
        sweepwise.errors.UsageError: model: <lambda>(width) must take no arguments, or two, (features, ...
    """
    try:
        parameters = list(inspect.signature(make).parameters.values())
    except (ValueError, TypeError):  # none is known, or an option is bound that it does not have
        return partial(_by_place, make)
    named = [one.name for one in parameters if one.name in NAMES]
    needed = [one for one in parameters if one.default is Kind.empty and not _takes_any(one)]
    if any(one.kind is Kind.VAR_POSITIONAL for one in parameters) and not named:
        by_place = bool(needed) or parameters[0].kind is Kind.VAR_POSITIONAL
        return partial(_by_place, make) if by_place else lambda features, outputs: make()
    if named and all(one.name in NAMES for one in needed):
        first = [one.name for one in parameters if one.kind is not Kind.KEYWORD_ONLY][: len(named)]
        if first == named:  # by their place, as they may take nothing by name
            return lambda features, outputs: make(*_chosen(named, features, outputs).values())
        return lambda features, outputs: make(**_chosen(named, features, outputs))
    if not needed:
        return lambda features, outputs: make()
    if not named and len(needed) == 2 and all(one.kind is not Kind.KEYWORD_ONLY for one in needed):
        return partial(_by_place, make)
    raise UsageError([_fault(make, [one.name for one in needed if one.name not in NAMES])])


def default_of(make: Callable[..., Any], name: str) -> Any:
    """The value of a parameter that is left out, also where it is bound; `Kind.empty`: it has none.

    Example:
        >>> default_of(partial(sorted, reverse=True), "reverse"), default_of(sorted, "reverse")
        (True, False)
    """
    own = takes(make).get(name)
    if own is None:
        return Kind.empty
    return make.keywords.get(name, own.default) if isinstance(make, partial) else own.default


def takes(make: Callable[..., Any]) -> Mapping[str, Kind]:
    """The parameters that `inspect.signature` finds; of options that are bound by name, as if they were not.

    Raises:
        ValueError: it finds none.
    """
    function, bound = make, dict[str, Any]()
    if isinstance(make, partial) and not make.args:
        function, bound = make.func, make.keywords
    if (inspect.isfunction(function) or inspect.isclass(function)) and isinstance(function, Hashable):
        known = _of_function(function)
        if bound.keys() <= known.keys():
            return known
    return inspect.signature(make).parameters


@functools.cache  # asked for again for each run
def _of_function(function: Any) -> Mapping[str, Kind]:
    return inspect.signature(function).parameters


def _takes_any(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)


def _by_place(make: Callable[..., Any], features: tuple[int, ...], outputs: int) -> Any:
    try:
        return make(features, outputs)
    except TypeError as error:
        function = getattr(make, "func", make)
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"model: {name} is called with the shape of an example and the number of outputs, "
            f"{features} and {outputs}, and raises {error}; give what takes these, or nothing"
        ) from error


def _chosen(named: list[str], features: tuple[int, ...], outputs: int) -> dict[str, Any]:
    return {name: {"features": features, "outputs": outputs}[name] for name in named}


def _fault(make: Callable[..., Any], needed: list[str]) -> str:
    function = getattr(make, "func", make)
    name = getattr(function, "__name__", type(function).__name__)
    bound = ", ".join(f"{one}=..." for one in needed)
    way_out = f"bind the others: model=partial({name}, {bound})"
    if name == "<lambda>" or not all(map(str.isidentifier, (name, *needed))):
        way_out = "give the others a default"
    return (
        f"model: {name}({', '.join(needed)}) must take no arguments, or two, (features, outputs): the shape "
        f"of an example and the number of outputs; {way_out}"
    )
