"""Every metric of classes against scikit-learn, numpy and worked examples; alike for one run and for many."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from sweepwise.early_stop import sign
from sweepwise.task import Classification, Regression, metrics, task_of

NAMES = ["accuracy", "balanced_accuracy", "top2", "ece"]


def answers(runs=3, examples=400, classes=5, seed=0):
    """Logits that are more and more right from run to run; the last class is rare."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([1.0] * (classes - 1) + [0.1])
    targets = torch.multinomial(shares, runs * examples, replacement=True, generator=generator)
    targets = targets.view(runs, examples)
    outputs = 2 * torch.randn(runs, examples, classes, generator=generator)
    hints = torch.arange(runs)[:, None, None] * torch.nn.functional.one_hot(targets, classes)
    return outputs + 2 * hints, targets


def measured(task, outputs, targets):
    """Of runs with targets of their own, with the loss left out."""
    means = task.sums(outputs, targets).numpy() / targets.shape[1]
    return {name: v for name, v in task.finish(np.zeros(len(outputs)), means).items() if name != "loss"}


def logits(shares):
    return torch.tensor(shares, dtype=torch.float64).log()[None]


def calibration_error(outputs, targets, bins=15):
    """As Guo et al. write it: a sum over bins of their weight times |accuracy - confidence|."""
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    confidence, right = shares.max(1), shares.argmax(1) == targets
    error = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("examples", [1, 2, 400])
def test_metrics_of_classes_as_by_sklearn_and_numpy(examples):
    outputs, targets = answers(examples=examples)
    ours = measured(Classification(5, metrics=[*NAMES, "top4"]), outputs, targets)
    assert list(ours) == [*NAMES, "top4"]
    for run in range(len(outputs)):
        logit, wanted = outputs[run].double().numpy(), targets[run].numpy()
        answer = logit.argmax(1)
        assert ours["accuracy"][run] == pytest.approx(sklearn_metrics.accuracy_score(wanted, answer))
        recalls = [(answer[wanted == label] == label).mean() for label in set(wanted.tolist())]
        assert ours["balanced_accuracy"][run] == pytest.approx(np.mean(recalls))
        assert ours["ece"][run] == pytest.approx(calibration_error(logit, wanted), rel=1e-9)
        for k in (2, 4):
            top = sklearn_metrics.top_k_accuracy_score(wanted, logit, k=k, labels=range(5))
            assert ours[f"top{k}"][run] == pytest.approx(top)
        if examples == 400:
            balanced = sklearn_metrics.balanced_accuracy_score(wanted, answer)
            assert ours["balanced_accuracy"][run] == pytest.approx(balanced)
            assert balanced != pytest.approx(ours["accuracy"][run], abs=1e-3)


def test_balanced_accuracy_of_classes_that_occur_only():
    outputs = torch.eye(4)[torch.tensor([[0, 0, 1, 3]])]
    found = measured(Classification(4, metrics=["balanced_accuracy"]), outputs, torch.tensor([[0, 0, 0, 1]]))
    assert found["balanced_accuracy"].tolist() == [pytest.approx((2 / 3 + 0) / 2)]


def test_calibration_error_of_worked_examples(monkeypatch):
    """Nine examples in five bins, by hand; four in three, of torchmetrics' MulticlassCalibrationError."""
    nine = [0.78, 0.36, 0.08, 0.58, 0.49, 0.85, 0.30, 0.63, 0.17]
    labels = torch.tensor([[0, 1, 0, 0, 0, 0, 1, 1, 1]])
    monkeypatch.setattr(metrics, "CALIBRATION_BINS", 5)
    ours = measured(Classification(2, metrics=["ece"]), logits([[p, 1 - p] for p in nine]), labels)
    by_bin = 2 / 9 * (0.545 - 1 / 2) + 4 / 9 * (3 / 4 - 0.6875) + 3 / 9 * (2.6 / 3 - 2 / 3)
    assert by_bin == pytest.approx(0.10444, abs=1e-5) and ours["ece"] == pytest.approx([by_bin])
    four = [[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]]
    monkeypatch.setattr(metrics, "CALIBRATION_BINS", 3)
    ours = measured(Classification(3, metrics=["ece"]), logits(four), torch.tensor([[0, 1, 2, 0]]))
    assert ours["ece"] == pytest.approx([0.2], abs=1e-9)


@pytest.mark.parametrize(("right", "expected"), [([1, 1], 0.0), ([1, 0], 0.5), ([0, 0], 1.0)])
def test_calibration_error_of_the_certain(right, expected):
    outputs = 1e3 * torch.eye(2)[torch.tensor([[1, 1]])]
    ours = measured(Classification(2, metrics=["ece"]), outputs, torch.tensor([right]))
    assert ours["ece"].tolist() == [pytest.approx(expected)]


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    """Guo et al.: ((m - 1) / M, m / M]; with 1/15 of the classes each share is an edge, and 0.5 is none."""
    outputs = torch.zeros(1, 2, 15, dtype=torch.float64)
    gaps = metrics._gaps(outputs, torch.tensor([[0, 1]]))[0]
    assert gaps.count_nonzero() == 1 and gaps[0].item() == pytest.approx(1 - 2 / 15)


def test_of_equal_outputs_the_lower_class_comes_first():
    outputs = torch.zeros(1, 4, 4)
    targets = torch.arange(4)[None]
    ours = measured(Classification(4, metrics=["accuracy", "top1", "top2", "top3"]), outputs, targets)
    assert [value.tolist() for value in ours.values()] == [[0.25], [0.25], [0.5], [0.75]]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_number_is_never_right(name):
    outputs = torch.full((1, 3, 4), math.nan)
    found = measured(Classification(4, metrics=[name]), outputs, torch.tensor([[1, 2, 3]]))[name][0]
    assert math.isnan(found) if name == "ece" else found == 0


@pytest.mark.parametrize("examples", [1, 7, 2048, 5000])
@pytest.mark.parametrize("classes", [2, 11])
def test_one_run_is_to_the_bit_what_it_is_among_others(examples, classes):
    names = ["accuracy", "balanced_accuracy", "ece", "top1"]
    outputs, targets = answers(4, examples, classes)
    task = Classification(classes, metrics=names)
    together = measured(task, outputs, targets)
    for run in range(4):
        alone = measured(task, outputs[run : run + 1], targets[run : run + 1])
        assert {name: value[run] for name, value in together.items()} == {n: v[0] for n, v in alone.items()}


def test_only_what_was_chosen_is_computed():
    outputs, targets = answers()
    assert Classification(5, metrics=[]).sums(outputs, targets).shape == (3, 0)
    assert Classification(5).sums(outputs, targets).shape == (3, 1)
    assert Classification(5, metrics=["ece", "loss", "ece"]).metrics == ("loss", "ece")
    values = Classification(5, metrics=[]).finish(np.ones(3), np.empty((3, 0)))
    assert {name: v.tolist() for name, v in values.items()} == {"loss": [1, 1, 1]}


# --- all of them, at the end


@pytest.mark.parametrize("cuts", [[], [1], [100, 350]])
def test_everything_is_measured_at_the_end(cuts):
    outputs, _ = answers(classes=7)
    targets = answers(1, classes=7, seed=1)[1][0]
    targets[targets == 3] = 2  # 3 does not occur
    ends = [*cuts, len(targets)]
    pieces = [(outputs[:, a:b], targets[a:b]) for a, b in zip([0, *cuts], ends, strict=True)]
    found = Classification(7, metrics=["top3"]).measure(pieces)
    assert len(found) == 3
    for run, values in enumerate(found):
        logit, wanted = outputs[run].double().numpy(), targets.numpy()
        answer = logit.argmax(1)
        names = ["loss", "accuracy", "balanced_accuracy", "ece", "top5", "top3", "recall", "confusion"]
        assert list(values) == names
        confusion = sklearn_metrics.confusion_matrix(wanted, answer, labels=range(7))
        assert values["confusion"] == confusion.tolist()
        assert all(type(count) is int for row in values["confusion"] for count in row)
        recall = sklearn_metrics.recall_score(
            wanted, answer, labels=range(7), average=None, zero_division=np.nan
        )
        assert values["recall"] == pytest.approx(recall.tolist(), nan_ok=True) and math.isnan(recall[3])
        shares = torch.tensor(logit).softmax(1).numpy()
        assert values["loss"] == pytest.approx(
            sklearn_metrics.log_loss(wanted, shares, labels=range(7)), rel=1e-5
        )
        assert values["balanced_accuracy"] == pytest.approx(np.nanmean(recall))
        for k in (3, 5):
            top = sklearn_metrics.top_k_accuracy_score(wanted, logit, k=k, labels=range(7))
            assert values[f"top{k}"] == pytest.approx(top)
        assert values["ece"] == pytest.approx(calibration_error(logit, wanted), rel=1e-9)


@pytest.mark.parametrize(
    ("classes", "has_top5", "has_matrix"),
    [(2, False, True), (5, False, True), (6, True, True), (101, True, False)],
)
def test_top5_needs_more_classes_and_the_matrix_fewer(classes, has_top5, has_matrix):
    (found,) = Classification(classes).measure([(torch.zeros(1, 3, classes), torch.tensor([0, 1, 1]))])
    assert ("top5" in found, "confusion" in found) == (has_top5, has_matrix)
    assert len(found["recall"]) == classes


def test_a_regression_is_measured_by_all_it_has():
    outputs, targets = torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([1.0, 2.0, 3.0])
    (found,) = Regression(2.0, metrics=[]).measure([(outputs, targets)])
    assert found == pytest.approx({"loss": 1 / 3, "mse": 4 / 3, "mae": 2 / 3, "r2": 0.5})


# --- choosing


@pytest.mark.parametrize("name", [*NAMES, "top5", "top12", "loss", "mse", "mae", "r2"])
def test_early_stopping_knows_which_way_is_better(name):
    higher = name not in ("loss", "ece", "mse", "mae")
    assert sign(f"val/{name}", "auto") == (-1 if higher else 1)


@pytest.mark.parametrize(
    ("classes", "name", "told"),
    [
        (3, "acuracy", "trainer.metrics=acuracy: unknown; did you mean 'accuracy'?"),
        (3, "mse", "unknown; there is accuracy, balanced_accuracy, ece, loss"),
        (3, "top3", "trainer.metrics=top3: must have a K from 1 to 2"),
        (10, "top0", "trainer.metrics=top0: must have a K from 1 to 9"),
        (0, "accuracy", "trainer.metrics=accuracy: unknown; there is mse, mae, r2"),
        (0, "msee", "did you mean 'mse'?"),
    ],
)
def test_a_metric_that_the_task_does_not_have_is_refused(classes, name, told):
    with pytest.raises(ValueError) as refused:
        task_of(classes, 1.0, metrics=[name])
    assert told in str(refused.value)


def test_what_is_measured_if_nothing_was_chosen():
    assert task_of(10, 1.0).metrics == ("loss", "accuracy")
    assert task_of(0, 1.0).metrics == ("loss", "mse", "mae", "r2")
    assert task_of(0, 1.0, metrics=["r2"]).metrics == ("loss", "r2")
