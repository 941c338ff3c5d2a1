"""Searches that draw points from a space: of ranges, lists, and keys whose range a yaml says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra_plugins.sweepwise_plugins._search import SearchSweeper

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sweepwise.search.space import Space


class DrawingSweeper(SearchSweeper):
    """A search whose strategy is made from a space.

    Args:
        search: keys whose range a yaml says; read from the sweep's config.
        given: as `SearchSweeper`.
    """

    def __init__(self, search: Any = (), **given: Any) -> None:
        super().__init__(**given)

    def space(self, overrides: Sequence[Override]) -> Space:
        """What is drawn from.

        Raises:
            UsageError: a range is at fault, or there is none.
        """
        from hydra_plugins.sweepwise_plugins._space import space_of

        return space_of(self.hydra_context.config_loader, self.config, overrides)
