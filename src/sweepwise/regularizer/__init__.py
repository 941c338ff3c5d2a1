"""What keeps a network from fitting noise, and the moments of a step at which it may act.

Weights and gradients come as flat rows, (runs, weights): all parameters that decay, without biases and norm
gains. The loss that is reported, for training and validation, is free of every penalty.
"""

from torch import Tensor, nn


class Regularizer:
    """Does nothing; each regularizer overrides the moments at which it acts."""

    def prepare_(self, model: nn.Module) -> None:
        """Changes the model once, before training. Raises ValueError where it cannot."""

    def penalty(self, weights: Tensor) -> Tensor:
        """The term it adds to the loss, (runs,); asked for on logged steps only."""
        return weights.new_zeros(weights.shape[0])

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Acts between the backward pass and the optimizer's step of learning rate `rate`."""

    def after_step_(self, weights: Tensor, rate: float) -> None:
        """Acts after the optimizer's step of learning rate `rate`."""
