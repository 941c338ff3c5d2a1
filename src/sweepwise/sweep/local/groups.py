"""Decides which runs of a sweep are trained together as one program, and says why others are not.

These are runs that differ in numbers only: seeds, initial weights, learning rates and their schedule,
coefficients of regularizers, early stopping, decay of the moving average. Their configs show whether they do.
Whether their model can be trained so, and how many runs at once are fastest, is found by trying it.
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
from sweepwise.sweep.local import tried
from sweepwise.sweep.local.fork import run_in_child
from sweepwise.sweep.local.machine import runs_of_a_process

if TYPE_CHECKING:
    from sweepwise.parts import Parts


# By group of the config: the keys in which runs of one program may not differ. Of other groups: all keys.
SHARED: dict[str, tuple[str, ...]] = {
    "seed": ("deterministic",),
    "init": (),
    "scheduler": (),
    "early_stop": (),
    "optimizer": ("_target_",),
    "regularizer": (),
}
OWN = {"trainer": ("ema", "pause_after")}  # keys in which they may differ all the same
ONE_A_PROCESS = "every run has a process of its own"
REFUSED = "its configuration is refused"
UNIQUE = "no other run differs from it in numbers only"


class Unit(NamedTuple):
    """Runs that one process trains.

    Attributes:
        requests: one run, or several as one program.
        fused: whether the fused program trains them; it also trains a single run that is left over from a
            group, so that all runs of the group are rounded in the same way.
    """

    requests: Sequence[Request]
    fused: bool


@dataclass(frozen=True)
class Groups:
    """How a sweep's runs are trained.

    Attributes:
        units: the runs of each process.
        reasons: why runs are trained alone, with the number of runs for each reason.
    """

    units: Sequence[Unit]
    reasons: Mapping[str, int]

    def __str__(self) -> str:
        together = [unit for unit in self.units if len(unit.requests) > 1]
        runs, alone = sum(len(unit.requests) for unit in together), len(self.units) - len(together)
        fused = (
            f"fused {runs} of {runs + alone} runs in {len(together)} group{'s' if len(together) != 1 else ''}"
        )
        why = ", ".join(
            f"{reason} ({count})" if len(self.reasons) > 1 else reason
            for reason, count in self.reasons.items()
        )
        return f"{fused}; {alone} alone: {why}" if alone else fused


def groups(requests: Sequence[Request], at_once: int, width: int | None, memory: int | None = None) -> Groups:
    """Groups runs; torch must have been imported.

    Args:
        requests: the runs.
        at_once: processes that train at the same time.
        width: the most runs of a group, >= 1; None: as many as are fastest.
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
    for (shared, _), runs in alike.items():
        alone = "the others like it are at other steps" if kinds[shared] > 1 else UNIQUE
        most, why = (1, alone) if len(runs) == 1 else _width(runs, width, memory)
        most = min(most, runs_of_a_process())
        number = -(-len(runs) // most)
        if most > 1 and len(runs) == trained:  # every process gets as many
            number = min(len(runs), -(-number // at_once) * at_once)
        elif most > 1:  # no process gets much more than the others
            number = max(number, -(-len(runs) // -(-trained // at_once)))
        parts = [runs[i::number] for i in range(number)]
        units += [Unit(part, most > 1) for part in parts]
        reasons[why or ONE_A_PROCESS] += sum(len(part) == 1 for part in parts)
    return Groups(sorted(units, key=lambda unit: -len(unit.requests)), +reasons)


def _kind(request: Request) -> tuple[str, str]:
    """A key that is equal for runs that can be trained with this one; or why no other can."""
    try:
        return _shared(request), _alone(request)
    except UsageError:  # the run reports it when it is trained
        return "", REFUSED
    except Exception as error:
        return "", f"it cannot be tried ({reason(error)})"


def _alone(request: Request) -> str:
    """The reason in its config why a run must be trained alone; '' if there is none."""
    trainer = request.config["trainer"]
    if trainer["compile"]:
        return "trainer.compile=true"
    if trainer["precision"] != "fp32":
        return f"trainer.precision={trainer['precision']}"
    if trainer["accumulate"] > 1:
        return f"trainer.accumulate={trainer['accumulate']}"
    begun = not request.config["fresh"] and steps_taken(request.folder) > 0
    return (
        "begun alone; in a group it would not resume to the bit" if begun and not _is_fused(request) else ""
    )


def _is_fused(request: Request) -> bool:
    try:
        return status.is_fused(record.read(request.folder))
    except record.DamagedRecord:  # the run reports it when it is trained
        return False


def _shared(request: Request) -> str:
    """A key that is equal for runs that differ in numbers only.

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
    """Whether a run's regularizers change its training examples."""
    from sweepwise.regularizer import acting
    from sweepwise.run import bind_all

    bound = bind_all(request.config)
    regularizers = [bound[f"regularizer.{name}"].target() for name in request.config["regularizer"]]
    return bool(acting(regularizers, "examples"))


def _width(requests: Sequence[Request], wanted: int | None, memory: int | None) -> tuple[int, str]:
    """How many of these runs are best trained together; or 1 and the reason why they are trained alone."""
    if wanted == 1:
        return 1, "hydra.launcher.group_size=1"
    question = requests[:2], wanted, _about(len(requests))
    if memory is None and (found := tried.recalled(tried.WIDTH, *question)):
        most = wanted if wanted and found[0] > 1 else found[0]
        return min(most, len(requests)), found[1]
    try:  # in another process, since a model may do anything when it is tried
        most, why, lasting = run_in_child(partial(_tried, requests, wanted, memory))
    except Failure as error:
        return 1, f"it cannot be tried ({error})"
    if memory is None and lasting:
        tried.remember(tried.WIDTH, *question, found=[most, why])
    return most, why


def _about(runs: int) -> int:
    """The number of runs, as far as it decides which widths are tried: the power of two from it down."""
    return 1 << runs.bit_length() - 1


def _tried(requests: Sequence[Request], wanted: int | None, memory: int | None) -> tuple[int, str, bool]:
    """Does the work of `_width`, in this process; also tells whether others of this form are the same."""
    from sweepwise.learner.fused.purity import Unfusable
    from sweepwise.sweep.local.group_size import fastest

    try:
        parts = list(itertools.islice(_built(requests), 2))
        if len(parts) < 2:
            return 1, "it or the others like it are refused", False
        if parts[0].data.sha256 != parts[1].data.sha256:
            return 1, "its data differ from run to run", False
        return *fastest(parts[0], parts[1], len(requests), wanted, memory), True
    except Unfusable as error:
        return 1, str(error), True
    except Exception as error:  # each run reports its own error when it is trained
        return 1, f"it cannot be tried ({reason(error)})", False


def _built(requests: Iterable[Request]) -> Iterator[Parts]:
    """Builds the parts of each run, one at a time; skips runs that are refused."""
    from sweepwise.run import build

    for request in requests:
        with contextlib.suppress(UsageError):
            yield build(on_cpu(request))


def on_cpu(request: Request) -> Request:
    """The run on one thread of the CPU: a process that has started CUDA or threads cannot be forked."""
    config = dict(request.config)
    config["trainer"] = {**config["trainer"], "device": "cpu", "threads": 1}
    return replace(request, config=config)
