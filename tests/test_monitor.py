"""What a monitor writes before and after a training, as TensorBoard reads it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from small import CONF, option_of
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as curve_metadata
from tensorboard.plugins.text.text_plugin import text_array_to_html

from sweepwise.model.mlp import mlp
from sweepwise.monitor import Monitor
from sweepwise.monitor.curves import THRESHOLDS, precision_recall
from sweepwise.monitor.picture import examples, matrix
from sweepwise.task import Classification

FOLDER = CONF / "monitor"
WHAT = {"graph": True, "images": 4, "confusion": True, "curves": 2}
NOTHING = {"graph": False, "images": 0, "confusion": False, "curves": 0}


@pytest.fixture
def answered():
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    outputs = torch.randn(60, 3, generator=generator) + 2 * torch.nn.functional.one_hot(targets, 3)
    (values,) = Classification(3).measure([(outputs[None], targets)])
    return values, outputs, targets


def show(folder, features, answered, *, step=41, part="val", targets=None, **chosen):
    """All that TensorBoard has of a run that is drawn before and after its training."""
    monitor = Monitor(folder, **chosen)
    x = torch.randn(9, *features, generator=torch.Generator().manual_seed(1))
    y = torch.arange(9) % 3
    monitor.begin(mlp(features, 3, hidden=[4]), x, y)
    values, outputs, wanted = answered
    monitor.final(step, part, values, outputs, wanted if targets is None else targets)
    monitor.close("finished")
    return EventAccumulator(str(folder)).Reload(), x, y


def plugins(accumulator):
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        name = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        found.setdefault(name, []).append(tag)
    for name in ("hparams", "scalars"):
        found.pop(name, None)
    return found


def picture(accumulator, tag):
    (event,) = accumulator.Tensors(tag)
    width, height, png = event.tensor_proto.string_val
    read = np.asarray(Image.open(io.BytesIO(png)))
    assert read.shape == (int(height), int(width), 3)
    return event.step, read


def test_all_of_it_is_found_by_its_tab(tmp_path, answered):
    accumulator, x, y = show(tmp_path, (1, 6, 6), answered, **WHAT)
    assert plugins(accumulator) == {
        "graphs": ["__run_graph__"],
        "images": ["inputs/examples", "confusion/matrix"],
        "text": ["confusion/counts"],
        "pr_curves": ["pr/class_0", "pr/class_1"],
    }
    assert [node.name for node in accumulator.Graph().node][:3] == ["input", "flatten", "linear0"]
    step, inputs = picture(accumulator, "inputs/examples")
    assert step == 0 and np.array_equal(inputs, examples(x[:4].numpy()))
    about = accumulator.SummaryMetadata("inputs/examples")
    assert about.summary_description == f"classes: {y[:4].tolist()}, row by row"
    assert image_metadata.parse_plugin_metadata(about.plugin_data.content).version == 0


def test_the_confusion_matrix_as_a_picture_and_as_a_table(tmp_path, answered):
    _, outputs, targets = answered
    accumulator, _, _ = show(tmp_path, (6,), answered, **WHAT)
    step, drawn = picture(accumulator, "confusion/matrix")
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (targets.numpy(), outputs.argmax(1).numpy()), 1)
    assert step == 41 and np.array_equal(drawn, matrix(counts))
    (event,) = accumulator.Tensors("confusion/counts")
    page = text_array_to_html(np.array(event.tensor_proto.string_val[0]), enable_markdown=True)
    rows = [row.replace("<strong>", "").replace("</strong>", "") for row in page.split("<tr>")[2:]]
    cells = [[int(cell.split("</td>")[0].split(">")[-1]) for cell in row.split("<td")[1:]] for row in rows]
    assert event.step == 41 and cells == [[label, *counts[label]] for label in range(3)]


def test_the_curves_of_the_first_classes(tmp_path, answered):
    _, outputs, targets = answered
    accumulator, _, _ = show(tmp_path, (6,), answered, **WHAT)
    for label in range(2):
        tag = f"pr/class_{label}"
        content = accumulator.SummaryMetadata(tag).plugin_data.content
        assert curve_metadata.parse_plugin_metadata(content).num_thresholds == THRESHOLDS
        (event,) = accumulator.Tensors(tag)
        found = np.frombuffer(event.tensor_proto.tensor_content, "<f4").reshape(6, THRESHOLDS)
        shares = outputs.double().softmax(1)[:, label].numpy()
        assert event.step == 41 and np.array_equal(
            found, precision_recall(shares, (targets == label).numpy())
        )
        assert found[0, 0] == 20 and found[1, 0] == 40  # all are called positive


@pytest.mark.parametrize(
    ("told", "written"),
    [({}, "val"), ({"targets": torch.zeros(60)}, "val"), ({"part": "test"}, "test"), ({"step": -1}, "")],
    ids=["classification", "regression", "test part", "no best weights"],
)
def test_what_the_best_weights_have_reached(tmp_path, answered, told, written):
    accumulator, _, _ = show(tmp_path, (6,), answered, **NOTHING, **told)
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        if tag.startswith("best/"):
            (event,) = accumulator.Tensors(tag)
            assert event.step == 41
            found[tag.removeprefix("best/")] = event.tensor_proto.float_val[0]
    numbers = {name: value for name, value in answered[0].items() if np.ndim(value) == 0}
    assert {"loss", "accuracy"} <= numbers.keys()
    wanted = {f"{written}/{name}": value for name, value in numbers.items()} if written else {}
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("chosen", [NOTHING, {**WHAT, "tensorboard": False}], ids=["nothing", "no events"])
def test_nothing_is_written_that_was_not_asked_for(tmp_path, answered, chosen):
    accumulator, _, _ = show(tmp_path, (1, 6, 6), answered, **chosen)
    assert plugins(accumulator) == {}


@pytest.mark.parametrize("what", WHAT)
def test_each_is_asked_for_by_itself(tmp_path, answered, what):
    accumulator, _, _ = show(tmp_path, (1, 6, 6), answered, **{**NOTHING, what: WHAT[what]})
    wanted = {
        "graph": {"graphs"},
        "images": {"images"},
        "confusion": {"images", "text"},
        "curves": {"pr_curves"},
    }
    assert plugins(accumulator).keys() == wanted[what]


@pytest.mark.parametrize(
    "told",
    [{"part": "test"}, {"step": -1}, {"targets": torch.zeros(60)}],
    ids=["test part", "no best weights", "regression"],
)
def test_there_is_no_picture_of(tmp_path, answered, told):
    accumulator, _, _ = show(tmp_path, (6,), answered, **WHAT, **told)
    assert plugins(accumulator) == {"graphs": ["__run_graph__"]}


@pytest.mark.parametrize("texts", [True, False])
def test_texts_of_a_run_are_written_if_asked_for_and_its_settings_always(tmp_path, texts):
    folder = tmp_path / "main" / "run"
    folder.mkdir(parents=True)
    monitor = Monitor(folder, **NOTHING, texts=texts)
    monitor.describe({"run/config": "a: 1"}, {"a": 1}, ["val/loss"])
    monitor.close("finished")
    tags = EventAccumulator(str(folder)).Reload().Tags()["tensors"]
    assert ("run/config" in tags) == texts and "_hparams_/session_start_info" in tags


def test_what_must_stay_small_writes_none_of_it():
    keys = NOTHING.keys() | {"texts"}
    chosen = {path.stem: option_of(path) for path in FOLDER.glob("*.yaml")}
    for name in ("none", "scalars"):
        assert {key: chosen[name][key] for key in keys} == {**NOTHING, "texts": False}
    assert all(chosen["everything"][key] >= chosen["default"][key] > 0 for key in keys)
