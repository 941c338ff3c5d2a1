"""Trains one run, or a group of runs, from a request to a record.

Each name is imported when it is first used, so that commands that train nothing load no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweepwise.run.from_config import bind_all, build, schedule
    from sweepwise.run.group import FoldersRemoved, train_together
    from sweepwise.run.single import Result, train


_HOMES = {
    "FoldersRemoved": "group",
    "Result": "single",
    "bind_all": "from_config",
    "build": "from_config",
    "schedule": "from_config",
    "train": "single",
    "train_together": "group",
}

__all__ = ["FoldersRemoved", "Result", "bind_all", "build", "schedule", "train", "train_together"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sweepwise.run' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sweepwise.run.{_HOMES[name]}"), name)
