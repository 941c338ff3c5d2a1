"""Keys for other options in jobs that sweepers and launchers of others compose by Hydra's loader."""

import functools

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig

from hydra_plugins.sweepwise_plugins._absent import print_notes
from hydra_plugins.sweepwise_plugins._compose import _Composer


def tolerate(loader: ConfigLoader, config: DictConfig, *, tell: bool) -> None:
    """Lets a loader compose jobs with keys that are for other options; for others' sweepers and launchers.

    Args:
        loader: Hydra's; it is the same for sweeper and launcher.
        config: the sweep's master config.
        tell: whether to print which keys are not for all jobs.
    """
    strict = getattr(loader.load_sweep_config, "__wrapped__", loader.load_sweep_config)
    composer: list[_Composer] = []  # made when it is first needed
    told: set[tuple[str, str]] = set()

    @functools.wraps(strict)
    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        try:
            return strict(master_config, sweep_overrides)
        except HydraException:
            composer[:] = composer or [_Composer(loader, config)]
            kept = composer[0].kept(sweep_overrides)
            if len(kept) == len(sweep_overrides):
                raise
        if tell:
            print_notes(composer[0].absent.notes(whole=False), told)
        return strict(master_config, kept)

    loader.load_sweep_config = load_sweep_config  # type: ignore[method-assign]
