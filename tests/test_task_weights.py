"""Class weights against torch and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from sweepwise.task import Classification, task_of

LABELS = torch.tensor([0] * 70 + [1] * 25 + [2] * 5)
WEIGHTS = [0.5, 2.0, 0.0]


def batch(size=20, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(size, 3, generator=generator, dtype=dtype, requires_grad=True)
    return outputs, torch.randint(3, (size,), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weighted_loss_is_the_mean_over_the_examples(dtype):
    outputs, targets = batch(dtype=dtype)
    weights = torch.tensor(WEIGHTS, dtype=dtype)
    loss = Classification(3, class_weights=WEIGHTS).loss(outputs, targets)
    assert loss.dtype == dtype and loss.shape == ()
    plain = functional.cross_entropy(outputs, targets, reduction="none")
    torch.testing.assert_close(loss, (weights[targets] * plain).mean())
    torch.testing.assert_close(
        loss, functional.cross_entropy(outputs, targets, weights, reduction="sum") / 20
    )
    assert not torch.isclose(loss, functional.cross_entropy(outputs, targets, weights))  # torch's own mean
    loss.backward()
    assert torch.equal(outputs.grad[targets == 2], torch.zeros(int((targets == 2).sum()), 3, dtype=dtype))


def test_soft_targets_weigh_as_hard_ones():
    outputs, targets = batch()
    task = Classification(3, class_weights=WEIGHTS)
    torch.testing.assert_close(task.loss(outputs, task.soft(targets)), task.loss(outputs, targets))
    mixed = 0.3 * task.soft(targets) + 0.7 * task.soft(targets.flip(0))
    expected = functional.cross_entropy(outputs, mixed, torch.tensor(WEIGHTS))  # divides by the batch here
    torch.testing.assert_close(task.loss(outputs, mixed), expected)


def test_the_mean_over_batches_is_exact():
    outputs, targets = batch(23, torch.float64)
    task = Classification(3, class_weights=WEIGHTS)
    parts = [task.loss(o, y) * len(y) for o, y in zip(outputs.split(8), targets.split(8), strict=True)]
    torch.testing.assert_close(sum(parts) / 23, task.loss(outputs, targets))
    (measured,) = task.measure(zip(outputs.detach()[None].split(8, 1), targets.split(8), strict=True))
    assert measured["loss"] == pytest.approx(task.loss(outputs, targets).item())


def test_balanced_weights_are_sklearns():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    assert expected == pytest.approx([100 / 210, 100 / 75, 100 / 15])
    outputs, targets = batch()
    ours = task_of(3, 1.0, labels=LABELS, class_weights="balanced").loss(outputs, targets)
    torch.testing.assert_close(
        ours, Classification(3, class_weights=expected.tolist()).loss(outputs, targets)
    )
    alone = [
        task_of(3, 1.0, labels=LABELS, class_weights="balanced").loss(torch.zeros(1, 3), c)
        for c in targets[:, None]
    ]
    assert [loss.item() for loss in alone] == pytest.approx(math.log(3) * expected[targets.numpy()], rel=1e-6)


def test_balanced_weights_of_equal_classes_change_nothing():
    outputs, targets = batch()
    equal = task_of(3, 1.0, labels=torch.arange(30) % 3, class_weights="balanced")
    torch.testing.assert_close(equal.loss(outputs, targets), Classification(3).loss(outputs, targets))


def test_no_weights_are_torchs_cross_entropy_to_the_bit():
    outputs, targets = batch()
    assert torch.equal(task_of(3, 1.0).loss(outputs, targets), functional.cross_entropy(outputs, targets))


def test_metrics_are_not_weighted():
    outputs, targets = batch()
    weighted, plain = Classification(3, class_weights=WEIGHTS), Classification(3)
    assert torch.equal(weighted.sums(outputs[None], targets[None]), plain.sums(outputs[None], targets[None]))


@pytest.mark.parametrize(
    ("classes", "weights", "told"),
    [
        (3, [1.0, 2.0], r"trainer.class_weights=\[1.0, 2.0\]: .* each of the 3 classes, not 2"),
        (3, [1.0, 2.0, 3.0, 4.0], "not 4"),
        (3, [], "not 0"),
        (3, [1.0, -0.5, 1.0], "at least 0"),
        (3, [1.0, math.inf, 1.0], "finite"),
        (3, [1.0, math.nan, 1.0], "finite"),
        (3, [0.0, 0.0, 0.0], "must not all be 0"),
        (4, "balanced", "class 3 has no training example"),
        (0, "balanced", "trainer.class_weights=balanced: must be none"),
        (0, [1.0], "a regression has no classes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(classes, weights, told):
    with pytest.raises(ValueError, match=told):
        task_of(classes, 1.0, labels=LABELS, class_weights=weights)


def test_sklearn_refuses_an_absent_class_too():
    with pytest.raises(ValueError):
        compute_class_weight("balanced", classes=np.arange(4), y=LABELS.numpy())
