"""Searches that draw: what Hydra's overrides and the ranges of a yaml become, and whole commands."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from small import CONF, TINY, TRAIN, composed, without

from hydra_plugins.sweepwise_plugins import _ranges, _space
from sweepwise.cli import hooks, swept
from sweepwise.cli.options import of_folder
from sweepwise.cli.priors import of_option
from sweepwise.errors import UsageError
from sweepwise.run import build
from sweepwise.search.parameters import ByOption, Choice, Number
from sweepwise.search.random import Random, RandomSettings
from sweepwise.search.space import Space
from sweepwise.store import record

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=1", "report=false"]
HOME = Path("outputs/main")
CONFS = of_folder(CONF)


def space(*words: str, params=None) -> Space:
    hooks.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        given = ["hydra/sweeper=random", *words]
        config = loader.load_configuration("train", given, RunMode.MULTIRUN)
        OmegaConf.update(config.hydra.sweeper, "params", params or {}, force_add=True)  # as a yaml has them
        task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        lines = [*swept.lines_of(config, resolve=True), *task]
        found = _space.space_of(loader, config, _ranges.parsed(lines, loader))
        found.point([0.1] * len(found.parameters))  # while Hydra is there
        return found


def refusal(*words: str) -> str:
    with pytest.raises(UsageError) as refused:
        space(*words)
    return str(refused.value)


@pytest.mark.parametrize(
    ("written", "parameter"),
    [
        ("interval(0.1,0.5)", Number("model.dropout", 0.1, 0.5)),
        ("tag(log,interval(0.001,0.1))", Number("model.dropout", 0.001, 0.1, log=True)),
        ("int(interval(1,4))", Number("model.dropout", 1, 4, whole=True)),
        ("tag(int,interval(1,4))", Number("model.dropout", 1, 4, whole=True)),
        ("tag(log,int(interval(1,4)))", Number("model.dropout", 1, 4, log=True, whole=True)),
        ("int(tag(log,interval(1,4)))", Number("model.dropout", 1, 4, log=True, whole=True)),
        ("float(interval(1,4))", Number("model.dropout", 1, 4)),
        ("0.1,0.2", Choice("model.dropout", ("0.1", "0.2"))),
        ("choice(0.1,0.2)", Choice("model.dropout", ("0.1", "0.2"))),
        ("range(0.1,0.5,0.2)", Choice("model.dropout", ("0.1", "0.3"))),
        ("shuffle(range(1,4))", Choice("model.dropout", ("1", "2", "3"))),
        ("tag(ordered,choice(a,b))", Choice("model.dropout", ("a", "b"), ordered=True)),
    ],
)
def test_hydras_grammar(written, parameter):
    assert space(f"model.dropout={written}").parameters == (parameter,)


def test_a_yaml_says_the_same_as_a_command_line_which_comes_last():
    params = {
        "optimizer.lr": {"log": [0.001, 0.1]},
        "model.dropout": {"uniform": [0, 0.5]},
        "init": {"choice": ["xavier", "lsuv"]},
        "data.batch_size": "16,32",
    }
    assert space(params=params).parameters == (
        Number("optimizer.lr", 0.001, 0.1, log=True),
        Number("model.dropout", 0, 0.5),
        Choice("init", ("xavier", "lsuv")),
        Choice("data.batch_size", ("16", "32")),
    )
    found = space("init=normal,zeros", "model.dropout=0.1", "data.batch_size=8", params=params)
    assert found.parameters == (
        Number("optimizer.lr", 0.001, 0.1, log=True),
        Choice("init", ("normal", "zeros")),
    )
    assert found.fixed == ("model.dropout=0.1", "data.batch_size=8")
    with pytest.raises(UsageError, match="did you mean 'log'"):
        space(params={"optimizer.lr": {"lgo": [1, 2]}})


@pytest.mark.parametrize(
    ("epochs", "parameter"),
    [
        (100, Number("scheduler.warmup", 5, 50, whole=True)),
        (15, Number("scheduler.warmup", 1, 7, whole=True)),
        (3, Choice("scheduler.warmup", ("1",))),
    ],
)
def test_a_share_is_of_the_epochs_that_are_trained(epochs, parameter):
    words = [f"trainer.max_epochs={epochs}", "scheduler.warmup=tag(share,interval(5,50))"]
    assert space(*words).parameters == (parameter,)


@pytest.mark.parametrize("epochs", [2, 3, 5, 8, 20])
def test_no_range_that_a_yaml_says_is_too_long_for_a_short_training(epochs):
    for option in ("cosine", "plateau", "step", "cosine_restarts", "cyclic", "wsd"):
        keys = [*(f"scheduler.{key}" for key in of_option(CONFS, "scheduler", option)), "early_stop.patience"]
        words = ["data=blobs", f"scheduler={option}", f"trainer.max_epochs={epochs}"]
        found = space(*words, f"hydra.sweeper.search=[{','.join(keys)}]")
        for place in (0.0, 0.999):
            build(composed(*words, *found.point([place] * len(keys))))


def test_listed_seeds_repeat_each_point_and_drawn_ones_do_not():
    found = space("seed.value=range(2)", "data.split_seed=0,1", "optimizer.lr=1,2")
    assert len(found.replicates) == 4 and [one.key for one in found.parameters] == ["optimizer.lr"]
    assert space("seed.value=int(interval(0,9))").replicates == ((),)


def test_keys_that_only_one_option_has_are_drawn_with_it_alone():
    words = ["scheduler=step,cosine", "scheduler.step_size=int(interval(1,4))", "scheduler.gamma=0.5"]
    hooks.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("train", words, RunMode.MULTIRUN)
        found = _space.space_of(loader, config, _ranges.parsed(words, loader))
        points = Random(found, RandomSettings(50)).points
    sizes = [("scheduler=step", f"scheduler.step_size={size}") for size in range(1, 5)]
    assert sorted(points) == sorted([*sizes, ("scheduler=cosine",)])


def test_a_key_that_is_searched_has_the_range_of_its_options_and_explicit_ones_come_first():
    found = space("optimizer=sgd,adam", "hydra.sweeper.search=[optimizer.lr,init]", "init=xavier,zeros")
    option, init, rate = found.parameters
    assert option.key == "optimizer" and init.options == ("xavier", "zeros")
    assert isinstance(rate, ByOption) and rate.ranges["sgd"] == Number("optimizer.lr", 1e-3, 1, log=True)
    assert space("optimizer=sgd", "hydra.sweeper.search=optimizer.lr").parameters == (rate.ranges["sgd"],)


def test_a_searched_group_is_one_whose_options_may_lack_a_key():
    found = space("hydra.sweeper.search=[scheduler,scheduler.gamma]", "scheduler.step_size=2")
    assert {one.key for one in found.parameters} == {"scheduler", "scheduler.gamma"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["init=interval(0,1)"],
            "init=interval(0,1): init is a group of options, which no interval has; list",
        ),
        (
            ["optimizer.lr=tag(log,interval(0,1))"],
            "optimizer.lr=tag(log,interval(0.0,1.0)): a logarithmic range",
        ),
        (["optimizer.lr=tag(lgo,interval(1,2))"], "unknown tag 'lgo'; did you mean 'log'?"),
        (["optimizer.lr=tag(log,choice(1,2))"], "the tag 'log' is for an interval; leave it out"),
        (["optimizer.lr=tag(ordered,interval(1,2))"], "the tag 'ordered' is for a list; leave it out"),
        (["scheduler.warmup=tag(share,interval(5,500))"], "shares are in [0, 100] %, the lower one first"),
        (["scheduler.warmup=tag(log,share,interval(5,50))"], "a share has whole epochs, evenly drawn"),
        (
            ["scheduler.warmup=tag(share,interval(5,50))", "trainer.max_epochs=a"],
            "trainer.max_epochs=a: must",
        ),
        (["optimizer.lr=tag(int,interval(0.2,0.7))"], "must be whole; leave int out"),
        (["init=xavier"], "hydra/sweeper: there is nothing to draw from: give a range"),
        (["hydra.sweeper.search=[optimizer.eps]"], "no _search_ says a range of optimizer.eps"),
    ],
)
def test_faults(words, told):
    assert told in refusal(*words)


def test_all_faults_are_told_at_once():
    told = refusal("init=interval(0,1)", "optimizer.lr=interval(2,1)", "hydra.sweeper.search=[optimizer.eps]")
    assert len(told.splitlines()) == 3


@pytest.fixture
def search(empty_folder, whole_errors, as_command):
    return partial(as_command, TRAIN, "-m", *SHORT)


def records():
    return {path.parent.name: record.read(path.parent) for path in HOME.glob("*/record.json")}


def test_a_random_search_trains_its_points_and_goes_on_from_them(search):
    words = ["hydra/sweeper=random", "optimizer.lr=tag(log,interval(1e-3,0.1))", "seed.value=0,1"]
    code, out, error = search(*words, "hydra.sweeper.samples=2")
    assert code == 0, error
    assert "points 1 to 2 of the sobol sequence with seed 0: 4 runs" in out and "4 finished" in out
    before = records()
    code, out, error = search(*words, "hydra.sweeper.samples=3")
    assert code == 0 and "6 runs, 4 of them known from before" in " ".join(out.split())
    assert len(records()) == 6 and records() == records() | before
    lines = list(map(json.loads, (HOME / ".sweep/search.jsonl").read_text().splitlines()))
    assert [line["what"] for line in lines] == ["begin", "begin", "end", "begin", "end"]


def test_settings_of_a_random_search_are_checked_before_anything_is_written(search):
    words = ["hydra/sweeper=random", "optimizer.lr=interval(1,2)", "hydra.sweeper.sequence=sobl"]
    code, _, error = search(*words, "hydra.sweeper.samples=0")
    assert code == 2 and "hydra.sweeper.samples=0: must be in [1, inf)" in error
    assert "hydra.sweeper.sequence=sobl: must be one of sobol, halton, random" in error
    assert not Path("outputs").exists()


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_search_by_optuna_and_its_resumption(search, pruner):
    if not importlib.util.find_spec("optuna"):
        without("Optuna is not installed")
    words = ["hydra/sweeper=optuna", "hydra.sweeper.search=[optimizer.lr]", "hydra.sweeper.at_once=2"]
    words += [f"hydra.sweeper.pruner={pruner}", "hydra.sweeper.eta=2", "trainer.max_epochs=2"]
    code, out, error = search(*words, "hydra.sweeper.trials=4")
    assert code == 0, error
    log, before = (HOME / ".sweep/search.jsonl").read_bytes(), records()
    assert (HOME / ".sweep/optuna.journal").exists() and "was not written" not in out
    ends = {(known["status"], known["stopped"]["epoch"] + 1) for known in before.values()}
    assert ends == {("finished", 2)} if pruner == "none" else ends <= {("finished", 2), ("pruned", 1)}
    assert len(before) == 4 and "points 3 to 4, suggested by tpe from 2 that are known" in " ".join(
        out.split()
    )
    code, out, _ = search(*words, "hydra.sweeper.trials=4")
    assert code == 0 and records() == before and (HOME / ".sweep/search.jsonl").read_bytes() == log


def test_a_length_that_is_drawn_cannot_be_pruned(search):
    if not importlib.util.find_spec("optuna"):
        without("Optuna is not installed")
    code, _, error = search("hydra/sweeper=optuna", "trainer.max_epochs=int(interval(2,9))")
    assert code == 2 and "trainer.max_epochs: must be the same in all runs" in error


def test_a_grid_names_keys_of_searches_and_refuses_those_that_would_be_drawn(search):
    words = ["optimizer.lr=0.1,0.2", "+hydra.sweeper.samples=4"]
    code, out, error = search(*words, "+hydra.sweeper.search=[optimizer.lr]")
    assert code == 0 and "hydra.sweeper.samples, hydra.sweeper.search: for a search" in out, error
    code, _, error = search(*words, "+hydra.sweeper.search=[optimizer.lr,init]")
    assert code == 2 and "hydra.sweeper.search=[init]: a grid draws nothing; choose hydra/sweeper" in error
