"""Classification: cross-entropy and its metrics."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sweepwise.task.class_weights import checked_weights
from sweepwise.task.cross_entropies import cross_entropies, with_gradient
from sweepwise.task.metrics import confusion, finish, metric_named, names, parts, recall, sums
from sweepwise.task.protocol import Means, Pieces, chosen, rows, totals

RECORDED_CLASSES = 100  # with more classes the confusion matrix would be too large for the record


class Classification:
    """Cross-entropy in nats, and metrics of the predictions. Targets are int64 classes, or their `soft`.

    With class weights w the loss is the mean over all examples of w[target] * cross-entropy, in training and
    validation. torch's own `cross_entropy(weight=w)` divides by the sum of the weights in a batch instead:
    then the weight of an example would depend on its batch, and batch means could not be averaged. The other
    metrics are not weighted.

    Metrics:
        accuracy: share of correct predictions.
        balanced_accuracy: mean recall over the classes that occur.
        topK, such as top5: share of examples whose class is among the K largest outputs; of equal outputs the
            lower class counts as larger, as for the prediction itself. 1 <= K < classes.
        ece: expected calibration error, the mean over 15 equal bins of the confidence (the largest
            probability) of |accuracy - mean confidence|, weighted by the examples of the bin.

    Args:
        classes: number of classes, >= 1.
        metrics: names of those computed during training.
        class_weights: one for each class, >= 0, not all 0; None: no weights.

    Attributes:
        metrics: their names, after 'loss'.

    Raises:
        ValueError: an unknown metric, or weights that do not fit.

    Source: ece: Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599, eq. 3.
    """

    def __init__(
        self,
        classes: int,
        *,
        metrics: Sequence[str] = ("accuracy",),
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self._classes = classes
        self._weights = None if class_weights is None else checked_weights(class_weights, classes)
        measured = chosen(metrics)
        every = dict.fromkeys([*names(classes), *measured])
        self.metrics = ("loss", *measured)
        self._every = {name: metric_named(name, classes) for name in every}
        self._chosen = {name: self._every[name] for name in measured}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, each example times the weight of its class."""
        if self._weights is None:
            return functional.cross_entropy(outputs, targets)
        weights = self._weights_like(outputs)
        return functional.cross_entropy(outputs, targets, weights, reduction="sum") / len(targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`loss` of each run."""
        return cross_entropies(outputs, targets, self._weights_like(outputs))

    def losses_and_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `Task.losses_and_gradient`."""
        return with_gradient(outputs, targets, self._weights_like(outputs))

    def _weights_like(self, outputs: Tensor) -> Tensor | None:
        if self._weights is not None:
            self._weights = self._weights.to(outputs.device, outputs.dtype)
        return self._weights

    def soft(self, targets: Tensor) -> Tensor:
        """One-hot, (batch, classes)."""
        return functional.one_hot(targets, self._classes).to(torch.get_default_dtype())

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The terms of the chosen metrics, (runs, terms)."""
        return sums(self._chosen, outputs, targets)

    def finish(self, loss: Means, means: Means) -> dict[str, Means]:
        """Loss and the chosen metrics."""
        return {"loss": loss} | finish(self._chosen, means)

    def measure(self, pieces: Pieces) -> list[dict[str, Any]]:
        """Every metric, the confusion matrix (rows: true classes) and the recall of each class.

        The recall of a class without examples is NaN. The matrix is left out beyond 100 classes.
        """
        matrix = {"confusion": confusion(self._classes)} if self._classes <= RECORDED_CLASSES else {}
        measured = self._every | matrix
        loss, terms, examples = totals(self.loss, partial(sums, measured), pieces)
        metrics = rows({"loss": loss / examples} | finish(self._every, terms / examples))
        counts = parts(measured, terms)
        for run, values in enumerate(metrics):
            values["recall"] = recall(counts["balanced_accuracy"])[run].tolist()
            if matrix:
                square = counts["confusion"][run].reshape(self._classes, self._classes)
                values["confusion"] = square.astype(int).tolist()
        return metrics
