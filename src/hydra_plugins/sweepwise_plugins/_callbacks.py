"""Hydra's callbacks of jobs, called in the process that launches the runs: on_job_start and on_job_end.

A callback is one object for the whole sweep, as with Hydra's own launcher, though the runs have processes of
their own, and those of a group one together.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from hydra_plugins.sweepwise_plugins._launcher import returned
from sweepwise.store.request import Request

OF_JOBS = ("on_job_start", "on_job_end")


def want_jobs(context: HydraContext) -> bool:
    """Whether there is a callback that has something to do when a job starts or ends."""
    return any(
        getattr(type(callback), name, plain) is not plain
        for callback in context.callbacks.callbacks
        for name, plain in ((name, getattr(Callback, name)) for name in OF_JOBS)
    )


class JobCallbacks:
    """Calls the callbacks once when a run starts and once when it has ended.

    Args:
        context: Hydra's.
        task: the task function.
        config: the sweep's master config.
        jobs: the overrides of each job.
        first: number of the first job.
        requests: the run of each job; a run of several jobs has the config of the first of them.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        jobs: Sequence[Sequence[str]],
        first: int,
        requests: Sequence[Request],
    ) -> None:
        self._context, self._task, self._config = context, task, config
        self._jobs: dict[tuple[object, str], tuple[int, Sequence[str]]] = {}
        for number, (job, request) in enumerate(zip(jobs, requests, strict=True), first):
            self._jobs.setdefault((request.home, request.id), (number, job))
        self._running: dict[tuple[object, str], DictConfig] = {}

    def started(self, request: Request) -> None:
        """Takes a run that is about to start; also one that goes on in a smaller group."""
        key = request.home, request.id
        if key not in self._running:
            config = self._running[key] = self._composed(request)
            with _current(config):
                self._context.callbacks.on_job_start(config=config, task_function=self._task)

    def ended(self, request: Request, value: float | Exception | None) -> None:
        """Takes a run that has ended, with its best value or its error; it need not have been started."""
        self.started(request)
        config = self._running.pop((request.home, request.id))
        result = returned(request, value)
        result.cfg, result.hydra_cfg = _parted(config)
        result.working_dir, result.task_name = os.getcwd(), JobRuntime.instance().get("name")
        with _current(config):
            self._context.callbacks.on_job_end(config=config, job_return=result)

    def _composed(self, request: Request) -> DictConfig:
        number, job = self._jobs[request.home, request.id]
        config = self._context.config_loader.load_sweep_config(self._config, list(job))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.runtime.output_dir = str(request.folder.absolute())
        return config


def _parted(config: DictConfig) -> tuple[DictConfig, DictConfig]:
    """A job's own config, and Hydra's."""
    own, of_hydra = copy.deepcopy(config), copy.deepcopy(config)
    with open_dict(own):
        del own["hydra"]
    with open_dict(of_hydra):
        for key in [key for key in of_hydra if key != "hydra"]:
            del of_hydra[key]
    return own, of_hydra


@contextmanager
def _current(config: DictConfig) -> Iterator[None]:
    """While entered, `HydraConfig` and `${hydra:...}` are those of a job."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
