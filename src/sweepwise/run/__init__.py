"""Trains one run, or a group of runs, from a request to a record.

Each name is imported when it is first used, so that commands that train nothing load no torch.

`sweepwise.run(FOLDER)` is a run that has been trained: the package itself can be called.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweepwise.predict import Predictor
    from sweepwise.run.from_config import Noted, bind_all, build, schedule
    from sweepwise.run.group import FoldersRemoved, train_together
    from sweepwise.run.single import Result, train


_HOMES = {
    "FoldersRemoved": "group",
    "Noted": "from_config",
    "Result": "single",
    "bind_all": "from_config",
    "build": "from_config",
    "schedule": "from_config",
    "train": "single",
    "train_together": "group",
}

__all__ = ["FoldersRemoved", "Noted", "Result", "bind_all", "build", "schedule", "train", "train_together"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sweepwise.run' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sweepwise.run.{_HOMES[name]}"), name)


class _Callable(ModuleType):
    """This package: its class may be set (docs.python.org, Customizing module attribute access)."""

    def __call__(self, folder: Any, **options: Any) -> "Predictor":
        """The network of the run in a folder, ready for new rows; see `Predictor.read` for the options."""
        from sweepwise.predict import Predictor

        return Predictor.read(folder, **options)


sys.modules[__name__].__class__ = _Callable
