"""Takes `_search_`, the sensible ranges of an option's keys, out of every config that Hydra loads.

So it is in no composed config, whoever composes: in no run's config, id, record or `--cfg job`. Searches and
--help read it from the yaml itself (`sweepwise.cli.priors`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig, open_dict

from sweepwise.config.drawn import SEARCH

MARK = "without_ranges"


def _without_ranges(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_config(self: ConfigRepository, config_path: str) -> Any:
        loaded = load(self, config_path)
        if loaded is not None and isinstance(loaded.config, DictConfig) and SEARCH in loaded.config:
            with open_dict(loaded.config):
                del loaded.config[SEARCH]
        return loaded

    vars(load_config)[MARK] = True  # which whoever wraps this by functools.wraps takes over
    return load_config


if not hasattr(ConfigRepository.load_config, MARK):  # Hydra imports plugins anew
    setattr(ConfigRepository, "load_config", _without_ranges(ConfigRepository.load_config))  # noqa: B010
