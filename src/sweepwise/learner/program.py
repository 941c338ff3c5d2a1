"""The forward and backward pass of several models as one program.

Two ways lead there. `stacked` replaces each layer by one of all runs: fast, where every layer is known. Else
torch.func vectorises the model's own forward pass. Which of them does what the models do alone, is tried; see
`trial`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.func import functional_call

from sweepwise.learner.chain import chain, derivatives
from sweepwise.learner.forward import joined
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.purity import Unfusable
from sweepwise.learner.stacked import Unstackable, stacked
from sweepwise.learner.trial import compare


class Program(Protocol):
    """A pass of all runs' models, each on its own examples."""

    def train(self, x: Tensor, heard: Sequence[dict[str, Tensor]]) -> Tensor:
        """Outputs (runs, batch, outputs) of x, (runs, batch, *features), in training.

        Args:
            x: examples of each run.
            heard: empty, or a dictionary for each run, that takes what its layers put out.
        """
        ...

    def differentiate(self, gradient: Tensor) -> None:
        """Finds the gradients of all parameters from that by the outputs, which may be overwritten."""
        ...

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (runs, batch, outputs) of x, (batch, *features), of each model in evaluation."""
        ...


class Parameters:
    """The parameters of several runs as one tensor each, (runs, *shape): views of the rows of their buffer.

    Args:
        learners: of the runs, whose rows lie in `values`.
        values: (runs, parameters).
        gradient: (runs, parameters).

    Attributes:
        gradients: of each parameter, (runs, *shape), views of `gradient`.
        leaves: by name; what is differentiated.
        frozen: parameters that are not trained.
        buffers: by name; the models' own are views of these from now on.
    """

    def __init__(self, learners: Sequence[ModuleLearner], values: Tensor, gradient: Tensor) -> None:
        runs = len(learners)
        self._models = [learner.model for learner in learners]
        flat = learners[0].flat
        leaves, self.gradients = (
            [
                part.detach().view(runs, *shape)
                for part, shape in zip(
                    rows.split([s.numel() for s in flat.shapes], 1), flat.shapes, strict=True
                )
            ]
            for rows in (values, gradient)
        )
        for leaf in leaves:
            leaf.requires_grad_()
        self.leaves = dict(zip(flat.names, leaves, strict=True))
        self._gradient_of = {
            id(leaf): gradient for leaf, gradient in zip(leaves, self.gradients, strict=True)
        }
        named = [dict(model.named_parameters()) for model in self._models]
        self.frozen = {
            name: torch.stack([own[name].detach() for own in named])
            for name in named[0]
            if name not in self.leaves
        }
        self.buffers = {name: self._buffer(name) for name, _ in self._models[0].named_buffers()}
        every = self.leaves | self.frozen
        model = self._models[0]
        self._at = {id(tensor): every[name] for name, tensor in model.named_parameters()}
        self._at |= {id(tensor): self.buffers[name] for name, tensor in model.named_buffers()}

    def _buffer(self, name: str) -> Tensor:
        path, _, last = name.rpartition(".")
        owners = [model.get_submodule(path) for model in self._models]
        together = torch.stack([owner.get_buffer(last) for owner in owners])
        for owner, own in zip(owners, together.unbind(), strict=True):
            owner._buffers[last] = own
        return together

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensors that the runs have at one place, as one: (runs, *shape)."""
        return self._at[id(tensors[0])]

    def gradient_of(self, leaf: Tensor) -> Tensor | None:
        """Where the gradient of what `gather` gave belongs; None if it is frozen, or a buffer."""
        return self._gradient_of.get(id(leaf))


class StackedProgram:
    """Layers of all runs; see `stacked` and `chain`."""

    def __init__(self, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        noises = [learner.noise.own() for learner in learners]
        self._model = stacked([learner.model for learner in learners], parameters.gather, noises).train()
        self._links = chain(self._model, learners[0].forward.kinds, parameters.gradient_of)
        self._runs = len(learners)

    def train(self, x: Tensor, heard: Sequence[dict[str, Tensor]]) -> Tensor:
        """See `Program.train`."""
        put_out: dict[str, Tensor] | None = {} if heard else None
        for link in self._links:
            x = link.forward(x, put_out)
        for name, rows in (put_out or {}).items():
            for own, part in zip(heard, rows, strict=True):
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

    def train(self, x: Tensor, heard: Sequence[dict[str, Tensor]]) -> Tensor:
        """See `Program.train`."""
        for own, learner, examples in zip(heard, self._learners, x, strict=False):
            put_out: dict[str, list[Tensor]] = {}
            learner.forward.without_trace(put_out, examples)
            own |= joined(put_out)
        self._outputs = self._all(self._tensors, x)
        return self._outputs

    def differentiate(self, gradient: Tensor) -> None:
        """See `Program.differentiate`."""
        found = derivatives(self._outputs, gradient, list(self._parameters.leaves.values()))
        for part, own in zip(self._parameters.gradients, found, strict=True):
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


def program(learners: Sequence[ModuleLearner], parameters: Parameters, examples: Tensor) -> Program:
    """The pass of several runs' models.

    Args:
        learners: of the runs.
        parameters: theirs.
        examples: (batch, *features), on which the pass is compared with those of the models alone.

    Raises:
        Unfusable: no way gives what the models give alone.
    """
    reasons = []
    warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # such runs train alone
    for way in WAYS:
        try:
            found = way(learners, parameters)
            compare(found, learners, parameters, examples)
        except (Unstackable, Unfusable) as error:
            reasons.append(str(error))
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
            text = str(error) if not isinstance(error, LookupError) else f"{type(error).__name__} in its pass"
            reasons.append(text.strip().partition("\n")[0].partition(". ")[0].removesuffix("."))
        else:
            return found
    raise Unfusable("; ".join(dict.fromkeys(reasons)))
