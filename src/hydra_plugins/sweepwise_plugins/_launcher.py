"""The base of our launchers: composes the runs of a sweep and reads the keys of hydra.launcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from hydra_plugins.sweepwise_plugins._absent import Note
    from sweepwise.store.request import Request

    Composed = tuple[list[Request], list[Note]]
    Compose = Callable[[Callable[[], Composed]], Composed]

Settings = TypeVar("Settings")


class RunLauncher(Launcher):
    """Keeps what a launch needs; subclasses implement `launch`.

    Attributes:
        in_search: each launch is a step of a search, which says by itself what was decided and what follows.
    """

    def __init__(self, **settings: Any) -> None:
        self._given = settings
        self.in_search = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra gives to each launcher."""
        self._context, self._task, self._config = hydra_context, task_function, config
        self._told: set[tuple[str, str]] = set()  # of keys that are not for all runs
        if self._is_ours:
            from hydra_plugins.sweepwise_plugins import _tolerate

            _tolerate.tolerate(hydra_context.config_loader, config, tell=False)

    @property
    def _is_ours(self) -> bool:
        """Whether the task function only calls `cli.execute`, so that a config says all about its run."""
        from sweepwise import cli

        return cli.is_ours(self._task)

    def _settings(self, kind: Callable[..., Settings]) -> Settings:
        """The checked keys of the launcher.

        Raises:
            UsageError: with every fault; also keys that must be given, which Hydra drops silently.
        """
        from sweepwise.config.schema import filled
        from sweepwise.errors import UsageError

        if missing := sorted(OmegaConf.missing_keys(self._config.hydra.launcher)):
            raise UsageError([f"hydra.launcher.{key}: must be given" for key in missing])
        plain = OmegaConf.to_container(OmegaConf.create(self._given), resolve=True)
        assert isinstance(plain, dict)
        return filled("hydra.launcher", {str(key): value for key, value in plain.items()}, kind)

    def _requests(
        self, jobs: Sequence[Sequence[str]], first: int, compose: Compose = lambda work: work()
    ) -> list[Request]:
        """The requests of jobs, of which the first has this number; prints which keys not all of them have.

        Args:
            jobs: the overrides of each.
            first: number of the first.
            compose: calls what composes them, here or in another process, and returns its result.

        Raises:
            UsageError: some cannot be composed.
        """
        from hydra_plugins.sweepwise_plugins import _absent, _compose

        loader = self._context.config_loader
        requests, notes = compose(partial(_compose.requests, loader, self._config, jobs, first))
        _absent.print_notes(notes, self._told)
        return requests


def returned(request: Request, value: float | Exception | None) -> JobReturn:
    """The result of a run for a sweeper: the best value, nan without one; or an error, raised when read."""
    result = JobReturn(overrides=list(request.overrides))
    result.status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
    result.return_value = float("nan") if value is None else value
    return result
