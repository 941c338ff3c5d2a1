"""A file of conf/experiment/ chooses sweeper and launcher, unless the command or a config above it does."""

import json
from functools import partial
from pathlib import Path

import pytest
from small import TINY, TRAIN

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=1", "report=false"]
LOG = Path("outputs/race/.sweep/search.jsonl")
RACE = """
# @package _global_
defaults:
  - override /hydra/sweeper: racing
  - override /hydra/launcher: slurm_gpu
name: race
hydra:
  sweeper:
    max_seeds: 3
    params:
      optimizer.lr: 0.1,0.001
"""


@pytest.fixture
def command(empty_folder, whole_errors, as_command):
    own = Path("own/experiment")
    own.mkdir(parents=True)
    (own / "race.yaml").write_text(RACE)
    (own / "race_here.yaml").write_text(RACE.replace("slurm_gpu", "local"))
    (own / "plain.yaml").write_text(RACE.replace("override /hydra/sweeper", "/hydra/sweeper"))
    (own / "group.yaml").write_text("# @package _global_\ndefaults: [{/optimizer: sgd}]\n")
    primary = "defaults:\n  - train\n  - _self_\n  - override hydra/sweeper: grid\n"
    Path("own/mine.yaml").write_text(primary)
    return partial(as_command, TRAIN, "--config-dir=own", *SHORT)


def test_an_experiment_chooses_the_sweeper_and_the_launcher(command):
    code, out, _ = command("experiment=race", "--cfg", "hydra", "-p", "hydra.launcher")
    assert code == 0 and "slurm_launcher.SlurmLauncher" in out
    code, out, error = command("experiment=race_here", "-m")
    assert code == 0, error
    begin, *_, end = map(json.loads, LOG.read_text().splitlines())
    assert (begin["search"], begin["settings"]) == ("racing", ["optimizer.lr=0.1", "optimizer.lr=0.001"])
    assert end["seeds"] == 3  # of max_seeds


def test_the_command_line_has_the_last_word(command):
    code, out, error = command("experiment=race_here", "-m", "hydra/sweeper=random")
    assert code == 2 and "hydra.sweeper.max_seeds: unknown" in error
    code, out, error = command("experiment=race_here", "-m", "hydra/sweeper=grid")
    assert code == 0 and "2 runs: 2 finished" in out and not LOG.exists(), error


def test_a_choice_that_a_config_above_overrides_again_is_refused(command):
    """Hydra would leave it out without a word, and train a grid."""
    mine = "--config-name=mine", "-m"
    code, _, error = command("experiment=race_here", *mine)
    rule = "'override /hydra/sweeper: racing' has no effect, as the primary config overrides it again"
    told = f"error: experiment=race_here: its {rule}; choose hydra/sweeper=racing on the command line\n"
    assert (code, error) == (2, told) and not Path("outputs").exists()
    code, _, error = command("experiment=race_here", *mine, "hydra/sweeper=racing")
    assert code == 0 and LOG.exists(), error


@pytest.mark.parametrize(
    ("experiment", "group", "option"),
    [("plain", "hydra/sweeper", "racing"), ("group", "optimizer", "sgd")],
)
@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_a_choice_without_the_word_override_says_so(command, experiment, group, option, mode):
    code, _, error = command(f"experiment={experiment}", *mode)
    assert code == 2 and error.startswith(f"error: {group}: is chosen by two defaults lists; end the later")
    assert f"'- override /{group}: {option}'" in error or f"'- override /{group}: OPTION'" in error
