"""The learner of one run: any `nn.Module`, any `torch.optim` optimizer."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweepwise.data.loading import Batch
from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.learner.contract import Precision, Watch, Watched
from sweepwise.learner.ema import average_of
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.forward import Forward, concatenated
from sweepwise.learner.passes import Loss, Passes, passes
from sweepwise.learner.precision import scaling_of
from sweepwise.learner.scalars import Scalars, scalars
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer, acting
from sweepwise.seed import Noise
from sweepwise.task import Task

if TYPE_CHECKING:
    from sweepwise.learner.parallel.fsdp import ShardedParameters


class ModuleLearner:
    """Trains one model.

    Args:
        model: on its device, initialised; features -> outputs.
        task: its loss and metrics.
        optimizer: builds the optimizer of the row: (values, gradient, weights, shapes) -> FlatOptimizer.
        regularizers: act in the order given; their `prepare_` has been called.
        noise_seed: of the random numbers drawn during training.
        flatten: moves the model's parameters into a row: whole ones, or this process's part of each.
        accumulate: pieces in which each batch is passed.
        ema: decay of the moving average that is evaluated; 0: the weights themselves are.
        precision: of the forward pass.
        compile: whether the forward pass of a step is compiled.
        world: of the processes that train the model together.

    Attributes:
        model: shares its parameters with the learner.
        flat: the parameters as a row.
        weights: number of the model's elements that are weights, which decay and are penalised.
        takes_shards: whether `step` takes only this process's part of the inputs, see `Learner`.
        transforms: name and `examples` of each regularizer that changes the training examples.
    """

    runs = 1

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: Callable[..., FlatOptimizer],
        regularizers: Sequence[Regularizer],
        noise_seed: int,
        *,
        flatten: "Callable[[nn.Module], FlatParameters | ShardedParameters]" = FlatParameters,
        accumulate: int = 1,
        ema: float = 0.0,
        precision: Precision = "fp32",
        compile: bool = False,
        world: World = SINGLE_PROCESS,
    ) -> None:
        self.model = model.train()
        self.task = task
        self._regularizers = list(regularizers)
        self.flat = flatten(model)
        row, gradient = self.flat.values[0], self.flat.gradient[0]
        self.weights = self.flat.all_weights
        self._set_weight_rows()
        self.optimizer = optimizer(
            values=row, gradient=gradient, weights=self.flat.weights, shapes=self.flat.shapes
        )
        self.forward = Forward(model, row, precision, compile)
        self._average = average_of(self.flat.values, ema)
        self._scaling = scaling_of(precision, self.flat.parameters)
        self.noise = Noise(noise_seed, model, row.device, world.rank)
        self._world = world
        self._best: list[Tensor] = []
        self._before, self._moved = torch.empty_like(self.flat.values), torch.empty_like(self.flat.values)
        self._watched: Watched | None = None
        for regularizer in regularizers:
            regularizer.shapes = self.flat.shapes[: len(self.flat.weight_names)]
            regularizer.norms = self.flat.row_norms
        self.transforms = [(type(r).__name__, r.examples) for r in acting(regularizers, "examples")]
        self.takes_shards = world.size > 1 and not self.transforms  # they need the whole batch
        self._passes, self._loss_of = self._passing(accumulate)
        self._before_step = [r.before_step_ for r in acting(regularizers, "before_step_")]
        self._clip = [r.clip_ for r in acting(regularizers, "clip_")]
        self._after_step = [r.after_step_ for r in acting(regularizers, "after_step_")]
        self.acts_before = bool(self._before_step or self._clip)
        self.acts_after = bool(self._after_step or ema)

    def _passing(self, accumulate: int) -> tuple[Passes, Loss]:
        """The forward and backward pass of a batch, and the reported loss of (outputs, targets)."""
        loss, scale = self.task.loss, self._scaling.scale
        if self._world.size == 1:
            return passes(accumulate, loss, scale), loss
        from sweepwise.learner.parallel.ddp import SharedPasses

        shared = SharedPasses(
            self._world,
            self.flat.joint_pass,
            self.forward.train,
            loss,
            scale,
            accumulate=accumulate,
            whole=not self.takes_shards,
        )
        return shared, shared.contribution

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.step`."""
        self.noise.begin(step)
        self.flat.forget_gradients()
        activations: dict[str, list[Tensor]] = {}
        forward = self.forward.activations(activations) if watch >= Watch.TENSORS else self.forward.train
        inputs, targets = self.transformed(x, y, step)
        self._world.enter("a training step")
        objective, outputs = self._passes(forward, inputs, targets)
        loss = self._loss_of(outputs.detach(), y) if self.transforms else objective
        self._scaling.unscale_()
        gradients = self.flat.gradients()
        by_row = self.acts_before or not self.optimizer.takes_parts
        if by_row:
            gradients = self.flat.collect(gradients)
        if watch:
            before = self._before.copy_(self.flat.values)
            penalty = self.penalty()
            loss_of_all, objective = self._world.sum_scalars(
                "the loss of a watched step", [loss.detach(), objective.detach()]
            )
            penalty = penalty + (objective - loss_of_all) if self.transforms else penalty
        norms = self._scaling.step_(self._update_, float(rates[0]), gradients, by_row, watch)
        if watch:
            moved = torch.sub(self.flat.values, before, out=self._moved)
            cut = self.flat.weight_parts
            sizes = self.flat.norms([*gradients, *cut(before), *cut(moved)])
            (numbers,) = scalars(
                loss_of_all.view(1),
                penalty.view(1),
                torch.stack(sizes)[:, None],
                norms or [None],
                self.flat.weight_names,
            )
            self._watched = self.make_watched(numbers, gradients, before, concatenated(activations), watch)
        return loss, outputs.unsqueeze(0)

    def _update_(self, rate: float, gradients: Sequence[Tensor], by_row: bool, watch: Watch) -> list[Tensor]:
        """Updates the parameters; returns [the gradient norm before clipping] if it is logged, else []."""
        norms = self.before_update_(rate, watch)
        if by_row:
            self.optimizer.step_(rate)
        else:
            self.optimizer.step_parts_(rate, gradients)
        self.after_update_(rate)
        return norms

    def before_update_(self, rate: float, watch: Watch) -> list[Tensor]:
        """Lets the regularizers act before the optimizer; returns the norm before clipping, as `_update_`."""
        for before_step_ in self._before_step:
            before_step_(self._weights, self._weight_gradient, rate)
        norms = self.flat.norms([self.flat.gradient]) if watch and self._clip else []
        for clip_ in self._clip:
            clip_(self.flat.gradient)
        return norms

    def after_update_(self, rate: float) -> None:
        """Lets the regularizers act on the updated parameters, and updates the moving average."""
        for after_step_ in self._after_step:
            after_step_(self._weights, rate)
        self._average.update_()

    def penalty(self) -> Tensor:
        """What the regularizers add to the loss at the current weights, a scalar."""
        penalties = [regularizer.penalty(self._weights)[0] for regularizer in self._regularizers]
        return sum(self.flat.sum_over_processes(penalties), self._weights.new_zeros(()))

    def move_(self, values: Tensor, gradient: Tensor) -> None:
        """Moves the row of parameters and that of gradients into larger buffers.

        Args:
            values: (1, parameters).
            gradient: (1, parameters).
        """
        assert isinstance(self.flat, FlatParameters), "with several processes the row stays where it is"
        self.flat.move_(values, gradient)
        self._set_weight_rows()
        self.optimizer.move_(values[0], gradient[0])
        self._average.move_(values)

    def _set_weight_rows(self) -> None:
        self._weights = self.flat.values[:, : self.flat.weights]
        self._weight_gradient = self.flat.gradient[:, : self.flat.weights]

    def transformed(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The batch as the regularizers change it; with one that does, targets are `Task.soft`."""
        if not self.transforms:
            return x, y
        targets = self.task.soft(y)
        for name, examples in self.transforms:
            x, targets = examples(x, targets, self.noise.at(step, name))
        return x, targets

    def make_watched(
        self,
        numbers: Scalars,
        gradients: Sequence[Tensor],
        before: Tensor,
        activations: Mapping[str, Tensor],
        watch: Watch,
    ) -> Watched:
        """What `watched` returns of a step of this run.

        Args:
            numbers: loss, norms and the like.
            gradients: of each parameter.
            before: (1, parameters), the values before the step.
            activations: outputs of the layers, by name.
            watch: how much of it is wanted.
        """
        clipped = {} if numbers.clipped_norm is None else {"clipped_norm": numbers.clipped_norm}
        clipping = self._scaling.logged() | clipped
        seen = Watched(numbers.loss, numbers.penalty, numbers.gradient_norm, clipping, numbers.update_ratio)
        if watch < Watch.TENSORS:
            return seen
        gathered = self.flat.gather_tensors
        return replace(
            seen,
            weights=gathered(list(self.flat.views(before).values())),
            gradients=gathered(gradients),
            activations=self.flat.to_gathered_device(activations),
            kinds={name: self.forward.kinds[name] for name in activations},
            units={name: self.forward.units[name] for name in activations},
        )

    def watched(self, run: int) -> Watched:
        """See `Learner.watched`."""
        assert self._watched is not None, "`watched` is called after a watched step"
        return self._watched

    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Learner.evaluate`."""
        loss, examples = 0.0, 0
        sums: NDArray[np.float64] | float = 0.0
        with self._evaluating() as model:
            for x, y in map(self._shard, batches):
                outputs = model(x)[: len(y)]
                loss += self.task.loss(outputs, y).item() * len(y) if len(y) else 0.0
                sums += self.task.sums(outputs[None], y[None]).numpy(force=True)
                examples += len(y)
        loss, *terms, examples = self._world.sum(
            "the metrics of an evaluation", np.array([loss, *np.ravel(sums), examples])
        )
        return np.array([loss / examples]), np.array([terms]) / examples

    def predict(self, run: int, batches: Sequence[Batch]) -> list[Tensor]:
        """See `Learner.predict`."""
        with self._evaluating() as model:
            return [
                self._world.all_gather("outputs", self._outputs(model, batch), len(batch[1]))
                for batch in batches
            ]

    def _outputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        x, y = self._shard(batch)
        return model(x)[: len(y)]

    def _shard(self, batch: Batch) -> Batch:
        """This process's part of a batch to evaluate; its inputs are padded, so they are never empty."""
        return self._world.padded_shard(batch[0]), self._world.shard(batch[1])

    @contextmanager
    def _evaluating(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The model's pass in evaluation mode, with the moving average of the parameters if there is one."""
        self.flat.begin_()
        self.model.eval()
        try:
            with self.flat.untrained():
                # A custom layer may have changed a buffer by the share of its process.
                self._world.align_("buffers", list(self.model.buffers()))
                with self.averaged():
                    yield self.forward.evaluate
        finally:
            self.model.train()

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the model has the moving average of its parameters, if there is one."""
        return self._average.in_place()

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        (total,) = self.flat.sum_over_processes([self.flat.values.sum(1)])
        sums = total.double().numpy(force=True)
        return np.full_like(sums, math.nan) if self._scaling.exhausted else sums

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return math.hypot(*(norm.item() for norm in self.flat.norms(self.flat.gradients())))

    def save_best(self, run: int) -> None:
        """See `Learner.save_best`."""
        current = [self._average.row, *self.model.buffers()]
        if not self._best:
            self._best = [torch.empty_like(tensor) for tensor in current]
        for best, tensor in zip(self._best, current, strict=True):
            best.copy_(tensor)

    def load_best(self, run: int) -> None:
        """See `Learner.load_best`."""
        if self._best:
            for best, tensor in zip(self._best, [self.flat.values, *self.model.buffers()], strict=True):
                tensor.copy_(best)
            self._average.begin_()

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """See `Learner.model_state_dict`."""
        row = self._average.row if best else self.flat.values
        others = self._outside_row()
        if best and self._best:
            row = self._best[0]
            others |= zip(dict(self.model.named_buffers()), self._best[1:], strict=True)
        averages = {} if best else self._average.named(self.flat.gather_row_by_name)
        copies = {name: tensor.detach().cpu().clone() for name, tensor in others.items()}
        return {**self.flat.gather_row_by_name(row), **averages, **copies}

    def _outside_row(self) -> dict[str, Tensor]:
        """The model's tensors that are not in the row, by name: frozen parameters and buffers."""
        frozen = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        return frozen | dict(self.model.named_buffers())

    def state_dict(self, run: int) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return {
            "optimizer": self.optimizer.state_dict(self.flat.gather_row),
            "scaling": self._scaling.state_dict(),
            "regularizers": [copy.deepcopy(regularizer.state_dict()) for regularizer in self._regularizers],
        }

    @torch.no_grad()
    def load_state_dict(
        self, run: int, weights: Mapping[str, Tensor], best: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """See `Learner.load_state_dict`."""
        current = self._outside_row() | self.flat.views(self.flat.values)
        current |= self._average.named(self.flat.views)
        _copy_(current, self.flat.local_parts(weights))
        if best:
            self.save_best(run)
            buffers = dict(zip(dict(self.model.named_buffers()), self._best[1:], strict=True))
            kept = self.flat.views(self._best[0]) | buffers
            saved = self.flat.local_parts(best)
            _copy_(kept, {name: saved[name] for name in kept.keys() & saved.keys()})
        self.optimizer.load_state_dict(state["optimizer"], self.flat.local_row)
        self._scaling.load_state_dict(state["scaling"])
        for regularizer, saved in zip(self._regularizers, state["regularizers"], strict=True):
            regularizer.load_state_dict(saved)

    def drop(self, run: int) -> None:
        """See `Learner.drop`."""


def _copy_(current: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copies saved tensors into the current ones by name; all of them or none."""
    differing = [n for n in current.keys() | saved.keys() if n not in saved or n not in current]
    differing += [n for n in current.keys() & saved.keys() if current[n].shape != saved[n].shape]
    if differing:
        raise ValueError(f"the checkpoint is of another model: {', '.join(sorted(differing))}")
    for name, tensor in current.items():
        tensor.copy_(saved[name])
