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
    have ended answer at once. Of one that has come further than it is asked for, the rest is left out.

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
        pairs = zip(step.trials, results, strict=True)
        known |= {trial.overrides: result.up_to(trial.epochs) for trial, result in pairs}
