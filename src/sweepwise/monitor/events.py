# mypy: disable-error-code="import-untyped"
"""The event file of one run: what each of TensorBoard's tabs shows of it.

`tfrecord.py` has the format of the file, `hparams.py` that of the HParams tab.
"""

import os
import socket
import struct
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from sweepwise.monitor import columns, tags
from sweepwise.monitor.appended import AppendedFile
from sweepwise.monitor.histogram import Histogram
from sweepwise.monitor.hparams import Hparam, session_end, session_start
from sweepwise.monitor.picture import Picture, png
from sweepwise.monitor.tfrecord import (
    GRAPH,
    SESSION_LOG,
    SUMMARY,
    bytes_field,
    float_tensor,
    framed,
    plugin_summary,
    scalar_summary,
    text_tensor,
    version_record,
)
from sweepwise.system.handle import readable

_SESSION_START = b"\x08\x01"  # SessionLog: status = START
_MOMENTS = struct.Struct("<" + 5 * "Bd")  # HistogramProto: fields 1 to 5, doubles


class EventFile:
    """A new event file in the folder of a run; see `AppendedFile` for when its records are in it.

    Args:
        folder: The run's folder, made if missing.
        start_step: After a resume, the first step that will be written. TensorBoard then ignores what
            earlier files of the folder hold of this step and later ones.

    Attributes:
        path: The file's path.
    """

    def __init__(self, folder: Path, start_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = _create(folder)
        self._file = AppendedFile(self.path)
        self._file.add(0, version_record())
        if start_step is not None:
            for _ in range(2):  # TensorBoard ignores the first start that it finds in a folder
                self._write(start_step, SESSION_LOG, _SESSION_START)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one event with a number for each tag, as float32; NaN and infinity are kept."""
        self._write(step, SUMMARY, scalar_summary(values))

    def histograms(self, step: int, values: Mapping[str, Histogram]) -> None:
        """Write one event with a histogram for each tag."""
        encoded = [
            bytes_field(1, bytes_field(1, tag.encode()) + bytes_field(5, _histo(value)))
            for tag, value in values.items()
        ]
        self._write(step, SUMMARY, b"".join(encoded))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a text in Markdown for the Text tab."""
        self._write(step, SUMMARY, plugin_summary(tag, "text", text_tensor(markdown.encode())))

    def graph(self, definition: bytes) -> None:
        """Write the Graphs tab's picture of the model, a serialised GraphDef."""
        self._write(0, GRAPH, definition)

    def image(self, tag: str, picture: Picture, step: int = 0, description: str = "") -> None:
        """Write a picture for the Images tab, with a description in Markdown."""
        height, width, _ = picture.shape
        tensor = text_tensor(str(width).encode(), str(height).encode(), png(picture))
        self._write(step, SUMMARY, plugin_summary(tag, "images", tensor, description=description))

    def curve(self, tag: str, values: NDArray[np.float32], step: int = 0, description: str = "") -> None:
        """Write precision over recall for the PR Curves tab, as `precision_recall` returns it."""
        from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData

        content = PrCurvePluginData(version=0, num_thresholds=values.shape[1]).SerializeToString()
        summary = plugin_summary(tag, "pr_curves", float_tensor(values), content, description)
        self._write(step, SUMMARY, summary)

    def layout(self, charts: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write the layout of the Custom Scalars tab; see `tags.layout`."""
        tensor = text_tensor(tags.layout(charts).SerializeToString())
        self._write(0, SUMMARY, plugin_summary("custom_scalars__config__", "custom_scalars", tensor))

    def hparams(self, values: Mapping[str, Hparam]) -> None:
        """Write the run's hyperparameters: its row in the HParams tab.

        Raises:
            TypeError: A value is not a bool, int, float or str.
        """
        self._write(0, SUMMARY, session_start(values))

    def hparams_end(self, status: Literal["SUCCESS", "FAILURE", "RUNNING", "UNKNOWN"]) -> None:
        """Write the run's final status, once: TensorBoard shows the first one that it finds in the folder."""
        self._write(0, SUMMARY, session_end(status))

    def hparams_tab(
        self, hparams: Mapping[str, Hparam], given: Collection[str], metrics: Sequence[str], tested: bool
    ) -> None:
        """Add the run to the description of the HParams tab, which all runs beside this one share.

        Without it TensorBoard makes a column of every scalar of every run. See `columns.add`.
        """
        columns.add(Path(readable(self.path)).parent, hparams, given, metrics, tested)

    def flush(self) -> None:
        """Append everything that was written to the file."""
        self._file.flush()

    def mark(self) -> dict[str, int]:
        """Append everything that was written; returns the file's size in bytes, by its name."""
        self._file.flush()
        return {self.path.name: self._file.size}

    def close(self) -> None:
        """Append everything that was written; prints a warning about what cannot be."""
        self._file.close()

    def _write(self, step: int, field: int, payload: bytes) -> None:
        self._file.add(step, framed(step, field, payload))


def truncate_events(folder: Path, sizes: Mapping[str, int], new: Path | None = None) -> None:
    """Remove what was written to the event files of a folder after a checkpoint.

    Args:
        folder: Of a run that resumes from the checkpoint.
        sizes: The size of each file at the checkpoint in bytes, by name; event files without one are newer.
        new: The event file of the resumed run, which stays.
    """
    paths = {path.name: path for path in folder.glob("events.out.tfevents.*") if path != new}
    for path in (path for name, path in paths.items() if name not in sizes):
        path.unlink()
    for name in (name for name in sizes if name.startswith("events.out.tfevents.")):
        size = paths[name].stat().st_size if name in paths else 0
        if size > sizes[name]:
            os.truncate(paths[name], sizes[name])
        if size < sizes[name]:
            print(f"warning: {name} has lost its last {sizes[name] - size:,} bytes", file=sys.stderr)


def _create(folder: Path) -> Path:
    """Creates an empty event file, with a name that TensorBoard reads after the others in the folder.

    TensorBoard sorts by the time in the name; after a clock was set back, the time is that of the last file +
    1.
    """
    others = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
    seconds = max([int(time.time()), *(int(other) + 1 for other in others if other.isdigit())])
    stem = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}"
    number = 0
    while True:
        path = folder / f"{stem}.{number}"
        try:
            path.touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1


def _histo(histogram: Histogram) -> bytes:
    """A HistogramProto. Minimum and maximum of no elements are written as 0."""
    h = histogram
    low, high = (h.minimum, h.maximum) if h.count else (0.0, 0.0)
    moments = _MOMENTS.pack(0x09, low, 0x11, high, 0x19, h.count, 0x21, h.total, 0x29, h.squares)
    limits, counts = h.limits.astype("<f8").tobytes(), h.counts.astype("<f8").tobytes()
    return moments + bytes_field(6, limits) + bytes_field(7, counts)


class NoEvents:
    """Takes the place of an `EventFile` where none is written."""

    path = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def histograms(self, step: int, values: Mapping[str, object]) -> None:
        """Nothing."""

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Nothing."""

    def graph(self, definition: bytes) -> None:
        """Nothing."""

    def image(self, tag: str, picture: Picture, step: int = 0, description: str = "") -> None:
        """Nothing."""

    def curve(self, tag: str, values: NDArray[np.float32], step: int = 0, description: str = "") -> None:
        """Nothing."""

    def layout(self, charts: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Nothing."""

    def hparams(self, values: Mapping[str, Hparam]) -> None:
        """Nothing."""

    def hparams_end(self, status: str) -> None:
        """Nothing."""

    def hparams_tab(
        self, hparams: Mapping[str, Hparam], given: Collection[str], metrics: Sequence[str], tested: bool
    ) -> None:
        """Nothing."""

    def mark(self) -> dict[str, int]:
        """No files."""
        return {}

    def close(self) -> None:
        """Nothing."""
