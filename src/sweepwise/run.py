"""From a composed config to a run in its folder.

Everything that can be wrong with a config is found before a folder is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from omegaconf import OmegaConf

from sweepwise import provenance, record, report, verdict
from sweepwise.checkpoint import Checkpoints
from sweepwise.conflicts import refuse_impossible
from sweepwise.data import split
from sweepwise.init import initialize_
from sweepwise.interrupt import Interrupts
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import EXAMPLES, Parts, assemble
from sweepwise.progress import progress
from sweepwise.record import Record, Request, described
from sweepwise.scheduler import HORIZON, Schedule, warmup_steps
from sweepwise.schema import Bound, UsageError, bind
from sweepwise.trainer import Run, fit
from sweepwise.usage import GROUPS

EXIT_CODES = {"finished": 0, "stopped early": 0, "diverged": 1}
# What the parts of a run are given by those before them, and no yaml can set.
GIVEN = {
    "model": {"features", "outputs"},
    "init": {"tensor", "generator"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "last_epoch"},
    "monitor": {"folder"},
}
LONG = 10**6  # stands for the horizon where only types and ranges are looked at
# What stands around a group's target, whose keywords its yaml may set too.
ENVELOPES: dict[str, Callable[..., Any]] = {
    "data": split,
    "init": initialize_,
    "optimizer": FlatOptimizer,
    "scheduler": Schedule,
}


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
    with record.claim(request) as claim:
        record.clear(claim.folder)
        return _train(request, parts)


def build(request: Request) -> Parts:
    """Builds all parts that a config has chosen; writes nothing.

    Raises:
        UsageError: with every fault of the config that could be found.
    """
    config = request.config
    bound = bind_all(config)
    data, init, optimizer = bound["data"], bound["init"], bound["optimizer"]
    parts = assemble(
        settings=bound["trainer"].target(),
        seeds=bound["seed"].target(),
        data=lambda: split(data.target(), **data.envelope),
        model=bound["model"].target,
        init=partial(initialize_, scheme=init.target, **init.envelope),
        optimizer=partial(FlatOptimizer, optimizer.target, **optimizer.envelope),
        schedule=partial(schedule, config),
        regularizers=[bound[f"regularizer.{name}"].target() for name in config["regularizer"]],
        early_stop=bound["early_stop"].target(),
    )
    return replace(parts, notes=[*parts.notes, *refuse_impossible(request, parts)])


def bind_all(config: Mapping[str, Any]) -> dict[str, Bound]:
    """Each group's target with its values bound; a regularizer's by 'regularizer.NAME'.

    Raises:
        UsageError: with the faults of all groups.
    """
    faults: list[str] = []
    nodes = {key: config[key] for key in GROUPS if key not in ("scheduler", "regularizer")}
    nodes["scheduler"] = _with_horizon(config["scheduler"], LONG)  # how long it is is known later
    nodes |= {f"regularizer.{name}": node for name, node in config["regularizer"].items()}
    bound = {
        key: bind(key, node, faults, given=GIVEN.get(key, ()), envelope=ENVELOPES.get(key))
        for key, node in nodes.items()
    }
    if not isinstance(config["optimizer"].get("lr"), (int, float)) and not faults:
        faults.append("optimizer.lr: must be given")
    if faults:
        raise UsageError(faults)
    return bound


def _with_horizon(node: Mapping[str, Any], horizon: int) -> dict[str, Any]:
    return {key: horizon if value == HORIZON else value for key, value in node.items()}


def schedule(config: Mapping[str, Any], steps: int, steps_per_epoch: int) -> Schedule:
    """The schedule that a config has chosen, for a training of so many steps.

    Raises:
        UsageError: a value that only fits another length.
        ValueError: see `Schedule`.
    """
    node = config["scheduler"]
    left = max(1, steps - warmup_steps(node["warmup"], steps_per_epoch))
    horizon = left if node["per"] == "step" else -(-left // steps_per_epoch)
    faults: list[str] = []
    bound = bind(
        "scheduler", _with_horizon(node, horizon), faults, given=GIVEN["scheduler"], envelope=Schedule
    )
    if faults:
        raise UsageError(faults)
    lr = config["optimizer"]["lr"]
    return Schedule(bound.target, lr=lr, steps=steps, steps_per_epoch=steps_per_epoch, **bound.envelope)


def _train(request: Request, parts: Parts) -> Result:
    """Trains in a folder that is this process's own, and leaves a record however it ends."""
    folder = request.folder
    environment = provenance.environment()
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(request.config))))
    about: dict[str, Any] = {
        "id": request.id,
        "overrides": list(request.overrides),
        "environment": environment,
    }
    start = verdict.look(parts)
    about |= {"data_sha256": parts.data.sha256, "init": parts.init, "notes": parts.notes}
    about |= {"start": start.table()}
    interrupts = Interrupts()
    with Record(folder, **about) as log:
        monitor: Monitor = bind("monitor", request.config["monitor"], [], given=GIVEN["monitor"]).target(
            folder
        )
        checkpoints = Checkpoints(folder)
        run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
        try:
            settings, first = report.hparams(request), record.keys(request.overrides)
            monitor.describe(report.texts(request, environment), settings, parts.task.metrics, first)
            monitor.begin(parts.model, *parts.data.sample(EXAMPLES))
            report.opening(request, parts, start)
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
