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
from sweepwise.learner.forward import Forward, joined
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
        optimizer: builds the optimizer over the row: (values, gradient, weights, shapes) -> FlatOptimizer.
        regularizers: act in the order given; their `prepare_` has been called.
        noise_seed: of what is drawn during training.
        laid_out: moves the model's parameters into a row: whole, or in parts of several processes.
        accumulate: pieces in which a batch is passed.
        ema: decay of the moving average that is evaluated; 0: the weights themselves are.
        precision: of the forward pass.
        compile: whether the forward pass of a step is compiled.
        world: of the processes that train the model together.

    Attributes:
        model: shares its parameters with the learner.
        weights: how many of the parameters are weights, which decay and are penalised.
        takes_shards: whether a step wants this process's portion of the inputs, not those of the batch.
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
        laid_out: "Callable[[nn.Module], FlatParameters | ShardedParameters]" = FlatParameters,
        accumulate: int = 1,
        ema: float = 0.0,
        precision: Precision = "fp32",
        compile: bool = False,
        world: World = SINGLE_PROCESS,
    ) -> None:
        self.model = model.train()
        self.task = task
        self._regularizers = list(regularizers)
        self.flat = laid_out(model)
        row, gradient = self.flat.values[0], self.flat.gradient[0]
        self.weights = self.flat.all_weights
        self._rows_of_weights()
        self.optimizer = optimizer(
            values=row, gradient=gradient, weights=self.flat.weights, shapes=self.flat.shapes
        )
        self.forward = Forward(model, row, precision, compile)
        self._average = average_of(self.flat.values, ema)
        self._scaling = scaling_of(precision, self.flat.parameters)
        self.noise = Noise(noise_seed, model, row.device, world.rank)
        self._world = world
        self._kept: list[Tensor] = []
        self._before, self._moved = torch.empty_like(self.flat.values), torch.empty_like(self.flat.values)
        self._watched: Watched | None = None
        for regularizer in regularizers:
            regularizer.shapes = self.flat.shapes[: len(self.flat.weight_names)]
            regularizer.norms = self.flat.row_norms
        self.mixes = [(type(r).__name__, r.examples) for r in acting(regularizers, "examples")]
        self.takes_shards = world.size > 1 and not self.mixes  # those that act see the whole batch
        self._passes, self._loss_of = self._passing(accumulate)
        self._before_step = [r.before_step_ for r in acting(regularizers, "before_step_")]
        self._clip = [r.clip_ for r in acting(regularizers, "clip_")]
        self._after_step = [r.after_step_ for r in acting(regularizers, "after_step_")]
        self.acts_before = bool(self._before_step or self._clip)
        self.acts_after = bool(self._after_step or ema)

    def _passing(self, accumulate: int) -> tuple[Passes, Loss]:
        """How a batch is passed, and what outputs are worth of the loss of a batch with given targets."""
        loss, scale = self.task.loss, self._scaling.scale
        if self._world.size == 1:
            return passes(accumulate, loss, scale), loss
        from sweepwise.learner.parallel.ddp import SharedPasses

        shared = SharedPasses(
            self._world,
            self.flat.joined,
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
        heard: dict[str, list[Tensor]] = {}
        forward = self.forward.activations(heard) if watch >= Watch.TENSORS else self.forward.train
        inputs, targets = self.trained_on(x, y, step)
        self._world.enter("a training step")
        objective, outputs = self._passes(forward, inputs, targets)
        loss = self._loss_of(outputs.detach(), y) if self.mixes else objective
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
            penalty = penalty + (objective - loss_of_all) if self.mixes else penalty
        norms = self._scaling.step_(self._update_, float(rates[0]), gradients, by_row, watch)
        if watch:
            moved = torch.sub(self.flat.values, before, out=self._moved)
            cut = self.flat.weight_parts
            sizes = self.flat.norms([*gradients, *cut(before), *cut(moved)])
            (told,) = scalars(
                loss_of_all.view(1),
                penalty.view(1),
                torch.stack(sizes)[:, None],
                norms or [None],
                self.flat.weight_names,
            )
            self._watched = self.seen(told, gradients, before, joined(heard), watch)
        return loss, outputs.unsqueeze(0)

    def _update_(self, rate: float, gradients: Sequence[Tensor], by_row: bool, watch: Watch) -> list[Tensor]:
        """Moves the parameters; returns the gradient's norm before clipping, if it is watched and clipped."""
        norms = self.before_update_(rate, watch)
        if by_row:
            self.optimizer.step_(rate)
        else:
            self.optimizer.step_parts_(rate, gradients)
        self.after_update_(rate)
        return norms

    def before_update_(self, rate: float, watch: Watch) -> list[Tensor]:
        """Acts on the row of gradients; returns its norm before clipping, if it is watched and clipped."""
        for before_step_ in self._before_step:
            before_step_(self._weights, self._weight_gradient, rate)
        norms = self.flat.norms([self.flat.gradient]) if watch and self._clip else []
        for clip_ in self._clip:
            clip_(self.flat.gradient)
        return norms

    def after_update_(self, rate: float) -> None:
        """What acts on the row of parameters once they have moved."""
        for after_step_ in self._after_step:
            after_step_(self._weights, rate)
        self._average.update_()

    def penalty(self) -> Tensor:
        """What the regularizers add to the loss at the present weights, a scalar."""
        own = [regularizer.penalty(self._weights)[0] for regularizer in self._regularizers]
        return sum(self.flat.totals(own), self._weights.new_zeros(()))

    def move_(self, values: Tensor, gradient: Tensor) -> None:
        """Moves the row of parameters into a larger buffer, and reads gradients from another one.

        Args:
            values: (1, parameters).
            gradient: (1, parameters).
        """
        assert isinstance(self.flat, FlatParameters), "several processes train it"
        self.flat.move_(values, gradient)
        self._rows_of_weights()
        self.optimizer.move_(values[0], gradient[0])
        self._average.move_(values)

    def _rows_of_weights(self) -> None:
        self._weights = self.flat.values[:, : self.flat.weights]
        self._weight_gradient = self.flat.gradient[:, : self.flat.weights]

    def trained_on(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The batch as the regularizers want it, with targets that can be mixed if one of them acts."""
        if not self.mixes:
            return x, y
        targets = self.task.soft(y)
        for place, examples in self.mixes:
            x, targets = examples(x, targets, self.noise.at(step, place))
        return x, targets

    def seen(
        self,
        told: Scalars,
        gradients: Sequence[Tensor],
        before: Tensor,
        activations: Mapping[str, Tensor],
        watch: Watch,
    ) -> Watched:
        """What a step says of this run.

        Args:
            told: its numbers.
            gradients: of each parameter.
            before: (1, parameters), the values before the step.
            activations: by layer.
            watch: how much is wanted.
        """
        clipped = {} if told.clipped_norm is None else {"clipped_norm": told.clipped_norm}
        clipping = self._scaling.told() | clipped
        seen = Watched(told.loss, told.penalty, told.gradient_norm, clipping, told.update_ratio)
        if watch < Watch.TENSORS:
            return seen
        shown = self.flat.shown
        return replace(
            seen,
            weights=shown(list(self.flat.views(before).values())),
            gradients=shown(gradients),
            activations=self.flat.beside(activations),
            kinds={name: self.forward.kinds[name] for name in activations},
            units={name: self.forward.units[name] for name in activations},
        )

    def watched(self, run: int) -> Watched:
        """See `Learner.watched`."""
        assert self._watched is not None, "no step has been watched"
        return self._watched

    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Learner.evaluate`."""
        loss, examples = 0.0, 0
        sums: NDArray[np.float64] | float = 0.0
        with self._evaluating() as model:
            for x, y in map(self._shared, batches):
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
        x, y = self._shared(batch)
        return model(x)[: len(y)]

    def _shared(self, batch: Batch) -> Batch:
        """This process's part of a batch that is evaluated; inputs are never none."""
        return self._world.padded_shard(batch[0]), self._world.shard(batch[1])

    @contextmanager
    def _evaluating(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The model in evaluation mode, with the weights that are evaluated."""
        self.flat.begin_()
        self.model.eval()
        try:
            with self.flat.untrained():
                # A layer of one's own may have counted its share.
                self._world.align_("buffers", list(self.model.buffers()))
                with self.averaged():
                    yield self.forward.evaluate
        finally:
            self.model.train()

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the parameters are those that are evaluated: their moving average, if there is one."""
        return self._average.in_place()

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        (total,) = self.flat.totals([self.flat.values.sum(1)])
        sums = total.double().numpy(force=True)
        return np.full_like(sums, math.nan) if self._scaling.exhausted else sums

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return math.hypot(*(norm.item() for norm in self.flat.norms(self.flat.gradients())))

    def save_best(self, run: int) -> None:
        """See `Learner.save_best`."""
        present = [self._average.row, *self.model.buffers()]
        if not self._kept:
            self._kept = [torch.empty_like(tensor) for tensor in present]
        for kept, tensor in zip(self._kept, present, strict=True):
            kept.copy_(tensor)

    def load_best(self, run: int) -> None:
        """See `Learner.load_best`."""
        if self._kept:
            for kept, tensor in zip(self._kept, [self.flat.values, *self.model.buffers()], strict=True):
                tensor.copy_(kept)
            self._average.begin_()

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """See `Learner.model_state_dict`."""
        row = self._average.row if best else self.flat.values
        beside = self._beside()
        if best and self._kept:
            row = self._kept[0]
            beside |= zip(dict(self.model.named_buffers()), self._kept[1:], strict=True)
        averages = {} if best else self._average.named(self.flat.copies)
        copies = {name: tensor.detach().cpu().clone() for name, tensor in beside.items()}
        return {**self.flat.copies(row), **averages, **copies}

    def _beside(self) -> dict[str, Tensor]:
        """What of the model is not in the row, by name: parameters that are not trained, and buffers."""
        frozen = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        return frozen | dict(self.model.named_buffers())

    def state_dict(self, run: int) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return {
            "optimizer": self.optimizer.state_dict(self.flat.whole_row),
            "scaling": self._scaling.state_dict(),
            "regularizers": [copy.deepcopy(regularizer.state_dict()) for regularizer in self._regularizers],
        }

    @torch.no_grad()
    def load_state_dict(
        self, run: int, weights: Mapping[str, Tensor], best: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """See `Learner.load_state_dict`."""
        present = self._beside() | self.flat.views(self.flat.values)
        present |= self._average.named(self.flat.views)
        _copy_(present, self.flat.own(weights))
        if best:
            self.save_best(run)
            buffers = dict(zip(dict(self.model.named_buffers()), self._kept[1:], strict=True))
            kept = self.flat.views(self._kept[0]) | buffers
            own = self.flat.own(best)
            _copy_(kept, {name: own[name] for name in kept.keys() & own.keys()})
        self.optimizer.load_state_dict(state["optimizer"], self.flat.own_row)
        self._scaling.load_state_dict(state["scaling"])
        for regularizer, own in zip(self._regularizers, state["regularizers"], strict=True):
            regularizer.load_state_dict(own)

    def drop(self, run: int) -> None:
        """See `Learner.drop`."""


def _copy_(present: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copies tensors by name; all of them or none."""
    other = [n for n in present.keys() | saved.keys() if n not in saved or n not in present]
    other += [n for n in present.keys() & saved.keys() if present[n].shape != saved[n].shape]
    if other:
        raise ValueError(f"the checkpoint is of another model: {', '.join(sorted(other))}")
    for name, tensor in present.items():
        tensor.copy_(saved[name])
