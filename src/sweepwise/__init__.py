"""sweepwise: composable, repeatable sweeps over seed, init, schedule, regularisation and early stopping.

    from sweepwise import Settings, build, fit, split
    from sweepwise.data.digits import digits
    from sweepwise.model.mlp import mlp

    parts = build(
        data=split(digits(), batch_size=64),
        model=partial(mlp, hidden=[256, 128]),
        init=torch.nn.init.xavier_normal_,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        settings=Settings(max_epochs=20),
        seed=0,
    )
    fitted = fit(parts)

`run(FOLDER)` and `best("outputs/main")` are trained networks, ready for new rows.

Every component stands in a file of its own below its group: `sweepwise.regularizer.l1.L1`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sweepwise.version import __version__ as __version__

if TYPE_CHECKING:
    from sweepwise import run as run
    from sweepwise.config.ranges import Range
    from sweepwise.data import Arrays, Data, split
    from sweepwise.errors import UsageError
    from sweepwise.init import initialize_
    from sweepwise.library import Fitted, build, fit
    from sweepwise.optimizer import FlatOptimizer
    from sweepwise.predict import Predictor
    from sweepwise.regularizer import Regularizer
    from sweepwise.results.answer import answer
    from sweepwise.results.choice import best
    from sweepwise.results.loading import from_records, load
    from sweepwise.results.page.files import report
    from sweepwise.scheduler import Schedule
    from sweepwise.seed import Seeds
    from sweepwise.trainer import Settings


# Where each name lives; loaded when it is asked for, since a command line that only answers needs no torch.
_HOMES = {
    "Arrays": "data",
    "Data": "data",
    "Fitted": "library",
    "FlatOptimizer": "optimizer",
    "Predictor": "predict",
    "Range": "config.ranges",
    "Regularizer": "regularizer",
    "Schedule": "scheduler",
    "Seeds": "seed",
    "Settings": "trainer",
    "UsageError": "errors",
    "answer": "results.answer",
    "best": "results.choice",
    "build": "library",
    "fit": "library",
    "from_records": "results.loading",
    "initialize_": "init",
    "load": "results.loading",
    "report": "results.page.files",
    "split": "data",
}

__all__ = [
    "Arrays",
    "Data",
    "Fitted",
    "FlatOptimizer",
    "Predictor",
    "Range",
    "Regularizer",
    "Schedule",
    "Seeds",
    "Settings",
    "UsageError",
    "answer",
    "best",
    "build",
    "fit",
    "from_records",
    "initialize_",
    "load",
    "report",
    "split",
]


def __getattr__(name: str) -> Any:
    if name == "run":  # a package of its own, which can be called
        return importlib.import_module("sweepwise.run")
    if name not in _HOMES:
        raise AttributeError(f"module 'sweepwise' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sweepwise.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__", "run"]
