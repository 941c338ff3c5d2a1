"""hydra/launcher=local, the default of -m: a sweep's runs on this machine, one a core or GPU at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.sweepwise_plugins._given import given


class LocalLauncher(Launcher):
    """Trains runs side by side; a task function that is not sweepwise's is called job by job."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what a launch needs."""
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains the runs; of one that has failed the exception is raised when its value is asked for."""
        from sweepwise import cli

        setup_globals()
        if not cli.is_ours(self._task):
            return self._job_by_job(job_overrides, initial_job_idx)
        from hydra_plugins.sweepwise_plugins import _compose
        from sweepwise.sweep import local

        settings = local.settings(given(self._config, self._settings))
        requests = _compose.requests(self._context.config_loader, self._config, job_overrides)
        returns = []
        for request, value in local.train(requests, settings):
            done = JobReturn(overrides=list(request.overrides))
            done.status = JobStatus.FAILED if isinstance(value, Exception) else JobStatus.COMPLETED
            done.return_value = value
            returns.append(done)
        return returns

    def _job_by_job(self, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        logging, verbose = self._config.hydra.hydra_logging, self._config.hydra.verbose
        returns = []
        for index, overrides in enumerate(jobs, first):
            config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = index
            done = run_job(
                hydra_context=self._context,
                task_function=self._task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            returns.append(done)
            configure_log(logging, verbose)
        return returns
