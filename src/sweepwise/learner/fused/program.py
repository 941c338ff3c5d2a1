"""The program of a fused learner: a forward and backward pass of all runs, and the parameters it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sweepwise.learner.module import ModuleLearner


class Program(Protocol):
    """A pass of all runs' models, each on its own examples."""

    def train(self, x: Tensor, activations: Sequence[dict[str, Tensor]]) -> Tensor:
        """Outputs (runs, batch, outputs) of x, (runs, batch, *features), in training.

        Args:
            x: examples of each run.
            activations: empty, or a dict for each run that receives the outputs of its layers by name.
        """
        ...

    def differentiate(self, gradient: Tensor) -> None:
        """Computes the gradients of all parameters from that by the outputs, which may be overwritten."""
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
        leaves: trainable parameters by name.
        frozen: other parameters by name.
        buffers: by name; the models' own buffers become views of these.
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
        self._stacked = {id(tensor): every[name] for name, tensor in model.named_parameters()}
        self._stacked |= {id(tensor): self.buffers[name] for name, tensor in model.named_buffers()}

    def _buffer(self, name: str) -> Tensor:
        path, _, last = name.rpartition(".")
        owners = [model.get_submodule(path) for model in self._models]
        together = torch.stack([owner.get_buffer(last) for owner in owners])
        for owner, own in zip(owners, together.unbind(), strict=True):
            owner._buffers[last] = own
        return together

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """The same parameter or buffer of all runs as one tensor, (runs, *shape)."""
        return self._stacked[id(tensors[0])]

    def gradient_of(self, leaf: Tensor) -> Tensor | None:
        """Where to write the gradient of a tensor from `gather`; None if it is frozen, or a buffer."""
        return self._gradient_of.get(id(leaf))
