"""What the trainer drives: parameters that take steps, for one run or for many at once.

The trainer knows this contract only. Results have a leading axis of runs, of length 1 for one run; batches
and outputs, which are handled at every step, carry it folded into their first axis.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.data.loading import Batch

Precision = Literal["fp32", "bf16", "fp16"]
Parallel = Literal["ddp", "fsdp"]


class Watch(enum.IntEnum):
    """How much of a step is watched; each level includes the ones before it."""

    NOTHING = 0
    SCALARS = 1
    TENSORS = 2


@dataclass(frozen=True)
class Watched:
    """What was seen of one run in the last watched step; the weights are those the step began with.

    The tensors hold until the next step.

    Attributes:
        loss: of the batch, without penalties.
        penalty: what the regularizers add to it.
        gradient_norm: Euclidean norm of the whole gradient, with that of the penalties, before clipping.
        clipping: what else was done to the gradient: 'clipped_norm', the same norm after clipping, if a
            regularizer clips; 'loss_scale' and 'skipped_steps' so far, if the loss is scaled.
        update_ratio: |update| / |weights| of each weight tensor; about 1e-3 is healthy.
        weights: by parameter name.
        gradients: by parameter name.
        activations: outputs of the layers by module name, (batch, ...).
        kinds: class name of the module behind each activation.
        units: the axis along which the units of each activation lie, see `units.axes_of_units`.
    """

    loss: float
    penalty: float
    gradient_norm: float
    clipping: Mapping[str, float]
    update_ratio: Mapping[str, float]
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)


class Learner(Protocol):
    """Parameters of `runs` >= 1 runs, and how they learn.

    Several processes may train one run together: then all call alike, with the same whole batches, and each
    gets what belongs to its share of a batch.

    Attributes:
        runs: how many.
        takes_shards: whether a step wants only this process's portion of the inputs, `World.padded_shard`.
    """

    runs: int
    takes_shards: bool

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """Takes one optimizer step of the runs that have not been dropped.

        Args:
            x: (those * batch, *features), the batch of each run after that of the one before; of one run's
                this process's portion, if the learner `takes_shards`.
            y: (those * batch,), in any case.
            rates: (runs,) learning rates, of dropped runs too.
            step: counted from 0; the noise of a step is a function of the run's seed and this.
            watch: what `watched` will be asked for.

        Returns:
            Losses without penalties, one for each of those, and outputs (those, batch, outputs); both are
            from before the update and not to be differentiated any more. Of several processes each returns
            its outputs, and what they contribute to the loss.
        """
        ...

    def watched(self, run: int) -> Watched:
        """What the last watched step saw of one run."""
        ...

    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean loss (runs,) and means of the terms (runs, terms) in evaluation mode; NaN of dropped runs.

        Args:
            batches: x: (batch, *features) and y: (batch,) of a part, the same for all runs.
        """
        ...

    def predict(self, run: int, batches: Sequence[Batch]) -> list[Tensor]:
        """One run's outputs in evaluation mode, (batch, outputs) of each batch; batches as for `evaluate`."""
        ...

    def checksums(self) -> NDArray[np.float64]:
        """The sum of each run's parameters, (runs,): not finite once a parameter is not."""
        ...

    def gradient_norm(self, run: int) -> float:
        """Norm of the run's last gradient."""
        ...

    def save_best(self, run: int) -> None:
        """Copies what `evaluate` measures aside as its best: parameters or their average, and buffers."""
        ...

    def load_best(self, run: int) -> None:
        """Puts the run's best back; without one, changes nothing."""
        ...

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """The run's parameters and buffers by name, its best or its present ones, as copies on the CPU.

        With the present ones goes their moving average, if there is one, as 'ema/NAME'.
        """
        ...

    def state_dict(self, run: int) -> dict[str, Any]:
        """What the next step depends on beside `model_state_dict`: copies on the CPU, for torch.save."""
        ...

    def load_state_dict(
        self, run: int, weights: Mapping[str, Tensor], best: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """Puts a run where it was.

        Args:
            run: its place.
            weights: from `model_state_dict(run, best=False)`.
            best: from `model_state_dict(run, best=True)`; empty if there was none.
            state: from `state_dict`.

        Raises:
            ValueError: they are not those of such a model.
        """
        ...

    def drop(self, run: int) -> None:
        """No more steps are wanted of this run: from now on its parameters stay as they are."""
        ...
