"""The learner of many runs at once: their parameters are rows of one buffer, and one program steps them all.

Each run keeps the learner that it would have alone, which starts, saves and resumes it; only its row of
parameters lies in the shared buffer. So a run can leave the group and go on alone at any step.
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
from sweepwise.learner.fused.ways import WAYS, Way, program
from sweepwise.learner.module import ModuleLearner
from sweepwise.learner.scalars import scalars
from sweepwise.optimizer.rows import Rows
from sweepwise.seed import seed_globals

ALIGNED = 64  # bytes: rows of a buffer begin where a vector does
EXAMPLES = 256  # of each run that are evaluated at once; fixed, as the rounding of sums depends on it


class FusedLearner:
    """Trains several models of the same shape.

    Args:
        learners: of the runs, each as it would train alone; they belong to the group from now on.
        examples: inputs of a batch, on which the program is compared once with each model alone.
        way: the kind of program that is known to suit these models; None: the first of `ways` that passes the
            comparison, see `program`.
        ways: the kinds that are tried.

    Attributes:
        runs: how many.
        way: the kind of program that trains them.
        takes_shards: False, as one process has all runs.

    Raises:
        Unfusable: they cannot be trained as one program; the text says why.
    """

    takes_shards = False

    def __init__(
        self,
        learners: Sequence[ModuleLearner],
        examples: Tensor,
        way: Way | None = None,
        ways: Sequence[Way] = WAYS,
    ) -> None:
        self._learners = list(learners)
        self.runs = len(learners)
        self._task = learners[0].task
        self._examples = examples
        if any(_layout(learner) != _layout(learners[0]) for learner in learners):
            raise Unfusable("the models do not have the same layers")
        if len({bool(learner.transforms) for learner in learners}) > 1:
            raise Unfusable(
                "some of the runs transform their training examples by a regularizer, others do not"
            )
        self._dropped: set[int] = set()
        self._watched: dict[int, Watched] = {}
        self.way, self._ways = way, ways
        self._draws_as_alone = self.runs == 1 and not _is_ours(learners[0])
        self._stack()

    def _stack(self) -> None:
        """Puts the rows of the runs that still train into one buffer, and builds their program."""
        self._active = [k for k in range(self.runs) if k not in self._dropped]
        self._active_learners = [self._learners[k] for k in self._active]
        if not self._active:
            return
        flat = self._active_learners[0].flat
        width = flat.values.shape[1]
        unit = ALIGNED // flat.values.element_size()
        shape = len(self._active), math.ceil(width / unit) * unit
        buffers = [flat.values.new_zeros(shape) for _ in range(2)]
        self._values, self._gradient = (buffer[:, :width] for buffer in buffers)
        self._before, self._moved = torch.empty_like(self._values), torch.empty_like(self._values)
        for i, learner in enumerate(self._active_learners):
            learner.move_(self._values[i : i + 1], self._gradient[i : i + 1])
        self._parameters = Parameters(self._active_learners, self._values, self._gradient)
        if self.way:
            self._program = self.way(self._active_learners, self._parameters)
        else:
            self._program = program(self._active_learners, self._parameters, self._examples, self._ways)
            self.way = type(self._program)
        self._rows = Rows([learner.optimizer for learner in self._active_learners])
        self._noises = [learner.noise for learner in self._active_learners if learner.noise.wanted]
        self._transforms = bool(self._active_learners[0].transforms)
        self._act_before = [(i, own) for i, own in enumerate(self._active_learners) if own.acts_before]
        self._act_after = [(i, own) for i, own in enumerate(self._active_learners) if own.acts_after]

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.step`."""
        if not self._dropped.isdisjoint(self._active):
            self._stack()
        x, y = (rows.view(len(self._active), -1, *rows.shape[1:]) for rows in (x, y))
        self._begin_noise(step)
        inputs, targets = self._transformed(x, y, step)
        activations: list[dict[str, Tensor]] = [{} for _ in self._active] if watch >= Watch.TENSORS else []
        outputs = self._program.train(inputs, activations)
        objectives, gradient = self._task.losses_and_gradient(outputs, targets)
        self._program.differentiate(gradient)
        outputs = outputs.detach()
        losses = self._task.losses(outputs, y) if self._transforms else objectives
        if watch:
            self._before.copy_(self._values)
            penalties = self._penalties(objectives, losses)
        unclipped_norms = self._update_(rates[self._active].tolist(), watch)
        if watch:
            self._watch(losses, penalties, unclipped_norms, activations, watch)
        return losses, outputs

    def _begin_noise(self, step: int) -> None:
        """Sets every generator to where the step begins."""
        for noise in self._noises:
            noise.begin(step)
        if step == 0 and self._draws_as_alone:
            self._learners[0].noise.begin(0)
        elif step == 0:
            seed_globals(0)  # the program never draws from the global generators, but checkpoints save them

    def _transformed(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The batch of each run as its regularizers change it."""
        if not self._transforms:
            return x, y
        batches = zip(self._active_learners, x.unbind(), y.unbind(), strict=True)
        transformed = [learner.transformed(inputs, targets, step) for learner, inputs, targets in batches]
        inputs, targets = zip(*transformed, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def _penalties(self, objectives: Tensor, losses: Tensor) -> Tensor:
        """What the regularizers add to the loss of each run, (runs,)."""
        penalties = torch.stack([learner.penalty() for learner in self._active_learners])
        return penalties + (objectives - losses) if self._transforms else penalties

    def _update_(self, rates: Sequence[float], watch: Watch) -> list[Tensor | None]:
        """Moves the parameters; returns the gradient norm of each run before clipping, None without."""
        unclipped_norms: list[Tensor | None] = [None] * len(self._active)
        for i, learner in self._act_before:
            unclipped_norms[i] = next(iter(learner.before_update_(rates[i], watch)), None)
        self._rows.step_(rates)
        for i, learner in self._act_after:
            learner.after_update_(rates[i])
        return unclipped_norms

    def _watch(
        self,
        losses: Tensor,
        penalties: Tensor,
        unclipped_norms: Sequence[Tensor | None],
        activations: Sequence[Mapping[str, Tensor]],
        watch: Watch,
    ) -> None:
        """Keeps for each run what `watched` returns of the step."""
        flat, gradients = self._active_learners[0].flat, self._parameters.gradients
        before, moved = self._before, torch.sub(self._values, self._before, out=self._moved)
        parts = [*gradients, *flat.weight_parts(before), *flat.weight_parts(moved)]
        norms = torch.stack(_norms(parts))
        numbers = scalars(losses, penalties, norms, unclipped_norms, flat.weight_names)
        for i, (k, learner) in enumerate(zip(self._active, self._active_learners, strict=True)):
            self._watched[k] = learner.make_watched(
                numbers[i],
                [gradient[i] for gradient in gradients],
                before[i : i + 1],
                activations[i] if activations else {},
                watch,
            )

    def watched(self, run: int) -> Watched:
        """See `Learner.watched`."""
        return self._watched[run]

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Learner.evaluate`."""
        runs, examples = len(self._active), 0
        losses: NDArray[np.float64] | float = 0.0
        sums: NDArray[np.float64] | float = 0.0
        with contextlib.ExitStack() as averages:
            for learner in self._active_learners:
                averages.enter_context(learner.averaged())
            for x, y in (
                (x, y) for batch in batches for x, y in zip(*(t.split(EXAMPLES) for t in batch), strict=True)
            ):
                outputs = self._program.evaluate(x.clone())
                targets = y.expand(runs, -1)
                losses += self._task.losses(outputs, targets).double().numpy(force=True) * len(y)
                sums += self._task.sums(outputs, targets).numpy(force=True)
                examples += len(y)
        return self._over_runs(np.asarray(losses) / examples), self._over_runs(np.asarray(sums) / examples)

    def _over_runs(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(runs, ...) from (active, ...), with NaN for dropped runs."""
        whole = np.full((self.runs, *rows.shape[1:]), np.nan)
        whole[self._active] = rows
        return whole

    def predict(self, run: int, batches: Sequence[Batch]) -> list[Tensor]:
        """See `Learner.predict`."""
        return self._learners[run].predict(0, batches)

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        largest = torch.cat([learner.optimizer.largest() for learner in self._active_learners])
        healthy = torch.stack([largest, *_norms(self._parameters.gradients)]).isfinite().all(0)
        sums = torch.where(healthy, self._values.sum(1), math.nan)
        return self._over_runs(sums.double().numpy(force=True))

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return self._learners[run].gradient_norm(0)

    def save_best(self, run: int) -> None:
        """See `Learner.save_best`."""
        self._learners[run].save_best(0)

    def load_best(self, run: int) -> None:
        """See `Learner.load_best`."""
        self._learners[run].load_best(0)

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Any]:
        """See `Learner.model_state_dict`."""
        return self._learners[run].model_state_dict(0, best=best)

    def state_dict(self, run: int) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return self._learners[run].state_dict(0)

    def load_state_dict(
        self, run: int, weights: Mapping[str, Any], best: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        """See `Learner.load_state_dict`."""
        self._learners[run].load_state_dict(0, weights, best, state)

    def drop(self, run: int) -> None:
        """See `Learner.drop`. The next step removes the run's row from the buffer, so it costs no time."""
        self._dropped.add(run)


def _is_ours(learner: ModuleLearner) -> bool:
    """Whether its regularizers and optimizer are torch's or ours, which draw from no global generator."""
    parts = [*learner.regularizers, learner.optimizer.optimizer]
    return all(type(part).__module__.startswith(("torch.", "sweepwise.")) for part in parts)


def _norms(parts: Sequence[Tensor]) -> list[Tensor]:
    """The Euclidean norm of each run's part, (runs,), of each tensor (runs, ...)."""
    return [torch.linalg.vector_norm(part.view(len(part), -1), dim=1) for part in parts]


def _layout(learner: ModuleLearner) -> list[tuple[str, torch.Size, torch.dtype]]:
    """Names, shapes and types of a model's parameters and buffers."""
    tensors = [*learner.model.named_parameters(), *learner.model.named_buffers()]
    return [(name, tensor.shape, tensor.dtype) for name, tensor in tensors]
