"""hydra/launcher=slurm: a sweep's runs as jobs of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.sweepwise_plugins._given import given

if TYPE_CHECKING:
    from sweepwise.identity import Request
    from sweepwise.sweep.overview import Row


class SlurmLauncher(Launcher):
    """Submits what is missing of a sweep, and comes back at once, unless it is to wait."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what a launch needs."""
        self._loader = hydra_context.config_loader
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits the runs; one that is not there yet returns nan, or raises if it was waited for."""
        from hydra_plugins.sweepwise_plugins import _compose
        from sweepwise import cli
        from sweepwise.schema import UsageError
        from sweepwise.sweep import dispatch, settings

        if not cli.is_ours(self._task):
            raise UsageError(
                ["hydra/launcher=slurm: trains runs of sweepwise's only; use hydra/launcher=local"]
            )
        chosen = settings.settings(given(self._config, self._settings))
        requests = _compose.requests(self._loader, self._config, job_overrides)
        rows = dispatch.dispatch(requests, chosen, Path(sys.argv[0]).resolve().parent)
        return [_returned(request, rows.get(request.id), chosen.wait) for request in requests]


def _returned(request: Request, row: Row | None, waited: bool) -> JobReturn:
    """What a sweeper gets of a run: its best value; nan as long as it has none; an error if it never will."""
    from sweepwise.failure import TOLD, Failure
    from sweepwise.standing import ENDED

    done = JobReturn(overrides=list(request.overrides), status=JobStatus.COMPLETED)
    if row and row.status in ENDED:
        value = row.known["best"]["value"]
        done.return_value = float("nan") if value is None else value
    elif waited:
        done.status, error = JobStatus.FAILED, Failure(f"{row.name if row else request.id} has not ended")
        error.add_note(TOLD)
        done.return_value = error
    else:
        done.return_value = float("nan")
    return done
