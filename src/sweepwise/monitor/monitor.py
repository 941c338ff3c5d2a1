"""Logs a run while it trains: to metrics.jsonl and, for TensorBoard, to one event file.

A step that is not logged costs one comparison: no hook is attached to the model and nothing is computed.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweepwise.config.ranges import Range
from sweepwise.learner import Watch, Watched
from sweepwise.learner.units import BOUNDED, alive, saturated
from sweepwise.monitor import tags
from sweepwise.monitor.appended import AppendedFile
from sweepwise.monitor.curves import precision_recall
from sweepwise.monitor.events import EventFile, NoEvents, truncate_events
from sweepwise.monitor.graph import graph_definition
from sweepwise.monitor.histogram import histograms
from sweepwise.monitor.hparams import Hparam
from sweepwise.monitor.picture import drawable, examples, matrix
from sweepwise.store.folders import LINES
from sweepwise.store.strict_json import jsonable

_STRICT = json.JSONEncoder(allow_nan=False).encode
START: Mapping[str, Any] = {"step": 0, "log": {}}  # of a run that starts


class Monitor:
    """Logs one run.

    Args:
        folder: the run's; must exist.
        begin: where the run resumes: its 'step', and under 'log' what `mark` returned there.
        scalars_every: steps between two logs of batch loss, learning rate, gradient norm and update-to-weight
            ratios; 0: never.
        histograms_every: steps between two logs of all weights, gradients and activations; 0: never.
        tensorboard: whether to write an event file. metrics.jsonl is written in any case.
        texts: whether the event file has config, overrides and environment, for the Text tab.
        graph: whether to write the structure of the model, before the training.
        images: how many training examples to show, if they are images of 1 or 3 channels, or signals
            (channels, length); 0: none.
        confusion: whether to write the confusion matrix of the best weights on the validation part.
        curves: for how many classes, the first ones, to write precision over recall of the same weights; 0:
            none.
    """

    def __init__(
        self,
        folder: Path,
        begin: Mapping[str, Any] = START,
        *,
        scalars_every: Annotated[int, Range(0)] = 20,
        histograms_every: Annotated[int, Range(0)] = 50,
        tensorboard: bool = True,
        texts: bool = True,
        graph: bool = True,
        images: Annotated[int, Range(0, 64)] = 16,
        confusion: bool = True,
        curves: Annotated[int, Range(0)] = 10,
    ) -> None:
        self._scalars_every = scalars_every
        self._histograms_every = histograms_every
        self._lines = AppendedFile(folder / LINES, begin["log"].get(LINES, 0), b"\n")
        resume_step = begin["step"] if begin["log"] else None
        self._events: EventFile | NoEvents = EventFile(folder, resume_step) if tensorboard else NoEvents()
        # Only now, since the new file's name must come after the names of those that are removed.
        truncate_events(folder, begin["log"], self._events.path)
        earlier = (folder / name for name in begin["log"])
        self._sizes = {path.name: path.stat().st_size for path in earlier if path.exists()}
        self._texts = texts
        self._graph = graph and tensorboard
        self._images = images * tensorboard
        self._confusion = confusion and tensorboard
        self._curves = curves * tensorboard

    def watch(self, step: int) -> Watch:
        """How much is logged of a step."""
        if self._histograms_every and step % self._histograms_every == 0:
            return Watch.TENSORS
        if self._scalars_every and step % self._scalars_every == 0:
            return Watch.SCALARS
        return Watch.NOTHING

    def step(self, step: int, epoch: int, rate: float, watched: Watched) -> None:
        """Logs a step, with as much detail as `watch` asked for."""
        watch = self.watch(step)
        if not watch:
            return
        values = {
            "train/batch_loss": watched.loss,
            "train/penalty": watched.penalty,
            "gradients/norm": watched.gradient_norm,
            "lr/lr": float(rate),
        }
        values |= {f"gradients/{name}": norm for name, norm in watched.clipping.items()}
        for name, ratio in watched.update_ratio.items():
            values[f"update_ratio/{name.removesuffix('.weight')}"] = ratio
        if watch >= Watch.TENSORS:
            values |= self._log_tensors(step, watched)
        self._log(step, epoch, values)

    def epoch(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Logs an epoch's metrics at its last step."""
        self._log(step, epoch, values)

    def _log(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        self._events.scalars(step, {tags.shown(key): value for key, value in values.items()})
        line = {"step": step, "epoch": epoch, **values}
        try:
            text = _STRICT(line)
        except ValueError:
            text = _STRICT(jsonable(line))
        self._lines.add(step, text.encode() + b"\n")

    def _log_tensors(self, step: int, watched: Watched) -> dict[str, float]:
        """Writes the histograms of a step; returns the scalars that summarise them."""
        families = {
            "weights": watched.weights,
            "gradients": watched.gradients,
            "activations": watched.activations,
        }
        tensors = {f"{family}/{name}": t for family, named in families.items() for name, t in named.items()}
        by_tag = histograms(tensors)
        self._events.histograms(step, by_tag)
        values = {}
        for tag, histogram in by_tag.items():
            values[f"{tag}/mean"] = histogram.mean
            values[f"{tag}/std"] = histogram.std
            values[f"{tag}/zeros"] = histogram.zero_share
        return values | _numbers(_unit_health(watched))

    def describe(
        self,
        texts: Mapping[str, str],
        hparams: Mapping[str, Hparam],
        keys: Sequence[str],
        given: Collection[str] = (),
        *,
        tested: bool = False,
    ) -> None:
        """Writes what stays the same throughout the run.

        Args:
            texts: markdown by tag.
            hparams: the settings for the HParams tab.
            keys: of the metrics of an epoch, such as 'train/loss' and 'val/loss'; the curves of one metric
                share a chart of the custom-scalars tab.
            given: the settings that were asked for: they come first in the HParams tab, if they vary.
            tested: whether there is a test part.
        """
        for tag, text in texts.items() if self._texts else ():
            self._events.text(tag, text)
        self._events.hparams(hparams)
        self._events.hparams_tab(hparams, given, keys, tested)
        self._events.layout(tags.charts(keys))

    def begin(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        """Writes the structure of the model, and some examples if they can be drawn; changes nothing in it.

        Args:
            model: features -> outputs.
            x: (examples, *features) of the training part, on the model's device.
            y: (examples,).
        """
        if self._graph:
            self._events.graph(graph_definition(model, x[:2]))
        if self._images and drawable(x.shape[1:]):
            labels = "" if y.is_floating_point() else f"classes: {y[: self._images].tolist()}, row by row"
            picture = examples(x[: self._images].numpy(force=True))
            self._events.image("inputs/examples", picture, description=labels)

    def mark(self) -> dict[str, int]:
        """Appends to both files; returns their sizes, and those of earlier attempts, in bytes."""
        self._lines.flush()
        self._sizes |= {LINES: self._lines.size} | self._events.mark()
        return dict(self._sizes)

    def final(
        self, step: int, part: str, values: Mapping[str, Any], outputs: Tensor, targets: Tensor
    ) -> None:
        """Writes the metrics of the best weights, for the HParams tab, which shows the last value of a tag.

        Of a classification's validation part it writes confusion matrix and precision-recall curves too.

        Args:
            step: the step of the best weights; -1: there are none, and nothing is written.
            part: 'val' or 'test'.
            values: what was measured; its 'confusion' matrix is drawn, if it has one.
            outputs: (examples, classes) logits.
            targets: (examples,).
        """
        if step < 0:
            return
        numbers = {f"{part}/{name}": value for name, value in values.items() if isinstance(value, float)}
        self._events.scalars(step, {tags.best(key): value for key, value in numbers.items()})
        if part != "val" or targets.is_floating_point():
            return
        if self._confusion and "confusion" in values:
            counts = np.array(values["confusion"])
            rows = "a row for each true class, a column for each answer, best weights, validation part"
            self._events.image("confusion/matrix", matrix(counts), step, f"{rows}; shade: share of the row")
            self._events.text("confusion/counts", f"{_table(counts)}\n\n{rows}", step)
        if self._curves:
            shares = outputs.double().softmax(-1).numpy(force=True)[:, : self._curves]
            labels = targets.numpy(force=True)
            for label, share in enumerate(shares.T):
                curve = precision_recall(share, labels == label)
                self._events.curve(f"pr/class_{label}", curve, step, "best weights, validation part")

    def close(self, status: str) -> list[Path]:
        """Writes the run's final status, unless it may go on from here, and closes both files.

        Returns:
            The files, for the caller to bring to the disk.
        """
        if status not in ("interrupted", "pruned"):
            self._events.hparams_end("SUCCESS" if status in ("finished", "stopped early") else "FAILURE")
        self._events.close()
        self._lines.close()
        return [path for path in (self._lines.path, self._events.path) if path and path.exists()]


def _numbers(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars as plain numbers, with one transfer from the device."""
    if not scalars:
        return {}
    return dict(zip(scalars, torch.stack(list(scalars.values())).tolist(), strict=True))


def _table(counts: NDArray[np.integer]) -> str:
    """A confusion matrix in Markdown."""
    lines = [["", *range(len(counts))], ["---:"] * (len(counts) + 1)]
    lines += [[f"**{label}**", *row] for label, row in enumerate(counts.tolist())]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _unit_health(watched: Watched) -> dict[str, Tensor]:
    """The share of dead units (0 for the whole batch) and of saturated outputs, by tag."""
    shares = {}
    for name, values in watched.activations.items():
        kind = watched.kinds[name]
        if kind == "ReLU":
            living, units = alive(values, watched.units.get(name, -1))
            shares[f"activations/{name}/dead"] = 1 - living / units
        if kind in BOUNDED:
            shares[f"activations/{name}/saturated"] = saturated(values, kind)
    return shares
