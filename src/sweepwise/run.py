"""From a composed config to a run in its folder.

Everything that can be wrong with a config is found before a folder is made.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sweepwise import report, verdict
from sweepwise.checkpoint import Checkpoints, Saved
from sweepwise.config.groups import GROUPS
from sweepwise.config.schema import Bound, bind
from sweepwise.conflicts import refuse_impossible
from sweepwise.data import Data, split
from sweepwise.distributed.join import joined
from sweepwise.distributed.world import ALONE, World
from sweepwise.errors import Failure, UsageError, explained, reason
from sweepwise.follow import BEGINNING as GOING_ON
from sweepwise.follow import ENDING, FOLDER, echo_seconds, follow, together
from sweepwise.init import initialize_
from sweepwise.learner import Learner
from sweepwise.learner.fused import FusedLearner
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.monitor import START as BEGINNING
from sweepwise.monitor import Monitor
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import EXAMPLES, Parts, assemble
from sweepwise.provenance import changes, origin
from sweepwise.provenance import environment as environment_module
from sweepwise.provenance.changes import made_by, refuse_changed
from sweepwise.scheduler import HORIZON, Schedule, warmup_steps
from sweepwise.store import claim as claim_module
from sweepwise.store import record, status
from sweepwise.store.claim import Claim
from sweepwise.store.folders import CHECKPOINTS, RECORD, clear, steps_taken
from sweepwise.store.record import Record
from sweepwise.store.request import Request, keys
from sweepwise.store.status import ENDED, Ended, ended
from sweepwise.store.takeover import Fenced
from sweepwise.system import atomic
from sweepwise.system.handle import named
from sweepwise.system.progress import progress
from sweepwise.system.signals import Interrupts, exit_code, torn
from sweepwise.trainer import Run, fit

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
    """A run that has ended.

    Attributes:
        run: what became of it.
        exit_code: that says so to a shell.
        signal: that ended it; 0.
    """

    run: Run
    exit_code: int
    signal: int = 0


def train(request: Request, *, fused: bool = False) -> Result:
    """Trains one run, from where it was left if it had begun, and returns what became of it.

    Args:
        request: the run.
        fused: whether it takes its steps as one of a group does, to the bit; what was begun so goes on so.

    Raises:
        UsageError: the config asks for what cannot be; nothing was written.
        record.Busy: another process trains this run.
        Ended: another process has trained it meanwhile.
        Changed: it was begun by other code.
        Failure: it was begun, and no checkpoint of it is whole; or it ended for want of memory.
        Fenced: a later attempt of the same Slurm job has taken it over.
        OSError: the folder cannot be written.
    """
    with joined() as world:
        parts = world.each("building the parts", partial(_built, request, world))
        if not world.leads:
            return Result(*follow(parts, world))
        with world.first(FOLDER, partial(claim_module.claim, request)) as claim:
            going_on = not request.config["fresh"] and steps_taken(claim.inside) > 0
            fused = status.is_fused(record.read(claim.inside)) if going_on else fused
            return _train(request, parts, claim, world, fused and world.size == 1)


class Apart(Failure):
    """Runs cannot go on together, since the folders of some were removed.

    Attributes:
        removed: ids of those runs.
    """

    def __init__(self, error: Exception, removed: Sequence[str]) -> None:
        super().__init__(named(error))
        self.removed = removed


def train_together(requests: Sequence[Request]) -> int:
    """Trains runs that differ in numbers only as one program, each in its folder as if it were alone.

    Those that are refused are left out, and nothing is made for them.

    Args:
        requests: two or more, all at the same step.

    Returns:
        The signal that ended the training; 0.

    Raises:
        UsageError: less than two of them can be built.
        Apart: folders of some were removed meanwhile.
        Unfusable: they cannot be trained so. This and all that `train` raises of any of them ends all, as
            interrupted where they had begun: each can be trained alone.
    """
    requests, members = _members(requests)
    data, task, settings = members[0].data, members[0].task, members[0].settings
    learner = FusedLearner([parts.learner for parts in members], members[0].batch())
    interrupts = Interrupts()
    with contextlib.ExitStack() as open_folders:
        claims = [open_folders.enter_context(claim_module.claim(request)) for request in requests]
        begun: list[_Begun] = []
        try:
            for request, parts, claim in zip(requests, members, claims, strict=True):
                begun.append(open_folders.enter_context(_begun(request, parts, claim, fused=True)))
            if len({one.step for one in begun}) > 1:
                raise Unfusable("they are not all at the same step")
            report.opening_together(requests, members[0], [claim.folder for claim in claims], begun[0].step)
            with (
                interrupts,
                progress(members[0].steps, requests[0].config["progress"], begun[0].step) as shown,
            ):
                fit(learner, data, task, [one.run for one in begun], settings, shown, interrupts)
        except Exception as error:
            for one in begun:
                one.run.end("interrupted", f"not together with others: {reason(error)}")
            folders = zip(requests, claims, strict=True)
            if removed := [request.id for request, claim in folders if not claim.folder.exists()]:
                raise Apart(error, removed) from error
            raise
    for claim, one in zip(claims, begun, strict=True):
        report.closing_together(claim.folder, one.ended)
    return interrupts.signal


def _members(requests: Sequence[Request]) -> tuple[list[Request], list[Parts]]:
    """Those of the runs that can be built, and their parts, which share the data.

    Raises:
        UsageError: less than two can; of one that cannot.
        Unfusable: the data depend on the run.
    """
    able: list[Request] = []
    members: list[Parts] = []
    fault = UsageError([])
    for request in requests:
        try:
            parts = build(request, shared=members[0].data if len(members) > 1 else None)
        except UsageError as error:
            fault = error
            continue
        if members and parts.data.sha256 != members[0].data.sha256:
            raise Unfusable("the data depend on the run")
        able.append(request)
        members.append(replace(parts, data=members[0].data) if members else parts)
    if len(able) < 2:
        raise fault
    return able, members


def _built(request: Request, world: World) -> Parts:
    """As `build`; all processes must want the same run."""
    if request.id != world.first("which run is trained", lambda: request.id, told=str):
        raise UsageError([f"RANK={world.rank}: was started with another config than rank 0; start all alike"])
    try:
        return build(request, world)
    except Exception as error:
        if failure := explained(error):
            raise failure from error
        raise


def build(request: Request, world: World = ALONE, shared: Data | None = None) -> Parts:
    """Builds all parts that a config has chosen; writes nothing.

    Args:
        request: the run.
        world: of the processes that will train it together.
        shared: its data, if they have been loaded before.

    Raises:
        UsageError: with every fault of the config that could be found.
    """
    config = request.config
    bound = bind_all(config)
    data, init, optimizer = bound["data"], bound["init"], bound["optimizer"]
    parts = assemble(
        settings=bound["trainer"].target(),
        seeds=bound["seed"].target(),
        data=lambda: shared or split(data.target(), **data.envelope),
        model=bound["model"].target,
        init=partial(initialize_, scheme=init.target, **init.envelope),
        optimizer=partial(FlatOptimizer, optimizer.target, **optimizer.envelope),
        schedule=partial(schedule, config),
        regularizers=[bound[f"regularizer.{name}"].target() for name in config["regularizer"]],
        early_stop=bound["early_stop"].target(),
        world=world,
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


def _train(request: Request, parts: Parts, claim: Claim, world: World, fused: bool) -> Result:
    """Trains in a folder that is this process's own, and leaves a record however it ends."""
    interrupts = Interrupts(echo_seconds(world))
    learner: Learner = parts.learner
    if fused:
        try:
            learner = FusedLearner([parts.learner], parts.batch())
        except Unfusable:  # on another device than it was tried on
            fused = False
    with _begun(request, parts, claim, world, fused=fused) as begun:
        interrupted, kept = together(world, interrupts, begun.step, begun.run.checkpoints, begun.run.monitor)
        run = begun.run
        run.checkpoints = kept
        report.opening(request, parts, claim.folder, begun.said)
        with interrupts, progress(parts.steps, request.config["progress"], begun.step) as shown:
            fit(learner, parts.data, parts.task, [run], parts.settings, shown, interrupted, world)
    report.closing(claim.folder, begun.ended)
    code = exit_code(interrupts.signal) if interrupts() else ENDED[run.status]
    return Result(run, *world.first(ENDING, lambda: (code, interrupts.signal), told=tuple))


@dataclass
class _Begun:
    """A run whose folder is open.

    Attributes:
        run: what steers and watches it.
        step: that comes next.
        said: how it starts, or goes on: texts with their keys.
        ended: its record, once it has ended.
    """

    run: Run
    step: int
    said: list[tuple[str, str]]
    ended: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def _begun(
    request: Request, parts: Parts, claim: Claim, world: World = ALONE, *, fused: bool
) -> Iterator[_Begun]:
    """Opens a run's folder: within, the run stands where it was left; at the end its record says what came.

    Raises:
        Ended: there is nothing left to do.
        Changed: it was begun by other code.
        Failure: no checkpoint of it is whole.
    """
    config, inside = request.config, claim.inside
    environment = environment_module.environment(request.targets) | {"fused": fused}
    if world.size > 1:
        environment |= {"parallel": parts.settings.parallel}
    made = made_by(request, environment)
    made |= {"data_sha256": parts.data.sha256}
    saved, said, changed = world.first(
        GOING_ON, partial(_left_off, request, claim, made), told=lambda left: left[0]
    )
    made |= {"not_bit_exact": changed}
    about = {"id": request.id, "overrides": list(request.overrides), "init": parts.init, "notes": parts.notes}
    if not saved:
        start = verdict.look(parts)
        about |= {"start": start.table()}
        said += report.start_lines(start)
    checkpoints: Checkpoints = _own("checkpoint", config).target(inside)
    monitor: Monitor = _own("monitor", config).target(inside, saved.state if saved else BEGINNING)
    begin = saved.step if saved else 0
    run = Run(parts.schedule, parts.early_stop, parts.seeds.data, monitor, checkpoints)
    begun = _Begun(run, begin, said)
    with Record(inside, going_on=saved is not None, from_step=begin, **about, **made) as log:
        try:
            if saved:
                parts.learner.resume(0, saved.weights, saved.best, saved.state["learner"])
                run.resume(saved.state)
                del saved  # a whole model with its optimizer
            else:
                _describe(request, parts, inside, made["environment"], monitor)
            yield begun
        except KeyboardInterrupt as error:
            begun.run.end("interrupted", str(error))
            raise
        except Exception as error:
            if lost := world.lost(error):
                begun.run.end(lost.status, str(lost))
                raise lost from error
            if stopped := torn():
                begun.run.end("interrupted", str(stopped))
                raise stopped from error
            begun.run.end("failed", reason(error))
            if failure := explained(error):
                raise failure from error
            raise
        finally:
            # If the run fails for a reason of its own, that is said, and not what fails after it.
            spared = contextlib.suppress(OSError, Fenced) if sys.exception() else contextlib.nullcontext()
            with spared, contextlib.closing(checkpoints):  # that has a thread, so it ends in any case
                monitor.close(begun.run.status)
            with spared:
                log.end(begun.run.status, begun.run.reason, **begun.run.outcome())
    begun.ended = log.fields


def _own(group: str, config: Mapping[str, Any]) -> Bound:
    """The target of a group that is built in the run's folder; `bind_all` has checked it."""
    return bind(group, config[group], [], given=GIVEN[group])


def _describe(
    request: Request, parts: Parts, folder: Path, environment: Mapping[str, Any], monitor: Monitor
) -> None:
    """Writes what does not change in a run."""
    config = report.config_text(request.config)
    atomic.write_aside(folder / "config.yaml", config.encode())
    atomic.write_aside(folder / "code.diff", origin.diff(request.targets).encode())
    settings, first = report.hparams(request), keys(request.overrides)
    monitor.describe(report.texts(request, config, environment), settings, parts.task.metrics, first)
    monitor.begin(parts.model, *parts.sample(EXAMPLES))


def _left_off(
    request: Request, claim: Claim, made: Mapping[str, Any]
) -> tuple[Saved | None, list[tuple[str, str]], list[str]]:
    """Where a run goes on, what there is to say about that, and what has changed since it began.

    If it begins, its folder is empty now.

    Raises:
        Ended: there is nothing left to do.
        Changed: it was begun by other code, or on other data.
        Failure: it had begun, and nothing that can be believed is left of it.
    """
    folder, inside = claim.folder, claim.inside
    if request.config["fresh"]:
        said = [("fresh", "over what was here")] if (inside / RECORD).exists() else []
        clear(inside)
        return None, said, []
    known = record.read(inside)
    if not known and any((inside / CHECKPOINTS).glob("step-*")):
        raise Failure(
            f"{folder}: has checkpoints but no {RECORD}, so it is unknown what they are; put it back, or "
            "fresh=true trains the run anew, over what is there"
        )
    if not known:
        clear(inside)
        return None, [], []
    differs = changes.differences(known, made)
    changed = [*differs.code, *differs.inputs]
    if ended(known):
        refuse_changed(folder, known, request, [*changed, *differs.versions])
        raise Ended(folder, ENDED[known["status"]])
    changed += ["the data are not the same"] if known["data_sha256"] != made["data_sha256"] else []
    refuse_changed(folder, known, request, changed)
    saved = Checkpoints(inside).load()
    if saved is None:
        clear(inside)
        return None, [("resume", "no checkpoint is there: from the beginning")], []
    said = [("damaged", text) for text in saved.damaged]
    said += [("resume", f"from step {saved.step}, epoch {saved.state['epoch']}")]
    changed = [*known["not_bit_exact"], *changed, *differs.versions, *differs.machine]
    said += [("", f"not bit-exact: {'; '.join(changed)}")] if changed else []
    return saved, said, changed
