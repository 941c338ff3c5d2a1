"""Where the result of a guided search is saved as an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from sweepwise.cli import said
from sweepwise.cli.options import Confs
from sweepwise.config.groups import EXPERIMENT
from sweepwise.search.guided import experiment_keys, experiment_yaml


def path_of(confs: Confs, config: DictConfig, name: str | None, base: Sequence[str]) -> Path | None:
    """The file that an experiment is saved in; None if it is not.

    Args:
        confs: what Hydra finds.
        config: of the sweep.
        name: of the experiment; None: it is not saved.
        base: overrides that a person has given.

    Raises:
        UsageError: it is no name, the file is there and no guided search has written it, or no file can say
            what was given.
    """
    folder = next((one.path for one in config.hydra.runtime.config_sources if one.provider == "main"), "")
    if name is None or not Path(folder).is_dir():
        return None
    path = experiment_yaml.path_of(Path(folder) / EXPERIMENT, name)
    experiment_yaml.refuse_foreign(path)
    experiment_keys.keys_of(said.pairs(confs, base))
    return path
