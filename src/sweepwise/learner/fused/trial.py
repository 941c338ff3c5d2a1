"""Checks that a program of several models computes what each of them computes alone.

Outputs and gradients are compared in training and evaluation: with the initial parameters; with perturbed
ones, as a weight of zeros would hide what is behind it; and with very large examples for every other run, as
that changes the results of the others if anything mixes the runs.
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
from sweepwise.learner.fused.purity import Unfusable, check_modes, checked_outputs
from sweepwise.learner.module import ModuleLearner
from sweepwise.seed import same_generators_after

if TYPE_CHECKING:
    from sweepwise.learner.fused.program import Parameters, Program


TRIAL_EXAMPLES = 13  # enough for batch norm to be stable; prime, so that no reshape fits it by chance
TINY = 1e-30
ROUNDING = {torch.float32: 2e-4, torch.float64: 1e-9}  # relative to the largest output or gradient
SHARE = 0.01  # of the largest gradient; a smaller gradient may be nothing but rounding
PERTURBATION = 0.5  # standard deviation of the change of a weight, times the root of its inputs
LARGE_FACTOR = 1e3  # by which the large examples are larger

Pass = Callable[[nn.Module, Tensor], Tensor]


def compare(
    program: Program, learners: Sequence[ModuleLearner], parameters: Parameters, examples: Tensor
) -> None:
    """Compares a program with the models alone; leaves everything as it was.

    Args:
        program: of the models.
        learners: of the runs.
        parameters: of the runs.
        examples: (batch, *features). In training each run gets others, as in a real training.

    Raises:
        Unfusable: the results differ, or a pass depends on more than a model's tensors.
    """
    trial = _Trial(program, learners, parameters)
    everybody = range(len(learners))
    batches = torch.stack([examples.roll(-k * TRIAL_EXAMPLES, 0) for k in everybody])
    with trial.undone(), same_generators_after(examples.device):
        check_modes(learners[0].model)
        trial.evaluation(examples[:TRIAL_EXAMPLES], checked_outputs)
        trial.training(batches[:, :TRIAL_EXAMPLES], everybody, checked_outputs)
        trial.perturb_()
        trial.evaluation(examples[:TRIAL_EXAMPLES])
        trial.training(batches[:, :TRIAL_EXAMPLES], everybody)
        if trial.accepts(LARGE_FACTOR * examples):
            batches[1::2] *= LARGE_FACTOR
        trial.training(batches, everybody[::2])


def _plain(model: nn.Module, examples: Tensor) -> Tensor:
    """A model's own outputs."""
    outputs: Tensor = model(examples)
    return outputs


class _Trial:
    """The steps of `compare`."""

    def __init__(self, program: Program, learners: Sequence[ModuleLearner], parameters: Parameters) -> None:
        self._program, self._learners, self._parameters = program, learners, parameters
        self._buffers = _Buffers(learners)
        self._device = learners[0].flat.values.device

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Restores parameters, gradients and buffers at the end."""
        parameters = [tensor.detach() for learner in self._learners for tensor in learner.model.parameters()]
        saved = [tensor.clone() for tensor in parameters]
        try:
            yield
        finally:
            self._buffers.restore()
            for tensor, before in zip(parameters, saved, strict=True):
                tensor.copy_(before)
            for gradient in self._parameters.gradients:
                gradient.zero_()
            for learner in self._learners:
                learner.model.train()

    def perturb_(self) -> None:
        """Perturbs all parameters, in each run differently; one without negative values gets none."""
        generator = torch.Generator().manual_seed(0)
        for leaf in self._parameters.leaves.values():
            values = leaf.detach()
            inputs = values[0, 0].numel() if values.ndim > 2 else 1
            noise = torch.randn(values.shape[1:], generator=generator) * (PERTURBATION / math.sqrt(inputs))
            noise = noise.abs() if bool((values >= 0).all()) else noise
            shares = torch.linspace(1, 2, len(values)).view(-1, *[1] * noise.ndim)
            values += (shares * noise).to(values)

    @torch.no_grad()
    def accepts(self, x: Tensor) -> bool:
        """Whether a model accepts such examples; False on a GPU, where a failure could end the process."""
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
        outputs = self._refusing_draws(lambda: self._program.evaluate(x))
        if outputs.ndim != 3:
            raise Unfusable("its outputs are not (batch, outputs)")
        tolerance = ROUNDING.get(outputs.dtype, 1e-2)
        changed = self._buffers.values()
        for k, learner in enumerate(self._learners):
            self._buffers.restore()
            _check_near(outputs[k], alone(learner.model.eval(), x), tolerance)
            first = x[: -(-TRIAL_EXAMPLES // 2)]
            if not _near(outputs[k][: len(first)], learner.model(first), tolerance):
                raise Unfusable("its evaluation of an example depends on the other examples of the batch")
            self._check_buffers(k, changed[k])
        self._buffers.restore()

    @torch.enable_grad()
    def training(self, x: Tensor, compared: Sequence[int], alone: Pass = _plain) -> None:
        """Compares outputs and gradients in training.

        Args:
            x: (runs, examples, *features).
            compared: the runs whose results are compared.
            alone: how a model's own pass is called.
        """
        for learner in self._learners:
            learner.noise.begin(0)
        outputs = self._refusing_draws(lambda: self._program.train(x, []))
        weights = torch.arange(1.0, outputs.numel() + 1).cos().view(outputs.shape).to(outputs)
        self._program.differentiate(weights.clone())
        gradients = [dict(zip(self._parameters.leaves, own, strict=True)) for own in self._gradients()]
        outputs = outputs.detach()
        tolerance = ROUNDING.get(outputs.dtype, 1e-2)
        changed = self._buffers.values()
        for k in compared:
            learner = self._learners[k]
            self._buffers.restore()
            if learner.noise.wanted:
                torch.manual_seed(learner.noise.of_step(0))
            expected = alone(learner.model.train(), x[k])
            _check_near(outputs[k], expected.detach(), tolerance)
            self._check_buffers(k, changed[k])
            own = _gradients(expected, learner.model, weights[k])
            least = SHARE * max(float(gradient.abs().max()) for gradient in own.values())
            for name, gradient in own.items():
                if not _near(gradients[k][name], gradient, tolerance, least):
                    raise Unfusable("its backward pass gives other gradients than the model alone")
        self._buffers.restore()

    def _refusing_draws(self, ask: Callable[[], Tensor]) -> Tensor:
        with same_generators_after(self._device) as drawn:
            outputs = ask()
            foreign = drawn()
        if foreign:
            raise Unfusable("its forward pass draws random numbers outside torch's dropout layers")
        return outputs

    def _gradients(self) -> list[tuple[Tensor, ...]]:
        """The program's last gradients of each run."""
        return list(zip(*(gradient.clone().unbind() for gradient in self._parameters.gradients), strict=True))

    def _check_buffers(self, run: int, changed: Sequence[Tensor]) -> None:
        if not all(
            _near(one, other, ROUNDING.get(one.dtype, 1e-2))
            for one, other in zip(changed, self._buffers.values()[run], strict=True)
        ):
            raise Unfusable("its buffers change in another way than those of the model alone")


def _check_near(outputs: Tensor, alone: Tensor, tolerance: float) -> None:
    if not _near(outputs, alone, tolerance):
        raise Unfusable("its forward pass gives other outputs than the model alone")


def _gradients(outputs: Tensor, model: nn.Module, weights: Tensor) -> dict[str, Tensor]:
    """The gradients of the trainable parameters by name, by autograd; zeros if the outputs have none.

    Raises:
        Unfusable: one takes no part in the pass: its optimizer leaves it out.
    """
    trained = {name: own for name, own in model.named_parameters() if own.requires_grad}
    if not outputs.requires_grad:
        return {name: torch.zeros_like(own) for name, own in trained.items()}
    gradients = dict(zip(trained, derivatives(outputs, weights, list(trained.values())), strict=True))
    if absent := [name for name, gradient in gradients.items() if gradient is None]:
        raise Unfusable(f"its pass does not use its parameters {', '.join(absent)}")
    return {name: gradient for name, gradient in gradients.items() if gradient is not None}


class _Buffers:
    """Copies of the buffers of models, to restore them."""

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
        """Copies of the current buffers of each model."""
        return [[module.get_buffer(name).clone() for module, name, *_ in own] for own in self._own]

    def restore(self) -> None:
        """Restores the buffers and their values."""
        for module, name, buffer, saved in itertools.chain(*self._own):
            module._buffers[name] = buffer
            buffer.copy_(saved)


def _near(outputs: Tensor, alone: Tensor, tolerance: float, least: float = 0.0) -> bool:
    """Whether outputs agree; values that are not finite must be so in both.

    Args:
        outputs: of the program.
        alone: of a model.
        tolerance: of the differences, relative to the largest number.
        least: a lower bound on that largest number.
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
