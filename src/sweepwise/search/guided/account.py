"""What a guided search has found, stage by stage, as plain values; `account_text` and its kin show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """What trainings take.

    Attributes:
        runs: that were begun.
        epochs: that they trained, each counted once.
        seconds: in which they were trained; those that were trained side by side count once.
    """

    runs: int = 0
    epochs: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.runs + other.runs, self.epochs + other.epochs, self.seconds + other.seconds)


@dataclass(frozen=True)
class Compared:
    """A setting that a stage has compared.

    Attributes:
        overrides: by which it differs from what was decided before; () for that itself.
        values: of the metric, by seed, in the metric's own direction; of those that have one.
        epochs: after which they were measured; None: of whole trainings, with the weights they keep.
        note: why it has no values, or what became of it, in words; '' if there is nothing to say.
    """

    overrides: tuple[str, ...]
    values: Mapping[int, float] = field(default_factory=dict)
    epochs: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Chapter:
    """A stage that is over.

    Attributes:
        stage: 'seed', 'init', 'scheduler', 'regularizer', 'early_stop' or 'final'.
        question: in words.
        decided: in words, one line: 'init=kaiming', '3 seeds a setting', 'no regularizer'.
        how: in words: by what, among how many.
        left_open: in words: what this stage could not tell; '' if nothing.
        overrides: that it adds to what is decided; () if it leaves all as it is.
        compared: the settings that it looked at, the best first.
        cost: of its runs that no earlier stage had trained.
    """

    stage: str
    question: str
    decided: str
    how: str
    left_open: str = ""
    overrides: tuple[str, ...] = ()
    compared: tuple[Compared, ...] = ()
    cost: Cost = Cost()


@dataclass(frozen=True)
class Account:
    """All of it.

    Attributes:
        metric: by which settings were compared, such as 'val/loss'.
        sign: 1 where lower values are better, -1 where higher ones are.
        chapters: of the stages, in their order.
        base: overrides that a person has given, which hold for all runs.
        found: overrides of the result, beside those of `base`; the last stage may have refused what the
            stages before had found, and then it is ().
        fresh: seeds of the last stage, which no stage before had; () if it was left out.
        chosen: values of the metric of the result, by fresh seed.
        default: the same of the default, with which the search began.
        test: metrics of the test part of both ('chosen', 'default'), by tag and fresh seed.
        ended: why the search ended: 'all stages are over', 'the budget is spent ...'.
        cost: of all stages.
    """

    metric: str
    sign: int
    chapters: tuple[Chapter, ...]
    base: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    fresh: tuple[int, ...] = ()
    chosen: Mapping[int, float] = field(default_factory=dict)
    default: Mapping[int, float] = field(default_factory=dict)
    test: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    ended: str = ""
    cost: Cost = Cost()
