"""The learner of one run: any `nn.Module`, any `torch.optim` optimizer."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweepwise.data.loading import Batch
from sweepwise.learner import Precision, Watch, Watched
from sweepwise.learner.average import average_of
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.forward import Forward, joined
from sweepwise.learner.passes import Loss, Passes, passes
from sweepwise.learner.precision import scaling_of
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer, acting
from sweepwise.seed import Noise
from sweepwise.task import Task
from sweepwise.world import ALONE, World

if TYPE_CHECKING:
    from sweepwise.learner.sharded import ShardedParameters


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
        takes_portions: whether a step wants this process's portion of the inputs, not those of the batch.
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
        world: World = ALONE,
    ) -> None:
        self.model = model.train()
        self._task = task
        self._regularizers = list(regularizers)
        self._flat = laid_out(model)
        row, gradient = self._flat.values[0], self._flat.gradient[0]
        self.weights = self._flat.all_weights
        self._weights = self._flat.values[:, : self._flat.weights]
        self._weight_gradient = self._flat.gradient[:, : self._flat.weights]
        self._optimizer = optimizer(
            values=row, gradient=gradient, weights=self._flat.weights, shapes=self._flat.shapes
        )
        self._forward = Forward(model, row, precision, compile)
        self._average = average_of(self._flat.values, ema)
        self._scaling = scaling_of(precision, self._flat.parameters)
        self._noise = Noise(noise_seed, model, row.device, world.rank)
        self._world = world
        self._kept: list[Tensor] = []
        self._before, self._moved = torch.empty_like(self._flat.values), torch.empty_like(self._flat.values)
        self._watched: Watched | None = None
        for regularizer in regularizers:
            regularizer.shapes = self._flat.shapes[: len(self._flat.weight_names)]
            regularizer.norms = self._flat.row_norms
        self._examples = [(type(r).__name__, r.examples) for r in acting(regularizers, "examples")]
        self.takes_portions = world.size > 1 and not self._examples  # those that act see the whole batch
        self._passes, self._loss_of = self._passing(accumulate)
        self._before_step = [r.before_step_ for r in acting(regularizers, "before_step_")]
        self._clip = [r.clip_ for r in acting(regularizers, "clip_")]
        self._after_step = [r.after_step_ for r in acting(regularizers, "after_step_")]
        self._by_row = bool(self._before_step or self._clip)

    def _passing(self, accumulate: int) -> tuple[Passes, Loss]:
        """How a batch is passed, and what outputs are worth of the loss of a batch with given targets."""
        loss, scale = self._task.loss, self._scaling.scale
        if self._world.size == 1:
            return passes(accumulate, loss, scale), loss
        from sweepwise.learner.shared import SharedPasses  # imports torch's half of distributed computing

        shared = SharedPasses(
            self._world,
            self._flat.joined,
            self._forward.train,
            loss,
            scale,
            accumulate=accumulate,
            whole=not self.takes_portions,
        )
        return shared, shared.contribution

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.step`."""
        self._noise.begin(step)
        self._flat.forget_gradients()
        heard: dict[str, list[Tensor]] = {}
        forward = self._forward.heard(heard) if watch >= Watch.TENSORS else self._forward.train
        inputs, targets = self._trained_on(x, y, step)
        objective, outputs = self._passes(forward, inputs, targets)
        loss = self._loss_of(outputs.detach(), y) if self._examples else objective
        self._scaling.unscale_()
        gradients = self._flat.gradients()
        by_row = self._by_row or not self._optimizer.takes_parts
        if by_row:
            gradients = self._flat.collect(gradients)
        if watch:
            before = self._before.copy_(self._flat.values)
            own = [regularizer.penalty(self._weights)[0] for regularizer in self._regularizers]
            penalties = self._flat.totals(own)
            loss_of_all, objective = self._world.seen([loss.detach(), objective.detach()])
            penalties += [objective - loss_of_all] if self._examples else []
        norms = self._scaling.step_(self._update_, float(rates[0]), gradients, by_row, watch)
        if watch:
            scalars = self._scalars(loss_of_all, penalties, gradients, before, norms)
            self._watched = Watched(*scalars, *self._tensors(gradients, before, joined(heard), watch))
        return loss, outputs

    def _update_(self, rate: float, gradients: Sequence[Tensor], by_row: bool, watch: Watch) -> list[Tensor]:
        """Moves the parameters; returns the gradient's norm before clipping, if it is watched and clipped."""
        for before_step_ in self._before_step:
            before_step_(self._weights, self._weight_gradient, rate)
        norms = self._flat.norms([self._flat.gradient]) if watch and self._clip else []
        for clip_ in self._clip:
            clip_(self._flat.gradient)
        if by_row:
            self._optimizer.step_(rate)
        else:
            self._optimizer.step_parts_(rate, gradients)
        for after_step_ in self._after_step:
            after_step_(self._weights, rate)
        self._average.update_()
        return norms

    def _trained_on(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The batch as the regularizers want it, with targets that can be mixed if one of them acts."""
        if not self._examples:
            return x, y
        targets = self._task.soft(y)
        for place, examples in self._examples:
            x, targets = examples(x, targets, self._noise.at(step, place))
        return x, targets

    def _scalars(
        self,
        loss: Tensor,
        penalties: list[Tensor],
        gradients: Sequence[Tensor],
        before: Tensor,
        unclipped: list[Tensor],
    ) -> tuple[float, float, float, dict[str, float], dict[str, float]]:
        """Loss, penalty, gradient norm, what was done to the gradient, update ratios; with one transfer."""
        flat, names = self._flat, self._flat.weight_names
        moved = torch.sub(flat.values, before, out=self._moved)
        parts = (*gradients, *flat.weight_parts(before), *flat.weight_parts(moved))
        numbers = torch.stack([loss, *penalties, *flat.norms(parts), *unclipped]).tolist()
        value, terms, norms = numbers[0], numbers[1 : 1 + len(penalties)], numbers[1 + len(penalties) :]
        clipped = math.hypot(*norms[: len(gradients)])
        sizes = norms[len(gradients) :]
        ratios = {name: _ratio(sizes[len(names) + i], sizes[i]) for i, name in enumerate(names)}
        told = self._scaling.told()
        if unclipped:
            return value, sum(terms), norms[-1], told | {"clipped_norm": clipped}, ratios
        return value, sum(terms), clipped, told, ratios

    def _tensors(
        self, gradients: Sequence[Tensor], before: Tensor, activations: dict[str, Tensor], watch: Watch
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor], dict[str, str]]:
        """Weights, gradients, activations and the kinds of their layers, if they are watched."""
        if watch < Watch.TENSORS:
            return {}, {}, {}, {}
        kinds = {name: self._forward.kinds[name] for name in activations}
        weights = self._flat.shown(list(self._flat.views(before).values()))
        return weights, self._flat.shown(gradients), self._flat.beside(activations), kinds

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
                loss += self._task.loss(outputs, y).item() * len(y) if len(y) else 0.0
                sums += self._task.sums(outputs[None], y[None]).numpy(force=True)
                examples += len(y)
        loss, *terms, examples = self._world.total(np.array([loss, *np.ravel(sums), examples]))
        return np.array([loss / examples]), np.array([terms]) / examples

    def predict(self, batches: Sequence[Batch]) -> list[Tensor]:
        """See `Learner.predict`."""
        with self._evaluating() as model:
            return [self._world.whole(self._outputs(model, batch), len(batch[1]))[None] for batch in batches]

    def _outputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        x, y = self._shared(batch)
        return model(x)[: len(y)]

    def _shared(self, batch: Batch) -> Batch:
        """This process's part of a batch that is evaluated; inputs are never none."""
        return self._world.portion(batch[0]), self._world.share(batch[1])

    @contextmanager
    def _evaluating(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The model in evaluation mode, with the weights that are evaluated."""
        self._flat.begin_()
        self.model.eval()
        try:
            with self._flat.untrained():
                # A layer of one's own may have counted its share.
                self._world.align_(list(self.model.buffers()))
                with self._average.in_place():
                    yield self._forward.evaluate
        finally:
            self.model.train()

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        (total,) = self._flat.totals([self._flat.values.sum(1)])
        sums = total.double().numpy(force=True)
        return np.full_like(sums, math.nan) if self._scaling.exhausted else sums

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return math.hypot(*(norm.item() for norm in self._flat.norms(self._flat.gradients())))

    def keep(self, run: int) -> None:
        """See `Learner.keep`."""
        present = [self._average.row, *self.model.buffers()]
        if not self._kept:
            self._kept = [torch.empty_like(tensor) for tensor in present]
        for kept, tensor in zip(self._kept, present, strict=True):
            kept.copy_(tensor)

    def restore(self, run: int) -> None:
        """See `Learner.restore`."""
        if self._kept:
            for kept, tensor in zip(self._kept, [self._flat.values, *self.model.buffers()], strict=True):
                tensor.copy_(kept)
            self._average.begin_()

    def state(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """See `Learner.state`."""
        row = self._average.row if best else self._flat.values
        beside = self._beside()
        if best and self._kept:
            row = self._kept[0]
            beside |= zip(dict(self.model.named_buffers()), self._kept[1:], strict=True)
        averages = {} if best else self._average.named(self._flat.copies)
        copies = {name: tensor.detach().cpu().clone() for name, tensor in beside.items()}
        return {**self._flat.copies(row), **averages, **copies}

    def _beside(self) -> dict[str, Tensor]:
        """What of the model is not in the row, by name: parameters that are not trained, and buffers."""
        frozen = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        return frozen | dict(self.model.named_buffers())

    def memory(self, run: int) -> dict[str, Any]:
        """See `Learner.memory`."""
        return {
            "optimizer": self._optimizer.memory(self._flat.whole_row),
            "scaling": self._scaling.memory(),
            "regularizers": [copy.deepcopy(regularizer.memory()) for regularizer in self._regularizers],
        }

    @torch.no_grad()
    def resume(
        self, run: int, weights: Mapping[str, Tensor], best: Mapping[str, Tensor], memory: Mapping[str, Any]
    ) -> None:
        """See `Learner.resume`."""
        present = self._beside() | self._flat.views(self._flat.values)
        present |= self._average.named(self._flat.views)
        _copy_(present, self._flat.own(weights))
        if best:
            self.keep(run)
            buffers = dict(zip(dict(self.model.named_buffers()), self._kept[1:], strict=True))
            kept = self._flat.views(self._kept[0]) | buffers
            own = self._flat.own(best)
            _copy_(kept, {name: own[name] for name in kept.keys() & own.keys()})
        self._optimizer.remember(memory["optimizer"], self._flat.own_row)
        self._scaling.remember(memory["scaling"])
        for regularizer, own in zip(self._regularizers, memory["regularizers"], strict=True):
            regularizer.remember(own)

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


def _ratio(update: float, weights: float) -> float:
    if weights:
        return update / weights
    return math.inf if update else 0.0
