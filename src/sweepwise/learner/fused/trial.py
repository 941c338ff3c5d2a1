"""Whether a program of several models does what each of them does alone.

Both are asked for outputs and gradients, in each mode: as the models start; with parameters that are stirred,
since what lies behind a weight of zeros would not show; and beside runs whose examples are so large that
nothing that looks at all of them would stay as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sweepwise.learner.chain import derivatives
from sweepwise.learner.fused.purity import Unfusable, check_modes, watched
from sweepwise.learner.module import ModuleLearner
from sweepwise.seed import same_generators_after

if TYPE_CHECKING:
    from sweepwise.learner.fused.program import Parameters, Program


TRIED = 13  # examples: so many that batch norm makes little of rounding, and a number that nothing divides
TINY = 1e-30
ROUNDING = {torch.float32: 2e-4, torch.float64: 1e-9}  # relative to the largest output or gradient
SHARE = 0.01  # of the largest gradient: a parameter with a smaller one may have nothing but rounding
STIRRED = 0.5  # deviation of what comes to a parameter, over the root of a weight's inputs
LOUD = 1e3  # times larger
Pass = Callable[[nn.Module, Tensor], Tensor]


def compare(
    found: Program, learners: Sequence[ModuleLearner], parameters: Parameters, examples: Tensor
) -> None:
    """Tries a program beside the models alone; leaves no trace.

    Args:
        found: of the models.
        learners: of the runs.
        parameters: theirs.
        examples: (batch, *features). In training each run is given other ones, as it is later.

    Raises:
        Unfusable: it does something else, or a pass depends on more than a model's tensors.
    """
    trial = _Trial(found, learners, parameters)
    everybody = range(len(learners))
    batches = torch.stack([examples.roll(-k * TRIED, 0) for k in everybody])
    with trial.undone(), same_generators_after(examples.device):
        check_modes(learners[0].model)
        trial.evaluation(examples[:TRIED], watched)
        trial.training(batches[:, :TRIED], everybody, watched)
        trial.stir_()
        trial.evaluation(examples[:TRIED])
        trial.training(batches[:, :TRIED], everybody)
        if trial.bears(LOUD * examples):
            batches[1::2] *= LOUD
        trial.training(batches, everybody[::2])


def _plain(model: nn.Module, examples: Tensor) -> Tensor:
    """A model's own outputs."""
    outputs: Tensor = model(examples)
    return outputs


class _Trial:
    """See `compare`."""

    def __init__(self, found: Program, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        self._found, self._learners, self._parameters = found, learners, parameters
        self._buffers = _Buffers(learners)
        self._device = learners[0].flat.values.device

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Puts parameters, gradients and buffers back at the end."""
        own = [tensor.detach() for learner in self._learners for tensor in learner.model.parameters()]
        kept = [tensor.clone() for tensor in own]
        try:
            yield
        finally:
            self._buffers.restore()
            for tensor, before in zip(own, kept, strict=True):
                tensor.copy_(before)
            for gradient in self._parameters.gradients:
                gradient.zero_()
            for learner in self._learners:
                learner.model.train()

    def stir_(self) -> None:
        """Moves all parameters, of each run elsewhere; what was nowhere negative stays so."""
        generator = torch.Generator().manual_seed(0)
        for leaf in self._parameters.leaves.values():
            values = leaf.detach()
            inputs = values[0, 0].numel() if values.ndim > 2 else 1
            noise = torch.randn(values.shape[1:], generator=generator) * (STIRRED / math.sqrt(inputs))
            noise = noise.abs() if bool((values >= 0).all()) else noise
            shares = torch.linspace(1, 2, len(values)).view(-1, *[1] * noise.ndim)
            values += (shares * noise).to(values)

    @torch.no_grad()
    def bears(self, x: Tensor) -> bool:
        """Whether a model has a pass for such examples. On a GPU one that has none could end the process."""
        if not x.is_floating_point() or x.device.type != "cpu":
            return False
        try:
            self._learners[0].model(x)
        except Exception:
            return False
        finally:
            self._buffers.restore()
        return True

    @torch.no_grad()
    def evaluation(self, x: Tensor, alone: Pass = _plain) -> None:
        """Compares outputs in evaluation.

        Args:
            x: (examples, *features), the same for all runs.
            alone: how a model's own pass is called.
        """
        outputs = self._drawing_nothing(lambda: self._found.evaluate(x))
        tolerance = ROUNDING.get(outputs.dtype, 1e-2)
        changed = self._buffers.values()
        for k, learner in enumerate(self._learners):
            self._buffers.restore()
            _check_near(outputs[k], alone(learner.model.eval(), x), tolerance)
            first = x[: -(-TRIED // 2)]
            if not _near(outputs[k][: len(first)], learner.model(first), tolerance):
                raise Unfusable("its evaluation depends on which examples come together")
            self._check_buffers(k, changed[k])
        self._buffers.restore()

    @torch.enable_grad()
    def training(self, x: Tensor, compared: Sequence[int], alone: Pass = _plain) -> None:
        """Compares outputs and gradients in training.

        Args:
            x: (runs, examples, *features).
            compared: the runs that are.
            alone: how a model's own pass is called.
        """
        for learner in self._learners:
            learner.noise.begin(0)
        outputs = self._drawing_nothing(lambda: self._found.train(x, []))
        weights = torch.arange(1.0, outputs.numel() + 1).cos().view(outputs.shape).to(outputs)
        self._found.differentiate(weights.clone())
        found = [dict(zip(self._parameters.leaves, own, strict=True)) for own in self._gradients()]
        outputs = outputs.detach()
        tolerance = ROUNDING.get(outputs.dtype, 1e-2)
        changed = self._buffers.values()
        for k in compared:
            learner = self._learners[k]
            self._buffers.restore()
            if learner.noise.wanted:
                torch.manual_seed(learner.noise.of_step(0))
            its = alone(learner.model.train(), x[k])
            _check_near(outputs[k], its.detach(), tolerance)
            self._check_buffers(k, changed[k])
            own = _gradients(its, learner.model, weights[k])
            least = SHARE * max(float(gradient.abs().max()) for gradient in own.values())
            for name, gradient in own.items():
                if not _near(found[k][name], gradient, tolerance, least):
                    raise Unfusable("its backward pass gives other gradients than alone")
        self._buffers.restore()

    def _drawing_nothing(self, ask: Callable[[], Tensor]) -> Tensor:
        with same_generators_after(self._device) as drawn:
            outputs = ask()
            foreign = drawn()
        if foreign:
            raise Unfusable("its forward pass draws random numbers that do not come from a known layer")
        return outputs

    def _gradients(self) -> list[tuple[Tensor, ...]]:
        """Of each run, those that the program has found last."""
        return list(zip(*(gradient.clone().unbind() for gradient in self._parameters.gradients), strict=True))

    def _check_buffers(self, run: int, changed: Sequence[Tensor]) -> None:
        if not all(
            _near(one, other, ROUNDING.get(one.dtype, 1e-2))
            for one, other in zip(changed, self._buffers.values()[run], strict=True)
        ):
            raise Unfusable("its buffers do not change as they would alone")


def _check_near(outputs: Tensor, alone: Tensor, tolerance: float) -> None:
    if not _near(outputs, alone, tolerance):
        raise Unfusable("its forward pass treats examples of a batch not each by itself")


def _gradients(outputs: Tensor, model: nn.Module, weights: Tensor) -> dict[str, Tensor]:
    """Those of the trained parameters, by name, as autograd finds them; zeros where it finds none."""
    trained = {name: own for name, own in model.named_parameters() if own.requires_grad}
    if not outputs.requires_grad:
        return {name: torch.zeros_like(own) for name, own in trained.items()}
    found = derivatives(outputs, weights, list(trained.values()))
    return {
        name: torch.zeros_like(own) if gradient is None else gradient
        for (name, own), gradient in zip(trained.items(), found, strict=True)
    }


class _Buffers:
    """The buffers of models, as they are now."""

    def __init__(self, learners: Sequence[ModuleLearner]) -> None:
        self._own = [
            [
                (module, name, buffer, buffer.clone())
                for module in learner.model.modules()
                for name, buffer in module._buffers.items()
                if buffer is not None
            ]
            for learner in learners
        ]

    def values(self) -> list[list[Tensor]]:
        """Copies of them, of each model."""
        return [[module.get_buffer(name).clone() for module, name, *_ in own] for own in self._own]

    def restore(self) -> None:
        """Puts them back, and what was in them."""
        for module, name, buffer, kept in itertools.chain(*self._own):
            module._buffers[name] = buffer
            buffer.copy_(kept)


def _near(outputs: Tensor, alone: Tensor, tolerance: float, least: float = 0.0) -> bool:
    """Whether outputs agree; what is not finite must be so in both.

    Args:
        outputs: of the program.
        alone: of a model.
        tolerance: of the differences, relative to the largest number.
        least: that this is taken for, if it is smaller.
    """
    if outputs.shape != alone.shape or not outputs.numel():
        return outputs.shape == alone.shape
    scale = float(alone.abs().max())
    if not math.isfinite(scale):
        finite = alone.isfinite()
        if not torch.equal(outputs.isfinite(), finite):
            return False
        return _near(outputs[finite], alone[finite], tolerance, least)
    return float((outputs - alone).abs().max()) <= tolerance * max(scale, least) + TINY
