"""What is given to `build` in Python: held to the rules of a config, and copied, so that runs share nothing.

A config's values are checked before an object is made of them (`config.schema.bind`). Here a person gives
classes and functions with options bound by `functools.partial`, and objects.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from torch import nn

from sweepwise.config.calling import called_with
from sweepwise.config.ranges import TORCH_RANGES
from sweepwise.config.schema import check, plain, plain_arguments
from sweepwise.data import Data
from sweepwise.errors import UsageError, reason
from sweepwise.init import initialize_
from sweepwise.optimizer import FlatOptimizer
from sweepwise.parts import build_part
from sweepwise.regularizer import Regularizer
from sweepwise.scheduler import Length, Schedule
from sweepwise.scheduler.horizon import settled, taken
from sweepwise.seed import Seeds
from sweepwise.trainer import Settings

OF_A_RULE = ("metric", "mode", "least_epochs", "update")  # of `early_stop.EarlyStop`


def for_assembly(
    *,
    data: Any,
    model: Any,
    optimizer: Any,
    init: Any,
    scheduler: Any,
    regularizers: Any,
    early_stop: Any,
    settings: Any,
    seed: Any,
) -> dict[str, Any]:
    """The arguments of `parts.assemble` from those of `build`, which describes them.

    Raises:
        UsageError: with every fault of an argument or of an option bound to it.
    """
    optional = {
        "init": init,
        "scheduler": scheduler,
        "early_stop": early_stop,
        "settings": settings,
        "seed": seed,
    }
    if none := [name for name, given in (optional | {"regularizers": regularizers}).items() if given is None]:
        raise UsageError(
            [f"{name}: must not be None; leave the argument out for its default" for name in none]
        )
    if isinstance(regularizers, Iterable):
        regularizers = list(regularizers)  # an iterator could be looked at once only
    faults = [*_strangers(data, regularizers, early_stop, settings)]
    if not isinstance(seed, Seeds):
        (seed,) = plain_arguments("seed", Seeds, {"value": seed}, faults).values()
    optimizer, flat = _taken_apart("optimizer", FlatOptimizer, "build", optimizer, faults)
    init, filled = _taken_apart("init", initialize_, "scheme", init, faults)
    scheduler, scheduled = _taken_apart("scheduler", Schedule, "scheduler", scheduler, faults)
    if not isinstance(model, nn.Module):
        model = _checked("model", model, faults)
    if faults:
        raise UsageError(faults)
    lr = _rate(optimizer)
    own = _copies(
        {
            "optimizer": optimizer,
            "init": init,
            "scheduler": scheduler,
            "regularizers": regularizers,
            "early_stop": early_stop,
        },
        shared=[data, *_tensors_and_modules(model)],
    )
    if "lr" in optimizer.keywords:
        own["optimizer"] = partial(own["optimizer"], lr=lr)
    return {
        "settings": settings,
        "seeds": seed if isinstance(seed, Seeds) else Seeds(seed, seed, seed, seed),
        "data": partial(_loaded, data),
        "model": model if isinstance(model, nn.Module) else called_with(model),
        "init": partial(initialize_, scheme=own["init"], **filled),
        "optimizer": partial(FlatOptimizer, own["optimizer"], **flat),
        "schedule": partial(_schedule, own["scheduler"], scheduled, lr),
        "regularizers": own["regularizers"],
        "early_stop": own["early_stop"],
    }


def _strangers(data: Any, regularizers: Any, early_stop: Any, settings: Any) -> Iterator[str]:
    """The faults of arguments that are not what the name of the argument says."""
    if not isinstance(settings, Settings):
        yield f"settings: must be Settings(...), not {_kind(settings)}"
    if not (isinstance(data, Data) or callable(data)):
        yield f"data: must be what split(...) returns, or a function that returns it, not {_kind(data)}"
    if not isinstance(regularizers, list):
        yield f"regularizers: must be a list, not {_kind(regularizers)}; use regularizers=[...]"
    else:
        for one in regularizers:
            if not isinstance(one, Regularizer):
                yield f"regularizers: must hold objects of kinds of Regularizer, and holds {_kind(one)}"
    missing = [name for name in OF_A_RULE if not hasattr(early_stop, name)]
    if missing or inspect.isclass(early_stop):
        lacking = f" has no {', '.join(missing)}" if missing else ""
        yield (
            "early_stop: must be an object such as Patience(patience=5), with "
            f"{', '.join(OF_A_RULE)}: {_kind(early_stop)}{lacking}"
        )


def _kind(thing: Any) -> str:
    if thing is None:
        return "None"
    return f"the class {thing.__name__}" if inspect.isclass(thing) else f"a {type(thing).__name__}"


def _taken_apart(
    key: str, envelope: Callable[..., Any], inner: str, given: Any, faults: list[str]
) -> tuple["partial[Any]", dict[str, Any]]:
    """What is given, without our wrapper if it is within one already, and the wrapper's options.

    Args:
        key: of the argument, for messages.
        envelope: our wrapper.
        inner: the wrapper's parameter that takes what is given.
        given: torch's class or function, or a partial of the wrapper.
        faults: faults of the options of both are appended here.
    """
    options: dict[str, Any] = {}
    if getattr(given, "func", given) is envelope:
        bind = partial(inspect.signature(envelope).bind_partial, *getattr(given, "args", ()))
        arguments = build_part(key, partial(bind, **getattr(given, "keywords", {}))).arguments
        if inner not in arguments:
            raise UsageError([f"{key}: {envelope.__name__} must be given its {inner}, bound by partial"])
        given = arguments.pop(inner)
        options = _plain(key, envelope, arguments, faults)
    return _checked(key, given, faults), options


def _checked(key: str, given: Any, faults: list[str]) -> "partial[Any]":
    """A partial of a class or function, its options being plain; faults of them are appended."""
    if not callable(given):
        raise UsageError(
            [f"{key}: must be a class or function, with its options bound by partial, not {_kind(given)}"]
        )
    bound = partial(given)
    return partial(bound.func, *bound.args, **_plain(key, bound.func, bound.keywords, faults))


def _plain(key: str, function: Any, given: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Plain options; those of a schedule that wait for the length of the training stay as they are."""
    try:
        values = settled(function, given, None) if key == "scheduler" else given
    except UsageError as error:
        faults += error.faults
        return dict(given)
    checked = plain_arguments(key, function, values, faults)
    return {name: checked[name] if values[name] is given[name] else given[name] for name in given}


def _rate(optimizer: "partial[Any]") -> float:
    """The base learning rate of an optimizer: the one bound to it, or its default."""
    parameter = inspect.signature(optimizer).parameters.get("lr")
    lr = None if parameter is None else plain(parameter.default)
    if lr is None or lr is inspect.Parameter.empty:
        raise UsageError(["optimizer: needs a learning rate: partial(torch.optim.SGD, lr=0.1)"])
    if faults := check("optimizer.lr", lr, Annotated[float, TORCH_RANGES["lr"]]):
        raise UsageError(faults)
    return float(lr)


def _copies(things: Mapping[str, Any], shared: Iterable[Any]) -> dict[str, Any]:
    """Deep copies, in which what is shared stays the same object, and references among them stay.

    Args:
        things: by their keys, for messages.
        shared: what is not copied.
    """
    memo = {id(thing): thing for thing in shared}
    copies = {}
    for key, thing in things.items():
        try:
            copies[key] = copy.deepcopy(thing, memo)
        except Exception as error:
            raise UsageError(
                [
                    f"{key}: must be something that copy.deepcopy can copy, since a run changes it "
                    f"({reason(error)})"
                ]
            ) from error
    return copies


def _tensors_and_modules(model: Any) -> list[Any]:
    if not isinstance(model, nn.Module):
        return []
    return [*model.modules(), *model.parameters(), *model.buffers()]


def _loaded(data: Data | Callable[[], Data]) -> Data:
    loaded = data if isinstance(data, Data) else data()
    if not isinstance(loaded, Data):
        raise ValueError(f"must return what split(...) returns, not {_kind(loaded)}")
    return loaded


def _schedule(
    scheduler: "partial[Any]",
    scheduled: Mapping[str, Any],
    lr: float,
    steps: int,
    steps_per_epoch: int,
    **known: Any,
) -> Schedule:
    """As `run.from_config.schedule`, of torch's class or a function with options, and those of `Schedule`."""
    given = {**scheduler.keywords, **scheduled}
    found = settled(scheduler.func, given, Length(steps, steps_per_epoch, **known))
    faults: list[str] = []
    own = plain_arguments("scheduler", scheduler.func, {n: found[n] for n in scheduler.keywords}, faults)
    if faults:
        raise UsageError(faults)
    made = Schedule(
        partial(scheduler.func, *scheduler.args, **own),
        lr=lr,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        **{name: found[name] for name in scheduled},
    )
    made.taken = taken(given, found)
    return made
