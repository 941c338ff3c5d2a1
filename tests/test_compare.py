"""Planted differences between two runs: each is found, and said to be where it is."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweepwise.checkpoint import Checkpoints
from sweepwise.monitor import Monitor
from sweepwise.monitor.events import EventFile
from sweepwise.monitor.histogram import histograms
from sweepwise.system.atomic import write_atomic
from sweepwise.verify.compare import compare

STATE = {
    "epoch": 1,
    "history": [{"step": 2, "val/loss": 0.5}, {"step": 5, "val/loss": float("nan")}],
    "learner": {"optimizer": {"state": [{"exp_avg": torch.arange(4.0), "step": torch.tensor(6.0)}]}},
    "generators": {"python": (3, (1, 2, 3), None)},
    "log": {"metrics.jsonl": 10},
}
RECORD = {"status": "finished", "best": {"value": 0.5}, "last": {"val/loss": 0.5}, "seconds": 1.25}


def write_logs(folder: Path, *, steps=range(6), count=1.0, loss=0.25) -> None:
    for path in folder.glob("events.*"):
        path.unlink()
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    monitor = Monitor(folder, graph=False)
    monitor._events.text("run/config", str(folder))
    monitor._events.hparams({"folder": str(folder)})
    monitor._events.graph(b"\x0a\x00")
    values = torch.linspace(-1, 1, 50)
    for step in steps:
        found = histograms({"weights/a": values + step})
        if step == 4:
            found["weights/a"].counts[0] += count - 1
        monitor._events.histograms(step, found)
        monitor._log(step, 0, {"train/batch_loss": step / 3, "lr/lr": 0.1})
    monitor.epoch(5, 0, {"train/loss": 1.0, "val/loss": loss})
    monitor.close("finished")


@pytest.fixture
def runs(tmp_path):
    """Two folders of the same run, made apart."""
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
        write_logs(folder)
        weights = {"layer.weight": torch.linspace(0, 1, 12).view(3, 4), "layer.bias": torch.zeros(3)}
        best = (3, {"layer.weight": torch.ones(3, 4)})
        Checkpoints(folder)._save(6, weights, best, STATE | {"log": {"metrics.jsonl": len(folder.name)}})
        write_atomic(folder / "record.json", json.dumps(RECORD | {"folder": str(folder)}).encode())
    return folders


def difference(one, other) -> str:
    (found,) = compare(one, other)
    return str(found)


def test_none(runs):
    assert compare(*runs) == []


def test_order_is_fixed(runs):
    one, other = runs
    write_logs(other, steps=range(5))
    (other / "record.json").unlink()
    shutil.rmtree(other / "checkpoints")
    kinds = [found.kind for found in compare(one, other)]
    assert kinds == [
        "metrics.jsonl",
        "events",
        "last/weights.safetensors",
        "last/best.safetensors",
        "last/state.pt",
        "best/weights.safetensors",
        "record.json",
    ]
    assert [str(found) for found in compare(one, other)][2:4] == [
        "last/weights.safetensors: there and missing",
        "last/best.safetensors: there and missing",
    ]


def test_a_folder_that_is_not_there(runs):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        compare(runs[0], runs[1] / "nowhere")


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ([0, 1, 2, 2, 3, 4, 5], "step 2, {}: there and there 2 times"),
        ([0, 1, 3, 4, 5], "step 2, {}: there and missing"),
        ([0, 1, 2, 3, 4], "step 5, {}: there and missing"),
        ([0, 1, 2, 3, 4, 5, 6], "step 6, {}: missing and there"),
        ([0, 2, 1, 3, 4, 5], "step 1, {}: is in another order"),
    ],
)
def test_steps(runs, steps, place):
    one, other = runs
    write_logs(other, steps=steps)
    lines, events = compare(one, other)
    assert str(lines) == "metrics.jsonl: " + place.format("epoch of the batch")
    assert str(events) == "events: " + place.format("weights/a")


def test_a_value_of_an_epoch(runs):
    one, other = runs
    write_logs(other, loss=0.25 + 2**-54)  # the next float64; as float32 it is the same
    assert difference(one, other) == "metrics.jsonl: step 5, val/loss: 0.25 and 0.25000000000000006"
    write_logs(other, loss=0.25 + 2**-24)
    assert [(found.kind, found.where) for found in compare(one, other)] == [
        ("metrics.jsonl", "step 5, val/loss"),
        ("events", "step 5, Val/loss"),
    ]


def test_a_line_that_is_cut(runs):
    one, other = runs
    path = other / "metrics.jsonl"
    for cut in (1, 5):
        path.write_bytes(path.read_bytes()[:-cut])
        assert "line 7: is not whole" in difference(one, other)


def test_a_count_of_a_histogram(runs):
    one, other = runs
    write_logs(other, count=2.0)
    assert difference(one, other) == "events: step 4, weights/a: bucket 0: 7.0 and 8.0"


def test_a_bit_of_an_event_file(runs):
    one, other = runs
    (path,) = other.glob("events.*")
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert "is not whole" in difference(one, other)
    path.write_bytes(whole[:-7])
    assert "is not whole" in difference(one, other)


@pytest.mark.parametrize("graphs", [(b"\x0a\x00", b"\x0a\x01"), (b"\x0a\x00", b"\x0a\x00")])
def test_a_graph_or_a_text(runs, graphs):
    for folder, graph, text in zip(runs, graphs, "ab", strict=True):
        with EventFile(folder) as file:
            file.graph(graph)
            file.text("notes/own", text)
    assert ("step 0, graph: 2 and 2 bytes" in difference(*runs)) == (graphs[0] != graphs[1])
    assert ("step 0, notes/own: " in difference(*runs)) == (graphs[0] == graphs[1])


def test_event_files_are_read_one_after_the_other(runs):
    one, other = runs
    with EventFile(one) as file:
        file.scalars(6, {"x": 1.0})
        file.scalars(7, {"x": 2.0})
    for step in (6, 7):
        with EventFile(other, start_step=step) as file:
            file.scalars(step, {"x": step - 5.0})
    assert compare(one, other) == []


def test_a_status_of_the_end(runs):
    one, other = runs
    for folder, status in ((one, "SUCCESS"), (other, "FAILURE")):
        with EventFile(folder) as file:
            file.hparams_end(status)
    assert "_hparams_/session_end_info" in difference(one, other)


def change(path: Path, name: str, place: int, bit: int) -> None:
    """Flips a bit of a float32."""
    tensors = load_file(path)
    numbers = tensors[name].view(-1)
    (as_int,) = struct.unpack("<I", struct.pack("<f", numbers[place].item()))
    numbers[place] = struct.unpack("<f", struct.pack("<I", as_int ^ 1 << bit))[0]
    save_file(tensors, path)


@pytest.mark.parametrize("file", ["last/weights", "best/weights", "last/best"])
def test_a_bit_of_a_weight(runs, file):
    one, other = runs
    change(other / f"checkpoints/{file}.safetensors", "layer.weight", 3, 0)
    found = difference(one, other)
    assert found.startswith(f"{file}.safetensors: layer.weight: 1 of 12 elements differ, by at most ")


def test_a_sign_of_zero(runs):
    one, other = runs
    change(other / "checkpoints/last/weights.safetensors", "layer.bias", 1, 31)
    assert "layer.bias: 1 of 3 elements differ, by at most 0" in difference(one, other)


def test_names_and_shapes_of_weights(runs):
    one, other = runs
    path = other / "checkpoints/last/weights.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"layer.weight": tensors["layer.weight"].view(4, 3)}, path)
    assert difference(one, other) == (
        "last/weights.safetensors: layer.weight: float32 (3, 4) and float32 (4, 3)"
    )
    save_file({"layer.weight": tensors["layer.weight"]}, path)
    assert difference(one, other) == "last/weights.safetensors: layer.bias: there and missing"


def planted(path: Path, change) -> None:
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda s: s.update(epoch=2), "epoch: 1 and 2"),
        (lambda s: s.update(epoch=True), "epoch: 1 and True"),
        (lambda s: s["history"].pop(), "history: 2 and 1 entries"),
        (lambda s: s["history"][1].update({"val/loss": 1.0}), "history[1].val/loss: nan and 1.0"),
        (lambda s: s["history"][0].update(more=1), "history[0].more: missing and there"),
        (
            lambda s: s["learner"]["optimizer"]["state"][0]["exp_avg"].add_(1),
            "learner.optimizer.state[0].exp_avg: 4",
        ),
        (
            lambda s: s["learner"]["optimizer"]["state"][0]["step"].add_(1),
            "learner.optimizer.state[0].step: 1 of 1 elements",
        ),
        (lambda s: s["generators"].update(python=(3, (1, 2, 4), None)), "generators.python[1][2]: 3 and 4"),
    ],
)
def test_state(runs, change, where):
    one, other = runs
    planted(other / "checkpoints/last/state.pt", change)
    assert difference(one, other).startswith(f"last/state.pt: {where}")


def test_a_file_that_cannot_be_read(runs):
    one, other = runs
    for name in ("last/state.pt", "last/weights.safetensors"):
        path = other / "checkpoints" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert f"{name}: " in difference(one, other)
        assert "cannot be read" in difference(one, other)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"last": {"val/loss": 0.75}}, "last.val/loss: 0.5 and 0.75"),
        ({"best": {}}, "best.value: there and missing"),
        ({"status": "stopped early"}, "status: 'finished' and 'stopped early'"),
        ({"best": RECORD["best"] | {"measured": {"val": {}}}}, "best.measured: missing and there"),
    ],
)
def test_results(runs, fields, where):
    one, other = runs
    (other / "record.json").write_text(json.dumps(RECORD | fields))
    assert difference(one, other) == f"record.json: {where}"
