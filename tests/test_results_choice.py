"""Which run of a sweep is used: the best setting over its seeds, by the validation part alone."""

import copy
import json

import pytest
import yaml

from sweepwise.errors import UsageError
from sweepwise.results.choice import best_run

CONFIG = {
    "seed": {"value": 0, "data": 0, "init": 0, "noise": 0, "deterministic": False},
    "data": {"_target_": "sweepwise.data.digits.digits", "split_seed": 0},
    "optimizer": {"lr": 0.1},
    "early_stop": {"metric": "val/loss", "mode": "auto"},
    "monitor": {"every": 1},
    "name": "main",
}


def made(home, name, loss, *, seed=0, lr=0.1, status="finished", metric="val/loss", accuracy=0.5, **more):
    """A run that ended so, as its folder says."""
    config = copy.deepcopy(CONFIG)
    config["seed"] |= {"value": seed, "init": seed}
    config["data"]["split_seed"] = more.pop("split_seed", 0)
    config["optimizer"]["lr"] = lr
    config["monitor"] |= more
    best = {"metric": metric, "value": loss, "epoch": 3, "step": 9}
    best["metrics"] = {} if loss is None else {"val/loss": loss, "val/accuracy": accuracy}
    folder = home / name
    folder.mkdir(parents=True)
    best["metrics"]["test/loss"] = -100 * (loss or 0)  # must not matter
    best["measured"] = {"test": {"loss": best["metrics"]["test/loss"]}}
    record = {
        "status": status,
        "best": best,
        "last": {},
    }
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.dump(config))
    return folder


def test_the_setting_counts_and_not_a_lucky_run(tmp_path):
    made(tmp_path, "lucky", 0.10, seed=0, lr=0.3)
    made(tmp_path, "unlucky", 0.90, seed=1, lr=0.3)  # their mean is 0.5
    made(tmp_path, "steady0", 0.41, seed=0)
    steady = made(tmp_path, "steady1", 0.39, seed=1, every=5)  # what a monitor does is no setting
    made(tmp_path, "steady2", 0.40, seed=1, split_seed=7)
    assert best_run(tmp_path) == steady == best_run(str(tmp_path))


def test_a_setting_that_diverged_once_comes_last(tmp_path):
    made(tmp_path, "fast", 0.1, seed=0, lr=9.0)
    made(tmp_path, "broken", 0.2, seed=1, lr=9.0, status="diverged")
    slow = made(tmp_path, "slow", 0.8)
    assert best_run(tmp_path) == slow
    made(tmp_path, "never", None, seed=1, status="diverged")  # now each setting has one
    assert best_run(tmp_path) in (tmp_path / "fast", slow)


def test_runs_that_have_not_ended_and_other_files_do_not_count(tmp_path):
    made(tmp_path, "running", 0.1, lr=0.2, status="running")
    made(tmp_path, "failed", 0.1, lr=0.4, status="failed")
    made(tmp_path, ".sweep", 0.0, lr=0.5)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "record.json").write_text('{"status": "fini')
    stopped = made(tmp_path, "stopped", 0.7, status="stopped early")
    made(tmp_path, "all rows", None, lr=0.6, metric=None)
    assert best_run(tmp_path) == stopped


def test_another_metric_may_choose(tmp_path):
    low = made(tmp_path, "low", 0.1, accuracy=0.5)
    high = made(tmp_path, "high", 0.9, lr=0.2, accuracy=0.9)
    assert (best_run(tmp_path), best_run(tmp_path, "val/accuracy")) == (low, high)
    with pytest.raises(
        UsageError, match=r"metric=val/acuracy: must have been measured; there is val/accuracy, val/loss"
    ):
        best_run(tmp_path, "val/acuracy")
    for metric in ("test/loss", "train/loss"):
        with pytest.raises(UsageError, match=f"metric={metric}: must be one of the validation part"):
            best_run(tmp_path, metric)
    made(tmp_path, "other", 0.9, metric="val/accuracy", lr=0.3)
    assert best_run(tmp_path) == low  # by the metric of most


def test_the_metric_of_the_runs_may_be_one_that_grows(tmp_path):
    made(tmp_path, "low", 0.5, metric="val/accuracy", accuracy=0.5)
    high = made(tmp_path, "high", 0.9, metric="val/accuracy", lr=0.2, accuracy=0.9)
    assert best_run(tmp_path) == high


def test_without_a_run_to_choose_it_is_one_line(tmp_path):
    rules = {tmp_path / "no": "but is missing", tmp_path: "must hold the folder of a run, but holds none"}
    for home, rule in rules.items():
        with pytest.raises(UsageError, match=rule) as refused:
            best_run(home)
        assert "\n" not in str(refused.value)
    made(tmp_path, "all rows", None, metric=None)
    with pytest.raises(UsageError, match="no run has a validation part to choose by"):
        best_run(tmp_path)
    made(tmp_path, "running", None, status="running")
    with pytest.raises(UsageError, match="holds no run that has ended"):
        best_run(tmp_path)
    made(tmp_path, "good", 0.5)
    made(tmp_path, "cut", 0.1)
    (tmp_path / "cut" / "config.yaml").write_text("a: [")
    assert best_run(tmp_path) == tmp_path / "good"
