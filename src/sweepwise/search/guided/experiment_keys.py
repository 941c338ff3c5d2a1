"""Overrides as a file of conf/experiment/ says them: choices of groups, nested values, and both as yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from sweepwise.config.groups import EXPERIMENT, GROUPS
from sweepwise.errors import UsageError
from sweepwise.search.guided.account_words import says_the_run

# Overrides: each key as it is written, with + or ++ or ~, and its value as Hydra's grammar reads it.
Given = Iterable[tuple[str, Any]]

WAY_OUT = "or leave hydra.sweeper.save out, to search without saving"
WORD = re.compile(r"(override )?/?[A-Za-z_][A-Za-z0-9_/.@-]*", re.ASCII)
STRING = "tag:yaml.org,2002:str"
LIST = "tag:yaml.org,2002:seq"


@dataclass
class Keys:
    """What overrides set.

    Attributes:
        choices: the option of each group, or several; None: no option.
        added: the same of groups that the primary config does not have.
        values: of other keys, nested.
    """

    choices: dict[str, Any] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def keys_of(given: Given, groups: Collection[str] = GROUPS) -> Keys:
    """What overrides set that says what a run is: no seeds, nothing of Hydra's; the last one of a key counts.

    Args:
        given: the overrides. An experiment among them must be given as what it sets.
        groups: of the configs; a key with '/' is one in any case.

    Raises:
        UsageError: an override does what no yaml can, such as removing a key.
    """
    found, faults = Keys(), []
    for written, value in given:
        key = written.lstrip("+~")
        group = key.partition("@")[0]
        if group == EXPERIMENT and value is not None:
            raise ValueError(f"{written}={value}: must be given as what it sets")
        if not says_the_run(group):
            continue
        if (group in groups or "/" in group) and not isinstance(value, Mapping):
            new = key in found.added or (written.startswith("+") and key not in found.choices)
            (found.added if new else found.choices)[key] = None if written.startswith("~") else value
        elif fault := _unsayable(written, key) or _set(found.values, key, value):
            faults.append(f"{written}: {fault}")
    if faults:
        raise UsageError(faults)
    found.values = _kept(found.values)
    return found


def _unsayable(written: str, key: str) -> str:
    """Why no yaml can say what an override of a key does; '' if one can."""
    if written.startswith("~"):
        return f"a file of conf/experiment/ cannot remove a key; set it to null, {WAY_OUT}"
    if "[" in key or any(part.isdecimal() for part in key.split(".")):
        return f"a file of conf/experiment/ cannot set one item of a list; give the whole list, {WAY_OUT}"
    return ""


def _set(values: dict[Any, Any], key: str, value: Any) -> str:
    """Sets a key of nested values; returns why that would not do what the override does, else ''."""
    first, *inner = key.split(".")
    for part in reversed(inner):
        value = {part: value}
    return _merge(values, first, value)


def _merge(node: dict[Any, Any], key: Any, value: Any) -> str:
    """Merges one entry into nested values, as OmegaConf does.

    An override that puts several keys in the place of one value removes what the config had there. A yaml
    would merge them with it, so that is a fault.
    """
    if not isinstance(value, Mapping):
        node[key] = value
        return ""
    if not isinstance(node.setdefault(key, {}), dict):
        return f"{key} is set twice, as one value and as several; give it once"
    faults = [_merge(node[key], inner, one) for inner, one in value.items()]
    return next(filter(None, faults), "")


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that say what a run is, as far as a dict was given for a key above them."""
    kept = {key: value for key, value in values.items() if says_the_run(key)}
    if isinstance(seed := kept.get("seed"), dict):
        kept["seed"] = {key: value for key, value in seed.items() if says_the_run(f"seed.{key}")}
        if not kept["seed"]:
            del kept["seed"]
    return kept


def entries(found: Keys) -> list[str]:
    """The lines of a defaults list, without indentation.

    Example:
        >>> entries(Keys({"regularizer": ["l2", "dropout"]}, {"model/act": "relu"}))
        ['- /model/act: relu', '- override /regularizer: [l2, dropout]']
    """
    said = {f"/{group}": option for group, option in found.added.items()}
    said |= {f"override /{group}": option for group, option in found.choices.items()}
    return [f"- {dumped({key: _named(option)})}".rstrip("\n") for key, option in said.items()]


def _named(option: Any) -> Any:
    """An option, or several, as texts: Hydra takes the 50 of `model=50` for the name of a file."""
    if isinstance(option, (list, tuple)):
        return [_named(one) for one in option]
    if isinstance(option, bool):
        return str(option).lower()
    return None if option is None else str(option)


def dumped(values: Mapping[str, Any]) -> str:
    r"""Nested values as yaml, from which Hydra reads the same ones.

    Example:
        >>> print(dumped({"optimizer": {"lr": 0.01}, "model": {"hidden": [8, "1e-3"]}}), end="")
        optimizer:
          lr: 0.01
        model:
          hidden: [8, "1e-3"]
    """
    return yaml.dump(
        dict(values),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**9,
        default_flow_style=False,
    )


class _Dumper(yaml.SafeDumper):
    """Writes texts in quotes unless they are plain words, lists in one line, and nothing as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # What looks like a value to some reader of yaml gets quotes; Hydra's takes 1e-3 for a number, for one.
    plain = WORD.fullmatch(text) and yaml.safe_load(text) == text
    return dumper.represent_scalar(STRING, text, style=None if plain else '"')


def _list(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.Node:
    return dumper.represent_sequence(LIST, items, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)
