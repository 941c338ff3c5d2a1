"""hydra/sweeper=grid, the default of -m: every combination."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from hydra_plugins.sweepwise_plugins._sweeper import RunSweeper, raise_failed, refuse_intervals


class GridSweeper(RunSweeper):
    """Hydra's own sweeper, but jobs are composed only once, by the launcher, before it makes any file.

    Args:
        max_batch_size: runs that are handed on at once; None: all.
        params: overrides of the sweep that stand in a file, by key; they are read from the config.
        others: keys of searches, as a file of conf/experiment/ has them for one.
    """

    split_arguments = staticmethod(BasicSweeper.split_arguments)

    def __init__(self, max_batch_size: int | None = None, params: Any = None, **others: Any) -> None:
        self.max_batch_size, self._others = max_batch_size, others

    def sweep(self, arguments: list[str]) -> Any:
        """Hands every combination to the launcher; a job that has failed raises once all have ended."""
        overrides = self._overrides(arguments)
        refuse_intervals(overrides, "a grid")
        self._heed_others({override.get_key_element() for override in overrides})
        returns: list[Sequence[Any]] = []
        done = 0
        try:
            for batch in self.split_arguments(overrides, self.max_batch_size):
                returns.append(self.launcher.launch(batch, initial_job_idx=done))
                done += len(batch)
        finally:
            self._save()
        raise_failed(returns)
        return returns

    def _heed_others(self, given: Collection[str]) -> None:
        """Names the keys of `hydra.sweeper` that are for a search.

        Args:
            given: keys that have values.

        Raises:
            UsageError: some would be drawn, so that they have none; or no search has such a key either.
        """
        from sweepwise.cli import swept
        from sweepwise.cli.options import Confs, options_of, values_of
        from sweepwise.config.groups import SWEEPER
        from sweepwise.errors import UsageError, did_you_mean
        from sweepwise.system.console import wrapped

        drawn = [key for key in swept.searched(self.config) if key not in given]
        if drawn:
            rule = f"a grid draws nothing; choose hydra/sweeper=random, or give {drawn[0]}=A,B"
            raise UsageError([f"hydra.sweeper.search=[{','.join(drawn)}]: {rule}"])
        if self._others:
            confs = Confs(self.hydra_context.config_loader)
            known = {key for one in options_of(confs, SWEEPER) for key in values_of(confs, SWEEPER, one)}
            faults = [
                f"hydra.sweeper.{name}: unknown; {did_you_mean(name, sorted(known))}"
                for name in self._others
                if name not in known
            ]
            if faults:
                raise UsageError(faults)
            names = ", ".join(f"hydra.sweeper.{name}" for name in self._others)
            print(wrapped("keys", f"{names}: for a search, and not read by a grid"), flush=True)
