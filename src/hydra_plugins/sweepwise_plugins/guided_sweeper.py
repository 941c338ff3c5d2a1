"""hydra/sweeper=guided: seeds, init, rate and schedule, regularisation, early stopping, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hydra_plugins.sweepwise_plugins._search import SearchSweeper

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from sweepwise.cli.options import Confs
    from sweepwise.search.guided.account import Account
    from sweepwise.search.guided.guided import Guided
    from sweepwise.search.strategy import Strategy
    from sweepwise.search.trained import Goal
    from sweepwise.store.request import Request


class GuidedSweeper(SearchSweeper):
    """Follows the recommended order."""

    def strategy(self, overrides: Sequence[Override], goal: Goal) -> Guided:
        """The stages, with what the command leaves open for them."""
        from hydra_plugins.sweepwise_plugins import _candidates, _experiment
        from hydra_plugins.sweepwise_plugins._length import lengths
        from sweepwise.search import halving_advice
        from sweepwise.search.guided.guided import Guided, GuidedSettings
        from sweepwise.search.guided.stage import Question

        settings = self.checked(GuidedSettings)
        self._path = _experiment.path_of(self._confs(), self.config, settings.save, self._base())
        base = self._request(())
        loader = self.hydra_context.config_loader
        given, candidates = _candidates.of(loader, self.config, overrides, base, self._request)
        goals = {"metric": goal.metric, "mode": goal.mode}
        full = () if "early_stop" in given else _candidates.trained_fully(overrides, goals)
        whole = self._request(full)
        return Guided(
            Question(
                metric=goal.metric,
                training=halving_advice.training([whole], goal.sign, lengths([whole])),
                candidates=candidates,
                untrained=_Untrained(self._request),
                seeds=settings.seeds,
                margin=settings.margin,
                splits="split_seed" in base.config["data"],
                given=given,
                full=full,
                notes=_candidates.notes(overrides),
            ),
            settings,
        )

    def _base(self) -> list[str]:
        """What a person has given, for all runs."""
        every = self._given_overrides.values()
        return [str(override.input_line) for override in every if not override.is_sweep_override()]

    def _confs(self) -> Confs:
        from sweepwise.cli.options import Confs

        hydra = self.config.hydra
        return Confs(self.hydra_context.config_loader, hydra.job.config_name, hydra.overrides.hydra)

    def _request(self, overrides: tuple[str, ...]) -> Request:
        """The run with some overrides more; it is no run of the search."""
        from hydra_plugins.sweepwise_plugins._compose import _Composer
        from sweepwise.search.strategy import Trial

        if not hasattr(self, "_composer"):
            self._composer = _Composer(self.hydra_context.config_loader, self.config)
        return self._composer.request(tuple(self._job(Trial(overrides))), 0)

    def _conclude(self, strategy: Strategy) -> None:
        """Prints the account, and writes it into the experiment's folder and the result into conf/."""
        from sweepwise.search.guided import account_files, account_text
        from sweepwise.search.guided.guided import Guided
        from sweepwise.system.console import wrapped

        assert isinstance(strategy, Guided)
        self._told.end(list(self._requests.values()), self._results, answered=False)
        account = account_files.whole(strategy.account(self._results), self._base(), self._requests)
        saved = self._saved(account)
        for key, text in account_text.lines(account, saved):
            print(wrapped(key, text), flush=True)
        home = next(iter(self._requests.values())).home
        for place, path in enumerate(account_files.write(account, home, saved)):
            print(wrapped("" if place else "account", str(path)), flush=True)

    def _saved(self, account: Account) -> str:
        """Saves the result as an experiment; returns its name, '' if it is not saved."""
        import datetime

        from sweepwise.cli import said
        from sweepwise.errors import UsageError
        from sweepwise.search.guided import experiment_yaml
        from sweepwise.system.console import command_to_continue, wrapped

        if self._path is None:
            return ""
        try:
            pairs = said.pairs(self._confs(), [*account.base, *account.found])
            text = experiment_yaml.experiment(
                account,
                pairs,
                self._path.stem,
                command=command_to_continue(),
                when=datetime.datetime.now(datetime.UTC),
            )
            experiment_yaml.write(self._path, text)
        except (UsageError, OSError) as error:  # the search itself has ended, and its account has the result
            print(wrapped("not saved", str(error)), flush=True)
            return ""
        return self._path.stem


class _Untrained:
    """Tells of settings what can be told without training them; each is asked once.

    Args:
        composed: the run with some overrides more.
    """

    def __init__(self, composed: Callable[[tuple[str, ...]], Request]) -> None:
        self._composed = composed
        self._known: dict[tuple[str, tuple[str, ...]], Any] = {}

    def refused(self, overrides: tuple[str, ...]) -> str:
        """See `search.guided.stage.Untrained`."""
        from sweepwise.errors import UsageError
        from sweepwise.tools import untrained

        def found(overrides: tuple[str, ...]) -> str:
            try:
                return untrained.refused(self._composed(overrides))
            except UsageError as error:
                return "; ".join(error.faults)

        return str(self._once("refused", overrides, found))

    def complaints(self, overrides: tuple[str, ...]) -> Sequence[str]:
        """See `search.guided.stage.Untrained`."""
        from sweepwise.tools import untrained

        found: Sequence[str] = self._once(
            "complaints", overrides, lambda some: untrained.complaints(self._composed(some))
        )
        return found

    def rate(self, overrides: tuple[str, ...]) -> float | str:
        """See `search.guided.stage.Untrained`."""
        from sweepwise.tools import untrained

        found: float | str = self._once("rate", overrides, lambda some: untrained.rate(self._composed(some)))
        return found

    def _once(self, what: str, overrides: tuple[str, ...], find: Callable[[tuple[str, ...]], Any]) -> Any:
        if (what, overrides) not in self._known:
            self._known[what, overrides] = find(overrides)
        return self._known[what, overrides]
