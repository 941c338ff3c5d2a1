"""hydra/sweeper=optuna: what a sampler of Optuna suggests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra_plugins.sweepwise_plugins._drawing import DrawingSweeper

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sweepwise.search.brackets import Training
    from sweepwise.search.space import Space
    from sweepwise.search.strategy import Step, Strategy
    from sweepwise.search.trained import Goal

LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.validate_every")


class OptunaSweeper(DrawingSweeper):
    """A search by Optuna."""

    def strategy(self, overrides: Sequence[Override], goal: Goal) -> Strategy:
        """The suggestions of a sampler, which is told the metric that chooses the weights of a run."""
        from sweepwise.search.limits import limits
        from sweepwise.search.optuna import Optuna
        from sweepwise.search.optuna_study import OptunaSettings

        space, settings = self.space(overrides), self.checked(OptunaSettings)
        training = self._training(space, goal.sign, settings.pruner != "none")
        self._search = Optuna(space, settings, training, limits(settings.constraints, goal))
        return self._search

    def _training(self, space: Space, sign: int, prunes: bool) -> Training:
        """How every run is trained, by the example of one of them.

        Args:
            space: of the search.
            sign: 1 where lower values are better, -1 where higher ones are.
            prunes: whether its length decides anything.

        Raises:
            UsageError: it differs between them.
        """
        from hydra_plugins.sweepwise_plugins import _compose
        from hydra_plugins.sweepwise_plugins._length import lengths
        from sweepwise.errors import UsageError
        from sweepwise.search import halving_advice
        from sweepwise.search.strategy import Trial

        if drawn := [one.key for one in space.parameters if one.key in LENGTH]:
            rule = "must be the same in all runs, so that an epoch of one is an epoch of the others"
            raise UsageError([f"{key}: {rule}" for key in drawn])
        point = space.point([0.5] * len(space.parameters))
        job = self._job(Trial(space.runs(point)[0]))
        requests, _ = _compose.requests(self.hydra_context.config_loader, self.config, [job])
        return halving_advice.training(requests, sign, lengths(requests) if prunes else ())

    def _tell(self, step: Step) -> None:
        """Prints a step, and writes the journal for Optuna's dashboard."""
        from sweepwise.search.optuna_journal import JOURNAL
        from sweepwise.store.folders import SWEEP
        from sweepwise.system.console import wrapped

        super()._tell(step)
        home = next(iter(self._requests.values())).home
        why = self._search.write_journal(home / SWEEP / JOURNAL)
        if why and not step.trials:
            print(wrapped("optuna", f"{JOURNAL} was not written, for its dashboard alone: {why}"), flush=True)
