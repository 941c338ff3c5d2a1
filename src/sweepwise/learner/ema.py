"""An exponential moving average of the weights, evaluated in their place."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

AVERAGE = "ema/"  # before a parameter's name, in a checkpoint


class Live:
    """No average: what is evaluated are the parameters themselves.

    Args:
        values: the row of parameters.

    Attributes:
        row: what is evaluated and kept as the best.
    """

    def __init__(self, values: Tensor) -> None:
        self.row = values

    def move_(self, values: Tensor) -> None:
        """The parameters are in another row from now on."""
        self.row = values

    def begin_(self) -> None:
        """Nothing."""

    def update_(self) -> None:
        """Nothing."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Nothing."""
        yield

    def named(self, parts: Callable[[Tensor], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Nothing that the parameters do not say."""
        return {}


class Average:
    """average <- decay * average + (1 - decay) * w after every step, from the initial weights on.

    After t steps: decay^t w_0 + (1 - decay) sum_s decay^(t - s) w_s. The buffers of batch norm are not
    averaged: with the average go the live ones, as by default in torch.optim.swa_utils.AveragedModel.

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
        """The parameters are in another row from now on."""
        self._values = values

    def begin_(self) -> None:
        """Begins anew at the present weights."""
        self.row.copy_(self._values)

    def update_(self) -> None:
        """After every step."""
        self.row.lerp_(self._values, self._new)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model computes with the average; afterwards it has its own weights back."""
        live = self._values.clone()
        self._values.copy_(self.row)
        try:
            yield
        finally:
            self._values.copy_(live)

    def named(self, parts: Callable[[Tensor], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What a checkpoint of the live parameters says of the average: 'ema/NAME' for each.

        Args:
            parts: of a row, the parameters' parts by name.
        """
        return {AVERAGE + name: part for name, part in parts(self.row).items()}


def average_of(values: Tensor, decay: float) -> Live | Average:
    """The average of a row of parameters; of decay 0 the parameters themselves."""
    return Average(values, decay) if decay else Live(values)
