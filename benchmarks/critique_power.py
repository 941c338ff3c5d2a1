"""How often simulated faults of each size are found: the curves of docs/critique.md.

  python benchmarks/critique_power.py            all kinds, 200 sweeps of each size
  python benchmarks/critique_power.py edge coarse

Sizes are in standard deviations of a run, half of whose variance is its seed's and shared by all settings.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import planted
from planted import Shape

from sweepwise.results.answer import Answer
from sweepwise.results.critique.coarse import gaps
from sweepwise.results.critique.design import along
from sweepwise.results.critique.edge import edges
from sweepwise.results.critique.no_effect import idle
from sweepwise.results.table import Table

SWEEPS = 200
ONE_KEY = [Shape(1, 2), Shape(1, 3), Shape(1, 5)]
MORE = [Shape(2, 2), Shape(2, 3), Shape(2, 5)]
AT_RANDOM = [Shape(2, 2, 24), Shape(3, 1, 40), Shape(3, 3, 60)]
KINDS: dict[str, tuple[list[Shape], list[float]]] = {
    "edge": (ONE_KEY + MORE + AT_RANDOM, [1, 2, 4, 8]),
    "coarse": (ONE_KEY + MORE, [2, 4, 8]),
    "no effect": ([Shape(3, 3), Shape(3, 5), Shape(3, 10)], [0, 0.3]),
}


def edge(shape: Shape, size: float, g: np.random.Generator) -> bool:
    """Whether the edge is found that is so much better than its neighbour."""
    table = planted.sweep(shape, planted.beyond(g, size), g)
    return any("optimizer.lr" in one.text for one in edges(*_seen(table)))


def coarse(shape: Shape, size: float, g: np.random.Generator) -> bool:
    """Whether the optimum between two rates is found that is so much better than both."""
    return bool(list(gaps(*_seen(planted.sweep(shape, planted.coarse(g, size), g)))))


def no_effect(shape: Shape, size: float, g: np.random.Generator) -> bool:
    """Whether the decay is found, whose values are at most so far apart."""
    found = idle(_seen(planted.sweep(shape, planted.idle(g, size), g))[1])
    return any(one.key == "optimizer.weight_decay" for one in found)


FIND: dict[str, Callable[[Shape, float, np.random.Generator], bool]] = {
    "edge": edge,
    "coarse": coarse,
    "no effect": no_effect,
}


def _seen(table: Table) -> tuple[Answer, list]:
    return planted.answered(table), [along(table, key) for key in table.settings]


def main(kinds: list[str]) -> None:
    """Prints for each kind and shape of a sweep the percentage found, by size."""
    for kind in kinds or KINDS:
        shapes, sizes = KINDS[kind]
        for shape in shapes:
            counts = [
                sum(FIND[kind](shape, size, np.random.default_rng(at)) for at in range(SWEEPS))
                for size in sizes
            ]
            said = ", ".join(
                f"{size:g}: {count * 100 // SWEEPS}" for size, count in zip(sizes, counts, strict=True)
            )
            print(f"{kind}, {shape}: {said}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
