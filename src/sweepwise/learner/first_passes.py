"""Passes before the training, which show whether the model fits the data and the sizes of the batches."""

import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sweepwise.data import Data
from sweepwise.data.loading import evaluation_batch_size
from sweepwise.errors import UsageError, explained, reason
from sweepwise.learner.known import layers_of
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.passes import differentiate
from sweepwise.learner.without_trace import trial_copy
from sweepwise.seed import has_own_code

MANY = 256  # examples at least that are taken from the data at once: pieces of 1 would be too many


def try_passes(
    learner: ModuleLearner, data: Data, accumulate: int, processes: int, tried: "Tried | None" = None
) -> None:
    """Passes the largest and the smallest batch of the training, and a small one of an evaluation.

    The passes leave no trace. They also show whether the model needs gradients when it is evaluated.

    Args:
        learner: of the model, which is whole and has taken no step.
        data: on any device.
        accumulate: pieces of each batch.
        processes: that share each batch.
        tried: another model that has passed all this: with the same layers this one does, too.

    Raises:
        UsageError: the model cannot pass a batch, or its outputs have another form than the data ask for.
    """
    if tried and tried.layers and tried.layers == layers_of(learner.model):
        learner.forward.needs_gradients = tried.needs_gradients
        return
    sizes = _Sizes(learner.model, len(data.train.y), accumulate, processes)
    least, largest = sizes.of(data.batch_size)
    usual = min(max(largest, 2), len(data.train.y))
    left = [len(part.y) % evaluation_batch_size(part) for part in (data.validation, data.test)]
    with trial_copy(learner.model) as model:
        passes = _FirstPasses(learner, model, data, usual)
        passes.train(usual)
        if least < usual:
            try:
                passes.train(least)
            except UsageError as error:
                raise UsageError([sizes.fault(data.batch_size, str(error))]) from error
        passes.evaluate(min([usual, *(size for size in left if size)]))


@dataclass(frozen=True)
class Tried:
    """A model that has passed what `try_passes` tries.

    Attributes:
        layers: see `layers_of`.
        needs_gradients: see `Forward`.
    """

    layers: Sequence[Any] | None
    needs_gradients: bool

    @classmethod
    def of(cls, learner: ModuleLearner) -> "Tried":
        """The learner's."""
        return cls(layers_of(learner.model), learner.forward.needs_gradients)


class _Sizes:
    """The numbers of examples that a process passes at once in training."""

    def __init__(self, model: nn.Module, examples: int, accumulate: int, processes: int) -> None:
        self._examples, self._accumulate, self._processes = examples, accumulate, processes
        normed = any(isinstance(module, _BatchNorm) for module in model.modules())
        self._floor = 2 if normed and processes > 1 else 1  # it takes its statistics over all processes

    def of(self, batch_size: int, accumulate: int = 0) -> tuple[int, int]:
        """The smallest and the largest number."""
        sizes = set()
        for batch in {min(batch_size, self._examples), self._examples % batch_size} - {0}:
            share = -(-batch // self._processes)
            pieces = min(accumulate or self._accumulate, share)
            sizes |= {-(-share // pieces), batch // self._processes // pieces}
        return max(self._floor, min(sizes)), max(self._floor, *sizes)

    def fault(self, batch_size: int, fault: str) -> str:
        """The fault of a model that passes large batches but not the smallest, with a way out."""
        least, _ = self.of(batch_size)
        why = f"and the model {fault.removeprefix('model: ')}"
        for accumulate in range(self._accumulate - 1, 0, -1):
            if self.of(batch_size, accumulate)[0] > least:
                return (
                    f"trainer.accumulate={self._accumulate}: leaves a piece of {_counted(least)}, {why}; use "
                    f"at most trainer.accumulate={accumulate}"
                )
        sizes = *range(batch_size - 1, 0, -1), *range(batch_size + 1, self._examples + 1)
        other = next((size for size in sizes if self.of(size)[0] > least), batch_size)
        whose = "a last batch" if self._processes == 1 else "a process in a last batch"
        return (
            f"data.batch_size={batch_size}: leaves {whose} of {_counted(least)}, {why}; use another one, "
            f"such as data.batch_size={other}"
        )


def _counted(number: int) -> str:
    return f"{number} example{'' if number == 1 else 's'}"


class _FirstPasses:
    """The passes of a learner's model, or of a copy, on the first examples of the training part."""

    def __init__(self, learner: ModuleLearner, model: nn.Module, data: Data, most: int) -> None:
        self._forward, self._model, self._data = learner.forward, model, data
        self._pass = learner.forward.pass_of(model)
        self._may_be_sparse = has_own_code(model) or any(getattr(m, "sparse", 0) for m in model.modules())
        x, _ = data.sample(max(most, MANY))
        self._x = x[:most].to(next(model.parameters()).device)

    def train(self, size: int) -> None:
        """A pass of so many examples in training."""
        self._model.train()
        outputs = self._checked(size, torch.enable_grad(), "training")
        if not outputs.requires_grad:
            raise UsageError(
                [
                    "model: its outputs must depend on trained parameters, and have no gradient; it must "
                    "neither detach them nor compute them under torch.no_grad"
                ]
            )
        if self._may_be_sparse:
            self._refuse_sparse(outputs)

    def _refuse_sparse(self, outputs: Tensor) -> None:
        """Refuses gradients that cannot lie in a row; leaves none in the parameters."""
        trained = {name: own for name, own in self._model.named_parameters() if own.requires_grad}
        try:
            differentiate(outputs.sum())  # autograd.grad does not suit reentrant checkpoints
            gradients = {name: own.grad for name, own in trained.items() if own.grad is not None}
        except Exception as error:
            raise UsageError(
                [f"model: cannot pass gradients back ({reason(error)}{_place(error)})"]
            ) from error
        finally:
            for own in trained.values():
                own.grad = None
        if sparse := [name for name, own in gradients.items() if own.layout is not torch.strided]:
            raise UsageError(
                [
                    f"model: the gradient of {', '.join(sparse)} is sparse, and optimizers take dense ones "
                    "only; use sparse=False in its layer, or in the call of torch.nn.functional.embedding"
                ]
            )

    def evaluate(self, size: int) -> None:
        """A pass of so many examples in evaluation; with gradients, if the model cannot do without."""
        forward = self._forward
        self._model.eval()
        try:
            self._checked(size, forward.evaluating(), "evaluation")
        except UsageError as error:
            if forward.needs_gradients or not error.__cause__:
                raise
            forward.needs_gradients = True
            try:
                self._checked(size, forward.evaluating(), "evaluation")
            except UsageError:
                forward.needs_gradients = False
                raise error from error.__cause__

    def _checked(self, size: int, grad: AbstractContextManager[Any], mode: str) -> Tensor:
        try:
            with grad:
                outputs: object = self._pass(self._x[:size].clone())
        except Exception as error:
            if explained(error):
                raise
            shape = " x ".join(map(str, self._data.features))
            raise UsageError(
                [
                    f"model: cannot pass {_counted(size)} of {shape} features in {mode} ({reason(error)}"
                    f"{_place(error)}){self._other_type()}"
                ]
            ) from error
        return self._of_right_form(outputs, size)

    def _other_type(self) -> str:
        """A way out, if parameters and examples have different types."""
        own, given = next(self._model.parameters()).dtype, self._x.dtype
        if own == given or not given.is_floating_point:
            return ""
        names = [str(dtype).removeprefix("torch.") for dtype in (own, given)]
        return (
            f"; its parameters are {names[0]} and the examples {names[1]}, so use model.to(torch.{names[1]})"
        )

    def _of_right_form(self, outputs: object, size: int) -> Tensor:
        """The outputs, if they are a tensor of numbers (size, outputs); (size,) will do for one output."""
        wanted = self._data.outputs
        asked = f"{wanted} classes" if self._data.classes else "1 target"
        rule = f"model: must return a tensor ({size}, {wanted}) for {_counted(size)} and {asked}, and returns"
        if not isinstance(outputs, Tensor):
            raise UsageError([f"{rule} {type(outputs).__name__}; return the outputs alone"])
        flat = self._data.classes == 0 and outputs.shape == (size,)
        if outputs.shape != (size, wanted) and not flat:
            raise UsageError([f"{rule} ({', '.join(map(str, outputs.shape))})"])
        if not outputs.is_floating_point():
            raise UsageError([f"{rule} {str(outputs.dtype).removeprefix('torch.')}; return real numbers"])
        return outputs


def _place(error: BaseException) -> str:
    """The line of the model's own code in which an error was raised, ' at FILE:LINE'; '' if there is none."""
    libraries = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
