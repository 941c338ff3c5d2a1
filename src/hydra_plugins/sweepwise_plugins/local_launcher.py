"""hydra/launcher=local, the default of -m: a sweep's runs on this machine, one a core or GPU at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from omegaconf import open_dict

from hydra_plugins.sweepwise_plugins._launcher import RunLauncher, returned

MAX_SENT = 500  # jobs; to send more to another process takes longer than the import that it saves


class LocalLauncher(RunLauncher):
    """Trains runs side by side; a task function that is not sweepwise's is called job by job."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains the runs; if one has failed, its exception is raised when its value is read."""
        setup_globals()
        if not self._is_ours:
            return self._job_by_job(job_overrides, initial_job_idx)
        from sweepwise.run import load
        from sweepwise.store.folders import SWEEP
        from sweepwise.sweep.local.launch import LocalSettings, train

        settings = self._settings(LocalSettings)
        compose = partial(self._requests, job_overrides, initial_job_idx)
        home = Path(str(self._config.output_dir), str(self._config.name))
        # If the sweep has been started before, all its runs may have ended, and torch is not needed.
        new = not (home / SWEEP).exists()
        requests = load.while_torch_loads(compose) if new and len(job_overrides) <= MAX_SENT else compose()
        return [returned(request, value) for request, value in train(requests, settings)]

    def _job_by_job(self, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        logging, verbose = self._config.hydra.hydra_logging, self._config.hydra.verbose
        returns = []
        for index, overrides in enumerate(jobs, first):
            config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = index
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
