import itertools
import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from sweepwise.task import Classification, Regression, Task, task_of

RUNS, EXAMPLES, CLASSES = 3, 101, 5


def measured(
    task: Task, outputs: Tensor, targets: Tensor, cuts: tuple[int, ...] = ()
) -> dict[str, np.ndarray]:
    """As over batches that end at `cuts`: sums of examples, divided once."""
    loss, terms = np.zeros(len(outputs)), 0.0
    ends = [0, *cuts, targets.shape[1]]
    for start, end in itertools.pairwise(ends):
        batch, wanted = outputs[:, start:end], targets[:, start:end]
        loss += [task.loss(*run).item() * (end - start) for run in zip(batch, wanted, strict=True)]
        terms = terms + task.sums(batch, wanted).numpy()
    return task.finish(loss / targets.shape[1], terms / targets.shape[1])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def classified(generator) -> tuple[Tensor, Tensor]:
    """Logits and classes that agree more often from run to run."""
    targets = torch.randint(CLASSES, (RUNS, EXAMPLES), generator=generator)
    outputs = torch.randn(RUNS, EXAMPLES, CLASSES, generator=generator)
    hints = torch.nn.functional.one_hot(targets, CLASSES) * torch.tensor([0.0, 1.0, 3.0])[:, None, None]
    return outputs + hints, targets


@pytest.mark.parametrize("cuts", [(), (64,), (1, 33, 100)])
def test_classification_as_by_sklearn(classified, cuts):
    outputs, targets = classified
    ours = measured(Classification(10), outputs, targets, cuts)
    assert list(ours) == list(Classification(10).metrics) == ["loss", "accuracy"]
    for run in range(RUNS):
        shares = outputs[run].double().softmax(-1).numpy()
        wanted = targets[run].numpy()
        expected = metrics.log_loss(wanted, shares, labels=range(CLASSES))
        assert ours["loss"][run] == pytest.approx(expected, rel=1e-5)
        assert ours["accuracy"][run] == pytest.approx(
            metrics.accuracy_score(wanted, shares.argmax(-1)), rel=1e-12
        )
    assert len(set(ours["accuracy"])) == RUNS


@pytest.mark.parametrize(("right", "expected"), [(0, 0.0), (1, 0.01), (99, 0.99), (100, 1.0)])
def test_accuracy_is_the_share_of_right_answers(right, expected):
    outputs = torch.eye(2)[(torch.arange(100) < right).long()][None]  # answers 1 where right, else 0
    ours = measured(Classification(10), outputs, torch.ones(1, 100, dtype=torch.int64))
    assert ours["accuracy"].tolist() == [expected]


def test_equal_logits_cost_the_log_of_the_classes():
    loss = Classification(10).loss(torch.zeros(7, 10), torch.arange(7))
    assert loss.shape == () and loss.item() == pytest.approx(np.log(10), rel=1e-6)


@pytest.mark.parametrize(("offset", "unit"), [(0.0, 1.0), (152.1, 77.3), (-3.0, 1e-3)])
@pytest.mark.parametrize("cuts", [(), (64,), (1, 33, 100)])
def test_regression_as_by_sklearn_in_the_targets_own_units(generator, offset, unit, cuts):
    targets = torch.randn(RUNS, EXAMPLES, generator=generator) + 0.5  # standardised by another part's mean
    noise = torch.randn(RUNS, EXAMPLES, generator=generator) * torch.tensor([[0.1], [1.0], [3.0]])
    outputs = (targets + noise)[..., None]
    ours = measured(Regression(unit), outputs, targets, cuts)
    assert list(ours) == list(Regression(unit).metrics) == ["loss", "mse", "mae", "r2"]
    for run in range(RUNS):
        scaled = targets[run].double().numpy(), outputs[run, :, 0].double().numpy()
        wanted, answer = (values * unit + offset for values in scaled)
        assert ours["loss"][run] == pytest.approx(metrics.mean_squared_error(*scaled), rel=1e-5)
        assert ours["mse"][run] == pytest.approx(metrics.mean_squared_error(wanted, answer), rel=1e-5)
        assert ours["mae"][run] == pytest.approx(metrics.mean_absolute_error(wanted, answer), rel=1e-9)
        assert ours["r2"][run] == pytest.approx(metrics.r2_score(wanted, answer), rel=1e-5)
    assert ours["r2"][0] > 0.9 and ours["r2"][2] < 0  # better and worse than the mean


def test_r2_of_the_mean_and_of_the_truth():
    targets = torch.tensor([[1.0, 2.0, 6.0]]).repeat(2, 1)
    outputs = torch.stack([torch.full((3, 1), 3.0), targets[0][:, None]])
    ours = measured(Regression(2.0), outputs, targets)
    np.testing.assert_allclose(ours["r2"], [0, 1], atol=1e-6)  # the loss is of float32
    np.testing.assert_allclose(ours["mse"], [4 * 14 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(ours["mae"], [2 * 2, 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wanted", [[1.5], [0.1 + 0.2, 0.3], [0.7] * 9, [-3.0, -3.0]])
def test_r2_of_equal_targets_is_not_defined(wanted):
    """scikit-learn returns NaN for one example, and 0 or 1 by its own rule for several."""
    targets = torch.tensor([wanted], dtype=torch.float64)
    ours = measured(Regression(2.0), targets[..., None].float() + 1, targets)
    assert np.isnan(ours["r2"]).all() and np.isfinite(ours["loss"]).all()


def test_a_batch_of_one_example(generator):
    loss = Regression(1.0).loss(torch.tensor([[3.0]]), torch.tensor([1.0]))
    assert loss.shape == () and loss.item() == 4
    assert Classification(10).loss(torch.zeros(1, 4), torch.tensor([3])).shape == ()


def test_sums_are_of_each_run_in_double_precision():
    large = 2**24  # plus 1, the first whole number that float32 does not have
    outputs = torch.tensor([[[0.0], [0.0]], [[0.0], [3.0]]])
    sums = Regression(1.0).sums(outputs, torch.tensor([[large, 1.0], [large, 1.0]]))
    assert sums.dtype == torch.float64
    assert sums.tolist() == [[large + 1, large + 1, large**2 + 1], [large + 2, large + 1, large**2 + 1]]


def test_right_answers_are_counted_in_double_precision():
    outputs, targets = torch.ones(1, 1, 1), torch.zeros(1, 1, dtype=torch.int64)
    sums = Classification(10).sums(outputs.expand(1, 2**24 + 1, 1), targets.expand(1, 2**24 + 1))
    assert sums.dtype == torch.float64 and sums.tolist() == [[2**24 + 1]]


def test_task_of():
    assert type(task_of(10, 1.0)) is Classification
    regression = task_of(0, 3.0)
    assert type(regression) is Regression
    assert regression.finish(np.array([2.0]), np.array([[1.0, 0.0, 4.0]]))["mse"] == 18


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("classes", [0, 2, 7, 150])
def test_runs_that_are_measured_together_have_the_numbers_of_each_alone(classes, threads, generator):
    task = task_of(classes, 3.0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        outputs = torch.randn(9, 5000, max(classes, 1), generator=generator) * 3
        outputs[4, 10] = math.nan
        targets = torch.randint(classes, (5000,), generator=generator) if classes else torch.rand(5000)
        pieces = list(zip(outputs.split((4100, 900), 1), targets.split((4100, 900)), strict=True))
        together = task.measure(pieces)
        each = [task.measure([(own[k][None], y) for own, y in pieces])[0] for k in range(len(outputs))]
    finally:
        torch.set_num_threads(before)
    assert repr(together) == repr(each)
