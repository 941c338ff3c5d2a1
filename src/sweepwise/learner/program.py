"""The forward and backward pass of several models as one program.

Two ways lead there. `stacked` replaces each layer by one of all runs: fast, where every layer is known. Else
torch.func vectorises the model's own forward pass. Which of them gives what the models give alone, is tried.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.func import functional_call

from sweepwise.learner.forward import joined, listening
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.stacked import Linears, Unstackable, stacked

TRIED = 4  # examples of a batch on which the programs are compared
TINY = 1e-30
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-9}  # relative to the largest output


class Unfusable(Exception):
    """Runs that cannot be trained as one program; the text says why."""


class Program(Protocol):
    """A pass of all runs' models, each on its own examples."""

    def train(self, x: Tensor, heard: Sequence[dict[str, Tensor]]) -> Tensor:
        """Outputs (runs, batch, outputs) of x, (runs * batch, *features), in training.

        Args:
            x: examples of each run after those of the one before.
            heard: empty, or a dictionary for each run, that takes what its layers put out.
        """
        ...

    def evaluate(self, x: Tensor) -> Tensor:
        """The same in evaluation."""
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
        self._every = tuple(leaf.requires_grad_() for leaf in leaves)
        self._ones = values.new_ones(runs)
        self.leaves = dict(zip(flat.names, self._every, strict=True))
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

    def differentiate(self, objectives: Tensor) -> None:
        """Differentiates each run's objective, (runs,), by its own parameters.

        What is found is in `gradients` then.
        """
        # As torch.autograd.grad, without what that checks and makes at every call.
        found = Variable._execution_engine.run_backward(
            (objectives,),
            (self._ones,),
            False,
            False,
            self._every,
            allow_unreachable=True,
            accumulate_grad=False,
        )
        for part, own in zip(self.gradients, found, strict=True):
            part.zero_() if own is None else part.copy_(own)


class StackedProgram:
    """Layers of all runs; see `stacked`."""

    def __init__(self, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        noises = [learner.noise.own() for learner in learners]
        self._model = stacked([learner.model for learner in learners], parameters.gather, noises).train()
        self._runs = len(learners)
        kinds = learners[0].forward.kinds
        self._layers = {name: m for name, m in self._model.named_modules() if name in kinds}
        name, last = list(self._model.named_modules())[-1]
        in_turn = isinstance(self._model, (nn.Sequential, Linears)) and "." not in name
        self._last = name if in_turn and isinstance(last, Linears) else None
        if self._last is not None:
            last.last = True

    def train(self, x: Tensor, heard: Sequence[dict[str, Tensor]]) -> Tensor:
        """See `Program.train`."""
        if not heard:
            return self._outputs(self._model(x))
        outputs, put_out = listening(self._layers, lambda: self._model(x))
        for name, output in put_out.items():
            apart = output if name == self._last else self._apart(output)
            for own, part in zip(heard, apart, strict=True):
                own[name] = part
        return self._outputs(outputs)

    def evaluate(self, x: Tensor) -> Tensor:
        """See `Program.evaluate`."""
        self._model.eval()
        outputs = self._outputs(self._model(x))
        self._model.train()
        return outputs

    def _outputs(self, outputs: Tensor) -> Tensor:
        return outputs if self._last is not None else self._apart(outputs)

    def _apart(self, outputs: Tensor) -> Tensor:
        """(runs, batch, ...) from (runs * batch, ...)."""
        return outputs.view(self._runs, -1, *outputs.shape[1:])


class VectorizedProgram:
    """The model's own forward pass, vectorised over the runs by torch.func."""

    def __init__(self, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        self._learners, self._runs = learners, len(learners)
        model = copy.deepcopy(learners[0].model).to("meta")
        self._model = model
        self._tensors = parameters.leaves | parameters.frozen | parameters.buffers

        def one(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(model, dict(tensors), (x,))

        self._all = torch.vmap(one, randomness="error")

    def train(self, x: Tensor, heard: Sequence[dict[str, Tensor]]) -> Tensor:
        """See `Program.train`."""
        rows = x.view(self._runs, -1, *x.shape[1:])
        for own, learner, examples in zip(heard, self._learners, rows, strict=False):
            put_out: dict[str, list[Tensor]] = {}
            learner.forward.without_trace(put_out, examples)
            own |= joined(put_out)
        return self._all(self._tensors, rows)

    def evaluate(self, x: Tensor) -> Tensor:
        """See `Program.evaluate`."""
        self._model.eval()
        outputs: Tensor = self._all(self._tensors, x.view(self._runs, -1, *x.shape[1:]))
        self._model.train()
        return outputs


WAYS: Sequence[Callable[[Sequence[ModuleLearner], Parameters], Program]] = (StackedProgram, VectorizedProgram)


def program(learners: Sequence[ModuleLearner], parameters: Parameters, examples: Tensor) -> Program:
    """The pass of several runs' models.

    Args:
        learners: of the runs.
        parameters: theirs.
        examples: (examples, *features), on which the pass is compared with those of the models alone.

    Raises:
        Unfusable: no way gives what the models give alone.
    """
    reasons = []
    warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # such runs train alone
    for way in WAYS:
        try:
            found = way(learners, parameters)
            _compare(found, learners, examples[:TRIED])
        except (Unstackable, Unfusable) as error:
            reasons.append(str(error))
        except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
            reasons.append(str(error).strip().partition("\n")[0])
        else:
            return found
    raise Unfusable("; ".join(dict.fromkeys(reasons)))


def _compare(found: Program, learners: Sequence[ModuleLearner], examples: Tensor) -> None:
    """Whether a program gives what each model gives alone; leaves no trace.

    Raises:
        Unfusable: it does not.
    """
    tolerance = ROUNDING.get(examples.dtype, 1e-2)
    rows = examples.repeat(len(learners), *[1] * (examples.ndim - 1))
    buffers = [(buffer, buffer.clone()) for learner in learners for buffer in learner.model.buffers()]
    before = torch.get_rng_state()
    alike = []
    try:
        with torch.no_grad():
            for training in (False, True):
                for learner in learners:
                    learner.noise.begin(0)
                outputs = found.train(rows, []) if training else found.evaluate(rows)
                if not torch.equal(torch.get_rng_state(), before):
                    raise Unfusable(
                        "its forward pass draws random numbers that do not come from a known layer"
                    )
                for own, learner in zip(outputs, learners, strict=True):
                    _put(buffers)
                    torch.manual_seed(learner.noise.of_step(0))
                    alike.append(_near(own, learner.model.train(training)(examples), tolerance))
                torch.set_rng_state(before)
    finally:
        _put(buffers)
        torch.set_rng_state(before)
        for learner in learners:
            learner.model.train()
    if not all(alike):
        raise Unfusable("its forward pass treats examples of a batch not each by itself")


def _put(buffers: Sequence[tuple[Tensor, Tensor]]) -> None:
    for buffer, kept in buffers:
        buffer.copy_(kept)


def _near(outputs: Tensor, alone: Tensor, tolerance: float) -> bool:
    """Whether outputs agree; what is not finite must be so in both."""
    finite = alone.isfinite()
    if outputs.shape != alone.shape or not torch.equal(outputs.isfinite(), finite):
        return False
    scale = alone[finite].abs().max() if finite.any() else 0.0
    return bool((outputs - alone)[finite].abs().le(tolerance * scale + TINY).all())
