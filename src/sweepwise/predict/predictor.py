"""A trained network with the preparation of its inputs: rows in, labels and probabilities out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sweepwise.checkpoint import read_weights
from sweepwise.data.loading import evaluation_batches
from sweepwise.data.part import Part
from sweepwise.data.preparation import Label, Preparation
from sweepwise.errors import Failure, UsageError
from sweepwise.learner.flat import FlatParameters
from sweepwise.learner.precision import in_precision
from sweepwise.predict import kept
from sweepwise.predict.kept import Computing
from sweepwise.predict.network import as_in_the_run, build_network, device_of, load_weights
from sweepwise.regularizer import Regularizer
from sweepwise.seed import one_at_a_time

Which = Literal["best", "last"]


class Predictor:
    """A run's network, ready for rows in their original units; see `Preparation` for what rows may be.

    On the rows of the run's own test part, in their order, the outputs are to the bit those that the run
    measured, on the same kind of machine. Threads that call it wait for each other.

    Args:
        name: of the run, for messages.
        network: with its weights.
        preparation: of the inputs.
        computing: how the run computed.
        device: where the network computes.

    Attributes:
        name: of the run.
        precision: of the forward pass.
        network: in evaluation mode, on its device; it takes prepared inputs.
        preparation: of the inputs.
        labels: what each class is called; () for regression.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from sweepwise import Arrays, Predictor, Settings, build, fit, split
        >>> line = split(Arrays("line", np.arange(10.0)[:, None], 3 * np.arange(10.0), 0), batch_size=6)
        >>> sgd, own = partial(torch.optim.SGD, lr=0.25), Settings(max_epochs=60, device="cpu")
        >>> with TemporaryDirectory() as folder:
        ...     fitted = fit(build(data=line, model=nn.Linear(1, 1), optimizer=sgd, settings=own), folder)
        ...     predictor = Predictor.read(folder, model=nn.Linear(1, 1))  # of a run of train.py: run(FOLDER)
        >>> predictor.predict([[20.0]]).round(3).tolist()
        [60.0]
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        preparation: Preparation,
        computing: Computing,
        device: torch.device,
    ) -> None:
        self.name, self._computing, self._device = name, computing, device
        self.network = network.to(device).eval()
        self.preparation = preparation
        self.labels, self.precision = preparation.labels, computing.precision
        # One row, as in the run: where tensors begin may change how a kernel rounds.
        row = FlatParameters(self.network).values
        self._pass = in_precision(self.network, computing.precision, row)

    @classmethod
    def read(
        cls,
        folder: Path | str,
        *,
        checkpoint: Which = "best",
        device: str | torch.device | None = None,
        model: nn.Module | Callable[..., nn.Module] | None = None,
        regularizers: Sequence[Regularizer] = (),
    ) -> Predictor:
        """The network of a run, from its folder alone.

        Args:
            folder: the run's.
            checkpoint: 'best': the weights that the run measured on the test part; 'last': the newest.
            device: where it computes; None: where the run was trained, or else on the CPU.
            model: of a run that `build` made in Python, as it was given there.
            regularizers: likewise; needed if one changes the network, as spectral normalisation does.

        Raises:
            UsageError: it is not the folder of a run, or an argument does not fit it.
            Failure: its weights are not there, damaged, or those of another network.
        """
        folder = Path(folder)
        if checkpoint not in ("best", "last"):
            raise UsageError([f"checkpoint={checkpoint}: must be best or last"])
        found = kept.read(folder)
        preparation, computing = found.preparation, found.computing
        classes = len(preparation.labels)
        weights = read_weights(folder, checkpoint)
        network = build_network(folder, computing, preparation.shape, classes, model, regularizers)
        load_weights(folder, network, weights, average=computing.average)
        return cls(str(folder), network, preparation, computing, device_of(computing, device))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.preparation.shape))
        wanted = f"{len(self.labels)} classes" if self.labels else "a number"
        return f"Predictor({self.name}: {shape} features -> {wanted})"

    def outputs(self, rows: Any) -> NDArray[np.float32]:
        """What the network puts out: logits, (rows, classes), or a scaled number, (rows, 1).

        Raises:
            UsageError: the rows cannot be prepared; the message names the column.
        """
        try:
            inputs = self.preparation(rows)
        except ValueError as error:
            where = str(rows) if isinstance(rows, (str, os.PathLike)) else "rows"
            text = str(error)
            raise UsageError([text if text.startswith(where) else f"{where}: {text}"]) from error
        return self.outputs_of(inputs)

    @one_at_a_time
    def outputs_of(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs for prepared inputs, (rows, *shape): as the run evaluates, in the same batches."""
        x = torch.from_numpy(inputs).to(self._device)
        part = Part(x, torch.zeros(len(x), device=self._device))
        with as_in_the_run(self._computing, self._device):
            # Copies, as a model may change its input.
            outputs = [self._pass(batch.clone()).detach() for batch, _ in evaluation_batches(part)]
        found = torch.cat(outputs) if outputs else torch.empty(0, max(len(self.labels), 1))
        return found.numpy(force=True)

    def probabilities(self, rows: Any) -> NDArray[np.float64]:
        """The probability of each class, (rows, classes), in the order of `labels`.

        Raises:
            UsageError: see `outputs`; or the run is a regression, which has none.
            Failure: the outputs are not finite.
        """
        return self.probabilities_of(self.outputs(rows))

    def predict(self, rows: Any) -> NDArray[Any]:
        """The label of each row as it stands in the data, or its value in the target's units, (rows,).

        Raises:
            UsageError: see `outputs`.
            Failure: the outputs are not finite.
        """
        return self.predictions_of(self.outputs(rows))

    def probabilities_of(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probabilities that outputs mean: their softmax."""
        if not self.labels:
            raise UsageError([f"{self.name}: is a regression, which has no probabilities"])
        return torch.softmax(torch.from_numpy(self._finite(outputs)).double(), 1).numpy()

    def predictions_of(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """The labels or values that outputs mean; of equal outputs the first class."""
        if self.labels:
            return _exact(self.labels)[self._finite(outputs).argmax(1)]
        own = self.preparation
        return self._finite(outputs)[:, 0].astype(np.float64) * own.target_std + own.target_mean

    def _finite(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(outputs).all():
            raise Failure(f"{self.name}: outputs of the network are not finite; has the run diverged?")
        return outputs


def _exact(labels: Sequence[Label]) -> NDArray[Any]:
    """Labels as an array; of objects where another type would change one."""
    found = np.asarray(labels)
    same = [(type(label), label) for label in found.tolist()] == [(type(label), label) for label in labels]
    return found if same else np.asarray(labels, object)
