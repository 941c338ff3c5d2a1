"""What a config may name as a `_target_`: a list given in code, held against the name before any import.

A target is the dotted name of a class or function at the top of a module: one of our components of its own
group, one of torch's modules, initialisations, optimizers and schedulers, or anything that is defined in a
package which the user has named in code. A name that only passes through an allowed module
(torch.nn.init.torch.load) leads nowhere, because what stands before the last dot must be a module itself.
"""

import functools
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.config.groups import GROUPS

ENTRY_POINTS = "sweepwise.packages"  # of distributions that were installed with parts for us
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")  # nothing private, ASCII, no empty part
HYDRAS = ("hydra.conf", "hydra_plugins")  # packages with yamls that Hydra and its plugins bring


@dataclass(frozen=True)
class Place:
    """A part of torch that a group may take from.

    Attributes:
        package: that a target is named by.
        home: package that defines it.
        kind: name of the class from which a target must descend; '': a function.
    """

    package: str
    home: str
    kind: str


TORCH = {
    "model": Place("torch.nn", "torch.nn.modules", "torch.nn.Module"),
    "init": Place("torch.nn.init", "torch.nn.init", ""),
    "optimizer": Place("torch.optim", "torch.optim", "torch.optim.Optimizer"),
    "scheduler": Place("torch.optim", "torch.optim", "torch.optim.lr_scheduler.LRScheduler"),
}
# What the targets of a group must be, whoever has written them.
KINDS = {
    "seed": "sweepwise.seed.Seeds",
    "optimizer": "torch.optim.Optimizer",
    "regularizer": "sweepwise.regularizer.Regularizer",
    "trainer": "sweepwise.trainer.Settings",
    "checkpoint": "sweepwise.checkpoint.Checkpoints",
}
# What ours of the other groups must have: a part of a package is not all that lies in it. Those of the user's
# own may be any class or function that does the same.
RETURNS = {  # of functions the annotation; but for data a class of it does as well
    "data": "sweepwise.data.Arrays",
    "model": "torch.nn.Module",
    "scheduler": "torch.optim.lr_scheduler.LRScheduler",
}
METHODS: dict[str, dict[str, tuple[str, ...]]] = {  # with the first parameters of each
    "monitor": {"watch": ("step",), "epoch": ("step", "epoch"), "describe": ("texts",), "close": ("status",)},
    "early_stop": {"update": ("epoch", "value")},
    "init": {"__call__": ("tensor",)},
}
_named: set[str] = set()


def allow(packages: Sequence[str]) -> None:
    """Allows configs to build what is defined in packages of the user's own, for the rest of the process.

    Args:
        packages: dotted names; what lies below them is allowed with them.

    Raises:
        ValueError: one is no name of a package.
    """
    if isinstance(packages, str):
        raise ValueError(f"packages={packages!r}: must be a list of names")
    for package in packages:
        if not all(map(str.isidentifier, package.split("."))):
            raise ValueError(f"packages={package!r}: must be the name of a package, such as 'mypackage'")
    _named.update(packages)


def own_packages() -> tuple[str, ...]:
    """The packages of the user's own: those named in code, and those that installed distributions declare.

    The latter in their pyproject.toml: [project.entry-points."sweepwise.packages"] then NAME = "PACKAGE".
    """
    return tuple(sorted({*_named, *_declared()}))


@functools.cache
def _declared() -> frozenset[str]:
    return frozenset(entry.value for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))


def refuse_package(path: str) -> None:
    """Refuses a place of Hydra's search path from which it would import a package that is not allowed.

    Args:
        path: pkg://PACKAGE, or a folder with or without file:// before it, from which only yamls are read.

    Raises:
        ValueError: it would.
    """
    scheme, _, name = path.rpartition("://")
    if scheme in ("", "file") or path == "structured://":
        return
    package = re.sub("[/.]+", ".", name).strip(".")
    if scheme != "pkg" or not _within(package, [*HYDRAS, *own_packages()]):
        raise ValueError(
            f"search path {path}: must be file://FOLDER or pkg:// with one of "
            f"{', '.join(own_packages()) or 'your own packages'}; a package is allowed by its name in code: "
            "cli.main(train, packages=['PACKAGE'])"
        )


def find(target: Any, group: str = "") -> Callable[..., Any]:
    """The class or function that a `_target_` names.

    Args:
        target: as the config has it.
        group: whose target it is; '' or a name that is no group's: of any group.

    Raises:
        ValueError: it is not allowed, not there, or not what the group takes; says what is allowed.
    """
    groups = [name for name in GROUPS if name == group or group not in GROUPS]
    places = [TORCH[name] for name in groups if name in TORCH]
    homes = *(f"sweepwise.{name}" for name in groups), *own_packages()
    packages = *homes, *dict.fromkeys(place.package for place in places)
    if not isinstance(target, str) or not NAME.fullmatch(target) or not _within(target, packages):
        raise ValueError(
            f"must be one of {', '.join(f'{name}.*' for name in packages)}; a package of your own is allowed "
            "by its name in code: cli.main(train, packages=['PACKAGE'])"
        )
    found = _at_the_top_of_a_module(target)
    home = str(getattr(found, "__module__", None))
    kinds = [place.kind for place in places if _within(home, [place.home])]
    if not kinds and not _within(home, homes):
        raise ValueError(f"is {home}'s, so not allowed; wrap it in a function of a package of your own")
    if group in KINDS:
        kinds = [KINDS[group]]
    if kinds and not any(_is_a(found, kind) for kind in kinds):
        wanted = " or ".join(f"a class of {kind}" if kind else "a function" for kind in dict.fromkeys(kinds))
        raise ValueError(f"must be {wanted}")
    if not kinds and group in GROUPS and _within(home, ["sweepwise"]) and (rule := _fault(found, group)):
        raise ValueError(f"must be {rule}")
    try:
        inspect.signature(found)
    except ValueError as error:
        raise ValueError(f"has no signature ({error})") from error
    return found


def _fault(found: Callable[..., Any], group: str) -> str | None:
    """What one of ours is not, of a group; '' if it is; None where the group has no such rule."""
    if group in RETURNS:
        kind = RETURNS[group]
        made: Any = found if inspect.isclass(found) else found.__annotations__.get("return")
        is_class = inspect.isclass(made) and (group != "data" or made is not found)
        return "" if is_class and _is_a(made, kind) else f"a function that returns {kind}"
    if group in METHODS:
        rule = f"a class with {', '.join(METHODS[group])}"
        if inspect.isfunction(found):
            return "" if group == "init" and _begins(found, ("tensor",)) else rule
        methods = {name: getattr(found, name, None) for name in METHODS[group]}
        fits = all(
            inspect.isfunction(method) and _begins(method, ("self", *METHODS[group][name]))
            for name, method in methods.items()
        )
        return "" if fits else rule
    return None


def _begins(found: Callable[..., Any], parameters: tuple[str, ...]) -> bool:
    return tuple(inspect.signature(found).parameters)[: len(parameters)] == parameters


def _within(name: str, packages: Sequence[str]) -> bool:
    return f"{name}.".startswith(tuple(f"{package}." for package in packages))


def _at_the_top_of_a_module(target: str) -> Callable[..., Any]:
    path, _, name = target.rpartition(".")
    try:
        # Of torch only what it loads by itself: its other modules do more than compute.
        importlib.import_module("torch" if path.startswith("torch.") else path)
        found = getattr(sys.modules[path], name)
    except (ImportError, AttributeError, KeyError) as error:
        raise ValueError(f"not found ({error})") from error
    if not inspect.isclass(found) and not inspect.isfunction(found):
        raise ValueError("must be a class or a function")
    return found


def _is_a(found: Callable[..., Any], kind: str) -> bool:
    if not kind:
        return inspect.isfunction(found)
    module, _, name = kind.rpartition(".")
    return inspect.isclass(found) and issubclass(found, getattr(importlib.import_module(module), name))
