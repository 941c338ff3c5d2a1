"""From a composed config to a run in its folder.

Everything that can be wrong with a config is found before a folder is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from sweepwise import provenance, record, report, verdict
from sweepwise.checkpoint import Checkpoints, Saved
from sweepwise.conflicts import refuse_impossible
from sweepwise.data import split
from sweepwise.init import initialize_
from sweepwise.interrupt import Interrupts, exit_code
from sweepwise.monitor import START as BEGINNING
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import EXAMPLES, Parts, assemble
from sweepwise.progress import progress
from sweepwise.record import Record, Request, described
from sweepwise.scheduler import HORIZON, Schedule, warmup_steps
from sweepwise.schema import Bound, UsageError, bind
from sweepwise.trainer import Run, fit
from sweepwise.usage import GROUPS

OUT_OF_MEMORY = "out of memory"
EXIT_CODES = {"finished": 0, "stopped early": 0, "diverged": 1}
# What the parts of a run are given by those before them, and no yaml can set.
GIVEN = {
    "model": {"features", "outputs"},
    "init": {"tensor", "generator"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "last_epoch"},
    "monitor": {"folder", "begin"},
    "checkpoint": {"folder"},
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


class Failed(RuntimeError):
    """A run has failed for a reason that needs no traceback."""


def train(request: Request) -> Result:
    """Trains one run, from where it was left if it had begun, and returns what became of it.

    Raises:
        UsageError: the config asks for what cannot be; nothing was written.
        record.Busy: another process trains this run.
        record.Ended: another process has trained it meanwhile.
        record.Changed: it was begun by other code.
        Damaged: it was begun, and no checkpoint of it is whole.
        Failed: it ended for want of memory.
        OSError: the folder cannot be written.
    """
    parts = build(request)
    with record.claim(request) as claim:
        return _train(request, parts, claim.folder)


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


def _train(request: Request, parts: Parts, folder: Path) -> Result:
    """Trains in a folder that is this process's own, and leaves a record however it ends."""
    config = request.config
    environment = provenance.environment(request.targets)
    saved, said = _left_off(request, folder, environment)
    checkpoints: Checkpoints = _own("checkpoint", config).target(folder)
    monitor: Monitor = _own("monitor", config).target(folder, saved.state if saved else BEGINNING)
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
    interrupts = Interrupts()
    with Record(folder, going_on=saved is not None, **_about(request, parts, environment)) as log:
        try:
            if saved:
                parts.learner.resume(0, saved.weights, saved.best, saved.state["learner"])
                run.resume(saved.state)
            else:
                start = verdict.look(parts)
                log.tell(start=start.table())
                said += report.start_lines(start)
                (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
                (folder / "code.diff").write_text(provenance.diff())
                texts = report.texts(request, environment)
                monitor.describe(
                    texts, report.hparams(request), parts.task.metrics, record.keys(request.overrides)
                )
                monitor.begin(parts.model, *parts.data.sample(EXAMPLES))
            report.opening(request, parts, folder, said)
            with interrupts, progress(parts.steps, config["progress"]) as shown:
                fit(parts.learner, parts.data, parts.task, [run], parts.settings, shown, interrupts)
        except KeyboardInterrupt as error:
            run.end("interrupted", described(error))
            raise
        except Exception as error:
            reason = _why(error)
            run.end("failed", reason)
            if reason.startswith(OUT_OF_MEMORY):
                raise Failed(reason) from error
            raise
        finally:
            monitor.close(run.status)
            log.end(run.status, run.reason, **run.outcome())
    report.closing(folder, log.fields)
    return Result(run, exit_code(interrupts.signal) if interrupts() else EXIT_CODES[run.status])


def _own(group: str, config: Mapping[str, Any]) -> Bound:
    """The target of a group that is built in the run's folder; `bind_all` has checked it."""
    return bind(group, config[group], [], given=GIVEN[group])


def _about(request: Request, parts: Parts, environment: Mapping[str, Any]) -> dict[str, Any]:
    about = {"id": request.id, "overrides": list(request.overrides), "environment": environment}
    return about | {"data_sha256": parts.data.sha256, "init": parts.init, "notes": parts.notes}


def _left_off(
    request: Request, folder: Path, environment: Mapping[str, Any]
) -> tuple[Saved | None, list[tuple[str, str]]]:
    """Where a run goes on, and what there is to say about that; a folder from whose beginning it starts is empty.

    Raises:
        record.Ended: there is nothing left to do.
        record.Changed: it was begun by other code.
        Damaged: no checkpoint is whole.
    """
    known = record.read(folder)
    if request.config["fresh"] or not known:
        said = [("fresh", f"over what was here: {known['status']}, of {known['started']}")] if known else []
        record.clear(folder)
        return None, said
    record.refuse_ended(known)
    changed = provenance.differences(known["environment"], environment)
    record.refuse_changed(changed, request)
    saved = Checkpoints(folder).load()
    if saved is None:
        record.clear(folder)
        return None, [("resume", f"{known['status']} before its first checkpoint: from the beginning")]
    said = [("damaged", text) for text in saved.damaged]
    said += [("resume", f"from step {saved.step}, epoch {saved.state['epoch']}")]
    if differs := [*changed.code, *changed.versions, *changed.machine]:
        said += [("", f"not bit-exact: {'; '.join(differs)}")]
    return saved, said


def _why(error: Exception) -> str:
    """Why a run has failed, in one line."""
    text = str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        detail = text.strip().partition("\n")[0]
        return (
            f"{OUT_OF_MEMORY}{f' ({detail})' if detail else ''}: a smaller data.batch_size needs less; or "
            "trainer.accumulate=2, which passes each batch in two pieces"
        )
    return described(error)
