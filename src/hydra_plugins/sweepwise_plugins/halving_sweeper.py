"""hydra/sweeper=halving: every combination for a few epochs, and only the best of them for longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra_plugins.sweepwise_plugins._search import SearchSweeper, combinations

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sweepwise.search.halving import Halving
    from sweepwise.search.trained import Goal


class HalvingSweeper(SearchSweeper):
    """Halves every combination of what is swept, but for seeds, which repeat it."""

    def strategy(self, overrides: Sequence[Override], goal: Goal) -> Halving:
        """Successive halving, hyperband or asynchronous halving of these settings."""
        from hydra_plugins.sweepwise_plugins._length import lengths
        from sweepwise.search import halving_advice
        from sweepwise.search.halving import Halving, HalvingSettings
        from sweepwise.search.strategy import Trial

        settings, seeds = combinations(overrides, "halving")
        options = self.checked(HalvingSettings)
        requests = self._composed([Trial((*setting, *seeds[0])) for setting in settings])
        training = halving_advice.training(requests, goal.sign, lengths(requests))
        runs = [[(*setting, *seed) for seed in seeds] for setting in settings]
        plan = Halving(runs, training, options).plan
        return Halving(runs, training, options, halving_advice.before(requests, plan, goal.metric))
