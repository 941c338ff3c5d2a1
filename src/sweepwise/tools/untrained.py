"""What is known of a run before it is trained: whether it can be, how its network starts, a learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from sweepwise import run
from sweepwise.diagnosis import advice
from sweepwise.errors import UsageError
from sweepwise.store.request import Request
from sweepwise.tools.lr_finder import range_test, suggestions

LOW, HIGH, STEPS = 1e-7, 10.0, 100  # of the range test, as scripts/find_lr.py has them


def refused(request: Request) -> str:
    """Why a run cannot be built, in words; '' if it can."""
    try:
        run.build(request)
    except UsageError as error:
        return "; ".join(error.faults)
    return ""


def complaints(request: Request) -> Sequence[str]:
    """What is wrong with a run's network at its start, in words; empty if nothing is.

    Raises:
        UsageError: the run cannot be built.
    """
    found = advice.diagnose(run.build(request))
    return [found.measurements.failed] if found.measurements.failed else list(found.complaints)


def rate(request: Request) -> float | str:
    """The learning rate that a range test suggests, or why it suggests none.

    Raises:
        UsageError: the run cannot be built.
    """
    try:
        return next(iter(suggestions(range_test(run.build(request), LOW, HIGH, STEPS)).values()))
    except UsageError:
        raise
    except ValueError as error:
        return str(error)
