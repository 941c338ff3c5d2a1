"""Builds the parts of a run from its config; writes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sweepwise.config.groups import GIVEN, GROUPS
from sweepwise.config.schema import Bound, bind, locate
from sweepwise.conflicts import refuse_conflicts
from sweepwise.data import Data, split
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.errors import UsageError
from sweepwise.init import initialize_
from sweepwise.learner.first_passes import Tried
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import Parts, assemble, build_part, notes_on_numbers, settled_rates
from sweepwise.run.unread_options import never_due, refuse_unread
from sweepwise.scheduler import Length, Schedule
from sweepwise.scheduler.horizon import settled, taken
from sweepwise.store.request import Request, keys
from sweepwise.trainer import Settings

# What wraps a group's target; its YAML may set the wrapper's keywords too.
ENVELOPES: dict[str, Callable[..., Any]] = {
    "data": split,
    "init": initialize_,
    "optimizer": FlatOptimizer,
    "scheduler": Schedule,
}


def build(
    request: Request,
    world: World = SINGLE_PROCESS,
    shared: Data | None = None,
    tried: Tried | None = None,
) -> Parts:
    """Builds all parts that a config chooses; writes nothing.

    Args:
        request: the run.
        world: the processes that train it.
        shared: its data, if they are already loaded.
        tried: the model of a run that differs from this one in numbers only, once that is built.

    Raises:
        UsageError: lists every fault of the config that was found.
    """
    config = request.config
    bound = bind_all(config)
    notes = refuse_unread(config)
    data, init, optimizer = bound["data"], bound["init"], bound["optimizer"]
    parts = assemble(
        settings=bound["trainer"].target(),
        seeds=bound["seed"].target(),
        data=lambda: shared or _loaded(data, request.overrides),
        model=bound["model"].target,
        init=partial(initialize_, scheme=init.target, **init.envelope),
        optimizer=partial(FlatOptimizer, optimizer.target, **optimizer.envelope),
        schedule=partial(schedule, config),
        regularizers=[bound[f"regularizer.{name}"].target() for name in config["regularizer"]],
        early_stop=build_part("early_stop", bound["early_stop"].target),
        world=world,
        tried=tried,
    )
    undrawn = parts.data.classes > 0 and not len(parts.data.validation.y)
    notes += never_due(config, parts.steps, parts.data.steps_per_epoch, undrawn=undrawn)
    parts = refuse_conflicts(parts, request.overrides)
    return replace(parts, notes=[*parts.notes, *notes])


def epochs(config: Mapping[str, Any]) -> int:
    """How many epochs the training of a config has, by `trainer.max_steps` too; loads its data for that.

    Raises:
        UsageError: the run is refused.
    """
    bound = bind_all(config)
    settings, each = bound["trainer"].target(), _loaded(bound["data"], ()).steps_per_epoch
    return -(-settings.steps(each) // each)


def _loaded(data: Bound, overrides: Sequence[str]) -> Data:
    """The data set of a config; refuses a share for the test part that a set with its own does not read."""
    arrays = data.target()
    if arrays.x_test is not None and "data.test" in keys(overrides):
        share = data.envelope["test"]
        raise UsageError([f"data.test={share}: has no effect, as {arrays.name} has its own; leave it out"])
    return split(arrays, **data.envelope)


def bind_all(config: Mapping[str, Any]) -> dict[str, Bound]:
    """Each group's target with its values bound, by group; a regularizer's key is 'regularizer.NAME'.

    Raises:
        UsageError: lists the faults of all groups.
    """
    faults: list[str] = []
    nodes = {key: config[key] for key in GROUPS if key not in ("scheduler", "regularizer")}
    try:
        nodes["scheduler"] = _scheduler(config["scheduler"], None)  # the length is known once the data are
    except UsageError as error:
        faults += error.faults
    for name, node in config["regularizer"].items():
        if isinstance(node, Mapping) and "_target_" in node:
            nodes[f"regularizer.{name}"] = node
        else:
            faults.append(f"regularizer.{name}: has no _target_; if it is an option, add regularizer={name}")
    bound = {key: _bind_group(key, node, faults) for key, node in nodes.items()}
    if not isinstance(config["optimizer"].get("lr"), (int, float)) and not faults:
        faults.append("optimizer.lr: must be given; set it to a number, such as optimizer.lr=0.01")
    if faults:
        raise UsageError(faults)
    return bound


def _bind_group(key: str, node: Mapping[str, Any], faults: list[str]) -> Bound:
    """A group's target with the values of its node bound; see `bind`."""
    return bind(key, node, faults, given=GIVEN.get(key, ()), envelope=ENVELOPES.get(key))


def _scheduler(node: Mapping[str, Any], length: Length | None) -> dict[str, Any]:
    """The node with numbers for what it takes from the length of the training; a fault of it stays in it."""
    try:
        target = locate("scheduler", node.get("_target_"))
    except UsageError:
        return dict(node)
    return settled(target, node, length)


def schedule(config: Mapping[str, Any], steps: int, steps_per_epoch: int, **known: Any) -> Schedule:
    """The schedule that a config chooses, for a training of so many steps.

    Args:
        config: of the run.
        steps: of the whole training.
        steps_per_epoch: >= 1.
        known: more of the `Length` of the training.

    Raises:
        UsageError: a value does not fit this number of steps.
        ValueError: see `Schedule`.
    """
    node = config["scheduler"]
    found = _scheduler(node, Length(steps, steps_per_epoch, **known))
    faults: list[str] = []
    bound = bind("scheduler", found, faults, given=GIVEN["scheduler"], envelope=Schedule)
    if faults:
        raise UsageError(faults)
    lr = config["optimizer"]["lr"]
    made = Schedule(bound.target, lr=lr, steps=steps, steps_per_epoch=steps_per_epoch, **bound.envelope)
    made.taken = taken(node, found)
    return made


@dataclass(frozen=True)
class Noted:
    """The notes of a run that was built; others that differ from it in numbers only need not be built.

    Attributes:
        settings: of the trainer.
        steps_per_epoch: >= 1.
        validated: whether there is a validation part.
        others: notes that do not depend on numbers of scheduler, optimizer and regularizers.
    """

    settings: Settings
    steps_per_epoch: int
    validated: bool
    others: Sequence[str] = ()

    @classmethod
    def of(cls, request: Request, built: Parts) -> "Noted":
        """Those of a run, from its parts."""
        data = built.data
        plain = cls(built.settings, data.steps_per_epoch, len(data.validation.y) > 0)
        on_numbers = plain.notes(request.config)
        return replace(plain, others=[note for note in built.notes if note not in on_numbers])

    @property
    def told(self) -> tuple[int, bool, list[str]]:
        """What `again` takes, for a run with the same config but for its seeds."""
        return self.steps_per_epoch, self.validated, list(self.others)

    @classmethod
    def again(cls, request: Request, steps_per_epoch: int, validated: bool, others: Sequence[str]) -> "Noted":
        """Those of a run that need not be built, as another has been that differs in its seeds only."""
        settings = bind_all(request.config)["trainer"].target()
        return cls(settings, steps_per_epoch, validated, others)

    @staticmethod
    def check_seeds(config: Mapping[str, Any]) -> None:
        """Checks a run that differs from one with notes in its seeds only, and so has the same.

        Raises:
            UsageError: its seeds cannot be used.
        """
        faults: list[str] = []
        _bind_group("seed", config["seed"], faults)
        if faults:
            raise UsageError(faults)

    def notes(self, config: Mapping[str, Any]) -> list[str]:
        """The notes of a run that differs in numbers of seed, init, optimizer, scheduler, regularizers only.

        Raises:
            UsageError: its config cannot be used.
        """
        bound = bind_all(config)
        regularizers = [bound[f"regularizer.{name}"].target() for name in config["regularizer"]]
        early_stop = build_part("early_stop", bound["early_stop"].target)
        rates, _ = settled_rates(self.settings, self.steps_per_epoch, partial(schedule, config), early_stop)
        length = self.steps_per_epoch, self.validated
        kind = bound["optimizer"].target.func
        on_numbers = notes_on_numbers(self.settings, rates, kind, regularizers, early_stop, *length)
        return [*self.others, *on_numbers, *refuse_unread(config)]
