"""Where the result of a guided search is saved as an experiment, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from sweepwise.cli.options import Confs
from sweepwise.config.groups import EXPERIMENT
from sweepwise.search.guided import experiment_yaml

LEFT_OUT = ("name", "hydra", "_search_")  # of an experiment: they are about its own sweep


def path_of(config: DictConfig, name: str | None) -> Path | None:
    """The file that an experiment is saved in; None if it is not.

    Args:
        config: of the sweep.
        name: of the experiment; None: it is not saved.

    Raises:
        UsageError: it is no name, or the file is there and no guided search has written it.
    """
    folder = next((one.path for one in config.hydra.runtime.config_sources if one.provider == "main"), "")
    if name is None or not Path(folder).is_dir():
        return None
    path = experiment_yaml.path_of(Path(folder) / EXPERIMENT, name)
    experiment_yaml.refuse_foreign(path)
    return path


def given(confs: Confs, overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """What overrides set, as Hydra's grammar reads them; an experiment among them as what it sets."""
    parser = OverridesParser.create(config_loader=confs.loader)
    found: list[tuple[str, Any]] = []
    rest: list[tuple[str, Any]] = []
    for text in overrides:
        override = parser.parse_override(text)
        written, _, _ = text.partition("=")
        if override.key_or_group == EXPERIMENT:
            found += _set_by(confs, str(override.value()))
        else:
            rest.append((written, override.value()))
    return [*found, *rest]


def _set_by(confs: Confs, option: str) -> Iterator[tuple[str, Any]]:
    """What a file of conf/experiment/ sets: options first, then values."""
    loaded = confs.repository.load_config(f"{EXPERIMENT}/{option}")
    if loaded is None:
        return
    for entry in loaded.defaults_list or ():
        if isinstance(entry, GroupDefault):
            yield str(entry.group).lstrip("/"), entry.value
        elif isinstance(entry, ConfigDefault) and not entry.is_self():
            yield from _set_by(confs, str(entry.path))
    plain = OmegaConf.to_container(loaded.config)
    if isinstance(plain, dict):
        yield from ((str(key), value) for key, value in plain.items() if key not in LEFT_OUT)
