"""The training loop, over a group of one or more runs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweepwise.data import Data
from sweepwise.data.loading import Batches, Portions, evaluation_batches
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.learner import Learner
from sweepwise.seed import generators, place_generators
from sweepwise.task import Task
from sweepwise.trainer.meter import Meter
from sweepwise.trainer.protocols import Progress, Weights
from sweepwise.trainer.run import Run
from sweepwise.trainer.settings import Settings

_Active = list[tuple[int, "Run"]]  # a run's place in the group, and the run


def fit(
    learner: Learner,
    data: Data,
    task: Task,
    runs: Sequence[Run],
    settings: Settings,
    progress: Progress,
    interrupted: Callable[[], bool] = lambda: False,
    world: World = SINGLE_PROCESS,
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
            meter.add(losses, outputs, world.shard(y))
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
                    run.checkpoints.save(step, *_states(run, k, learner, meter, step, epoch))
            if len(active) < len(training):
                break
        if halted:
            for k, run in active:
                run.checkpoints.finish(step, *_states(run, k, learner, meter, step, epoch))
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
                learner.save_best(k)
            run.monitor.epoch(step - 1, epoch - 1, values)
            rates[step:, k] = run.schedule.rates[step:]
            if run.status == "stopped early" or (run.status == "running" and step == steps):
                run.checkpoints.finish(step, *_states(run, k, learner, meter, step, epoch))
            elif run.status == "running" and run.checkpoints.due(step, epoch):
                run.checkpoints.save(step, *_states(run, k, learner, meter, step, epoch))
        progress.epoch(step, epoch - 1, rates[step - 1, active[0][0]], active[0][1].metrics)
        active = still_running(active)
    _end_all(active, "finished", "", epoch - 1, step)
    still_running(active)


def _batches(learner: Learner, data: Data, runs: Sequence[Run], settings: Settings, world: World) -> Batches:
    """The whole batches, or of each this process's portion, if the learner can do with that."""
    if world.size > 1 and learner.takes_shards:
        return Portions(data, runs[0].order_seed, settings.workers, world.padded_shard)
    return Batches(data, [run.order_seed for run in runs], settings.workers)


def _begin(runs: Sequence[Run], meter: Meter, data: Data) -> tuple[int, int]:
    """Takes up the epoch where all runs have left it; returns the next step and its epoch."""
    begin = runs[0].begin
    if begin["meter"] is not None:
        meter.load_state_dict([run.begin["meter"] for run in runs], data.train.y.device)
        place_generators(begin["generators"])
    return begin["step"], begin["epoch"]


def _states(
    run: Run, k: int, learner: Learner, meter: Meter, step: int, epoch: int
) -> tuple[Weights, tuple[int, Weights] | None, dict[str, Any]]:
    """What a checkpoint holds: present weights, the best ones with their step, and all the rest."""
    state = run.state_dict(step, epoch, meter.state_dict(k))
    state |= {"learner": learner.state_dict(k), "generators": generators()}
    return learner.model_state_dict(k, best=False), _best(run, k, learner), state


def _best(run: Run, k: int, learner: Learner) -> tuple[int, Weights] | None:
    return (run.best.step + 1, learner.model_state_dict(k, best=True)) if run.best.epoch >= 0 else None


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
        run.checkpoints.finish(
            run.step + 1, learner.model_state_dict(k, best=False), _best(run, k, learner), {}
        )
    learner.load_best(k)
    for name, part in {"val": data.validation, "test": data.test}.items():
        batches = evaluation_batches(part)
        outputs = learner.predict(k, batches)
        (found,) = task.measure([(own[None], y) for own, (_, y) in zip(outputs, batches, strict=True)])
        run.final[name] = found
        run.monitor.final(run.best.step, name, found, torch.cat(outputs), part.y)
    run.metrics |= {f"test/{name}": run.final["test"][name] for name in task.metrics}
