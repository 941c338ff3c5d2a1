"""Composes the runs of a sweep: overrides -> `Request`, as Hydra would compose each, but fast.

Hydra takes about 100 ms for a job. Jobs that choose the same options share one composition of Hydra. Their
other overrides, plain values of existing keys, are set in a copy of its values, and interpolations that name
one key are resolved. Everything else is left to Hydra.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.sweepwise_plugins._absent import Absent, Note
from hydra_plugins.sweepwise_plugins._shared import MISSING, Base, Keys, Word, texts
from sweepwise import cli
from sweepwise.cli import guard, swept
from sweepwise.cli.checks import check_shape
from sweepwise.cli.faults import fault_of, swept_key_fault
from sweepwise.cli.options import Confs
from sweepwise.cli.unheeded import Unheeded
from sweepwise.errors import UsageError
from sweepwise.store.request import Request

WHOLE = re.compile(r"-?[1-9][0-9]{0,17}|0")  # as Hydra reads it, too
# What Hydra raises when it cannot compose; the last two if the value of a group is no name.
_BY_HYDRA = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError)


def requests(
    loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]], first: int = 0
) -> tuple[list[Request], list[Note]]:
    """The runs of a sweep, in the order of its jobs, and what is to be told of keys that not all have.

    Args:
        loader: Hydra's.
        config: the sweep's master config, as launchers get it in `setup`.
        jobs: the overrides of each.
        first: number of the first job, for `${hydra:job.num}`.

    Raises:
        UsageError: with all faults of all jobs that cannot be composed.
    """
    composer = _Composer(loader, config, jobs)
    composed: list[Request] = []
    faults: list[tuple[str, str]] = []
    for number, job in enumerate(jobs, first):
        try:
            composed.append(composer.request(tuple(job), number))
        except UsageError as error:
            which = f"run {number} ({','.join(sorted(job))})"
            faults += [(which, fault) for fault in error.faults]
    if faults:
        raise UsageError(gathered(faults, len(jobs)))
    varying = composer.varying(jobs)
    composed = [replace(request, varying=varying) for request in composed]
    whole = OmegaConf.select(config, "hydra.sweeper.max_batch_size", default=0) is None
    return composed, composer.absent.notes(whole=whole)


def gathered(faults: Iterable[tuple[str, str]], runs: int) -> list[str]:
    """A line for each distinct fault, with the first run that has it and how many more do.

    Args:
        faults: pairs of a run and a fault.
        runs: number of runs in the sweep; for a fault that all of them have, no run is named.
    """
    runs_by_fault: dict[str, dict[str, None]] = {}
    for run, fault in faults:
        runs_by_fault.setdefault(fault, {})[run] = None
    return [
        fault if len(named) == runs else f"{_first_and_more(list(named))}: {fault}"
        for fault, named in runs_by_fault.items()
    ]


def _first_and_more(named: list[str]) -> str:
    more = len(named) - 1
    return named[0] + (f" and {more:,} more run{'s' if more > 1 else ''}" if more else "")


_last: tuple[ConfigLoader, DictConfig, dict[Keys, Base | Exception]] | None = None


def _bases(loader: ConfigLoader, config: DictConfig) -> dict[Keys, Base | Exception]:
    """What Hydra has composed for a sweep's config: a search hands over jobs again and again."""
    global _last
    if _last is None or _last[0] is not loader or _last[1] is not config:
        _last = loader, config, {}
    return _last[2]


class _Composer:
    """Composes jobs, and keeps what they share."""

    def __init__(self, loader: ConfigLoader, config: DictConfig, jobs: Iterable[Sequence[str]] = ()) -> None:
        self._loader, self._config = loader, config
        self._load = getattr(loader.load_sweep_config, "__wrapped__", loader.load_sweep_config)
        self._confs = Confs(loader, config.hydra.job.config_name, config.hydra.overrides.hydra)
        self._repository = self._confs.repository
        self._parser = OverridesParser.create(config_loader=loader)
        self._words: dict[str, Word] = {}
        self._numbers: dict[str, Word] = {}
        self._bases = _bases(loader, config)
        self._firsts: dict[Keys, Sequence[Word]] = {}
        self._independent: dict[str, bool] = {}
        self._faults: dict[tuple[str, Keys], str] = {}
        self._messages: dict[tuple[Keys, Keys], UsageError] = {}
        self.absent = Absent(self._swept(jobs), self._base, self._is_independent)

    def _swept(self, jobs: Iterable[Sequence[str]]) -> dict[str, list[Word]]:
        """The choices of a sweep by group: of its config, as not all jobs may be here, and of these jobs."""
        named = swept.swept_groups(self._loader, self._repository, self._config).items()
        texts = [f"{group}={option}" for group, options in named for option in options]
        every = dict.fromkeys([*texts, *(text for job in jobs for text in job)])
        groups: dict[str, list[Word]] = {}
        for word in map(self._word, every):
            if word.group:
                groups.setdefault(word.group, []).append(word)
        return {group: words for group, words in groups.items() if len(words) > 1}

    def kept(self, job: Sequence[str]) -> list[str]:
        """The overrides of a job without those that are for other options of the sweep."""
        return [word.text for word in self.absent.kept([self._word(text) for text in job])]

    def request(self, job: Sequence[str], number: int) -> Request:
        """The run of one job.

        Raises:
            UsageError: it cannot be composed.
        """
        words = self.absent.kept([self._word(text) for text in job])
        request = self._request(words, number)
        self.absent.composed(request, words)
        return request

    def _request(self, words: Sequence[Word], number: int) -> Request:
        shared = [word for word in words if not word.plain]
        base = self._base(shared)
        if isinstance(base, Base) and not all(base.takes(word) for word in words if word.plain):
            shared = [word for word in words if not word.plain or not base.takes(word)]
            base = self._base(shared)
        if isinstance(base, Exception):
            raise self._refusal(base, words, shared)
        rest = [word for word in words if word not in shared]
        overrides = [word.text for word in words if word.task]
        fits = not base.odd and all(base.takes(word) for word in rest)
        if not fits or (config := base.config(rest)) is None:
            return self._by_hydra([word.text for word in words], number)
        request = Request(config, overrides, dict(base.choices))
        check_shape(request.config, base.interpolations)
        return request

    def varying(self, jobs: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """The keys in which the runs of the sweep differ, though these may be a few of its jobs only."""
        given = OmegaConf.to_container(self._config.hydra.overrides.task, resolve=False)
        assert isinstance(given, list)
        same = set()
        for text in [*swept.lines_of(self._config, resolve=False), *given]:
            with suppress(HydraException):  # what is swept may be written as another sweeper reads it
                override = self._parser.parse_override(text)
                same |= set() if override.is_sweep_override() else {override.key_or_group}
        found = (self._word(text).key for job in jobs for text in job)
        return tuple(key for key in dict.fromkeys(found) if key not in same)

    def _word(self, text: str) -> Word:
        if text not in self._words:
            self._words[text] = self._numbered(text) or self._parsed(text)
        return self._words[text]

    def _numbered(self, text: str) -> Word | None:
        """An override with a whole number, read as one of the same key was parsed: parsing takes a while."""
        key, _, number = text.partition("=")
        if not WHOLE.fullmatch(number):
            return None
        if key not in self._numbers:
            self._numbers[key] = self._parsed(f"{key}=0")
        word = self._numbers[key]
        return replace(word, text=text, value=int(number)) if word.plain and word.value == 0 else None

    def _parsed(self, text: str) -> Word:
        try:
            return _read(text, self._parser.parse_override(text), self._repository)
        except HydraException:  # Hydra gives a better message when it composes
            return Word(text, text, None, plain=False, task=True)

    def _base(self, shared: Sequence[Word]) -> Base | Exception:
        key = tuple(word.text for word in shared)
        if key not in self._bases:
            self._bases[key] = self._mixed(shared) or self._composed(shared)
        return self._bases[key]

    def _composed(self, shared: Sequence[Word]) -> Base | Exception:
        try:
            config = self._load(self._config, [word.text for word in shared])
            choices = dict(config.hydra.runtime.choices)
            return Base.of(_without_hydra(config), choices, shared)
        except _BY_HYDRA as error:
            return error

    def _mixed(self, shared: Sequence[Word]) -> Base | None:
        """What Hydra would compose, from compositions of its own that differ in one choice from the first."""
        first = self._firsts.setdefault(tuple(word.key for word in shared), shared)
        other = [
            index
            for index, (word, own) in enumerate(zip(shared, first, strict=True))
            if word.text != own.text
        ]
        if len(other) < 2 or not all(
            self._is_independent(word) for index in other for word in (shared[index], first[index])
        ):
            return None
        base = self._base(first)
        ones = {
            shared[index].key: self._base([*first[:index], shared[index], *first[index + 1 :]])
            for index in other
        }
        good = {group: one for group, one in ones.items() if isinstance(one, Base)}
        return base.mixed(good, shared) if isinstance(base, Base) and len(good) == len(ones) else None

    def _is_independent(self, word: Word) -> bool:
        """Whether a word chooses a file that has neither defaults nor a package of its own."""
        if word.text not in self._independent:
            chosen = word.task and word.text.partition("=")[0] == word.key and isinstance(word.value, str)
            loaded = None
            if chosen and re.fullmatch(r"\w+", word.key) and re.fullmatch(r"\w+", word.value):
                loaded = self._repository.load_config(f"{word.key}/{word.value}")
            self._independent[word.text] = bool(
                loaded
                and not loaded.header.get("package")
                and all(own.is_self() for own in loaded.defaults_list or [])
            )
        return self._independent[word.text]

    def _by_hydra(self, job: Sequence[str], number: int) -> Request:
        before = HydraConfig.instance().cfg
        try:
            config = self._load(self._config, list(job))
            with open_dict(config):
                config.hydra.job.id, config.hydra.job.num = str(number), number
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

    def _refusal(self, error: Exception, words: Sequence[Word], shared: Sequence[Word]) -> UsageError:
        """As `cli.refusal`, but each override is examined only once in a sweep."""
        if isinstance(error, (guard.Foreign, Unheeded, OverrideParseException)):
            return cli.refusal(error, [word.text for word in words], self._confs)
        key = tuple(word.text for word in shared)
        # A fault of another value is not this one's.
        choices = [word.text for word in shared if not word.plain]
        lacking = self.absent.lacking(words)
        for word in words:
            if (word.text, key) not in self._faults:
                home = self.absent.home(word.key) if word in lacking else ""
                self._faults[word.text, key] = (
                    swept_key_fault(word.key, home, self.absent.options(home), self._confs)
                    if home
                    else fault_of(word.text, [*choices, word.text], self._confs)
                )
        faults = list(dict.fromkeys(fault for word in words if (fault := self._faults[word.text, key])))
        return UsageError(faults) if faults else self._unexplained(error, words, key)

    def _unexplained(self, error: Exception, words: Sequence[Word], shared: Keys) -> UsageError:
        """Hydra's own message for a job; it may name a key, but no plain value, so similar jobs share it."""
        like = shared, tuple(word.key for word in words)
        if like not in self._messages:
            texts = [word.text for word in words]
            try:
                self._load(self._config, texts)
            except _BY_HYDRA as own:
                error = own
            self._messages[like] = cli.refusal(error, texts, self._confs)
        return self._messages[like]


def _read(text: str, override: Override, repository: IConfigRepository) -> Word:
    value = override.value()
    scalar_or_list = value is None or isinstance(value, (bool, int, float, str, list))
    understood = scalar_or_list and not any("${" in part or part == MISSING for part in texts(value))
    task = not override.is_hydra_override()
    is_open = swept.may_be_absent(repository, override)
    chooses = override.type in (OverrideType.CHANGE, OverrideType.ADD) and not isinstance(value, dict)
    group = (
        override.get_key_element() if chooses and swept.is_group(repository, override.key_or_group) else ""
    )
    plain = is_open and understood and not group
    return Word(text, override.key_or_group, value, plain, task, is_open, group)


def _without_hydra(config: DictConfig) -> DictConfig:
    with open_dict(config):
        del config["hydra"]
    return config
