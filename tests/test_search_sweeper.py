"""The sweeper that all searches share, with a strategy that is trivial."""

import importlib
import json
import re
from functools import partial
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from small import TINY, TRAIN, composed

from hydra_plugins.sweepwise_plugins._search import SearchSweeper, listed
from sweepwise.errors import Failure, UsageError
from sweepwise.search import trained
from sweepwise.search.strategy import Decision, Result, Step, Trial
from sweepwise.store import record

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=2"]
HOME = Path("outputs/main")
GRID = "hydra_plugins.sweepwise_plugins.grid_sweeper"


class Halves:
    """Asks for all settings with seed 0, then for the better half with seed 1."""

    def __init__(self, settings):
        self.settings = settings

    def next(self, known):
        first = [(setting, "seed.value=0") for setting in self.settings]
        if not known:
            said = "begins all settings"
            return Step((Decision("begin", said),), tuple(map(Trial, first)), (said,))
        values = {one: known[one].value for one in first if known[one].value is not None}
        best = sorted(values, key=values.get)[: len(first) // 2]
        then = [(setting, "seed.value=1") for setting, _ in best]
        why = f"the better {len(best)} of {len(first)}"
        if not set(then) <= set(known):
            return Step((Decision("promote", why, {"runs": then}),), tuple(map(Trial, then)), (why,))
        end = "the second seed is known"
        return Step((Decision("end", end, {"values": [known[one].value for one in then]}),), said=(end,))


class HalvesSweeper(SearchSweeper):
    __module__, __qualname__ = GRID, "GridSweeper"  # whose place it takes: Hydra 1.4 asks a class for them

    def strategy(self, overrides, goal):
        (settings,) = listed(overrides).values()
        return Halves(settings)


@pytest.fixture
def search(empty_folder, whole_errors, as_command, monkeypatch):
    """The command, with this search in the place of the grid."""
    found = Plugins.instance().class_name_to_class
    monkeypatch.setitem(found, f"{GRID}.GridSweeper", HalvesSweeper)
    monkeypatch.setattr(importlib.import_module(GRID), "GridSweeper", HalvesSweeper)
    return partial(as_command, TRAIN, "-m", *SHORT)


def records():
    return {path.parent.name: record.read(path.parent) for path in HOME.glob("*/record.json")}


def test_a_search_from_its_first_step_to_its_answer(search):
    code, out, error = search("optimizer.lr=0.1,0.01,0.001,0.0001")
    assert code == 0, error
    best = {seed: {} for seed in (0, 1)}
    for name, known in records().items():
        lr, seed = re.search(r"lr=([0-9.]+)__.*seed=([01])", name).groups()
        best[int(seed)][float(lr)] = known["best"]["value"]
    assert len(best[0]) == 4
    assert sorted(best[1]) == sorted(sorted(best[0], key=best[0].get)[:2])  # what was read decides
    begin, promote, end = map(json.loads, (HOME / ".sweep/search.jsonl").read_text().splitlines())
    assert [line["what"] for line in (begin, promote, end)] == ["begin", "promote", "end"]
    assert sorted(end["values"]) == sorted(best[1].values())
    assert [line.split(None, 2)[2] for line in out.splitlines() if line.startswith("step")] == [
        "begins all settings: 4 runs",
        "the better 2 of 4: 2 runs",
    ]
    assert out.count("answer  ") == out.count("sweep  ") == 1 and "6 runs: 6 finished" in out
    assert "search        the second seed is known" in out and "plan  " not in out
    assert (HOME / "multirun.yaml").exists() and (HOME / "report.html").exists()


def test_the_same_command_trains_nothing_twice_and_decides_the_same(search):
    arguments = ["optimizer.lr=0.1,0.01", "report=false"]
    search(*arguments)
    log, before = (HOME / ".sweep/search.jsonl").read_bytes(), records()
    code, out, _ = search(*arguments)
    assert code == 0 and records() == before and (HOME / ".sweep/search.jsonl").read_bytes() == log
    assert "2 runs, 2 of them known from before" in out


def test_jobs_are_numbered_over_the_steps(search, monkeypatch):
    LocalLauncher = Plugins.instance().class_name_to_class[
        "hydra_plugins.sweepwise_plugins.local_launcher.LocalLauncher"
    ]
    firsts, launch = [], LocalLauncher.launch

    def seen(self, jobs, initial_job_idx):
        firsts.append((initial_job_idx, len(jobs)))
        return launch(self, jobs, initial_job_idx)

    monkeypatch.setattr(LocalLauncher, "launch", seen)
    search("optimizer.lr=0.1,0.01,0.001,0.0001", "report=false")
    assert firsts == [(0, 4), (4, 2)]


def test_a_run_that_is_refused_is_a_result(search):
    code, out, error = search("data.batch_size=16,-1", "report=false")
    assert code == 2 and "data.batch_size=-1: must be" in error  # as of any sweep, when all is over
    assert "2 of them" not in out and "2 finished, 1 refused" in out and "the second seed is known" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optimizer.lrr=0.1,0.2"], "optimizer.lrr"),
        (["early_stop.metric=val/loss,val/accuracy"], "a search compares its runs by one metric"),
        (["early_stop.metric=null", "optimizer.lr=0.1,0.2"], "metric=None: a search compares"),
        (["name=a,b"], "name: a search is one experiment"),
    ],
)
def test_nothing_is_written_when_the_first_step_cannot_be_composed(search, arguments, told):
    code, _, error = search(*arguments)
    assert code == 2 and told in error and not Path("outputs").exists()


def test_a_damaged_log_is_named_before_anything_is_trained(search):
    (HOME / ".sweep").mkdir(parents=True)
    (HOME / ".sweep/search.jsonl").write_text("{}\n")
    code, _, error = search("optimizer.lr=0.1,0.2")
    assert code == 1 and "search.jsonl" in error and not records()


def test_the_curve_and_the_value_of_a_run(search):
    search(
        "optimizer.lr=0.1,0.01",
        "early_stop.metric=val/accuracy",
        "trainer.validate_every=2",
        "trainer.max_epochs=5",
    )
    request = composed(
        *SHORT,
        "optimizer.lr=0.1",
        "early_stop.metric=val/accuracy",
        "trainer.validate_every=2",
        "trainer.max_epochs=5",
        "seed.value=0",
    )
    found = trained.result(request)
    known = record.read(request.folder)
    assert (
        found.status == "finished"
        and found.epochs == 5
        and found.spans[0][1] - found.spans[0][0] == pytest.approx(known["seconds"], abs=1e-5)
    )
    assert sorted(found.curve) == [2, 4, 5] and found.value == max(found.curve.values())
    assert trained.goal([request]).sign == -1


def test_a_run_without_a_folder_has_failed_or_was_refused(empty_folder):
    request = composed(*SHORT)
    assert trained.result(request, Failure("x")) == Result("failed")
    assert trained.result(request, UsageError(["x"])) == Result("refused")


def test_a_function_that_is_not_ours_is_refused():
    sweeper = HalvesSweeper()
    sweeper._is_ours = False
    with pytest.raises(UsageError, match=r"a search reads the results of sweepwise's runs.*use grid"):
        sweeper.sweep(["x=1,2"])
