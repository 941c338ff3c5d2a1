# mypy: disable-error-code="import-untyped"
"""TensorBoard event files, written directly.

A file is a row of TFRecords: length (uint64), masked CRC-32C of the length, bytes, masked CRC-32C of the
bytes, all little-endian; the bytes are an `Event` protocol buffer. Scalars and histograms, written all
through training, are encoded here at a tenth of the cost of `SummaryWriter`. What is written once goes
through TensorBoard's own protocol buffers, whose import (15 to 30 ms) waits until then.

Source: TensorFlow, `lib/io/record_writer.cc`; TensorBoard, `compat/proto/{event,summary}.proto`.
"""

import functools
import math
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

from sweepwise.monitor.appended import AppendedFile
from sweepwise.monitor.histogram import Histogram
from sweepwise.monitor.hparams import finite_or_text, hparam_info, hparams_summary
from sweepwise.monitor.picture import Picture, png
from sweepwise.monitor.tfrecord import bytes_field, floats, framed, plugin_summary, texts, varint
from sweepwise.system import atomic
from sweepwise.system.handle import readable

_FILE_VERSION, _GRAPH, _SUMMARY, _SESSION_LOG = 3, 4, 5, 7  # fields of Event
_SESSION_START = b"\x08\x01"  # SessionLog: status = START
_FLOAT = struct.Struct("<f")
_MOMENTS = struct.Struct("<" + 5 * "Bd")  # HistogramProto: fields 1 to 5, doubles


_EXPERIMENT_FILE = "events.out.tfevents.0000000000.experiment"


class EventFile:
    """A new event file in the folder of a run; see `AppendedFile` for when its records reach the disk.

    Args:
        folder: Folder of the run, made if missing.
        start_step: After a resume, the first step that will be written. TensorBoard then forgets what
            earlier files of the folder say about this step and later ones.

    Attributes:
        path: Of the file.
    """

    def __init__(self, folder: Path, start_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = _create(folder)
        self._file = AppendedFile(self.path)
        self._file.add(0, framed(0, _FILE_VERSION, b"brain.Event:2"))
        if start_step is not None:
            for _ in range(2):  # TensorBoard ignores the first start that it meets in a folder
                self._write(start_step, _SESSION_LOG, _SESSION_START)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one event with a number for each tag, as float32; NaN and infinity are kept."""
        encoded = [_scalar_head(tag) + _float32(value) for tag, value in values.items()]
        self._write(step, _SUMMARY, b"".join(encoded))

    def histograms(self, step: int, values: Mapping[str, Histogram]) -> None:
        """Write one event with a histogram for each tag."""
        encoded = [
            bytes_field(1, bytes_field(1, tag.encode()) + bytes_field(5, _histo(value)))
            for tag, value in values.items()
        ]
        self._write(step, _SUMMARY, b"".join(encoded))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write a text in Markdown for the Text tab."""
        self._write(step, _SUMMARY, plugin_summary(tag, "text", texts(markdown.encode())))

    def graph(self, definition: bytes) -> None:
        """Write the Graphs tab's picture of the model, a serialised GraphDef."""
        self._write(0, _GRAPH, definition)

    def image(self, tag: str, picture: Picture, step: int = 0, description: str = "") -> None:
        """Write a picture for the Images tab, with a description in Markdown."""
        height, width, _ = picture.shape
        tensor = texts(str(width).encode(), str(height).encode(), png(picture))
        self._write(step, _SUMMARY, plugin_summary(tag, "images", tensor, description=description))

    def curve(self, tag: str, values: NDArray[np.float32], step: int = 0, description: str = "") -> None:
        """Write precision over recall for the PR Curves tab, as `precision_recall` returns it."""
        from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData

        content = PrCurvePluginData(version=0, num_thresholds=values.shape[1]).SerializeToString()
        summary = plugin_summary(tag, "pr_curves", floats(values), content, description)
        self._write(step, _SUMMARY, summary)

    def layout(self, charts: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write the layout of the Custom Scalars tab.

        Args:
            charts: For each category, for the title of each chart, the tags whose lines it shows: regular
                expressions that match from the start of the tag.
        """
        from tensorboard.plugins.custom_scalar.layout_pb2 import (
            Category,
            Chart,
            Layout,
            MultilineChartContent,
        )

        layout = Layout()
        for category, lines in charts.items():
            chart = [
                Chart(title=title, multiline=MultilineChartContent(tag=tags)) for title, tags in lines.items()
            ]
            layout.category.append(Category(title=category, chart=chart))
        tensor = texts(layout.SerializeToString())
        self._write(0, _SUMMARY, plugin_summary("custom_scalars__config__", "custom_scalars", tensor))

    def hparams(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Write the run's hyperparameters: its row in the HParams tab.

        Raises:
            TypeError: A value is not a bool, int, float or str.
        """
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

        info = SessionStartInfo(start_time_secs=time.time())
        for key, value in values.items():
            value = finite_or_text(value)
            if isinstance(value, bool):
                info.hparams[key].bool_value = value
            elif isinstance(value, int | float):
                info.hparams[key].number_value = value
            elif isinstance(value, str):
                info.hparams[key].string_value = value
            else:
                raise TypeError(
                    f"a hyperparameter is a bool, int, float or str, but {key} is {value!r}; "
                    "leave it out or give its text"
                )
        self._write(0, _SUMMARY, hparams_summary("session_start_info", info))

    def hparams_end(self, status: Literal["SUCCESS", "FAILURE", "RUNNING", "UNKNOWN"]) -> None:
        """Write how the run ended, once: TensorBoard shows the first status that it finds in the folder."""
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

        info = SessionEndInfo(status=Status.Value(f"STATUS_{status}"), end_time_secs=time.time())
        self._write(0, _SUMMARY, hparams_summary("session_end_info", info))

    @staticmethod
    def hparams_experiment(
        folder: Path,
        hparams: Mapping[str, Sequence[bool | int | float | str] | None],
        metrics: Sequence[str],
        shown: Collection[str] = (),
    ) -> None:
        """Write or replace the description of an experiment, at the root of its runs.

        Args:
            folder: The root; one file in it is replaced as a whole.
            hparams: Columns of the HParams tab, with the values that runs take; the tab offers these as a
                filter and hides other values. None offers no filter, nor do values of several types.
            metrics: Tags of the scalars that are columns too.
            shown: The hparams that come first.
        """
        from tensorboard.plugins.hparams.api_pb2 import Experiment, MetricInfo, MetricName

        experiment = Experiment(
            hparam_infos=[hparam_info(key, values) for key, values in hparams.items()],
            metric_infos=[MetricInfo(name=MetricName(tag=tag)) for tag in metrics],
            time_created_secs=time.time(),
        )
        for info in experiment.hparam_infos:
            info.differs = info.name in shown
        version = framed(0, _FILE_VERSION, b"brain.Event:2")
        summary = framed(0, _SUMMARY, hparams_summary("experiment", experiment))
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_atomic(folder / _EXPERIMENT_FILE, version + summary)

    def tab(self, hparams: Mapping[str, object], metrics: Sequence[str], shown: Collection[str]) -> None:
        """Describe the HParams tab of all runs beside this one: their settings, and these metrics alone.

        Without it TensorBoard makes a column of every scalar that any run has. The settings in `shown`, of
        this run or an earlier one, come first: the tab ticks five.
        """
        root = Path(readable(self.path)).parent.parent
        columns = dict.fromkeys(hparams, False) | self.hparams_columns(root)
        columns |= {name: True for name in shown if name in columns}
        self.hparams_experiment(
            root, dict.fromkeys(columns), metrics, [n for n, first in columns.items() if first]
        )

    @staticmethod
    def hparams_columns(folder: Path) -> dict[str, bool]:
        """The columns that the last `hparams_experiment` in a folder has described, and which come first."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        path = folder / _EXPERIMENT_FILE
        content = path.read_bytes() if path.exists() else b""
        columns: dict[str, bool] = {}
        while content:
            end = 12 + int.from_bytes(content[:8], "little")
            for value in Event.FromString(content[12:end]).summary.value:
                told = HParamsPluginData.FromString(value.metadata.plugin_data.content).experiment
                columns |= {info.name: info.differs for info in told.hparam_infos}
            content = content[end + 4 :]
        return columns

    def flush(self) -> None:
        """Append everything that was written to the file."""
        self._file.flush()

    def mark(self) -> dict[str, int]:
        """Bring everything that was written to the disk; returns the bytes of the file, by its name."""
        self._file.flush(sync=True)
        return {self.path.name: self._file.size}

    def close(self) -> None:
        """Append everything that was written; what cannot be is lost, and said to be."""
        self._file.close()

    def _write(self, step: int, field: int, payload: bytes) -> None:
        self._file.add(step, framed(step, field, payload))


def cut(folder: Path, sizes: Mapping[str, int], new: Path | None = None) -> None:
    """Take back what was written to the event files of a folder after a moment.

    Args:
        folder: Of a run that goes on from that moment.
        sizes: Bytes that each file had then, by its name; event files without one came later.
        new: The event file that goes on, which stays.
    """
    found = {path.name: path for path in folder.glob("events.out.tfevents.*") if path != new}
    for path in (path for name, path in found.items() if name not in sizes):
        path.unlink()
    for name in (name for name in sizes if name.startswith("events.out.tfevents.")):
        size = found[name].stat().st_size if name in found else 0
        if size > sizes[name]:
            os.truncate(found[name], sizes[name])
        if size < sizes[name]:
            print(f"warning: {name} has lost its last {sizes[name] - size:,} bytes", file=sys.stderr)


def _create(folder: Path) -> Path:
    """A new empty file in the folder, whose name TensorBoard looks for and reads after the others there.

    It goes by the time in the name, which a clock that was set back would put too early.
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


@functools.cache
def _scalar_head(tag: str) -> bytes:
    """Summary with one Value, up to the four bytes of its simple_value."""
    value = bytes_field(1, tag.encode()) + b"\x15"
    return b"\x0a" + varint(len(value) + _FLOAT.size) + value


def _float32(value: float) -> bytes:
    try:
        return _FLOAT.pack(value)
    except OverflowError:  # a float64 beyond 3.4e38
        return _FLOAT.pack(math.copysign(math.inf, value))


def _histo(histogram: Histogram) -> bytes:
    """HistogramProto. Minimum and maximum of no elements are written as 0."""
    h = histogram
    low, high = (h.minimum, h.maximum) if h.count else (0.0, 0.0)
    moments = _MOMENTS.pack(0x09, low, 0x11, high, 0x19, h.count, 0x21, h.total, 0x29, h.squares)
    limits, counts = h.limits.astype("<f8").tobytes(), h.counts.astype("<f8").tobytes()
    return moments + bytes_field(6, limits) + bytes_field(7, counts)


class NoEvents:
    """An event file that is not written."""

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

    def hparams(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Nothing."""

    def hparams_end(self, status: str) -> None:
        """Nothing."""

    def tab(self, hparams: Mapping[str, object], metrics: Sequence[str], shown: Collection[str]) -> None:
        """Nothing."""

    def mark(self) -> dict[str, int]:
        """No files."""
        return {}

    def close(self) -> None:
        """Nothing."""
