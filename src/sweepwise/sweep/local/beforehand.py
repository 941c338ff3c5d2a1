"""What is known of a sweep's runs before the first is trained: which are refused, and what they note.

The last may begin late, and what a run notes for itself stands in its own log only.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sweepwise.errors import Failure, UsageError
from sweepwise.store.request import Request
from sweepwise.sweep.local import tried
from sweepwise.sweep.local.fork import run_in_child
from sweepwise.sweep.local.groups import on_cpu

if TYPE_CHECKING:
    from sweepwise.parts import Parts

SECONDS = 1.0  # of the processor, after which no run is looked at; the others are told in their turn
MOST_SECONDS = 10.0  # of the clock, on a machine that is busy


class Known(NamedTuple):
    """What is known of runs, by their place among those that were asked about.

    Attributes:
        faults: of runs that are refused.
        notes: of the others; a run that was not looked at in time is left out.
    """

    faults: Mapping[int, list[str]]
    notes: Mapping[int, list[str]]


def look(requests: Sequence[Request]) -> Known:
    """Which runs are refused, and what the others note; torch must have been imported.

    One run is built of those that differ in such numbers only; of a kind that is refused, each. Of all the
    others the values themselves are checked.

    Args:
        requests: the runs.
    """
    if len(requests) < 2:
        return Known({}, {})
    settings = [_setting(request.config) for request in requests]
    firsts = {setting: place for place, setting in reversed([*enumerate(settings)])}
    others = [place for place, setting in enumerate(settings) if firsts[setting] != place]
    kinds: dict[str, list[int]] = {}
    for place in (*sorted(firsts.values()), *others):
        kinds.setdefault(_kind(requests[place].config), []).append(place)
    try:  # in another process, since a model may do anything when it is built
        before = {kind[0]: tried.recalled(tried.NOTES, [requests[kind[0]]]) for kind in kinds.values()}
        found = run_in_child(partial(_looked, requests, list(kinds.values()), before, frozenset(others)))
    except Failure:  # whichever run it is, it ends alone when it is trained
        return Known({}, {})
    faults, notes, built = ({int(place): said for place, said in one.items()} for one in found)
    for place, said in built.items():
        tried.remember(tried.NOTES, [requests[place]], found=said)
    return Known(faults, _with_other_seeds(settings, faults, notes))


def _with_other_seeds(
    settings: Sequence[str], faults: Mapping[int, object], notes: Mapping[int, list[str]]
) -> dict[int, list[str]]:
    """The notes, also of runs that were not looked at in time but differ from others only in their seeds."""
    known = {settings[place]: said for place, said in notes.items()}
    return {
        place: known[setting]
        for place, setting in enumerate(settings)
        if setting in known and place not in faults
    }


def _setting(config: Mapping[str, Any]) -> str:
    """What is equal for runs that differ only in their seeds."""
    return json.dumps({**config, "seed": tried.without_numbers(config["seed"])}, default=str)


def _kind(config: Mapping[str, Any]) -> str:
    """What is equal for runs that differ only in numbers of `tried.NUMBERS`, and in where results go."""
    return json.dumps(tried.form(config), default=str)


def _looked(
    requests: Sequence[Request],
    kinds: Sequence[Sequence[int]],
    before: Mapping[int, Any],
    others: Collection[int] = (),
) -> tuple[dict[int, list[str]], dict[int, list[str]], dict[int, list[Any]]]:
    """Does the work of `look`, in this process.

    Args:
        requests: the runs.
        kinds: of each kind the places of its runs.
        before: by the place of the first of a kind what was `built` of it in an earlier sweep, or None.
        others: places of runs that differ in their seeds only from one before them in their kind.

    Returns:
        Faults and notes by place, and what was built that depends on no seed: its notes, and what
        `Noted.told` has of it.
    """
    from sweepwise.run import Noted

    faults: dict[int, list[str]] = {}
    notes: dict[int, list[str]] = {}
    found: dict[int, list[Any]] = {}
    until, last = time.process_time() + SECONDS, time.monotonic() + MOST_SECONDS
    waiting = deque[tuple[int, Sequence[int], Noted | None]]((kind[0], kind[1:], None) for kind in kinds)
    while waiting and time.process_time() < until and time.monotonic() < last:
        place, alike, noted = waiting.popleft()
        request = requests[place]
        try:
            if noted is None:
                if before.get(place):
                    notes[place], told = before[place]
                    noted = Noted.again(request, *told)
                else:
                    built = _build(request)
                    notes[place] = list(built.notes)
                    noted = Noted.of(request, built)
                    del built
                    if not any(note.startswith("seed.") for note in notes[place]):
                        found[place] = [notes[place], noted.told]
                waiting.extend((other, (), noted) for other in alike)
            elif place in others:  # it notes what the other does
                noted.check_seeds(request.config)
            else:
                notes[place] = noted.notes(request.config)
        except UsageError as error:
            faults[place] = error.faults
            waiting.extendleft((other, (), None) for other in reversed(alike))
        except Exception:  # the run's own, when it is trained
            continue
    return faults, notes, found


def _build(request: Request) -> Parts:
    from sweepwise.run import build

    return build(on_cpu(request))
