"""The forward and backward pass of several models as one program.

There are two kinds. `StackedProgram` replaces each layer by one of all runs: fast, but every layer must be
known; `ByHand` is one that is faster than the model itself for one run, too. `VectorizedProgram` vectorises
the model's own forward pass by torch.func. `compare` tries whether a program computes what the models compute
alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from sweepwise.learner.forward import concatenated
from sweepwise.learner.fused.chain import are_faster_alone, chain, derivatives
from sweepwise.learner.fused.program import Parameters, Program
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.learner.fused.stacked import stacked
from sweepwise.learner.fused.trial import compare
from sweepwise.learner.linear import Unstackable
from sweepwise.learner.module import ModuleLearner


class StackedProgram:
    """A model with stacked layers; see `stacked` and `chain`."""

    def __init__(self, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        noises = [learner.noise.own() for learner in learners]
        self._model = stacked([learner.model for learner in learners], parameters.gather, noises).train()
        self._links = chain(self._model, learners[0].forward.kinds, parameters.gradient_of)
        self._runs = len(learners)

    def train(self, x: Tensor, activations: Sequence[dict[str, Tensor]]) -> Tensor:
        """See `Program.train`."""
        recorded: dict[str, Tensor] | None = {} if activations else None
        for link in self._links:
            x = link.forward(x, recorded)
        for name, rows in (recorded or {}).items():
            for own, part in zip(activations, rows, strict=True):
                own[name] = part
        return x

    def differentiate(self, gradient: Tensor) -> None:
        """See `Program.differentiate`."""
        by_output: Tensor | None = gradient
        for link in reversed(self._links):
            by_output = link.backward(by_output)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
        """See `Program.evaluate`."""
        self._model.eval()
        x = x.expand(self._runs, *x.shape)
        for link in self._links:
            x = link.forward(x, None)
        self._model.train()
        return x


class ByHand(StackedProgram):
    """One that is faster than autograd for a single run, too.

    Raises:
        Unstackable: it is not.
    """

    def __init__(self, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        super().__init__(learners, parameters)
        if not are_faster_alone(self._links):
            raise Unstackable("it has layers that are no faster without autograd")


class VectorizedProgram:
    """The model's own forward pass, vectorised over the runs by torch.func."""

    def __init__(self, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        self._learners = learners
        model = copy.deepcopy(learners[0].model).to("meta")
        self._model, self._parameters = model, parameters
        self._tensors = parameters.leaves | parameters.frozen | parameters.buffers
        self._outputs = torch.empty(0)

        def one(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(model, dict(tensors), (x,))

        self._all = torch.vmap(one, randomness="error")
        self._all_on_one = torch.vmap(one, in_dims=(0, None), randomness="error")

    def train(self, x: Tensor, activations: Sequence[dict[str, Tensor]]) -> Tensor:
        """See `Program.train`."""
        for own, learner, examples in zip(activations, self._learners, x, strict=False):
            recorded: dict[str, list[Tensor]] = {}
            learner.forward.record_without_trace(recorded, examples)
            own |= concatenated(recorded)
        self._outputs = self._all(self._tensors, x)
        return self._outputs

    def differentiate(self, gradient: Tensor) -> None:
        """See `Program.differentiate`."""
        gradients = derivatives(self._outputs, gradient, list(self._parameters.leaves.values()))
        for part, own in zip(self._parameters.gradients, gradients, strict=True):
            part.zero_() if own is None else part.copy_(own)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
        """See `Program.evaluate`."""
        self._model.eval()
        outputs: Tensor = self._all_on_one(self._tensors, x)
        self._model.train()
        return outputs


Way = Callable[[Sequence[ModuleLearner], Parameters], Program]
WAYS: Sequence[Way] = (StackedProgram, VectorizedProgram)


def program(
    learners: Sequence[ModuleLearner], parameters: Parameters, examples: Tensor, ways: Sequence[Way] = WAYS
) -> Program:
    """The first kind of program that computes what the models of the runs compute alone.

    Args:
        learners: of the runs.
        parameters: of the runs.
        examples: (batch, *features), on which it is compared with the models alone.
        ways: the kinds.

    Raises:
        Unfusable: no kind does; with the reason of each.
    """
    reasons = []
    warnings.filterwarnings(
        "ignore", "There is a performance drop", UserWarning
    )  # such runs are trained alone
    for way in ways:
        try:
            candidate = way(learners, parameters)
            compare(candidate, learners, parameters, examples)
        except (Unstackable, Unfusable) as error:
            reasons.append(str(error))
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
            text = str(error) if not isinstance(error, LookupError) else f"{type(error).__name__} in its pass"
            reasons.append(text.strip().partition("\n")[0].partition(". ")[0].removesuffix("."))
        else:
            return candidate
    raise Unfusable("; ".join(dict.fromkeys(reasons)))
