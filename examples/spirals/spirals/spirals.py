"""Two spirals in the plane."""

from typing import Annotated

import numpy as np

from sweepwise import Arrays, Range


def spirals(
    *,
    examples: Annotated[int, Range(2)] = 1000,
    turns: Annotated[float, Range(0, open_low=True)] = 1.5,
    noise: Annotated[float, Range(0)] = 0.02,
    points_seed: Annotated[int, Range(0)] = 0,
) -> Arrays:
    """Points on two spirals that wind around each other; which of the two is the class.

    Args:
        examples: number of points, half of them on each.
        turns: of each spiral, > 0: the more, the harder.
        noise: standard deviation added to each coordinate; the radius is at most 1.
        points_seed: of the points.

    Returns:
        x: (examples, 2), y: (examples,), classes 0 and 1.

    Source: Lang & Witbrock, Learning to Tell Two Spirals Apart, 1988.
    """
    generator = np.random.default_rng(points_seed)
    y = np.arange(examples) % 2
    radius = np.sqrt(generator.uniform(0, 1, examples))
    angle = 2 * np.pi * turns * radius + np.pi * y
    x = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return Arrays("spirals", x + noise * generator.normal(size=x.shape), y, classes=2)
