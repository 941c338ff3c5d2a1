"""What is known so far of the settings of an experiment's runs: which vary, and which come first."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sweepwise.monitor.hparams import Hparam

TICKED = 5  # columns of settings, by TensorBoard itself


@dataclass(frozen=True)
class Column:
    """What is known of a setting.

    Attributes:
        value: of a run that has it.
        varies: whether another run has another value, or has no such setting.
        given: whether it was asked for.
        interval: the numbers that it takes, if all its values are numbers.
    """

    value: Hparam
    varies: bool = False
    given: bool = False
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Columns:
    """What is known of all runs of an experiment.

    Attributes:
        settings: by name.
        metrics: keys of the metrics of an epoch.
        tested: whether a run has a test part.
        carrier: the folder of the run that carries the description; '' as long as there is none.
    """

    settings: Mapping[str, Column] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    tested: bool = False
    carrier: str = ""

    def with_runs(self, runs: Sequence[Mapping[str, Hparam]], given: Collection[str]) -> Columns:
        """The same with the settings of more runs; `given`: those that were asked for."""
        found = dict(self.settings)
        for run in runs:
            for name, value in run.items():
                found[name] = _with_value(found.get(name), value)
        everywhere = set(self.settings or found).intersection(*runs)
        for name, column in found.items():
            varies = column.varies or name not in everywhere
            asked = column.given or name in given
            if (varies, asked) != (column.varies, column.given):
                found[name] = replace(column, varies=varies, given=asked)
        return replace(self, settings=found)

    @property
    def first(self) -> set[str]:
        """The settings that come first: those that were given and vary; where nothing varies, those given.

        The tab ticks five in any case, so if fewer were given, others that vary with them join them.
        """
        given = {name for name, column in self.settings.items() if column.given}
        varying = given.intersection(name for name, column in self.settings.items() if column.varies)
        if not varying:
            return given
        others = [name for name, column in self.settings.items() if column.varies and not column.given]
        others.sort(key=lambda name: ("." in name, name))  # options of groups before their numbers
        return varying.union(others[: max(0, TICKED - len(varying))])


def _with_value(before: Column | None, value: Hparam) -> Column:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    own = (float(value), float(value)) if number else None
    if before is None:
        return Column(value, interval=own)
    known = before.value
    if type(known) is type(value) is str and known == value:
        return before
    if repr(known) == repr(value):  # NaN is NaN, and 1 is not True
        return before
    both = before.interval and own and (min(before.interval[0], own[0]), max(before.interval[1], own[1]))
    return replace(before, varies=True, interval=both or None)
