"""hydra/launcher=slurm: a sweep's runs as jobs of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.sweepwise_plugins._given import given


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
        from sweepwise.failure import TOLD, Failure
        from sweepwise.schema import UsageError
        from sweepwise.standing import ENDED
        from sweepwise.sweep import dispatch, settings

        if not cli.is_ours(self._task):
            raise UsageError(
                ["hydra/launcher=slurm: trains runs of sweepwise's only; use hydra/launcher=local"]
            )
        chosen = settings.settings(given(self._config, self._settings))
        requests = _compose.requests(self._loader, self._config, job_overrides)
        script = Path(sys.argv[0]).resolve().parent
        rows = dispatch.dispatch(requests, chosen, script)
        returns = []
        for request in requests:
            row = rows.get(request.id)
            ended = row is not None and row.status in ENDED
            value = row.known["best"]["value"] if row and ended else None
            failed = chosen.wait and not ended
            done = JobReturn(overrides=list(request.overrides))
            done.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
            done.return_value = float("nan") if value is None else value
            if failed:
                error = Failure(f"{request.folder.name}: {row.status if row else 'gone'}")
                error.add_note(TOLD)
                done.return_value = error
            returns.append(done)
        return returns
