"""Keys that the options of a job lack, though other options of the sweep have them: they are for other jobs.

-m scheduler=step,cosine scheduler.step_size=7 sets the key in the jobs that have it, and says which have not.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hydra_plugins.sweepwise_plugins._shared import Base, Keys, Word
from sweepwise.config.groups import EXPERIMENT
from sweepwise.store.request import Request
from sweepwise.system.console import wrapped

MOST_VALUES = 4  # of a key that are named

Bases = Callable[[Sequence[Word]], Base | Exception]


class Note(NamedTuple):
    """A key that is not for all jobs.

    Attributes:
        key: with its group.
        values: that it would be set to.
        there: for how many runs it is, and by which choice, as a part of a sentence; '' if that is not known.
        lacking: the choices that lack it: 'scheduler=cosine'.
    """

    key: str
    values: str
    there: str
    lacking: Sequence[str]


def print_notes(notes: Iterable[Note], told: set[tuple[str, str]]) -> None:
    """Prints a line for each key that is not for all jobs.

    Args:
        notes: of jobs.
        told: pairs of a key and a choice that need not be told again; is added to.
    """
    for note in notes:
        new = [choice for choice in note.lacking if (note.key, choice) not in told]
        told.update((note.key, choice) for choice in new)
        if new:
            lacks = f"not for {_listed(new)}, which {'has' if len(new) == 1 else 'have'} no such key"
            print(wrapped("keys", f"{note.key}={note.values}: {note.there}{lacks}"), flush=True)


class Absent:
    """What of each job of a sweep is for other jobs.

    Args:
        swept: the words by which the sweep chooses the options of each group.
        base: composes words.
        is_independent: whether a word chooses an option that sets nothing outside its group.
    """

    def __init__(
        self, swept: Mapping[str, Sequence[Word]], base: Bases, is_independent: Callable[[Word], bool]
    ) -> None:
        self._swept, self._base, self._is_independent = swept, base, is_independent
        self._groups: dict[str, list[str]] = {}
        self._known: dict[tuple[str, Keys], bool] = {}
        self._jobs: list[tuple[Request, Sequence[Word]]] = []
        self._lacking: dict[str, dict[str, None]] = {}  # by key: the choices that lack it
        self._values: dict[str, dict[str, None]] = {}

    def kept(self, words: Sequence[Word]) -> Sequence[Word]:
        """The words of a job without those that its options lack and other options of the sweep have."""
        kept = words
        while self._swept and (absent := self._for_others(kept, words)):
            kept = [word for word in kept if word not in absent]
            for word in absent:
                self._lacking.setdefault(word.key, {})[self._choice(word.key, kept)] = None
                self._values.setdefault(word.key, {})[word.text.partition("=")[2]] = None
        return kept

    def _for_others(self, kept: Sequence[Word], words: Sequence[Word]) -> list[Word]:
        return [word for word in self.lacking(kept) if self._is_offered(word, words)]

    def lacking(self, words: Sequence[Word]) -> list[Word]:
        """The words whose key, or group in a group, the options of their job lack."""
        shared = [word for word in words if not word.plain]
        base = self._base(shared)
        if isinstance(base, Base):
            return [word for word in words if word.plain and base.lacks(word)]
        keys = [word for word in shared if word.open and not word.group]
        base = self._base([word for word in shared if word not in keys]) if keys else base
        if isinstance(base, Base):
            return [word for word in words if word.open and not word.group and base.lacks(word)]
        groups = [word for word in shared if word.open and word.group]
        base = self._base([word for word in shared if not word.open]) if groups else base
        return [word for word in groups if isinstance(base, Base) and base.lacks(word)]

    def _is_offered(self, word: Word, words: Sequence[Word]) -> bool:
        """Whether some options of the sweep have what a word sets, all else being as in a job."""
        chosen = [other for other in words if not other.open or other.group]
        key = word.key, tuple(other.text for other in chosen)
        if key not in self._known:
            self._known[key] = any(not base.lacks(word) for base in self._others(word.key, chosen))
        return self._known[key]

    def _others(self, key: str, chosen: Sequence[Word]) -> Iterator[Base]:
        """What other options of the sweep would compose, of the groups that may decide if there is a key."""
        groups = self._deciding(key)
        for options in itertools.product(*(self._swept[group] for group in groups)):
            others = dict(zip(groups, options, strict=True))
            words = [others.pop(word.group, word) for word in chosen] + list(others.values())
            base = self._base(words)
            if not isinstance(base, Base):  # a group in a group that these options lack
                absent = self.lacking(words)
                base = self._base([word for word in words if word not in absent])
            if isinstance(base, Base):
                yield base

    def _deciding(self, key: str) -> list[str]:
        """The swept groups whose options may have a key or lack it."""
        if key not in self._groups:
            self._groups[key] = [
                group
                for group, options in self._swept.items()
                if _home(group).split(".")[0] == re.split("[./]", key)[0]
                or group == EXPERIMENT
                or not all(map(self._is_independent, options))
            ]
        return self._groups[key]

    def home(self, key: str) -> str:
        """The swept group that a key belongs to, the innermost; '' if there is none."""
        place = key.replace("/", ".")
        homes = [
            group for group in self._swept if f"{place}.".startswith(f"{_home(group)}.") and group != key
        ]
        return max(homes, key=len, default="")

    def options(self, group: str) -> list[str]:
        """The options that the sweep chooses for a group."""
        return [word.text.partition("=")[2] for word in self._swept[group]]

    def _choice(self, key: str, words: Iterable[Word]) -> str:
        """The choice by which a job has a key, or lacks it: 'scheduler=cosine'."""
        chosen = {word.group: word.text for word in words if word.group in self._swept}
        inside = [group for group in chosen if f"{key}.".startswith(f"{_home(group)}.")]
        groups = sorted(inside, key=len, reverse=True) or [
            group for group in (EXPERIMENT, *self._deciding(key)) if group in chosen
        ]
        return chosen[groups[0]].lstrip("+") if groups else "some"

    def composed(self, request: Request, kept: Sequence[Word]) -> None:
        """Takes the run of a job and the words that made it."""
        self._jobs.append((request, kept))

    def notes(self, *, whole: bool) -> list[Note]:
        """What there is to tell of the keys that are not for all jobs so far.

        Args:
            whole: whether these are all jobs of the sweep, so that runs can be counted.
        """
        return [
            Note(key, self._named_values(key), self._there(key) if whole else "", list(choices))
            for key, choices in self._lacking.items()
        ]

    def _there(self, key: str) -> str:
        runs: dict[tuple[object, str], str] = {}
        for request, words in self._jobs:
            if any(word.key == key for word in words):
                runs[request.home, request.id] = self._choice(key, words)
        if not runs:
            return ""
        return f"for the {len(runs):,} run{'s' if len(runs) > 1 else ''} with {_listed(runs.values())}; "

    def _named_values(self, key: str) -> str:
        values = [re.sub(r"\\(.)", r"\1", value) for value in self._values[key]]  # as they were given
        return ",".join(values if len(values) <= MOST_VALUES else [*values[:2], "...", values[-1]])


def _home(group: str) -> str:
    """Where the keys of a group stand: those of 'model/backbone' at 'model.backbone', of '+a@b' at 'b'."""
    return group.lstrip("+").rpartition("@")[2].replace("/", ".")


def _listed(choices: Iterable[str]) -> str:
    each = list(dict.fromkeys(choices))
    return " and ".join(filter(None, [", ".join(each[:-1]), each[-1]]))
