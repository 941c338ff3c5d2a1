"""The contract between trainer and learner: parameters that take steps, for one run or for many at once.

Results have a leading axis of runs, of length 1 for one run. In batches and targets that axis is folded into
the first one, (runs * batch, ...).
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
    """What the last watched step shows of one run; the weights are those before the step.

    The tensors are valid until the next step.

    Attributes:
        loss: of the batch, without penalties.
        penalty: what the regularizers add to it.
        gradient_norm: Euclidean norm of the whole gradient, with that of the penalties, before clipping.
        clipping: 'clipped_norm', the same norm after clipping, if a regularizer clips; 'loss_scale' and
            'skipped_steps' so far, if the loss is scaled.
        update_ratio: |update| / |weights| of each weight tensor; about 1e-3 is healthy.
        weights: by parameter name.
        gradients: by parameter name.
        activations: outputs of the layers by module name, (batch, ...).
        kinds: class name of the module of each activation.
        units: the axis of each activation that counts its units, see `units.axes_of_units`.
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
    """The parameters of `runs` >= 1 runs, and how they are trained.

    If several processes train one run, each calls the same methods in the same order with the same whole
    batches, and gets the results for its share of a batch. `run` is always the index of a run, from 0.

    Attributes:
        runs: number of runs.
        takes_shards: whether `step` takes only this process's part of the inputs, `World.padded_shard`.
    """

    runs: int
    takes_shards: bool

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """Takes one optimizer step of the runs that have not been dropped.

        Args:
            x: (active runs * batch, *features), the batches of the runs one after the other; only this
                process's part of it if the learner `takes_shards`.
            y: (active runs * batch,), always whole.
            rates: (runs,) learning rates, of dropped runs too.
            step: counted from 0; the noise of a step is a function of the run's seed and this number.
            watch: how much `watched` will return of this step.

        Returns:
            Losses without penalties, (active runs,), and outputs, (active runs, batch, outputs); both from
            before the update, without a graph to differentiate. With several processes each returns the
            outputs of its share and what they contribute to the loss.
        """
        ...

    def watched(self, run: int) -> Watched:
        """What the last watched step shows of one run."""
        ...

    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean loss (runs,) and means of the metrics' terms (runs, terms) in evaluation mode; NaN if dropped.

        Args:
            batches: x: (batch, *features) and y: (batch,) of a part, the same for all runs.
        """
        ...

    def predict(self, run: int, batches: Sequence[Batch]) -> list[Tensor]:
        """One run's outputs in evaluation mode, (batch, outputs) of each batch; batches as for `evaluate`."""
        ...

    def checksums(self) -> NDArray[np.float64]:
        """The sum of each run's parameters, (runs,): not finite as soon as one of them is not.

        NaN also where the norm of the last gradient or the optimizer's state has overflowed: a clipped
        gradient, or one that Adam divides by infinity, leaves the parameters finite but still.
        """
        ...

    def gradient_norm(self, run: int) -> float:
        """Norm of the run's last gradient."""
        ...

    def save_best(self, run: int) -> None:
        """Keeps as the run's best a copy of the model that `evaluate` measures: all of its state."""
        ...

    def load_best(self, run: int) -> None:
        """Gives the run's model its best state again; without one, changes nothing."""
        ...

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Any]:
        """What the run's model is, by name, as copies on the CPU.

        Parameters and all buffers, and what else is in its `state_dict`: that may hold numbers and texts,
        too, in dictionaries and lists.

        Args:
            run: its index.
            best: whether those that `save_best` kept (the current ones, if none were) or the current ones;
                with the current ones comes their moving average, if there is one, as 'ema/NAME'.
        """
        ...

    def state_dict(self, run: int) -> dict[str, Any]:
        """All else that the run's next step depends on: optimizer, loss scale, regularizers; on the CPU."""
        ...

    def load_state_dict(
        self, run: int, weights: Mapping[str, Any], best: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        """Restores a run, so that its next step is the one that would have followed.

        Args:
            run: its index.
            weights: from `model_state_dict(run, best=False)`.
            best: from `model_state_dict(run, best=True)`; empty if no best was kept.
            state: from `state_dict(run)`.

        Raises:
            ValueError: names, or shapes of parameters, are not those of the model.
        """
        ...

    def drop(self, run: int) -> None:
        """Ends the training of a run: from now on its parameters stay as they are."""
        ...
