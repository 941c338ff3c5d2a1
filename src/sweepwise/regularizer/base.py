"""The base class of regularizers, with a method for each moment of a step at which one may act.

Weights and gradients are flat rows, (runs, weights): all parameters that decay, without biases and norm
gains; `matrices` cuts such a row into the layers' weights. Examples are the batch of one run, with a
generator that depends on (seed.noise, step, regularizer) only, so regularizers do not change each other's
random numbers. The reported loss, of training and validation, excludes what regularizers add to it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sweepwise.config.schema import checked


def row_norms(rows: Tensor) -> Tensor:
    """The Euclidean norm of each whole row, (runs, 1).

    Example:
        >>> row_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        tensor([[5.],
                [2.]])
    """
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def nan_where_infinite(values: Tensor) -> Tensor:
    """0 where a value is finite, NaN elsewhere: added to a bounded result, so that it hides no overflow.

    Example:
        >>> nan_where_infinite(torch.tensor([2.0, torch.inf]))
        tensor([0., nan])
    """
    return values - values


class Regularizer:
    """A regularizer that does nothing; subclasses override the methods of the moments at which they act.

    Attributes:
        shapes: of the weight tensors in a row of weights; the learner sets it.
        norms: (runs, elements) -> the Euclidean norm of each row, (runs, 1); the learner sets it, as several
            processes may each have a part of a row.
        by_element: whether it can act on a part of a row: what it does to an element depends only on that
            element and on `norms`, 0 with gradient 0 stays 0, and its penalty is a sum over elements.
        strength: the attribute of the option with which it does nothing at 0; '': there is none.
        limit_of: the attribute of the option beyond which nothing may be; '': there is none.

    Example:
        >>> nothing = Regularizer()
        >>> nothing.shapes = [torch.Size([2, 3]), torch.Size([4, 1])]
        >>> row = torch.ones(1, 10)
        >>> nothing.penalty(row), [tuple(part.shape) for part in nothing.matrices(row)]
        (tensor([0.]), [(1, 2, 3), (1, 4, 1)])
    """

    shapes: Sequence[torch.Size] = ()
    norms: Callable[[Tensor], Tensor] = staticmethod(row_norms)
    by_element: ClassVar[bool] = False
    strength: ClassVar[str] = ""
    limit_of: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        """Lets the options of a subclass be checked against their annotations in Python, too."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            checked(f"regularizer.{cls.__name__}")(cls)

    def prepare_(self, model: nn.Module, features: Sequence[int], classes: int) -> None:
        """Changes the model once, after its initialisation.

        Args:
            model: on its device.
            features: shape of one example; (channels, height, width) of an image.
            classes: 0 for regression.

        Raises:
            ValueError: the regularizer does not suit this model or these data.
        """

    def examples(self, x: Tensor, targets: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Transforms the batch of one run before it is trained on.

        Args:
            x: (batch, *features), not to be changed in place.
            targets: (batch, classes) probabilities, or (batch,) real targets, not to be changed in place.
            noise: generator to draw from, on the device of x.

        Returns:
            Inputs and targets of the same shapes.
        """
        return x, targets

    def penalty(self, weights: Tensor) -> Tensor:
        """The term it adds to the loss, (runs,); called on logged steps only."""
        return weights.new_zeros(weights.shape[0])

    def before_step_(self, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Acts on the weights' rows between the backward pass and the optimizer's step of rate `rate`."""

    def clip_(self, gradient: Tensor) -> None:
        """Acts on the whole gradient, (runs, parameters), after every `before_step_`."""

    def after_step_(self, weights: Tensor, rate: float) -> None:
        """Acts after the optimizer's step of learning rate `rate`."""

    def state_dict(self) -> dict[str, Any]:
        """State to save in a checkpoint; what is in the model is saved with the model."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""

    def matrices(self, row: Tensor) -> list[Tensor]:
        """Each layer's part of a row of weights, as views (runs, out, in * kernel)."""
        parts = row.split_with_sizes([shape.numel() for shape in self.shapes], 1)
        return [part.view(len(row), shape[0], -1) for part, shape in zip(parts, self.shapes, strict=True)]


def acting(regularizers: Sequence[Regularizer], moment: str) -> list[Regularizer]:
    """The regularizers that override a method, such as 'clip_', so that the others cost no time.

    Example:
        >>> from sweepwise import Regularizer
        >>> class Halved(Regularizer):
        ...     def clip_(self, gradient):
        ...         gradient.div_(2)
        >>> [type(one).__name__ for one in acting([Regularizer(), Halved()], "clip_")]
        ['Halved']
    """
    return [r for r in regularizers if getattr(type(r), moment) is not getattr(Regularizer, moment)]


def refuse_other_than_images(option: str, features: Sequence[int]) -> None:
    """Refuses examples that are not of the shape (channels, height, width).

    Args:
        option: of the regularizer that needs images.
        features: shape of one example.

    Raises:
        ValueError: they are not images.

    Example:
        >>> refuse_other_than_images("flip", (1, 8, 8))
        >>> refuse_other_than_images("flip", (64,))
        Traceback (most recent call last):
            ...
        ValueError: regularizer=flip: must have images ...
    """
    if len(features) != 3:
        raise ValueError(
            f"regularizer={option}: must have images (channels, height, width), not examples of shape "
            f"{tuple(features)}; use data=digits data.image=true, or another data set of images"
        )
