"""Early stopping replayed on logged curves: the rule itself, other libraries, means by hand, real re-runs."""

import functools
import itertools
import json
import math

import numpy as np
import pytest
import sweeps
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_runs import Logged, lines
from small import ROOT, composed

from sweepwise import run as run_package
from sweepwise.early_stop.patience import Patience
from sweepwise.errors import UsageError
from sweepwise.improvement import Best
from sweepwise.results import loading
from sweepwise.results.replay import content as replay_content
from sweepwise.results.replay import records as replay_records
from sweepwise.results.replay import sentences as replay_sentences
from sweepwise.results.replay.early_stopping import replay
from sweepwise.results.replay.logged import NO_CURVE
from sweepwise.results.replay.over_settings import layout, over_settings
from sweepwise.results.replay.stopping import UNKNOWN, rules
from sweepwise.results.statistics.difference import difference
from sweepwise.results.statistics.estimate import mean_interval
from sweepwise.store import record

NAN = math.nan
VALLEY = [(epoch - 6) ** 2 / 36 for epoch in range(20)]


def stops(curve, rule, metric="val/loss", status="finished"):
    """Where the replay stops a run, which epoch it keeps, and its last epoch; of one curve."""
    sweep = Logged(metric).add(0, 0, status, **{metric.replace("/", "_", 1): curve})
    asked = [rule.metric], [rule.patience], [rule.min_delta]
    found = replay(sweep.table(), *asked, min_epochs=rule.min_epochs, reader=sweep.read)
    outcome = found.rules[0].outcome
    return int(outcome.stopped[0]), int(outcome.kept[0]), int(outcome.end[0])


def as_trained(curve, patience, min_delta=0.0, min_epochs=0, metric="val/loss"):
    """The same by the rule of a training: `Patience` asked after each validation, `Best` beside it."""
    rule = Patience(metric=metric, patience=patience, min_delta=min_delta, min_epochs=min_epochs)
    best = Best(metric)
    for epoch, value in enumerate(curve):
        if value is None:
            continue
        best.update(epoch, -1, value)
        if rule.update(epoch, value) and epoch + 1 < len(curve):
            return epoch, best.epoch, epoch
    return UNKNOWN, best.epoch, len(curve) - 1


VALUES = st.one_of(st.integers(0, 8).map(lambda n: n / 8), st.floats(0, 1), st.just(NAN), st.none())


@given(
    curves=st.lists(st.lists(VALUES, min_size=1, max_size=14), min_size=1, max_size=4),
    patience=st.integers(0, 15),
    min_delta=st.sampled_from([0.0, 0.125, 0.3, 5.0]),
    min_epochs=st.integers(0, 16),
    metric=st.sampled_from(["val/loss", "val/accuracy"]),
)
@settings(max_examples=100)
def test_many_runs_at_once_stop_as_the_rule_of_a_training_does(
    curves, patience, min_delta, min_epochs, metric
):
    sweep = Logged(metric)
    for seed, curve in enumerate(curves):
        sweep.add(0, seed, **{metric.replace("/", "_", 1): curve, "train_loss": [0.0] * len(curve)})
    known = [run for run, curve in enumerate(curves) if any(v is not None and v == v for v in curve)]
    if not known:
        return
    found = replay(sweep.table(), [metric], [patience], [min_delta], min_epochs=min_epochs, reader=sweep.read)
    outcome = found.rules[0].outcome
    told = zip(outcome.stopped.tolist(), outcome.kept.tolist(), outcome.end.tolist(), strict=True)
    assert list(told) == [as_trained(curves[run], patience, min_delta, min_epochs, metric) for run in known]


@pytest.mark.parametrize("patience", [0, 1, 2, 5, 12, 13, 14, 10**15])
def test_a_valley_is_left_as_late_as_the_patience_allows(patience):
    stop = 6 + max(patience, 1)  # its floor is at epoch 6, and the last epoch, 19, is no early stop
    rule = rules(["val/loss"], [patience], [0.0])[0]
    assert stops(VALLEY, rule) == ((stop, 6, stop) if stop < 19 else (UNKNOWN, 6, 19))


def keras(curve, patience, min_delta, metric):
    """`keras.callbacks.EarlyStopping`, as it is documented: wait counts epochs with a value since the best.

    It differs from ours where an epoch has no value (ours counts epochs), in rounding (value + min_delta),
    at NaN in epoch 0 (it never stops there), and in the weights that are restored: those of the last
    value that counted, while ours are the best ones whatever min_delta is.
    """
    flip = -1 if metric == "val/accuracy" else 1
    best, best_epoch, wait = math.inf, -1, 0
    for epoch, value in enumerate(curve):
        wait += 1
        if flip * value + min_delta < best:
            best, best_epoch, wait = flip * value, epoch, 0
        elif wait >= patience and epoch > 0:
            return epoch, best_epoch
    return UNKNOWN, best_epoch


def plateau(curve, patience, min_delta, metric):
    """torch's ReduceLROnPlateau: where it first lowers the rate, after more bad epochs than its patience."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    mode = "max" if metric == "val/accuracy" else "min"
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, patience=patience - 1, threshold=min_delta, threshold_mode="abs"
    )
    for epoch, value in enumerate(curve):
        schedule.step(value)
        if optimizer.param_groups[0]["lr"] < 1:
            return epoch
    return UNKNOWN


@given(
    curve=st.lists(st.integers(0, 16).map(lambda n: n / 16), min_size=2, max_size=25),
    patience=st.integers(1, 6),
    min_delta=st.sampled_from([0.0, 0.0625, 0.25]),
    metric=st.sampled_from(["val/loss", "val/accuracy"]),
)
@settings(max_examples=50)
def test_keras_and_torch_stop_at_the_same_epoch(curve, patience, min_delta, metric):
    """Numbers of few binary digits, so that nothing is rounded."""
    stopped, kept, _ = stops(curve, rules([metric], [patience], [min_delta])[0], metric)
    expected, best = keras(curve, patience, min_delta, metric)
    last = len(curve) - 1  # where they stop, too, there is nothing more to train
    assert stopped == (UNKNOWN if expected == last else expected)
    assert plateau(curve, patience, min_delta, metric) == expected
    if min_delta == 0:
        assert kept == best


# --- what is saved and lost


def test_what_is_saved_and_lost_by_hand():
    sweep = Logged()
    sweep.add("late", 0, val_loss=[5, 4, 4, 4, 2, 3, 3, 3, 3, 3])  # patience 2 stops at 3 with 4, and loses 2
    sweep.add("late", 1, val_loss=[5, 4, 4, 4, 3, 3, 3, 3, 3, 3])  # ... loses 1
    sweep.add("soon", 0, val_loss=[5, 1, 2, 2, 2, 2, 2, 2, 2, 2])  # stops at 3, loses nothing
    sweep.add("soon", 1, val_loss=[5, 4, 3, 2, 1, 2, 2, 2, 2, 2])  # stops at 6
    found = replay(sweep.table(), patiences=[2], min_deltas=[0.0], reader=sweep.read)
    (one,) = found.rules
    assert one.outcome.stopped.tolist() == [3, 3, 3, 6] and one.outcome.kept.tolist() == [1, 1, 1, 4]
    assert one.values.tolist() == [4, 4, 1, 1] and (one.worst, one.stopped, one.n) == (2, 4, 4)
    # In a whole grid: Student's t of the seeds' means over settings.
    saved, lost = mean_interval([0.6, 0.45]), mean_interval([1.0, 0.5])
    assert one.saved.mean == pytest.approx(saved.mean)
    assert saved.low < 0 == one.saved.low and one.saved.high == 1 < saved.high  # a share
    assert [one.lost.mean, one.lost.low, one.lost.high] == pytest.approx([lost.mean, lost.low, lost.high])
    late = difference({0: 4, 1: 4}, {0: 2, 1: 3})
    each = one.lost_by_setting
    assert [each.mean[0], each.low[0], each.high[0]] == pytest.approx([late.mean, late.low, late.high])
    assert (each.mean[1], each.low[1], each.high[1]) == (0, -math.inf, math.inf)  # equal is not sure
    records = replay_records.of_runs(found)
    assert [record["epochs"] for record in records] == [4, 4, 4, 7]
    assert records[0]["replayed val/loss"] == 4 and records[0]["val/loss"] == 2


def test_another_metric_may_keep_other_weights_without_any_stop():
    sweep = Logged().add(0, 0, val_loss=[3.0, 1.0, 2.0], val_accuracy=[0.1, 0.2, 0.3])
    found = replay(sweep.table(), ["val/accuracy"], [5], [0.0], reader=sweep.read)
    (one,) = found.rules
    assert (one.stopped, one.saved.mean, one.lost.mean) == (0, 0.0, 1.0)


def test_a_metric_of_the_training_part_is_worth_its_last_value():
    """As in the table: unless the rule watches it, and so keeps the weights of its best epoch."""
    sweep = Logged("train/loss").add(0, 0, train_loss=[3, 2, 1, 5, 6, 1], val_loss=[1, 2, 2, 2, 2, 2])
    found = replay(sweep.table(), ["val/loss", "train/loss"], [2], [0.0], reader=sweep.read)
    assert [one.values.tolist() for one in found.rules] == [[1], [1]]
    assert [one.outcome.end.tolist() for one in found.rules] == [[2], [4]]
    assert [one.outcome.kept.tolist() for one in found.rules] == [[0], [2]]


def test_higher_values_of_an_accuracy_are_better():
    sweep = Logged("val/accuracy").add(0, 0, val_accuracy=[0.5, 0.4, 0.4, 0.9, 0.1])
    (one,) = replay(sweep.table(), patiences=[2], min_deltas=[0.0], reader=sweep.read).rules
    assert (one.lost.mean, one.saved.mean) == (pytest.approx(0.4), pytest.approx(0.4))


def test_a_direction_that_is_not_the_metrics_own_is_that_of_the_runs():
    sweep = Logged("val/score").add(0, 0, val_score=[0.5, 0.6, 0.6, 0.6, 0.1])
    (one,) = replay(sweep.table(direction="max"), patiences=[2], min_deltas=[0.0], reader=sweep.read).rules
    assert one.outcome.stopped.tolist() == [3] and "early_stop.mode=max" in one.rule.overrides


# --- what is not known


def test_what_censoring_hides_is_marked_and_in_no_mean():
    own = functools.partial(Patience, patience=3)
    sweep = Logged()
    for seed in range(3):
        sweep.add(0, seed, own=own(), val_loss=VALLEY)  # stops at 9
        sweep.add(1, seed, val_loss=VALLEY)
    found = replay(sweep.table(), patiences=[2, 3, 4, 9], min_deltas=[0.0], reader=sweep.read)
    two, three, four, nine = found.rules
    assert found.shortened == 3
    assert [one.censored for one in found.rules] == [0, 0, 3, 3] and [one.n for one in found.rules] == [
        6,
        6,
        3,
        3,
    ]
    assert two.outcome.stopped.tolist() == [8] * 6 and three.outcome.stopped.tolist() == [9] * 6
    assert four.outcome.stopped.tolist() == [UNKNOWN] * 3 + [10] * 3
    assert four.outcome.end.tolist()[:3] == [UNKNOWN] * 3 and np.isnan(four.values[:3]).all()
    assert two.saved.mean == pytest.approx((1 / 10 + 11 / 20) / 2)  # against each run as it was trained
    assert nine.saved.mean == pytest.approx(4 / 20)
    text = replay_content.as_content(found)["text"]["en"]
    assert "3 of the runs were stopped early themselves" in text and "lower bound" in text
    assert "the least val/loss of its epochs, which more epochs make better by luck too" in text
    records = replay_records.of_runs(found)
    assert sum(record["censored"] for record in records) == 6
    assert all(record["epochs"] is None for record in records if record["censored"])


def test_a_rule_that_hides_the_end_of_a_run_is_not_recommended():
    sweep = Logged()
    for seed in range(4):
        sweep.add(0, seed, own=Patience(patience=3) if seed else None, val_loss=VALLEY)
        sweep.add(1, seed, val_loss=VALLEY)
    asked = {"min_deltas": [0.0], "margin": 0.1, "rare": 0.6, "reader": sweep.read}
    hidden = replay(sweep.table(), patiences=[4, 9], **asked)
    assert [one.censored for one in hidden.rules] == [3, 3] and hidden.recommended is None
    assert replay(sweep.table(), patiences=[2, 4, 9], **asked).recommended.rule.patience == 2


def test_nothing_is_saved_from_the_epoch_in_which_a_run_diverged():
    sweep = Logged().add(0, 0, val_loss=VALLEY, train_loss=VALLEY)
    sweep.add(0, 1, "diverged", train_loss=[1, 2, 2], val_loss=[1, 2, NAN])
    sweep.known[-1]["epochs"] = 3
    two, one = replay(sweep.table(), ["train/loss"], [2, 1], [0.0], reader=sweep.read).rules
    assert (two.rescued, one.rescued) == (0, 1)


def test_runs_without_a_result_are_counted_and_said():
    sweep = Logged().add(0, 0, val_loss=VALLEY).add(0, 1, val_loss=VALLEY)
    sweep.add(0, 2, "running", val_loss=VALLEY[:3]).add(0, 3, "pruned", val_loss=VALLEY[:3])
    sweep.add(0, 4, "failed", val_loss=VALLEY[:3])
    sweep.add(0, 5, "diverged", val_loss=VALLEY[:12]).add(0, 6, "diverged", val_loss=VALLEY[:4])
    sweep.add(0, 7, val_loss=[NAN, NAN, NAN])
    sweep.add(0, 8, val_loss=VALLEY)
    sweep.lines[-1] = sweep.lines[-1][:5]  # its file has lost lines
    found = replay(sweep.table(), patiences=[2], min_deltas=[0.0], reader=sweep.read)
    (one,) = found.rules
    assert one.n == 2 and one.rescued == 1
    assert found.curves.left_out == {
        "running": 1,
        "pruned": 1,
        "failed": 1,
        "without val/loss": 1,
        "diverged": 2,
        NO_CURVE: 1,
    }
    told = replay_content.as_content(found)["text"]["en"]
    assert "1 running" in told and "would have ended 1 of 2 runs before they diverged" in told


def test_a_rule_that_some_runs_cannot_follow_counts_those_that_can():
    sweep = Logged().add(0, 0, val_loss=VALLEY, val_accuracy=[0.5] * 20)
    sweep.add(0, 1, val_loss=VALLEY)
    found = replay(sweep.table(), ["val/loss", "val/accuracy"], [2], [0.0], reader=sweep.read)
    assert [(one.n, one.unmeasured) for one in found.rules] == [(2, 0), (1, 1)]
    usual = replay(sweep.table(), reader=sweep.read).rules
    assert {one.rule.metric for one in usual} == {"val/loss"}  # which all runs measured


def test_weights_of_an_epoch_without_validation_have_no_value():
    sweep = Logged().add(0, 0, val_loss=[None, 3, None, 2, None, 1], train_loss=[6, 5, 1, 4, 4, 4])
    (one,) = replay(sweep.table(), ["train/loss"], [2], [0.0], reader=sweep.read).rules
    assert (one.n, one.valueless) == (0, 1) and one.saved is None and one.lost is None
    row = replay_content.as_content(replay(sweep.table(), ["train/loss"], [2], [0.0], reader=sweep.read))[
        "rows"
    ][0]
    assert row["saved_share"] is row["lost"] is row["lost_high"] is None and row["n"] == 0


def test_losses_by_another_metric_than_chose_the_weights_are_not_said_to_be_overstated():
    curves = {"val_loss": VALLEY, "val_accuracy": [0.5] * 20}
    sweep = Logged("val/accuracy").add(0, 0, **curves)
    for row in (table := sweep.table()).rows:
        row.run.known["best"]["metric"] = "val/loss"
    assert "by luck" not in replay_content.as_content(replay(table, reader=sweep.read))["text"]["en"]


def test_one_run_has_no_interval():
    sweep = Logged().add(0, 0, val_loss=VALLEY)
    found = replay(sweep.table(), reader=sweep.read)
    assert math.isinf(found.rules[0].lost.high) and math.isinf(found.rules[0].saved.high)
    assert found.recommended is None
    content = replay_content.as_content(found)
    assert content["rows"][0]["lost_low"] is None and "add seeds" in content["text"]["en"]
    json.dumps(content, allow_nan=False)


# --- means over settings


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("shared", [True, False])
def test_intervals_over_settings_hold_as_often_as_they_say(missing, shared):
    """Runs of a seed are alike in all settings; some are missing; settings share their seeds or not."""
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        names = [((s,), (r if shared else 10 * s + r,)) for s in range(6) for r in range(5)]
        runs = layout([s for s, _ in names], [r for _, r in names])
        seed = generator.normal(size=60)[[r for _, (r,) in names]]
        values = np.repeat(np.arange(6.0), 5) + seed + generator.normal(size=30)
        values[generator.random(30) < missing] = NAN
        there = np.bincount(runs.setting, ~np.isnan(values)) > 0
        mean, _ = over_settings(values, runs)
        covered.append(mean.low <= np.arange(6.0)[there].mean() <= mean.high)
    assert 0.93 <= np.mean(covered) <= (1.0 if shared and missing else 0.98)


def test_means_of_settings_are_students():
    generator = np.random.default_rng(1)
    names = [(("ab"[run % 2],), (run // 2,)) for run in range(14)]
    values = generator.normal(size=14)
    values[3] = NAN
    _, each = over_settings(values, layout([s for s, _ in names], [r for _, r in names]))
    for place in (0, 1):
        own = mean_interval([value for value in values[place::2] if not math.isnan(value)])
        assert [each.mean[place], each.low[place], each.high[place]] == pytest.approx(
            [own.mean, own.low, own.high]
        )


def test_of_crossed_replicates_the_values_of_a_factor_are_counted():
    names = [(split, seed) for split in range(2) for seed in range(4)]
    values = np.array([10.0 * split + seed for split, seed in names])
    mean, each = over_settings(values, layout([()] * 8, names))
    splits = difference(dict(zip(names, values, strict=True)), dict.fromkeys(names, 0.0))
    assert splits.counted and (mean.low, mean.high) == pytest.approx((splits.low, splits.high))
    assert (each.low[0], each.high[0]) == pytest.approx((splits.low, splits.high))


# --- what is recommended


def noisy(settings=4, seeds=6, epochs=30, floor=12):
    """Losses that fall to a floor, of seeds that differ."""
    generator = np.random.default_rng(3)
    sweep = Logged()
    for a in range(settings):
        for seed in range(seeds):
            offset = generator.normal(0, 0.1)
            curve = [
                abs(epoch - floor) / 10 + 0.02 * generator.random() + offset + 1 for epoch in range(epochs)
            ]
            sweep.add(a, seed, val_loss=curve)
    return sweep


def test_the_rule_that_saves_most_and_surely_loses_little_is_recommended():
    sweep = noisy()
    asked = {"patiences": [1, 3, 8], "min_deltas": [0.0], "reader": sweep.read}
    found = replay(sweep.table(), rare=0.5, **asked)
    assert found.recommended.rule.patience == 1 and found.recommended.saved.mean > 0.5
    sure = replay(sweep.table(), rare=0.4, margin=1e-12, **asked)  # six seeds, none of which loses
    best = sure.recommended
    assert (best.lost.mean, best.losing, best.lost.exact) == (0, 0, False) and math.isinf(best.lost.high)
    assert sure.harmed(best).bound == pytest.approx(1 - 0.05 ** (1 / 6))
    told = replay_sentences.recommendation(sure)
    assert "with 95 % confidence at most 40 % of all seeds lose more than 1e-12" in told["en"]
    assert "in any of these settings (0 of 6 did)" in told["en"] and "所有种子中至多 40 %" in told["zh"]
    few = replay(sweep.table(), rare=0.39, margin=1e-12, **asked)
    assert few.recommended is None
    told = replay_sentences.recommendation(few)
    assert (
        "6 seeds cannot show that at most 39 % of all seeds" in told["en"] and "takes 7 or more" in told["en"]
    )
    assert "none of 24 runs lost more, but up to 39 % of other seeds may" in told["en"]
    assert "至少需要 7 个" in told["zh"]
    early = Logged()
    for seed in range(4):  # a first floor, which no small patience survives
        early.add(
            0, seed, val_loss=[5 + seed / 100, 4, 4.5, 4.5, 4.5, *(3 - e / 100 for e in range(20)), 3, 3]
        )
    found = replay(early.table(), patiences=[2, 10], min_deltas=[0.0], margin=0.1, reader=early.read)
    assert found.recommended is None
    assert (
        "each that surely saves epochs made some run lose more than 0.1 of val/loss (the margin)"
        in (replay_sentences.recommendation(found)["en"])
    )


@pytest.mark.slow
def test_a_rule_that_loses_the_margin_is_rarely_recommended():
    """Every rule loses 0.1 on average, exactly the margin: to name one is an error, in 5 % at most."""
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        sweep = Logged()
        for a, seed in itertools.product(range(6), range(5)):
            kept = 1.1 + 0.05 * generator.normal()
            sweep.add(a, seed, val_loss=[3.0, kept, *[2.0] * 10, 1.0, *[2.0] * 7])
        found = replay(sweep.table(), patiences=[2, 4, 8], margin=0.1, reader=sweep.read)
        wrong += found.recommended is not None
    assert wrong <= 0.05 * 200 + 3


# --- what is refused


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"patiences": [-1]}, "patience=-1: must be a whole number in [0, inf) or null"),
        ({"patiences": [1.5]}, "patience=1.5: must be"),
        ({"patiences": []}, "patience=: must be given one value or more"),
        ({"patiences": [2, 2]}, "patience=2,2: each must be named once"),
        ({"min_deltas": [-0.1]}, "min_delta=-0.1: must be in [0, inf)"),
        ({"min_deltas": [NAN]}, "min_delta=nan: must be"),
        ({"min_epochs": -1}, "min_epochs=-1: must be in [0, inf)"),
        ({"margin": 0.0}, "margin=0: must be more than 0"),
        ({"rare": 0.0}, "rare=0: must be between 0 and 1"),
        ({"confidence": 1.0}, "confidence=1.0: must be between 0 and 1"),
        ({"metrics": ["val/los"]}, "metric=val/los: must have been measured; there is val/loss"),
        ({"metrics": ["test/loss"]}, "metric=test/loss: must be of the validation or training part"),
    ],
)
def test_bad_values_are_refused_in_one_line(options, rule):
    sweep = Logged().add(0, 0, val_loss=VALLEY)
    with pytest.raises(UsageError) as refused:
        replay(sweep.table(), **options, reader=sweep.read)
    assert str(refused.value).startswith(rule) and "\n" not in str(refused.value)


def test_a_sweep_without_a_whole_curve_is_refused():
    sweep = Logged().add(0, 0, "running", val_loss=VALLEY)
    with pytest.raises(UsageError, match=r"a run must have ended with a whole curve, .* \(1 running\)"):
        replay(sweep.table(), reader=sweep.read)
    with pytest.raises(UsageError, match=r"none \(1 with a curve that is missing"):
        replay(Logged().add(0, 0, val_loss=VALLEY).table(), reader=lambda folder: [])


@pytest.mark.parametrize("value", ["text", [1], {}, True, 10**400])
def test_a_line_may_hold_anything(value):
    sweep = Logged().add(0, 0, val_loss=VALLEY).add(0, 1, val_loss=VALLEY)
    sweep.lines[1][4] |= {"val/loss": value}
    found = replay(sweep.table(), reader=sweep.read)
    assert len(found.curves.ended) >= 1
    sweep.lines[1][4] = {"epoch": value, "val/loss": 1.0}
    assert len(replay(sweep.table(), reader=sweep.read).curves.ended) == 1


# --- the command

SWEEP = "outputs/main"


@pytest.fixture
def script(as_command, tmp_path, monkeypatch, no_display):
    monkeypatch.chdir(tmp_path)
    return functools.partial(as_command, str(ROOT / "scripts" / "replay.py"))


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Folders as runs leave them, with curves: two inits, three seeds, and one run that was interrupted."""
    home = tmp_path_factory.mktemp("outputs") / "main"
    for init in ("xavier", "kaiming"):
        for seed in range(3):
            curve = [value + 0.01 * seed + (init == "xavier") for value in VALLEY]
            stopped = {"epoch": 19, "step": 199, "why": "the last epoch"}
            best = sweeps.record(min(curve))["best"] | {"epoch": 6}
            given = [f"init={init}", f"seed.value={seed}", "early_stop=none"]
            folder = sweeps.run(home, *given, value=min(curve), best=best, stopped=stopped)
            text = [json.dumps(line) for line in lines({"val/loss": curve, "val/accuracy": [0.5] * 20})]
            (folder / "metrics.jsonl").write_text("\n".join(text) + "\n")
    sweeps.run(home, "init=zeros", "early_stop=none", value=None, status="interrupted")
    return home


def test_the_command_prints_writes_and_draws(script, on_disk, tmp_path):
    code, out, complaint = script(
        str(on_disk),
        "patience=2,5",
        "rare=.8",
        "table=t.csv",
        "runs=r.parquet",
        "figure=f.png",
        "rungs=1,3",
        "eta=2",
    )
    assert (code, complaint) == (0, "")
    printed = [line for line in out.splitlines() if "train.py" not in line and "figure" not in line]
    assert max(map(len, printed)) <= 80
    words = " ".join(out.split())
    assert "left out: 1 interrupted" in words and "early stopping by val/accuracy; lost: val/loss" in words
    assert "early_stop.metric=val/loss early_stop.patience=2 saves 55 % [55, 55] of the epochs" in words
    assert "0 of 6 runs lose anything" in words
    (command,) = [line for line in out.splitlines() if line.startswith("next")]
    assert "early_stop=none" not in command and command.endswith(
        "early_stop=patience early_stop.metric=val/loss early_stop.patience=2 seed.value=3,4,5"
    )
    given = [word.split(",")[0] for word in command.split("-m ")[1].split()]
    assert run_package.bind_all(composed(*given).config)["early_stop"].target().patience == 2
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert len(rows) == 1 + 8 + 16 and rows[0].startswith('"over","init","watched","patience"')
    assert (tmp_path / "r.parquet").stat().st_size and (tmp_path / "f.png").stat().st_size
    code, out, _ = script(str(on_disk), "init=kaiming", "metric=val/loss", "judged_by=val/accuracy")
    assert code == 0 and "3 runs of 1 setting" in out and "val/accuracy with" in out


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([], "FOLDER: must be given"),
        ([SWEEP, "patience=" + "9" * 30], "must be a whole number of at most 18 digits"),
        (["nowhere"], "nowhere: must be an experiment's folder"),
        ([SWEEP, "patience=x"], "patience=x: must be a whole number of at most 18 digits, or several"),
        ([SWEEP, "patience=-3"], "patience=-3: must be a whole number in [0, inf) or null"),
        ([SWEEP, "patience=2.5"], "patience=2.5: must be a whole number"),
        ([SWEEP, "min_delta=-1"], "min_delta=-1.0: must be in [0, inf)"),
        ([SWEEP, "min_delta=nan"], "min_delta=nan: must be a number"),
        ([SWEEP, "metric=val/los"], "metric=val/los: must have been measured"),
        ([SWEEP, "judged_by=val/los"], "judged_by=val/los: must have been measured"),
        ([SWEEP, "rungs=3,1"], "rungs=3,1: must be epochs"),
        ([SWEEP, "rungs=1,50"], "rungs=1,50: must be fewer than the 20 epochs"),
        ([SWEEP, "eta=1"], "eta=1: must be a whole number, 2 or more"),
        ([SWEEP, "eta=2,3"], "eta=2,3: must be a whole number"),
        ([SWEEP, "margin=0"], "margin=0: must be more than 0"),
        ([SWEEP, "rare=1"], "rare=1: must be between 0 and 1"),
        ([SWEEP, "figure=f.txt"], "figure=f.txt: must end in .png"),
        ([SWEEP, "table=t.xls"], "t.xls: must end in .csv or .parquet"),
        ([SWEEP, "init=some"], "init=some: no run has it"),
    ],
)
def test_the_command_refuses_in_one_line(script, on_disk, tmp_path, arguments, rule):
    code, _, complaint = script(*(str(on_disk) if word is SWEEP else word for word in arguments))
    assert code == 2 and complaint.startswith("error: ") and rule in complaint
    assert complaint.count("\n") == 1 and not list(tmp_path.glob("*.*"))


# --- real trainings

BASE = [
    "data=digits",
    "data.batch_size=256",
    "model.hidden=[12]",
    "monitor=none",
    "checkpoint=end",
    "progress=false",
]
BASE += ["trainer.device=cpu", "trainer.max_epochs=20"]
ASKED = {"metric": ["val/loss", "val/accuracy"], "patience": [1, 3], "min_delta": [0.0, 0.01]}


def trained(home, *overrides):
    """Trains a run; returns its folder."""
    request = composed(*BASE, *overrides, f"output_dir={home.parent}", f"name={home.name}")
    assert run_package.train(request).exit_code == 0
    return request.folder


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_a_replay_is_what_a_real_training_with_the_rule_does(every, tmp_path):
    """Stopped epoch, best epoch and its value are equal in every case."""
    extra = {1: ["regularizer=dropout"], 2: ["scheduler=plateau", "scheduler.patience=2"]}[every]
    for init, rate, seed in itertools.product(("xavier", "kaiming"), (0.01, 0.1), (0, 1)):
        given = [f"init={init}", f"optimizer.lr={rate}", f"seed.value={seed}"]
        trained(tmp_path / "whole", *given, *extra, f"trainer.validate_every={every}", "early_stop=none")
    found = replay(loading.load(tmp_path / "whole"), *ASKED.values())
    assert found.shortened == 0 and len(found.curves.ended) == 8 and len(found.rules) == 8
    ends = []
    for one in found.rules:
        for place, curve in enumerate(found.curves.ended):
            texts = [text for text in curve.row.run.known["overrides"] if not text.startswith(
                ("early_stop", "output_dir", "name", *(base.split("=")[0] for base in BASE))
            )]  # fmt: skip
            again = trained(
                tmp_path / "again", *texts, f"trainer.validate_every={every}", *one.rule.overrides
            )
            known = record.read(again)
            stopped, kept = int(one.outcome.stopped[place]), int(one.outcome.kept[place])
            expected = ("stopped early", stopped) if stopped != UNKNOWN else ("finished", 19)
            assert (known["status"], known["stopped"]["epoch"]) == expected
            assert known["best"]["epoch"] == kept
            assert known["best"]["metrics"]["val/loss"] == one.values[place]  # to the bit
            ends.append(expected[0])
    assert min(ends.count("stopped early"), ends.count("finished")) >= 5
