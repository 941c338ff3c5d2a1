"""Checks that a program of several models computes what each of them computes alone.

Outputs and gradients are compared in training and evaluation: with the initial parameters; with perturbed
ones, as a weight of zeros would hide what is behind it; and with very large examples for every other run, as
that changes the results of the others if anything mixes the runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sweepwise.learner.fused.chain import derivatives
from sweepwise.learner.fused.purity import Unfusable, check_modes, checked_outputs
from sweepwise.learner.known import layers_of
from sweepwise.learner.module import ModuleLearner
from sweepwise.seed import same_generators_after, seed_torch

if TYPE_CHECKING:
    from sweepwise.learner.fused.program import Parameters, Program


TRIAL_EXAMPLES = 13  # enough for batch norm to be stable; prime, so that no reshape fits it by chance
TINY = 1e-30
ROUNDING = {torch.float32: 2e-4, torch.float64: 1e-9}  # relative to the largest output or gradient
SHARE = 0.01  # of the largest gradient; a smaller gradient may be nothing but rounding
KINKS = 0.05  # of a gradient's norm
PERTURBATION = 0.5  # standard deviation of the change of a weight, times the root of its inputs
AT_ONCE = 16  # runs that are compared at once
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
        trial.evaluation(examples[:TRIAL_EXAMPLES], checked=True)
        trial.training(batches[:, :TRIAL_EXAMPLES], everybody, checked=True)
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
        first, *others = (layers_of(learner.model) for learner in learners)
        self._looked_at = [True, *(first is None or other != first for other in others)]
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
    def evaluation(self, x: Tensor, *, checked: bool = False) -> None:
        """Compares outputs in evaluation.

        Args:
            x: (examples, *features), the same for all runs.
            checked: whether the models' own passes are looked at, too.
        """
        outputs = self._refusing_draws(lambda: self._program.evaluate(x))
        if outputs.ndim != 3:
            raise Unfusable("its outputs are not (batch, outputs)")
        changed = self._buffers.values()
        first = x[: -(-TRIAL_EXAMPLES // 2)]
        for runs in _in_turn(range(len(self._learners))):
            alone, of_first, fits = list[Tensor](), list[Tensor](), True
            for k in runs:
                self._buffers.restore(k)
                model = self._learners[k].model.eval()
                alone.append(self._pass_of(k, checked=checked)(model, x))
                if self._looked_at[k]:
                    of_first.append(model(first))
                fits &= self._buffers.fit(k, changed[k])
            _check_near(outputs[runs], alone)
            looked_at = [k for k in runs if self._looked_at[k]]
            if not _near_each(outputs[looked_at, : len(first)], of_first):
                raise Unfusable("its evaluation of an example depends on the other examples of the batch")
            _check_buffers(fits)
        self._buffers.restore()

    @torch.enable_grad()
    def training(self, x: Tensor, compared: Sequence[int], *, checked: bool = False) -> None:
        """Compares outputs and gradients in training.

        Args:
            x: (runs, examples, *features).
            compared: the runs whose results are compared.
            checked: whether the models' own passes are looked at, too.
        """
        for learner in self._learners:
            if learner.noise.wanted:
                learner.noise.begin(0)
        outputs = self._refusing_draws(lambda: self._program.train(x, []))
        weights = torch.arange(1.0, outputs.numel() + 1).cos().view(outputs.shape).to(outputs)
        self._program.differentiate(weights.clone())
        outputs, changed = outputs.detach(), self._buffers.values()
        for runs in _in_turn(compared):
            alone, gradients, fits = list[Tensor](), list[dict[str, Tensor]](), True
            for k in runs:
                learner = self._learners[k]
                self._buffers.restore(k)
                if learner.noise.wanted:
                    seed_torch(learner.noise.of_step(0))
                own = self._pass_of(k, checked=checked)(learner.model.train(), x[k])
                alone.append(own.detach())
                fits &= self._buffers.fit(k, changed[k])
                if fits and own.shape == outputs[k].shape:
                    gradients.append(_gradients(own, learner.model, weights[k]))
            _check_near(outputs[runs], alone)
            _check_buffers(fits)
            self._check_gradients(runs, gradients)
        self._buffers.restore()

    def _pass_of(self, run: int, *, checked: bool) -> Pass:
        """How a model's own pass is called; known layers do what they do in the first model."""
        return checked_outputs if checked and self._looked_at[run] else _plain

    def _check_gradients(self, runs: Sequence[int], alone: Sequence[Mapping[str, Tensor]]) -> None:
        names = dict.fromkeys(name for own in alone for name in own)
        own = {name: torch.stack([gradients[name] for gradients in alone]) for name in names}
        largest = torch.stack([_largest(gradient) for gradient in own.values()])
        least = SHARE * largest.nan_to_num(0.0, posinf=math.inf).amax(0)
        gradients = dict(zip(self._parameters.leaves, self._parameters.gradients, strict=True))
        for name, gradient in own.items():
            if not (
                _near_each(gradients[name][runs], gradient, least)
                or _near_but_for_kinks(gradients[name][runs], gradient)
            ):
                raise Unfusable("its backward pass gives other gradients than the model alone")

    def _refusing_draws(self, ask: Callable[[], Tensor]) -> Tensor:
        with same_generators_after(self._device) as drawn:
            outputs = ask()
            foreign = drawn()
        if foreign:
            raise Unfusable("its forward pass draws random numbers outside torch's dropout layers")
        return outputs


def _check_buffers(fits: bool) -> None:
    if not fits:
        raise Unfusable("its buffers change in another way than those of the model alone")


def _check_near(outputs: Tensor, alone: Sequence[Tensor]) -> None:
    if not _near_each(outputs, alone):
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

    def of(self, run: int) -> list[Tensor]:
        """The current buffers of a model."""
        return [module.get_buffer(name) for module, name, *_ in self._own[run]]

    def values(self) -> list[list[Tensor]]:
        """Copies of the current buffers of each model."""
        return [[buffer.clone() for buffer in self.of(run)] for run in range(len(self._own))]

    def fit(self, run: int, changed: Sequence[Tensor]) -> bool:
        """Whether the buffers of a model are near those that a program has changed."""
        return all(
            _near(one, other, ROUNDING.get(one.dtype, 1e-2))
            for one, other in zip(changed, self.of(run), strict=True)
        )

    def restore(self, run: int | None = None) -> None:
        """Restores the buffers and their values, of one model or of all."""
        own = self._own if run is None else [self._own[run]]
        for module, name, buffer, saved in itertools.chain(*own):
            module._buffers[name] = buffer
            buffer.copy_(saved)


def _in_turn(runs: Sequence[int]) -> Iterator[list[int]]:
    """The runs in pieces: many are compared at once, but no more results are kept than of a few."""
    for first in range(0, len(runs), AT_ONCE):
        yield list(runs[first : first + AT_ONCE])


def _largest(values: Tensor) -> Tensor:
    """The largest magnitude in each run's part of (runs, ...), as float64."""
    return values.reshape(len(values), -1).abs().amax(1).double()


def _near_each(outputs: Tensor, alone: Sequence[Tensor] | Tensor, least: Tensor | float = 0.0) -> bool:
    """`_near` for every run.

    Args:
        outputs: of the program, (runs, ...).
        alone: of each model.
        least: for each run, (runs,).
    """
    if any(own.shape != outputs.shape[1:] for own in alone) or not outputs.numel():
        return all(own.shape == outputs.shape[1:] for own in alone)
    tolerance = ROUNDING.get(outputs.dtype, 1e-2)
    together = alone if isinstance(alone, Tensor) else torch.stack(list(alone))
    scales = _largest(together)
    if not bool(scales.isfinite().all()):
        bounds = torch.as_tensor(least, dtype=torch.float64).expand(len(together)).tolist()
        return all(map(_near, outputs, together, itertools.repeat(tolerance), bounds))
    allowed = tolerance * scales.clamp(min=torch.as_tensor(least).to(scales)) + TINY
    return bool((_largest(outputs - together) <= allowed).all())


def _near_but_for_kinks(outputs: Tensor, alone: Tensor) -> bool:
    """Whether gradients agree but for single units, where rounding has put an input to the other side of 0.

    There a ReLU's derivative jumps. One of many units in one of many examples is a small part of a gradient,
    which nothing else that is wrong with a program would be.

    Args:
        outputs: of the program, (runs, ...).
        alone: of each model.
    """
    if outputs.dtype != torch.float32 or not bool(alone.isfinite().all()):
        return False
    errors, norms = (torch.linalg.vector_norm(part.flatten(1), dim=1) for part in (outputs - alone, alone))
    return bool((errors <= KINKS * norms).all())


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
