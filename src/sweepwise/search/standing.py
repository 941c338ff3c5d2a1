"""How far the settings of a bracket have come, and which of them goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from sweepwise.search.brackets import Bracket
from sweepwise.search.measured import Score


@dataclass
class Standing:
    """How far the settings of a bracket have come.

    Attributes:
        bracket: its plan.
        begun: how many of its settings have begun.
        scores: of each rung and of the end, the best first.
        promoted: of each rung, who has gone on from it.
    """

    bracket: Bracket
    begun: int = 0
    scores: list[list[Score]] = field(init=False)
    promoted: list[set[int]] = field(init=False)

    def __post_init__(self) -> None:
        levels = len(self.bracket.rungs) + 1
        self.scores, self.promoted = [[] for _ in range(levels)], [set() for _ in range(levels)]

    def end(self, rung: int) -> int | None:
        """The epochs of a rung; None: the end."""
        return self.bracket.rungs[rung] if rung < len(self.bracket.rungs) else None

    def score(self, setting: int, rung: int) -> Score:
        """Of a setting at a rung."""
        return next(score for score in self.scores[rung] if score[2] == setting)

    def job(self) -> tuple[int, int] | None:
        """A setting and the rung to which it is trained: from as high a rung as can be, else a new one."""
        for rung in reversed(range(len(self.bracket.rungs))):
            scores = self.scores[rung]
            if job := self._promotion(rung, len(scores) // self.bracket.eta):
                return job
        if self.begun == len(self.bracket.settings):
            return None
        self.begun += 1
        return self.bracket.settings[self.begun - 1], 0

    def last_one(self) -> tuple[int, int] | None:
        """The best of the highest rung from which nobody goes on, where none is at the end with a value."""
        if any(score[0] < 1 for score in self.scores[-1]):
            return None
        for rung in reversed(range(len(self.bracket.rungs))):
            if job := self._promotion(rung, len(self.scores[rung])):
                return job
        return None

    def _promotion(self, rung: int, most: int) -> tuple[int, int] | None:
        """The best setting among the first so many of a rung that has not gone on; none that has failed."""
        for failed, _, setting in self.scores[rung][:most]:
            if failed < 1 and setting not in self.promoted[rung]:
                self.promoted[rung].add(setting)
                return setting, rung + 1
        return None
