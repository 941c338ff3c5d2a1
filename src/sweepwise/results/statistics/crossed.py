"""Replicates of several factors, such as seeds of weights times splits: their runs are not independent.

Ten seeds on each of two splits are no twenty draws: what the split does to a setting is in ten of them alike.
So runs are averaged for each value of a factor, and its values are what is counted; of several factors the
one that leaves the least sure decides. That is on the safe side, whichever of them matters.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

Replicates = Mapping[Any, float]


def factors(groups: Sequence[Replicates]) -> list[int]:
    """The places in the names of replicates at which values come again with others beside them.

    Args:
        groups: of settings that are compared; a replicate of several factors is named by a tuple.

    Example:
        >>> crossed, zipped = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.4}, {(0, 0): 0.1, (1, 1): 0.2}
        >>> factors([crossed]), factors([zipped])
        ([0, 1], [])
    """
    names = {name for group in groups for name in group}
    if not names or not all(isinstance(name, tuple) and len(name) > 1 for name in names):
        return []
    places = range(len(next(iter(names))))
    return [place for place in places if 1 < len({name[place] for name in names}) < len(names)]


def averaged(group: Replicates, place: int) -> dict[Hashable, float]:
    """The mean over the runs that share a value of one factor, by that value.

    Example:
        >>> averaged({(0, 0): 0.1, (0, 1): 0.3, (1, 0): 0.5}, 0)
        {0: 0.2, 1: 0.5}
    """
    values: dict[Hashable, list[float]] = {}
    for name, value in group.items():
        values.setdefault(name[place], []).append(value)
    return {level: sum(found) / len(found) for level, found in values.items()}
