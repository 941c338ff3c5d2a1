"""The settings of a training: the group `trainer` of the config."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from sweepwise.config.ranges import Range
from sweepwise.config.schema import checked
from sweepwise.learner import Parallel, Precision


@checked("trainer")
@dataclass(frozen=True)
class Settings:
    """How long, on which device and how a run is trained.

    Args:
        max_epochs: passes over the training part, >= 1; schedules take their horizon from it.
        max_steps: ends the training earlier, in the middle of an epoch if need be; null: no limit.
        validate_every: epochs between two validations, >= 1; the last epoch is always validated.
        pause_after: epochs, >= 1, after which the training stops before its end, with a checkpoint, as
            'pruned': at the first of them from there on that is validated. Schedules keep their horizon, and
            the same run without it goes on to the same bits; null: it does not pause.
        device: 'auto' takes a GPU if there is one; else a torch device: 'cpu', 'cuda', 'cuda:1'.
        threads: of the CPU, >= 1. The last digits of a result depend on it, as it splits sums.
        workers: processes that load batches; 0: the training process does.
        accumulate: pieces in which each batch is passed, >= 1, of sizes as equal as can be, so that a batch
            may be larger than the memory allows. The step is that of the whole batch, but batch norm takes
            its statistics from each piece.
        ema: decay, in [0, 1), of a moving average of the parameters over the steps, which is validated, kept
            as the best and tested in their place; 0: none. Buffers of batch norm are not averaged.
        precision: of the forward pass: 'bf16' and 'fp16' by torch.autocast, while parameters stay float32;
            'fp16' scales the loss and skips the steps whose gradients overflow.
        compile: whether torch.compile compiles the forward and backward pass of a step; that takes up to a
            minute at the first step, and needs a C++ compiler, or triton on a GPU.
        parallel: how several processes train the run: with 'ddp' each holds the whole model; with 'fsdp' a
            part of each parameter, with its gradient, average and optimizer state, and gathers a block of the
            model at a time, for models beyond one GPU. Both compute what one process computes; a single
            process trains the same with either.
        metrics: computed every epoch, beside the loss, on training and validation part: names that the task
            knows (`Classification`, `Regression`); 'auto': accuracy, or mse, mae and r2.
        class_weights: of an example's class in the loss, one for each class, >= 0; 'balanced': examples /
            (classes * examples of the class) in the training part.

    Example:
        >>> Settings(max_epochs=3).steps(steps_per_epoch=5), Settings(max_epochs=3, max_steps=7).steps(5)
        (15, 7)
    """

    max_epochs: Annotated[int, Range(1)] = 100
    max_steps: Annotated[int, Range(1)] | None = None
    validate_every: Annotated[int, Range(1)] = 1
    pause_after: Annotated[int, Range(1)] | None = None
    device: str | torch.device = "auto"
    threads: Annotated[int, Range(1, 1024)] = 1
    workers: Annotated[int, Range(0, 1024)] = 0
    accumulate: Annotated[int, Range(1)] = 1
    ema: Annotated[float, Range(0, 1, open_high=True)] = 0.0
    precision: Precision = "fp32"
    compile: bool = False
    parallel: Parallel = "ddp"
    metrics: Sequence[str] | Literal["auto"] = "auto"
    class_weights: Sequence[Annotated[float, Range(0)]] | Literal["none", "balanced"] = "none"

    def steps(self, steps_per_epoch: int) -> int:
        """The number of steps of the whole training."""
        steps = self.max_epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def pauses_after(self, *, validated: bool) -> int | None:
        """The number of epochs after which the training pauses; None: it does not.

        Args:
            validated: whether there is a validation part; without one each epoch will do.

        Example:
            >>> paused = Settings(pause_after=4, validate_every=3)
            >>> paused.pauses_after(validated=True), paused.pauses_after(validated=False)
            (6, 4)
        """
        every = self.validate_every if validated else 1
        return None if self.pause_after is None else -(-self.pause_after // every) * every
