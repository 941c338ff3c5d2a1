"""hydra/launcher=slurm: a sweep's runs as jobs of a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn

from hydra_plugins.sweepwise_plugins._launcher import RunLauncher, returned

if TYPE_CHECKING:
    from sweepwise.store.request import Request
    from sweepwise.sweep.cluster.overview import Row

NOT_CALLED = (
    "on_job_start and on_job_end are not called, as the cluster starts and ends its jobs by itself; "
    "hydra/launcher=local calls them"
)


class SlurmLauncher(RunLauncher):
    """Submits the runs of a sweep that are missing; returns at once unless hydra.launcher.wait is set."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits the runs; one that has not ended returns nan, or raises if it was waited for."""
        from hydra_plugins.sweepwise_plugins import _callbacks
        from sweepwise.errors import UsageError
        from sweepwise.sweep.cluster import dispatch, flags
        from sweepwise.sweep.cluster.settings import ClusterSettings
        from sweepwise.system.console import wrapped

        if not self._is_ours:
            raise UsageError(
                ["hydra/launcher=slurm: can train runs of sweepwise only; use hydra/launcher=local"]
            )
        settings = self._settings(ClusterSettings)
        if self.in_search:
            settings = replace(settings, wait=True)
        if settings.cluster == "slurm" and (faults := flags.environment_faults(os.environ)):
            raise UsageError(faults)
        if _callbacks.want_jobs(self._context) and not initial_job_idx:
            print(wrapped("callbacks", NOT_CALLED), flush=True)
        requests = self._requests(job_overrides, initial_job_idx)
        script = Path(sys.argv[0]).resolve().parent
        rows = dispatch.dispatch(requests, settings, script, answered=not self.in_search)
        return [
            returned(request, _value(request, rows[request.home, request.id], settings.wait))
            for request in requests
        ]


def _value(request: Request, row: Row, waited: bool) -> float | Exception | None:
    """A run's best value; None if it has none yet; an error if it has failed."""
    from sweepwise.errors import REPORTED, Failure, Untried
    from sweepwise.store.status import EXIT_CODES, settled

    if row.status in EXIT_CODES and settled(row.known, request.config):
        return row.known["best"]["value"]
    if not waited and row.status != "changed":
        return None
    said = f"{row.name} has not ended"
    error = Untried(said) if row.status == "changed" else Failure(said)
    error.add_note(REPORTED)
    return error
