"""What a search draws from: all points that it may try, as overrides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from sweepwise.search.parameters import ByOption, Choice, Number, Parameter

Overrides = tuple[str, ...]


def _chooses(parameter: Parameter) -> TypeGuard[Choice]:
    """Whether other keys may depend on it: it chooses an option of a group."""
    return isinstance(parameter, Choice) and "." not in parameter.key


def _range(parameter: Parameter, chosen: Mapping[str, str]) -> Choice | Number | None:
    """What a parameter is drawn from beside the chosen options; None if they lack its key."""
    if isinstance(parameter, ByOption):
        return parameter.ranges.get(chosen[parameter.group])
    return parameter


def _all(overrides: Overrides) -> Overrides:
    return overrides


@dataclass(frozen=True)
class Space:
    """All points that a search may try.

    Attributes:
        parameters: what is drawn, in the order of a run's overrides.
        fixed: the overrides that all runs have; no part of a point.
        replicates: the overrides by which the runs of a point differ, such as seeds; at least one.
        kept: of overrides those that are for their run: the others set keys which only other options have.
    """

    parameters: tuple[Parameter, ...]
    fixed: Overrides = ()
    replicates: tuple[Overrides, ...] = ((),)
    kept: Callable[[Overrides], Overrides] = field(default=_all, compare=False)
    _known: dict[Overrides, list[Choice | Number]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def size(self) -> int | None:
        """How many points there are at most, without their replicates; None: no end of them."""
        sizes = [parameter.size for parameter in self.parameters]
        return None if any(size is None for size in sizes) else math.prod(size or 0 for size in sizes)

    def point(self, row: Iterable[float]) -> Overrides:
        """The point at a place of the unit cube.

        Args:
            row: a coordinate in [0, 1] for each parameter, in the order of their keys: so the order in which
                they were given does not matter.
        """
        keys = sorted(parameter.key for parameter in self.parameters)
        places = dict(zip(keys, row, strict=True))
        return self.drawn(lambda parameter: parameter.at(float(places[parameter.key])))

    def drawn(self, draw: Callable[[Choice | Number], str]) -> Overrides:
        """A point whose values are drawn one by one, options first; keys that they lack are not drawn.

        Args:
            draw: a value of a parameter, as an override writes it.
        """
        values = {one.key: draw(one) for one in self.parameters if _chooses(one)}
        for one in self._open(values):
            values[one.key] = draw(one)
        texts = [f"{one.key}={values[one.key]}" for one in self.parameters if one.key in values]
        kept = self.kept((*self.fixed, *texts))
        return tuple(text for text in texts if text in kept)

    def _open(self, chosen: Mapping[str, str]) -> list[Choice | Number]:
        """The parameters that a point has beside the options it has chosen."""
        options = tuple(f"{key}={option}" for key, option in chosen.items())
        if options not in self._known:
            ranges = [_range(one, chosen) for one in self.parameters if not _chooses(one)]
            found = [one for one in ranges if one]
            texts = [f"{one.key}={one.at(0.5)}" for one in found]
            kept = self.kept((*self.fixed, *options, *texts))
            self._known[options] = [one for one, text in zip(found, texts, strict=True) if text in kept]
        return self._known[options]

    def runs(self, point: Overrides) -> list[Overrides]:
        """The overrides of the runs of a point: one for each replicate."""
        return [(*point, *replicate) for replicate in self.replicates]
