"""The stages of a guided search, on made-up trainings whose best setting is known."""

import doctest
import hashlib
import importlib
import json
import math
import pkgutil
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from sweepwise.errors import UsageError
from sweepwise.results.replay import logged, stopping
from sweepwise.search import guided as guided_package
from sweepwise.search.drive import drive
from sweepwise.search.guided import early_stop, regularizer, seed
from sweepwise.search.guided.account import Compared
from sweepwise.search.guided.course import merged
from sweepwise.search.guided.guided import STAGES, Guided, GuidedSettings
from sweepwise.search.guided.ledger import Ledger
from sweepwise.search.guided.stage import Candidates, Question, distinct
from sweepwise.search.halving import Training
from sweepwise.search.log import Log, read
from sweepwise.search.strategy import Result

EPOCHS = 18
INITS = {(): 0.0, ("init=xavier",): -0.1, ("init=zeros",): 5.0, ("init=normal",): 0.2}
SCHEDULES = {(): 0.0, ("scheduler=cosine",): -0.08, ("scheduler=step",): 0.04}
REGULARIZERS = {"l2": -0.02, "dropout": -0.06, "l1": 0.05}


class World:
    """Trainings whose values follow from their overrides and a seed.

    Args:
        best_rate: of all settings.
        noise: standard deviation of a run.
        gap: by which training is better than validation.
        higher: whether higher values are better.
    """

    def __init__(self, best_rate=3e-3, noise=0.004, gap=0.3, *, higher=False):
        self.best_rate, self.noise, self.gap, self.sign = best_rate, noise, gap, -1 if higher else 1
        self.trained = {}  # by run, epochs
        self.spans = {}  # by run, one after the other
        self.clock = 0.0
        self.begun = []

    def value(self, run):
        keys = dict(text.split("=", 1) for text in run)
        rate = float(keys.get("optimizer.lr", 1e-3))
        value = 1 + 0.2 * math.log10(rate / self.best_rate) ** 2
        value += INITS[(f"init={keys['init']}",) if "init" in keys else ()]
        value += SCHEDULES[(f"scheduler={keys['scheduler']}",) if "scheduler" in keys else ()]
        value += 0.01 * ("scheduler.warmup" in keys)
        for option in keys.get("regularizer", "").strip("[]").split(","):
            value += REGULARIZERS.get(option, 0.0)
        text = ",".join(f"{key}={keys[key]}" for key in sorted(keys) if key.startswith(("seed", "data")))
        number = int(hashlib.sha256(f"{text}".encode()).hexdigest()[:8], 16)
        return value + self.noise * np.random.default_rng(number).standard_normal()

    def result(self, run):
        end = self.value(run)
        epochs = self.trained[run]
        curve = {e: self.sign * (end + 0.5 * math.exp(-e / 3)) for e in range(1, epochs + 1)}
        status = "finished" if epochs == EPOCHS else "pruned"
        best = self.sign * min(self.sign * value for value in curve.values())
        return Result(status, best, curve, epochs, tuple(self.spans[run]), best - self.sign * self.gap)

    def train(self, trials):
        """Trains as far as is asked; what has come further stays so."""
        for one in trials:
            if one.overrides not in self.trained:
                self.begun.append(one.overrides)
            before = self.trained.get(one.overrides, 0)
            self.trained[one.overrides] = max(before, one.epochs or EPOCHS)
            begin, self.clock = self.clock, self.clock + 0.5 * (self.trained[one.overrides] - before)
            self.spans.setdefault(one.overrides, []).append((begin, self.clock))
        return [self.result(one.overrides) for one in trials]

    def question(self, **changes):
        families = tuple(
            tuple(
                (f"regularizer={name}", f"regularizer.{name}.strength={strength}")
                for strength in (0.5, 0.1, 0.9)
            )
            for name in REGULARIZERS
        )
        schedules = tuple((one, (*one, "scheduler.warmup=1")) for one in SCHEDULES)
        candidates = Candidates(tuple(INITS), schedules, rate=1e-3, regularizers=families)
        given = {
            "metric": "val/accuracy" if self.sign < 0 else "val/loss",
            "training": Training(EPOCHS, 1, self.sign),
            "candidates": candidates,
            "untrained": Stub(),
            "full": ("early_stop=none",),
        }
        return Question(**{**given, **changes})


class Stub:
    """Refuses what a real network would be refused for."""

    def __init__(self, rate=2e-3):
        self._rate = rate

    def refused(self, overrides):
        return "there is no such layer" if any("l1" in one for one in overrides) else ""

    def complaints(self, overrides):
        return ["all units are equal"] if "init=zeros" in overrides else []

    def rate(self, overrides):
        return self._rate


def searched(world, tmp_path, question=None, **keys):
    """A search to its end: the strategy, its account and the lines of its log."""
    guided = Guided(question or world.question(), GuidedSettings(**keys))
    known = {}

    def train(trials):
        results = world.train(trials)
        known.update({one.overrides: result for one, result in zip(trials, results, strict=True)})
        return results

    drive(guided, train, Log(tmp_path / "search.jsonl"))
    return guided, guided.account(known), read(tmp_path / "search.jsonl")


def test_it_finds_what_is_best(tmp_path):
    _, account, lines = searched(World(), tmp_path)
    found = dict(text.split("=", 1) for text in account.found)
    assert found["init"] == "xavier" and found["scheduler"] == "cosine"
    assert abs(math.log10(float(found["optimizer.lr"]) / 3e-3)) < 0.3
    assert found["regularizer"] in ("[dropout,l2]", "[l2,dropout]")
    assert "scheduler.warmup" not in found
    assert [chapter.stage for chapter in account.chapters] == list(STAGES)
    assert [line["stage"] for line in lines if line["what"] == "decide"] == list(STAGES)
    assert statistics.fmean(account.chosen.values()) < statistics.fmean(account.default.values()) - 0.2
    assert len(account.fresh) == 10 and min(account.fresh) >= 1000


def test_higher_may_be_better(tmp_path):
    _, account, _ = searched(World(higher=True), tmp_path)
    assert {"init=xavier", "scheduler=cosine"} <= set(account.found)
    assert account.sign == -1
    assert statistics.fmean(account.chosen.values()) > statistics.fmean(account.default.values()) + 0.2


def test_each_run_is_begun_once_and_its_cost_counted_once(tmp_path):
    world = World()
    _, account, _ = searched(world, tmp_path)
    assert len(world.begun) == len(set(world.begun)) == account.cost.runs
    assert account.cost.epochs == sum(world.trained.values())
    assert sum(chapter.cost.runs for chapter in account.chapters) == account.cost.runs
    assert sum(chapter.cost.epochs for chapter in account.chapters) == account.cost.epochs


@pytest.mark.parametrize("stops", [0, 1, 2, 3, 5, 8, 10_000])
def test_a_search_that_is_started_again_decides_the_same(tmp_path, stops):
    world = World()
    _, whole, lines = searched(world, tmp_path)
    begun = list(world.begun)
    path = tmp_path / "search.jsonl"
    head = path.read_text().splitlines(keepends=True)[:stops]
    path.write_text("".join(head))
    _, account, again = searched(world, tmp_path)  # runs that had paused have meanwhile gone on
    assert again == lines and account.found == whole.found and world.begun == begun
    assert account.chapters == whole.chapters


def test_a_step_is_a_function_of_what_is_known():
    world = World()
    question, known = world.question(), {}
    steps = []
    while True:
        step = Guided(question, GuidedSettings()).next(known)
        assert step == Guided(question, GuidedSettings()).next(known)
        steps.append(step)
        if not step.trials:
            break
        known |= dict(zip([one.overrides for one in step.trials], world.train(step.trials), strict=True))
    told = [
        json.dumps([one.what, one.why, one.about], default=str) for step in steps for one in step.decisions
    ]
    assert len(told) == len(set(told))


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(EPOCHS, 900), st.floats(0.01, 5), st.integers(0, 7))
def test_the_budget_is_kept(runs, epochs, minutes, which):
    world = World()
    limits = {"runs": runs, "epochs": epochs, "minutes": minutes}
    limits = {key: value for bit, (key, value) in enumerate(limits.items()) if which & 1 << bit}
    guided = Guided(world.question(), GuidedSettings(**limits))
    known = {}
    while (step := guided.next(known)).trials:
        known |= dict(zip([one.overrides for one in step.trials], world.train(step.trials), strict=True))
    cost = guided.account(known).cost
    assert cost.runs <= limits.get("runs", math.inf)
    assert cost.epochs <= limits.get("epochs", math.inf)
    # The first run says how long one takes: it cannot be refused beforehand.
    assert cost.seconds <= max(60 * limits.get("minutes", math.inf), 0.5 * EPOCHS) + 1e-9
    assert len(guided.account(known).chapters) == len(STAGES)


def test_a_larger_budget_is_used_more():
    costs = []
    for epochs in (200, 500, 1500):
        world = World()
        guided, known = Guided(world.question(), GuidedSettings(epochs=epochs)), {}
        while (step := guided.next(known)).trials:
            known |= dict(zip([one.overrides for one in step.trials], world.train(step.trials), strict=True))
        costs.append(guided.account(known).cost.epochs)
    assert costs == sorted(costs) and costs[0] > 100 and costs[-1] > 700


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 10, 16])
@pytest.mark.parametrize("every", [1, 2, 3, 7, 20])
def test_trainings_of_any_length_and_validated_at_any_epoch(epochs, every):
    world = World()
    question = world.question(training=Training(epochs, every))
    for budget in (None, 30 * epochs):
        guided, known = Guided(question, GuidedSettings(epochs=budget)), {}
        while (step := guided.next(known)).trials:
            assert all(one.epochs is None or one.epochs % every == 0 for one in step.trials)
            results = [
                Result("pruned" if one.epochs else "finished", 1.0, {end: 1.0}, end)
                for one in step.trials
                for end in [one.epochs or epochs]
            ]
            known |= dict(zip([one.overrides for one in step.trials], results, strict=True))
        assert len(guided.account(known).chapters) == len(STAGES)


def test_what_is_unsound_is_not_trained(tmp_path):
    world = World()
    _, _, lines = searched(world, tmp_path)
    assert not any("init=zeros" in run for run in world.begun)
    assert not any("l1" in text for run in world.begun for text in run)
    (refused,) = [line for line in lines if line["what"] == "refuse"]
    assert refused["setting"] == ["init=zeros"] and refused["why"] == "all units are equal"


@pytest.mark.parametrize("best", [0.9, 0.95, 1.0])
def test_a_strength_beyond_those_that_were_tried_is_found(tmp_path, best):
    """Regularizers help the more the nearer their strength is to the best; 0.9 is outermost at first."""

    class Strong(World):
        def value(self, run):
            keys = dict(text.split("=", 1) for text in run)
            chosen = [float(keys[key]) for key in keys if key.endswith(".strength")]
            return super().value(run) + sum(0.1 * abs(strength - best) for strength in chosen)

    def key(name, strength):
        return f"regularizer.{name}.strength={strength}"

    world = Strong(noise=0.0001)
    question = world.question()
    links = {key(name, a): key(name, b) for name in REGULARIZERS for a, b in ((0.9, 0.95), (0.95, 1.0))}
    question = replace(question, candidates=replace(question.candidates, beyond=links))
    _, account, lines = searched(world, tmp_path, question)
    found = [float(text.split("=")[1]) for text in account.found if ".strength=" in text]
    assert found == [best, best]
    (chapter,) = [one for one in account.chapters if one.stage == "regularizer"]
    assert "the best one with strengths beyond" in chapter.how
    begun = [line["why"] for line in lines if line["what"] == "begin" and "strengths beyond" in line["why"]]
    assert len(begun) == (2 if best > 0.9 else 1)
    assert len(world.begun) == len(set(world.begun))


def test_without_a_gap_nothing_is_regularised(tmp_path):
    world = World(gap=-0.1)
    _, account, _ = searched(world, tmp_path)
    assert not any("regularizer" in text for run in world.begun for text in run)
    chapter = next(one for one in account.chapters if one.stage == "regularizer")
    assert chapter.decided == "no regularizer" and "better than training by 0.1" in chapter.how


class Overfitting(World):
    """Where validation is worse at the end of a training than in its middle, though not worse than training.

    Args:
        by: how much worse.
    """

    def __init__(self, by, **given):
        super().__init__(gap=-0.1, **given)
        self.by = by

    def result(self, run):
        found = super().result(run)
        middle = EPOCHS // 2
        later = {e: self.sign * self.by * max(0, e - middle) / (EPOCHS - middle) for e in found.curve}
        curve = {e: value + later[e] for e, value in found.curve.items()}
        return replace(found, curve=curve, value=self.sign * min(self.sign * one for one in curve.values()))


@pytest.mark.parametrize("higher", [False, True])
def test_a_training_that_overfits_is_regularised_though_it_keeps_weights_without_a_gap(tmp_path, higher):
    _, account, lines = searched(Overfitting(0.3, higher=higher), tmp_path)
    (chapter,) = [one for one in account.chapters if one.stage == "regularizer"]
    assert "at the end worse than its best by" in chapter.how and "dropout" in chapter.decided
    (look,) = [line for line in lines if line["what"] == "look" and line["stage"] == "regularizer"]
    assert look["gap"] < 0 < 0.1 < look["after_best"]


def test_a_training_that_gets_a_little_worse_by_chance_is_not_regularised(tmp_path):
    world = Overfitting(0.002)
    searched(world, tmp_path)
    assert not any("regularizer" in text for run in world.begun for text in run)


class Bound(World):
    """Where one schedule is best alone, and another one with a regularizer."""

    def value(self, run):
        both = "scheduler=step" in run and any(text.startswith("regularizer=") for text in run)
        return super().value(run) - 0.3 * both


def test_a_schedule_that_regularisation_makes_better_is_found(tmp_path):
    _, account, lines = searched(Bound(), tmp_path)
    decided = {line["stage"]: line["overrides"] for line in lines if line["what"] == "decide"}
    assert "scheduler=cosine" in decided["scheduler"] and "scheduler=step" in decided["regularizer"]
    assert "scheduler=step" in account.found and "scheduler=cosine" not in account.found


@pytest.mark.parametrize("best_rate", [1e-5, 1.0])
def test_it_widens_while_the_best_rate_is_at_the_edge(tmp_path, best_rate):
    world = World(best_rate=best_rate)
    _, account, lines = searched(world, tmp_path, world.question(untrained=Stub(rate=3e-3)))
    widened = [line for line in lines if line["what"] == "widen"]
    assert widened
    chapter = next(one for one in account.chapters if one.stage == "scheduler")
    rate = next(float(one.partition("=")[2]) for one in chapter.overrides if one.startswith("optimizer.lr"))
    assert abs(math.log10(rate / best_rate)) < 0.6 or "beyond" in chapter.left_open


def test_stages_are_skipped_given_and_repeated(tmp_path):
    world = World()
    question = world.question(given={"init": "init=normal"})
    _, account, _ = searched(world, tmp_path, question, stages=("seed", "init", "scheduler", "scheduler"))
    assert [one.stage for one in account.chapters] == ["seed", "init", "scheduler", "scheduler"]
    assert account.chapters[1].how == "given by hand"
    assert not any(text.startswith("init") for run in world.begun for text in run)
    assert account.fresh == () and account.chosen == {}


@pytest.mark.parametrize("epochs", [None, 400, 120])
def test_a_repeated_stage_decides_anew_and_forgets_nothing(tmp_path, epochs):
    stages = ("seed", "init", "scheduler", "regularizer", "init", "scheduler", "regularizer", "final")
    world = World()
    _, account, _ = searched(world, tmp_path, stages=stages, epochs=epochs)
    assert [one.stage for one in account.chapters] == list(stages)
    found = world.value(merged(account.found))
    first = merged(*(one.overrides for one in account.chapters[:4]))
    assert found <= world.value(first) + 1e-9
    assert all(text.split("=")[0] != "early_stop" for text in account.found)


def test_early_stopping_alone_has_nothing_to_replay(tmp_path):
    _, account, _ = searched(World(), tmp_path, stages=("early_stop",))
    assert account.found == () and account.cost.runs == 0


def test_nothing_is_compared_with_itself(tmp_path):
    world = World()
    _, account, _ = searched(world, tmp_path, stages=("early_stop", "final"))
    assert account.found == account.fresh == () and not world.begun
    assert "nothing to compare" in account.chapters[-1].how


def test_settings_that_never_act_count_once():
    rows = [
        Compared(("scheduler=step",), {0: 0.1}),
        Compared((), {0: 0.1}),
        Compared(("scheduler=cosine",), {0: 0.2}),
        Compared(("scheduler=plateau",)),
        Compared(("scheduler=wsd",)),
    ]
    assert [row.overrides for row in distinct(rows)] == [
        (),
        ("scheduler=cosine",),
        ("scheduler=plateau",),
        ("scheduler=wsd",),
    ]


@pytest.mark.parametrize(
    "keys, text",
    [
        ({"stages": ()}, "must name a stage"),
        ({"stages": ("seeds",)}, "did you mean 'seed'"),
        ({"stages": ("final", "seed")}, "final must be the last"),
        ({"stages": ("final", "final")}, "final must be the last"),
    ],
)
def test_refused(keys, text):
    with pytest.raises(UsageError, match=text):
        GuidedSettings(**keys)


def test_seeds_that_are_needed():
    # The power of a two-sided z test of two means with n values each.
    for deviation, difference in [(1, 1), (1, 0.5), (0.3, 0.7), (2, 3)]:
        n = seed.needed(deviation, difference)
        power = [norm.cdf(difference / (deviation * math.sqrt(2 / k)) - norm.ppf(0.975)) for k in (n, n - 1)]
        assert power[0] >= 0.799 and (n == 1 or power[1] < 0.801)


def test_patience_is_replayed_as_answers_replay_it():
    generator = np.random.default_rng(0)
    curves = [generator.standard_normal(EPOCHS).cumsum() * 0.1 - 0.05 * np.arange(EPOCHS) for _ in range(40)]
    world = World()
    for patience in early_stop.patiences(EPOCHS):
        mine = early_stop.replayed(
            [dict(enumerate(map(float, curve), 1)) for curve in curves], patience, world.question()
        )
        measured = np.ones(EPOCHS, dtype=bool)
        row = type("Row", (), {"status": "finished"})()
        read_ = [logged.Curve(row, {"val/loss": curve}, {"val/loss": measured}) for curve in curves]
        (theirs,) = stopping.outcomes(read_, [stopping.Rule("val/loss", patience)])
        lost = [curve[kept] - curve.min() for curve, kept in zip(curves, theirs.kept, strict=True)]
        assert mine.lost == pytest.approx(lost)
        assert mine.saved == pytest.approx([1 - (end + 1) / EPOCHS for end in theirs.end])


def test_two_regularizers_become_one_list():
    both = regularizer.together(("regularizer=[a,b]", "regularizer.a.x=1"), ("regularizer=c",))
    assert both == ("regularizer=[a,b,c]", "regularizer.a.x=1")


def test_what_followed_is_not_known_of_a_run_that_has_paused():
    world = World()
    run = merged(("seed.value=0",))
    world.trained[run], world.spans[run] = EPOCHS, []
    ledger = Ledger(EPOCHS, {run: world.result(run)}, {run: 3})
    seen = ledger.result(run)
    assert seen.status == "pruned" and max(seen.curve) == seen.epochs == 3 and seen.value is None
    assert ledger.cost.epochs == 3 and ledger.value(run) is None


@pytest.mark.parametrize("module", sorted(one.name for one in pkgutil.iter_modules(guided_package.__path__)))
def test_examples(module):
    assert doctest.testmod(importlib.import_module(f"{guided_package.__name__}.{module}")).failed == 0
