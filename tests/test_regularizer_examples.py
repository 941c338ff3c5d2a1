"""Regularizers of the examples: what they draw, and what each makes of inputs and targets."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweepwise.learner import Watch
from sweepwise.learner.module import ModuleLearner
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer
from sweepwise.regularizer.clip_norm import ClipNorm
from sweepwise.regularizer.cutout import Cutout
from sweepwise.regularizer.flip import Flip
from sweepwise.regularizer.input_noise import InputNoise
from sweepwise.regularizer.l2 import L2
from sweepwise.regularizer.label_smoothing import LabelSmoothing
from sweepwise.regularizer.mixup import Mixup
from sweepwise.regularizer.rotation import Rotation
from sweepwise.regularizer.shift_crop import ShiftCrop
from sweepwise.task import Classification, Regression, Task

SGD = partial(torch.optim.SGD, lr=1.0)
CLASSES, SHAPE = 10, (1, 8, 8)
ACTING = {
    "label_smoothing": LabelSmoothing(smoothing=0.25),
    "mixup": Mixup(alpha=1.0),
    "input_noise": InputNoise(std=0.5),
    "cutout": Cutout(size=3),
    "flip": Flip(p=0.5),
    "shift_crop": ShiftCrop(padding=2),
    "shift_crop, reflect": ShiftCrop(padding=2, padding_mode="reflect"),
    "rotation": Rotation(degrees=30.0),
}
OFF = {
    "label_smoothing": LabelSmoothing(smoothing=0.0),
    "mixup": Mixup(alpha=0.0),
    "input_noise": InputNoise(std=0.0),
    "cutout": Cutout(size=0),
    "flip": Flip(p=0.0),
    "shift_crop": ShiftCrop(padding=0),
    "shift_crop, reflect": ShiftCrop(padding=0, padding_mode="reflect"),
    "rotation": Rotation(degrees=0.0),
}


TOGETHER = ("mixup", "label_smoothing", "cutout", "clip_norm")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int = 0, size: int = 32) -> tuple[Tensor, Tensor]:
    x = torch.randn(size, *SHAPE, generator=generator(seed))
    return x, torch.randint(CLASSES, (size,), generator=generator(seed + 1000))


def soft(y: Tensor) -> Tensor:
    return functional.one_hot(y, CLASSES).float()


def network(outputs: int = CLASSES) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, outputs))


def made(*regularizers: Regularizer, task: Task | None = None, seed: int = 0) -> ModuleLearner:
    model = network(CLASSES if task is None else 1)
    for regularizer in regularizers:
        regularizer.prepare_(model, SHAPE, CLASSES if task is None else 0)
    build = partial(FlatOptimizer, SGD)
    return ModuleLearner(model, task or Classification(CLASSES), build, regularizers, seed)


def trained(learner: ModuleLearner, steps: int = 5, watch: Watch = Watch.NOTHING) -> dict[str, Tensor]:
    for step in range(steps):
        learner.step(*batch(step), np.array([0.1]), step, watch)
    return learner.model_state_dict(0, best=False)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


# --- what holds for all of them


@pytest.mark.parametrize("size", [1, 2, 32])
@pytest.mark.parametrize("name", ACTING)
def test_shapes_stay_and_what_was_given_is_not_touched(name, size):
    x, y = batch(size=size)
    targets = soft(y)
    given = x.clone(), targets.clone()
    seen, wanted = ACTING[name].examples(x, targets, generator())
    assert torch.equal(x, given[0]) and torch.equal(targets, given[1])
    assert (seen.shape, seen.dtype, wanted.shape, wanted.dtype) == (
        x.shape,
        x.dtype,
        targets.shape,
        torch.float32,
    )
    assert seen.isfinite().all() and torch.allclose(wanted.sum(1), torch.ones(size))
    if size > 2:
        assert not (torch.equal(seen, x) and torch.equal(wanted, targets))


@pytest.mark.parametrize("name", ACTING)
def test_draws_come_from_the_given_generator_alone(name):
    x, y = batch()
    state = torch.get_rng_state()
    one, again, other = (ACTING[name].examples(x, soft(y), generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    if name != "label_smoothing":
        assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("name", OFF)
def test_a_strength_of_zero_changes_no_bit(name):
    """The targets have become probabilities, but those of one class have the gradient of that class."""
    x, y = batch()
    seen, wanted = OFF[name].examples(x, soft(y), generator())
    assert torch.equal(seen, x) and torch.equal(wanted, soft(y))
    plain, off, acting = (trained(made(*parts)) for parts in ([], [OFF[name]], [ACTING[name]]))
    assert equal(plain, off) and not equal(plain, acting)


@pytest.mark.parametrize("name", ACTING)
def test_steps_are_the_same_whatever_is_watched_validated_or_drawn_elsewhere(name):
    plain, disturbed = made(ACTING[name]), made(ACTING[name])
    for step in range(5):
        torch.rand(step)
        disturbed.step(*batch(step), np.array([0.1]), step, Watch.TENSORS)
        disturbed.evaluate([batch(99)])
    assert equal(trained(plain), disturbed.model_state_dict(0, best=False))
    assert name == "label_smoothing" or not equal(
        trained(made(ACTING[name], seed=1)), trained(made(ACTING[name]))
    )


@pytest.mark.parametrize("name", [name for name in ACTING if name not in ("label_smoothing", "mixup")])
def test_what_one_draws_does_not_depend_on_the_others(name):
    """The draws show in what the model gets, so the others here leave the inputs as they are."""

    def seen(*regularizers: Regularizer) -> list[Tensor]:
        learner, inputs = made(*regularizers), []
        learner.model[0].register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
        trained(learner)
        return inputs

    alone = seen(ACTING[name])
    for others in ([LabelSmoothing(), ACTING[name], ClipNorm()], [L2(), ACTING[name], InputNoise(std=0.0)]):
        if name == "input_noise":
            others = others[:2]
        assert all(torch.equal(one, other) for one, other in zip(alone, seen(*others), strict=True))


@pytest.mark.parametrize(
    "order", [*itertools.permutations(["mixup", "label_smoothing", "cutout", "clip_norm"])]
)
def test_regularizers_act_together_in_any_order(order):
    parts = {**ACTING, "clip_norm": ClipNorm(max_norm=0.1)}
    learner = made(*(parts[name] for name in order))
    x, y = batch()
    learner.step(x, y, np.array([0.1]), 0, Watch.SCALARS)
    seen = learner.watched(0)
    assert seen.clipping == {"clipped_norm": pytest.approx(0.1, rel=1e-4)}
    assert np.isfinite(seen.penalty) and seen.penalty != 0


# --- label smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_is_torchs_in_value_and_gradient(smoothing):
    logits = torch.randn(32, CLASSES, dtype=torch.float64, generator=generator()).requires_grad_()
    y = batch()[1]
    _, targets = LabelSmoothing(smoothing=smoothing).examples(logits, soft(y).double(), generator())
    losses = [
        Classification(CLASSES).loss(logits, targets),
        functional.cross_entropy(logits, y, label_smoothing=smoothing),
    ]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-15)


def test_the_reported_loss_is_plain_and_the_difference_is_the_penalty():
    learner = made(LabelSmoothing(smoothing=0.25))
    x, y = batch()
    outputs = network()(x)
    loss, seen = learner.step(x, y, np.array([0.1]), 0, Watch.SCALARS)
    plain = functional.cross_entropy(outputs, y)
    smoothed = functional.cross_entropy(outputs, y, label_smoothing=0.25)
    torch.testing.assert_close(seen[0], outputs)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6) == learner.watched(0).loss
    assert learner.watched(0).penalty == pytest.approx((smoothed - plain).item(), rel=1e-4)
    assert learner.evaluate([batch(1)])[0] == pytest.approx(
        functional.cross_entropy(learner.model(batch(1)[0]), batch(1)[1]).item(), rel=1e-6
    )


def test_label_smoothing_refuses_regression():
    with pytest.raises(ValueError, match=r"^regularizer=label_smoothing: must have classes.*regression"):
        LabelSmoothing().prepare_(network(), SHAPE, 0)


# --- input noise


def test_noise_has_its_deviation_and_does_not_know_the_inputs():
    x = torch.full((1000, 64), 3.0)
    added = InputNoise(std=0.25).examples(x, torch.zeros(1000), generator())[0] - x
    count = added.numel()  # the mean has the deviation std / sqrt(n), the variance sqrt(2 / n) std^2
    assert added.mean().item() == pytest.approx(0, abs=4 * 0.25 / count**0.5)
    assert added.var().item() == pytest.approx(0.0625, rel=4 * (2 / count) ** 0.5)
    assert len(added.unique()) > 0.9 * len(added[0])


# --- mixup


def mixture(alpha: float, size: int, seed: int) -> tuple[float, Tensor]:
    """Share and partner of each example, read off what becomes of the unit vectors."""
    mixed, _ = Mixup(alpha=alpha).examples(torch.eye(size), torch.eye(size), generator(seed))
    own = mixed.diagonal()
    partner = (mixed - torch.diag(own)).argmax(1)
    partner = torch.where(own == 1, torch.arange(size), partner)
    return own[own < 1].max().item() if (own < 1).any() else 1.0, partner


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixups_loss_is_the_mixture_of_both_losses(alpha):
    learner = made(Mixup(alpha=alpha))
    model = network()
    for step in range(3):
        x, y = batch(step)
        share, partner = mixture(alpha, len(x), step)
        inputs, targets = Mixup(alpha=alpha).examples(x, soft(y), generator(step))
        torch.testing.assert_close(inputs, share * x + (1 - share) * x[partner], rtol=1e-4, atol=1e-5)
        outputs = model(inputs)
        both = [functional.cross_entropy(outputs, labels).item() for labels in (y, y[partner])]
        loss = learner.task.loss(outputs, targets).item()
        assert loss == pytest.approx(share * both[0] + (1 - share) * both[1], rel=1e-5)
        assert sorted(partner.tolist()) == list(range(len(x)))
        assert 0.5 <= share <= 1


def test_mixup_reports_the_loss_of_the_dominant_labels():
    learner = made(Mixup(alpha=1.0))
    inputs = []
    learner.model[0].register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    x, y = batch()
    loss, outputs = learner.step(x, y, np.array([0.1]), 0, Watch.SCALARS)
    torch.testing.assert_close(network()(inputs[0]), outputs[0])
    assert not torch.equal(inputs[0], x)
    assert loss.item() == pytest.approx(functional.cross_entropy(network()(inputs[0]), y).item(), rel=1e-6)
    assert learner.watched(0).penalty != 0


def test_real_targets_are_mixed_like_the_inputs():
    x = torch.randn(16, *SHAPE, generator=generator())
    y = x.sum((1, 2, 3))
    inputs, targets = Mixup(alpha=1.0).examples(x, y, generator())
    torch.testing.assert_close(inputs.sum((1, 2, 3)), targets, rtol=1e-4, atol=1e-4)
    assert not torch.equal(targets, y)
    learner = made(Mixup(alpha=1.0), InputNoise(), task=Regression(1.0))
    assert np.isfinite(learner.step(x, y, np.array([0.01]), 0, Watch.SCALARS)[0].item())


def test_mixup_of_one_example_is_that_example():
    x, y = batch(size=1)
    seen, wanted = Mixup(alpha=1.0).examples(x, soft(y), generator())
    assert torch.equal(seen, x) and torch.equal(wanted, soft(y))
