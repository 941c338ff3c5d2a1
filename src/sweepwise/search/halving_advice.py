"""Whether halving can be trusted: what finished runs say of its rungs, and which schedules begin slowly."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.errors import UsageError
from sweepwise.results import loading, run_folder
from sweepwise.results.remarks import refuse_several_data_sets
from sweepwise.results.replay.halving import Halving, halving
from sweepwise.results.replay.logged import Reader
from sweepwise.results.table import Table
from sweepwise.search.brackets import Plan, Training
from sweepwise.store.folders import SEARCH, SWEEP
from sweepwise.store.request import Request

ENOUGH = 0.9  # share of the draws in which the best must have been kept, unless what is chosen is as good
NEVER = "sweepwise.early_stop.never.Never"  # the rule that ends no run
HORIZON = "horizon"  # in a scheduler's yaml: up to the end of the training
FALLS = ("step_size", "milestones")  # when a rate is lowered for the first time


@dataclass(frozen=True)
class Advice:
    """What finished runs say of halving.

    Attributes:
        agrees: whether the ranks at the rungs agree with those at the end.
        text: that in words.
    """

    agrees: bool
    text: str


def training(requests: Sequence[Request], sign: int, lengths: Sequence[int | None] = ()) -> Training:
    """What is known of every run of a search.

    Args:
        requests: a run of each setting.
        sign: 1 where lower values are better, -1 where higher ones are.
        lengths: the epochs that `trainer.max_steps` leaves of each; None where that is not known.

    Raises:
        UsageError: they are not trained alike, so that an epoch of one is not an epoch of the other.
    """
    faults = []
    for key in ("max_epochs", "max_steps", "validate_every"):
        there = dict.fromkeys(str(request.config["trainer"][key]) for request in requests)
        if len(there) > 1:
            rule = "must be the same in all runs, as they are compared after the same epochs"
            faults.append(f"trainer.{key}={','.join(there)}: {rule}")
    trainer = requests[0].config["trainer"]
    for key in ("max_epochs", "validate_every"):
        if not isinstance(trainer[key], int) or trainer[key] < 1:
            faults.append(f"trainer.{key}={trainer[key]}: must be a whole number, 1 or more")
    of_steps = f"trainer.max_steps={trainer['max_steps']}"
    counted = {epochs for epochs in lengths if epochs is not None}
    if len(counted) > 1:
        rule = (
            f"ends runs after {min(counted)} to {max(counted)} epochs; give trainer.max_epochs in its place"
        )
        faults.append(f"{of_steps}: {rule}, as runs are compared after the same epochs")
    if faults:
        raise UsageError(faults)
    stopping = [one for one in requests if one.config["early_stop"].get("_target_") != NEVER]
    ended_by = {f"early_stop={_option(one)}": None for one in stopping}
    if trainer["max_steps"] is not None and not counted:
        ended_by[of_steps] = None
    epochs = min(counted, default=trainer["max_epochs"])
    why = of_steps if epochs < trainer["max_epochs"] else ""
    return Training(epochs, trainer["validate_every"], sign, why, tuple(ended_by))


def _option(request: Request) -> str:
    """The name of a run's early stopping."""
    return request.choices.get("early_stop") or str(request.config["early_stop"].get("_target_"))


def before(requests: Sequence[Request], plan: Plan, metric: str) -> list[str]:
    """What is to be considered before a search that begins.

    Args:
        requests: a run of each setting.
        plan: of the search.
        metric: by which its runs are compared.
    """
    home, first = requests[0].home, plan.brackets[0]
    told = list(
        slow_starters(
            ((one.choices.get("scheduler", ""), one.config["scheduler"]) for one in requests),
            first.rungs[0],
            plan.epochs,
        )
    )
    if (home / SWEEP / SEARCH).exists():  # its own runs, which it has chosen itself, are no witnesses
        return told
    with contextlib.suppress(UsageError):
        table = loading.load(home, metric=metric)
        refuse_several_data_sets(table)
        if advice := of_finished(table, first.rungs, first.eta):
            told.insert(0, advice.text)
    return told


def of_finished(
    table: Table, rungs: Sequence[int], eta: int, reader: Reader = run_folder.epochs
) -> Advice | None:
    """What the finished runs of an experiment say of halving at these rungs; None: they are too few.

    Args:
        table: of the runs that are there, whichever have ended.
        rungs: epochs.
        eta: one of this many is kept.
        reader: gives the lines of a run's epochs from its folder.
    """
    try:
        found = halving(table, rungs, eta, reader=reader)
    except UsageError:
        return None
    noise = _noise(table, found)
    harmless = found.lost <= noise and found.failing <= 1 - ENOUGH
    agrees = found.kept >= ENOUGH or harmless
    head = "ranks at the rungs agree with the end" if agrees else "do not halve"
    return Advice(agrees, f"{head}: {_kept(found, noise)}")


def _noise(table: Table, found: Halving) -> float:
    """The standard deviation of a run of the best setting; 0 where it has one run, of which nobody knows."""
    values = [row.value for row in table.cells[found.winner] if row.ended and row.value is not None]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _kept(found: Halving, noise: float) -> str:
    draws = f"in {100 * found.kept:.0f} % of {found.draws} draws of a run of each"
    how = draws if found.draws > 1 else "with the one run of each" if found.kept else ""
    kept = (
        f"would have kept the best {how}" if how else "would not have kept the best, with the one run of each"
    )
    lost = f"; what it chooses is worse by {found.lost:.2g} on average" if found.lost > 0 else ""
    lost += f", where runs of the best differ by {noise:.2g}" if lost and noise else ""
    saved = f", and saved {100 * found.saved:.0f} % of the epochs"
    return f"on the runs of {found.settings} settings that have ended it {kept}{saved}{lost}"


def slow_starters(
    schedulers: Iterable[tuple[str, Mapping[str, Any]]], first: int, epochs: int
) -> Iterator[str]:
    """Which settings are judged at the first rung before their schedule has begun to act.

    Args:
        schedulers: of each setting, the name of its option and this group of its config.
        first: epochs of the first rung.
        epochs: of the whole training.

    Example:
        >>> list(slow_starters([("cosine", {"T_max": "horizon", "warmup": 0}), ("constant", {})], 1, 30))
        ['1 setting of scheduler=cosine: its rate falls up to epoch 30, so it is judged near the full rate']
    """
    found: dict[tuple[str, str], int] = {}
    for name, node in schedulers:
        for why in _slow(node, first, epochs):
            found[name, why] = found.get((name, why), 0) + 1
    for (name, why), count in found.items():
        yield f"{count} setting{'s' * (count > 1)} of scheduler={name}: {why}"


def _slow(node: Mapping[str, Any], first: int, epochs: int) -> Iterator[str]:
    warmup = node.get("warmup") or 0
    if isinstance(warmup, (int, float)) and warmup >= first:
        yield f"its warm-up of {warmup:g} epochs lasts beyond the first rung, epoch {first}"
    if HORIZON in node.values() and 2 * first < epochs:
        yield f"its rate falls up to epoch {epochs}, so it is judged near the full rate"
    if str(node.get("_target_", "")).endswith("ReduceLROnPlateau"):
        patience = node.get("patience")
        if not isinstance(patience, int) or patience + 1 >= first:
            yield f"its plateau lowers no rate before the first rung, epoch {first}"
    for key in FALLS:
        values = node.get(key)
        begins = _epoch(values[0] if isinstance(values, (list, tuple)) and values else values, node, epochs)
        if begins is not None and begins >= first:
            yield f"its rate falls first at epoch {begins:g}, not before the first rung, epoch {first}"


def _epoch(value: Any, node: Mapping[str, Any], epochs: int) -> float | None:
    """The epoch that a value of a schedule means; None where it is none, or counts steps."""
    if isinstance(value, str) and value.endswith("%"):
        share = value.removesuffix("%")
        return float(share) / 100 * epochs if share.replace(".", "", 1).isdigit() else None
    counts = isinstance(value, (int, float)) and not isinstance(value, bool) and node.get("per") == "epoch"
    return float(value) if counts else None
