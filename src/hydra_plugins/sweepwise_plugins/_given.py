"""The keys of a launcher, as a config gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf


def given(config: DictConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a launcher's keys.

    Args:
        config: of the sweep; Hydra drops what is missing in it without a word.
        settings: that Hydra has built the launcher with.

    Raises:
        UsageError: a value must be given.
    """
    from sweepwise.schema import UsageError

    if missing := sorted(OmegaConf.missing_keys(config.hydra.launcher)):
        raise UsageError([f"hydra.launcher.{key}: must be given" for key in missing])
    plain = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
