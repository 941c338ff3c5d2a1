"""A race: what it asks for, what it drops, when it ends; simulated on stored trainings too."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import commands
import numpy as np
import pytest
import sweeps
from small import ROOT, TINY, TRAIN

from sweepwise.errors import UsageError
from sweepwise.results import loading
from sweepwise.search.racing import Racing, RacingSettings
from sweepwise.search.strategy import Result
from sweepwise.store import record

sys.path.insert(0, str(ROOT / "benchmarks"))
import racing

NAMES = [(f"optimizer.lr={lr}",) for lr in (1, 2, 3, 4, 5)]
HOME = Path("outputs/main")


def run(strategy, value, known=None):
    """Follows a race; returns its steps."""
    known, steps = dict(known or {}), []
    while True:
        steps.append(strategy.next(known))
        if not steps[-1].trials:
            return steps
        for trial in steps[-1].trials:
            *_, lr, seed = (int(text.partition("=")[2]) for text in trial.overrides)
            known[trial.overrides] = Result("finished", value(lr, seed))


def noisy(lr, seed):
    return 10 * lr + np.random.default_rng(lr * 100 + seed).normal()


def test_all_begin_with_the_same_seeds_and_the_best_is_soon_known():
    first, end = run(Racing(NAMES, None, 1, RacingSettings()), noisy)
    assert {trial.overrides for trial in first.trials} == {
        (*name, f"seed.value={seed}") for name in NAMES for seed in range(3)
    }
    assert [one.about["setting"] for one in end.decisions[:-1]] == [
        f"optimizer.lr={lr}" for lr in (2, 3, 4, 5)
    ]
    assert end.decisions[-1].why == "the best is known" and end.decisions[-1].about["runs"] == 15
    assert "optimizer.lr=1" in end.said[0] and "at most 5 %" in end.said[1]


def test_what_is_dropped_is_named_up_to_three_in_its_line_and_in_the_verdict():
    """Two are as good; of the others each look drops those that it says, and the end all of them."""

    def value(lr, seed):
        return None if lr == 5 else noisy(0 if lr < 3 else lr, 10 * seed + lr)

    *_, second, end = run(Racing(NAMES, None, 1, RacingSettings(max_seeds=4, min_seeds=3)), value)
    assert re.match(
        "optimizer.lr=3 and optimizer.lr=4 dropped, surely worse than optimizer.lr=[12]; "
        "optimizer.lr=5 dropped, failed with all 3 seeds; 2 settings undecided",
        second.said[0],
    )
    assert "; optimizer.lr=3 and optimizer.lr=4 dropped as surely worse" in end.said[0]
    assert "; optimizer.lr=5 dropped, as all runs failed; " in end.said[0]
    *_, end = run(Racing(NAMES, None, 1, RacingSettings()), noisy)
    assert "; optimizer.lr=2 and optimizer.lr=3 and optimizer.lr=4 and 1 more dropped as" in end.said[0]


def test_higher_is_better_where_the_metric_says_so():
    *_, end = run(Racing(NAMES, None, -1, RacingSettings()), noisy)
    assert end.decisions[-1].about["best"] == "optimizer.lr=5"


def test_seeds_that_are_swept_are_run_in_their_order():
    seeds = [("seed.value=7",), ("seed.value=3",), ("seed.value=5",), ("seed.value=1",)]
    steps = run(Racing(NAMES[:2], seeds, 1, RacingSettings()), lambda lr, seed: float(seed))
    asked = [{trial.overrides[1] for trial in step.trials} for step in steps]
    assert asked == [{"seed.value=7", "seed.value=3", "seed.value=5"}, set()]  # equal to the bit: equivalent


def test_only_what_is_undecided_gets_more_seeds():
    def value(lr, seed):
        return noisy(lr, seed) if lr > 2 else np.random.default_rng(lr * 100 + seed).normal()

    steps = run(Racing(NAMES, None, 1, RacingSettings(max_seeds=8)), value)
    later = {trial.overrides[0] for step in steps[1:] for trial in step.trials}
    assert later == {"optimizer.lr=1", "optimizer.lr=2"}
    assert steps[-1].decisions[-1].why == "all 8 seeds are spent" and "not surely worse" in steps[-1].said[0]


def test_a_wide_margin_ends_it():
    *_, end = run(
        Racing(NAMES[:2], None, 1, RacingSettings(margin=50.0)), lambda lr, seed: noisy(1, 10 * seed + lr)
    )
    assert "equivalent" in end.decisions[-1].why and end.decisions[-1].about["seeds"] == 3


def test_the_budget_is_kept():
    *_, end = run(
        Racing(NAMES, None, 1, RacingSettings(budget=19)), lambda lr, seed: noisy(1, 10 * seed + lr)
    )
    assert end.decisions[-1].about["runs"] == 15 and "the budget is spent: 15 of 19 runs" in end.said[0]


def test_a_setting_that_always_fails_is_dropped_and_one_that_failed_once_counts_as_worst():
    def value(lr, seed):
        return None if lr == 5 or (lr, seed) == (1, 2) else noisy(lr, seed) / 100

    _, *more, end = run(Racing(NAMES, None, 1, RacingSettings()), value)
    dropped = [one for step in (*more, end) for one in step.decisions if one.what == "drop"]
    assert {"optimizer.lr=5: 3 of 3"} <= {
        f"{one.about['setting']}: {one.about['failed']} of 3" for one in dropped
    }
    assert end.decisions[-1].about["best"] != "optimizer.lr=5"


def test_a_diverged_run_has_failed_whatever_it_had_reached():
    """As in an answer: the best value before it diverged is none."""
    known = {
        (*name, f"seed.value={seed}"): Result("diverged" if name == NAMES[0] else "finished", noisy(k, seed))
        for k, name in enumerate(NAMES)
        for seed in range(3)
    }
    end = Racing(NAMES, None, 1, RacingSettings()).next(known).decisions[-1]
    assert (
        end.about["best"] == "optimizer.lr=2"
        and "optimizer.lr=1 dropped, as all runs failed"
        in (Racing(NAMES, None, 1, RacingSettings()).next(known).said[0])
    )
    assert end.about["value"] == pytest.approx(np.mean([noisy(1, seed) for seed in range(3)]))


def test_of_settings_that_are_equal_none_that_failed_is_the_best():
    *_, end = run(Racing(NAMES, None, -1, RacingSettings()), lambda lr, seed: None if lr < 3 else 1.0)
    about = end.decisions[-1].about
    assert about["left"] == ["optimizer.lr=3", "optimizer.lr=4", "optimizer.lr=5"] and about["value"] == 1.0
    *_, end = run(
        Racing(NAMES, None, -1, RacingSettings()), lambda lr, seed: None if (lr, seed) == (1, 2) else 1.0
    )
    assert end.decisions[-1].about["best"] == "optimizer.lr=2"


def test_without_any_value_it_ends():
    *_, end = run(Racing(NAMES, None, 1, RacingSettings()), lambda lr, seed: None)
    assert end.decisions[-1].why == "no run has a value"


def test_what_is_known_before_is_not_asked_for_otherwise():
    """The same known results give the same step, whatever came first."""
    known = {
        (*name, f"seed.value={seed}"): Result("finished", noisy(1, 7 * seed))
        for name in NAMES
        for seed in range(9)
    }
    strategy = Racing(NAMES, None, 1, RacingSettings(max_seeds=9))
    assert strategy.next(known) == strategy.next(dict(reversed(known.items())))
    assert not strategy.next(known).trials


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"settings": NAMES[:1]}, "compares settings"),
        ({"seeds": [("seed.value=1",)] * 2}, "min_seeds=3: the sweep has 2 seeds"),
        ({"rules": RacingSettings(budget=14)}, "budget=14: 5 settings x 3 seeds are 15 runs"),
    ],
)
def test_a_race_that_cannot_be_is_refused(arguments, told):
    given = {"settings": NAMES, "seeds": None, "sign": 1, "rules": RacingSettings()} | arguments
    with pytest.raises(UsageError, match=told):
        Racing(**given)


def test_max_seeds_below_min_seeds_are_refused():
    with pytest.raises(UsageError, match=r"max_seeds=3: must be at least hydra\.sweeper\.min_seeds=4"):
        RacingSettings(min_seeds=4, max_seeds=3)


# --- the command


@pytest.fixture
def command(empty_folder, whole_errors, as_command):
    return partial(as_command, TRAIN, "-m", "hydra/sweeper=racing", *TINY, "monitor=none", "early_stop=none")


def test_a_race_of_real_runs(command):
    arguments = ["optimizer.lr=0.01,0.000001,0.000002", "trainer.max_epochs=3", "hydra.sweeper.max_seeds=5"]
    code, out, error = command(*arguments)
    assert code == 0, error
    lines = [json.loads(line) for line in (HOME / ".sweep/search.jsonl").read_text().splitlines()]
    assert lines[0]["what"] == "begin" and lines[-1]["best"] == "optimizer.lr=0.01"
    runs = list(HOME.glob("*/record.json"))
    assert len(runs) == lines[-1]["runs"] and all(
        record.read(path.parent)["status"] == "finished" for path in runs
    )
    assert "step 1        3 settings with 3 seeds each: 9 runs" in out
    assert "they only describe" in " ".join(out.split()) and "best " in out
    code, out, _ = command(*arguments)
    assert code == 0 and "9 runs, 9 of them known from before" in " ".join(out.split())
    assert sorted(HOME.glob("*/record.json")) == sorted(runs)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["seed.value=range(4)"], "compares settings"),
        (["optimizer.lr=0.1,0.2", "seed.value=3"], "seed.value=3: a race chooses how many seeds it runs"),
        (["optimizer.lr=interval(0.1,0.2)"], "a race has lists, no intervals"),
        (["optimizer.lr=0.1,0.2", "hydra.sweeper.min_seeds=1"], "hydra.sweeper.min_seeds=1: must be"),
        (["optimizer.lr=0.1,0.2", "hydra.sweeper.seeds=1"], "hydra.sweeper.seeds"),
    ],
)
def test_bad_input_writes_nothing(command, arguments, told):
    code, _, error = command(*arguments)
    assert code == 2 and told in error and not Path("outputs").exists()


def test_the_answer_of_a_race_says_that_it_describes(tmp_path):
    for lr, seeds in ((0.1, 3), (0.2, 5)):
        for seed in range(seeds):
            sweeps.run(tmp_path / "race", f"optimizer.lr={lr}", f"seed.value={seed}", value=lr + seed / 100)
    assert not any("only describe" in remark for remark in loading.load(tmp_path / "race").remarks)
    (tmp_path / "race/.sweep").mkdir()
    (tmp_path / "race/.sweep/search.jsonl").touch()
    assert any("only describe" in remark for remark in loading.load(tmp_path / "race").remarks)


@pytest.mark.slow
def test_a_race_that_is_killed_again_and_again_decides_the_same_and_trains_nothing_twice(tmp_path):
    """Killed when so many runs have begun; each run alone, so that all bits are the same."""
    words = [TRAIN, "-m", "hydra/sweeper=racing", *TINY, "monitor=none", "early_stop=none", "report=false"]
    words += ["optimizer.lr=0.01,0.011,0.000001", "hydra.launcher.fuse=false", "hydra.sweeper.max_seeds=6"]
    words += ["trainer.max_epochs=4", "hydra.launcher.max_parallel=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    done = commands.run(words, cwd=whole)
    assert done.returncode == 0, done.stderr
    ended: dict[Path, bytes] = {}
    for most in (1, 4, 8, 10, 13):
        process = commands.popen(words, cwd=killed, start_new_session=True, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list((killed / HOME).glob("*/record.json"))) < most:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert all(path.read_bytes() == before for path, before in ended.items())
        records = {path: path.read_bytes() for path in (killed / HOME).glob("*/record.json")}
        ended |= {path: text for path, text in records.items() if json.loads(text)["status"] == "finished"}
    done = commands.run(words, cwd=killed)
    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == before for path, before in ended.items())
    log = HOME / ".sweep/search.jsonl"
    assert (killed / log).read_bytes() == (whole / log).read_bytes()
    names = [{path.parent.name for path in (home / HOME).glob("*/record.json")} for home in (whole, killed)]
    assert names[0] == names[1]


# --- simulated


@pytest.mark.slow
@pytest.mark.parametrize("kind", racing.KINDS)
def test_few_races_drop_a_setting_wrongly(kind):
    """At most 5 %: of 200 races more than 18 are wrong by a chance of 0.9 % then."""
    g = np.random.default_rng(0)
    found = [racing.race(*racing.KINDS[kind](g, 12), RacingSettings(max_seeds=12)) for _ in range(200)]
    assert sum(one.wrong for one in found) <= 18


@pytest.mark.slow
@pytest.mark.parametrize(("task", "share"), [("digits", 0.55), ("mnist1d", 0.65), ("diabetes", 1.0)])
def test_races_of_stored_trainings_save_runs_and_drop_nothing_wrongly(task, share):
    """As good as 20 seeds of every setting; in diabetes hardly any two differ, so little is saved."""
    values, g = racing.stored(task), np.random.default_rng(0)
    best = values.mean(axis=1)
    found = [racing.race(racing.resampled(values, g), best, RacingSettings(max_seeds=20)) for _ in range(40)]
    right = np.mean([one.best == best.argmin() for one in found])
    assert np.mean([one.runs for one in found]) <= share * len(values) * 20
    assert right >= racing.right_at(values, 1000, g)[-1] - 0.15  # more than two standard errors of 40 races
    assert sum(one.wrong for one in found) <= 6  # of 40 with 5 % each, more by a chance of 1.4 %
