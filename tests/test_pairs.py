"""Every pair of options of two groups, together in one run of two steps: all train, or say why they cannot.

The runs are a covering array: rows of one option a group, so few that each pair of options meets in at least
one of them. It is found greedily, AETG's way (Cohen et al., IEEE Transactions on Software Engineering 23,
1997): each row is the best of some that are put together option by option, the one with most new pairs first.
"""

import functools
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sweepwise import run
from sweepwise.record import Request
from sweepwise.schema import UsageError

CONF = Path(__file__).parents[1] / "conf"
GROUPS = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in run.GROUPS}
BATCHES = 8  # as many tests, so that one that fails says where
CANDIDATES = 12

Row = dict[str, str]
Pair = frozenset[tuple[str, str]]


def pairs_of(row: Mapping[str, str]) -> set[Pair]:
    return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}


def covering_array(groups: Mapping[str, Sequence[str]], seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    left = {
        frozenset(((a, one), (b, other)))
        for a, b in itertools.combinations(groups, 2)
        for one in groups[a]
        for other in groups[b]
    }
    rows = []
    while left:
        best: Row = {}
        for _ in range(CANDIDATES):
            row = dict(draw.choice(sorted(map(sorted, left))))  # begins with a pair that is still missing
            rest = [group for group in groups if group not in row]
            draw.shuffle(rest)
            for group in rest:
                gains = {
                    option: sum(frozenset(((group, option), item)) in left for item in row.items())
                    for option in groups[group]
                }
                most = max(gains.values())
                row[group] = draw.choice([option for option, gain in gains.items() if gain == most])
            best = max(best, row, key=lambda each: len(pairs_of(each) & left))
        left -= pairs_of(best)
        rows.append(best)
    return rows


@functools.cache
def array() -> list[Row]:
    return covering_array(GROUPS)


def test_the_array_covers_every_pair_with_few_rows():
    groups = {"a": ["x", "y", "z"], "b": ["p", "q"], "c": ["s", "t", "u", "v"], "d": ["only"]}
    rows = covering_array(groups)
    wanted = {
        frozenset(((a, one), (b, other)))
        for a, b in itertools.combinations(groups, 2)
        for one in groups[a]
        for other in groups[b]
    }
    assert set().union(*map(pairs_of, rows)) == wanted
    assert all(row.keys() == groups.keys() for row in rows)
    assert 12 <= len(rows) <= 16 < math.prod(map(len, groups.values()))  # at least 4 x 3
