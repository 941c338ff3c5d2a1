"""The runs of a sweep, from each job's overrides.

Hydra takes a tenth of a second to compose a job. Jobs that differ only in values share one composition, in
copies of which the values are set. Whatever could make another difference (choices of groups, keys that are
added or removed, interpolations, dictionaries) Hydra itself composes.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from sweepwise.cli import request_of
from sweepwise.identity import Request
from sweepwise.schema import UsageError
from sweepwise.usage import check_shape

MOST_FAULTS = 20  # that are told of a sweep
REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}")


def requests(loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]]) -> list[Request]:
    """Composes the runs of a sweep.

    Args:
        loader: Hydra's.
        config: of the sweep, as Hydra hands it to a launcher.
        jobs: the overrides of each.

    Raises:
        UsageError: with the faults of all jobs.
        HydraException: Hydra cannot compose one.
    """
    found: list[Request] = []
    faults: dict[str, None] = {}
    composed = _Composed(loader, config)
    for job in jobs:
        try:
            found.append(composed.request(tuple(job)))
        except UsageError as error:
            faults |= dict.fromkeys(error.faults)
    if faults:
        told = list(faults)[:MOST_FAULTS]
        more = len(faults) - len(told)
        raise UsageError(told + ([f"... and {more} more faults"] if more else []))
    return found


@dataclass(frozen=True)
class _Base:
    """A composition that jobs share.

    Attributes:
        request: of one of them.
        tree: its config before interpolations are resolved.
        references: by the key of each, the key that it refers to.
    """

    request: Request
    tree: Mapping[str, Any]
    references: Mapping[str, str]


class _Composed:
    """What Hydra has composed for a sweep so far, by all that is not a mere value."""

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader = loader
        self._config = config
        self._bases: dict[tuple[str, ...], _Base | None] = {}

    def request(self, job: tuple[str, ...]) -> Request:
        """The run that a job's overrides describe."""
        parsed = [self._parsed(override) for override in job]
        values = [override for override in parsed if self._is_mere(override)]
        shared = tuple(o.key_or_group if o in values else line for line, o in zip(job, parsed, strict=True))
        if shared not in self._bases:
            self._bases[shared] = self._base(job)
        base = self._bases[shared]
        if base is None or not all(_is_leaf(base.tree, override.key_or_group) for override in values):
            return request_of(*self._composed(job))
        config: dict[str, Any] = copy.deepcopy(dict(base.tree))
        for override in values:
            _set(config, override.key_or_group, copy.deepcopy(override.value()))
        for key, other in base.references.items():
            if _at(config, key) == _reference(other):  # else it was set
                _set(config, key, copy.deepcopy(_at(config, other)))
        if any(map(_depends, _leaves(config))):
            return request_of(*self._composed(job))
        task = [line for line, o in zip(job, parsed, strict=True) if not o.is_hydra_override()]
        check_shape(config)
        return replace(base.request, config=config, overrides=task)

    def _base(self, job: Sequence[str]) -> _Base | None:
        """What jobs share with this one; None if each is a case of its own."""
        config, overrides, choices = self._composed(job)
        tree = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
        references = dict(_references(tree))
        if not all(_is_leaf(tree, other) and other not in references for other in references.values()):
            return None
        try:
            request = request_of(config, overrides, choices)
        except UsageError:
            return None  # it may be for a value that others have not
        return _Base(request, tree, references)

    def _composed(self, job: Sequence[str]) -> tuple[DictConfig, list[str], dict[str, str | None]]:
        """A job's config, overrides and choices, by Hydra alone."""
        config = self._loader.load_sweep_config(self._config, list(job))
        choices, overrides = dict(config.hydra.runtime.choices), list(config.hydra.overrides.task)
        with open_dict(config):
            del config["hydra"]
        return config, overrides, choices

    def _is_mere(self, override: Override) -> bool:
        """Whether an override only sets the value of a key."""
        plain = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
        return (
            plain
            and not override.is_hydra_override()
            and not self._is_group(override.key_or_group)
            and not any(map(_depends, _leaves(override.value(), mappings=False)))
        )

    @functools.cache  # noqa: B019  (lives as long as the sweep is composed)
    def _parsed(self, override: str) -> Override:
        found: Override = OverridesParser.create(config_loader=self._loader).parse_override(override)
        return found

    @functools.cache  # noqa: B019
    def _is_group(self, key: str) -> bool:
        return bool(self._loader.get_group_options(key))


def _leaves(value: Any, mappings: bool = True) -> Iterator[Any]:
    """All that is in a value; a mapping itself where none should be."""
    if isinstance(value, Mapping) and mappings:
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, mappings)
    else:
        yield value


def _depends(value: Any) -> bool:
    """Whether Hydra has to say what a value means: an interpolation, one that is missing, a mapping."""
    return isinstance(value, Mapping) or (isinstance(value, str) and ("${" in value or value == "???"))


def _references(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Keys whose value is that of another key, and that key: `data: ${seed.value}`."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _references(value, f"{above}{key}.")
        elif isinstance(value, str) and (found := REFERENCE.fullmatch(value)):
            yield f"{above}{key}", found[1]


def _reference(key: str) -> str:
    return f"${{{key}}}"


def _at(tree: Mapping[str, Any], key: str) -> Any:
    return functools.reduce(lambda node, level: node[level], key.split("."), tree)


def _is_leaf(tree: Mapping[str, Any], key: str) -> bool:
    """Whether a key is there and holds a value that another may simply replace."""
    node: Any = tree
    for level in key.split("."):
        if not isinstance(node, Mapping) or level not in node:
            return False
        node = node[level]
    return not isinstance(node, Mapping)


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    functools.reduce(lambda node, level: node[level], above, tree)[last] = value
