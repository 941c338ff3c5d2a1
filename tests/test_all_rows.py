"""Training without a validation part, or without a test part: the last fit, on all rows, after a choice."""

import json
import math
import runpy
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file
from small import PLAIN, ROOT, TINY, composed
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from sweepwise import Arrays, Settings, build, fit, run, split
from sweepwise.data import Part
from sweepwise.data.digits import digits
from sweepwise.data.memmap import memmap
from sweepwise.data.sklearn_sets import diabetes, wine
from sweepwise.data.table import table
from sweepwise.early_stop.never import Never
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.init.default import keep_
from sweepwise.monitor import columns
from sweepwise.monitor.read import events
from sweepwise.run import from_config
from sweepwise.scheduler import Schedule
from sweepwise.store import history, record
from sweepwise.sweep.local import groups, launch
from sweepwise.verify.compare import compare

ALL = ["data.validation=0", "data.test=0"]
LAST = {"metric": None, "value": None, "metrics": {}, "measured": {}}
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
NOTE = "there is no validation part: the best weights are the last ones"
DRAW = np.random.default_rng(0)

pytestmark = pytest.mark.usefixtures("empty_folder")


def sizes(data):
    return tuple(len(part.y) for part in (data.train, data.validation, data.test))


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((0, 0), (178, 0, 0)), ((0, 0.2), (142, 0, 36)), ((0.2, 0), (142, 36, 0)), ((0.0, -0.0), (178, 0, 0))],
)
def test_a_part_of_no_share_is_trained_on(shares, expected):
    data = split(wine(), validation=shares[0], test=shares[1], standardize=False)
    assert sizes(data) == expected
    rows = torch.cat([data.train.x, data.validation.x, data.test.x])
    assert sorted(rows.tolist()) == sorted(wine().x.astype(np.float32).tolist())


def test_all_rows_are_scaled_by_all_rows():
    data = split(diabetes(), validation=0, test=0)
    x, y = diabetes().x, diabetes().y
    np.testing.assert_allclose(np.sort(data.train.x, 0), np.sort((x - x.mean(0)) / x.std(0), 0), atol=1e-5)
    assert (data.target_mean, data.target_std) == pytest.approx((y.mean(), y.std()))


def test_the_own_test_part_stays_one():
    own = Arrays("own", np.arange(50.0)[:, None], np.arange(50) % 2, 2, np.ones((20, 1)), np.arange(20) % 2)
    assert sizes(split(own, batch_size=8, validation=0)) == (50, 0, 20)
    with pytest.raises(ValueError, match=r"data\.test=0: has no effect, as own has its own; leave it out"):
        split(own, batch_size=8, test=0)


def test_rows_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(80.0).reshape(40, 2))
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    arrays = memmap(x=str(tmp_path / "x.npy"), y=str(tmp_path / "y.npy"))
    data = split(arrays, batch_size=8, validation=0, test=0)
    assert sizes(data) == (40, 0, 0)
    fitted = fit(build(data=data, model=nn.Linear(2, 2), optimizer=SGD, settings=Settings(max_epochs=2)))
    assert (fitted.status, fitted.final) == ("finished", {})


@pytest.mark.parametrize(
    ("shares", "kept", "notes"),
    [
        ({"validation": 0}, ["test"], ["data.validation=0: the 20 examples of the validation part"]),
        ({"test": 0}, ["val"], ["data.test=0: the 30 examples of the test part"]),
        ({"validation": 0, "test": 0}, [], ["data.validation=0: the 20", "data.test=0: the 30"]),
    ],
)
@pytest.mark.parametrize("order", ["stored", "random"])
def test_the_parts_of_a_table_are_trained_on_too(shares, kept, notes, order, tmp_path):
    parts = DRAW.permutation(np.repeat(["train", "val", "test"], [50, 20, 30]))
    rows = pandas.DataFrame({"row": np.arange(100) * 1.0, "y": np.arange(100) % 2, "fold": parts})
    rows.to_csv(tmp_path / "a.csv", index=False)
    arrays = table(path=str(tmp_path / "a.csv"), part="fold")
    data = split(arrays, batch_size=8, standardize=False, split_order=order, **shares)
    trained = data.train.x[:, 0].int().tolist()
    expected = rows.index[~rows.fold.isin(kept)].tolist()
    assert (trained if order == "stored" else sorted(trained)) == expected
    found = [note for note in data.notes if "trained on" in note]
    assert [note.startswith(start) for note, start in zip(found, notes, strict=True)] == [True] * len(notes)


def test_missing_values_are_filled_by_all_rows(tmp_path):
    rows = pandas.DataFrame({"a": DRAW.normal(size=60), "b": DRAW.normal(size=60), "y": np.arange(60) % 2})
    rows.loc[DRAW.choice(60, 12, replace=False), "a"] = np.nan
    rows.to_csv(tmp_path / "a.csv", index=False)
    arrays = table(path=str(tmp_path / "a.csv"), missing="median")
    data = split(arrays, batch_size=8, validation=0, test=0, split_order="stored")
    filled = rows[["a", "b"]].fillna(rows.a.median())
    expected = (filled - filled.mean()) / filled.std(ddof=0)
    np.testing.assert_allclose(data.train.x.numpy(), expected.to_numpy(), atol=1e-6)


def built(data, **chosen):
    torch.manual_seed(5)
    linear = nn.Linear(*data.features, data.outputs)
    given = {"model": lambda: linear, "optimizer": SGD, "init": keep_, "seed": 3}
    settings = Settings(**{"max_epochs": 7, "device": "cpu"} | chosen.pop("settings", {}))
    return build(data=data, settings=settings, **given | chosen)


def test_the_weights_are_those_of_a_plain_loop_over_all_rows():
    data = split(wine(), batch_size=16, validation=0, test=0)
    fitted = fit(built(data))
    torch.manual_seed(5)
    model = nn.Linear(13, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(7):
        losses = []
        for rows in data.order(3, epoch).split(16):
            loss = functional.cross_entropy(model(data.train.x[rows]), data.train.y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(rows))
        assert fitted.history[epoch]["train/loss"] == pytest.approx(sum(losses) / 178, rel=1e-5)
    for own, plain in zip(fitted.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-6)
    assert (fitted.best.metric, fitted.best.epoch, fitted.best.step) == (None, 6, 83)
    assert math.isnan(fitted.best.value) and fitted.final == {} and NOTE in fitted.notes
    assert all(tag.startswith("train/") for tag in fitted.metrics)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_validation_part_that_nobody_looks_at_changes_nothing(ema):
    """Its labels are wrong, so that by the validation loss the best epoch is not the last."""
    data, settings = split(digits(), examples=200, validation=0, test=0), {"ema": ema}
    held = replace(data, validation=Part(data.train.x[:20], (data.train.y[:20] + 1) % 10))
    without = fit(built(data, settings=settings))
    watched = fit(built(held, settings=settings, early_stop=Never(metric=None)))
    chosen = fit(built(held, settings=settings))
    assert chosen.best.epoch < 6 and watched.best.epoch == without.best.epoch == 6
    for one, other in zip(without.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)
    trained = [{tag: v for tag, v in line.items() if tag[:3] != "val"} for line in watched.history]
    assert trained == list(without.history)


@pytest.mark.parametrize("rule", [Patience(patience=1), Patience(patience=1, metric="val/accuracy")])
def test_a_rule_that_was_chosen_is_refused_from_python(rule):
    with pytest.raises(UsageError) as refused:
        built(split(wine(), validation=0), early_stop=rule)
    (fault,) = str(refused.value).splitlines()
    trained = rule.metric.replace("val", "train")
    assert fault == (
        f"early_stop.metric={rule.metric}: is never logged, as there is no validation part "
        f"(data.validation=0); use early_stop.metric={trained}, or early_stop=none"
    )
    assert fit(built(split(wine(), validation=0), early_stop=Patience(patience=1, metric=trained))).status


def test_early_stopping_by_the_training_loss():
    rule = Patience(metric="train/loss", patience=2, min_delta=0.3)
    fitted = fit(built(split(wine(), validation=0), early_stop=rule, settings={"max_epochs": 40}))
    losses = [line["train/loss"] for line in fitted.history]
    assert fitted.status == "stopped early" and fitted.best.epoch == int(np.argmin(losses))
    assert fitted.best.metric == "train/loss" and fitted.best.value == min(losses)


def test_plateau_by_the_training_loss():
    plateau = partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.9)
    data = split(wine(), validation=0, batch_size=142)
    with pytest.raises(UsageError, match=r"use scheduler\.metric=train/loss, or scheduler=constant"):
        built(data, scheduler=plateau)
    parts = built(data, scheduler=partial(Schedule, plateau, metric="train/loss"))
    fitted = fit(parts)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    alone, rates = plateau(optimizer), []
    for line in fitted.history:
        rates.append(optimizer.param_groups[0]["lr"])
        alone.step(line["train/loss"])
    assert parts.schedule.rates.tolist() == pytest.approx(rates) and len(set(rates)) > 2


def notes_of(*overrides):
    return from_config.build(composed(*TINY, "progress=false", *overrides)).notes


def test_what_is_only_the_default_becomes_inactive():
    assert f"{NOTE}, and early stopping has no effect" in notes_of(*ALL)
    assert NOTE in notes_of(*ALL, "early_stop=none")
    pictures = "monitor.confusion and monitor.curves: nothing is drawn, as there is no validation part"
    assert pictures in notes_of(*ALL) and not any("drawn" in note for note in notes_of("data.test=0"))
    assert not any("drawn" in note for note in notes_of(*ALL, "monitor=none"))
    assert not any("validation part" in note for note in notes_of("data.test=0"))
    parts = from_config.build(composed(*TINY, *ALL))
    assert isinstance(parts.early_stop, Never) and parts.early_stop.metric is None


def test_validating_more_rarely_never_acts():
    said = "trainer.validate_every=3 never acts: there is no validation part"
    assert said in notes_of(*ALL, "trainer.validate_every=3")
    assert not any("validate_every" in note for note in notes_of(*ALL))


PLATEAU = ["scheduler=plateau", "early_stop=none"]


@pytest.mark.parametrize(
    ("overrides", "remedies"),
    [
        (["early_stop=patience"], ["early_stop.metric=train/loss", "early_stop=none"]),
        (["early_stop.patience=3"], ["early_stop.metric=train/loss"]),
        (
            ["early_stop=patience", "early_stop.metric=val/accuracy"],
            ["early_stop.metric=train/accuracy"],
        ),
        (["early_stop=none", "early_stop.metric=val/accuracy"], ["early_stop.metric=train/accuracy"]),
        (PLATEAU, ["scheduler.metric=train/loss", "scheduler=constant"]),
        (
            [*PLATEAU, "scheduler.metric=val/accuracy", "scheduler.mode=max"],
            ["scheduler.metric=train/accuracy"],
        ),
    ],
)
def test_what_was_chosen_is_refused_with_a_way_out(overrides, remedies):
    with pytest.raises(UsageError) as refused:
        notes_of(*ALL, *overrides)
    (fault,) = str(refused.value).splitlines()
    for remedy in remedies:
        assert f"use {remedy}" in fault or f"or {remedy}" in fault
        notes_of(*ALL, *overrides, remedy)


def trained(*overrides, fused=False):
    request = composed(*TINY, *PLAIN, "trainer.max_epochs=4", *overrides)
    return request, run.train(request, fused=fused)


def test_the_record_and_the_files_of_a_run_on_all_rows(capsys):
    request, result = trained(*ALL, "monitor=everything")
    folder, known = request.folder, record.read(request.folder)
    assert known["best"] == LAST | {"epoch": 3, "step": result.run.step}
    assert set(known["last"]) == {"train/loss", "train/accuracy"}
    assert (
        NOTE in known["notes"] and "best          the last weights, at epoch 3\n" in capsys.readouterr().out
    )
    best, last = (
        load_file(folder / "checkpoints" / name / "weights.safetensors") for name in ("best", "last")
    )
    assert best.keys() == last.keys() and all(torch.equal(best[name], last[name]) for name in best)
    assert [line["epoch"] for line in history.history(folder)] == [0, 1, 2, 3]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert not any(tag.startswith(("val/", "test/")) for line in lines for tag in line)
    entries = list(events(folder))
    assert not any(entry.tag.startswith(("Val/", "best/", "confusion/", "pr/")) for entry in entries)
    (layout,) = (entry.content for entry in entries if entry.tag == "custom_scalars__config__")
    assert b"Train/loss$" in layout and b"Val" not in layout
    assert list(columns.read(folder.parent).metrics) == ["train/loss", "train/accuracy"]
    assert not columns.read(folder.parent).tested


def test_the_columns_of_runs_that_were_validated_stay():
    trained()
    request, _ = trained(*ALL)
    known = columns.read(request.folder.parent)
    assert known.tested and set(known.metrics) == {
        f"{part}/{name}" for part in ("train", "val") for name in ("loss", "accuracy")
    }


@pytest.mark.parametrize(("share", "part"), [("data.validation=0", "test"), ("data.test=0", "val")])
def test_what_is_there_is_measured(share, part):
    known = record.read(trained(share)[0].folder)
    assert list(known["best"]["measured"]) == [part]
    assert list(known["best"]["metrics"]) == [f"{part}/loss", f"{part}/accuracy"]


def test_a_training_loss_that_is_not_finite_is_seen():
    request, result = trained(*ALL, "optimizer=sgd", "optimizer.lr=1e30")
    known = record.read(request.folder)
    assert result.run.status == known["status"] == "diverged" and known["best"]["epoch"] < 3


def test_fused_as_alone():
    requests = [
        composed(*TINY, *PLAIN, *ALL, "trainer.max_epochs=3", f"seed.value={seed}", f"output_dir={home}")
        for home in ("alone", "fused")
        for seed in (0, 1)
    ]
    for request in requests[:2]:
        run.train(request, fused=True)
    assert run.train_together(requests[2:]) == 0
    for one, other in zip(requests[:2], requests[2:], strict=True):
        assert compare(one.folder, other.folder) == []
        assert record.read(other.folder)["best"] == LAST | {"epoch": 2, "step": 35}


def test_a_run_that_is_validated_is_not_fused_with_one_that_is_not():
    requests = [composed(*TINY, *PLAIN, share) for share in ("data.validation=0", "data.validation=0.2")]
    assert len(groups.groups(requests, 1, None).units) == 2


def test_a_sweeper_gets_no_value_and_the_summary_names_the_weights():
    request = composed(*TINY, *PLAIN, *ALL, "trainer.max_epochs=2")
    ((_, value),) = launch.train([request], launch.LocalSettings(fuse=False))
    assert value is None
    assert record.best(record.read(request.folder)) == "the last weights, at epoch 1"


def command(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
    except SystemExit as ended:
        return ended.code or 0
    return 0


def test_scripts_read_it(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "agg")
    request, _ = trained(*ALL)
    folder = str(request.folder)
    capsys.readouterr()
    assert command(monkeypatch, "draw_curves", f"runs={request.home}", "figure=c.png") == 0
    heading, row, *_ = capsys.readouterr().out.splitlines()
    assert "last train/accuracy" in heading and row.split()[:3] == ["all", "1", "-"]
    assert command(monkeypatch, "draw_early_stopping", f"run={folder}") == 2
    assert "must have a metric that chose its best weights" in capsys.readouterr().err
    assert command(monkeypatch, "draw_dropout", *ALL, "data=wine") == 2
    assert "data.validation=0: must be more" in capsys.readouterr().err
    assert command(monkeypatch, "status", str(request.home)) == 0
    assert "the last weights, at epoch 3" in capsys.readouterr().out
    assert command(monkeypatch, "reproduce", folder) == 0
    out = capsys.readouterr().out
    assert "the last weights, at epoch 3" in out and "identical to the bit" in out
