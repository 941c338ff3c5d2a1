"""Mean runs, read back by TensorBoard's own readers, against numpy and scipy."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import sweeps
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from sweepwise.results.answer import answer
from sweepwise.results.loading import load
from sweepwise.results.tensorboard import mean_runs
from sweepwise.results.tensorboard.mean_curve import curve
from sweepwise.store.request import find_folder, known_folders
from sweepwise.sweep.summary import tell_tensorboard

TAGS = ["train/loss", "val/loss", "val/accuracy"]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "outputs" / "main"


def trained(home, *overrides, epochs=4, seed=0, first=0, batches=10, status="finished", **more):
    """The folder of a run with random metrics; returns them as (epochs, tags)."""
    values = np.random.default_rng([seed, len(overrides[0]), first]).normal(size=(epochs, len(TAGS)))
    folder = sweeps.run(home, *overrides, f"seed.value={seed}", value=0.5, status=status, **more)
    write_epochs(folder, values, batches)
    return values


def write_epochs(folder, values, batches=10):
    lines = [{"step": 0, "epoch": 0, "train/batch_loss": 9.0}]
    for epoch, row in enumerate(values):
        step = (epoch + 1) * batches - 1
        lines.append({"step": step, "epoch": epoch, **dict(zip(TAGS, row.tolist(), strict=True))})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def files(home):
    return sorted(str(path.relative_to(home)) for path in (home / "_mean").rglob("*") if path.is_file())


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def series(read_back, tag):
    events = read_back.Scalars(tag)
    return [event.step for event in events], [event.value for event in events]


def test_means_and_intervals_are_those_of_numpy_and_scipy(home):
    runs = {
        init: [trained(home, f"init={init}", seed=seed) for seed in range(3)] for init in ("xavier", "lsuv")
    }
    assert mean_runs.write(home, load(home)) == 0
    for init, values in runs.items():
        back = read(home / "_mean" / f"init={init}")
        for place, tag in enumerate(TAGS):
            column = np.stack(values)[:, :, place]
            mean = column.mean(0)
            low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(column, axis=0))
            low = np.minimum(np.maximum(low, 0), mean)  # neither a loss nor an accuracy lies below 0
            high = np.maximum(np.minimum(high, 1), mean) if tag == "val/accuracy" else high
            ends = {f"whiskers/{tag}/low": low, f"whiskers/{tag}/high": high}
            for name, wanted in {tag.capitalize(): mean, **ends}.items():
                steps, found = series(back, name)
                assert steps == [9, 19, 29, 39]
                assert found == pytest.approx(wanted, rel=1e-6)
        assert series(back, "whiskers/runs") == ([9, 19, 29, 39], [3, 3, 3, 3])


def test_a_run_counts_up_to_its_end_and_one_alone_has_no_mean(home):
    values = [trained(home, "init=xavier", seed=seed, epochs=epochs) for seed, epochs in enumerate((2, 3, 5))]
    mean_runs.write(home, load(home))
    back = read(home / "_mean" / "all")
    means = [np.mean([run[epoch, 1] for run in values if len(run) > epoch]) for epoch in range(3)]
    assert series(back, "Val/loss") == ([9, 19, 29], pytest.approx(means, rel=1e-6))
    half = stats.t.ppf(0.975, 1) * np.std([run[2, 1] for run in values[1:]], ddof=1) / math.sqrt(2)
    assert series(back, "whiskers/val/loss/high")[1][2] == pytest.approx(means[2] + half, rel=1e-5)
    assert series(back, "whiskers/runs")[1] == [3, 3, 2]
    said = back.Tensors("run/mean")[0].tensor_proto.string_val[0].decode()
    assert "from step 29 on of 2:" in said and "no mean of the 2 epochs" in said and "init=xavier" in said


def test_what_is_not_finite_or_missing_is_left_out():
    lines = [{"epoch": 0, "step": 4, "val/loss": value} for value in (1.0, None, math.nan, math.inf, 2.0)]
    found = curve([[line] for line in lines])
    assert found.values[0]["val/loss"] == 1.5 and found.values[0]["whiskers/runs"] == 5
    assert curve([[line] for line in lines[1:]]).values == () == curve([]).values


def test_an_epoch_has_the_step_that_most_runs_have():
    runs = [[{"epoch": 0, "step": step, "val/loss": 1.0}] for step in (5, 7, 7)]
    assert curve(runs).steps == (7,)
    assert curve(runs[:2]).steps == (5,)


def test_a_long_training_keeps_its_first_and_last_epoch():
    run = [{"epoch": epoch, "step": epoch, "val/loss": 1.0} for epoch in range(5000)]
    steps = curve([run, run]).steps
    assert (len(steps), len(set(steps)), steps[0], steps[-1]) == (1000, 1000, 0, 4999)


def test_equal_values_have_no_width_and_large_ones_do_not_overflow():
    for value in (0.1, 1e308, -1e-310):
        runs = [[{"epoch": 0, "step": 0, "val/loss": value}]] * 3
        (found,) = curve(runs).values
        assert {found[tag] for tag in found if "loss" in tag} == {value}


def test_the_same_content_is_not_written_again_and_another_replaces_it(home):
    for seed in range(2):
        trained(home, "init=xavier", seed=seed)
    mean_runs.write(home, load(home))
    (before,) = files(home)
    mean_runs.write(home, load(home))
    assert files(home) == [before]
    values = trained(home, "init=xavier", seed=2)
    mean_runs.write(home, load(home))
    (after,) = files(home)
    with (home / after).with_name("events.out.tfevents.0000000001.0.mean").open("wb"):
        pass  # as another process leaves it that wrote at the same time
    mean_runs.write(home, load(home))
    assert files(home) == [after]
    assert after > before  # by the time in its name: TensorBoard reads it after the one that it may have open
    assert series(read(home / "_mean" / "all"), "whiskers/runs")[1] == [3] * len(values)


def test_settings_that_are_gone_are_removed_and_what_is_not_ours_stays(home):
    for init in ("xavier", "lsuv"):
        for seed in range(2):
            trained(home, f"init={init}", seed=seed)
    mean_runs.write(home, load(home))
    (home / "_mean" / "init=xavier" / "notes.txt").write_text("mine")
    for seed in range(2):
        trained(home, "init=xavier", "optimizer.lr=0.1", seed=seed, first=1)
    mean_runs.write(home, load(home))
    names = sorted(path.name for path in (home / "_mean").iterdir())
    pairs = [("lsuv", 0.001), ("xavier", 0.001), ("xavier", 0.1)]
    rates = [f"init={init}__optimizer.lr={rate}" for init, rate in pairs]
    assert names == sorted(["init=xavier", *rates])
    assert [name for name in files(home) if "/init=xavier/" in name] == ["_mean/init=xavier/notes.txt"]


def test_one_replicate_and_runs_that_tensorboard_does_not_show_have_no_mean(home):
    trained(home, "init=xavier")
    for seed in range(2):
        trained(home, "init=lsuv", "monitor=none", seed=seed)
    assert mean_runs.write(home, load(home)) == 0
    assert not (home / "_mean").exists()


def test_of_too_many_settings_the_best_are_written(home, monkeypatch):
    for init, value in (("xavier", 0.3), ("lsuv", 0.1), ("zeros", 0.2)):
        for seed in range(2):
            folder = sweeps.run(home, f"init={init}", f"seed.value={seed}", value=value)
            write_epochs(folder, np.ones((2, 3)))
    monkeypatch.setattr(mean_runs, "MOST", 2)
    assert mean_runs.write(home, load(home)) == 1
    assert sorted(path.name for path in (home / "_mean").iterdir()) == ["init=lsuv", "init=zeros"]


def test_runs_that_failed_or_diverged_are_in_no_mean(home):
    values = [trained(home, "init=xavier", seed=seed) for seed in range(2)]
    trained(home, "init=xavier", seed=2, status="diverged")
    trained(home, "init=xavier", seed=3, status="failed")
    trained(home, "init=lsuv", seed=0)
    trained(home, "init=lsuv", seed=1, status="diverged")
    assert mean_runs.write(home, load(home)) == 0
    assert [path.name for path in (home / "_mean").iterdir()] == ["init=xavier"]
    back = read(home / "_mean" / "init=xavier")
    assert series(back, "Val/loss")[1] == pytest.approx(np.mean(values, axis=0)[:, 1], rel=1e-6)
    assert series(back, "whiskers/runs")[1] == [2] * 4
    said = back.Tensors("run/mean")[0].tensor_proto.string_val[0].decode()
    assert "Mean of 2 runs" in said and "- without the 2 that failed or diverged" in said
    assert "from step" not in said


def test_settings_with_failures_come_after_those_without(home, monkeypatch):
    for init, value, failures in (("xavier", 0.1, 1), ("lsuv", 0.3, 0), ("zeros", 0.2, 0)):
        for seed in range(3):
            failed = seed < failures
            status = "diverged" if failed else "finished"
            folder = sweeps.run(
                home, f"init={init}", f"seed.value={seed}", value=None if failed else value, status=status
            )
            write_epochs(folder, np.ones((2, 3)))
    monkeypatch.setattr(mean_runs, "MOST", 2)
    assert mean_runs.write(home, load(home)) == 1
    written = sorted(path.name for path in (home / "_mean").iterdir())
    best = [ranked.name for ranked in answer(load(home)).ranking[:2]]
    assert written == sorted(best) == ["init=lsuv", "init=zeros"]


def test_an_interval_ends_where_the_metric_does():
    runs = [
        [{"epoch": 0, "step": 0, "val/loss": loss, "val/accuracy": accuracy, "val/other": loss}]
        for loss, accuracy in ((0.01, 0.99), (0.02, 1.0), (0.2, 0.8))
    ]
    (found,) = curve(runs).values
    assert found["whiskers/val/loss/low"] == 0.0 and found["whiskers/val/accuracy/high"] == 1.0
    assert found["whiskers/val/other/low"] < 0 < found["whiskers/val/accuracy/low"] < 1


def test_names_are_short_safe_and_apart():
    keys = ("model.hidden", "data.path")
    settings = [((8, 8), "a/../b"), ((8, 8), "a .. b"), ((8,), None), ((8,), "x" * 300), ((8,), "x" * 301)]
    found = mean_runs.names(keys, settings)
    assert len(set(found.values())) == len(settings)
    for name in found.values():
        assert len(name) <= 120 and re.fullmatch(r"[a-z0-9._=-]+", name)
    assert found[(8,), None] == "model.hidden=_8"
    assert mean_runs.names((), [()]) == {(): "all"}


def test_a_chart_for_each_metric_shades_between_tags_that_are_there(home):
    for seed in range(2):
        trained(home, "init=xavier", seed=seed)
    mean_runs.write(home, load(home))
    back = read(home / "_mean" / "all")
    layout = Layout.FromString(back.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    category, *as_in_a_run = layout.category
    assert [chart.title for chart in category.chart] == ["val/loss", "val/accuracy", "train/loss"]
    for chart in category.chart:
        (line,) = chart.margin.series
        assert line.value == chart.title.capitalize()
        assert {line.value, line.lower, line.upper} <= set(back.Tags()["scalars"])
    curves = {chart.title: list(chart.multiline.tag) for chart in as_in_a_run[0].chart}
    assert curves == {"loss": ["Train/loss$", "Val/loss$"], "accuracy": ["Val/accuracy$"]}


def test_the_folder_is_no_run(home):
    for seed in range(2):
        trained(home, "init=xavier", seed=seed)
    before = load(home), known_folders(home)
    mean_runs.write(home, load(home))
    after = load(home), known_folders(home)
    assert [row.folder for row in after[0].rows] == [row.folder for row in before[0].rows]
    assert after[0].damaged == () and after[1] == before[1]
    assert len(load(home.parent).rows) == 2
    row = after[0].rows[0]
    assert find_folder(home, [], 0, row.run.id) == row.folder


def test_the_sweeps_end_writes_means_unless_its_key_says_no(home, capsys):
    for seed in range(2):
        trained(home, "init=xavier", seed=seed)
    tell_tensorboard([home], mean_runs=False)
    assert not (home / "_mean").exists()
    tell_tensorboard([home])
    assert len(files(home)) == 1
    assert capsys.readouterr().out == ""


def test_runs_that_were_asked_to_have_none(home):
    for seed in range(2):
        trained(home, "init=xavier", "mean_runs=false", seed=seed)
    tell_tensorboard([home])
    assert not (home / "_mean").exists()
    tell_tensorboard([home], mean_runs=True)
    assert (home / "_mean").exists()


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_left(home, capsys):
    for seed in range(2):
        trained(home, "init=xavier", seed=seed)
    (home / "_mean").write_text("in the way")
    tell_tensorboard([home])
    assert "lacks means or columns" in capsys.readouterr().out
    assert [path.name for path in home.glob(".*")] == [".hparams.json"]


def test_a_sweep_without_a_run_is_told_by_the_answer_alone(tmp_path, capsys):
    tell_tensorboard([tmp_path])
    assert capsys.readouterr().out == ""
