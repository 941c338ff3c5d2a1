"""The experiments: they say what they ask, compose, run as a sweep, and find what they claim to find."""

import itertools
import json
import statistics
from pathlib import Path

import pytest
import yaml
from small import CONF, TRAIN, composed

from sweepwise import cli, run
from sweepwise.cli.help import page
from sweepwise.cli.options import of_folder
from sweepwise.search.guided import experiment_yaml
from sweepwise.store import record

EXPERIMENTS = sorted(
    path.stem
    for path in (CONF / "experiment").glob("*.yaml")
    if experiment_yaml.MARK not in path.read_text()  # what a search has saved here
)

pytestmark = pytest.mark.usefixtures("empty_folder")


def text(name: str) -> str:
    return (CONF / "experiment" / f"{name}.yaml").read_text()


def values(swept: str) -> list[str]:
    """What Hydra makes of 'a,b' or 'range(3)'."""
    counted = swept.startswith("range(")
    return [str(n) for n in range(int(swept[6:-1]))] if counted else swept.split(",")


def sweep(name: str) -> dict[str, list[str]]:
    """The values of each key that an experiment sweeps."""
    params = yaml.safe_load(text(name))["hydra"]["sweeper"]["params"]
    return {key: values(str(swept)) for key, swept in params.items()}


def settings(name: str) -> list[list[str]]:
    """Each swept value once, the other keys at their first."""
    swept = sweep(name)
    first = {key: options[0] for key, options in swept.items()}
    chosen = [first | {key: value} for key, options in swept.items() for value in options]
    return [[f"experiment={name}", *(f"{key}={value}" for key, value in one.items())] for one in chosen]


def test_each_technique_has_its_experiment():
    assert set(EXPERIMENTS) >= {"seed", "init", "schedule", "regularization", "early_stopping"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_asks_and_how_it_is_run(name):
    first, question, command, *_ = text(name).split("defaults:")[0].splitlines()
    assert first == "# @package _global_"
    assert question.startswith("# ") and "?" in question
    assert command.startswith(f"# python train.py experiment={name} ") and " s on one" in command
    assert yaml.safe_load(text(name))["name"] == name
    shown = page(of_folder(CONF), ["--help"])
    assert question[2:30] in shown[shown.index("\nexperiment:") :]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_setting_of_an_experiment_binds(name):
    for overrides in settings(name):
        request = composed(*overrides)
        run.bind_all(request.config)
        assert request.folder.parent == Path("outputs") / name, overrides


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_trains_two_steps(name):
    small = ["data=wine", "trainer.max_steps=2", "early_stop=none", "monitor=none", "progress=false"]
    request = cli.composed([f"experiment={name}", *small], CONF)
    result = run.train(request)
    assert (result.exit_code, result.run.step) == (0, 1)
    assert record.read(request.folder)["best"]["step"] == 1


@pytest.fixture
def train(as_command):
    """Trains as the command does; returns what it prints."""

    def call(*arguments: str) -> str:
        code, printed, complaint = as_command(TRAIN, *arguments)
        assert code == 0, complaint
        return printed

    return call


@pytest.mark.slow
def test_an_experiment_is_a_sweep_with_and_without_m(empty_folder, train):
    def folders() -> list[str]:
        return sorted(path.parent.name for path in empty_folder.glob("outputs/init/*/record.json"))

    short = ["experiment=init", "init=xavier,zeros", "seed.value=0,1", "trainer.max_steps=2", "monitor=none"]
    train(*short)
    once = folders()
    assert len(once) == 4
    assert all(sum(f"init={option}__" in name for name in once) == 2 for option in ("xavier", "zeros"))
    assert train("-m", *short).count("  before\n") == 4
    assert folders() == once
    train("experiment=init", "init=kaiming", "seed.value=0", *short[3:])
    assert len(folders()) == 5


# --- what the experiments find


@pytest.fixture
def outcome(empty_folder, train):
    """The records of an experiment's runs, by what some keys were."""

    def call(name: str, *by: str) -> dict[tuple[str, ...], list[dict]]:
        train(f"experiment={name}", "progress=false", "monitor=none")
        records: dict[tuple[str, ...], list[dict]] = {}
        for path in sorted((empty_folder / "outputs" / name).glob("*/record.json")):
            known = json.loads(path.read_text())
            overrides = dict(override.split("=", 1) for override in known["overrides"])
            records.setdefault(tuple(overrides[key] for key in by), []).append(known)
        assert sum(map(len, records.values())) == len(list(itertools.product(*sweep(name).values())))
        return records

    return call


def mean(records: list[dict], tag: str) -> float:
    """Of the last epoch; of the test part, which the best weights see."""
    where = [known["best"]["metrics"] if tag.startswith("test/") else known["last"] for known in records]
    return statistics.mean(metrics[tag] for metrics in where)


def best(records: list[dict]) -> float:
    return statistics.mean(known["best"]["value"] for known in records)


@pytest.mark.slow
def test_seeds_alone_move_the_result(outcome):
    ((_, runs),) = outcome("seed").items()
    accuracies = [known["best"]["metrics"]["test/accuracy"] for known in runs]
    assert statistics.mean(accuracies) == pytest.approx(0.588, abs=0.02)
    assert 0.005 < statistics.stdev(accuracies) < 0.025
    assert len(set(accuracies)) > 4


@pytest.mark.slow
def test_zeros_never_learn_and_xavier_does(outcome):
    found = outcome("init", "init")
    accuracy = {init: mean(runs, "val/accuracy") for (init,), runs in found.items()}
    assert accuracy["zeros"] == accuracy["normal"] < 0.15  # one class is always answered
    assert accuracy["constant"] < 0.35
    assert accuracy["default"] > 0.8
    assert min(accuracy[init] for init in ("xavier", "kaiming", "orthogonal")) > 0.9


@pytest.mark.slow
def test_every_schedule_beats_a_constant_rate(outcome):
    found = outcome("schedule", "scheduler")
    constant = found.pop(("constant",))
    assert len(found) == 4
    for runs in found.values():
        assert mean(runs, "test/accuracy") > mean(constant, "test/accuracy") + 0.005
        assert mean(runs, "train/accuracy") > 0.97 > mean(constant, "train/accuracy")


@pytest.mark.slow
def test_each_regularizer_lowers_the_last_loss_but_hardly_the_best(outcome):
    keys = ("regularizer.l1.coefficient", "regularizer.weight_decay.coefficient", "regularizer.dropout.p")
    told = outcome("regularization", *keys)
    found = {tuple(map(float, strengths)): runs for strengths, runs in told.items()}
    last = {chosen: mean(runs, "val/loss") for chosen, runs in found.items()}
    nothing, everything = (0, 0, 0), (1e-3, 1, 0.5)
    alone = [(1e-3, 0, 0), (0, 1, 0), (0, 0, 0.5)]
    assert last[nothing] > 0.7
    assert all(last[everything] < last[one] < last[nothing] for one in alone)
    assert last[everything] == pytest.approx(0.49, abs=0.05)
    assert best(found[nothing]) == pytest.approx(best(found[everything]), abs=0.03)


@pytest.mark.slow
def test_patience_finds_what_a_long_training_finds(outcome):
    found = outcome("early_stopping", "early_stop.patience")
    losses = {int(patience): best(runs) for (patience,), runs in found.items()}
    assert losses[1] > losses[7] + 0.01
    assert losses[7] == losses[59]
    long, short = found[("59",)], found[("7",)]
    assert all(known["status"] == "stopped early" and known["stopped"]["epoch"] < 40 for known in short)
    assert all(known["stopped"]["epoch"] == 59 for known in long)
    assert mean(long, "val/loss") > losses[59] + 0.3
