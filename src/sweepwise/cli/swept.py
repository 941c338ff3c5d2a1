"""What a sweep chooses, and the config of the sweep itself, which may lack keys of the options it chooses.

Hydra composes a sweep's own config of what is not swept: default options, and every key that has one value.
A key that only the swept options have is no fault, so it is kept from that config, and given to the jobs.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sweepwise.cli.options import Confs
from sweepwise.cli.priors import prior_of
from sweepwise.config.drawn import in_grammar

LEAF = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)+")  # neither an index nor a group, which has no dot

Compose = Callable[[list[str]], DictConfig]


def swept_groups(
    loader: ConfigLoader, repository: IConfigRepository, config: DictConfig
) -> dict[str, list[str]]:
    """The options that a sweep chooses for each group, as its jobs are given them.

    Args:
        loader: Hydra's.
        repository: where Hydra finds its configs.
        config: of the sweep, with Hydra's own part.

    Returns:
        Such as {'init': ['normal', 'xavier'], 'regularizer': ['[l1]', '[dropout]']}.
    """
    given = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    lines = [*_of_searched(loader, repository, config), *lines_of(config, resolve=False)]
    lines += list(map(str, given)) if isinstance(given, list) else []
    parser = OverridesParser.create(config_loader=loader)
    found: dict[str, list[str]] = {}
    for line in lines:
        try:
            (override,) = parser.parse_overrides([line])
        except HydraException:  # the sweeper has its own message for it
            continue
        found.pop(override.get_key_element(), None)  # the last one counts
        if override.is_choice_sweep() and is_group(repository, override.key_or_group):
            found[override.get_key_element()] = list(override.sweep_string_iterator())
    return found


def chosen(config: DictConfig) -> dict[str, list[str]]:
    """The option that a sweep's own config chooses for each group."""
    return {str(group): [str(option)] for group, option in config.hydra.runtime.choices.items() if option}


def searched(config: DictConfig) -> list[str]:
    """The keys of `hydra.sweeper.search`: they are drawn from the ranges that a yaml says."""
    plain = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    found = plain.get("search") if isinstance(plain, dict) else None
    return list(map(str, found if isinstance(found, list) else [found] if found else []))


def _of_searched(loader: ConfigLoader, repository: IConfigRepository, config: DictConfig) -> list[str]:
    """The groups of `hydra.sweeper.search`, with their options, as a command line would say them."""
    groups = [key for key in searched(config) if is_group(repository, key)]
    if not groups:
        return []
    confs = Confs(loader, config.hydra.job.config_name, config.hydra.overrides.hydra)
    return [f"{group}={prior_of(confs, group, chosen(config)).ranges['']}" for group in groups]


def lines_of(config: DictConfig, *, resolve: bool) -> list[str]:
    """What the keys of a sweeper in a sweep's config say to sweep over, as a command line would say it.

    Args:
        config: of the sweep, with Hydra's own part.
        resolve: whether interpolations are replaced by what they stand for.

    Raises:
        UsageError: an entry of `params` is not one of `config.drawn`.
    """
    plain = OmegaConf.to_container(config.hydra.sweeper, resolve=resolve)
    params = plain.get("params") if isinstance(plain, dict) else None
    if not isinstance(params, dict):
        return []
    return [f"{key}={in_grammar(str(key), value)}" for key, value in params.items()]


def is_group(repository: IConfigRepository, key: str) -> bool:
    """Whether a key is that of a config group."""
    return "." not in key and repository.group_exists(key)


def may_be_absent(repository: IConfigRepository, override: Override) -> bool:
    """Whether choices may decide if there is what it sets: a key with a dot, or a group in a group."""
    key = override.key_or_group
    if override.type != OverrideType.CHANGE or override.package or override.is_hydra_override():
        return False
    return bool(LEAF.fullmatch(key)) or ("/" in key and is_group(repository, key))


def lenient(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """What composes, changed so that a sweep's own config may lack keys of swept options."""

    @functools.wraps(load)
    def load_configuration(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        *rest: Any,
        **named: Any,
    ) -> DictConfig:
        def compose(lines: list[str]) -> DictConfig:
            if lines is not overrides and "parsed_overrides" in named:  # Hydra 1.4 has parsed its own lines
                return load(self, config_name, lines, run_mode, *rest, **{**named, "parsed_overrides": None})
            return load(self, config_name, lines, run_mode, *rest, **named)

        try:
            return compose(overrides)
        except ConfigCompositionException:
            config = (
                _without_absent(self, config_name, overrides, compose)
                if run_mode == RunMode.MULTIRUN
                else None
            )
            if config is None:
                raise
            return config

    return load_configuration


def _without_absent(
    loader: ConfigLoader, config_name: str | None, lines: list[str], compose: Compose
) -> DictConfig | None:
    """The config of a sweep without the keys that its own options lack; the jobs get them.

    Returns:
        None if no group is swept, or no key is absent.
    """
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(lines)
    repository = Confs(loader, config_name, lines).repository
    maybe = [
        override
        for override in overrides
        if override.value_type == ValueType.ELEMENT and may_be_absent(repository, override)
    ]
    bare = compose([override.input_line or "" for override in overrides if override not in maybe])
    if not swept_groups(loader, repository, bare):
        return None
    absent = [override for override in maybe if not _is_there(bare, override.key_or_group)]
    if not absent:
        return None
    config = compose([override.input_line or "" for override in overrides if override not in absent])
    config.hydra.overrides.task = [
        override.input_line for override in overrides if not override.is_hydra_override()
    ]
    return config


def _is_there(config: DictConfig, key: str) -> bool:
    if "/" in key:
        return key in config.hydra.runtime.choices
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or name not in node:
            return False
        node = node._get_node(name)
    return True
