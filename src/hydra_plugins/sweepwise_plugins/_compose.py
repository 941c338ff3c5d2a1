"""The runs of a sweep as they are asked for: overrides -> `Request`, as Hydra would compose each, but fast.

Hydra takes about 100 ms a job. Jobs that choose the same options share one composition of Hydra's own; what
else they set, plain values of leaves that are there, is set in a copy of its plain values, after which the
interpolations that name one key are followed. Whatever is more than that is left to Hydra.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, OverrideParseException
from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sweepwise import cli, guard, usage
from sweepwise.identity import Request
from sweepwise.schema import UsageError

MISSING = "???"
_BY_HYDRA = (HydraException, OmegaConfBaseException, ValueError)  # what it raises when it cannot compose
_LEAF = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)+")  # neither an index nor a group, which has no dot
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}")

Path_ = tuple[str, ...]
Plain = dict[str, Any]


def requests(
    loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]], first: int = 0
) -> list[Request]:
    """The runs of a sweep, in the order of its jobs.

    Args:
        loader: Hydra's.
        config: the sweep's master config, as launchers get it in `setup`.
        jobs: the overrides of each.
        first: number of the first job, for `${hydra:job.num}`.

    Raises:
        UsageError: with all faults of all jobs that cannot be composed.
    """
    composer = _Composer(loader, config)
    made: list[Request] = []
    faults: list[tuple[str, str]] = []
    for number, job in enumerate(jobs, first):
        try:
            made.append(composer.request(tuple(job), number))
        except UsageError as error:
            which = f"run {number} ({','.join(sorted(job))})"
            faults += [(which, fault) for fault in error.faults]
    if faults:
        raise UsageError(gathered(faults, len(jobs)))
    return made


def gathered(faults: Iterable[tuple[str, str]], runs: int) -> list[str]:
    """A line for each distinct fault, with the first run that has it and how many more do.

    Args:
        faults: runs with what is wrong with them.
        runs: of the sweep; a fault that all of them have needs no name of a run.
    """
    found: dict[str, dict[str, None]] = {}
    for run, fault in faults:
        found.setdefault(fault, {})[run] = None
    return [
        fault if len(named) == runs else f"{_told(list(named))}: {fault}" for fault, named in found.items()
    ]


def _told(named: list[str]) -> str:
    more = len(named) - 1
    return named[0] + (f" and {more:,} more run{'s' if more > 1 else ''}" if more else "")


@dataclass(frozen=True)
class _Word:
    """An override as Hydra's parser reads it.

    Attributes:
        text: as given.
        key: what it sets.
        value: plain.
        plain: it gives a key with a dot a scalar or a list that holds no interpolation.
        task: it is none of Hydra's own.
    """

    text: str
    key: str
    value: Any
    plain: bool
    task: bool


class _Base:
    """What jobs with the same choices share: a composition of Hydra's as plain values.

    Attributes:
        odd: it holds more than names of keys as interpolations, so each job is Hydra's.
    """

    def __init__(self, config: DictConfig, choices: Mapping[str, str | None], words: Sequence[_Word]) -> None:
        self._config, self.choices = config, cli.chosen(choices)
        # What was set beside the choices; where a job sets something above or below it, their order counts.
        self._set = [word.key for word in words if "." in word.key or isinstance(word.value, dict)]
        plain = OmegaConf.to_container(config, resolve=False)
        assert isinstance(plain, dict)
        self._plain: Plain = {str(key): value for key, value in plain.items()}
        self._references: list[tuple[Path_, str, Path_]] = []
        self._missing: list[Path_] = []
        self._takes: dict[str, bool] = {}
        simple = [self._simple(path, value) for path, value in _leaves(self._plain)]  # each notes something
        self.odd = not all(simple)
        self.odd = self.odd or not all(self._leads_somewhere(path) for _, _, path in self._references)

    def _simple(self, path: Path_, value: Any) -> bool:
        """Notes a leaf that jobs must look at; whether it can be understood."""
        if isinstance(value, list):
            return not any("${" in text or text == MISSING for text in _texts(value))
        if value == MISSING:
            self._missing.append(path)
        elif isinstance(value, str) and "${" in value:
            found = _REFERENCE.fullmatch(value)
            if not found:
                return False
            self._references.append((path, value, tuple(found[1].split("."))))
        return all(isinstance(key, str) for key in path)

    def _leads_somewhere(self, path: Path_) -> bool:
        for _ in range(len(self._references) + 1):
            value = _at(self._plain, path)
            if value is _NOTHING or isinstance(value, dict):
                return False
            found = isinstance(value, str) and _REFERENCE.fullmatch(value)
            if not found:
                return True
            path = tuple(found[1].split("."))
        return False  # in a circle

    def takes(self, word: _Word) -> bool:
        """Whether a plain value can be set without asking Hydra."""
        if word.key not in self._takes:
            self._takes[word.key] = self._free(word.key) and self._is_untyped_leaf(tuple(word.key.split(".")))
        return self._takes[word.key]

    def _free(self, key: str) -> bool:
        return not any(f"{key}.".startswith(f"{own}.") or own.startswith(f"{key}.") for own in self._set)

    def _is_untyped_leaf(self, path: Path_) -> bool:
        """A leaf that takes any value as it is; one of a structured config would convert it."""
        if _at(self._plain, path) is _NOTHING or isinstance(_at(self._plain, path), dict):
            return False
        parent: Any = self._config
        for key in path[:-1]:
            parent = parent._get_node(key)
        node = parent._get_node(path[-1])
        typed = parent._metadata.object_type is not dict or parent._metadata.element_type is not Any
        if typed or (isinstance(node, ListConfig) and node._metadata.element_type is not Any):
            return False
        return type(node) in (AnyNode, ListConfig) and not node._get_flag("readonly")

    def config(self, words: Sequence[_Word]) -> Plain | None:
        """The resolved config with values set; None if only Hydra can say what comes of it.

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
            while isinstance(value, str) and (found := _REFERENCE.fullmatch(value)):
                value = _at(config, tuple(found[1].split(".")))
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


def _leaves(node: Plain, above: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _texts(value: Any) -> Iterator[str]:
    """All strings in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.items():
            yield from _texts(item)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


class _Composer:
    """Composes jobs, and remembers what they share."""

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = loader, config
        self._confs = _folders(config)
        self._parser = OverridesParser.create(config_loader=loader)
        self._words: dict[str, _Word] = {}
        self._bases: dict[Path_, _Base | Exception] = {}
        self._faults: dict[tuple[str, Path_], str] = {}
        self._messages: dict[tuple[Path_, Path_], UsageError] = {}

    def request(self, job: Sequence[str], number: int) -> Request:
        """The run of one job.

        Raises:
            UsageError: it cannot be composed.
        """
        words = [self._word(text) for text in job]
        shared = [word for word in words if not word.plain]
        base = self._base(shared)
        if isinstance(base, _Base) and not all(base.takes(word) for word in words if word.plain):
            shared = [word for word in words if not word.plain or not base.takes(word)]
            base = self._base(shared)
        if isinstance(base, Exception):
            raise self._refusal(base, words, shared)
        rest = [word for word in words if word not in shared]
        overrides = [word.text for word in words if word.task]
        fits = not base.odd and all(base.takes(word) for word in rest)
        if not fits or (config := base.config(rest)) is None:
            return self._by_hydra(job, number)
        made = Request(config, overrides, dict(base.choices))
        usage.check_shape(made.config)
        return made

    def _word(self, text: str) -> _Word:
        if text not in self._words:
            try:
                self._words[text] = _read(text, self._parser.parse_override(text))
            except HydraException:  # Hydra says it better when it composes
                self._words[text] = _Word(text, text, None, plain=False, task=True)
        return self._words[text]

    def _base(self, shared: Sequence[_Word]) -> _Base | Exception:
        key = tuple(word.text for word in shared)
        if key not in self._bases:
            try:
                config = self._loader.load_sweep_config(self._config, list(key))
                choices = dict(config.hydra.runtime.choices)
                self._bases[key] = _Base(_without_hydra(config), choices, shared)
            except _BY_HYDRA as error:
                self._bases[key] = error
        return self._bases[key]

    def _by_hydra(self, job: Sequence[str], number: int) -> Request:
        before = HydraConfig.instance().cfg
        try:
            config = self._loader.load_sweep_config(self._config, list(job))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            HydraConfig.instance().set_config(config)
            hydra = config.hydra
            overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)
            assert isinstance(overrides, list)
            return cli.request_of(_without_hydra(config), overrides, dict(hydra.runtime.choices))
        except UsageError:
            raise
        except _BY_HYDRA as error:
            raise cli.refusal(error, job, self._confs) from error
        finally:
            HydraConfig.instance().cfg = before

    def _refusal(self, error: Exception, words: Sequence[_Word], shared: Sequence[_Word]) -> UsageError:
        """As `refusal`; each override is looked at once."""
        if isinstance(error, (guard.Foreign, OverrideParseException)):
            return cli.refusal(error, [word.text for word in words], self._confs)
        key = tuple(word.text for word in shared)
        for word in words:
            if (word.text, key) not in self._faults:
                self._faults[word.text, key] = usage.fault_of(word.text, [*key, word.text], self._confs)
        faults = [fault for word in words if (fault := self._faults[word.text, key])]
        return UsageError(faults) if faults else self._unexplained(error, words, key)

    def _unexplained(self, error: Exception, words: Sequence[_Word], shared: Path_) -> UsageError:
        """What Hydra itself says of a job; it may name a key, but no plain value."""
        like = shared, tuple(word.key for word in words)
        if like not in self._messages:
            texts = [word.text for word in words]
            try:
                self._loader.load_sweep_config(self._config, texts)
            except _BY_HYDRA as own:
                error = own
            self._messages[like] = cli.refusal(error, texts, self._confs)
        return self._messages[like]


def _read(text: str, found: Override) -> _Word:
    value = found.value()
    scalar_or_list = value is None or isinstance(value, (bool, int, float, str, list))
    understood = scalar_or_list and not any("${" in part or part == MISSING for part in _texts(value))
    plain = found.type == OverrideType.CHANGE and not found.package and _LEAF.fullmatch(found.key_or_group)
    task = not found.is_hydra_override()
    return _Word(text, found.key_or_group, value, bool(plain and understood and task), task)


def _without_hydra(config: DictConfig) -> DictConfig:
    with open_dict(config):
        del config["hydra"]
    return config


def _folders(config: DictConfig) -> list[Path]:
    """The folders of the config groups, as Hydra searches them: the program's own first."""
    sources = config.hydra.runtime.config_sources
    added = [
        usage.place(f"{source.schema}://{source.path}")
        for source in sources
        if source.provider.startswith("hydra.searchpath")
    ]
    return [Path(source.path) for source in sources if source.provider == "main"] + added
