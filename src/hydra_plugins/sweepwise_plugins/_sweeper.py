"""What our sweepers share: how they read overrides, and what they leave and raise at their end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from sweepwise.errors import UsageError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from hydra.core.utils import JobReturn


class RunSweeper(Sweeper):
    """Keeps what a sweep needs; subclasses implement `sweep`.

    It is not a `BasicSweeper`: Hydra makes that class anew whenever it looks for plugins, and what derives
    from the one before can then no longer be made.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Makes the launcher; one of others composes jobs as ours do."""
        from hydra_plugins.sweepwise_plugins import _tolerate
        from hydra_plugins.sweepwise_plugins._launcher import RunLauncher
        from sweepwise import cli

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._is_ours = cli.is_ours(task_function)
        if self._is_ours and not isinstance(self.launcher, RunLauncher):
            _tolerate.tolerate(hydra_context.config_loader, config, tell=True)

    def _overrides(self, arguments: Sequence[str]) -> list[Override]:
        """The overrides of the sweep, those of its config first; notes on ranges are printed.

        Raises:
            UsageError: a range has no end or no step, or a list has no values.
        """
        from hydra_plugins.sweepwise_plugins import _ranges
        from sweepwise.cli import swept
        from sweepwise.system.console import wrapped

        loader = self.hydra_context.config_loader
        overrides = _ranges.parsed([*swept.lines_of(self.config, resolve=True), *arguments], loader)
        if faults := [f"{one.input_line}: {EMPTY}" for one in overrides if _is_empty(one)]:
            raise UsageError(faults)
        for line in _ranges.notes(overrides, loader):
            print(wrapped("range", line), flush=True)
        return overrides

    def _save(self) -> None:
        """Writes the config of the sweep, as Hydra does, if the sweep has a folder."""
        folder = Path(self.config.hydra.sweep.dir)
        if folder.is_dir():
            OmegaConf.save(self.config, folder / "multirun.yaml")


EMPTY = "has no values, so the sweep has no runs; give at least one value"


def _is_empty(override: Override) -> bool:
    return override.is_discrete_sweep() and next(override.sweep_string_iterator(), None) is None


def refuse_intervals(overrides: Iterable[Override], who: str) -> None:
    """Refuses what has no list of values.

    Args:
        overrides: of a sweep.
        who: is for lists only: 'a grid'.

    Raises:
        UsageError: with every interval.
    """
    faults = []
    for override in overrides:
        if isinstance(override._value, IntervalSweep):
            key = override.get_key_element()
            low, high = override._value.start or 0.0, override._value.end or 0.0
            listed, stepped = f"{key}={low:g},{high:g}", f"{key}=range({low:g},{high:g},{(high - low) / 4:g})"
            ways = " or ".join(map(shlex.quote, (listed, stepped)))
            faults.append(
                f"{override.input_line}: {who} has lists, no intervals; write {ways}, or draw from it by "
                "hydra/sweeper=random"
            )
    if faults:
        raise UsageError(faults)


def raise_failed(returns: Iterable[Sequence[JobReturn]]) -> None:
    """Raises the error of a job that has failed, if there is one; others before bad usage."""
    errors = [job._return_value for batch in returns for job in batch if job.status == JobStatus.FAILED]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, ValueError))
