"""Notes of many runs as few lines: each distinct one once, with the runs that it holds for."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweepwise.results.languages import Both
from sweepwise.results.run_folder import shown

NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w-]|\.\d)")  # not in conv2d, nor layer.3
LISTED = 3  # numbers, or values of a key, that are listed


@dataclass(frozen=True)
class Note:
    """A note that some runs have.

    Attributes:
        text: the note; numbers that vary from run to run as '10 or 20', or '1 to 9'.
        runs: how many have it.
        of: how many there are.
        where: what just these runs share, such as 'scheduler=step'; '' if all have it, or nothing tells them.
    """

    text: str
    runs: int
    of: int
    where: str

    def __str__(self) -> str:
        return f"{self.text} ({self.holds_for()})"

    def holds_for(self) -> Both:
        """The runs that it holds for, in words."""
        where = f": {self.where}" if self.where else ""
        if self.runs == self.of:
            return Both(f"all {self.of:,} runs" if self.of > 1 else "the run", f"全部 {self.of:,} 次运行")
        return Both(
            f"{self.runs:,} of {self.of:,} runs{where}",
            f"{self.of:,} 次运行中的 {self.runs:,} 次{where.replace(': ', '：')}",
        )

    def both(self) -> Both:
        """The whole of it in two languages; the note itself is a run's, in English."""
        held = self.holds_for()
        return Both(f"{self.text} ({held})", f"{self.text}（{held.zh}）")


def of_record(known: Mapping[str, Any]) -> list[str]:
    """What a run's record notes: on settings and data, and what is wrong with how its network starts."""
    found, start = known.get("notes"), known.get("start")
    notes = [str(note) for note in found] if isinstance(found, list) else []
    wrong = start.get("complaints") if isinstance(start, Mapping) else None
    if isinstance(wrong, list) and wrong and isinstance(start, Mapping):
        notes.append("; ".join(filter(None, [*map(str, wrong), str(start.get("advice") or "")])))
    return notes


def grouped(runs: Sequence[tuple[Mapping[str, Hashable], Iterable[str]]]) -> list[Note]:
    """The notes of runs: first those that only some have, which make runs alike or set them apart.

    Args:
        runs: of each its settings by key, at least those that vary; and its notes.

    Example:
        >>> step, cosine = ({"scheduler": "step"}, ["never acts"]), ({"scheduler": "cosine"}, [])
        >>> [str(note) for note in grouped([step, cosine])]
        ['never acts (1 of 2 runs: scheduler=step)']
    """
    alike: dict[str, dict[int, list[str]]] = {}  # by the text without its numbers, those of each run
    for place, (_, notes) in enumerate(runs):
        for note in dict.fromkeys(notes):
            alike.setdefault(NUMBER.sub("\0", note), {})[place] = NUMBER.findall(note)
    settings = [setting for setting, _ in runs]
    found = [
        Note(_with_numbers(text, list(numbers.values())), len(numbers), len(runs), where(numbers, settings))
        for text, numbers in alike.items()
    ]
    return sorted(found, key=lambda note: (note.runs == note.of, -note.runs))


def _with_numbers(text: str, numbers: Sequence[Sequence[str]]) -> str:
    """A text with its numbers back in their places, each as all that stood there."""
    first, *rest = text.split("\0")
    columns = map(_together, zip(*numbers, strict=True))
    return first + "".join(said + part for said, part in zip(columns, rest, strict=True))


def _together(numbers: Iterable[str]) -> str:
    distinct = sorted(dict.fromkeys(numbers), key=lambda text: (float(text), text))
    if len(distinct) > LISTED:
        return f"{distinct[0]} to {distinct[-1]}"
    return " or ".join(filter(None, [", ".join(distinct[:-1]), distinct[-1]]))


def where(some: Collection[int], settings: Sequence[Mapping[str, Hashable]]) -> str:
    """The fewest values by which just these runs are told from all others; '' if nothing does.

    Args:
        some: places of runs.
        settings: of all runs, by key; a key that is missing in some counts as a value of its own.

    Example:
        >>> where([0, 1], [{"init": "a", "lr": 1}, {"init": "a", "lr": 2}, {"init": "b", "lr": 1}])
        'init=a'
    """
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    values = {key: {settings[place].get(key) for place in some} for key in keys}
    telling = [key for key in keys if len(values[key]) < len({setting.get(key) for setting in settings})]

    def just_these(chosen: Sequence[str]) -> bool:
        count = sum(all(one.get(key) in values[key] for key in chosen) for one in settings)
        return count == len(some)

    if not telling or not just_these(telling):
        return ""
    for key in sorted(telling, key=lambda key: (-len(values[key]), -telling.index(key))):
        if len(telling) > 1 and just_these(without := [other for other in telling if other != key]):
            telling = without
    return ", ".join(f"{key}={_values(values[key], [one.get(key) for one in settings])}" for key in telling)


def _values(some: Collection[Hashable], all_of_them: Iterable[Hashable]) -> str:
    """Values of a key in the order of the runs, as they stand in an override; many of them as a range."""
    ordered = [value for value in dict.fromkeys(all_of_them) if value in some]
    if len(ordered) <= LISTED:
        return ",".join(map(shown, ordered))
    numbers = [value for value in ordered if isinstance(value, (int, float)) and math.isfinite(value)]
    if len(numbers) == len(ordered):
        return f"{shown(min(numbers))} to {shown(max(numbers))}"
    return f"{','.join(map(shown, ordered[:LISTED]))} and {len(ordered) - LISTED} more"
