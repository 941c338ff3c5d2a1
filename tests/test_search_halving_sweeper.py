"""Halving as a command, with runs that are trained."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from small import TINY, TRAIN

from sweepwise.results import run_folder
from sweepwise.store import record

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=9", "report=false"]
RATES = "optimizer.lr=0.1,0.03,0.01,0.003,0.001,0.0003,0.0001,0.00003,0.00001"
HOME = Path("outputs/main")


@pytest.fixture
def halving(empty_folder, whole_errors, as_command):
    return partial(as_command, TRAIN, "-m", "hydra/sweeper=halving", *SHORT)


def records():
    return {path.parent: record.read(path.parent) for path in HOME.glob("*/record.json")}


def losses(folder, epoch):
    return next(line["val/loss"] for line in run_folder.epochs(folder) if line["epoch"] == epoch)


def test_the_best_of_each_rung_go_on_and_again_nothing_is_trained(halving):
    code, out, error = halving(RATES, "scheduler=cosine")
    assert code == 0, error
    known = records()
    by_epochs = {end: [f for f in known if known[f]["stopped"]["epoch"] + 1 >= end] for end in (1, 3, 9)}
    assert [len(folders) for folders in by_epochs.values()] == [9, 3, 1]
    for rung, after in ((1, 3), (3, 9)):
        best = sorted(by_epochs[rung], key=lambda folder: losses(folder, rung - 1))[: len(by_epochs[after])]
        assert sorted(best) == sorted(by_epochs[after])
    assert sorted(one["status"] for one in known.values()) == ["finished", *["pruned"] * 8]
    said = " ".join(out.split())
    assert (
        "step 1 9 settings for 1 epoch, 3 for 3, 1 for 9: 21 epochs, 26 % of the 81 that training all" in said
    )
    assert "9 settings of scheduler=cosine: its rate falls up to epoch 9" in said
    kept = r"step 2 3 go on to epoch 3 \((optimizer.lr=\S+( and )?){3}\): 3 runs .*"
    assert re.search(kept + r"step 3 1 goes on to epoch 9 \(optimizer.lr=\S+\): 1 run ", said)
    assert "9 runs: 1 finished, 8 pruned" in said and "search 1 of 9 settings trained to the end" in said
    log = (HOME / ".sweep/search.jsonl").read_bytes()
    code, out, error = halving(RATES, "scheduler=cosine")
    assert code == 0 and records() == known and (HOME / ".sweep/search.jsonl").read_bytes() == log
    # A search that keeps more goes on with those that have paused.
    code, out, error = halving(RATES, "scheduler=cosine", "hydra.sweeper.eta=2")
    assert code == 0, error
    attempts = {folder.name: len(one["attempts"]) for folder, one in records().items()}
    assert max(attempts.values()) > 2 and "resume" not in error
    assert sum(one["status"] == "finished" for one in records().values()) >= 1


def test_finished_runs_of_before_advise(halving, as_command):
    rates = "optimizer.lr=0.03,0.01,0.003"
    as_command(TRAIN, "-m", *SHORT, rates)
    before = records()
    code, out, error = halving(rates)
    assert code == 0, error
    assert "settings that have ended it would" in " ".join(out.split()) and records() == before
    lines = [json.loads(line)["what"] for line in (HOME / ".sweep/search.jsonl").read_text().splitlines()]
    assert lines[:3] == ["plan", "advise", "begin"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optimizer.lr=0.1"], "must be two or more"),
        ([RATES, "hydra.sweeper.eta=1"], "hydra.sweeper.eta=1: must be in [2, inf)"),
        ([RATES, "hydra.sweeper.min_epochs=4"], "hydra.sweeper.min_epochs=4: must be at most 3"),
        ([RATES, "hydra.sweeper.brackets=9"], "hydra.sweeper.brackets=9: must be at most 3"),
        ([RATES, "trainer.max_epochs=many"], "trainer.max_epochs=many: must be a whole number"),
        (["optimizer.lr=0.1,0.1"], "must be two or more"),
        ([RATES, "trainer.max_epochs=3,9"], "trainer.max_epochs=3,9: must be the same in all runs"),
        (["optimizer.lr=interval(0.1,1)"], "halving has lists, no intervals"),
    ],
)
def test_what_cannot_be_halved_is_refused_before_anything_is_written(halving, arguments, told):
    code, _, error = halving(*arguments)
    assert code == 2 and told in error and not Path("outputs").exists()


def test_steps_that_end_a_training_are_counted_in_epochs(halving):
    """Of 107 examples in batches of 16 an epoch has seven steps, so 20 steps are three epochs."""
    words = ["trainer.max_steps=20", "trainer.max_epochs=50", "early_stop=patience", "data.batch_size=16"]
    code, out, error = halving("optimizer.lr=0.1,0.01,0.001", *words)
    assert code == 0, error
    said = " ".join(out.split())
    assert (
        "3 settings for 1 epoch, 1 for 3: at most 5 epochs, 56 % of the 9 that training all to the end"
        in said
    )
    assert "takes at most, as early_stop=patience may end runs before" in said
    assert sorted(one["stopped"]["step"] + 1 for one in records().values()) == [7, 7, 20]
    code, _, error = halving("optimizer.lr=0.1,0.01", *words[1:], "trainer.max_steps=10")
    assert code == 2 and "must be at most 0 to compare settings of 2 epochs (trainer.max_steps=10)" in error
    code, _, error = halving("data.batch_size=16,32", *words[:3])
    assert (
        code == 2 and "trainer.max_steps=20: ends runs after 3 to 5 epochs; give trainer.max_epochs" in error
    )


def test_steps_whose_epochs_are_not_known_may_end_runs_before(halving):
    words = ["trainer.max_steps=20", "data=table", "data.path=nowhere.csv", "data.target=y"]
    code, out, error = halving("optimizer.lr=0.1,0.01,0.001", *words)
    assert code == 2 and "nowhere.csv" in error
    assert "takes at most, as trainer.max_steps=20 may end runs before" in " ".join(out.split())
