"""What a config may name as a `_target_`: a list in code, compared with the name before anything is imported.

A target is the dotted name of a class or function at the top of a module: one of our components of its own
group, one of torch's modules, initialisations, optimizers and schedulers, or anything that is defined in a
package which the user has named in code. A name that only passes through an allowed module
(torch.nn.init.torch.load) is not found, because what stands before the last dot must be a module itself.
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

ENTRY_POINTS = "sweepwise.packages"  # of installed distributions that bring components
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")  # nothing private, ASCII, no empty part
_signature = functools.cache(inspect.signature)  # a sweep asks for the same few, run by run
HYDRAS = ("hydra.conf", "hydra_plugins")  # packages with the yamls of Hydra and its plugins


@dataclass(frozen=True)
class TorchPart:
    """A part of torch from which a group may take its targets.

    Attributes:
        package: with which the name of a target begins.
        home: package that must define the target.
        kind: name of the class from which the target must descend; '': it must be a function.
    """

    package: str
    home: str
    kind: str


TORCH = {
    "model": TorchPart("torch.nn", "torch.nn.modules", "torch.nn.Module"),
    "init": TorchPart("torch.nn.init", "torch.nn.init", ""),
    "optimizer": TorchPart("torch.optim", "torch.optim", "torch.optim.Optimizer"),
    "scheduler": TorchPart("torch.optim", "torch.optim", "torch.optim.lr_scheduler.LRScheduler"),
}
# The class from which a target of a group must descend, whoever has written it.
KINDS = {
    "seed": "sweepwise.seed.Seeds",
    "optimizer": "torch.optim.Optimizer",
    "regularizer": "sweepwise.regularizer.Regularizer",
    "trainer": "sweepwise.trainer.Settings",
    "checkpoint": "sweepwise.checkpoint.Checkpoints",
}
# What our own targets of the other groups must have, as not everything in a group's package is a component.
# A target of the user's own may be any class or function that does the same.
RETURNS = {  # the annotation of a function; or a class that descends from it, except for data
    "data": "sweepwise.data.Arrays",
    "model": "torch.nn.Module",
    "scheduler": "torch.optim.lr_scheduler.LRScheduler",
}
METHODS: dict[str, dict[str, tuple[str, ...]]] = {  # by name, with the first parameters of each
    "monitor": {"watch": ("step",), "epoch": ("step", "epoch"), "describe": ("texts",), "close": ("status",)},
    "early_stop": {"update": ("epoch", "value")},
    "init": {"__call__": ("tensor",)},
}
_allowed: set[str] = set()


def allow(packages: Sequence[str]) -> None:
    """Allows configs to build what is defined in packages of the user, for the rest of the process.

    Args:
        packages: dotted names; what lies below them is allowed with them.

    Raises:
        ValueError: one of them is not the name of a package.
    """
    if isinstance(packages, str):
        raise ValueError(f"packages={packages!r}: must be a list of names")
    for package in packages:
        if not all(map(str.isidentifier, package.split("."))):
            raise ValueError(f"packages={package!r}: must be the name of a package, such as 'mypackage'")
    _allowed.update(packages)


def own_packages() -> tuple[str, ...]:
    """The packages of the user's own: those named in code, and those that installed distributions declare.

    The latter in their pyproject.toml: [project.entry-points."sweepwise.packages"] then NAME = "PACKAGE".
    """
    return tuple(sorted({*_allowed, *_declared()}))


@functools.cache
def _declared() -> frozenset[str]:
    texts = (known.read_text("entry_points.txt") for known in importlib.metadata.distributions())
    if not any(ENTRY_POINTS in (text or "") for text in texts):  # to read them all takes four times as long
        return frozenset()
    return frozenset(entry.value for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))


def refuse_package(path: str) -> None:
    """Refuses an entry of Hydra's search path for which a package would be imported that is not allowed.

    Args:
        path: pkg://PACKAGE, or a folder with or without file:// before it, from which only yamls are read.

    Raises:
        ValueError: the package is not allowed.
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
    place = str(target), group, own_packages()
    if (known := _found.get(place)) is None or not isinstance(target, str) or not names(target, known):
        known = _found[place] = _find(target, group)
    return known


_found: dict[tuple[str, str, tuple[str, ...]], Callable[..., Any]] = {}  # a sweep asks for the same few


def _find(target: Any, group: str) -> Callable[..., Any]:
    """See `find`."""
    groups = [name for name in GROUPS if name == group or group not in GROUPS]
    parts = [TORCH[name] for name in groups if name in TORCH]
    homes = *(f"sweepwise.{name}" for name in groups), *own_packages()
    packages = *homes, *dict.fromkeys(part.package for part in parts)
    if not isinstance(target, str) or not NAME.fullmatch(target) or not _within(target, packages):
        raise ValueError(
            f"must be one of {', '.join(f'{name}.*' for name in packages)}; a package of your own is allowed "
            "by its name in code: cli.main(train, packages=['PACKAGE'])"
        )
    component = _top_level_object(target)
    home = str(getattr(component, "__module__", None))
    kinds = [part.kind for part in parts if _within(home, [part.home])]
    if not kinds and not _within(home, homes):
        raise ValueError(
            f"is defined in {_public(home)}, which is not allowed; wrap it in a function of your own package"
        )
    if group in KINDS:
        kinds = [KINDS[group]]
    if kinds and not any(_is_a(component, kind) for kind in kinds):
        wanted = " or ".join(f"a class of {kind}" if kind else "a function" for kind in dict.fromkeys(kinds))
        raise ValueError(f"must be {wanted}")
    if not kinds and group in GROUPS and _within(home, ["sweepwise"]) and (rule := _fault(component, group)):
        raise ValueError(f"must be {rule}")
    try:
        _signature(component)
    except ValueError as error:
        raise ValueError(f"has no signature ({error})") from error
    return component


def names(target: str, component: Callable[..., Any]) -> bool:
    """Whether a `_target_` that was found before still names the same class or function."""
    path, _, name = target.rpartition(".")
    return getattr(sys.modules.get(path), name, None) is component


def _fault(component: Callable[..., Any], group: str) -> str | None:
    """What one of our own objects would have to be for a group; '' if it is that, or if there is no rule."""
    if group in RETURNS:
        kind = RETURNS[group]
        made: Any = component if inspect.isclass(component) else component.__annotations__.get("return")
        is_class = inspect.isclass(made) and (group != "data" or made is not component)
        return "" if is_class and _is_a(made, kind) else f"a function that returns {kind}"
    if group in METHODS:
        rule = f"a class with {', '.join(METHODS[group])}"
        if inspect.isfunction(component):
            return "" if group == "init" and _starts_with(component, ("tensor",)) else rule
        methods = {name: getattr(component, name, None) for name in METHODS[group]}
        fits = all(
            inspect.isfunction(method) and _starts_with(method, ("self", *METHODS[group][name]))
            for name, method in methods.items()
        )
        return "" if fits else rule
    return None


def _starts_with(component: Callable[..., Any], parameters: tuple[str, ...]) -> bool:
    return tuple(_signature(component).parameters)[: len(parameters)] == parameters


def _public(module: str) -> str:
    """A module's name up to its first private part: what a library keeps in `pathlib._local` is pathlib's."""
    public = module.partition("._")[0]
    return module if public.startswith("_") else public


def _within(name: str, packages: Sequence[str]) -> bool:
    return f"{name}.".startswith(tuple(f"{package}." for package in packages))


def _top_level_object(target: str) -> Callable[..., Any]:
    """The class or function at the top of a module that a dotted name names."""
    path, _, name = target.rpartition(".")
    try:
        # Of torch only the modules that `import torch` loads: others do more than compute.
        importlib.import_module("torch" if path.startswith("torch.") else path)
        component = getattr(sys.modules[path], name)
    except (ImportError, AttributeError, KeyError) as error:
        raise ValueError(f"not found ({error})") from error
    if not inspect.isclass(component) and not inspect.isfunction(component):
        raise ValueError("must be a class or a function")
    return component


def _is_a(component: Callable[..., Any], kind: str) -> bool:
    if not kind:
        return inspect.isfunction(component)
    module, _, name = kind.rpartition(".")
    return inspect.isclass(component) and issubclass(
        component, getattr(importlib.import_module(module), name)
    )
