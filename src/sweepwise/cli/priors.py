"""The sensible ranges of keys, as the yaml of an option says them beside the values: `_search_`.

    lr: 1.0e-3
    _search_:
      lr: {log: [1e-4, 1e-1]}

The primary config and those of experiments say them by whole keys (`optimizer.lr`, `init`); they come first.
Hydra never has them: `hydra_plugins/sweepwise_plugins/ranges_of_search.py` takes them out of what it loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.default_element import ConfigDefault
from omegaconf import DictConfig, OmegaConf

from sweepwise.cli.options import Confs
from sweepwise.config.drawn import SEARCH, in_grammar
from sweepwise.config.groups import EXPERIMENT
from sweepwise.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Prior:
    """The sensible range of a key.

    Attributes:
        group: whose option decides which it is; '' if it is the same for all.
        ranges: in Hydra's grammar, by option; by '' if none decides.
    """

    group: str
    ranges: Mapping[str, str]


def prior_of(confs: Confs, key: str, chosen: Mapping[str, Sequence[str]]) -> Prior:
    """The sensible range of a key.

    Args:
        confs: what Hydra finds.
        key: such as 'optimizer.lr', 'regularizer.l1.coefficient', 'init'.
        chosen: by group, the options that a search chooses from.

    Raises:
        UsageError: no yaml says one.
    """
    whole = _of_whole(confs, chosen)
    if key in whole:
        return Prior("", {"": whole[key]})
    known = set(whole)
    for group, options in chosen.items():
        by_option = {option: _by_key(confs, group, option) for option in _named(group, options, key)}
        found = {option: ranges[key] for option, ranges in by_option.items() if key in ranges}
        if found:
            same = len(set(found.values())) == 1
            return Prior("", {"": next(iter(found.values()))}) if same else Prior(group, found)
        known |= {other for ranges in by_option.values() for other in ranges}
    inside = [other for other in known if other.partition(".")[0] == key.partition(".")[0] and "." in other]
    near = did_you_mean(key, sorted(inside or known))
    own = f"or give a range of your own, {key}='interval(LOW,HIGH)' or {key}=A,B"
    raise UsageError([f"hydra.sweeper.search: no {SEARCH} says a range of {key}; {near} {own}"])


def _named(group: str, options: Sequence[str], key: str) -> Sequence[str]:
    """The options of a group that may have a key; a regularizer's key has its option's name in it."""
    return key.split(".")[1:2] if group == "regularizer" else options


def _of_whole(confs: Confs, chosen: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The ranges that the primary config and the chosen experiment say by whole keys."""
    paths = [confs.config_name or "", *(f"{EXPERIMENT}/{option}" for option in chosen.get(EXPERIMENT, ()))]
    return {key: text for path in paths for key, text in _said(confs, path).items()}


def _by_key(confs: Confs, group: str, option: str) -> dict[str, str]:
    above = f"{group}.{option}" if group == "regularizer" else group.replace("/", ".")
    return {f"{above}.{name}": text for name, text in of_option(confs, group, option).items()}


def of_option(confs: Confs, group: str, option: str) -> dict[str, str]:
    """The sensible ranges of an option's keys, in Hydra's grammar; also of those that it is made from.

    Raises:
        UsageError: its yaml says something that is no range.
    """
    path = f"{group}/{option}"
    if not confs.repository.config_exists(path):
        return {}
    loaded = confs.repository.load_config(path)
    found: dict[str, str] = {}
    for entry in (loaded.defaults_list if loaded else None) or ():
        if isinstance(entry, ConfigDefault) and not entry.is_self() and entry.path:
            found |= of_option(confs, group, entry.path)
    return found | _said(confs, path)


def _said(confs: Confs, path: str) -> dict[str, str]:
    """What a yaml itself says under `_search_`."""
    source = confs.source(path)
    config = source.load_config(path).config if source else None
    if not isinstance(config, DictConfig) or SEARCH not in config:
        return {}
    plain = OmegaConf.to_container(config[SEARCH])
    if not isinstance(plain, dict):
        raise UsageError([f"{path}: {SEARCH} must say a range for each key; write {SEARCH}: {{lr: {{...}}}}"])
    named = {str(key): value for key, value in plain.items()}
    return {key: in_grammar(f"{path}: {SEARCH}.{key}", value) for key, value in named.items()}
