"""When should a training stop? Replayed from the curves of the stages before, without training."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweepwise.early_stop.patience import Patience
from sweepwise.improvement import Mode
from sweepwise.results.replay.early_stopping import PATIENCES
from sweepwise.results.run_folder import is_replicate
from sweepwise.search.elimination import WINS
from sweepwise.search.guided.account import Chapter, Compared
from sweepwise.search.guided.course import Course, key_of
from sweepwise.search.guided.ledger import Ledger, Purse
from sweepwise.search.guided.stage import Question, State, to_the_end
from sweepwise.search.measured import Overrides
from sweepwise.search.strategy import Step
from sweepwise.search.words import counted

STAGE = "early_stop"
QUESTION = "When should a training stop?"
LEAST = 3  # curves, below which nothing is said
LITTLE = 0.1  # deviations of a run
NEVER = ("early_stop=none",)


@dataclass(frozen=True)
class Replayed:
    """What a rule would have made of trainings.

    Attributes:
        patience: its epochs without improvement.
        lost: by how much the metric of each would have been worse, >= 0.
        saved: which share of the epochs of each would not have been trained.
    """

    patience: int
    lost: tuple[float, ...]
    saved: tuple[float, ...]

    @property
    def mean_saved(self) -> float:
        """Share of the epochs."""
        return statistics.fmean(self.saved)

    def is_harmless(self, deviation: float) -> bool:
        """Whether it loses nothing within the noise: little of a deviation on average, less than one ever."""
        return max(self.lost) <= WINS * deviation and statistics.fmean(self.lost) <= LITTLE * deviation

    def __str__(self) -> str:
        lost = f"loses {statistics.fmean(self.lost):.2g} on average, {max(self.lost):.2g} at most"
        return f"saves {100 * self.mean_saved:.0f} % of the epochs and {lost}"


def course(question: Question, state: State, purse: Purse) -> Course[State]:
    """Replays rules, and takes the one that loses nothing within the noise and saves most."""
    yield Step(())
    if given := question.given.get(STAGE):
        return state.after(Chapter(STAGE, QUESTION, given, "given by hand"))
    curves, own = _curves(purse.ledger), _curves(purse.ledger, to_the_end(question, state.overrides))
    if len(curves) < LEAST:
        how = f"{counted(len(curves), 'curve')} of whole trainings, which tell nothing"
        return state.after(Chapter(STAGE, QUESTION, "as it is", how, QUESTION.lower().rstrip("?")))
    rules = [replayed(curves, patience, question) for patience in patiences(question.training.epochs)]
    rows = tuple(Compared(_overrides(rule), note=str(rule)) for rule in rules)
    noise = state.deviation or 0.0
    harmless = [
        rule
        for rule in rules
        if rule.mean_saved > 0
        and rule.is_harmless(noise)
        and (not own or replayed(own, rule.patience, question).is_harmless(noise))
    ]
    against = f"replayed on {counted(len(curves), 'curve')}"
    if not harmless:
        why = "no patience saves epochs without losing more than runs differ by chance"
        return state.after(Chapter(STAGE, QUESTION, "early_stop=none", f"{against}: {why}", "", NEVER, rows))
    best = max(harmless, key=lambda rule: (rule.mean_saved, rule.patience))
    few = len(curves) < ENOUGH
    open_ = f"rare losses: {counted(len(curves), 'curve')} cannot show one in {ENOUGH // 3}" if few else ""
    chosen = _overrides(best)
    return state.after(
        Chapter(STAGE, QUESTION, " ".join(chosen), f"{against}: it {best}", open_, chosen, rows)
    )


ENOUGH = 59  # trainings without a loss show at 95 % that fewer than one in 20 has one: 0.95^59 = 0.048


def patiences(epochs: int) -> list[int]:
    """Epochs without improvement that are tried: they can stop a training of so many epochs.

    Example:
        >>> patiences(30), patiences(3)
        ([2, 3, 5, 6, 10, 20], [2])
    """
    parts = (epochs // 10, epochs // 5, epochs // 3)
    return sorted({one for one in (*PATIENCES, *parts) if 2 <= one < epochs - 1} | {2})


def _curves(ledger: Ledger, setting: Overrides | None = None) -> list[Mapping[int, float]]:
    """The curves of trainings that came to their last epoch with a value; of one setting, or of all."""
    runs = [
        ledger.known[run]
        for run in ledger.asked
        if ledger.is_whole(run) and (setting is None or _without_seeds(run) == setting)
    ]
    return [
        run.curve for run in runs if run.status == "finished" and run.value is not None and len(run.curve) > 1
    ]


def _without_seeds(run: Overrides) -> Overrides:
    return tuple(one for one in run if not is_replicate(key_of(one)))


def replayed(curves: Sequence[Mapping[int, float]], patience: int, question: Question) -> Replayed:
    """What a rule would have made of trainings.

    Args:
        curves: the metric after each epoch, from 1.
        patience: of the rule.
        question: its metric and direction.
    """
    found = [_stopped(curve, patience, question) for curve in curves]
    return Replayed(patience, tuple(lost for lost, _ in found), tuple(saved for _, saved in found))


def _stopped(curve: Mapping[int, float], patience: int, question: Question) -> tuple[float, float]:
    mode: Mode = "min" if question.training.sign > 0 else "max"
    rule = Patience(metric=question.metric, mode=mode, patience=patience)
    best_of_all = min(question.training.sign * value for value in curve.values())
    best, last = float("inf"), max(curve)
    for epoch, value in sorted(curve.items()):
        best = min(best, question.training.sign * value)
        if rule.update(epoch - 1, value):
            return best - best_of_all, 1 - epoch / last
    return best - best_of_all, 0.0


def _overrides(rule: Replayed) -> Overrides:
    return "early_stop=patience", f"early_stop.patience={rule.patience}"
