"""The training loop, over a group of one or more runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.config.ranges import Range
from sweepwise.data import Data
from sweepwise.data.loading import Batches, Portions, evaluation_batches
from sweepwise.distributed.world import ALONE, World
from sweepwise.early_stop import Best, EarlyStop
from sweepwise.learner import Learner, Parallel, Precision, Watch, Watched
from sweepwise.meter import Meter
from sweepwise.scheduler import Schedule
from sweepwise.seed import generators, place_generators
from sweepwise.task import Task

Weights = Mapping[str, Tensor]
_Active = list[tuple[int, "Run"]]  # a run's place in the group, and the run


@dataclass(frozen=True)
class Settings:
    """How long, on what and how a run is trained.

    Args:
        max_epochs: passes over the training part, >= 1; schedules take their horizon from it.
        max_steps: ends the training earlier, in the middle of an epoch if need be; null: no limit.
        validate_every: epochs between two validations, >= 1; the last epoch is always validated.
        device: 'auto' takes a GPU if there is one; else a torch device: 'cpu', 'cuda', 'cuda:1'.
        threads: of the CPU, >= 1. Part of what a result depends on: sums are split by it.
        workers: processes that collect batches; 0: batches are indexed in memory.
        accumulate: pieces in which each batch is passed, >= 1, of sizes as equal as can be, so that a batch
            may be larger than the memory allows. The step is that of the whole batch, but batch norm takes
            its statistics from each piece.
        ema: decay, in [0, 1), of a moving average of the parameters over the steps, which is validated, kept
            as the best and tested in their place; 0: none. Buffers of batch norm are not averaged.
        precision: of the forward pass: 'bf16' and 'fp16' by torch.autocast, while parameters stay float32;
            'fp16' scales the loss and skips the steps whose gradients overflow.
        compile: whether the forward and backward pass of a step are compiled, by torch.compile; that takes up
            to a minute at the first step, and needs a C++ compiler, or triton on a GPU.
        parallel: how several processes train the run: with 'ddp' each holds the whole model; with 'fsdp' a
            part of each parameter, with its gradient, average and optimizer state, and gathers a block of the
            model at a time, for models beyond one GPU. Both do as one process does; one process alone trains
            the same with either.
        metrics: computed every epoch, beside the loss, on training and validation part: names that the task
            knows (`Classification`, `Regression`); 'auto': accuracy, or mse, mae and r2.
        class_weights: of an example's class in the loss, one for each class, >= 0; 'balanced': examples /
            (classes * examples of the class) in the training part.

    Example:
        >>> Settings(max_epochs=3).steps(steps_per_epoch=5), Settings(max_epochs=3, max_steps=7).steps(5)
        (15, 7)
    """

    max_epochs: Annotated[int, Range(1)] = 100
    max_steps: Annotated[int, Range(1)] | None = None
    validate_every: Annotated[int, Range(1)] = 1
    device: str = "auto"
    threads: Annotated[int, Range(1, 1024)] = 1
    workers: Annotated[int, Range(0, 1024)] = 0
    accumulate: Annotated[int, Range(1)] = 1
    ema: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    precision: Precision = "fp32"
    compile: bool = False
    parallel: Parallel = "ddp"
    metrics: Sequence[str] | Literal["auto"] = "auto"
    class_weights: Sequence[Annotated[float, Range(0)]] | Literal["none", "balanced"] = "none"

    def steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole training."""
        steps = self.max_epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)


class Monitor(Protocol):
    """Watches one run; what it writes changes nothing in the training."""

    def watch(self, step: int) -> Watch:
        """How much it wants to see of a step."""
        ...

    def step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Takes what was seen of a step."""
        ...

    def epoch(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Takes the metrics of an epoch, by tag."""
        ...

    def mark(self) -> dict[str, int]:
        """Brings what was written to the disk; returns how many bytes each file has, by name."""
        ...

    def final(
        self, step: int, part: str, values: Mapping[str, Any], outputs: Tensor, targets: Tensor
    ) -> None:
        """Takes what the best weights make of a part, 'val' or 'test': once, at the end.

        Args:
            step: that the best weights come from; -1: there are none, these are the last ones.
            part: its name.
            values: all that the task measures.
            outputs: (examples, outputs).
            targets: (examples,).
        """
        ...


class Checkpoints(Protocol):
    """Keeps on disk what one run needs to go on; see `sweepwise.checkpoint.Checkpoints`."""

    def due(self, step: int, epochs: int = 0) -> bool:
        """Whether it is time for a checkpoint, after so many steps; and epochs, if one has ended."""
        ...

    def save(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Makes a checkpoint: present and best weights after so many steps, and everything else."""
        ...

    def finish(
        self, step: int, weights: Weights, best: tuple[int, Weights] | None, state: Mapping[str, Any]
    ) -> None:
        """Makes the last one; with an empty state if the run cannot go on."""
        ...


class Progress(Protocol):
    """Shows the person how far the training is."""

    def advance(self, step: int) -> None:
        """Every few steps."""
        ...

    def epoch(self, step: int, epoch: int, rate: float, values: dict[str, float]) -> None:
        """After every epoch."""
        ...


START: Mapping[str, Any] = {"step": 0, "epoch": 0, "history": [], "gradient_seen": "none", "meter": None}


@dataclass
class Run:
    """One run of a group: what steers it, what watches it and what became of it.

    `status` is 'running' until it ends as 'finished', 'stopped early', 'diverged' or 'interrupted'.
    What steers it follows from its history alone: so rules and schedules need no state to go on.
    """

    schedule: Schedule
    early_stop: EarlyStop
    order_seed: int
    monitor: Monitor
    checkpoints: Checkpoints
    best: Best = field(init=False)
    status: str = "running"
    reason: str = ""
    epoch: int = -1
    step: int = -1
    gradient_seen: str = "none"
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    final: dict[str, dict[str, Any]] = field(default_factory=dict)
    begin: Mapping[str, Any] = field(default_factory=lambda: START)

    def __post_init__(self) -> None:
        self.best = Best(self.early_stop.metric, self.early_stop.mode)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Puts it where it was when `memory` was asked for; the learner is put there apart from it."""
        self.begin = {key: value for key, value in state.items() if key != "learner"}  # that is large
        self.gradient_seen = state["gradient_seen"]
        for values in state["history"]:
            tagged = {tag: value for tag, value in values.items() if tag not in ("epoch", "step")}
            self.take(values["step"] + 1, values["epoch"], tagged)

    def memory(self, step: int, epoch: int, meter: Mapping[str, Any]) -> dict[str, Any]:
        """Where it is, for `resume`: texts, numbers and tensors on the CPU.

        Args:
            step: the next one.
            epoch: that it belongs to.
            meter: what has been seen of that epoch.
        """
        return {
            "step": step,
            "epoch": epoch,
            "history": list(self.history),  # a thread may write it later
            "gradient_seen": self.gradient_seen,
            "meter": meter,
            "log": self.monitor.mark(),
        }

    def take(self, step: int, epoch: int, values: Mapping[str, float]) -> bool:
        """Takes an epoch's metrics; rate, best and end follow from them. Returns whether it is the best.

        Args:
            step: the next one.
            epoch: that has ended.
            values: by tag.
        """
        self.epoch, self.step = epoch, step - 1
        self.metrics |= values
        self.history.append({"epoch": epoch, "step": step - 1, **values})
        if not math.isfinite(values.get("val/loss", 0.0)):
            self.end("diverged", f"val/loss is {values['val/loss']} after step {step - 1}")
            return False
        if self.schedule.metric in values:
            self.schedule.observe(step, values[self.schedule.metric])
        if self.best.metric not in values:
            return False
        improved = self.best.update(epoch, step - 1, values[self.best.metric])
        if improved:
            self.best_metrics = {tag: value for tag, value in values.items() if tag.startswith("val/")}
        why = self.early_stop.update(epoch, values[self.early_stop.metric])
        if why and step < len(self.schedule.rates):
            self.end("stopped early", why)
        return improved

    def see(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Takes what was seen of a step."""
        self.monitor.step(step, epoch, rate, watched)
        if math.isfinite(watched.gradient_norm):
            self.gradient_seen = f"{watched.gradient_norm:.4g} at step {step}"

    def end(self, status: str, reason: str = "") -> None:
        """Ends the run; the first end counts."""
        if self.status == "running":
            self.status, self.reason = status, reason

    def outcome(self) -> dict[str, Any]:
        """What its record says of a run that has ended."""
        best = {
            "metric": self.best.metric,
            "value": self.best.value,
            "epoch": self.best.epoch,
            "step": self.best.step,
        }
        return {
            "best": best | {"metrics": self.best_metrics},
            "stopped": {"epoch": self.epoch, "step": self.step, "why": self.reason or "the last epoch"},
            "metrics": self.metrics,
            "final": self.final,
        }


def fit(
    learner: Learner,
    data: Data,
    task: Task,
    runs: Sequence[Run],
    settings: Settings,
    progress: Progress,
    interrupted: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> None:
    """Trains the runs, leaves the best weights of each in the learner and what became of it in the `Run`.

    Args:
        learner: of as many runs.
        data: on the learner's device.
        task: the metrics.
        runs: what differs between the runs; all share data, batch size and length.
        settings: the length.
        progress: told of the first run that is still training.
        interrupted: asked after every step; True ends the training there.
        world: of the processes that train one run together; all of them are told and asked the same.
    """
    batches = _batches(learner, data, runs, settings, world)
    validation = evaluation_batches(data.validation)
    per_epoch = len(batches)
    steps = settings.steps(per_epoch)
    rates = np.stack([run.schedule.rates for run in runs], axis=1)
    still_running = partial(_still_running, learner, task, data)
    active = still_running(list(enumerate(runs)))
    meter = Meter(task, len(runs), world)
    step, epoch = _begin(runs, meter, data)
    halted = False
    while active and step < steps:
        training = [k for k, _ in active]
        meter.attend(training)
        for x, y in batches.epoch(epoch, step - epoch * per_epoch, training):
            watch = max(run.monitor.watch(step) for _, run in active)
            losses, outputs = learner.step(x, y, rates[step], step, watch)
            meter.add(losses, outputs, world.share(y))
            if watch:
                for k, run in active:
                    run.see(step, epoch, rates[step, k], learner.watched(k))
            step += 1
            if meter.full:
                _end_diverged(active, learner, meter.flush(), step, epoch, rates)
                active = still_running(active)
                progress.advance(step)
            halted = step < steps and interrupted()
            if halted or step == steps or not active:
                break
            for k, run in active:
                if run.checkpoints.due(step) and step % per_epoch:
                    run.checkpoints.save(step, *_memory(run, k, learner, meter, step, epoch))
            if len(active) < len(training):
                break
        if halted:
            for k, run in active:
                run.checkpoints.finish(step, *_memory(run, k, learner, meter, step, epoch))
            _end_all(active, "interrupted", f"after step {step - 1}", epoch, step)
            return
        _end_diverged(active, learner, meter.flush(), step, epoch, rates)
        active = still_running(active)
        if not active:
            break
        if step < min(steps, (epoch + 1) * per_epoch):  # others go on without those that have diverged
            continue
        metrics = _tagged("train", task.finish(*meter.take()))
        if step == steps or (epoch + 1) % settings.validate_every == 0:
            metrics |= _tagged("val", task.finish(*learner.evaluate(validation)))
        epoch += 1
        for k, run in active:
            values = {tag: value[k] for tag, value in metrics.items()}
            if run.take(step, epoch - 1, values):
                learner.keep(k)
            run.monitor.epoch(step - 1, epoch - 1, values)
            rates[step:, k] = run.schedule.rates[step:]
            if run.status == "stopped early" or (run.status == "running" and step == steps):
                run.checkpoints.finish(step, *_memory(run, k, learner, meter, step, epoch))
            elif run.status == "running" and run.checkpoints.due(step, epoch):
                run.checkpoints.save(step, *_memory(run, k, learner, meter, step, epoch))
        progress.epoch(step, epoch - 1, rates[step - 1, active[0][0]], active[0][1].metrics)
        active = still_running(active)
    _end_all(active, "finished", "", epoch - 1, step)
    still_running(active)


def _batches(learner: Learner, data: Data, runs: Sequence[Run], settings: Settings, world: World) -> Batches:
    """The whole batches, or of each this process's portion, if the learner can do with that."""
    if world.size > 1 and learner.takes_portions:
        return Portions(data, runs[0].order_seed, settings.workers, world.portion)
    return Batches(data, [run.order_seed for run in runs], settings.workers)


def _begin(runs: Sequence[Run], meter: Meter, data: Data) -> tuple[int, int]:
    """Takes up the epoch where all runs have left it; returns the next step and its epoch."""
    begin = runs[0].begin
    if begin["meter"] is not None:
        meter.remember([run.begin["meter"] for run in runs], data.train.y.device)
        place_generators(begin["generators"])
    return begin["step"], begin["epoch"]


def _memory(
    run: Run, k: int, learner: Learner, meter: Meter, step: int, epoch: int
) -> tuple[Weights, tuple[int, Weights] | None, dict[str, Any]]:
    """What a checkpoint holds: present weights, the best ones with their step, and all the rest."""
    state = run.memory(step, epoch, meter.memory(k))
    state |= {"learner": learner.memory(k), "generators": generators()}
    return learner.state(k, best=False), _best(run, k, learner), state


def _best(run: Run, k: int, learner: Learner) -> tuple[int, Weights] | None:
    return (run.best.step + 1, learner.state(k, best=True)) if run.best.epoch >= 0 else None


def _tagged(family: str, metrics: dict[str, NDArray[np.float64]]) -> dict[str, list[float]]:
    return {f"{family}/{name}": values.tolist() for name, values in metrics.items()}


def _end_diverged(
    active: _Active,
    learner: Learner,
    losses: NDArray[np.float64],
    step: int,
    epoch: int,
    rates: NDArray[np.float64],
) -> None:
    """Ends the runs whose loss or parameters are no longer finite."""
    finite = np.isfinite(losses)
    whole = finite.all(0) & np.isfinite(learner.checksums())
    for k, run in active:
        if not whole[k]:
            first = int(finite[:, k].argmin()) if not finite[:, k].all() else len(losses) - 1
            run.epoch, run.step = epoch, step - len(losses) + first
            run.end(
                "diverged",
                f"loss {losses[first, k]:.4g} at step {run.step}, learning rate {rates[run.step, k]:.4g}, "
                f"gradient norm {learner.gradient_norm(k):.4g} at step {step - 1}; "
                f"last finite one seen: {run.gradient_seen}",
            )


def _still_running(learner: Learner, task: Task, data: Data, active: _Active) -> _Active:
    """The runs that have not ended; those that have leave the learner, each as it shall be found."""
    for k, run in active:
        if run.status != "running":
            _leave_best(run, k, learner, task, data)
            learner.drop(k)
    return [(k, run) for k, run in active if run.status == "running"]


def _end_all(active: _Active, status: str, reason: str, epoch: int, step: int) -> None:
    for _, run in active:
        if run.status == "running":
            run.epoch, run.step = epoch, step - 1
            run.end(status, reason)


def _leave_best(run: Run, k: int, learner: Learner, task: Task, data: Data) -> None:
    """Puts the best weights back and measures them on validation and test part."""
    if run.status == "diverged":
        run.checkpoints.finish(run.step + 1, learner.state(k, best=False), _best(run, k, learner), {})
    learner.restore(k)
    for name, part in {"val": data.validation, "test": data.test}.items():
        batches = evaluation_batches(part)
        outputs = learner.predict(k, batches)
        (found,) = task.measure([(own[None], y) for own, (_, y) in zip(outputs, batches, strict=True)])
        run.final[name] = found
        run.monitor.final(run.best.step, name, found, torch.cat(outputs), part.y)
    run.metrics |= {f"test/{name}": run.final["test"][name] for name in task.metrics}
