"""A part of a user's own: trainings that take as long as a test wants, and that fail where it wants."""

import os
import time

from torch import Tensor

from sweepwise import Regularizer

FATAL_STEP = 5


class Paced(Regularizer):
    """Sleeps PACE seconds a step, told by the environment: what is computed is the same at any pace.

    Args:
        fate: 'fine', or what happens at the fifth step: 'raise', 'die', or 'lose', where one of several
            processes dies.
    """

    by_element = True

    def __init__(self, *, fate: str = "fine") -> None:
        self._fate = fate
        self._steps = 0

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Leaves the gradient as it is."""
        time.sleep(float(os.environ.get("PACE", 0)))
        self._steps += 1
        if self._steps == FATAL_STEP and self._fate == "raise":
            raise ArithmeticError("the part has raised")
        lost = self._fate == "lose" and os.environ["RANK"] == "1"
        if self._steps == FATAL_STEP and (self._fate == "die" or lost):
            os._exit(7)
