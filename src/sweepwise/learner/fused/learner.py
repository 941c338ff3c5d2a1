"""The learner of many runs at once: their parameters are rows of one buffer, their steps are one program.

Each run keeps the learner that it would have alone, which starts it, saves it and takes it up again; only
that its row of parameters lies beside those of the others. So a run of a group is one alone at any time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.data.loading import Batch
from sweepwise.learner.contract import Watch, Watched
from sweepwise.learner.fused.program import Parameters
from sweepwise.learner.fused.purity import Unfusable
from sweepwise.learner.fused.ways import Way, program
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.scalars import scalars
from sweepwise.optimizer.rows import Rows
from sweepwise.seed import seed_globals

ALIGNED = 64  # bytes: rows of a buffer begin where a vector does
EXAMPLES = 256  # of each run that are evaluated at once, whatever their number: sums are rounded by it


class FusedLearner:
    """Trains several models of the same shape.

    Args:
        learners: of the runs, each as it would train alone; they belong to the group from now on.
        examples: x of a batch, with which the runs are compared once.
        way: in which they are known to be trainable; None: it is found by comparing.

    Attributes:
        runs: how many.
        way: in which they are trained.
        takes_shards: no.

    Raises:
        Unfusable: they cannot be trained as one program; the text says why.
    """

    takes_shards = False

    def __init__(self, learners: Sequence[ModuleLearner], examples: Tensor, way: Way | None = None) -> None:
        self._learners = list(learners)
        self.runs = len(learners)
        self._task = learners[0].task
        self._examples = examples
        if any(_layout(learner) != _layout(learners[0]) for learner in learners):
            raise Unfusable("the models have not the same layers")
        if len({bool(learner.mixes) for learner in learners}) > 1:
            raise Unfusable("some of them change the examples that they learn from, others do not")
        self._ended: set[int] = set()
        self._seen: dict[int, Watched] = {}
        self.way = way
        self._stack()

    def _stack(self) -> None:
        """Puts the rows of the runs that still train beside each other, and makes their program."""
        self._active = [k for k in range(self.runs) if k not in self._ended]
        self._own = [self._learners[k] for k in self._active]
        if not self._own:
            return
        flat = self._own[0].flat
        width = flat.values.shape[1]
        unit = ALIGNED // flat.values.element_size()
        buffers = [flat.values.new_zeros(len(self._own), math.ceil(width / unit) * unit) for _ in range(2)]
        self._values, self._gradient = (buffer[:, :width] for buffer in buffers)
        self._before, self._moved = torch.empty_like(self._values), torch.empty_like(self._values)
        for k, learner in enumerate(self._own):
            learner.move_(self._values[k : k + 1], self._gradient[k : k + 1])
        self._parameters = Parameters(self._own, self._values, self._gradient)
        if self.way:
            self._program = self.way(self._own, self._parameters)
        else:
            self._program = program(self._own, self._parameters, self._examples)
            self.way = type(self._program)
        self._rows = Rows([learner.optimizer for learner in self._own])
        self._noises = [own.noise for own in self._own if own.noise.wanted]
        self._mixes = bool(self._own[0].mixes)
        self._acts_before = [(i, own) for i, own in enumerate(self._own) if own.acts_before]
        self._acts_after = [(i, own) for i, own in enumerate(self._own) if own.acts_after]

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.step`."""
        if len(self._own) + len(self._ended) > self.runs:
            self._stack()
        x, y = (rows.view(len(self._own), -1, *rows.shape[1:]) for rows in (x, y))
        own_rates = rates[self._active].tolist()
        for noise in self._noises:
            noise.begin(step)
        if step == 0:
            seed_globals(0)  # nothing of the program draws from them; a checkpoint holds them for each run
        inputs, targets = self._trained_on(x, y, step)
        heard: list[dict[str, Tensor]] = [{} for _ in self._own] if watch >= Watch.TENSORS else []
        outputs = self._program.train(inputs, heard)
        objectives, gradient = self._task.losses_and_gradient(outputs, targets)
        self._program.differentiate(gradient)
        outputs = outputs.detach()
        losses = self._task.losses(outputs, y) if self._mixes else objectives
        if watch:
            self._before.copy_(self._values)
            penalties = torch.stack([learner.penalty() for learner in self._own])
            penalties = penalties + (objectives - losses) if self._mixes else penalties
        unclipped: list[Tensor | None] = [None] * len(self._own)
        for i, own in self._acts_before:
            unclipped[i] = next(iter(own.before_update_(own_rates[i], watch)), None)
        self._rows.step_(own_rates)
        for i, own in self._acts_after:
            own.after_update_(own_rates[i])
        if watch:
            self._watch(losses, penalties, unclipped, heard, watch)
        return losses, outputs

    def _trained_on(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The batches as the regularizers of each run want them."""
        if not self._mixes:
            return x, y
        of_runs = zip(self._own, x.unbind(), y.unbind(), strict=True)
        changed = [own.trained_on(inputs, targets, step) for own, inputs, targets in of_runs]
        inputs, targets = zip(*changed, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def _watch(
        self,
        losses: Tensor,
        penalties: Tensor,
        unclipped: Sequence[Tensor | None],
        heard: Sequence[Mapping[str, Tensor]],
        watch: Watch,
    ) -> None:
        """Notes what the step says of each run."""
        flat, gradients = self._own[0].flat, self._parameters.gradients
        before, moved = self._before, torch.sub(self._values, self._before, out=self._moved)
        parts = [*gradients, *flat.weight_parts(before), *flat.weight_parts(moved)]
        norms = torch.stack([torch.linalg.vector_norm(part.view(len(part), -1), dim=1) for part in parts])
        told = scalars(losses, penalties, norms, unclipped, flat.weight_names)
        for i, (k, own) in enumerate(zip(self._active, self._own, strict=True)):
            self._seen[k] = own.seen(
                told[i],
                [gradient[i] for gradient in gradients],
                before[i : i + 1],
                heard[i] if heard else {},
                watch,
            )

    def watched(self, run: int) -> Watched:
        """See `Learner.watched`."""
        return self._seen[run]

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Learner.evaluate`. Of runs that have been dropped nothing is told, NaN."""
        runs, examples = len(self._own), 0
        losses: NDArray[np.float64] | float = 0.0
        sums: NDArray[np.float64] | float = 0.0
        with contextlib.ExitStack() as averages:
            for own in self._own:
                averages.enter_context(own.averaged())
            for x, y in (
                (x, y) for batch in batches for x, y in zip(*(t.split(EXAMPLES) for t in batch), strict=True)
            ):
                outputs = self._program.evaluate(x)
                targets = y.expand(runs, -1)
                losses += self._task.losses(outputs, targets).double().numpy(force=True) * len(y)
                sums += self._task.sums(outputs, targets).numpy(force=True)
                examples += len(y)
        return self._of_all(np.asarray(losses) / examples), self._of_all(np.asarray(sums) / examples)

    def _of_all(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(runs, ...) from (active, ...), NaN of the others."""
        whole = np.full((self.runs, *rows.shape[1:]), np.nan)
        whole[self._active] = rows
        return whole

    def predict(self, run: int, batches: Sequence[Batch]) -> list[Tensor]:
        """See `Learner.predict`."""
        return self._learners[run].predict(0, batches)

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        return self._of_all(self._values.sum(1).double().numpy(force=True))

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return self._learners[run].gradient_norm(0)

    def save_best(self, run: int) -> None:
        """See `Learner.save_best`."""
        self._learners[run].save_best(0)

    def load_best(self, run: int) -> None:
        """See `Learner.load_best`."""
        self._learners[run].load_best(0)

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """See `Learner.model_state_dict`."""
        return self._learners[run].model_state_dict(0, best=best)

    def state_dict(self, run: int) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return self._learners[run].state_dict(0)

    def load_state_dict(
        self, run: int, weights: Mapping[str, Tensor], best: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """See `Learner.load_state_dict`."""
        self._learners[run].load_state_dict(0, weights, best, state)

    def drop(self, run: int) -> None:
        """See `Learner.drop`. Its row leaves the buffer at the next step, so that no work is done on it."""
        self._ended.add(run)


def _layout(learner: ModuleLearner) -> list[tuple[str, torch.Size, torch.dtype]]:
    """Names, shapes and types of a model's parameters and buffers."""
    tensors = [*learner.model.named_parameters(), *learner.model.named_buffers()]
    return [(name, tensor.shape, tensor.dtype) for name, tensor in tensors]
