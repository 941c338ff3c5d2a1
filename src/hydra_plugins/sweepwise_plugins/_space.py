"""What a search draws from: Hydra's overrides, and the keys whose range a yaml says, as a `Space`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.sweepwise_plugins import _ranges
from hydra_plugins.sweepwise_plugins._compose import _Composer
from sweepwise.cli import swept
from sweepwise.cli.options import Confs
from sweepwise.cli.priors import prior_of
from sweepwise.config.drawn import SHARE
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.results.run_folder import is_replicate
from sweepwise.search.parameters import ByOption, Choice, Number, Parameter
from sweepwise.search.space import Overrides, Space

OF_INTERVALS, OF_LISTS = ("log", "int", SHARE), ("ordered",)  # tags


def space_of(loader: ConfigLoader, config: DictConfig, overrides: Sequence[Override]) -> Space:
    """The space of a search.

    Seeds that are listed (`seed.value=0,1,2`, `data.split_seed=...`) are no parameters: each point is
    repeated with all of them.

    Args:
        loader: Hydra's.
        config: of the sweep; its `hydra.sweeper.search` names keys whose range a yaml says.
        overrides: of the sweep; the last one of a key counts.

    Raises:
        UsageError: with every fault of a range; or there is none.
    """
    ranges = Ranges(loader, config)
    faults: list[str] = []
    found: dict[str, Parameter | Override] = {}
    for override in overrides:
        key = override.get_key_element()
        found.pop(key, None)
        try:
            drawn = override.is_sweep_override() and not _repeats(override)
            found[key] = ranges.of(override) if drawn else override
        except UsageError as error:
            faults += error.faults
    groups = swept.chosen(config) | swept.swept_groups(loader, ranges.confs.repository, config)
    for key in swept.searched(config):
        try:
            found[key] = found.get(key) or _by_prior(key, ranges, groups)
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(list(dict.fromkeys(faults)))
    parameters = tuple(one for one in found.values() if not isinstance(one, Override))
    if not parameters:
        raise UsageError(
            [
                "hydra/sweeper: there is nothing to draw from: give a range, such as "
                "'optimizer.lr=tag(log,interval(1e-4,0.1))', or name keys whose range is known, such as "
                "hydra.sweeper.search=[optimizer.lr]"
            ]
        )
    given = [one for one in found.values() if isinstance(one, Override)]
    repeated = [
        [f"{one.get_key_element()}={value}" for value in _values(one)] for one in given if _repeats(one)
    ]
    composer = _Composer(loader, config)

    def kept(overrides: Overrides) -> Overrides:
        return tuple(composer.kept(overrides))

    return Space(
        parameters,
        tuple(fixed(one) for one in given if not _repeats(one)),
        tuple(itertools.product(*repeated)),
        kept,
    )


def fixed(override: Override) -> str:
    if override.is_delete():
        return str(override.input_line)
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def _repeats(override: Override) -> bool:
    return override.is_discrete_sweep() and is_replicate(override.key_or_group)


def _by_prior(key: str, ranges: Ranges, groups: Mapping[str, Sequence[str]]) -> Parameter:
    """The parameter of a key whose range a yaml says."""
    prior = prior_of(ranges.confs, key, groups)
    found = {option: ranges.read(key, text) for option, text in prior.ranges.items()}
    return ByOption(key, prior.group, found) if prior.group else found[""]


class Ranges:
    """What keys of a sweep are drawn from.

    Args:
        loader: Hydra's.
        config: of the sweep.

    Attributes:
        confs: what Hydra finds.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = loader, config
        self.confs = Confs(loader, config.hydra.job.config_name, config.hydra.overrides.hydra)

    def read(self, key: str, text: str) -> Choice | Number:
        """What a key draws from by a text of Hydra's grammar; see `of`."""
        (override,) = _ranges.parsed([f"{key}={text}"], self._loader)
        return self.of(override)

    def of(self, override: Override) -> Choice | Number:
        """What an override draws from.

        Raises:
            UsageError: nothing can be drawn from it.
        """
        key, sweep, line = override.get_key_element(), override._value, override.input_line
        tags = sorted(getattr(sweep, "tags", ()))
        known = OF_INTERVALS if isinstance(sweep, IntervalSweep) else OF_LISTS
        if wrong := [tag for tag in tags if tag not in known]:
            others = [*OF_LISTS, *OF_INTERVALS]
            fault = f"the tag {wrong[0]!r} is for {'a list' if wrong[0] in OF_LISTS else 'an interval'}"
            if wrong[0] not in others:
                fault = f"unknown tag {wrong[0]!r}; {did_you_mean(wrong[0], others)}"
            raise UsageError([f"{line}: {fault}; leave it out" if wrong[0] in others else f"{line}: {fault}"])
        if not isinstance(sweep, IntervalSweep):
            values = _values(override)
            if not values:
                raise UsageError([f"{line}: has no values; give at least one"])
            return Choice(key, tuple(values), "ordered" in tags)
        repository = self.confs.repository
        if swept.is_group(repository, override.key_or_group):
            options = ",".join(repository.get_group_options(override.key_or_group)[:2])
            raise UsageError(
                [f"{line}: {key} is a group of options, which no interval has; list some: {key}={options}"]
            )
        low, high = sweep.start, sweep.end
        assert low is not None and high is not None
        if SHARE in tags:
            if tags != [SHARE]:
                raise UsageError([f"{line}: a share has whole epochs, evenly drawn; leave other tags out"])
            return self._epochs(key, low, high)
        whole = "int" in tags or (isinstance(low, int) and isinstance(high, int))
        return Number(key, low, high, "log" in tags, whole)

    def _epochs(self, key: str, low: float, high: float) -> Choice | Number:
        """The whole epochs between two shares of a training, in percent; if there are none, the next one."""
        if not 0 <= low < high <= 100:
            shown = f"{key}=tag({SHARE},interval({low:g},{high:g}))"
            raise UsageError([f"{shown}: shares are in [0, 100] %, the lower one first; say (5,50)"])
        epochs = OmegaConf.select(self._config, "trainer.max_epochs")
        if not isinstance(epochs, int) or epochs < 1:
            raise UsageError([f"trainer.max_epochs={epochs}: must be a whole number in [1, inf)"])
        least = math.ceil(epochs * low / 100)
        most = max(least, math.floor(epochs * high / 100))
        return Number(key, least, most, whole=True) if least < most else Choice(key, (str(least),))


def _values(override: Override) -> list[str]:
    """The values of a list, as overrides write them; shuffle() would draw their order anew at each start."""
    sweep = override._value
    if isinstance(sweep, ChoiceSweep) and sweep.shuffle:
        override = replace(override, _value=replace(sweep, shuffle=False))
    return list(override.sweep_string_iterator())
