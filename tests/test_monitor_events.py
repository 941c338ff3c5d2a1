"""Event files, read back by TensorBoard's own readers and plugins."""

import errno
import json
import math
import os

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups, metadata
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.text.text_plugin import text_array_to_html

from sweepwise.monitor import columns, events
from sweepwise.monitor.events import EventFile, truncate_events
from sweepwise.monitor.histogram import histograms


def read(path):
    """All events of a file; TensorBoard's reader checks both sums of each record."""
    return [Event.FromString(record) for record in RawEventFileLoader(str(path)).Load()]


def written(folder, write):
    """The events that one call writes, without the first that every file has."""
    with EventFile(folder) as file:
        write(file)
    return read(file.path)[1:]


def provider(folder):
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    return MultiplexerDataProvider(multiplexer, str(folder))


def steps(module, folder, tag):
    accumulator = module.EventAccumulator(str(folder))
    accumulator.Reload()
    series = accumulator.Scalars if module is event_accumulator else accumulator.Tensors
    return [event.step for event in series(tag)]


def test_first_event_and_name(tmp_path):
    with EventFile(tmp_path / "new" / "folder") as file:
        pass
    (first,) = read(file.path)
    assert first.file_version == "brain.Event:2"
    kind, seconds, *_ = file.path.name.removeprefix("events.out.").split(".")
    assert (kind, len(seconds), int(seconds)) == ("tfevents", 10, pytest.approx(first.wall_time, abs=2))


def test_files_of_one_second_are_apart(tmp_path):
    paths = set()
    for step in range(3):
        with EventFile(tmp_path) as file:
            file.scalars(step, {"x": step})
        paths.add(file.path)
    assert len(paths) == 3
    assert steps(plugin_event_accumulator, tmp_path, "x") == [0, 1, 2]


@pytest.mark.parametrize("step", [0, 1, 127, 128, 2**40])
def test_scalars(tmp_path, step):
    values = {"loss/train": 0.1, "größe/学习率": -3, "x" * 300: 1e-45, "empty": 0.0}
    (event,) = written(tmp_path, lambda file: file.scalars(step, values))
    assert event.step == step
    assert event.wall_time > 1.7e9
    assert {v.tag: v.simple_value for v in event.summary.value} == {
        k: np.float32(v) for k, v in values.items()
    }
    assert [v.WhichOneof("value") for v in event.summary.value] == ["simple_value"] * 4


def test_scalars_that_are_not_finite_or_do_not_fit(tmp_path):
    values = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "large": 1e300, "-large": -1e300}
    (event,) = written(tmp_path, lambda file: file.scalars(3, values))
    read_back = {value.tag: value.simple_value for value in event.summary.value}
    assert math.isnan(read_back.pop("nan"))
    assert read_back == {"inf": math.inf, "-inf": -math.inf, "large": math.inf, "-large": -math.inf}


def test_scalars_of_other_types(tmp_path):
    values = {"numpy": np.float32(0.5), "torch": torch.tensor(0.25), "bool": True}
    (event,) = written(tmp_path, lambda file: file.scalars(0, values))
    assert [value.simple_value for value in event.summary.value] == [0.5, 0.25, 1.0]


def test_a_flipped_bit_is_seen_by_the_reader(tmp_path):
    with EventFile(tmp_path) as file:
        file.scalars(1, {"x": 1.0})
    data = bytearray(file.path.read_bytes())
    data[-10] ^= 1
    file.path.write_bytes(data)
    assert len(read(file.path)) == 1


def test_histograms(tmp_path):
    torch.manual_seed(0)
    found = histograms(
        {"weights/größe": torch.randn(1000), "zero": torch.zeros(3), "one": torch.tensor(-2.5)}
    )
    (event,) = written(tmp_path, lambda file: file.histograms(7, found))
    assert event.step == 7
    assert [value.tag for value in event.summary.value] == list(found)
    for value, h in zip(event.summary.value, found.values(), strict=True):
        histo = value.histo
        assert (histo.min, histo.max, histo.num) == (h.minimum, h.maximum, h.count)
        assert (histo.sum, histo.sum_squares) == (h.total, h.squares)
        assert list(histo.bucket_limit) == h.limits.tolist()
        assert list(histo.bucket) == h.counts.tolist()


@pytest.mark.parametrize("x", [torch.empty(0), torch.full((3,), math.nan)])
def test_histogram_of_nothing(tmp_path, x):
    with EventFile(tmp_path) as file:
        file.histograms(0, histograms({"x": x}))
    accumulator = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    (histogram,) = accumulator.Histograms("x")
    assert (histogram.histogram_value.num, histogram.histogram_value.min) == (0, 0.0)
    assert {value for _, value in accumulator.CompressedHistograms("x")[0].compressed_histogram_values} == {
        0.0
    }


def test_bins_that_tensorboard_draws(tmp_path):
    """Buckets (left, right, count) as the Histograms tab gets them: from minimum to maximum without a gap."""
    torch.manual_seed(0)
    x = torch.cat([torch.randn(1000), torch.zeros(50), torch.tensor([100.0])])
    with EventFile(tmp_path) as file:
        file.histograms(0, histograms({"x": x}))
    accumulator = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    (event,) = accumulator.Tensors("x")
    left, right, count = np.frombuffer(event.tensor_proto.tensor_content, np.float32).reshape(-1, 3).T
    assert (left[0], right[-1], count.sum()) == (x.min(), 100.0, 1051)
    assert np.all(left < right)
    assert np.array_equal(left[1:], right[:-1])
    assert count[(left < 0) & (right > 0)] == 50
    assert left[-1] == 96.0
    assert count[-2] == 0


def test_text(tmp_path):
    markdown = "# Größe\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    with EventFile(tmp_path / "run") as file:
        file.text("config/yaml", markdown, step=2)
    found = provider(tmp_path).read_tensors(
        RequestContext(), experiment_id="", plugin_name="text", downsample=9
    )
    (datum,) = found["run"]["config/yaml"]
    assert (datum.step, datum.numpy.item().decode()) == (2, markdown)
    html = text_array_to_html(datum.numpy, enable_markdown=True)
    assert "<h1>Größe</h1>" in html
    assert html.count("<table>") == 1


def test_layout(tmp_path):
    charts = {"Loss": {"both": ["loss/train", "loss/.*"], "one": ["loss/train"]}, "Größe": {"rate": ["lr"]}}
    for run in ("a", "b"):
        with EventFile(tmp_path / run) as file:
            file.layout(charts)
    plugin = CustomScalarsPlugin(TBContext(logdir=str(tmp_path), data_provider=provider(tmp_path)))
    layout = json.loads(plugin.layout_impl(RequestContext(), ""))
    assert charts == {
        category["title"]: {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}
        for category in layout["category"]
    }


def hparams_tab(folder):
    """Columns and rows of the HParams tab, as its two handlers answer."""
    context = Context(TBContext(logdir=str(folder), data_provider=provider(folder)))
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=list(api_pb2.Status.values()), start_index=0, slice_size=99
    )
    rows = list_session_groups.Handler(RequestContext(), context, "", request).run()
    experiment = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    return experiment, {row.name: row for row in rows.session_groups}


def test_hparams(tmp_path):
    values = {"seed": 0, "lr": 0.1, "init": "xavier", "flag": False, "clip": math.inf}
    for seed, status in ((0, "SUCCESS"), (1, "FAILURE"), (2, None)):
        with EventFile(tmp_path / f"seed={seed}") as file:
            file.hparams(values | {"seed": seed})
            file.scalars(5, {"Train/loss": seed / 2})
            if status:
                file.hparams_end(status)
    for seed in (0, 1, 2):
        columns.add(tmp_path / f"seed={seed}", values | {"seed": seed}, ["seed"], ["train/loss"], False)
    experiment, rows = hparams_tab(tmp_path)
    assert list(rows) == ["seed=0", "seed=1", "seed=2"]
    for seed, row in enumerate(rows.values()):
        plain = {key: getattr(value, value.WhichOneof("kind")) for key, value in row.hparams.items()}
        assert plain == values | {"seed": seed, "clip": "inf"}
        assert row.metric_values[0].value == seed / 2
    assert [api_pb2.Status.Name(row.sessions[0].status) for row in rows.values()] == [
        "STATUS_SUCCESS",
        "STATUS_FAILURE",
        "STATUS_UNKNOWN",
    ]
    assert [(metric.name.tag, metric.display_name) for metric in experiment.metric_infos] == [
        ("Train/loss", "last/train/loss")
    ]
    infos = {info.name: info for info in experiment.hparam_infos}
    assert set(infos) == set(values) and [name for name in infos if infos[name].differs] == ["seed"]
    interval = infos["seed"].domain_interval
    assert (interval.min_value, interval.max_value) == (0, 2)
    assert not any(info.HasField("domain_discrete") for info in infos.values())


def test_hparams_tags_are_the_plugins(tmp_path):
    with EventFile(tmp_path) as file:
        file.hparams({"seed": 0})
        file.hparams_end("SUCCESS")
    start, end = [event.summary.value[0] for event in read(file.path)[1:]]
    assert (start.tag, end.tag) == (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    assert (
        metadata.parse_session_start_info_plugin_data(start.metadata.plugin_data.content).start_time_secs
        > 1e9
    )
    assert metadata.parse_session_end_info_plugin_data(end.metadata.plugin_data.content).end_time_secs > 1e9


@pytest.mark.parametrize("value", [None, [1, 2], {}])
def test_hparams_of_other_types_are_refused(tmp_path, value):
    with (
        EventFile(tmp_path) as file,
        pytest.raises(TypeError, match="bool, int, float or str, but layers is"),
    ):
        file.hparams({"seed": 0, "layers": value})


@pytest.mark.parametrize("reader", [event_accumulator, plugin_event_accumulator])
@pytest.mark.parametrize("before", [None, 0])
def test_resume_hides_later_steps(tmp_path, reader, before):
    with EventFile(tmp_path, start_step=before) as file:
        for step in range(6):
            file.scalars(step, {"loss": step})
    with EventFile(tmp_path, start_step=3) as file:
        file.scalars(3, {"loss": 0.0})
    assert read(file.path)[1].session_log.status == SessionLog.START
    assert steps(reader, tmp_path, "loss") == [0, 1, 2, 3]


@pytest.mark.parametrize("reader", [event_accumulator, plugin_event_accumulator])
def test_a_second_file_hides_nothing(tmp_path, reader):
    for step in (5, 2):
        with EventFile(tmp_path) as file:
            file.scalars(step, {"loss": 1.0})
    assert sorted(steps(reader, tmp_path, "loss")) == [2, 5]


def test_written_when_two_seconds_old(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(events.time, "monotonic", lambda: now)
    file = EventFile(tmp_path)
    now = 101.9
    file.scalars(0, {"x": 0.0})
    assert file.path.stat().st_size == 0
    now = 102.0
    file.scalars(1, {"x": 1.0})
    assert len(read(file.path)) == 3
    file.scalars(2, {"x": 2.0})
    assert len(read(file.path)) == 3
    file.flush()
    assert len(read(file.path)) == 4


def test_written_when_the_block_fails(tmp_path):
    with pytest.raises(RuntimeError), EventFile(tmp_path) as file:
        file.scalars(0, {"x": 0.0})
        raise RuntimeError
    assert len(read(file.path)) == 2


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, capsys):
    """An append is whole or undone; it never raises, and is tried again."""
    file = EventFile(tmp_path)
    file.scalars(0, {"x": 0.0})
    usual = os.write
    for room in (0, 7, 14):
        left = [room]

        def write(handle, data, left=left):
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = usual(handle, data[: left[0]])
            left[0] -= taken
            return taken

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            file.flush()
        assert file.path.stat().st_size == 0
    file.scalars(1, {"x": 1.0})
    file.close()
    assert [event.step for event in read(file.path)] == [0, 0, 1]
    said = capsys.readouterr().err
    assert said.count("cannot be written (No space left on device); the training continues") == 1
    assert "lacks" not in said


def test_marked_and_cut(tmp_path):
    """A resume takes back what was written after a mark, in this file and in later ones."""
    with EventFile(tmp_path) as file:
        file.scalars(0, {"x": 0.0})
        sizes = file.mark()
        file.scalars(1, {"x": 1.0})
    with EventFile(tmp_path) as later:
        later.scalars(1, {"x": 1.0})
    assert sizes[file.path.name] < file.path.stat().st_size
    truncate_events(tmp_path, sizes)
    assert not later.path.exists()
    assert [event.step for event in read(file.path)] == [0, 0]


def test_a_file_that_has_lost_its_end_is_named(tmp_path, capsys):
    with EventFile(tmp_path) as file:
        file.scalars(0, {"x": 0.0})
        sizes = file.mark()
    os.truncate(file.path, 30)
    truncate_events(tmp_path, sizes | {"events.out.tfevents.1": 9})
    said = capsys.readouterr().err
    assert f"{file.path.name} has lost its last {sizes[file.path.name] - 30} bytes" in said
    assert "events.out.tfevents.1 has lost its last 9 bytes" in said
