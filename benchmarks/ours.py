"""Our own trainer on the benchmarks' workloads. Measures training steps per second, as in reference.py.

    scalars       scalars written every 20 steps and at each validation
    histograms    the same, and histograms of weights, gradients and activations every 50 steps
    silent        nothing written
    unsafe        as scalars, but without checkpoints and without heeding signals

The only file of the benchmarks that knows the package.
"""

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from workload import Workload

from sweepwise.checkpoint import Checkpoints
from sweepwise.data import Data, Part
from sweepwise.early_stop.never import Never
from sweepwise.learner.fused import alone
from sweepwise.learner.module import ModuleLearner
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.scheduler import Schedule
from sweepwise.system.progress import Silent
from sweepwise.system.signals import StopFlag
from sweepwise.task import Classification
from sweepwise.trainer import Run, Settings
from sweepwise.trainer import fit as train_runs
from sweepwise.trainer.protocols import NoCheckpoints

MONITORS: dict[str, dict[str, int | bool]] = {
    "scalars": {"scalars_every": 20, "histograms_every": 0},
    "histograms": {"scalars_every": 20, "histograms_every": 50},
    "silent": {"scalars_every": 0, "histograms_every": 0, "tensorboard": False},
}


def scalars(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="scalars")


def histograms(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="histograms")


def silent(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="silent")


def unsafe(workload: Workload, epochs: int) -> float:
    return fit(workload, epochs, monitor="scalars", safe=False)


def fit(workload: Workload, epochs: int, monitor: str, safe: bool = True) -> float:
    """Train with the product's trainer, as `train.py` does it.

    Args:
        workload: data and constants; pass each validation's result to `workload.report`.
        epochs: passes over the training part.
        monitor: "scalars", "histograms" or "silent".
        safe: whether checkpoints are made, as often as by default, and signals heeded.

    Returns:
        Steps per second of the training: all steps, each epoch's validation, the writing of events and
        metrics.jsonl, and at the end the weights on disk and the test part.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train, validation = Part(*workload.train), Part(*workload.validation)
    test = Part(*(tensor[:1] for tensor in workload.validation))  # measured once, at the end of a run
    data = Data("benchmark", train, validation, test, workload.batch, 10, 0.0, 1.0, "")
    task = Classification(10)
    optimizer = partial(FlatOptimizer, partial(torch.optim.Adam, lr=workload.learning_rate))
    own = ModuleLearner(workload.model(), task, optimizer, [], noise_seed=0)
    learner, _ = alone(own, train.x[: workload.batch])
    steps = epochs * workload.steps_per_epoch
    constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0, total_iters=0)
    schedule = Schedule(
        constant, lr=workload.learning_rate, steps=steps, steps_per_epoch=workload.steps_per_epoch
    )
    settings = Settings(max_epochs=epochs)
    with TemporaryDirectory() as name:
        writer = Monitor(Path(name), **MONITORS[monitor])
        kept, asked = (Checkpoints(Path(name)), StopFlag()) if safe else (NoCheckpoints(), lambda: False)
        run = Run(schedule, Reporting(workload), 0, writer, kept)
        started = time.perf_counter()
        train_runs(learner, data, task, [run], settings, Silent(), asked)
        writer.close("finished")
        seconds = time.perf_counter() - started
    return steps / seconds


class Reporting(Never):
    """No early stopping; hands each validation's loss on to the workload."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(metric="val/accuracy")
        self._workload = workload

    def update(self, epoch: int, value: float) -> str:
        """Never a reason to stop."""
        self._workload.report(float("nan"), value)
        return ""
