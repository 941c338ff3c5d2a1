"""Questions to whole sweeps: the answer is that of an analysis written by hand, from the same results."""

import runpy

import pandas as pd
import pytest
from small import ROOT

from sweepwise.results.answer import answer
from sweepwise.results.loading import from_records
from sweepwise.results.run_folder import shown

QUESTIONS = ROOT / "benchmarks" / "questions"
METRICS = {"schedule": "val/loss", "regularizer": "val/accuracy", "dropout": "val/r2"}


@pytest.fixture(scope="module")
def by_hand():
    return runpy.run_path(str(QUESTIONS / "by_hand.py"))


@pytest.mark.slow
@pytest.mark.parametrize("sweep", METRICS)
def test_every_question_to_a_sweep_is_answered_as_by_hand(sweep, by_hand):
    """Also that of the rate, at whose highest value most runs have diverged."""
    runs, metric = pd.read_csv(QUESTIONS / f"{sweep}.csv"), METRICS[sweep]
    assert len(runs) > 80 and (runs.status == "diverged").any()
    keys = by_hand["KEYS"][sweep]
    table = from_records(runs.to_dict("records"), metric, ["seed.value"])
    for key in keys:
        expected = by_hand["compare"](by_hand["levels"](runs, keys, key, metric), metric)
        found = answer(table, key, thorough=False).comparisons[key]
        pairs = {(one.better.name, one.other.name): one for one in found}
        assert len(pairs) == len(expected)
        for hand in expected.itertuples():
            one = pairs[_shown(hand.better), _shown(hand.other)]
            assert one.verdict and one.verdict.kind == hand.verdict, hand
            assert one.difference and one.difference.how == "paired"
            both = [one.difference.mean, one.difference.low, one.difference.high]
            assert both == pytest.approx([hand.mean, hand.low, hand.high], rel=3e-3, abs=1e-5)


def _shown(level: str) -> str:
    """A level as the answer names it: pandas reads 1 as 1.0."""
    return shown(float(level)) if level.replace(".", "").isdigit() else level
