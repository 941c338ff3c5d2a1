"""The learner of one run: any `nn.Module`, any `torch.optim` optimizer."""

import copy
import functools
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
from sweepwise.learner.generators import generator_states, place_own_generators
from sweepwise.learner.passes import Loss, Passes, passes
from sweepwise.learner.precision import scaling_of
from sweepwise.learner.scalars import Scalars, scalars
from sweepwise.learner.untrained import Untrained, on_cpu
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer, acting
from sweepwise.seed import Noise, has_own_code
from sweepwise.task import Task

if TYPE_CHECKING:
    from sweepwise.learner.parallel.ddp import SharedPasses
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
        regularizers: in the order in which they act.
        flat: the parameters as a row.
        weights: number of the model's elements that are weights, which decay and are penalised.
        takes_shards: whether `step` takes only this process's part of the inputs, see `Learner`.
        whole: whether a step is one pass of the model as it is, by this process alone: not compiled, at 16
            bits or in pieces.
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
        self.regularizers = list(regularizers)
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
        self._has_own_code = has_own_code(model)
        self._held: dict[int, Tensor] = {}  # values of the parameters that take no part in the step
        self._world = world
        self._untrained = Untrained(model, self.flat.names)
        self._align_: Callable[[], None] = _nothing
        self._shared: SharedPasses | None = None
        self._best: tuple[Tensor, Mapping[str, Any]] | None = None  # the row, and what is not in it
        self._watched: Watched | None = None
        for regularizer in regularizers:
            regularizer.shapes = self.flat.shapes[: len(self.flat.weight_names)]
            regularizer.norms = self.flat.row_norms
        self.transforms = [(type(r).__name__, r.examples) for r in acting(regularizers, "examples")]
        self.takes_shards = world.size > 1 and not self.transforms  # they need the whole batch
        self.whole = world.size == accumulate == 1 and precision == "fp32" and not compile
        self._passes, self._loss_of = self._passing(accumulate)
        self._before_step = [r.before_step_ for r in acting(regularizers, "before_step_")]
        self._clip = [r.clip_ for r in acting(regularizers, "clip_")]
        self._after_step = [r.after_step_ for r in acting(regularizers, "after_step_")]
        self.acts_before = bool(self._before_step or self._clip)
        self.acts_after = bool(self._after_step or ema)

    @functools.cached_property
    def _room(self) -> tuple[Tensor, Tensor]:
        """For the values before a watched step, and for their change; in a group it is the group's."""
        return torch.empty_like(self.flat.values), torch.empty_like(self.flat.values)

    def _passing(self, accumulate: int) -> tuple[Passes, Loss]:
        """The forward and backward pass of a batch, and the reported loss of (outputs, targets)."""
        loss, scale = self.task.loss, self._scaling.scale
        if self._world.size == 1:
            return passes(accumulate, loss, scale), loss
        from sweepwise.learner.parallel.align import Alignment
        from sweepwise.learner.parallel.ddp import SharedPasses

        self._align_ = alignment = Alignment(self._world, self._untrained)
        self._shared = SharedPasses(
            self._world,
            self.flat.joint_pass,
            self.forward.train,
            loss,
            scale,
            accumulate=accumulate,
            whole=not self.takes_shards,
            alignment=alignment,
        )
        return self._shared, self._shared.contribution

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
        if self._has_own_code:
            self._settle_()
        loss = self._loss_of(outputs.detach(), y) if self.transforms else objective
        self._scaling.unscale_()
        self._held = {number: self._values_of(number).clone() for number in self._absent()}
        gradients = self.flat.gradients()
        by_row = self.acts_before or bool(self._held) or not self.optimizer.takes_parts
        if by_row:
            gradients = self.flat.collect(gradients)
        if watch:
            before = self._room[0].copy_(self.flat.values)
            penalty = self.penalty()
            loss_of_all, objective = self._world.sum_scalars(
                "the loss of a watched step", [loss.detach(), objective.detach()]
            )
            penalty = penalty + (objective - loss_of_all) if self.transforms else penalty
        norms = self._scaling.step_(self._update_, float(rates[0]), gradients, by_row, watch)
        if watch:
            moved = torch.sub(self.flat.values, before, out=self._room[1])
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
            self._keep_absent_()
            self.optimizer.step_(rate, list(self._held))
        else:
            self.optimizer.step_parts_(rate, gradients)
        self.after_update_(rate)
        return norms

    def _absent(self) -> list[int]:
        """The numbers of the parameters that take no part in the step: its pass does not use them."""
        absent = self.flat.absent()
        if self._shared is None or not self._has_own_code:  # torch's own layers use all that they have
            return absent if self._shared is None else []
        return self._shared.absent(absent, len(self.flat.parameters))

    def _keep_absent_(self) -> None:
        """Undoes what regularizers did to values; to which a penalty gave a gradient, that takes part."""
        if not self._held or not self.acts_before:
            return
        penalised = self.flat.sum_over_processes(
            [part.abs().sum() for part in self.flat.views(self.flat.gradient).values()]
        )
        for number, before in list(self._held.items()):
            if self.flat.parameters[number].requires_grad and penalised[number]:
                del self._held[number]
            else:
                self._values_of(number).copy_(before)

    def _values_of(self, number: int) -> Tensor:
        """A parameter's values, in the row."""
        return self.flat.views(self.flat.values)[self.flat.names[number]]

    def _settle_(self) -> None:
        """Takes account of what the model's own code has done to parameters in its pass."""
        self.flat.rejoin_()
        self._untrained.refuse_thawed()

    def _refuse_replaced(self) -> None:
        """Refuses parameters that the model's own code has put in place of those in the row."""
        if self._has_own_code and isinstance(self.flat, FlatParameters):  # torch replaces sharded ones itself
            self._untrained.refuse_replaced(dict(zip(self.flat.names, self.flat.parameters, strict=True)))

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
        for number, before in self._held.items():
            if not self.flat.parameters[number].requires_grad:  # of those regularizers move none
                self._values_of(number).copy_(before)
        self._average.update_()

    def penalty(self) -> Tensor:
        """What the regularizers add to the loss at the current weights, a scalar."""
        penalties = [regularizer.penalty(self._weights)[0] for regularizer in self.regularizers]
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
                outputs = model(x.clone())[: len(y)].detach()  # a model may change its input
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
        return model(x.clone())[: len(y)].detach()

    def _shard(self, batch: Batch) -> Batch:
        """This process's part of a batch to evaluate; its inputs are padded, so they are never empty."""
        return self._world.padded_shard(batch[0]), self._world.shard(batch[1])

    @contextmanager
    def _evaluating(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """The model's pass in evaluation mode, with the moving average of the parameters if there is one."""
        self.flat.begin_()
        self._refuse_replaced()
        self.model.eval()
        try:
            with self.forward.evaluating():
                self._align_()
                with self.averaged():
                    yield self.forward.evaluate
                    if self._has_own_code:
                        self.flat.rejoin_()
        finally:
            self.model.train()

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the model has the moving average of its parameters, if there is one."""
        return self._average.in_place()

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        total, largest = self.flat.sum_over_processes([self.flat.values.sum(1), self.optimizer.largest()])
        # Gradients that overflow by their scale are no fault: such a step is skipped.
        norms = [] if self._scaling.logged() else self.flat.norms(self.flat.gradients())
        healthy = torch.stack([largest[0], *norms]).isfinite().all()
        sums = torch.where(healthy, total, math.nan).double().numpy(force=True)
        return np.full_like(sums, math.nan) if self._scaling.exhausted else sums

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return math.hypot(*(norm.item() for norm in self.flat.norms(self.flat.gradients())))

    def save_best(self, run: int) -> None:
        """See `Learner.save_best`."""
        self._refuse_replaced()
        row = torch.empty_like(self._average.row) if self._best is None else self._best[0]
        self._best = row.copy_(self._average.row), self._untrained.copied()

    def load_best(self, run: int) -> None:
        """See `Learner.load_best`."""
        if self._best:
            row, others = self._best
            self._untrained.restore_(others)
            self.flat.values.copy_(row)
            self._average.begin_()

    def model_state_dict(self, run: int, *, best: bool) -> dict[str, Any]:
        """See `Learner.model_state_dict`."""
        if not best:
            self._refuse_replaced()
        row = self._average.row if best else self.flat.values
        if best and self._best:
            row, others = self._best
        else:
            others = self._untrained.tensors() | self._untrained.extra()
        averages = {} if best else self._average.named(self.flat.gather_row_by_name)
        copies = {name: on_cpu(value) for name, value in others.items()}
        return {**self.flat.gather_row_by_name(row), **averages, **copies}

    def state_dict(self, run: int) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return {
            "optimizer": self.optimizer.state_dict(self.flat.gather_row),
            "scaling": self._scaling.state_dict(),
            "regularizers": [copy.deepcopy(regularizer.state_dict()) for regularizer in self.regularizers],
            "ready_order": self.flat.ready_order,
            "aligns": self._shared is not None and self._shared.aligns,
            "generators": generator_states(self.model) if self._has_own_code else {},
        }

    @torch.no_grad()
    def load_state_dict(
        self, run: int, weights: Mapping[str, Any], best: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        """See `Learner.load_state_dict`."""
        rows = self.flat.views(self.flat.values) | self._average.named(self.flat.views)
        saved = self.flat.local_parts(weights)
        others = {name: value for name, value in saved.items() if name not in rows}
        differing = [name for name in rows if name not in saved or saved[name].shape != rows[name].shape]
        if differing := [*differing, *self._untrained.misfits(others)]:
            raise ValueError(f"the checkpoint is of another model: {', '.join(sorted(differing))}")
        self._untrained.restore_(others)
        for name, tensor in rows.items():
            tensor.copy_(saved[name])
        if best:
            row, rest = torch.zeros_like(self.flat.values), dict(self.flat.local_parts(best))
            for name, tensor in self.flat.views(row).items():
                tensor.copy_(rest.pop(name))
            self._best = row, rest
        self.optimizer.load_state_dict(state["optimizer"], self.flat.local_row)
        self._scaling.load_state_dict(state["scaling"])
        for regularizer, own in zip(self.regularizers, state["regularizers"], strict=True):
            regularizer.load_state_dict(own)
        self.flat.ready_order = state.get("ready_order", [])  # checkpoints of before have none
        if self._shared:
            self._shared.aligns = state.get("aligns", False)
        place_own_generators(self.model, state.get("generators", {}))

    def drop(self, run: int) -> None:
        """See `Learner.drop`."""


def _nothing() -> None:
    """Does nothing."""
