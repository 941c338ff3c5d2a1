"""Accumulation, average, precision and compilation as settings of a whole run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small import CONF, SMALL, composed, option_of
from torch.nn import functional

from sweepwise import run
from sweepwise.checkpoint import Checkpoints
from sweepwise.config.schema import bind
from sweepwise.errors import UsageError
from sweepwise.monitor import Monitor
from sweepwise.store import record
from sweepwise.store.request import Request, identity
from sweepwise.system.progress import Silent
from sweepwise.trainer import Run, fit

OTHER = {"accumulate": 2, "ema": 0.9, "precision": "bf16", "compile": True}


def request(home: Path, *overrides: str) -> Request:
    return Request(composed(*SMALL, f"output_dir={home}", *overrides).config, list(overrides))


def train(home: Path, *overrides: str) -> tuple[Path, run.Result]:
    asked = request(home, *overrides)
    return asked.folder, run.train(asked)


def lines(folder: Path, tag: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row[tag] for row in rows if tag in row]


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / name / "weights.safetensors")


def test_each_is_part_of_a_runs_identity(tmp_path):
    config = dict(request(tmp_path).config)
    assert {key: config["trainer"][key] for key in OTHER} == {
        "accumulate": 1,
        "ema": 0.0,
        "precision": "fp32",
        "compile": False,
    }
    ids = {identity(config)}
    for key, value in OTHER.items():
        ids.add(identity(config | {"trainer": config["trainer"] | {key: value}}))
    assert len(ids) == 5


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("accumulate", 0, r"accumulate=0: must be in \[1, inf\)"),
        ("accumulate", 2.0, "accumulate=2.0: must be a whole number"),
        ("ema", 1.0, r"ema=1.0: must be in \[0, 1\)"),
        ("ema", -0.1, r"ema=-0.1: must be in \[0, 1\)"),
        ("precision", "fp8", "precision=fp8: must be one of fp32, bf16, fp16"),
        ("precision", 16, "precision=16: must be one of fp32, bf16, fp16"),
        ("compile", 1, "compile=1: must be true or false"),
    ],
)
def test_bad_values_are_refused(key, value, told):
    node = option_of(CONF / "trainer" / "default.yaml")
    faults: list[str] = []
    bind("trainer", node, faults)
    assert not faults
    bind("trainer", node | {key: value}, faults)
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(*faults)


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["trainer.accumulate=17"], "trainer.accumulate=17: must be at most 16, the examples of a batch"),
        (
            ["trainer.accumulate=8", "model.norm=batch"],
            "use at most trainer.accumulate=5",
        ),  # the last batch has 11
        (["trainer.compile=true"], r"trainer.compile=true: needs a C\+\+ compiler"),
    ],
)
def test_what_cannot_work_leaves_no_folder(overrides, told, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "nowhere")
    with pytest.raises(UsageError, match=told) as refused:
        run.train(request(tmp_path, *overrides))
    assert len(refused.value.faults) == 1 and refused.value.faults[0].startswith("trainer.")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", ["wine", "diabetes"])
def test_pieces_give_the_metrics_of_whole_batches(data, tmp_path):
    overrides = [f"data={data}", "trainer.max_epochs=3", "monitor.scalars_every=1"]
    whole, _ = train(tmp_path, *overrides)
    pieces, _ = train(tmp_path, *overrides, "trainer.accumulate=4")
    tags = ["train/loss", "val/loss", "train/batch_loss", "gradients/norm", "lr/lr"]
    for tag in [*tags, "val/accuracy" if data == "wine" else "val/mse"]:
        assert lines(pieces, tag) == pytest.approx(lines(whole, tag), rel=1e-4), tag
    assert weights(pieces, "last").keys() == weights(whole, "last").keys()
    assert any(not torch.equal(t, weights(whole, "last")[n]) for n, t in weights(pieces, "last").items())


def test_the_best_average_is_validated_kept_and_tested(tmp_path):
    overrides = ["trainer.max_epochs=40", "optimizer.lr=0.05", "early_stop=patience", "early_stop.patience=3"]
    asked = request(tmp_path, *overrides, "trainer.ema=0.8")
    result = run.train(asked)
    found = record.read(asked.folder)
    assert found["status"] == result.run.status == "stopped early"
    losses = lines(asked.folder, "val/loss")
    assert found["best"]["value"] == min(losses) and found["best"]["epoch"] == losses.index(min(losses))
    assert found["best"]["epoch"] < found["stopped"]["epoch"]
    parts = run.build(asked)
    best, last = weights(asked.folder, "best"), weights(asked.folder, "last")

    def loss(state, part):
        with torch.no_grad():
            outputs = torch.func.functional_call(parts.model.eval(), state, part.x)
        return functional.cross_entropy(outputs, part.y).item()

    average = {name.removeprefix("ema/"): t for name, t in last.items() if name.startswith("ema/")}
    live = {name: t for name, t in last.items() if not name.startswith("ema/")}
    assert best.keys() == live.keys() == average.keys()
    assert loss(best, parts.data.validation) == pytest.approx(min(losses), rel=1e-5)
    assert loss(best, parts.data.test) == pytest.approx(found["best"]["metrics"]["test/loss"], rel=1e-5)
    assert loss(average, parts.data.validation) == pytest.approx(losses[-1], rel=1e-5)
    assert abs(loss(live, parts.data.validation) - losses[-1]) > 1e-4 * losses[-1]
    plain, _ = train(tmp_path, *overrides, "trainer.ema=0")
    until = min(len(lines(plain, "val/loss")), len(losses))
    assert lines(plain, "train/loss")[:until] == lines(asked.folder, "train/loss")[:until]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_mixed_precision_ends_near_that_in_float32(precision, tmp_path):
    overrides = ["trainer.max_epochs=4", "monitor=everything", "monitor.scalars_every=1"]
    fine, _ = train(tmp_path, *overrides)
    coarse, result = train(tmp_path, *overrides, f"trainer.precision={precision}")
    assert result.run.status == "finished"
    for tag in ("train/loss", "val/loss"):
        assert lines(coarse, tag) == pytest.approx(lines(fine, tag), rel=0.02)
        assert lines(coarse, tag) != lines(fine, tag)
    scales = lines(coarse, "gradients/loss_scale")
    assert (len(scales) == 28) if precision == "fp16" else not scales
    assert all(t.dtype == torch.float32 for t in weights(coarse, "last").values())


def test_skipped_steps_are_logged_and_end_no_run(tmp_path):
    parts = run.build(request(tmp_path, "trainer.max_epochs=8", "trainer.precision=fp16"))
    parts.learner._scaling._scaler._init_scale = 2.0**40  # overflows until it has been halved some 20 times
    monitor = Monitor(tmp_path, scalars_every=1, histograms_every=0, tensorboard=False)
    one = Run(parts.schedule, parts.early_stop, 0, monitor, Checkpoints(tmp_path))
    fit(parts.learner, parts.data, parts.task, [one], parts.settings, Silent())
    monitor.close(one.status)
    assert one.status == "finished"
    skipped, scales = lines(tmp_path, "gradients/skipped_steps"), lines(tmp_path, "gradients/loss_scale")
    assert skipped[:3] == [1, 2, 3] and 14 < skipped[-1] < 40 and len(skipped) == 56
    assert scales == [2.0 ** (40 - number) for number in skipped]
    losses = lines(tmp_path, "train/loss")
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[-1] < 0.9 * losses[0]


def test_all_but_the_compiler_together(tmp_path):
    folder, result = train(
        tmp_path,
        "trainer.accumulate=4",
        "trainer.ema=0.5",
        "trainer.precision=fp16",
        "regularizer=[l1,dropout]",
        "trainer.max_steps=2",
    )
    assert (result.exit_code, result.run.status) == (0, "finished")
    assert np.isfinite(record.read(folder)["best"]["metrics"]["test/loss"])


@pytest.mark.slow
def test_a_compiled_run_ends_near_the_plain_one(tmp_path):
    overrides = ["trainer.max_epochs=3", "regularizer=dropout", "monitor=everything"]
    plain, _ = train(tmp_path, *overrides)
    compiled, result = train(tmp_path, *overrides, "trainer.compile=true")
    assert result.run.status == "finished"
    for tag in ("train/loss", "val/loss", "activations/linear0/mean"):
        assert lines(compiled, tag) == pytest.approx(lines(plain, tag), rel=1e-3, abs=1e-5)
