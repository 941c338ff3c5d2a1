"""Which runs of a sweep are trained together as one program, and why others are not.

Runs that differ in numbers only: seeds, initial weights, rates and their schedule, coefficients of
regularizers, early stopping, decay of the moving average. What they share is told by their configs; whether
their model can be trained so, and how many at once are fastest, by trying it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sweepwise.errors import Failure, UsageError, reason
from sweepwise.store import record, status
from sweepwise.store.folders import steps_taken
from sweepwise.store.request import Request
from sweepwise.sweep.local.fork import run_in_child

if TYPE_CHECKING:
    from sweepwise.parts import Parts


# Of each group of the config, the keys in which runs may not differ; of one that is not named, all.
SHARED: dict[str, tuple[str, ...]] = {
    "seed": ("deterministic",),
    "init": (),
    "scheduler": (),
    "early_stop": (),
    "optimizer": ("_target_",),
    "regularizer": (),
}
OWN = {"trainer": ("ema",)}  # keys in which they may, of a group that they share
EACH = "there is a process for it"
REFUSED = "what it asks for is refused"
ONLY = "no other differs from it in numbers only"


class Unit(NamedTuple):
    """Runs that one process trains.

    Attributes:
        requests: one run, or several as one program.
        fused: whether they take their steps as one program does; one that is left over of a group, too, so
            that the runs of a sweep are rounded alike.
    """

    requests: Sequence[Request]
    fused: bool


@dataclass(frozen=True)
class Groups:
    """How a sweep's runs are trained.

    Attributes:
        units: of one process each.
        reasons: why a run is alone, and how many are for that reason.
    """

    units: Sequence[Unit]
    reasons: Mapping[str, int]

    def __str__(self) -> str:
        together = [unit for unit in self.units if len(unit.requests) > 1]
        runs, alone = sum(len(unit.requests) for unit in together), len(self.units) - len(together)
        told = (
            f"fused {runs} of {runs + alone} runs in {len(together)} group{'s' if len(together) != 1 else ''}"
        )
        why = ", ".join(
            f"{reason} ({count})" if len(self.reasons) > 1 else reason
            for reason, count in self.reasons.items()
        )
        return f"{told}; {alone} alone: {why}" if alone else told


def groups(requests: Sequence[Request], at_once: int, width: int | None, memory: int | None = None) -> Groups:
    """Groups runs; torch must have been imported.

    Args:
        requests: the runs.
        at_once: processes that train.
        width: runs of a group at most, >= 1; None: as many as are fastest.
        memory: free bytes of a GPU for each process; None: the CPU trains.
    """
    alike: dict[tuple[str, int], list[Request]] = {}
    reasons: Counter[str] = Counter()
    units: list[Unit] = []
    for request in requests:
        shared, why = _kind(request)
        if why:
            reasons[why] += 1
            units.append(Unit([request], False))
        else:
            step = 0 if request.config["fresh"] else steps_taken(request.folder)
            alike.setdefault((shared, step), []).append(request)
    trained = len(requests) - reasons[REFUSED]
    kinds = Counter(shared for shared, _ in alike)
    for (shared, _), found in alike.items():
        alone = "the others like it are at other steps" if kinds[shared] > 1 else ONLY
        most, why = (1, alone) if len(found) == 1 else _width(found, width, memory)
        number = -(-len(found) // most)
        if most > 1 and len(found) == trained:  # every process gets as many
            number = min(len(found), -(-number // at_once) * at_once)
        elif most > 1:  # no process gets much more than the others
            number = max(number, -(-len(found) // -(-trained // at_once)))
        parts = [found[i::number] for i in range(number)]
        units += [Unit(part, most > 1) for part in parts]
        reasons[why or EACH] += sum(len(part) == 1 for part in parts)
    return Groups(sorted(units, key=lambda unit: -len(unit.requests)), +reasons)


def _kind(request: Request) -> tuple[str, str]:
    """What runs must have in common with one; or why it is trained with no other."""
    try:
        return _shared(request), _alone(request)
    except UsageError:  # the run says so itself
        return "", REFUSED
    except Exception as error:
        return "", f"it cannot be tried ({reason(error)})"


def _alone(request: Request) -> str:
    """Why a run can be trained with no other, as far as its config says."""
    trainer = request.config["trainer"]
    if trainer["compile"]:
        return "trainer.compile=true"
    if trainer["precision"] != "fp32":
        return f"trainer.precision={trainer['precision']}"
    if trainer["accumulate"] > 1:
        return f"trainer.accumulate={trainer['accumulate']}"
    begun = not request.config["fresh"] and steps_taken(request.folder) > 0
    return "begun alone, and so it goes on to the bit" if begun and not _is_fused(request) else ""


def _is_fused(request: Request) -> bool:
    try:
        return status.is_fused(record.read(request.folder))
    except record.DamagedRecord:  # the run says so itself
        return False


def _shared(request: Request) -> str:
    """What runs must have in common.

    Raises:
        UsageError: the config is refused.
    """
    shared: dict[str, Any] = {}
    for key, value in request.config.items():
        if isinstance(value, Mapping):
            wanted = SHARED.get(key, value.keys())
            shared[key] = {
                name: value[name] for name in wanted if name in value and name not in OWN.get(key, ())
            }
        else:
            shared[key] = value
    rest = [str(request.home), _mixes(request)]
    return json.dumps([shared, rest], sort_keys=True, default=str)


def _mixes(request: Request) -> bool:
    """Whether regularizers change the examples that are learned from."""
    from sweepwise.regularizer import acting
    from sweepwise.run import bind_all

    bound = bind_all(request.config)
    found = [bound[f"regularizer.{name}"].target() for name in request.config["regularizer"]]
    return bool(acting(found, "examples"))


def _width(requests: Sequence[Request], wanted: int | None, memory: int | None) -> tuple[int, str]:
    """How many of these runs are trained together best; 1 and the reason, if that is none."""
    if wanted == 1:
        return 1, "hydra.launcher.group_size=1"
    try:  # apart, since a model may do anything when it is tried
        most, why = run_in_child(partial(_tried, requests, wanted, memory))
    except Failure as error:
        return 1, f"it cannot be tried ({error})"
    return most, why


def _tried(requests: Sequence[Request], wanted: int | None, memory: int | None) -> tuple[int, str]:
    """As `_width`, in this process."""
    from sweepwise.learner.fused.purity import Unfusable
    from sweepwise.sweep.local.group_size import fastest

    try:
        parts = list(itertools.islice(_built(requests), 2))
        if len(parts) < 2:
            return 1, "it or the others like it are refused"
        if parts[0].data.sha256 != parts[1].data.sha256:
            return 1, "its data depend on the run"
        return fastest(parts[0], parts[1], len(requests), wanted, memory)
    except Unfusable as error:
        return 1, str(error)
    except Exception as error:  # each run says itself what is wrong with it
        return 1, f"it cannot be tried ({reason(error)})"


def _built(requests: Iterable[Request]) -> Iterator[Parts]:
    """The parts of those runs that are not refused, each when it is asked for."""
    from sweepwise.run import build

    for request in requests:
        with contextlib.suppress(UsageError):
            yield build(_on_cpu(request))


def _on_cpu(request: Request) -> Request:
    """The run on a thread of the CPU: processes are forked later, and must find everything else untouched."""
    config = dict(request.config)
    config["trainer"] = {**config["trainer"], "device": "cpu", "threads": 1}
    return replace(request, config=config)
