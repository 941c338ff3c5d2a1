"""Endless sequences of points of the unit cube: Sobol's, Halton's, and random ones.

The first two have low discrepancy: any beginning of them fills the cube more evenly than random points do, in
every coordinate and in pairs of them. All are scrambled or drawn by a seed, and a longer one begins with the
shorter one, to the bit.

Source: Sobol, On the distribution of points in a cube, 1967; Halton, On the efficiency of certain
quasi-random sequences, 1960; Owen, Scrambled net variance, 1997.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

Name = Literal["sobol", "halton", "random"]
Row = np.ndarray  # (dimensions,), each in [0, 1)


def rows(name: Name, dimensions: int, seed: int) -> Iterator[Row]:
    """The points of a sequence, one after the other.

    Args:
        name: of the sequence.
        dimensions: of the cube, >= 1.
        seed: scrambles the sequence, or draws it; >= 0.
    """
    if name == "random":
        generator = np.random.default_rng(seed)
        while True:
            yield generator.random(dimensions)
    from scipy.stats import qmc

    if name == "halton":
        halton = qmc.Halton(dimensions, scramble=True, rng=seed)
        while True:
            yield halton.random(1)[0]
    # Sobol's points come in blocks that double what there is: scipy warns of any other number.
    sobol = qmc.Sobol(dimensions, scramble=True, rng=seed)
    exponent = 0
    yield from sobol.random_base2(exponent)
    while True:
        yield from sobol.random_base2(exponent)
        exponent += 1
