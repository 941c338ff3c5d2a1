"""hydra/sweeper=random: points of a sequence that fills the space evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra_plugins.sweepwise_plugins._drawing import DrawingSweeper

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sweepwise.search.strategy import Strategy
    from sweepwise.search.trained import Goal


class RandomSweeper(DrawingSweeper):
    """Random search."""

    def strategy(self, overrides: Sequence[Override], goal: Goal) -> Strategy:
        """The points of the sequence, of which the best is named at the end."""
        from sweepwise.search.random import Random, RandomSettings

        return Random(self.space(overrides), self.checked(RandomSettings), goal.sign)
