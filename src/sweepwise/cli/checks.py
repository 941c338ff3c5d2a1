"""What is checked of a config when Hydra has composed it, before anything is made or trained."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sweepwise.config.groups import LAUNCHER, SWEEPER
from sweepwise.errors import did_you_mean
from sweepwise.store.request import name_fault, output_dir_fault


def hydra_faults(hydra: DictConfig) -> list[str]:
    """The keys in Hydra's own part of a composed config that no part of Hydra reads."""
    groups = {name.removeprefix("hydra/") for name in hydra.runtime.choices if name.startswith("hydra/")}
    return [
        f"{key}: unknown; {did_you_mean(key.rpartition('.')[2], kinds)}"
        for key, kinds in _unknown_to(HydraConf, hydra, "hydra")
        if key.removeprefix("hydra.") not in groups
    ]


def _unknown_to(kind: Any, node: Any, above: str) -> Iterator[tuple[str, Collection[str]]]:
    if is_dataclass(kind) and OmegaConf.is_dict(node):
        kinds = get_type_hints(kind)
        for name in node:
            if name in kinds:
                yield from _unknown_to(kinds[name], node._get_node(name), f"{above}.{name}")
            else:
                yield f"{above}.{name}", kinds


def home_faults(config: DictConfig, overrides: Iterable[Override]) -> Iterator[str]:
    """Faults of the folder of a sweep, unless each of its runs says its own, or part of it."""
    swept = {word.key_or_group for word in overrides if word.is_sweep_override()}
    for key, fault_in in (("name", name_fault), ("output_dir", output_dir_fault)):
        plain = not OmegaConf.is_interpolation(config, key) and not OmegaConf.is_missing(config, key)
        if key in config and key not in swept and plain and (fault := fault_in(str(config[key]))):
            yield fault


USUAL = {LAUNCHER: "local", SWEEPER: "grid"}  # the defaults, which say nothing


def single_run_fault(overrides: Iterable[str]) -> str:
    """What is wrong with overrides of Hydra itself on a single run's command line; '' if nothing is."""
    for word in overrides:
        key, _, value = word.lstrip("+").partition("=")
        if value != USUAL.get(key, value):
            return f"{word}: trains the runs of a sweep; add -m to the command"
        if key.startswith(("hydra.launcher.", "hydra.sweeper.")):
            return f"{word}: is for the runs of a sweep; add -m to the command"
    return ""
