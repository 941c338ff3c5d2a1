"""What jobs of a sweep share: one composition by Hydra, as plain values; each job sets its own in a copy."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf

from sweepwise import cli
from sweepwise.errors import UsageError

MISSING = "???"
REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}")

Keys = tuple[str, ...]
Plain = dict[str, Any]


@dataclass(frozen=True)
class Word:
    """An override as Hydra's parser has read it.

    Attributes:
        text: as given.
        key: what it sets.
        value: plain.
        plain: whether it sets a key with a dot to a scalar or a list, without interpolations.
        task: whether it belongs to the run and not to Hydra itself.
        open: whether other choices decide if there is what it sets: a key with a dot, or a group in a group.
        group: the group that it chooses from, with '+' and '@package' as they are written; '' if it does not.
    """

    text: str
    key: str
    value: Any
    plain: bool
    task: bool
    open: bool = False
    group: str = ""


class Base:
    """What jobs with the same choices share: one composition by Hydra, as plain values.

    Attributes:
        odd: whether it has interpolations that are more than the name of a key; then Hydra composes each job.
        interpolations: those that are the name of a key.
    """

    def __init__(
        self,
        nodes: Mapping[str, DictConfig],
        plain: Plain,
        choices: Mapping[str, str],
        words: Sequence[Word],
    ) -> None:
        self._nodes, self._plain, self.choices = nodes, plain, choices
        # What was set beside the choices; where a job sets something above or below it, their order counts.
        self._set = [word.key for word in words if "." in word.key or isinstance(word.value, dict)]
        self._references: list[tuple[Keys, str, Keys]] = []
        self._missing: list[Keys] = []
        self._takes: dict[str, bool] = {}
        self._lacks: dict[str, bool] = {}
        simple = [
            self._simple(path, value) for path, value in _leaves(self._plain)
        ]  # `_simple` also notes each
        self.interpolations = [reference for _, reference, _ in self._references]
        self.odd = not all(simple)
        self.odd = self.odd or not all(self._leads_somewhere(path) for _, _, path in self._references)

    @classmethod
    def of(cls, config: DictConfig, choices: Mapping[str, str | None], words: Sequence[Word]) -> "Base":
        """From a composition of Hydra's."""
        plain = OmegaConf.to_container(config, resolve=False)
        assert isinstance(plain, dict)
        named = {str(key): value for key, value in plain.items()}
        return cls(dict.fromkeys(named, config), named, cli.chosen(choices), words)

    def mixed(self, others: Mapping[str, "Base"], words: Sequence[Word]) -> "Base | None":
        """What Hydra would compose for several choices, from its compositions for each of them alone.

        Args:
            others: by the group that alone was chosen otherwise.
            words: of all.

        Returns:
            None if a choice has changed more than its own group.
        """
        for group, other in others.items():
            if list(other._plain) != list(self._plain) or list(other.choices) != list(self.choices):
                return None
            changed = {key for key, value in self._plain.items() if other._plain[key] != value}
            changed |= {key for key, value in self.choices.items() if other.choices[key] != value}
            if changed - {group}:
                return None
        nodes, plain, choices = dict(self._nodes), dict(self._plain), dict(self.choices)
        for group, other in others.items():
            nodes[group], plain[group] = other._nodes[group], other._plain[group]
            choices[group] = other.choices[group]
        return Base(nodes, plain, choices, words)

    def _simple(self, path: Keys, value: Any) -> bool:
        """Notes a leaf that is missing or an interpolation; returns whether it can be set without Hydra."""
        if isinstance(value, list):
            return not any("${" in text or text == MISSING for text in texts(value))
        if value == MISSING:
            self._missing.append(path)
        elif isinstance(value, str) and "${" in value:
            match = REFERENCE.fullmatch(value)
            if not match:
                return False
            self._references.append((path, value, tuple(match[1].split("."))))
        return all(isinstance(key, str) for key in path)

    def _leads_somewhere(self, path: Keys) -> bool:
        for _ in range(len(self._references) + 1):
            value = _at(self._plain, path)
            if value is _NOTHING or isinstance(value, dict):
                return False
            match = isinstance(value, str) and REFERENCE.fullmatch(value)
            if not match:
                return True
            path = tuple(match[1].split("."))
        return False  # in a circle

    def takes(self, word: Word) -> bool:
        """Whether a plain value can be set without asking Hydra."""
        if word.key not in self._takes:
            self._takes[word.key] = self._free(word.key) and self._is_untyped_leaf(tuple(word.key.split(".")))
        return self._takes[word.key]

    def lacks(self, word: Word) -> bool:
        """Whether there is no such key, or no such group in a group, that could be set."""
        if word.key not in self._lacks:
            absent = word.key not in self.choices if word.group else self._has_no(word.key)
            self._lacks[word.key] = absent
        return self._lacks[word.key]

    def _has_no(self, key: str) -> bool:
        value: Any = self._plain
        for name in key.split("."):
            if not isinstance(value, dict) or name not in value:
                return self._free(key) and not (isinstance(value, str) and "${" in value)
            value = value[name]
        return False

    def _free(self, key: str) -> bool:
        return not any(f"{key}.".startswith(f"{own}.") or own.startswith(f"{key}.") for own in self._set)

    def _is_untyped_leaf(self, path: Keys) -> bool:
        """A leaf that takes any value as it is; one of a structured config would convert it."""
        if _at(self._plain, path) is _NOTHING or isinstance(_at(self._plain, path), dict):
            return False
        parent: Any = self._nodes[path[0]]
        for key in path[:-1]:
            parent = parent._get_node(key)
        node = parent._get_node(path[-1])
        typed = parent._metadata.object_type is not dict or parent._metadata.element_type is not Any
        if typed or (isinstance(node, ListConfig) and node._metadata.element_type is not Any):
            return False
        return type(node) in (AnyNode, ListConfig) and not node._get_flag("readonly")

    def config(self, words: Sequence[Word]) -> Plain | None:
        """The resolved config with the values set; None if only Hydra can compose it.

        Raises:
            UsageError: a value is missing.
        """
        config = _copied(self._plain)
        for word in words:
            *above, last = word.key.split(".")
            _at(config, tuple(above))[last] = _copied(word.value)
        for path, reference, target in self._references:
            if _at(config, path) != reference:  # it has been set
                continue
            value = _at(config, target)
            while isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
                value = _at(config, tuple(match[1].split(".")))
            if value == MISSING:
                return None
            _at(config, path[:-1])[path[-1]] = _copied(value)
        for path in self._missing:
            if _at(config, path) == MISSING:
                raise UsageError([f"{'.'.join(path)}: must be given"])
        return config


_NOTHING = object()


def _at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return _NOTHING
        node = node[key]
    return node


def _leaves(node: Plain, above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def texts(value: Any) -> Iterator[str]:
    """All strings in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for item in value.items():
            yield from texts(item)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
