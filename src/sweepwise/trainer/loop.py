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

OUTPUTS = 2**22  # numbers that are measured at once, of as many runs as have no more together
_Active = list[tuple[int, Run]]  # the runs that still train, each with its index in the group


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
    """Trains the runs; leaves the best weights in the learner, and status and metrics in each `Run`.

    Args:
        learner: of as many runs.
        data: on the learner's device.
        task: the loss and the metrics.
        runs: what differs between the runs; all share data, batch size and length.
        settings: how long the training lasts.
        progress: shows the first run that is still training.
        interrupted: called after every step; True ends the training there.
        world: the processes that train one run together; all of them call it with the same arguments.
    """
    batches = _batches(learner, data, runs, settings, world)
    validation = evaluation_batches(data.validation)
    per_epoch = len(batches)
    steps = settings.steps(per_epoch)
    rates = np.stack([run.schedule.rates for run in runs], axis=1)
    still_running = partial(_still_running, learner, task, data)
    for run in runs:
        run.pause()  # one that goes on from a checkpoint may have come far enough
    active = still_running(list(enumerate(runs)))
    meter = Meter(task, len(runs), world)
    states = partial(_states, learner, meter)
    step, epoch = _resume(runs, meter, data)
    halted = False
    while active and step < steps:
        training = [k for k, _ in active]
        meter.select(training)
        for x, y in batches.epoch(epoch, step - epoch * per_epoch, training):
            watch = max(run.monitor.watch(step) for _, run in active)
            losses, outputs = learner.step(x, y, rates[step], step, watch)
            meter.add(losses, outputs, world.shard(y))
            if watch:
                for k, run in active:
                    run.record_step(step, epoch, rates[step, k], learner.watched(k))
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
                    run.checkpoints.save(step, *states(k, run, step, epoch))
            if len(active) < len(training):
                break
        if halted:
            for k, run in active:
                run.checkpoints.finish(step, *states(k, run, step, epoch))
                run.epoch, run.step = epoch, step - 1
                run.end("interrupted", f"after step {step - 1}")
            return
        _end_diverged(active, learner, meter.flush(), step, epoch, rates)
        active = still_running(active)
        if not active:
            break
        next_epoch = epoch + 1
        if step < min(steps, next_epoch * per_epoch):  # a run has diverged: the others go on with the epoch
            continue
        metrics = _tagged("train", task.finish(*meter.finish_epoch()))
        if validation and (step == steps or next_epoch % settings.validate_every == 0):
            metrics |= _tagged("val", task.finish(*learner.evaluate(validation)))
        for k, run in active:
            values = {tag: value[k] for tag, value in metrics.items()}
            if run.record_epoch(step, epoch, values):
                learner.save_best(k)
            run.monitor.epoch(step - 1, epoch, values)
            rates[step:, k] = run.schedule.rates[step:]
            run.pause()
            if run.status == "pruned":
                run.checkpoints.finish(step, *states(k, run, step, next_epoch))
            elif run.status == "running" and step < steps and run.checkpoints.due(step, next_epoch):
                run.checkpoints.save(step, *states(k, run, step, next_epoch))
        progress.epoch(step, epoch, rates[step - 1, active[0][0]], active[0][1].metrics)
        active = still_running(active)
        epoch = next_epoch
    for _, run in active:
        run.end("finished")
    still_running(active)


def _batches(learner: Learner, data: Data, runs: Sequence[Run], settings: Settings, world: World) -> Batches:
    """The batches: whole, or only this process's portion of the inputs if the learner takes shards."""
    if world.size > 1 and learner.takes_shards:
        return Portions(data, runs[0].order_seed, settings.workers, world.padded_shard)
    return Batches(data, [run.order_seed for run in runs], settings.workers)


def _resume(runs: Sequence[Run], meter: Meter, data: Data) -> tuple[int, int]:
    """Restores the meter and the generators from the runs' state; returns the next step and its epoch."""
    state = runs[0].resume_from
    if state["meter"] is not None:
        meter.load_state_dict([run.resume_from["meter"] for run in runs], data.train.y.device)
        place_generators(state["generators"])
    return state["step"], state["epoch"]


def _states(
    learner: Learner, meter: Meter, k: int, run: Run, step: int, epoch: int
) -> tuple[Weights, tuple[int, Weights] | None, dict[str, Any]]:
    """What a checkpoint holds: the current weights, the best ones with their step, and the other state.

    Args:
        learner: has the weights.
        meter: has the sums of the epoch so far.
        k: the run's index in the group.
        run: the run.
        step: the next one.
        epoch: the one that the next step belongs to.
    """
    state = run.state_dict(step, epoch, meter.state_dict(k))
    state |= {"learner": learner.state_dict(k), "generators": generators()}
    return learner.model_state_dict(k, best=False), _best(learner, k, run), state


def _best(learner: Learner, k: int, run: Run) -> tuple[int, Weights] | None:
    """The best weights and the number of steps they took; None before the first validation."""
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
    healthy = finite.all(0) & np.isfinite(learner.checksums())
    for k, run in active:
        if not healthy[k]:
            first = int(finite[:, k].argmin()) if not finite[:, k].all() else len(losses) - 1
            run.epoch, run.step = epoch, step - len(losses) + first
            run.end(
                "diverged",
                f"loss {losses[first, k]:.4g} at step {run.step}, learning rate {rates[run.step, k]:.4g}, "
                f"gradient norm {learner.gradient_norm(k):.4g} at step {step - 1}; "
                f"last finite gradient norm seen: {run.gradient_seen}",
            )


def _still_running(learner: Learner, task: Task, data: Data, active: _Active) -> _Active:
    """The runs that train on; others are dropped, and tested with their best weights unless they pause."""
    ended = [(k, run) for k, run in active if run.status != "running"]
    _test_best(learner, task, data, [(k, run) for k, run in ended if run.status != "pruned"])
    for k, run in ended:
        run.done = True
        learner.drop(k)
    return [(k, run) for k, run in active if run.status == "running"]


def _test_best(learner: Learner, task: Task, data: Data, ended: _Active) -> None:
    """Keeps the last and the best weights of runs; measures the best on validation and test part, if any."""
    for k, run in ended:
        last = learner.model_state_dict(k, best=False)
        run.checkpoints.finish(run.step + 1, last, _best(learner, k, run), {})
        del last
        learner.load_best(k)
    for name, part in {"val": data.validation, "test": data.test}.items():
        if not (batches := evaluation_batches(part)):
            continue
        at_once = max(1, OUTPUTS // (len(part.y) * data.outputs))
        for first in range(0, len(ended), at_once):
            some = ended[first : first + at_once]
            outputs = [learner.predict(k, batches) for k, _ in some]
            of_batches = zip(zip(*outputs, strict=True), batches, strict=True)
            measured = task.measure([(torch.stack(own), y) for own, (_, y) in of_batches])
            for (_, run), own, metrics in zip(some, outputs, measured, strict=True):
                run.final[name] = metrics
                run.monitor.final(run.best.step, name, metrics, torch.cat(own), part.y)
    for _, run in ended:
        tested = run.final.get("test", {})
        run.metrics |= {f"test/{name}": tested[name] for name in task.metrics if name in tested}
