"""The loop of a search and its log."""

import json

import pytest

from sweepwise.search import log
from sweepwise.search.drive import drive
from sweepwise.search.log import Log
from sweepwise.search.strategy import Decision, Result, Step, Trial
from sweepwise.store.shape import Damaged


class UpTo:
    """Asks for one run after the other, up to a number, unless one is good enough."""

    def __init__(self, most: int) -> None:
        self.most = most

    def next(self, known):
        if len(known) == self.most or any(result.value < 0.5 for result in known.values()):
            best = min(known, key=lambda overrides: known[overrides].value)
            return Step((Decision("end", "enough", {"best": list(best)}),))
        trial = Trial((f"seed.value={len(known)}",))
        return Step((Decision("begin", "the next", {"run": list(trial.overrides)}),), (trial,))


def trained(trials):
    return [Result("finished", 1.0 / (1 + int(trial.overrides[0][-1]))) for trial in trials]


def test_a_search_follows_its_strategy_to_the_end(tmp_path):
    asked = []
    last = drive(UpTo(9), lambda trials: [asked.extend(trials), *trained(trials)][1:], Log(tmp_path / "log"))
    assert [trial.overrides for trial in asked] == [("seed.value=0",), ("seed.value=1",), ("seed.value=2",)]
    assert last.decisions[0].about == {"best": ["seed.value=2"]} and not last.trials
    assert [line["what"] for line in log.read(tmp_path / "log")] == ["begin", "begin", "begin", "end"]


def test_a_decision_is_logged_before_its_runs_are_trained(tmp_path):
    def killed(trials):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(UpTo(3), killed, Log(tmp_path / "log"))
    assert [line["run"] for line in log.read(tmp_path / "log")] == [["seed.value=0"]]


@pytest.mark.parametrize("cut", range(0, 240, 7))
def test_a_log_that_was_cut_anywhere_becomes_what_it_would_have_been(tmp_path, cut):
    whole, other = tmp_path / "whole", tmp_path / "other"
    drive(UpTo(3), trained, Log(whole))
    other.write_bytes(whole.read_bytes()[:cut])
    drive(UpTo(3), trained, Log(other))
    assert other.read_bytes() == whole.read_bytes()


def test_a_larger_budget_is_added_once(tmp_path):
    path = tmp_path / "log"
    for most in (1, 2, 2, 1):
        drive(UpTo(most), trained, Log(path))
    assert [line["what"] for line in log.read(path)] == ["begin", "end", "begin", "end"]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    Log(tmp_path / "log").write([Decision("drop", "no value", {"mean": float("nan")})])
    assert json.loads((tmp_path / "log").read_text())["mean"] is None


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"what": "begin", "why": "x"}\n{"what": 3}\n')
    with pytest.raises(Damaged, match=r"line 2: .*what must be a text.*the search then writes it again"):
        Log(path)
