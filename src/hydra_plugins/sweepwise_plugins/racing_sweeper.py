"""hydra/sweeper=racing: settings with as few seeds as it takes to see which is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra_plugins.sweepwise_plugins._search import SearchSweeper, combinations

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sweepwise.search.racing import Racing
    from sweepwise.search.trained import Goal


class RacingSweeper(SearchSweeper):
    """Races every combination of what is swept, but for seeds, which repeat it."""

    def strategy(self, overrides: Sequence[Override], goal: Goal) -> Racing:
        """The race of these settings; seeds that are swept are run in their order."""
        from sweepwise.errors import UsageError
        from sweepwise.search.racing import Racing, RacingSettings

        settings, seeds = combinations(overrides, "a race")
        rules = self.checked(RacingSettings)
        repeated = seeds != [()]
        fixed = [one.input_line for one in overrides if one.get_key_element() == "seed.value"]
        if fixed and not repeated:
            raise UsageError(
                [f"{fixed[0]}: a race chooses how many seeds it runs; leave it out, or give a list"]
            )
        return Racing(settings, seeds if repeated else None, goal.sign, rules)
