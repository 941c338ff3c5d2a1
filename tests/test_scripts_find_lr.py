"""scripts/find_lr.py: what it prints and draws, and what it refuses."""

import shlex
from functools import partial

import pytest
from matplotlib.image import imread
from small import CONF, ROOT, WINE

from sweepwise import cli, run

SCRIPT = str(ROOT / "scripts" / "find_lr.py")
SMALL = [*WINE, "model.hidden=[16]", "early_stop=none"]

pytestmark = pytest.mark.usefixtures("empty_folder", "no_display")


@pytest.fixture
def command(as_command):
    return partial(as_command, SCRIPT)


def test_it_suggests_a_rate_and_the_command_that_trains_with_it(command, empty_folder):
    code, out, _ = command(*SMALL, "optimizer.lr=0.5")
    assert code == 0
    said = {line[:14].strip(): line[14:] for line in out.splitlines()}
    rate, rule = said["suggestion"].removeprefix("lr ").split(" ", 1)
    assert rule in ("(minimum / 10)", "(steepest)") and 1e-4 < float(rate) < 0.1
    python, script, *overrides = shlex.split(said["train"])
    assert (python, script) == ("python", "train.py")
    assert overrides == [*SMALL, f"optimizer.lr={rate}"]
    assert imread(empty_folder / "outputs" / "figures" / "find_lr.png").std() > 0.01
    assert [str(path.relative_to(empty_folder)) for path in empty_folder.rglob("*") if path.is_file()] == [
        "outputs/figures/find_lr.png"
    ]
    quiet = ["monitor=none", "progress=false", "trainer.max_epochs=8"]
    ended = run.train(cli.composed([*overrides, *quiet], CONF))
    assert ended.run.metrics["val/accuracy"] > 0.9
    curve = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(curve) <= 16 and all(len(line) <= 80 for line in curve)


def test_the_same_command_says_the_same(command):
    assert command(*SMALL, "steps=30") == command(*SMALL, "steps=30")


def test_range_steps_and_picture_can_be_set(command, empty_folder):
    code, out, _ = command(*SMALL, "min=1e-4", "max=0.1", "steps=50", "figure=here.png")
    assert code == 0 and "50 steps, lr 0.0001 to 0.1" in out and (empty_folder / "here.png").exists()
    assert not (empty_folder / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["max=1e-6"], ["the loss never falls", "no rate can be suggested"]),
        (["init=xvier"], ["init=xvier", "did you mean 'xavier'?"]),
        (["min=2", "max=1"], ["min=2 max=1", "0 < min < max"]),
        (["min=0"], ["0 < min < max"]),
        (["max=high"], ["max=high", "must be a number"]),
        (["steps=1.5"], ["steps=1.5", "whole number"]),
        (["steps=3"], ["steps=3", "at least 20"]),
        (["stesp=30"], ["stesp=30", "unknown"]),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, words, command, empty_folder):
    code, _, err = command("data=wine", "model.hidden=[16,16]", "trainer.device=cpu", *arguments)
    assert code == 2 and all(word in err for word in words) and "Traceback" not in err
    assert not list(empty_folder.iterdir())


def test_help_says_how(command):
    code, out, _ = command("--help")
    assert code == 0 and "min=1e-7 max=10 steps=100" in out and "minimum / 10" in out
    assert all(len(line) <= 80 for line in out.splitlines())
