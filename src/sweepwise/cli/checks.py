"""What is checked of a config when Hydra has composed it, before anything is made or trained."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sweepwise.cli.meant import SHORT
from sweepwise.cli.options import Confs, named, overridden_by
from sweepwise.config.groups import ADDED, EXPERIMENT, GROUPS, LAUNCHER, SETTINGS, SWEEPER
from sweepwise.config.schema import check
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.store.request import name_fault, output_dir_fault

PARAMS = "hydra.sweeper.params."  # before the keys that a file says to sweep over
# What an interpolation may name at the top of a config: the first part of a key, or of a resolver's argument.
NAMED = re.compile(r"""(?:\$\{|[:,(\[{]\s*["']?)\.*([A-Za-z_][\w-]*)""")


def check_shape(config: Mapping[str, Any], interpolations: Collection[str] = ()) -> None:
    """Refuses a composed config that lacks a key of every run, or has one that nothing reads.

    Args:
        config: resolved.
        interpolations: the texts in it that were interpolations; the keys that they name are read.

    Raises:
        UsageError: with every fault.
    """
    faults = [
        f"{group}: must be one of its options; it was removed or replaced"
        for group in GROUPS
        if not isinstance(config.get(group), Mapping)
    ]
    for key, kind in SETTINGS.items():
        if key in config:
            faults += check(key, config[key], kind)
        elif key not in ADDED:
            faults.append(f"{key}: must be given")
    read = {*GROUPS, *SETTINGS, *(name for text in interpolations for name in NAMED.findall(text))}
    faults += [f"{key}: unknown; {_nearest(key, config)}" for key in config if key not in read]
    if not faults:
        path_faults = name_fault(str(config["name"])), output_dir_fault(config["output_dir"])
        faults = [fault for fault in path_faults if fault]
    if faults:
        raise UsageError(faults)


def _nearest(key: str, config: Mapping[str, Any]) -> str:
    """What was meant by a key that nothing reads: one of a group, or one that is spelt like it."""
    homes = [group for group in GROUPS if isinstance(config.get(group), Mapping) and key in config[group]]
    if key in SHORT or homes:
        return f"did you mean {SHORT.get(key) or f'{homes[0]}.{key}'}?"
    return did_you_mean(key, [*GROUPS, EXPERIMENT, *SETTINGS])


def interpolations(value: Any) -> list[str]:
    """The interpolations in the values of a config that is not resolved."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in interpolations(item)]
    return [value] if isinstance(value, str) and "${" in value else []


def params_fault(override: str) -> str:
    """What is wrong with an override that sets one of them, which no file has set."""
    written = override.partition(PARAMS)[2]
    return f"{override}: is for files of conf/experiment/; on the command line write {written}"


def hydra_faults(hydra: DictConfig) -> list[str]:
    """The keys in Hydra's own part of a composed config that no part of Hydra reads."""
    groups = {name.removeprefix("hydra/") for name in hydra.runtime.choices if name.startswith("hydra/")}
    return [
        f"{key}: unknown; {did_you_mean(key.rpartition('.')[2], kinds)}"
        for key, kinds in _unknown_to(HydraConf, hydra, "hydra")
        if key.removeprefix("hydra.") not in groups
    ]


def hydra_key_fault(override: str, key: str) -> str:
    """What is wrong with an override of a key in Hydra's own part, which Hydra has refused.

    Args:
        override: as written.
        key: of it, such as 'hydra.sweep.dirr'.

    Returns:
        '' if Hydra says no keys at that place, or has this one.
    """
    kind: Any = HydraConf
    for name in key.split(".")[1:]:
        if not is_dataclass(kind):
            return ""
        kinds = get_type_hints(kind)
        if name not in kinds:
            return f"{override}: unknown; {did_you_mean(name, kinds)}"
        kind = kinds[name]
    return ""


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


def unheard_choices(config: DictConfig, confs: Confs) -> Iterator[str]:
    """Faults of experiments that choose a launcher or a sweeper which a config above them overrides again.

    Args:
        config: of a sweep, with Hydra's own part.
        confs: what Hydra finds for it.
    """
    words = confs.parsed(config.hydra.overrides.task)
    chosen = config.hydra.runtime.choices
    given = {word.key_or_group for word in confs.parsed(config.hydra.overrides.hydra)}
    usual = [str(chosen[EXPERIMENT])] if chosen.get(EXPERIMENT) else []
    names = [name for word in words if word.key_or_group == EXPERIMENT for name in named(word)] or usual
    for group in (LAUNCHER, SWEEPER):
        said = {
            name: option for name in names if (option := overridden_by(confs, EXPERIMENT, name).get(group))
        }
        if group in given or chosen.get(group) in said.values():
            continue
        for name, option in said.items():
            rule = f"the primary config overrides it again; choose {group}={option} on the command line"
            yield f"{EXPERIMENT}={name}: its 'override /{group}: {option}' has no effect, as {rule}"


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
