"""hydra/sweeper=guided as a command: what is given, what it writes, how it goes on."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small import CONF, ENVIRONMENT, ROOT, TINY

from sweepwise.search.log import read
from sweepwise.store import record

SHORT = [*TINY, "monitor=none", "trainer.max_epochs=4", "report=false", "mean_runs=false"]
HOME = Path("outputs/main")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project's command and configs, as a result is written into them."""
    shutil.copytree(CONF, tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words):
    """Runs train.py; returns its exit code, what it said and its errors."""
    done = subprocess.run(
        [sys.executable, "train.py", *words],
        env={**ENVIRONMENT, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def guided(*words):
    return command("-m", "hydra/sweeper=guided", *SHORT, *words)


def plain(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.slow
def test_from_the_first_stage_to_a_file_that_trains_its_result(project):
    code, out, error = guided("hydra.sweeper.runs=40")
    assert code == 0, error
    account = json.loads((HOME / "guided.json").read_text())
    stages = ["seed", "init", "scheduler", "regularizer", "early_stop", "final"]
    assert [one["stage"] for one in account["chapters"]] == stages
    assert account["cost"]["runs"] == len(list(HOME.glob("*/record.json"))) <= 40
    assert (HOME / "guided.md").read_text().count("\n## ") >= 2 and (HOME / "guided.html").is_file()
    assert "train it      python train.py experiment=guided_main" in out
    # The file trains what the fresh seeds have trained: the same values to the bit.
    code, _, error = command("experiment=guided_main", "seed.value=1000", "output_dir=other")
    assert code == 0, error
    (folder,) = Path("other").glob("*/*/record.json")
    assert record.read(folder.parent)["best"]["value"] == account["chosen"]["1000"]
    tested = record.read(folder.parent)["best"]["metrics"]["test/loss"]
    assert tested == account["test"]["chosen"]["test/loss"]["1000"]
    assert (
        "test/loss" in (HOME / "guided.md").read_text() and "test/loss" in (HOME / "guided.html").read_text()
    )
    assert re.search(r"^test +test/loss ", out, re.M)
    # Again: nothing is trained, the same is decided.
    lines, records = (
        read(HOME / ".sweep/search.jsonl"),
        {p: p.read_bytes() for p in HOME.glob("*/record.json")},
    )
    code, out, error = guided("hydra.sweeper.runs=40")
    assert code == 0, error
    assert read(HOME / ".sweep/search.jsonl") == lines
    assert {p: p.read_bytes() for p in HOME.glob("*/record.json")} == records
    again = json.loads((HOME / "guided.json").read_text())
    assert {**again, "cost": None} == {**account, "cost": None}


@pytest.mark.slow
def test_what_the_command_sets_is_given_by_hand(project):
    words = ["init=xavier", "optimizer.lr=0.01,0.03", "scheduler=constant", "early_stop.patience=2"]
    code, _, error = guided(*words, "hydra.sweeper.runs=24", "hydra.sweeper.save=null")
    assert code == 0, error
    account = json.loads((HOME / "guided.json").read_text())
    by_stage = {one["stage"]: one for one in account["chapters"]}
    assert by_stage["init"]["decided"] == "init=xavier" and by_stage["init"]["how"] == "given by hand"
    assert by_stage["early_stop"]["decided"] == "early_stop.patience=2"
    runs = [record.read(path.parent)["overrides"] for path in HOME.glob("*/record.json")]
    assert all("init=xavier" in run and "early_stop.patience=2" in run for run in runs)
    rates = {word for run in runs for word in run if word.startswith("optimizer.lr=")}
    assert rates == {"optimizer.lr=0.01", "optimizer.lr=0.03"}
    assert not list(Path("conf/experiment").glob("guided*"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["init=xavier,checkpoint", "hydra.sweeper.stages=[init]"],
            "this search has no runs; init: init=xavier: 1 of 2 refused",
        ),
        (["model.hidden=[4],[8]"], "no stage decides this"),
        (["hydra.sweeper.stages=[seeds]"], "did you mean 'seed'?"),
        (["hydra.sweeper.epochs=3"], "hydra.sweeper.epochs=3: one training has 4; give more"),
        (["hydra.sweeper.runs=0"], "hydra.sweeper.runs=0: must be"),
        (["hydra.sweeper.save=a/b"], "hydra.sweeper.save=a/b: must begin with a letter"),
        (["hydra.sweeper.save=schedule"], "no guided search has written it"),
    ],
)
def test_it_is_refused_before_anything_is_written(project, words, text):
    code, out, error = guided(*words)
    assert code == 2 and text in plain(error), (out, error)
    assert not Path("outputs").exists()


def test_a_list_of_seeds_is_left_out_and_that_is_said(project):
    code, out, error = guided("seed.value=7,8", "hydra.sweeper.stages=[seed]", "hydra.sweeper.seeds=2")
    assert code == 0, error
    assert "seed.value=7,8 is left out, as a guided search chooses its seeds" in plain(out)
    trained = [record.read(path.parent)["overrides"] for path in HOME.glob("*/record.json")]
    assert trained and not any("seed.value=7" in own or "seed.value=8" in own for own in trained)
