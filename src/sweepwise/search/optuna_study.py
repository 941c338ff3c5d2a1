"""Studies of Optuna by plain names of its samplers and pruners, and the points that their trials suggest."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sweepwise.config.ranges import Range
from sweepwise.errors import UsageError
from sweepwise.search.parameters import Choice, Number
from sweepwise.search.space import Overrides, Space

if TYPE_CHECKING:
    import optuna

SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "random": "RandomSampler",
    "qmc": "QMCSampler",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"constant_liar": True},  # points of a batch keep away from one another
    "gp": {"warn_independent_sampling": False},
    "cmaes": {"warn_independent_sampling": False},
    "qmc": {"warn_independent_sampling": False, "scramble": True},
}
CONSTRAINED = ("tpe", "gp", "nsgaii")  # samplers that suggest less of what is beyond a limit
NAME = "search"  # by which hyperband deals out trials


@dataclass(frozen=True)
class OptunaSettings:
    """Keys of hydra/sweeper=optuna.

    Args:
        trials: points that are tried, each with all of its seeds; also those of earlier starts count.
        sampler: of Optuna.
        seed: of the sampler.
        at_once: points that are suggested before one of them is known, to be trained together.
        pruner: of Optuna, which decides at rungs who is trained no further.
        min_epochs: the first rung; the others are eta, eta^2 ... times as many epochs.
        eta: also of halving and hyperband, which let one of so many go on.
        constraints: the largest allowed value of 'parameters', 'seconds' or a metric of the validation part;
            the smallest one where higher values are better; see `limits`.

    Raises:
        UsageError: the sampler heeds no constraints.
    """

    trials: Annotated[int, Range(1)] = 32
    sampler: Literal["tpe", "gp", "cmaes", "nsgaii", "random", "qmc"] = "tpe"
    seed: Annotated[int, Range(0)] = 0
    at_once: Annotated[int, Range(1)] = 8
    pruner: Literal["none", "median", "halving", "hyperband"] = "none"
    min_epochs: Annotated[int, Range(1)] = 1
    eta: Annotated[int, Range(2)] = 3
    constraints: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.constraints and self.sampler not in CONSTRAINED:
            rule = f"heeds no hydra.sweeper.constraints; choose {', '.join(CONSTRAINED)}, or leave them out"
            raise UsageError([f"hydra.sweeper.sampler={self.sampler}: {rule}"])


def study(settings: OptunaSettings, rungs: Sequence[int], epochs: int) -> optuna.Study:
    """A new study in memory, for values of which lower ones are better.

    Args:
        settings: of the search.
        rungs: at which it prunes; none without a pruner.
        epochs: of a whole training.

    Raises:
        UsageError: Optuna, or what the sampler needs, is not installed.
    """
    needed = ["optuna", *(["cmaes"] if settings.sampler == "cmaes" else [])]
    for package in needed:
        if not _is_there(package):
            way_out = "pip install 'sweepwise[optuna]'"
            raise UsageError([f"hydra/sweeper=optuna: {package} is not installed; {way_out}"])
    import optuna

    with quiet():
        kind = getattr(optuna.samplers, SAMPLERS[settings.sampler])
        sampler = kind(seed=settings.seed, **OPTIONS.get(settings.sampler, {}))
        pruner = _pruner(settings, rungs, epochs)
        return optuna.create_study(study_name=NAME, sampler=sampler, pruner=pruner, direction="minimize")


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # its place among the modules is taken
        return False


def _pruner(settings: OptunaSettings, rungs: Sequence[int], epochs: int) -> optuna.pruners.BasePruner:
    import optuna

    if settings.pruner == "none":
        return optuna.pruners.NopPruner()
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner()
    first, eta = rungs[0], settings.eta
    if settings.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=eta)
    return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=epochs, reduction_factor=eta)


@contextmanager
def quiet() -> Iterator[None]:
    """While entered, Optuna prints no line a trial, and warns of nothing that cannot be changed here."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def drawn(trial: optuna.Trial, space: Space) -> Overrides:
    """The point that a trial suggests, rounded as it is used.

    Args:
        trial: that asks.
        space: of the search.
    """

    def suggested(parameter: Choice | Number) -> str:
        of_all = parameter in space.parameters
        name = parameter.key if of_all else f"{parameter.key}={parameter}"
        if isinstance(parameter, Choice) and not parameter.ordered:
            return str(trial.suggest_categorical(name, parameter.options))
        if isinstance(parameter, Choice):
            return parameter.options[trial.suggest_int(name, 0, parameter.size - 1)]
        low, high, log = parameter.low, parameter.high, parameter.log
        if parameter.whole:
            return parameter.text(trial.suggest_int(name, int(low), int(high), log=log))
        return parameter.text(trial.suggest_float(name, low, high, log=log))

    return space.drawn(suggested)
