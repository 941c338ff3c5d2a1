"""The sweeper of all searches: Hydra's overrides become a strategy, its trials jobs of the launcher."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from hydra_plugins.sweepwise_plugins._launcher import RunLauncher
from hydra_plugins.sweepwise_plugins._sweeper import RunSweeper, raise_failed, refuse_intervals
from sweepwise.errors import UsageError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from hydra.core.utils import JobReturn

    from sweepwise.search.strategy import Result, Step, Strategy, Trial
    from sweepwise.search.trained import Goal
    from sweepwise.store.request import Request

Settings = TypeVar("Settings")
FRESH = "fresh=false"  # a run that this search has trained goes on
NOT_OURS = (
    "hydra/sweeper: a search reads the results of sweepwise's runs, and this function has none; use grid"
)


class SearchSweeper(RunSweeper):
    """Trains what a strategy asks for; subclasses make the strategy.

    Args:
        params: overrides of the sweep that stand in a file, by key.
        settings: of the strategy, the other keys of hydra.sweeper.
    """

    def __init__(self, params: dict[str, Any] | None = None, **settings: Any) -> None:
        self._given = settings

    @abstractmethod
    def strategy(self, overrides: Sequence[Override], goal: Goal) -> Strategy:
        """What decides.

        Args:
            overrides: of the sweep, those that sweep a key and the others, by Hydra's grammar.
            goal: what runs are compared by.

        Raises:
            UsageError: it cannot search among these, or a setting is refused (`checked`).
        """

    def checked(self, kind: Callable[..., Settings]) -> Settings:
        """The checked keys of hydra.sweeper.

        Raises:
            UsageError: with every fault.
        """
        from sweepwise.config.schema import filled

        plain = OmegaConf.to_container(OmegaConf.create(self._given), resolve=True)
        assert isinstance(plain, dict)
        return filled("hydra.sweeper", {str(key): value for key, value in plain.items()}, kind)

    def sweep(self, arguments: list[str]) -> Any:
        """Follows the strategy to its end, prints the answer, and raises if a run has failed."""
        from sweepwise.errors import Untried
        from sweepwise.search.drive import drive
        from sweepwise.search.log import Log
        from sweepwise.search.told import Told
        from sweepwise.store.folders import SEARCH, SWEEP
        from sweepwise.system.atomic import make_folder

        strategy, requests = self._begun(arguments)
        if not requests:
            said = "".join(strategy.next({}).said[-1:]) or "sweep a key, such as optimizer.lr=0.1,0.01"
            raise UsageError([f"hydra/sweeper: this search has no runs; {said}"])
        home = requests[0].home
        self._told = Told(home)
        log = Log(home / SWEEP / SEARCH)  # which says what is wrong with it before anything is trained
        make_folder(home / SWEEP)
        try:
            drive(strategy, self._train, log, self._tell)
        except (KeyboardInterrupt, Untried) as error:
            self._told.broken_off(unknown=isinstance(error, Untried))
            raise
        finally:
            self._save()
        self._conclude(strategy)
        raise_failed(self._returns)
        return self._returns

    def _conclude(self, strategy: Strategy) -> None:
        """Tells a person how the search has ended."""
        self._told.end(list(self._requests.values()), self._results)

    def _begun(self, arguments: Sequence[str]) -> tuple[Strategy, list[Request]]:
        """The strategy, and the runs that it asks for first: faults are found before anything is written."""
        from sweepwise.search import trained

        if not self._is_ours:
            raise UsageError([NOT_OURS])
        if isinstance(self.launcher, RunLauncher):
            self.launcher.in_search = True
        self._given_overrides = {one.get_key_element(): one for one in self._overrides(arguments)}
        self._requests: dict[tuple[str, ...], Request] = {}
        self._results: dict[tuple[str, ...], Result] = {}
        self._returns: list[Sequence[JobReturn]] = []
        self._done = 0  # jobs of the steps before
        overrides = list(self._given_overrides.values())
        usual = OmegaConf.select(self.config, "early_stop.metric", default=None) or "val/loss"
        goal = trained.Goal(usual, OmegaConf.select(self.config, "early_stop.mode", default=None) or "auto")
        strategy = self.strategy(overrides, goal)
        requests = self._composed(strategy.next({}).trials)
        if requests and (found := trained.goal(requests)) != goal:
            strategy = self.strategy(overrides, found)
            requests = self._composed(strategy.next({}).trials)
        return strategy, requests

    def _job(self, trial: Trial) -> list[str]:
        """The overrides of a run: those of the sweep, with the values of the trial, at their places."""
        own = {text.partition("=")[0]: text for text in trial.overrides}
        words = []
        for key, override in self._given_overrides.items():
            if key in own:
                words.append(own.pop(key))
            elif not override.is_sweep_override():
                words.append(f"{key}={override.get_value_element_as_str()}")
        return [*words, *own.values()]

    def _composed(self, trials: Sequence[Trial]) -> list[Request]:
        """The run of each trial.

        Raises:
            UsageError: some cannot be composed.
        """
        from hydra_plugins.sweepwise_plugins import _compose

        if any(trial.overrides not in self._requests for trial in trials):
            jobs = [self._job(trial) for trial in trials]
            found, _ = _compose.requests(self.hydra_context.config_loader, self.config, jobs, self._done)
            self._requests = {
                **{trial.overrides: request for trial, request in zip(trials, found, strict=True)},
                **self._requests,
            }
        return [self._requests[trial.overrides] for trial in trials]

    def _tell(self, step: Step) -> None:
        self._told.step(step, self._composed(step.trials))

    def _train(self, trials: Sequence[Trial]) -> list[Result]:
        """Hands runs to the launcher, and reads what became of them.

        Raises:
            Untried: one is trained elsewhere, or would not be the same run; so its result is not known.
        """
        from sweepwise.errors import Untried
        from sweepwise.search import trained

        jobs = []
        for trial in trials:
            job = self._job(trial)
            if trial.overrides in self._results and any(word.startswith("fresh=") for word in job):
                job.append(FRESH)
            if trial.epochs is not None:
                job.append(f"trainer.pause_after={trial.epochs}")
            jobs.append(job)
        requests = self._composed(trials)
        returns = self.launcher.launch(jobs, initial_job_idx=self._done)
        self._done += len(jobs)
        self._returns.append(returns)
        errors = [job._return_value if job.status == JobStatus.FAILED else None for job in returns]
        for error in errors:
            if isinstance(error, Untried):
                raise error
        results = [trained.result(*pair) for pair in zip(requests, errors, strict=True)]
        self._results |= {trial.overrides: one for trial, one in zip(trials, results, strict=True)}
        return results


def combinations(
    overrides: Sequence[Override], who: str
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The settings of a sweep and the seeds that repeat each of them, all as overrides of runs.

    Args:
        overrides: of the sweep.
        who: is for lists only: 'a race'.

    Returns:
        Every combination of what is swept, each once, but for seeds and splits; every combination of those,
        which is one without overrides where none is swept.

    Raises:
        UsageError: something has no list of values.
    """
    from sweepwise.results.run_folder import is_replicate

    refuse_intervals(overrides, who)
    swept = listed(overrides)
    settings = itertools.product(*(swept[key] for key in swept if not is_replicate(key)))
    seeds = itertools.product(*(swept[key] for key in swept if is_replicate(key)))
    return list(dict.fromkeys(settings)), list(seeds)


def listed(overrides: Sequence[Override]) -> dict[str, list[str]]:
    """What is swept, by key: the override of each value, such as 'optimizer.lr=0.1'; lists only."""
    return {
        one.get_key_element(): [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
        for one in overrides
        if one.is_discrete_sweep()
    }
