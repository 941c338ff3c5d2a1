"""hydra/sweeper=grid, the default of -m: every combination."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from sweepwise.errors import UsageError


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper, but jobs are composed only once, by the launcher, before it makes any file."""

    def sweep(self, arguments: list[str]) -> Any:
        """Hands every combination to the launcher; a job that has failed raises once all have ended."""
        assert self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        swept = [override for override in overrides if override.is_discrete_sweep()]
        empty = [one.input_line for one in swept if next(one.sweep_string_iterator(), None) is None]
        if empty:
            raise UsageError(
                [
                    f"{line}: has no values, so the sweep has no runs; give at least one value"
                    for line in empty
                ]
            )
        returns: list[Sequence[Any]] = []
        done = 0
        try:
            for batch in self.split_arguments(overrides, self.max_batch_size):
                returns.append(self.launcher.launch(batch, initial_job_idx=done))
                done += len(batch)
        finally:
            self._save()
        errors = [job._return_value for batch in returns for job in batch if job.status == JobStatus.FAILED]
        if errors:  # other errors before bad usage
            raise min(errors, key=lambda error: isinstance(error, ValueError))
        return returns

    def _save(self) -> None:
        """Writes the config of the sweep, as Hydra does, if the sweep has a folder."""
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        if folder.is_dir():
            OmegaConf.save(self.config, folder / "multirun.yaml")
