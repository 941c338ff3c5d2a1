"""Searches by Optuna that keep to limits: they suggest as plain Optuna does, and name the best of these."""

import importlib.util
import json
import math
import warnings
from functools import partial
from pathlib import Path

import pytest
from small import TINY, TRAIN, without

from sweepwise.errors import UsageError
from sweepwise.search.brackets import Training
from sweepwise.search.limits import Limit, beyond, limits
from sweepwise.search.optuna import Optuna
from sweepwise.search.optuna_study import CONSTRAINED, OPTIONS, SAMPLERS, OptunaSettings
from sweepwise.search.parameters import Number
from sweepwise.search.space import Space
from sweepwise.search.strategy import Result
from sweepwise.search.trained import Goal
from sweepwise.store import record

RATE, WIDTH = Number("lr", 1e-4, 0.1, log=True), Number("width", 16, 256, log=True, whole=True)
SPACE = Space((RATE, WIDTH))
GOAL = Goal("val/loss")
BOUNDS = {"parameters": 600.0, "val/accuracy": 0.6}
HOME = Path("outputs/main")


@pytest.fixture(autouse=True)
def installed():
    if not importlib.util.find_spec("optuna"):
        without("Optuna is not installed")


def measured(point) -> Result:
    """Wider and faster is better, as far as the limits allow it."""
    lr, width = (float(text.partition("=")[2]) for text in point)
    distance = math.log10(lr) + 1.5
    accuracy = 1 - 0.3 * abs(distance + 0.5)
    metrics = {"parameters": 10 * width, "val/accuracy": accuracy, "val/loss": distance**2 - width / 100}
    return Result("finished", metrics["val/loss"], spans=((0.0, width / 7),), metrics=metrics)


def followed(search, known=None, measure=measured):
    known, batches = dict(known or {}), []
    while (step := search.next(known)).trials:
        batches += [trial.overrides for trial in step.trials]
        known |= {trial.overrides: measure(trial.overrides) for trial in step.trials}
    return batches, known, step


def searched(sampler, trials, constraints, **given):
    settings = OptunaSettings(trials, sampler, 5, at_once=4, constraints=constraints, **given)
    return Optuna(SPACE, settings, Training(1), limits(constraints, GOAL))


def plainly(sampler, trials):
    """The same by Optuna alone, which is told of limits by its old way, `constraints_func`.

    What is suggested again is told again what is known of it, and does not count.
    """
    import optuna

    def constraints(trial):
        return trial.user_attrs["beyond"]

    def tell(study, trial, point):
        result = measured(point)
        wide, poor = beyond_of(point)
        trial.set_user_attr("beyond", (wide / 600, poor / 0.6))
        study.tell(trial, result.value)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(optuna.samplers, SAMPLERS[sampler])
        found = kind(seed=5, constraints_func=constraints, **OPTIONS.get(sampler, {}))
        study, points = optuna.create_study(sampler=found), []
        while len(points) < trials:
            batch = []
            while len(new := list(dict.fromkeys(point for _, point in batch))) < 4:
                trial = study.ask()
                rate = RATE.text(trial.suggest_float("lr", 1e-4, 0.1, log=True))
                point = f"lr={rate}", f"width={trial.suggest_int('width', 16, 256, log=True)}"
                if point in points:
                    tell(study, trial, point)
                else:
                    batch.append((trial, point))
            points += new
            for trial, point in batch:
                tell(study, trial, point)
    return study, points


@pytest.mark.parametrize(
    ("sampler", "trials"),
    [("tpe", 40), ("nsgaii", 140), pytest.param("gp", 24, marks=pytest.mark.slow)],
)
def test_suggestions_are_those_of_plain_optuna_with_the_same_constraints(sampler, trials):
    study, points = plainly(sampler, trials)
    search = searched(sampler, trials, BOUNDS)
    batches, known, step = followed(search)
    assert batches == points
    assert [trial.value for trial in search.study.trials] == [trial.value for trial in study.trials]
    end = step.decisions[-1].about
    kept = [point for point in points if all(one <= 0 for one in beyond_of(point))]
    assert tuple(end["best"]) == min(kept, key=lambda point: known[point].value)
    assert end["value"] == study.best_value and end["within"] == len(kept)
    free, _, _ = followed(searched(sampler, trials, None))
    within = [sum(all(one <= 0 for one in beyond_of(point)) for point in found) for found in (points, free)]
    assert free != points and within[0] > within[1]
    said = f"all {trials} points have been tried, {len(kept)} of them with parameters <= 600 and val/acc"
    assert step.said[-1].startswith(said)


def beyond_of(point):
    metrics = measured(point).metrics
    return metrics["parameters"] - 600, 0.6 - metrics["val/accuracy"]


def test_a_search_with_limits_that_is_started_again_decides_the_same():
    bounds = {**BOUNDS, "seconds": 10.0}
    batches, known, step = followed(searched("tpe", 32, bounds))
    again, _, same = followed(searched("tpe", 32, bounds), {point: known[point] for point in batches[:16]})
    assert again == batches[16:] and same.decisions[-1] == step.decisions[-1]
    search = searched("tpe", 32, bounds)
    assert followed(search)[0] == batches == followed(search)[0]  # the same object, with nothing known again
    slower = {
        point: Result(one.status, one.value, {}, 0, ((0.0, 99.0),), metrics=one.metrics)
        for point, one in known.items()
    }
    others = [trial.overrides for trial in search.next(slower).trials]
    assert others and not set(others) <= set(batches)  # what it had read has changed: it begins anew


def test_with_a_pruner_only_whole_trainings_are_held_to_limits():
    def trained(point):
        whole = measured(point)
        return {epoch: whole.value + 1 / epoch for epoch in (1, 3, 9)}

    bounds = {"parameters": 2000.0}
    settings = OptunaSettings(24, "tpe", 1, at_once=8, pruner="halving", constraints=bounds)
    search, known = Optuna(SPACE, settings, Training(9), limits(bounds, GOAL)), {}
    while (step := search.next(known)).trials:
        for trial in step.trials:
            epochs = trial.epochs or 9
            curve = {epoch: value for epoch, value in trained(trial.overrides).items() if epoch <= epochs}
            status, metrics = "pruned" if trial.epochs else "finished", measured(trial.overrides).metrics
            known[trial.overrides] = Result(status, min(curve.values()), curve, epochs, metrics=metrics)
    states = [(trial.state.name, bool(trial.constraints)) for trial in search.study.trials]
    assert set(states) == {("PRUNED", False), ("COMPLETE", True)}
    best = tuple(step.decisions[-1].about["best"])
    whole = [point for point in known if known[point].status == "finished"]
    kept = [point for point in whole if known[point].metrics["parameters"] <= 2000]
    assert best == min(kept, key=lambda point: known[point].value) and len(kept) < len(whole)


def test_where_no_point_keeps_to_them_the_nearest_is_named():
    _, known, step = followed(searched("tpe", 12, {"parameters": 100.0}))
    nearest = min(known, key=lambda point: known[point].metrics["parameters"])
    end = step.decisions[-1]
    assert end.about["best"] is None and tuple(end.about["nearest"]) == nearest
    share = known[nearest].metrics["parameters"] - 100
    assert (
        f"none of them with parameters <= 100; {' '.join(nearest)} comes nearest, {share:.3g} % beyond"
        in end.why
    )


def test_the_excess_is_a_share_of_the_bound_and_what_is_not_known_is_as_bad_as_the_worst():
    at_most, at_least = limits({"parameters": 200, "val/accuracy": 0.8}, GOAL)
    good = Result("finished", 1.0, metrics={"parameters": 300, "val/accuracy": 0.9})
    other = Result("stopped early", 1.0, metrics={"parameters": 100, "val/accuracy": 0.5})
    lost = Result("diverged", 1.0, metrics={"parameters": 1, "val/accuracy": 1.0})
    assert at_most.excess([good]) == 0.5 and at_most.excess([good, other]) == 0.0
    assert at_least.excess([good]) == pytest.approx(-0.125) and at_least.excess([good, lost]) is None
    assert Limit("val/loss", 0.0).excess([Result("finished", 1.0, metrics={"val/loss": 0.25})]) == 0.25
    assert (
        limits({"val/loss": 1}, Goal("val/loss", "max"))[0].sign == -1 == limits({"val/r2": 1}, GOAL)[0].sign
    )
    rows = beyond((at_most, at_least), {("a",): [good], ("b",): [lost]}, {("c",): (0.7, -1.0)})
    assert rows == {("a",): (0.5, pytest.approx(-0.125)), ("b",): (0.7, 1.0)}


@pytest.mark.parametrize(
    ("constraints", "told"),
    [
        ({"test/loss": 1}, "constraints.test/loss=1: must be .*; nothing is chosen by the test part"),
        ({"train/loss": 1}, "constraints.train/loss=1: must be .*of its last epoch"),
        ({"parametres": 1}, "constraints.parametres=1: must be parameters, seconds .*mean 'parameters'"),
        ({"accuracy": 1}, "did you mean 'val/accuracy'"),
        ({"val/loss": math.inf}, "constraints.val/loss=inf: must be finite"),
    ],
)
def test_what_cannot_decide_is_refused(constraints, told):
    with pytest.raises(UsageError, match=told):
        limits(constraints, GOAL)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_that_heed_no_limits_are_refused(sampler):
    if sampler in CONSTRAINED:
        assert OptunaSettings(sampler=sampler, constraints=BOUNDS).constraints == BOUNDS
    else:
        with pytest.raises(UsageError, match=f"sampler={sampler}: heeds no .* choose tpe, gp, nsgaii, or"):
            OptunaSettings(sampler=sampler, constraints=BOUNDS)


def test_a_metric_that_no_run_has_is_named_once_the_first_have_ended():
    search = searched("tpe", 8, {"val/acuracy": 0.5})
    first = {trial.overrides: measured(trial.overrides) for trial in search.next({}).trials}
    with pytest.raises(
        UsageError, match=r"val/acuracy=0\.5: a run has no such quantity; did you mean 'val/acc"
    ):
        search.next(first)


# --- the command


@pytest.fixture
def search(empty_folder, whole_errors, as_command):
    short = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=1", "report=false"]
    return partial(as_command, TRAIN, "-m", "hydra/sweeper=optuna", *short)


def test_a_search_of_real_runs_keeps_to_its_limits_and_goes_on(search):
    words = [
        "model.hidden=[4],[8],[16]",
        "optimizer.lr=tag(log,interval(1e-3,0.1))",
        "hydra.sweeper.at_once=2",
    ]
    words += ["hydra.sweeper.constraints={parameters:800,val/accuracy:0}", "hydra.sweeper.trials=6"]
    code, out, error = search(*words)
    assert code == 0, error
    path = HOME / ".sweep/search.jsonl"
    log, records = path.read_bytes(), [record.read(one.parent) for one in HOME.glob("*/record.json")]
    end = json.loads(log.splitlines()[-1])
    kept = [one for one in records if one["parameters"] <= 800]
    assert end["limits"] == ["parameters <= 800", "val/accuracy >= 0"] and end["within"] == len(kept) > 0
    assert end["value"] == min(one["best"]["value"] for one in kept)
    assert f"{len(kept)} of them with parameters <= 800" in " ".join(out.split())
    code, out, error = search(*words)
    assert code == 0 and path.read_bytes() == log


def test_limits_are_checked_before_anything_is_written(search):
    words = ["optimizer.lr=interval(0.1,0.2)", "hydra.sweeper.constraints={parametres:800}"]
    code, _, error = search(*words)
    assert code == 2 and "hydra.sweeper.constraints.parametres=800: must be" in error
    code, _, error = search(words[0], "hydra.sweeper.constraints=800")
    assert code == 2 and "hydra.sweeper.constraints=800: must be {NAME: VALUE, ...}, each a number" in error
    assert not Path("outputs").exists()
