"""Mixed precision: the forward pass in 16 bits, parameters and loss in the parameters' own type."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from sweepwise.errors import UsageError
from sweepwise.learner.contract import Precision

Model = Callable[[Tensor], Tensor]

TYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_SCALE = 2.0**-24  # the least float16: gradients that overflow even with it are not finite themselves


def in_precision(model: Model, precision: Precision, like: Tensor) -> Model:
    """A forward pass whose matrix products are computed in 16 bits by torch.autocast; 'fp32': unchanged.

    Outputs come back in the parameters' type, so the loss is computed in float32, as by autocast.

    Args:
        model: x -> outputs.
        precision: of the products.
        like: the parameters, for their device and type; autocast leaves float64 unchanged.

    Raises:
        UsageError: the device does not support it.
    """
    if precision == "fp32":
        return model
    try:
        mixed = torch.autocast(like.device.type, TYPES[precision])
    except RuntimeError as error:
        raise UsageError(
            [f"trainer.precision={precision}: cannot be used here ({error}); use fp32"]
        ) from error

    def in_mixed(x: Tensor) -> Tensor:
        with mixed:
            return model(x).to(like.dtype)

    return in_mixed


class Unscaled:
    """No scaling: the loss is differentiated as it is, and no step is skipped.

    Attributes:
        exhausted: always False.
    """

    exhausted = False

    def scale(self, loss: Tensor) -> Tensor:
        """The loss."""
        return loss

    def unscale_(self) -> None:
        """Does nothing."""

    def step_(self, update: Callable[..., list[Tensor]], *arguments: object) -> list[Tensor]:
        """Calls `update`; returns what it returns."""
        return update(*arguments)

    def logged(self) -> dict[str, float]:
        """Nothing is logged."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """It has no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Does nothing."""


class LossScaling:
    """Scales the loss, so that small gradients do not vanish in float16.

    The scale begins at 2^16. A step whose gradients overflow is skipped and halves the scale; 2,000 steps in
    a row without overflow double it. Whether gradients overflow must be known before the weights move, so
    each step waits for the device.

    Args:
        parameters: whose gradients are unscaled.

    Attributes:
        param_groups: what torch's scaler unscales; it needs only this and `step` of an optimizer.
        skipped: number of skipped steps so far.

    Source: Micikevicius et al., Mixed Precision Training, arXiv:1710.03740, section 3.2; the arithmetic is
    torch.amp.GradScaler's.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._scaler = torch.amp.GradScaler(parameters[0].device.type)
        self.param_groups = [{"params": list(parameters)}]
        self.skipped = 0

    def scale(self, loss: Tensor) -> Tensor:
        """What to differentiate instead of the loss."""
        return self._scaler.scale(loss)

    def unscale_(self) -> None:
        """Divides the gradients by the scale, once they are complete."""
        self._scaler.unscale_(cast(torch.optim.Optimizer, self))

    def step_(self, update: Callable[..., list[Tensor]], *arguments: object) -> list[Tensor]:
        """Calls `update`, unless a gradient is not finite; returns what it returned, or nothing."""
        result = self._scaler.step(cast(torch.optim.Optimizer, self), update, *arguments)
        self._scaler.update()
        if result is None:
            self.skipped += 1
        return cast("list[Tensor]", result or [])

    def step(self, update: Callable[..., list[Tensor]], *arguments: object) -> list[Tensor]:
        """Called by torch's scaler for a step that is not skipped."""
        return update(*arguments)

    @property
    def exhausted(self) -> bool:
        """Whether no scale keeps the gradients finite: the run has diverged, with finite weights."""
        return self._scaler.get_scale() < LEAST_SCALE

    def state_dict(self) -> dict[str, Any]:
        """The scale, how long it has held, and the steps skipped so far."""
        return {"scaler": self._scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]

    def logged(self) -> dict[str, float]:
        """What is logged: the scale and the steps skipped so far."""
        return {"loss_scale": self._scaler.get_scale(), "skipped_steps": self.skipped}


def scaling_of(precision: Precision, parameters: Sequence[Tensor]) -> Unscaled | LossScaling:
    """The scaling of the loss: 'fp16' needs it, 'bf16' has the exponents of float32."""
    return LossScaling(parameters) if precision == "fp16" else Unscaled()
