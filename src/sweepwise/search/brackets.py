"""The rungs and brackets of successive halving and hyperband, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweepwise.errors import UsageError


def rungs(epochs: int, eta: int, first: int, why: str = "") -> tuple[int, ...]:
    """The epochs after which settings are compared: first * eta^k, as many as lie a factor eta below the end.

    Args:
        epochs: of the whole training.
        eta: >= 2.
        first: the first of them, >= 1.
        why: the training has so many epochs, for the message; '' if they were given.

    Raises:
        UsageError: there is none.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934, algorithm 1;
    the last of its rungs is the end of the training here.

    Example:
        >>> rungs(81, 3, 1), rungs(100, 4, 5)
        ((1, 3, 9, 27), (5,))
    """
    if first * eta > epochs:
        of = f"{epochs} epoch{'s' * (epochs != 1)}{f' ({why})' if why else ''}"
        rule = f"must be at most {epochs // eta} to compare settings of {of}"
        raise UsageError([f"hydra.sweeper.min_epochs={first}: {rule} with hydra.sweeper.eta={eta}"])
    found = [first]
    while found[-1] * eta**2 <= epochs:
        found.append(found[-1] * eta)
    return tuple(found)


@dataclass(frozen=True)
class Training:
    """What is known of every run before it is trained.

    Attributes:
        epochs: of its whole training.
        validate_every: epochs between two values of the metric.
        sign: 1 where lower values are better, -1 where higher ones are.
        why: it has so many epochs, such as 'trainer.max_steps=34'; '' if they were given.
        ended_by: what may end it before, such as 'early_stop=patience'.
    """

    epochs: int
    validate_every: int = 1
    sign: int = 1
    why: str = ""
    ended_by: tuple[str, ...] = ()

    def rungs(self, eta: int, least: int) -> tuple[int, ...]:
        """The epochs after which settings are compared, each of them validated; see `rungs`.

        Args:
            eta: >= 2.
            least: the first of them, or the first validated epoch from there on.
        """
        first = -(-least // self.validate_every) * self.validate_every
        return rungs(self.epochs, eta, first, self.why)


def hyperband(levels: int, eta: int) -> tuple[int, ...]:
    """How many settings each bracket begins with: ceil(levels * eta^s / (s + 1)), for s from levels - 1 to 0.

    Args:
        levels: rungs, and the end of the training.
        eta: >= 2.

    Source: Li et al., Hyperband, arXiv:1603.06560, algorithm 1.

    Example:
        >>> hyperband(5, 3)
        (81, 34, 15, 8, 5)
    """
    return tuple(-(-levels * eta**s // (s + 1)) for s in reversed(range(levels)))


def dealt(settings: int, shares: Sequence[int]) -> tuple[int, ...]:
    """A number of settings, dealt out in proportion to shares; where that leaves a rest, to the largest ones.

    Example:
        >>> dealt(143, (81, 34, 15, 8, 5)), dealt(10, (81, 34, 15, 8, 5))
        ((81, 34, 15, 8, 5), (6, 2, 1, 1, 0))
    """
    total = sum(shares)
    whole = [settings * share // total for share in shares]
    rest = sorted(range(len(shares)), key=lambda place: -(settings * shares[place] % total))
    for place in rest[: settings - sum(whole)]:
        whole[place] += 1
    return tuple(whole)


@dataclass(frozen=True)
class Bracket:
    """Settings that are halved among themselves.

    Attributes:
        rungs: epochs after which they are compared; a bracket without trains all of them to the end.
        settings: places of those that take part.
        eta: one of this many goes on from a rung, at least one.
    """

    rungs: tuple[int, ...]
    settings: tuple[int, ...]
    eta: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many settings are trained to each rung, and to the end, if none fails."""
        sizes = [len(self.settings)]
        for _ in self.rungs:
            sizes.append(max(sizes[-1] // self.eta, min(sizes[-1], 1)))
        return tuple(sizes)

    def cost(self, epochs: int) -> int:
        """Epochs of one run of each setting, where who goes on does so from where it is."""
        ends = (*self.rungs, epochs)
        before = (0, *self.rungs)
        return sum(size * (end - begin) for size, begin, end in zip(self.sizes, before, ends, strict=True))


@dataclass(frozen=True)
class Plan:
    """What a search will train, as far as that is known before.

    Attributes:
        brackets: those that have settings.
        epochs: of a whole training.
        runs: of a setting.
        exact: whether so many go on; else about so many, as who does is decided before all have come as far.
        ended_by: what may end runs before.
    """

    brackets: tuple[Bracket, ...]
    epochs: int
    runs: int
    exact: bool = True
    ended_by: tuple[str, ...] = ()

    @property
    def cost(self) -> int:
        """Epochs of all runs."""
        return self.runs * sum(bracket.cost(self.epochs) for bracket in self.brackets)

    @property
    def full(self) -> int:
        """Epochs of all runs if each were trained to its end."""
        return self.runs * self.epochs * sum(len(bracket.settings) for bracket in self.brackets)

    def __str__(self) -> str:
        each = f", {self.runs} runs each" if self.runs > 1 else ""
        about = ("at most " if self.ended_by else "") + ("" if self.exact else "about ")
        lists = "; ".join(_described(bracket, self.epochs) for bracket in self.brackets)
        share = 100 * self.cost / self.full
        ended = f" at most, as {' and '.join(self.ended_by)} may end runs before" if self.ended_by else ""
        return (
            f"{lists}{each}: {about}{self.cost:,} epochs, {share:.0f} % of the {self.full:,} that "
            f"training all to the end takes{ended}"
        )


def _described(bracket: Bracket, epochs: int) -> str:
    """A bracket in words: '9 settings for 1 epoch, 3 for 3, 1 for 9'."""
    steps = list(zip(bracket.sizes, (*bracket.rungs, epochs), strict=True))
    (first, end), *rest = steps
    head = f"{first} setting{'s' * (first != 1)} for {end} epoch{'s' * (end != 1)}"
    return ", ".join([head, *(f"{size} for {end}" for size, end in rest)])
