"""The loop of a search: a strategy decides, runs are trained, until it asks for none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweepwise.search.log import Log
from sweepwise.search.strategy import Result, Step, Strategy, Trial

Train = Callable[[Sequence[Trial]], Sequence[Result]]


def drive(
    strategy: Strategy, train: Train, log: Log, tell: Callable[[Step], object] = lambda step: None
) -> Step:
    """Follows a strategy to its end; returns its last step.

    Nothing is kept but the log: a search that is started again asks for the same runs again, and those that
    have ended answer at once.

    Args:
        strategy: decides.
        train: trains runs as far as is asked, or reads what is known of them; in their order.
        log: takes each decision before the runs are trained that it asks for.
        tell: takes each step, after the log.
    """
    known: dict[tuple[str, ...], Result] = {}
    while True:
        step = strategy.next(known)
        log.write(step.decisions)
        tell(step)
        if not step.trials:
            return step
        results = train(step.trials)
        known |= {trial.overrides: result for trial, result in zip(step.trials, results, strict=True)}
