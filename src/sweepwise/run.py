"""The composition root: builds each part of a run in order, forwards, and trains it.

Everything that can be wrong with a config is found before a folder is made.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from torch import nn

from sweepwise import record, report
from sweepwise.checkpoint import Checkpoints
from sweepwise.conflicts import refuse_impossible
from sweepwise.data import Data
from sweepwise.early_stop import EarlyStop
from sweepwise.init import initialize_
from sweepwise.interrupt import Interrupts
from sweepwise.learner.module import ModuleLearner
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.progress import progress
from sweepwise.record import Record, Request, described
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import HORIZON, Schedule, warmup_steps
from sweepwise.schema import Bound, UsageError, bind
from sweepwise.seed import Seeds
from sweepwise.task import Task, task_of
from sweepwise.trainer import Run, Settings, fit
from sweepwise.usage import GROUPS

Built = TypeVar("Built")

EXIT_CODES = {"finished": 0, "stopped early": 0, "diverged": 1}
# What the parts of a run are given by those before them, and no yaml can set.
GIVEN = {
    "model": {"features", "outputs"},
    "init": {"tensor", "generator"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "last_epoch"},
    "monitor": {"folder"},
}


@dataclass(frozen=True)
class Parts:
    """Every part of a run, built and checked, before anything is written."""

    settings: Settings
    seeds: Seeds
    data: Data
    task: Task
    model: nn.Module
    init: Mapping[str, str]
    schedule: Schedule
    early_stop: EarlyStop
    monitor: Callable[..., Monitor]
    learner: ModuleLearner
    steps: int
    notes: Sequence[str]


@dataclass(frozen=True)
class Result:
    """A run that has ended, and the exit code that says so to a shell."""

    run: Run
    exit_code: int


def train(request: Request) -> Result:
    """Trains one run and returns what became of it.

    Raises:
        UsageError: the config asks for what cannot be; nothing was written.
        record.Busy: another process trains this run.
        OSError: the folder cannot be written.
    """
    parts = build(request)
    lock = record.claim(request.folder)
    try:
        return _train(request, parts)
    finally:
        os.close(lock)


def build(request: Request) -> Parts:
    """Builds all parts in the order of a run; each takes what the ones before it have made.

    Raises:
        UsageError: with every fault of the config that could be found.
    """
    config = request.config
    bound = _bind_all(config)
    settings: Settings = bound["trainer"].target()
    seeds: Seeds = bound["seed"].target()
    device = _device(settings)
    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # else the moments of dead units, as they die away, slow Adam down by half
    seeds.apply()
    data: Data = _built("data", bound["data"].target)
    torch.manual_seed(seeds.init)  # once more: the data may have drawn from it
    model: nn.Module = _built("model", partial(bound["model"].target, data.features, data.outputs))
    scheme = bound["init"]
    init = _built("init", partial(initialize_, model, scheme.target, seed=seeds.init, **scheme.envelope))
    data, model = data.to(device), model.to(device)
    regularizers: list[Regularizer] = [
        bound[f"regularizer.{name}"].target() for name in config["regularizer"]
    ]
    for regularizer in regularizers:
        _built("regularizer", partial(regularizer.prepare_, model))
    task = task_of(data.classes, data.target_std)
    optimizer = partial(FlatOptimizer, bound["optimizer"].target, **bound["optimizer"].envelope)
    learner = _built("model", partial(ModuleLearner, model, task, optimizer, regularizers, seeds.noise))
    steps_per_epoch = -(-len(data.train.y) // data.batch_size)
    steps = settings.steps(steps_per_epoch)
    schedule = _built("scheduler", partial(_schedule, config, steps, steps_per_epoch))
    early_stop: EarlyStop = bound["early_stop"].target()
    notes = [*_left_as_built(init), *schedule.notes()]
    notes += refuse_impossible(request, data, model, task, schedule, early_stop, steps)
    monitor = bound["monitor"].target
    return Parts(
        settings, seeds, data, task, model, init, schedule, early_stop, monitor, learner, steps, notes
    )


def _bind_all(config: Mapping[str, Any]) -> dict[str, Bound]:
    """Each group's target with its values bound.

    Raises:
        UsageError: with the faults of all groups.
    """
    faults: list[str] = []
    envelopes: dict[str, Callable[..., Any]] = {
        "init": initialize_,
        "optimizer": FlatOptimizer,
        "scheduler": Schedule,
    }
    nodes = {key: config[key] for key in GROUPS if key not in ("scheduler", "regularizer")}
    nodes["scheduler"] = _with_horizon(config["scheduler"], 1)
    nodes |= {f"regularizer.{name}": node for name, node in config["regularizer"].items()}
    bound = {
        key: bind(key, node, faults, given=GIVEN.get(key, ()), envelope=envelopes.get(key))
        for key, node in nodes.items()
    }
    if not isinstance(config["optimizer"].get("lr"), (int, float)) and not faults:
        faults.append("optimizer.lr: must be given")
    if faults:
        raise UsageError(faults)
    return bound


def _with_horizon(node: Mapping[str, Any], horizon: int) -> dict[str, Any]:
    return {key: horizon if value == HORIZON else value for key, value in node.items()}


def _schedule(config: Mapping[str, Any], steps: int, steps_per_epoch: int) -> Schedule:
    node = config["scheduler"]
    left = max(1, steps - warmup_steps(node["warmup"], steps_per_epoch))
    horizon = left if node["per"] == "step" else -(-left // steps_per_epoch)
    bound = bind("scheduler", _with_horizon(node, horizon), [], given=GIVEN["scheduler"], envelope=Schedule)
    lr = config["optimizer"]["lr"]
    return Schedule(bound.target, lr=lr, steps=steps, steps_per_epoch=steps_per_epoch, **bound.envelope)


def _built(key: str, build: Callable[[], Built]) -> Built:
    """Builds a part; what its constructor refuses is a fault of its group."""
    try:
        return build()
    except (ValueError, TypeError, ArithmeticError) as error:
        text = str(error)
        raise UsageError([text if text.startswith(key) else f"{key}: {text}"]) from error


def _device(settings: Settings) -> torch.device:
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError([f"trainer.device={settings.device}: cannot be used here ({reason})"]) from error
    return device


def _left_as_built(init: Mapping[str, str]) -> list[str]:
    left = [name for name, rule in init.items() if "no rule" in rule]
    return [f"init: no rule for {', '.join(left)}: left as the model built them"] if left else []


def _train(request: Request, parts: Parts) -> Result:
    """Trains in a folder that is this process's own, and leaves a record however it ends."""
    folder = request.folder
    environment = record.environment()
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(request.config))))
    about = {"id": request.id, "overrides": list(request.overrides), "environment": environment}
    about |= {"data_sha256": parts.data.sha256, "init": parts.init, "notes": parts.notes}
    interrupts = Interrupts()
    with Record(folder, **about) as log:
        monitor = parts.monitor(folder)
        checkpoints = Checkpoints(folder)
        run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
        try:
            settings, first = report.hparams(request), record.keys(request.overrides)
            monitor.describe(report.texts(request, environment), settings, parts.task.metrics, first)
            report.opening(request, parts)
            with interrupts, progress(parts.steps, request.config["progress"]) as shown:
                fit(parts.learner, parts.data, parts.task, [run], parts.settings, shown, interrupts)
        except BaseException as error:
            run.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", described(error))
            if run.best.epoch >= 0:
                checkpoints.save("best", parts.learner.state(0, best=True))
            raise
        finally:
            monitor.close(run.status)
            log.end(run.status, run.reason, **run.outcome())
    report.closing(request.folder, log.fields)
    return Result(run, interrupts.exit_code if interrupts() else EXIT_CODES[run.status])
