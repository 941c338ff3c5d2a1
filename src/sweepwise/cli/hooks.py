"""Where Hydra asks us: what it composes is checked, what it cannot compose is explained, and --help is ours.

Hydra finds, parses and composes; nothing here looks at a command line by itself. `install` puts each of these
where Hydra does the thing, for the rest of the process.
"""

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from sweepwise.cli import guard, swept
from sweepwise.cli.checks import home_faults, hydra_faults, unheard_choices
from sweepwise.cli.faults import choice_faults
from sweepwise.cli.help import page, show
from sweepwise.cli.options import Confs
from sweepwise.config import allowlist
from sweepwise.errors import UsageError

SWEEPS = "hydra.mode=MULTIRUN"  # which Hydra adds to the overrides of -m
# By loader: the config's name, overrides and what Hydra has composed of them to read the mode.
_last: WeakKeyDictionary[ConfigLoaderImpl, tuple[str | None, list[str], DictConfig]] = WeakKeyDictionary()


@functools.cache
def install() -> None:
    """Puts the checks of `guard` and those of this file in place; calling it again changes nothing."""
    guard.install()
    for owner, name, changed in (
        (ConfigLoaderImpl, guard.COMPOSES, _composing),
        (ConfigLoaderImpl, guard.COMPOSES, swept.lenient),
        (ConfigRepository, "initialize_sources", _searching),
        (ConfigRepository, "load_config", _loading),
    ):
        setattr(owner, name, changed(getattr(owner, name)))
    setattr(Hydra, "app_help", _help)  # noqa: B010
    setattr(OmegaConf, "_get_resolver", staticmethod(_resolving(OmegaConf._get_resolver)))  # noqa: B010


def confs_of(error: BaseException) -> Confs | None:
    """What Hydra could find when it failed to compose; None if it was not composing."""
    made: Callable[[], Confs] | None = getattr(error, "confs", None)
    try:
        return made() if made else None
    except HydraException:  # its search path is at fault
        return None


def _composing(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    @functools.wraps(load)
    def load_configuration(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *args: Any,
        **options: Any,
    ) -> DictConfig:
        confs = functools.partial(Confs, self, config_name, tuple(overrides))
        asks_for_mode = not options.get("validate_sweep_overrides", True)
        try:
            failed = getattr(self, "failed", None)
            if failed and failed[0] == [word for word in overrides if not word.startswith("hydra.mode=")]:
                raise failed[1]
            config = _composed_before(self, config_name, overrides, run_mode)
            if config is None:
                config = load(self, config_name, overrides, run_mode, *args, **options)
            if asks_for_mode and config.hydra.mode is None:
                _last[self] = config_name, list(overrides), config
        except (HydraException, OmegaConfBaseException) as error:
            error.confs = confs  # type: ignore[union-attr]
            if asks_for_mode:  # Hydra swallows it and composes the same once more
                self.failed = list(overrides), error  # type: ignore[attr-defined]
            raise
        except (ValueError, TypeError, AttributeError) as error:  # of a group whose value is no name
            told = ConfigCompositionException(str(error))
            told.confs = confs  # type: ignore[attr-defined]
            raise told from error
        faults = hydra_faults(config.hydra)
        if not asks_for_mode:
            faults += _sweep_faults(config, run_mode, confs)
        if faults:
            raise UsageError(faults)
        return config

    return load_configuration


def _composed_before(
    loader: ConfigLoaderImpl, name: str | None, overrides: Sequence[str], mode: RunMode
) -> DictConfig | None:
    """What Hydra has just composed to read the mode from it, where it now composes the same for a sweep."""
    known = _last.pop(loader, None)
    if (
        known is None
        or mode != RunMode.MULTIRUN
        or (name, list(overrides)) != (known[0], [*known[1], SWEEPS])
    ):
        return None
    if any(word.lstrip("+~").startswith("hydra") and re.search(r"[,(]", word) for word in overrides):
        return None  # Hydra refuses some of these in the second call only
    config = known[2]
    config.hydra.mode = RunMode.MULTIRUN
    config.hydra.overrides.hydra.append(SWEEPS)
    return config


def _sweep_faults(config: DictConfig, run_mode: RunMode, confs: Callable[[], Confs]) -> Iterator[str]:
    """What is wrong with a sweep, before Hydra makes its folder and torch is imported for its runs."""
    if run_mode != RunMode.MULTIRUN or config.hydra.mode != RunMode.MULTIRUN:
        return
    found = confs()
    words = found.parsed(config.hydra.overrides.task)
    yield from home_faults(config, words)
    yield from unheard_choices(config, found)
    yield from choice_faults(words, found)


def _searching(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def initialize_sources(self: ConfigRepository, config_search_path: ConfigSearchPath) -> None:
        initialize(self, config_search_path)
        for source in self.sources:
            if source.provider.startswith("hydra.searchpath") and not source.available():
                raise ConfigCompositionException(
                    f"hydra.searchpath: {source.full_path()} does not exist; write pkg://PACKAGE.conf or "
                    "file://FOLDER"
                )

    return initialize_sources


def _loading(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_config(self: ConfigRepository, config_path: str) -> Any:
        try:
            return load(self, config_path)
        except (YAMLError, ValueError, OSError) as error:
            if isinstance(error, HydraException):
                raise
            raise ConfigCompositionException(f"{config_path}: cannot be read: {_told(error)}") from error

    return load_config


def _told(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _help(self: Hydra, config_name: str | None, args_parser: Any, args: Any, **_: Any) -> None:
    overrides: Sequence[str] = args.overrides
    show(page(Confs(self.config_loader, config_name, overrides), overrides))


def _resolving(get: Callable[[str], Any]) -> Callable[[str], Any]:
    @functools.wraps(get)
    def get_resolver(name: str) -> Any:
        found = get(name)
        if found is None and _import_own():
            found = get(name)
        return found

    return get_resolver


_imported: set[str] = set()


def _import_own() -> bool:
    """Imports the packages that code names, for the resolvers that they register; whether one was new.

    Only when a resolver is asked for that is not there: such a package imports torch, which takes seconds.

    Raises:
        UsageError: one cannot be imported.
    """
    new = [package for package in allowlist.own_packages() if package not in _imported]
    for package in new:
        _imported.add(package)
        try:
            importlib.import_module(package)
        except Exception as error:
            raise UsageError([f"{package}: cannot be imported: {type(error).__name__}: {error}"]) from error
    return bool(new)
