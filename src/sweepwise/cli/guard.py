"""Checks of what Hydra imports, builds or unpickles before our code sees a config: only what is allowed.

Hydra imports the packages of its search path, builds callbacks, launchers, sweepers and logging handlers from
the config under `hydra`, sets environment variables from it, and with --experimental-rerun unpickles a file.
YAML takes a time such as 1:30:00 for 5400. OmegaConf copies what an alias of a yaml stands for each time it
is used, so that a few lines could fill the memory. `install` puts a check where each of these begins.
"""

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweepwise.cli.unheeded import refuse_unheeded
from sweepwise.config import allowlist

Keys = tuple[Any, ...]  # the path of a key below `hydra`

PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
HANDLERS = ("logging.StreamHandler", "logging.NullHandler")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
FACTORIES = {"()", ".", "class", "factory", "queue", "listener"}  # where logging is told what to build
MAX_NODES = 100_000  # of a yaml, its aliases expanded
# The method by which every config is composed: in Hydra 1.4 load_configuration is only one of its callers.
COMPOSES = "_load_configuration" if hasattr(ConfigLoaderImpl, "_load_configuration") else "load_configuration"


class Foreign(HydraException):
    """Hydra was asked to import, build or read what is not allowed; the message is one line."""


@functools.cache
def install() -> None:
    """Puts the checks in place for the rest of the process; calling it again changes nothing."""
    for owner, name, checked in (
        (ConfigRepository, "initialize_sources", _importing),
        *_of_this_version(),
    ):
        setattr(owner, name, checked(getattr(owner, name)))


def _of_this_version() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """What has moved between Hydra 1.3 with OmegaConf 2.3 and Hydra 1.4 with OmegaConf 2.4."""
    yield ConfigLoaderImpl, COMPOSES, _composing
    rerun = sys.modules["hydra.main"], "_get_rerun_conf"
    if not hasattr(*rerun):
        rerun = sys.modules["hydra._internal.utils"], "_get_rerun_overrides"
    yield (*rerun, _unpickling)
    names = "omegaconf._utils", "omegaconf.omegaconf", "omegaconf.basecontainer"
    for module in (sys.modules[name] for name in names):
        if hasattr(module, "get_yaml_loader"):  # each holds the name
            yield module, "get_yaml_loader", _reading


def refuse_foreign(config: DictConfig) -> None:
    """Refuses a composed config whose `hydra` part names foreign code, or lacks a launcher or sweeper.

    Raises:
        Foreign: a target, a logging handler or an environment variable is not allowed; no launcher or sweeper
            is left.
    """
    for group in ("launcher", "sweeper"):
        if not OmegaConf.is_dict(config.hydra[group]):
            raise Foreign(
                f"hydra.{group}={config.hydra[group]}: must be a group; hydra/{group}=NAME chooses one"
            )
    for group in ("launcher", "sweeper", "callbacks"):
        for path, value in _leaves((group,), config.hydra):
            if "_target_" in path:
                _refuse_target(path, value)
    for group in ("hydra_logging", "job_logging"):
        for path, value in _leaves((group,), config.hydra):
            _refuse_logging(path, value)
    for path, value in _leaves(("env_set",), config.hydra.job):
        if os.environ.get(path[-1]) != value:
            raise Foreign(
                f"{_key(('job', *path))}={value}: a config must not change the environment; set it before "
                f"the command: {path[-1]}={value} python train.py"
            )


def _refuse_target(path: Keys, target: Any) -> None:
    if path in (("launcher", "_target_"), ("sweeper", "_target_")):
        # Hydra builds it only if it has found it under this name among its installed plugins.
        if not isinstance(target, str) or not target.startswith(PLUGINS):
            raise Foreign(f"{_key(path)}={target}: must be an installed plugin of Hydra, hydra_plugins.*")
        return
    own = allowlist.own_packages()
    if path[-1] != "_target_" or not str(target).startswith(tuple(f"{package}." for package in own)):
        raise Foreign(
            f"{_key(path)}={target}: must be {' or '.join(f'{name}.*' for name in own) or 'of your own'}; a "
            "package of your own is allowed by its name in code: cli.main(train, packages=['PACKAGE'])"
        )
    try:
        allowlist.find(target)
    except ValueError as error:
        raise Foreign(f"{_key(path)}={target}: {error}") from error


def _refuse_logging(path: Keys, value: Any) -> None:
    if FACTORIES & {*path} and not (path[-1] == "class" and value in HANDLERS):
        raise Foreign(
            f"{_key(path)}={value}: must be one of {', '.join(HANDLERS)}, and nothing else of logging is "
            "built; hydra/job_logging=stdout prints, a run's own files are in its folder"
        )
    if isinstance(value, str) and "://" in value and value not in STREAMS:
        raise Foreign(f"{_key(path)}={value}: must be one of {', '.join(STREAMS)}")


def _leaves(path: Keys, parent: Any) -> Iterator[tuple[Keys, Any]]:
    """All values below a node with their paths, interpolations resolved, as Hydra will see them."""
    if OmegaConf.is_missing(parent, path[-1]):
        return
    try:
        value = parent[path[-1]]
    except OmegaConfBaseException as error:
        raise Foreign(
            f"{_key(path)}: is an interpolation that cannot be resolved yet; write the value itself"
        ) from error
    if isinstance(value, DictConfig):
        for name in value:
            yield from _leaves((*path, name), value)
    elif isinstance(value, ListConfig):
        for index in range(len(value)):
            yield from _leaves((*path, index), value)
    else:
        yield path, value


def _key(path: Keys) -> str:
    return ".".join(map(str, ("hydra", *path)))


def _composing(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    @functools.wraps(load)
    def load_configuration(*args: Any, **kwargs: Any) -> DictConfig:
        config = load(*args, **kwargs)
        refuse_foreign(config)
        refuse_unheeded(config)
        return config

    return load_configuration


def _importing(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def initialize_sources(self: Any, config_search_path: ConfigSearchPath) -> None:
        try:
            for entry in config_search_path.get_path():
                allowlist.refuse_package(str(entry.path))
        except ValueError as error:
            raise Foreign(str(error)) from error
        initialize(self, config_search_path)

    return initialize_sources


def _reading(loader_class: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(loader_class)
    def get_yaml_loader(**limits: Any) -> Any:
        loader = loader_class(**limits)  # a class made anew
        loader.yaml_implicit_resolvers = {
            first: [(tag, _Decimal(pattern)) for tag, pattern in resolvers]
            for first, resolvers in loader.yaml_implicit_resolvers.items()
        }
        compose = loader.get_single_node

        def get_single_node(self: Any) -> Any:
            node = compose(self)
            size = _nodes(node, {})
            if size > MAX_NODES:
                content = f"{size:,.0f} values" if math.isfinite(size) else "what they are a part of"
                rule = f"must stand for {MAX_NODES:,} at most"
                raise Foreign(
                    f"{node.start_mark.name}: its aliases stand for {content}; {rule}: write it out"
                )
            return node

        loader.get_single_node = get_single_node
        return loader

    return get_yaml_loader


class _Decimal:
    """A pattern of a yaml's values that takes no numbers to base 60: 1:30:00 is a text, as in an override."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern

    def match(self, text: str) -> Any:
        return None if ":" in text else self._pattern.match(text)


def _nodes(node: Any, known: dict[Any, float]) -> float:
    """Values in a node of a yaml, its aliases expanded; infinitely many if it holds itself."""
    if node not in known:
        known[node] = math.inf
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for item in inner for part in (item if isinstance(item, tuple) else (item,)))
        known[node] = 1 + sum(_nodes(part, known) for part in parts)
    return known[node]


def _unpickling(load: Callable[..., DictConfig]) -> Callable[..., NoReturn]:
    @functools.wraps(load)
    def get_rerun_conf(*_: Any) -> NoReturn:
        raise Foreign(
            "--experimental-rerun: would unpickle a file, which can run code; give the overrides again"
        )

    return get_rerun_conf
