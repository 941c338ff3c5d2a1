"""The learner of one run: any `nn.Module`, any `torch.optim` optimizer."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from sweepwise.data import Part
from sweepwise.learner import Watch, Watched
from sweepwise.learner.flat import FlatParameters
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.seed import Noise
from sweepwise.task import Task

EVALUATION_BATCH = 2048  # examples; bounds memory, changes no result beyond rounding
_UNWATCHED = (_DropoutNd, nn.Flatten, nn.Identity)


class ModuleLearner:
    """Trains one model.

    Args:
        model: on its device, initialised; features -> outputs.
        task: its loss and metrics.
        optimizer: builds the optimizer over flat parameters: (values, gradient, weights) -> FlatOptimizer.
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
        self._optimizer = optimizer(values=row, gradient=gradient, weights=self._flat.weights)
        self._noise = Noise(noise_seed, row.device)
        self._kept = [torch.empty(0)] * (1 + len(list(model.buffers())))
        self._has_kept = False
        self._watched: Watched | None = None
        self._checked = False

    def step(
        self, x: Tensor, y: Tensor, rates: NDArray[np.float64], step: int, watch: Watch
    ) -> tuple[Tensor, Tensor]:
        """See `Learner.step`."""
        rate = float(rates[0])
        self._noise.begin(step)
        self._flat.gradient.zero_()
        activations: dict[str, Tensor] = {}
        hooks = self._listen(activations) if watch >= Watch.TENSORS else []
        outputs = self.model(x)
        for hook in hooks:
            hook.remove()
        loss = self._task.loss(outputs, y)
        loss.backward()
        if not self._checked:
            self._flat.check_gradient_views()
            self._checked = True
        if watch:
            before = self._flat.values.clone()
            penalties = [regularizer.penalty(self._weights)[0] for regularizer in self._regularizers]
        for regularizer in self._regularizers:
            regularizer.before_step_(self._weights, self._weight_gradient, rate)
        self._optimizer.step_(rate)
        for regularizer in self._regularizers:
            regularizer.after_step_(self._weights, rate)
        if watch:
            self._watched = self._look(loss.detach(), penalties, before, activations, watch)
        return loss, outputs

    def _look(
        self,
        loss: Tensor,
        penalties: list[Tensor],
        before: Tensor,
        activations: dict[str, Tensor],
        watch: Watch,
    ) -> Watched:
        flat = self._flat
        moved = flat.values[:, : flat.weights] - before[:, : flat.weights]
        norms = torch._foreach_norm([flat.gradient, *flat.weight_parts(before), *flat.weight_parts(moved)])
        numbers = torch.stack([loss, *penalties, *norms]).tolist()  # the one transfer
        penalty = sum(numbers[1 : 1 + len(penalties)])
        norm, *sizes = numbers[1 + len(penalties) :]
        scale, update = sizes[: len(flat.weight_names)], sizes[len(flat.weight_names) :]
        ratios = {n: _ratio(u, w) for n, w, u in zip(flat.weight_names, scale, update, strict=True)}
        if watch < Watch.TENSORS:
            return Watched(numbers[0], penalty, norm, ratios)
        kinds = {name: type(self.model.get_submodule(name)).__name__ for name in activations}
        return Watched(
            numbers[0],
            penalty,
            norm,
            ratios,
            flat.views(before),
            flat.views(flat.gradient),
            activations,
            kinds,
        )

    def _listen(self, activations: dict[str, Tensor]) -> list[torch.utils.hooks.RemovableHandle]:
        def listener(name: str) -> Callable[[nn.Module, object, object], None]:
            def listen(module: nn.Module, inputs: object, output: object) -> None:
                if isinstance(output, Tensor):
                    activations[name] = output.detach()

            return listen

        return [
            module.register_forward_hook(listener(name))
            for name, module in self.model.named_modules()
            if name and not any(True for _ in module.children()) and not isinstance(module, _UNWATCHED)
        ]

    def watched(self, run: int) -> Watched:
        """See `Learner.watched`."""
        assert self._watched is not None, "no step has been watched"
        return self._watched

    def evaluate(self, part: Part) -> Tensor:
        """See `Learner.evaluate`."""
        self.model.eval()
        with torch.inference_mode():
            sums = [
                self._task.sums(self.model(x)[None], y[None])
                for x, y in zip(part.x.split(EVALUATION_BATCH), part.y.split(EVALUATION_BATCH), strict=True)
            ]
            total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
        self.model.train()
        return total

    def finite(self) -> Tensor:
        """See `Learner.finite`."""
        return self._flat.values.sum(1).isfinite()  # a sum of finite weights that overflows has diverged, too

    def gradient_norms(self) -> Tensor:
        """See `Learner.gradient_norms`."""
        return torch.linalg.vector_norm(self._flat.gradient, dim=1)

    def keep(self, run: int) -> None:
        """See `Learner.keep`."""
        live = [self._flat.values, *self.model.buffers()]
        if not self._has_kept:
            self._kept = [torch.empty_like(tensor) for tensor in live]
            self._has_kept = True
        for kept, tensor in zip(self._kept, live, strict=True):
            kept.copy_(tensor)

    def restore(self, run: int) -> None:
        """See `Learner.restore`."""
        if self._has_kept:
            for kept, tensor in zip(self._kept, [self._flat.values, *self.model.buffers()], strict=True):
                tensor.copy_(kept)

    def state(self, run: int, *, best: bool) -> dict[str, Tensor]:
        """See `Learner.state`."""
        present = {name: p.detach() for name, p in self.model.named_parameters()}
        buffers = dict(self.model.named_buffers())
        if best and self._has_kept:
            present |= self._flat.views(self._kept[0])
            buffers = dict(zip(buffers, self._kept[1:], strict=True))
        return {name: tensor.cpu().clone() for name, tensor in (present | buffers).items()}

    def drop(self, run: int) -> None:
        """See `Learner.drop`."""


def _ratio(update: float, weights: float) -> float:
    if weights:
        return update / weights
    return math.inf if update else 0.0
