"""hydra/launcher=slurm: a sweep's runs as jobs of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn

from hydra_plugins.sweepwise_plugins._launcher import RunLauncher, returned

if TYPE_CHECKING:
    from sweepwise.sweep.cluster.overview import Row


class SlurmLauncher(RunLauncher):
    """Submits the runs of a sweep that are missing; returns at once unless hydra.launcher.wait is set."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits the runs; one that has not ended returns nan, or raises if it was waited for."""
        from sweepwise.errors import UsageError
        from sweepwise.sweep.cluster import dispatch
        from sweepwise.sweep.cluster.settings import ClusterSettings

        if not self._is_ours:
            raise UsageError(
                ["hydra/launcher=slurm: can train runs of sweepwise only; use hydra/launcher=local"]
            )
        settings = self._settings(ClusterSettings)
        requests = self._requests(job_overrides, initial_job_idx)
        rows = dispatch.dispatch(requests, settings, Path(sys.argv[0]).resolve().parent)
        return [
            returned(request, _value(rows[request.home, request.id], settings.wait)) for request in requests
        ]


def _value(row: Row, waited: bool) -> float | Exception | None:
    """A run's best value; None if it has none yet; an error if it has failed."""
    from sweepwise.errors import REPORTED, Failure
    from sweepwise.store.status import ENDED

    if row.status in ENDED:
        return row.known["best"]["value"]
    if not waited and row.status != "changed":
        return None
    error = Failure(f"{row.name} has not ended")
    error.add_note(REPORTED)
    return error
