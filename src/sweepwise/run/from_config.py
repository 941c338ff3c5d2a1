"""Builds the parts of a run from its config; writes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sweepwise.config.groups import GROUPS
from sweepwise.config.schema import Bound, bind
from sweepwise.data import Data, split
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.errors import UsageError
from sweepwise.init import initialize_
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import Parts, assemble
from sweepwise.run.conflicts import refuse_conflicts
from sweepwise.scheduler import HORIZON, Schedule, warmup_steps
from sweepwise.store.request import Request

LONG = 10**6  # stands for the horizon where only types and ranges are checked

# The arguments that a part gets from the parts built before it; no YAML can set them.
GIVEN = {
    "model": {"features", "outputs"},
    "init": {"tensor", "generator"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "last_epoch"},
    "monitor": {"folder", "begin"},
    "checkpoint": {"folder"},
}

# What wraps a group's target; its YAML may set the wrapper's keywords too.
ENVELOPES: dict[str, Callable[..., Any]] = {
    "data": split,
    "init": initialize_,
    "optimizer": FlatOptimizer,
    "scheduler": Schedule,
}


def build(request: Request, world: World = SINGLE_PROCESS, shared: Data | None = None) -> Parts:
    """Builds all parts that a config chooses; writes nothing.

    Args:
        request: the run.
        world: the processes that train it.
        shared: its data, if they are already loaded.

    Raises:
        UsageError: lists every fault of the config that was found.
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
    return replace(parts, notes=[*parts.notes, *refuse_conflicts(request, parts)])


def bind_all(config: Mapping[str, Any]) -> dict[str, Bound]:
    """Each group's target with its values bound, by group; a regularizer's key is 'regularizer.NAME'.

    Raises:
        UsageError: lists the faults of all groups.
    """
    faults: list[str] = []
    nodes = {key: config[key] for key in GROUPS if key not in ("scheduler", "regularizer")}
    nodes["scheduler"] = _with_horizon(
        config["scheduler"], LONG
    )  # the real horizon is known once the data are
    nodes |= {f"regularizer.{name}": node for name, node in config["regularizer"].items()}
    bound = {
        key: bind(key, node, faults, given=GIVEN.get(key, ()), envelope=ENVELOPES.get(key))
        for key, node in nodes.items()
    }
    if not isinstance(config["optimizer"].get("lr"), (int, float)) and not faults:
        faults.append("optimizer.lr: must be given; set it to a number, such as optimizer.lr=0.01")
    if faults:
        raise UsageError(faults)
    return bound


def _with_horizon(node: Mapping[str, Any], horizon: int) -> dict[str, Any]:
    return {key: horizon if value == HORIZON else value for key, value in node.items()}


def schedule(config: Mapping[str, Any], steps: int, steps_per_epoch: int) -> Schedule:
    """The schedule that a config chooses, for a training of so many steps.

    Raises:
        UsageError: a value does not fit this number of steps.
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
