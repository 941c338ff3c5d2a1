"""What a guided search chooses from: lists of the command, else what a yaml says is sensible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from hydra_plugins.sweepwise_plugins._space import Ranges, fixed
from sweepwise.cli import said, swept
from sweepwise.cli.priors import of_option, prior_of
from sweepwise.errors import UsageError
from sweepwise.results.run_folder import is_replicate
from sweepwise.search.guided.scheduler import RATE
from sweepwise.search.guided.stage import Candidates, Family
from sweepwise.search.measured import Overrides
from sweepwise.search.space import Choice, Number
from sweepwise.store.request import Request

CHOSEN = ("init", "scheduler", RATE, "regularizer")  # what a command may list for the stages
WARMUP = "scheduler.warmup"
LONGEST_WARMUP = 5  # epochs
KEPT = ("early_stop.metric", "early_stop.mode")  # how runs are compared, not when they stop
STRENGTHS = (0.5, 0.25, 0.75)  # places in a regularizer's range; the middle one first
BEYOND = ((0.25, 0.125, 0.0), (0.75, 0.875, 1.0))  # the outermost of them, and what lies beyond


def of(
    loader: ConfigLoader,
    config: DictConfig,
    overrides: Sequence[Override],
    base: Request,
    composed: Callable[[Overrides], Request],
) -> tuple[Mapping[str, str], Candidates]:
    """What a person has decided, by stage, and what the stages choose from.

    Args:
        loader: Hydra's.
        config: of the sweep.
        overrides: of the sweep.
        base: the run without any choice.
        composed: the run with some overrides more.

    Raises:
        UsageError: something is swept that no stage decides.
    """
    ranges = Ranges(loader, config)
    swept_ = {one.get_key_element(): one for one in overrides if one.is_sweep_override()}
    lists = {key: one for key, one in swept_.items() if not is_replicate(key)}
    if foreign := [one.input_line for key, one in lists.items() if key not in CHOSEN]:
        raise UsageError([f"{line}: {WAY_OUT}" for line in foreign])
    set_ = {one.get_key_element(): fixed(one) for one in overrides if not one.is_sweep_override()}
    given = dict(_given(set_, base, said.pairs(ranges.confs, list(set_.values()))))
    choices = swept.chosen(config)

    def options(group: str) -> list[str]:
        if group in lists:
            return list(_choice(ranges.of(lists[group])).options)
        with suppress(UsageError):
            prior = prior_of(ranges.confs, group, choices)
            return list(_choice(ranges.read(group, prior.ranges[""])).options)
        return []

    def named(group: str, option: str) -> Overrides:
        return () if option == base.choices.get(group) else (f"{group}={option}",)

    fixed_schedule = any(key == "scheduler" or key.startswith("scheduler.") for key in set_)
    schedules = [] if fixed_schedule else options("scheduler")
    rate, rates, bounds = _rates(lists, set_, base, ranges, choices)
    strengths = [_strengths(one, ranges) for one in options("regularizer") if one != "none"]
    return given, Candidates(
        inits=tuple(named("init", option) for option in options("init")),
        schedules=tuple(_family(named("scheduler", option), base, composed) for option in schedules),
        rates=rates,
        bounds=bounds,
        rate=rate,
        regularizers=tuple(family for family, _ in strengths),
        beyond={one: other for _, beyond in strengths for one, other in beyond.items()},
    )


def trained_fully(overrides: Iterable[Override], goal: Mapping[str, object]) -> Overrides:
    """What trains to the last epoch and keeps the best weights by a goal."""
    there = {one.get_key_element() for one in overrides}
    keys = {f"early_stop.{key}": value for key, value in goal.items()}
    return "early_stop=none", *(f"{key}={value}" for key, value in keys.items() if key not in there)


def notes(overrides: Iterable[Override]) -> tuple[str, ...]:
    """What a person is to be told of lists that decide nothing: those of seeds, as experiments have them."""
    return tuple(
        f"{one.input_line} is left out, as a guided search chooses its seeds"
        for one in overrides
        if one.is_sweep_override() and is_replicate(one.get_key_element())
    )


WAY_OUT = (
    f"no stage decides this; a guided search chooses among {', '.join(CHOSEN)}; give it one value, or "
    "compare its values by hydra/sweeper=racing"
)


def _given(
    set_: Mapping[str, str], base: Request, pairs: Iterable[tuple[str, Any]]
) -> Iterable[tuple[str, str]]:
    """What each stage finds decided: by the command; early stopping and regularizers by an experiment too."""
    keys_ = dict(pairs)
    rule = keys_.get("early_stop")
    ends = isinstance(rule, Mapping) and set(rule) - {key.partition(".")[2] for key in KEPT}
    for stage in ("init", "regularizer", "early_stop"):
        own = [text for key, text in set_.items() if key.split(".")[0] == stage and key not in KEPT]
        if (
            stage == "regularizer"
            and not own
            and (names := [one for one in base.config[stage] if one != "none"])
        ):
            own = [f"{stage}={','.join(names)}"]
        if stage == "early_stop" and not own and ends:
            own = ["the experiment's rule"]
        if own:
            yield stage, " ".join(own)
    schedule = [text for key, text in set_.items() if key.split(".")[0] == "scheduler"]
    if schedule and RATE in set_:
        yield "scheduler", " ".join([set_[RATE], *schedule])


def _choice(found: Choice | Number) -> Choice:
    assert isinstance(found, Choice)  # a group has no interval
    return found


def _rates(
    lists: Mapping[str, Override],
    set_: Mapping[str, str],
    base: Request,
    ranges: Ranges,
    choices: Mapping[str, Sequence[str]],
) -> tuple[float | None, tuple[float, ...], tuple[float, float]]:
    """The default's rate, those that were listed, and between what is sensible."""
    node = base.config["optimizer"]
    rate = float(node["lr"]) if isinstance(node.get("lr"), (int, float)) else None
    bounds = Candidates.bounds
    with suppress(UsageError):
        prior = next(iter(prior_of(ranges.confs, RATE, choices).ranges.values()))
        if isinstance(found := ranges.read(RATE, prior), Number):
            bounds = found.low, found.high
    if RATE in set_:
        return None, (), bounds
    if RATE in lists:
        asked = ranges.of(lists[RATE])
        if isinstance(asked, Number):
            return rate, (), (asked.low, asked.high)
        return rate, tuple(map(float, asked.options)), bounds
    return rate, (), bounds


def _family(plain: Overrides, base: Request, composed: Callable[[Overrides], Request]) -> Family:
    """A schedule without and with a warm-up, if it has one."""
    epochs = int(base.config["trainer"]["max_epochs"])
    warmup = max(1, min(LONGEST_WARMUP, epochs // 10))
    has_one = composed(plain).config["scheduler"].get("warmup") == 0
    return (plain, (*plain, f"{WARMUP}={warmup}")) if has_one and epochs > warmup else (plain,)


def _strengths(option: str, ranges: Ranges) -> tuple[Family, dict[str, str]]:
    """A regularizer with a middle, a low and a high value of its first key with a range; what is beyond."""
    plain = (f"regularizer={option}",)
    for key, text in of_option(ranges.confs, "regularizer", option).items():
        whole = f"regularizer.{option}.{key}"
        found = ranges.read(whole, text)
        at = {place: f"{whole}={found.at(place)}" for place in (*STRENGTHS, *chain(*BEYOND))}
        beyond = {at[place]: at[other] for places in BEYOND for place, other in pairwise(places)}
        apart = {one: other for one, other in beyond.items() if one != other}
        return tuple((*plain, at[place]) for place in STRENGTHS), apart
    return (plain,), {}
