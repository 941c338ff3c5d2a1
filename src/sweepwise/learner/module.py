"""The learner of one run: any `nn.Module`, any `torch.optim` optimizer."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.data.loading import Batch
from sweepwise.learner import Watch, Watched
from sweepwise.learner.flat import FlatParameters
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer, acting
from sweepwise.seed import Noise
from sweepwise.task import Task

_UNWATCHED = (_DropoutNd, nn.Flatten, nn.Identity)


class ModuleLearner:
    """Trains one model.

    Args:
        model: on its device, initialised; features -> outputs.
        task: its loss and metrics.
        optimizer: builds the optimizer over the row: (values, gradient, weights, shapes) -> FlatOptimizer.
        regularizers: act in the order given; their `prepare_` has been called.
        noise_seed: of what is drawn during training.

    Attributes:
        model: shares its parameters with the learner.
        weights: how many of the parameters are weights, which decay and are penalised.
    """

    runs = 1

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: Callable[..., FlatOptimizer],
        regularizers: Sequence[Regularizer],
        noise_seed: int,
    ) -> None:
        self.model = model.train()
        self._task = task
        self._regularizers = list(regularizers)
        self._flat = FlatParameters(model)
        row, gradient = self._flat.values[0], self._flat.gradient[0]
        self.weights = self._flat.weights
        self._weights = self._flat.values[:, : self._flat.weights]
        self._weight_gradient = self._flat.gradient[:, : self._flat.weights]
        self._optimizer = optimizer(
            values=row, gradient=gradient, weights=self._flat.weights, shapes=self._flat.shapes
        )
        self._noise = Noise(noise_seed, model, row.device)
        self._kept: list[Tensor] = []
        self._before, self._moved = torch.empty_like(self._flat.values), torch.empty_like(self._flat.values)
        self._watched: Watched | None = None
        self._layers = {
            name: module
            for name, module in model.named_modules()
            if name and not any(True for _ in module.children()) and not isinstance(module, _UNWATCHED)
        }
        for regularizer in regularizers:
            regularizer.shapes = self._flat.shapes[: len(self._flat.weight_names)]
        self._examples = [(type(r).__name__, r.examples) for r in acting(regularizers, "examples")]
        self._before_step = [r.before_step_ for r in acting(regularizers, "before_step_")]
        self._clip = [r.clip_ for r in acting(regularizers, "clip_")]
        self._after_step = [r.after_step_ for r in acting(regularizers, "after_step_")]
        self._by_row = bool(self._before_step or self._clip)

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.step`."""
        rate = float(rates[0])
        self._noise.begin(step)
        self._flat.forget_gradients()
        activations: dict[str, Tensor] = {}
        hooks = self._listen(activations) if watch >= Watch.TENSORS else []
        inputs, targets = self._trained_on(x, y, step)
        outputs = self.model(inputs)
        for hook in hooks:
            hook.remove()
        objective = self._task.loss(outputs, targets)
        objective.backward()
        loss = self._task.loss(outputs.detach(), y) if self._examples else objective
        gradients = self._flat.gradients()
        by_row = self._by_row or not self._optimizer.takes_parts
        if by_row:
            gradients = self._flat.collect(gradients)
        if watch:
            before = self._before.copy_(self._flat.values)
            penalties = [regularizer.penalty(self._weights)[0] for regularizer in self._regularizers]
            penalties += [objective.detach() - loss] if self._examples else []
        for before_step_ in self._before_step:
            before_step_(self._weights, self._weight_gradient, rate)
        norms = [torch.linalg.vector_norm(self._flat.gradient)] if watch and self._clip else []
        for clip_ in self._clip:
            clip_(self._flat.gradient)
        if by_row:
            self._optimizer.step_(rate)
        else:
            self._optimizer.step_parts_(rate, gradients)
        for after_step_ in self._after_step:
            after_step_(self._weights, rate)
        if watch:
            scalars = self._scalars(loss.detach(), penalties, gradients, before, norms)
            self._watched = Watched(*scalars, *self._tensors(gradients, before, activations, watch))
        return loss, outputs

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
        """Loss, penalty, gradient norm, the norm after clipping and update ratios, with one transfer."""
        flat, names = self._flat, self._flat.weight_names
        moved = torch.sub(flat.values, before, out=self._moved)
        parts = (*gradients, *flat.weight_parts(before), *flat.weight_parts(moved))
        numbers = torch.stack([loss, *penalties, *map(torch.linalg.vector_norm, parts), *unclipped]).tolist()
        value, terms, norms = numbers[0], numbers[1 : 1 + len(penalties)], numbers[1 + len(penalties) :]
        clipped = math.hypot(*norms[: len(gradients)])
        sizes = norms[len(gradients) :]
        ratios = {name: _ratio(sizes[len(names) + i], sizes[i]) for i, name in enumerate(names)}
        if unclipped:
            return value, sum(terms), norms[-1], {"clipped_norm": clipped}, ratios
        return value, sum(terms), clipped, {}, ratios

    def _tensors(
        self, gradients: Sequence[Tensor], before: Tensor, activations: dict[str, Tensor], watch: Watch
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
        """Weights, gradients, activations and the kinds of their layers, if they are watched."""
        if watch < Watch.TENSORS:
            return {}, {}, {}, {}
        kinds = {name: type(self._layers[name]).__name__ for name in activations}
        return (
            self._flat.views(before),
            dict(zip(self._flat.names, gradients, strict=True)),
            activations,
            kinds,
        )

    def _listen(self, activations: dict[str, Tensor]) -> list[torch.utils.hooks.RemovableHandle]:
        def listener(name: str) -> Callable[[nn.Module, object, object], None]:
            def listen(module: nn.Module, inputs: object, output: object) -> None:
                if isinstance(output, Tensor):
                    activations[name] = output.detach()

            return listen

        return [module.register_forward_hook(listener(name)) for name, module in self._layers.items()]

    def watched(self, run: int) -> Watched:
        """See `Learner.watched`."""
        assert self._watched is not None, "no step has been watched"
        return self._watched

    @torch.inference_mode()
    def evaluate(self, batches: Sequence[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Learner.evaluate`."""
        self.model.eval()
        loss, examples = 0.0, 0
        sums: NDArray[np.float64] | float = 0.0
        for x, y in batches:
            outputs = self.model(x)
            loss += self._task.loss(outputs, y).item() * len(y)
            sums += self._task.sums(outputs[None], y[None]).numpy(force=True)
            examples += len(y)
        self.model.train()
        return np.array([loss / examples]), np.asarray(sums / examples)

    @torch.inference_mode()
    def predict(self, batches: Sequence[Batch]) -> list[Tensor]:
        """See `Learner.predict`."""
        self.model.eval()
        outputs = [self.model(x)[None] for x, _ in batches]
        self.model.train()
        return outputs

    def checksums(self) -> NDArray[np.float64]:
        """See `Learner.checksums`."""
        return self._flat.values.sum(1).double().numpy(force=True)

    def gradient_norm(self, run: int) -> float:
        """See `Learner.gradient_norm`."""
        return math.hypot(*(torch.linalg.vector_norm(gradient).item() for gradient in self._flat.gradients()))

    def keep(self, run: int) -> None:
        """See `Learner.keep`."""
        live = [self._flat.values, *self.model.buffers()]
        if not self._kept:
            self._kept = [torch.empty_like(tensor) for tensor in live]
        for kept, tensor in zip(self._kept, live, strict=True):
            kept.copy_(tensor)

    def restore(self, run: int) -> None:
        """See `Learner.restore`."""
        if self._kept:
            for kept, tensor in zip(self._kept, [self._flat.values, *self.model.buffers()], strict=True):
                tensor.copy_(kept)

    def state(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """See `Learner.state`."""
        present = {name: p.detach() for name, p in self.model.named_parameters()}
        buffers = dict(self.model.named_buffers())
        if best and self._kept:
            present |= self._flat.views(self._kept[0])
            buffers = dict(zip(buffers, self._kept[1:], strict=True))
        return {name: tensor.cpu().clone() for name, tensor in (present | buffers).items()}

    def drop(self, run: int) -> None:
        """See `Learner.drop`."""


def _ratio(update: float, weights: float) -> float:
    if weights:
        return update / weights
    return math.inf if update else 0.0
