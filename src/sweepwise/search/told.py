"""What a person sees of a search: a line or two a step, and at its end what any sweep says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweepwise.search.trained import KNOWN, known_before
from sweepwise.sweep.summary import answer_of, described, number, tell_tensorboard
from sweepwise.system.console import command_to_continue, wrapped

if TYPE_CHECKING:
    from sweepwise.search.strategy import Result, Step
    from sweepwise.store.request import Request


UNKNOWN = "ends here, as the results of these runs are not known yet; once they are, the same command goes on"


class Told:
    """Prints the steps of a search.

    Args:
        home: folder of its experiment.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._steps = 0

    def step(self, step: Step, requests: Sequence[Request]) -> None:
        """Prints what was decided and how many runs follow from it.

        Args:
            step: of the search.
            requests: the runs that it asks for.
        """
        self._steps += 1
        if not requests:
            key = "search"
        elif any(request.config["progress"] for request in requests):
            key = f"step {self._steps}"
        else:
            return
        said = list(step.said) or [decision.why for decision in step.decisions][:2]
        if requests:
            before = known_before(requests, [trial.epochs for trial in step.trials])
            known = f", {before:,} of them known from before" if before else ""
            said[-1:] = [f"{''.join(said[-1:])}: {number(len(requests))}{known}".removeprefix(": ")]
        for place, text in enumerate(said):
            print(wrapped("" if place else key, text), flush=True)

    def broken_off(self, *, unknown: bool) -> None:
        """Prints how a search goes on that has not come to its end.

        Args:
            unknown: it needs the results of runs that others train, or that were made by other code.
        """
        if unknown:
            print(wrapped("search", UNKNOWN), flush=True)
        print(wrapped("to go on", command_to_continue()), flush=True)

    def end(
        self, requests: Sequence[Request], results: Mapping[tuple[str, ...], Result], *, answered: bool = True
    ) -> None:
        """Prints how the runs have ended, and what they say together.

        Args:
            requests: all runs of the search.
            results: what is known of each.
            answered: whether they are one comparison, which has an answer.
        """
        statuses = [result.status for result in results.values()]
        print(wrapped("sweep", described(self._home, statuses)), flush=True)
        if len(requests) < 2 or not any(status in KNOWN for status in statuses):
            return
        if answered and any(request.config["progress"] for request in requests):
            answer_of([self._home], [request.config for request in requests])
        tell_tensorboard([self._home], any(request.config.get("mean_runs", True) for request in requests))
