"""Successive halving, hyperband and asynchronous halving, against the tables and rules of their papers."""

import itertools
import math
import random
import warnings
from collections import Counter

import pytest
from logged_runs import Logged

from sweepwise.errors import UsageError
from sweepwise.search import brackets, halving_advice
from sweepwise.search.brackets import Training
from sweepwise.search.drive import drive
from sweepwise.search.halving import Halving, HalvingSettings
from sweepwise.search.log import Log, read
from sweepwise.search.strategy import Result


def settings(number, seeds=1):
    return [[(f"a={a}", f"seed.value={seed}") for seed in range(seeds)] for a in range(number)]


def of(run):
    return tuple(int(text.partition("=")[2]) for text in run)


class Stored:
    """Runs that are trained as far as is asked, by curves that are known: `value(setting, seed, epoch)`.

    A value of None: the run diverges in that epoch.
    """

    def __init__(self, value, epochs, *, every=1, finished=False):
        self.value, self.epochs, self.every = value, epochs, every
        self.far = Counter()  # epochs of each run
        self.trained = []  # (run, from, to)
        self.finished = finished
        self.stop = math.inf  # batches, before it is killed

    def __call__(self, trials):
        if not self.stop:
            raise KeyboardInterrupt
        self.stop -= 1
        return [self.result(trial) for trial in trials]

    def result(self, trial):
        asked = self.epochs if trial.epochs is None or self.finished else trial.epochs
        before, self.far[trial.overrides] = (
            self.far[trial.overrides],
            max(asked, self.far[trial.overrides]),
        )
        far = self.far[trial.overrides]
        if far > before and not self.finished:
            self.trained.append((trial.overrides, before, far))
        curve = {}
        for epoch in range(self.every, far + 1, self.every):
            value = self.value(*of(trial.overrides), epoch)
            if value is None:
                return Result("diverged", min(curve.values(), default=None), curve, epoch)
            curve[epoch] = value
        status = "finished" if far == self.epochs else "pruned"
        good = [value for value in curve.values() if math.isfinite(value)]
        return Result(status, min(good, default=None), curve, far)


def searched(tmp_path, number, value, epochs, *, seeds=1, stored=None, sign=1, every=1, **options):
    """A whole search: its log, what was trained, and its strategy."""
    search = Halving(settings(number, seeds), Training(epochs, every, sign), HalvingSettings(**options))
    stored = stored or Stored(value, epochs, every=every)
    drive(search, stored, Log(tmp_path / "search.jsonl"))
    return read(tmp_path / "search.jsonl"), stored, search


# Hyperband, arXiv:1603.06560, table 1: R = 81, eta = 3; (settings, epochs) of each rung.
TABLE_1 = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


def test_hyperband_is_that_of_its_paper(tmp_path):
    number = sum(first for (first, _), *_ in TABLE_1)
    order = random.Random(3).sample(range(number), number)
    log, stored, search = searched(tmp_path, number, lambda a, s, e: order[a], 81, brackets=None)
    found = [[*zip(one.sizes, (*one.rungs, 81), strict=True)] for one in search.plan.brackets]
    assert found == TABLE_1
    reached = Counter(end for _, _, end in stored.trained)
    expected = Counter()
    for rung in itertools.chain.from_iterable(TABLE_1):
        expected[rung[1]] += rung[0]
    assert reached == expected
    assert sum(end - begin for _, begin, end in stored.trained) == search.plan.cost
    assert search.plan.full == 81 * number and log[-1]["what"] == "end"
    bests = [min(one.settings, key=order.__getitem__) for one in search.plan.brackets]
    ended = {of(run)[0] for run, _, end in stored.trained if end == 81}
    assert set(bests) <= ended  # a bracket keeps its best where values keep their order
    assert log[-1]["best"] == [f"a={min(bests, key=order.__getitem__)}", "seed.value=0"]


@pytest.mark.parametrize(("epochs", "eta"), [(81, 3), (100, 3), (16, 2), (64, 4), (30, 5), (1000, 3)])
def test_brackets_are_those_of_optuna(epochs, eta):
    optuna = pytest.importorskip("optuna")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = optuna.pruners.HyperbandPruner(1, epochs, eta)
    pruner._try_initialization(None)
    levels = len(brackets.rungs(epochs, eta, 1)) + 1
    assert list(brackets.hyperband(levels, eta)) == pruner._trial_allocation_budgets


@pytest.mark.parametrize(
    ("number", "epochs", "eta", "sizes"),
    [(9, 9, 3, [9, 3, 1]), (10, 100, 3, [10, 3, 1, 1, 1]), (2, 3, 3, [2, 1]), (16, 8, 2, [16, 8, 4, 2])],
)
def test_successive_halving_keeps_one_of_eta(tmp_path, number, epochs, eta, sizes):
    log, stored, search = searched(tmp_path, number, lambda a, s, e: -a, epochs, eta=eta)
    ends = (*search.plan.brackets[0].rungs, epochs)
    assert Counter(end for _, _, end in stored.trained) == dict(zip(ends, sizes, strict=True))
    for size, end in zip(sizes, ends, strict=True):
        assert sorted(of(run)[0] for run, _, to in stored.trained if to == end) == [*range(number)][-size:]
    assert [line["what"] for line in log].count("drop") == number - sizes[-1]
    assert log[0]["what"] == "plan" and (log[0]["epochs"], log[0]["full"]) == (
        search.plan.cost,
        number * epochs,
    )


def test_the_plan_is_said_in_words():
    plan = Halving(settings(9, 2), Training(9), HalvingSettings()).plan
    # 9 to epoch 1, 3 by two epochs more, 1 by six more: 21 of 81 for each seed.
    said = "9 settings for 1 epoch, 3 for 3, 1 for 9, 2 runs each: 42 epochs, 26 % of the 162 that training"
    assert str(plan) == f"{said} all to the end takes"
    plan = Halving(settings(9), Training(9), HalvingSettings(at_once=2, brackets=2)).plan
    assert "; 4 settings for 3 epochs" in str(plan) or "; 3 settings for 3 epochs" in str(plan)
    assert ": about " in str(plan)
    stopped = Training(9, ended_by=("early_stop=patience", "trainer.max_steps=70"))
    plan = Halving(settings(9), stopped, HalvingSettings()).plan
    end = "at most, as early_stop=patience and trainer.max_steps=70 may end runs before"
    assert str(plan).endswith(
        f"for 9: at most 21 epochs, 26 % of the 81 that training all to the end takes {end}"
    )
    plan = Halving(settings(9), stopped, HalvingSettings(at_once=2)).plan
    assert ": at most about " in str(plan)


def test_asynchronous_promotion_by_hand(tmp_path):
    """arXiv:1810.05934, algorithm 2, eta 2, rungs 1, 2 and 4; each setting is better than those before."""
    search = Halving(settings(4), Training(4), HalvingSettings(eta=2, at_once=1))
    order = list(search.plan.brackets[0].settings)
    log, stored, _ = searched(tmp_path, 4, lambda a, s, e: -order.index(a), 4, eta=2, at_once=1)
    steps = [(order.index(of(run)[0]), end) for run, _, end in stored.trained]
    assert steps == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (3, 1), (3, 2), (3, 4)]
    assert log[-1]["best"] == [f"a={order[3]}", "seed.value=0"]


def asha(order, value, rungs, eta, at_once):
    """Batches of (setting, rung) by the paper's get_job, where jobs of a batch end together."""
    results, promoted, waiting, batches = [{} for _ in rungs], [set() for _ in rungs], list(order), []

    def get_job():
        for k in reversed(range(len(rungs) - 1)):
            top = sorted(results[k], key=lambda a: (results[k][a], a))[: len(results[k]) // eta]
            promotable = [a for a in top if a not in promoted[k]]
            if promotable:
                promoted[k].add(promotable[0])
                return promotable[0], k + 1
        return (waiting.pop(0), 0) if waiting else None

    while batch := [job for job in (get_job() for _ in range(at_once)) if job]:
        for a, k in batch:
            results[k][a] = value(a, 0, rungs[k])
        batches.append(batch)
    return batches


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_asynchronous_halving_is_that_of_its_paper(tmp_path, at_once, seed):
    generator = random.Random(seed)
    curves = {(a, epoch): generator.choice([0, 1, 2, 3]) for a in range(40) for epoch in range(1, 28)}

    def value(a, s, epoch):
        return curves[a, epoch]

    log, stored, search = searched(tmp_path, 40, value, 27, at_once=at_once, seed=seed)
    (bracket,) = search.plan.brackets
    ends = (*bracket.rungs, 27)
    expected = [(a, ends[k]) for batch in asha(bracket.settings, value, ends, 3, at_once) for a, k in batch]
    got = [(of(run)[0], end) for run, _, end in stored.trained]
    assert got[: len(expected)] == expected
    assert len(got) == len(expected) or not any(end == 27 for _, end in expected)
    assert Counter(line["what"] for line in log)["promote"] == len(got) - 40


@pytest.mark.parametrize("options", [{}, {"brackets": None}, {"at_once": 3}, {"at_once": 4, "brackets": 2}])
def test_killed_at_any_step_it_decides_and_trains_the_same(tmp_path, options):
    generator = random.Random(1)
    curves = {key: generator.random() for key in itertools.product(range(12), range(2), range(1, 28))}

    def value(a, seed, epoch):
        return None if a == 3 and epoch > 5 else curves[a, seed, epoch]

    log, stored, _ = searched(tmp_path, 12, value, 27, seeds=2, **options)
    other = Stored(value, 27)
    (tmp_path / "again").mkdir()
    for stop in itertools.count(1):
        other.stop = stop
        try:
            again, _, _ = searched(tmp_path / "again", 12, value, 27, seeds=2, stored=other, **options)
            break
        except KeyboardInterrupt:
            pass
    assert stop > 2 and again == log
    assert sorted(other.trained) == sorted(stored.trained)  # none twice
    # Runs that an earlier sweep has trained to their ends answer, and decide the same.
    (tmp_path / "grid").mkdir()
    ended = Stored(value, 27, finished=True)
    assert searched(tmp_path / "grid", 12, value, 27, seeds=2, stored=ended, **options)[0] == log
    assert not ended.trained


def test_ties_and_what_is_not_finite_are_ordered_in_a_fixed_way(tmp_path):
    values = [math.nan, 1.0, 1.0, 1.0, math.inf, None]
    log, stored, _ = searched(tmp_path, 6, lambda a, s, e: values[a], 3)
    assert [of(run)[0] for run, begin, _ in stored.trained if begin] == [1, 2]
    failed = [line["setting"][0] for line in log if line["what"] == "fail"]
    assert failed == ["a=0", "a=4", "a=5"]
    assert all(
        line["value"] is None for line in log if line["what"] == "drop" and line["setting"][0] in failed
    )


def test_higher_may_be_better(tmp_path):
    log, _, _ = searched(tmp_path, 9, lambda a, s, e: a / 10, 9, sign=-1)
    assert log[-1]["best"][0] == "a=8" and log[-1]["value"] == 0.8
    assert [line["value"] for line in log if line["what"] == "promote"] == [0.8, 0.7, 0.6, 0.8]


def test_settings_are_compared_by_their_failures_then_by_the_mean_over_seeds(tmp_path):
    values = {(0, 0): 0.0, (0, 1): None, (1, 0): 2.0, (1, 1): 4.0, (2, 0): 1.0, (2, 1): 4.0}
    log, _, _ = searched(tmp_path, 3, lambda a, s, e: values[a, s], 3, seeds=2)
    (promoted,) = [line for line in log if line["what"] == "promote"]
    assert (promoted["setting"], promoted["value"]) == (["a=2"], 2.5)
    (failed,) = [line for line in log if line["what"] == "fail"]
    assert failed["setting"] == ["a=0"] and "1 of its 2 runs" in failed["why"]


def test_a_run_that_has_failed_is_not_trained_on(tmp_path):
    """Its setting goes on with the others, if it is the best all the same."""
    log, stored, _ = searched(tmp_path, 2, lambda a, s, e: None if s or a else 1.0, 3, seeds=2)
    assert [(of(run), end) for run, begin, end in stored.trained if begin] == [((0, 0), 3)]
    assert [line["setting"] for line in log if line["what"] == "fail"] == [["a=0"], ["a=1"]]


def test_where_all_fail_the_search_ends_and_says_so(tmp_path):
    log, _, _ = searched(tmp_path, 4, lambda a, s, e: None, 9)
    assert log[-1]["best"] is None and "no setting has come to its end" in log[-1]["why"]


def test_who_fails_at_the_end_is_followed_by_the_next(tmp_path):
    log, _, _ = searched(tmp_path, 3, lambda a, s, e: None if a == 0 and e > 1 else a, 3)
    assert log[-1]["best"][0] == "a=1"


def test_rungs_are_epochs_that_are_validated(tmp_path):
    _, stored, search = searched(tmp_path, 9, lambda a, s, e: a, 50, every=5, min_epochs=3)
    assert search.plan.brackets[0].rungs == (5, 15)
    assert {end for _, _, end in stored.trained} == {5, 15, 50}


@pytest.mark.parametrize(
    ("number", "training", "options", "fault"),
    [
        (1, Training(9), {}, "must be two or more"),
        (9, Training(9), {"min_epochs": 4}, r"min_epochs=4: must be at most 3 .*hydra\.sweeper\.eta=3"),
        (9, Training(9), {"brackets": 4}, r"brackets=4: must be at most 3: the rungs are 1, 3 epochs"),
    ],
)
def test_what_cannot_be_halved_is_refused(number, training, options, fault):
    with pytest.raises(UsageError, match=fault):
        Halving(settings(number), training, HalvingSettings(**options))


def test_finished_runs_say_whether_ranks_at_the_rungs_agree():
    agreeing, crossing = Logged(), Logged()
    for a in range(9):
        agreeing.add(a, 0, val_loss=[10.0 + a, *[float(a)] * 9])
        crossing.add(a, 0, val_loss=[100.0 - a, *[float(a)] * 9])
    good = halving_advice.of_finished(agreeing.table(), (1, 3), 3, agreeing.read)
    bad = halving_advice.of_finished(crossing.table(), (1, 3), 3, crossing.read)
    assert good.agrees and good.text.startswith("ranks at the rungs agree with the end: ")
    # By hand: 6 settings end at epoch 1, 2 at 3, one of 10 epochs, of 90.
    assert "9 settings that have ended" in good.text and "saved 76 % of the epochs" in good.text
    assert not bad.agrees and bad.text.startswith("do not halve: ") and "worse by 6 on average" in bad.text
    near = Logged()  # the best is lost, but seeds differ by more than what is chosen is worse
    for a, seed in itertools.product(range(9), range(2)):
        near.add(a, seed, val_loss=[100.0 - a, *[0.01 * a + seed] * 9])
    found = halving_advice.of_finished(near.table(), (1, 3), 3, near.read)
    # 6, 7 and 8 are left, of which the first with seed 0 is chosen: 5/8 * 0.06 + 1/4 * 0.07 + 1/8 * 0.08.
    assert found.agrees and "by 0.065 on average, where runs of the best differ by 0.71" in found.text
    few = Logged().add(0, 0, val_loss=[1.0, 0.5])
    assert halving_advice.of_finished(few.table(), (1,), 3, few.read) is None


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"_target_": "torch.optim.lr_scheduler.ConstantLR", "warmup": 0, "per": "epoch"}, []),
        ({"warmup": 5}, ["its warm-up of 5 epochs lasts beyond the first rung, epoch 3"]),
        ({"warmup": 2}, []),
        (
            {"T_max": "horizon", "warmup": 0},
            ["its rate falls up to epoch 60, so it is judged near the full rate"],
        ),
        (
            {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 4},
            ["its plateau lowers no rate before the first rung, epoch 3"],
        ),
        ({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 1}, []),
        ({"step_size": "30%"}, ["its rate falls first at epoch 18, not before the first rung, epoch 3"]),
        ({"milestones": [2, 30], "per": "epoch"}, []),
        ({"step_size": 900, "per": "step"}, []),
    ],
)
def test_slow_starters_are_named(node, said):
    found = list(halving_advice.slow_starters([("x", node), ("x", node)], 3, 60))
    assert found == [f"2 settings of scheduler=x: {text}" for text in said]
