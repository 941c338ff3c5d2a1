"""hydra/launcher=local, the default of -m: a sweep's runs on this machine, one a core or GPU at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from omegaconf import open_dict

from hydra_plugins.sweepwise_plugins._launcher import RunLauncher, returned

if TYPE_CHECKING:
    from hydra_plugins.sweepwise_plugins._callbacks import JobCallbacks
    from sweepwise.store.request import Request

MAX_SENT = 500  # jobs; to send more to another process takes longer than the import that it saves


class LocalLauncher(RunLauncher):
    """Trains runs side by side; a task function that is not sweepwise's is called job by job."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._told_before: set[str] = set()  # of the runs of a search, in its steps

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains the runs; if one has failed, its exception is raised when its value is read."""
        setup_globals()
        if not self._is_ours:
            return self._job_by_job(job_overrides, initial_job_idx)
        from sweepwise.run import load
        from sweepwise.store.folders import SWEEP
        from sweepwise.sweep.local.launch import LocalSettings, train

        settings = self._settings(LocalSettings)
        home = Path(str(self._config.output_dir), str(self._config.name))
        # If the sweep has been started before, all its runs may have ended, and torch is not needed.
        new = not (home / SWEEP).exists()
        beside = new and len(job_overrides) <= MAX_SENT
        given = (load.while_torch_loads,) if beside else ()
        requests = self._requests(job_overrides, initial_job_idx, *given)
        callbacks = self._callbacks(job_overrides, initial_job_idx, requests)
        told = self._told_before if self.in_search else None
        ended = train(requests, settings, answered=not self.in_search, told=told, watcher=callbacks)
        return [returned(request, value) for request, value in ended]

    def _callbacks(
        self, jobs: Sequence[Sequence[str]], first: int, requests: Sequence[Request]
    ) -> JobCallbacks | None:
        from hydra_plugins.sweepwise_plugins import _callbacks

        if not _callbacks.want_jobs(self._context):
            return None
        return _callbacks.JobCallbacks(self._context, self._task, self._config, jobs, first, requests)

    def _job_by_job(self, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        logging, verbose = self._config.hydra.hydra_logging, self._config.hydra.verbose
        returns = []
        for index, overrides in enumerate(jobs, first):
            config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(config):
                config.hydra.job.id, config.hydra.job.num = str(index), index
            result = run_job(
                hydra_context=self._context,
                task_function=self._task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            returns.append(result)
            configure_log(logging, verbose)
        return returns
