"""hydra/launcher=slurm: a sweep's runs as jobs of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SlurmLauncher(Launcher):
    """Submits what is missing of a sweep, and comes back at once, unless it is to wait."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what a launch needs."""
        self._loader = hydra_context.config_loader
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits the runs; a run that is not there yet returns nan."""
        from sweepwise.schema import UsageError
        from sweepwise.standing import ENDED
        from sweepwise.sweep import compose, dispatch, settings

        launcher = self._config.hydra.launcher
        if missing := sorted(OmegaConf.missing_keys(launcher)):
            raise UsageError([f"hydra.launcher.{key}: must be given" for key in missing])
        given = {key: value for key, value in self._settings.items() if key != "_target_"}
        plain = OmegaConf.to_container(OmegaConf.create(given), resolve=True)
        assert isinstance(plain, dict)
        chosen = settings.settings({str(key): value for key, value in plain.items()})
        requests = compose.requests(self._loader, self._config, job_overrides)
        script = Path(sys.argv[0]).resolve().parent
        rows = dispatch.dispatch(requests, chosen, script)
        returns = []
        for request in requests:
            row = rows.get(request.id)
            value = row.known["best"]["value"] if row and row.status in ENDED else None
            done = JobReturn(overrides=list(request.overrides), status=JobStatus.COMPLETED)
            done.return_value = float("nan") if value is None else value
            returns.append(done)
        return returns
