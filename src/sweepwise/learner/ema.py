"""An exponential moving average of the parameters, which is evaluated in their place."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

AVERAGE = "ema/"  # prefix of a parameter's name in a checkpoint


class NoAverage:
    """No average: the parameters themselves are evaluated.

    Args:
        values: the row of parameters.

    Attributes:
        row: the parameters, which are evaluated and kept as the best.
    """

    def __init__(self, values: Tensor) -> None:
        self.row = values

    def move_(self, values: Tensor) -> None:
        """Takes the parameters from another row from now on."""
        self.row = values

    def begin_(self) -> None:
        """Does nothing."""

    def update_(self) -> None:
        """Does nothing."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Changes nothing."""
        yield

    def named(self, parts: Callable[[Tensor], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Nothing, as there is no average."""
        return {}


class Average:
    """average <- decay * average + (1 - decay) * w after every step, from the initial weights on.

    After t steps: decay^t w_0 + (1 - decay) sum_s decay^(t - s) w_s. The buffers of batch norm are not
    averaged: the average is evaluated with the current ones, as torch.optim.swa_utils.AveragedModel does by
    default.

    Args:
        values: the row of parameters, as initialised.
        decay: in (0, 1).

    Attributes:
        row: the average, in the dtype of the parameters.

    Source: Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; the exponential
    form: torch.optim.swa_utils.get_ema_multi_avg_fn.
    """

    def __init__(self, values: Tensor, decay: float) -> None:
        self._values = values
        self._new = 1 - decay
        self.row = values.clone()

    def move_(self, values: Tensor) -> None:
        """Takes the parameters from another row from now on."""
        self._values = values

    def begin_(self) -> None:
        """Restarts the average at the current parameters."""
        self.row.copy_(self._values)

    def update_(self) -> None:
        """Adds the current parameters to the average, after every step."""
        self.row.lerp_(self._values, self._new)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model computes with the average; afterwards with its own parameters again."""
        live = self._values.clone()
        self._values.copy_(self.row)
        try:
            yield
        finally:
            self._values.copy_(live)

    def named(self, parts: Callable[[Tensor], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The average by name, as a checkpoint has it beside the parameters: 'ema/NAME' for each.

        Args:
            parts: cuts a row into the tensors of the parameters, by name.
        """
        return {AVERAGE + name: part for name, part in parts(self.row).items()}


def average_of(values: Tensor, decay: float) -> NoAverage | Average:
    """The moving average of a row of parameters; with decay 0 the parameters themselves."""
    return Average(values, decay) if decay else NoAverage(values)
