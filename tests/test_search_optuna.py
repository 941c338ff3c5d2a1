"""Searches by Optuna's samplers: they resume without a storage, and find what is known to be the best."""

import importlib.util
import math

import pytest
from small import without

from sweepwise.errors import UsageError
from sweepwise.search.brackets import Training
from sweepwise.search.optuna import Optuna
from sweepwise.search.optuna_study import SAMPLERS, OptunaSettings
from sweepwise.search.parameters import Choice, Number
from sweepwise.search.space import Space
from sweepwise.search.strategy import Result


@pytest.fixture(autouse=True)
def installed(request):
    if "without_optuna" not in request.node.name and not importlib.util.find_spec("optuna"):
        without("Optuna is not installed")


def kept(overrides):
    return overrides if "s=step" in overrides else tuple(one for one in overrides if "size" not in one)


SPACE = Space(
    (
        Number("lr", 1e-4, 0.1, log=True),
        Choice("init", ("a", "b")),
        Choice("s", ("step", "cosine")),
        Number("s.size", 1, 5, whole=True),
    ),
    ("x=1",),
    kept=kept,
)


def measured(overrides) -> Result:
    values = dict(text.split("=") for text in overrides)
    return Result("finished", (math.log10(float(values["lr"])) + 2) ** 2 + 0.5 * (values["init"] == "a"))


def followed(search, known=None, measure=measured):
    known, batches = dict(known or {}), []
    while (step := search.next(known)).trials:
        batches.append([trial.overrides for trial in step.trials])
        known |= {overrides: measure(overrides) for overrides in batches[-1]}
    return batches, known, step


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=[pytest.mark.slow] if name == "gp" else []) for name in SAMPLERS]
)
def test_a_search_that_is_started_again_asks_for_the_same(sampler):
    if sampler == "cmaes" and not importlib.util.find_spec("cmaes"):
        without("cmaes is not installed")
    settings = OptunaSettings(14, sampler, 3, at_once=4)
    batches, known, _ = followed(Optuna(SPACE, settings))
    assert [len(batch) for batch in batches] == [4, 4, 4, 2] and len(known) == 14
    some = {overrides: known[overrides] for batch in batches[:2] for overrides in batch}
    again = Optuna(SPACE, settings)
    assert [trial.overrides for trial in again.next(some).trials] == batches[2] != batches[0]
    first = [trial.overrides for trial in again.next({}).trials]  # also by the same object, with less known
    assert first == batches[0]
    more, _, _ = followed(Optuna(SPACE, OptunaSettings(20, sampler, 3, at_once=4)), known)
    assert sum(map(len, more)) in (6, 7, 8)  # the number of trials is a total


def test_tpe_finds_the_best_more_often_than_chance():
    _, known, step = followed(Optuna(SPACE, OptunaSettings(40, "tpe", 0, 4)))
    assert "init=b" in step.decisions[0].about["best"]
    late = list(known)[20:]
    assert sum("init=b" in overrides for overrides in late) >= 14
    near = [math.log10(float(overrides[0].partition("=")[2])) + 2 for overrides in late]
    assert sum(abs(distance) < 0.5 for distance in near) >= 10  # 20 * 1/3 by chance


def test_higher_may_be_better():
    def opposite(overrides):
        return Result("finished", -measured(overrides).value)

    lower = followed(Optuna(SPACE, OptunaSettings(12)))[0]
    assert followed(Optuna(SPACE, OptunaSettings(12), Training(1, sign=-1)), measure=opposite)[0] == lower


def test_values_are_the_means_over_seeds_and_runs_without_one_do_not_stop_the_search():
    space = Space(SPACE.parameters, replicates=(("seed.value=0",), ("seed.value=1",)), kept=kept)

    def measure(overrides):
        if "s.size=3" in overrides:
            return Result("failed")
        if "init=a" in overrides:
            return Result("diverged", 1e-9)
        return Result("finished", float(overrides[-1][-1]) + measured(overrides).value)

    search = Optuna(space, OptunaSettings(16))
    batches, known, _ = followed(search, measure=measure)
    assert [len(batch) for batch in batches] == [16, 16] and len(known) == 32
    told = {trial.number: trial.value for trial in search.study.trials}
    whole = [measured(one).value + 0.5 for one in known if "init=b" in one and "s.size=3" not in one]
    good = [value for value in told.values() if value is not None]
    assert min(good) == pytest.approx(min(whole)) and max(good) == pytest.approx(max(whole))
    assert sum(value is None for value in told.values()) > 0


def test_the_best_is_the_first_of_equal_points_and_none_that_diverged():
    def measure(overrides):  # one that diverges is told the worst, 1.0, as all others are
        return Result("diverged" if "init=a" in overrides else "finished", 1.0)

    _, known, step = followed(Optuna(SPACE, OptunaSettings(16)), measure=measure)
    whole = [point for point in known if "init=b" in point]
    assert 1 < len(whole) < 16 and tuple(step.decisions[-1].about["best"]) == whole[0]
    assert step.decisions[-1].about["equal"] == len(whole) - 1 and step.decisions[-1].about["value"] == 1.0
    others = f"({len(whole) - 1} others are equal)"
    assert step.said[-1].endswith(f"; the best of them: {' '.join(whole[0])}, 1 {others}")
    search = Optuna(SPACE, OptunaSettings(16), Training(1, sign=-1))
    _, known, step = followed(search, measure=lambda one: Result("finished", -measured(one).value))
    assert step.decisions[-1].about["value"] == -search.study.best_value
    assert step.decisions[-1].about["best"] == list(max(known, key=lambda point: known[point].value))


def test_a_key_that_an_option_lacks_is_not_suggested_and_nothing_comes_twice():
    search = Optuna(SPACE, OptunaSettings(20))
    _, known, _ = followed(search)
    for trial in search.study.trials:
        assert ("s.size" in trial.params) == (trial.params["s"] == "step")
    small = Space((Choice("a", ("1", "2", "3")), Choice("b", ("x", "y"))))
    _, known, step = followed(Optuna(small, OptunaSettings(30)), measure=lambda _: Result("finished", 1.0))
    assert len(known) == 6 and "suggests no others" in step.decisions[0].why


def test_the_journal_has_each_trial_once_over_starts_and_can_fail(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    path = tmp_path / "journal"
    first = Optuna(SPACE, OptunaSettings(6, at_once=3))
    _, known, _ = followed(first)
    assert first.write_journal(path) == "" == first.write_journal(path)
    longer = Optuna(SPACE, OptunaSettings(9, at_once=3))
    _, known, _ = followed(longer, known)
    assert longer.write_journal(path) == ""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    assert name.startswith("tpe, seed 0, ")
    values = [trial.value for trial in optuna.load_study(study_name=name, storage=storage).trials]
    assert values == [trial.value for trial in longer.study.trials] and len(values) >= 9
    assert Optuna(SPACE, OptunaSettings()).write_journal(tmp_path / "none" / "journal").startswith("FileNot")


def curve(overrides, epochs=9) -> dict[int, float]:
    """Falls to the value at the end; ranks never change."""
    return {epoch: measured(overrides).value + 1 / epoch for epoch in range(1, epochs + 1)}


def trained(trial, known) -> Result:
    """What a launcher returns: a run that pauses, goes on, or ends."""
    before = known.get(trial.overrides)
    if before and before.status == "finished":
        return before
    epochs = max(trial.epochs or 9, before.epochs if before else 0)
    found = {epoch: value for epoch, value in curve(trial.overrides).items() if epoch <= epochs}
    status = "finished" if trial.epochs is None else "pruned"
    return Result(status, min(found.values()), found, epochs)


def pruned_search(pruner, known=None, trials=24):
    settings = OptunaSettings(trials, "tpe", 1, at_once=8, pruner=pruner)
    search, known = Optuna(SPACE, settings, Training(9)), dict(known or {})
    steps, seen = [], {}
    while (step := search.next(seen)).trials:
        assert search.next(seen) == step
        steps.append(step)
        known |= {trial.overrides: trained(trial, known) for trial in step.trials}
        seen |= {trial.overrides: known[trial.overrides] for trial in step.trials}
    return search, [*steps, step], known


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_a_pruner_ends_points_at_rungs_and_keeps_the_best(pruner):
    search, steps, known = pruned_search(pruner)
    states = {trial.state.name for trial in search.study.trials}
    epochs = {result.epochs for result in known.values()}
    assert states == {"PRUNED", "COMPLETE"} and epochs <= {1, 3, 9} and len(epochs) > 1
    assert sum(result.epochs for result in known.values()) < 0.9 * 9 * len(known) and len(known) == 24
    dropped = [one.about for step in steps for one in step.decisions if one.what == "drop"]
    assert len(dropped) == sum(result.status == "pruned" for result in known.values())
    for one in dropped:
        assert known[tuple(one["point"])].epochs == one["epochs"]
        assert one["value"] == pytest.approx(curve(one["point"])[one["epochs"]])
    whole = {point: result.value for point, result in known.items() if result.status == "finished"}
    assert tuple(steps[-1].decisions[-1].about["best"]) == min(whole, key=whole.get)


@pytest.mark.parametrize("pruner", ["none", "median", "halving", "hyperband"])
def test_a_search_with_a_pruner_that_starts_again_decides_the_same(pruner):
    _, steps, known = pruned_search(pruner)
    for some in ({}, known, {one: known[one] for one in list(known)[:11]}):
        _, again, after = pruned_search(pruner, some)
        assert after == known
        assert [one for step in again for one in step.decisions] == [
            one for s in steps for one in s.decisions
        ]
    whole = {one: Result("finished", min(curve(one).values()), curve(one), 9) for one in known}
    _, again, _ = pruned_search(pruner, whole)  # all trained to their end by a grid before
    assert [one for step in again for one in step.decisions] == [one for s in steps for one in s.decisions]


def test_a_pruner_needs_a_rung():
    with pytest.raises(UsageError, match=r"hydra.sweeper.min_epochs=1: must be at most 0"):
        Optuna(SPACE, OptunaSettings(pruner="median"), Training(2))


def test_without_optuna_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UsageError, match=r"optuna is not installed; pip install 'sweepwise\[optuna\]'"):
        Optuna(SPACE, OptunaSettings())
