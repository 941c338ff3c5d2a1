"""A package of a user's own: installed, found by Hydra's search path, and run by the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small import CONF, ENVIRONMENT, ROOT, TRAIN

SEARCH = "hydra.searchpath=[pkg://spirals.conf]"
OWN = ["data=spirals", "model=siren", "init=sine_uniform", "scheduler=hill", "regularizer=group_lasso"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The example as pip installs it, from a copy, since a build leaves files beside its source."""
    home = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "spirals"
    subprocess.run(["cp", "-r", str(ROOT / "examples" / "spirals"), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(home), str(source)], check=True, capture_output=True)
    return home


def train(place: Path, package: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT / "src"), *([str(package)] if package else [])]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, TRAIN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment)


@pytest.mark.slow
def test_parts_of_ones_own_train_as_ours_do(installed, tmp_path):
    done = train(tmp_path, installed, SEARCH, *OWN, "optimizer.lr=0.01", "trainer.max_epochs=20")
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tmp_path.glob("outputs/main/*/record.json")
    found = json.loads(path.read_text())
    assert found["status"] == "finished" and found["best"]["metrics"]["test/accuracy"] > 0.95
    assert found["init"]["1.weight"].startswith("sine_uniform_")
    lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["lr/lr"] for line in lines if "lr/lr" in line}
    for step, rate in rates.items():  # up and down once, from a tenth of the rate
        assert rate == pytest.approx(0.01 * (0.1 + 0.9 * (1 - abs(2 * step / 200 - 1))))
    assert all(line["train/penalty"] > 0 for line in lines if "train/penalty" in line)
    assert np.isfinite([line["val/loss"] for line in lines if "val/loss" in line]).all()


@pytest.mark.slow
def test_they_are_listed_and_swept_beside_ours(installed, tmp_path):
    done = train(tmp_path, installed, SEARCH, "--help", "model=siren", "data=wine")
    assert "Sines between the layers" in done.stdout and "Wines of three growers" in done.stdout
    usual = ["data=spirals", "trainer.max_steps=2", "early_stop=none", "progress=false"]
    done = train(tmp_path, installed, "-m", SEARCH, "model=siren,mlp", *usual)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.glob("outputs/main/*/record.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SEARCH, "data=spirals", "data.turns=-1"], "data.turns=-1: must be in (0, inf)"),
        ([SEARCH, "data=spiral"], "data=spiral: no such option; did you mean 'spirals'?"),
        ([SEARCH, "data=spirals", "data.turn=1"], "did you mean 'turns'?"),
        (["data=spirals"], "data=spirals: no such option"),
        (
            ["hydra.searchpath=[pkg://spiral.conf]"],
            "search path pkg://spiral.conf: must be",
        ),
        (["hydra.searchpath=[pkg://spirals.cnf]"], "hydra.searchpath: pkg://spirals.cnf does not exist"),
        ([SEARCH, "data=spirals", "data._target_=os.system"], "data._target_=os.system: must be one of"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_named(installed, tmp_path, arguments, message):
    done = train(tmp_path, installed, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "search", [SEARCH, pytest.param("hydra.searchpath=[file://SOURCE/spirals/conf]", marks=pytest.mark.slow)]
)
def test_a_package_that_is_not_installed_as_ours_may_not_be_built(search, tmp_path, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")  # can be imported, but declares nothing
    shutil.copytree(ROOT / "examples" / "spirals" / "spirals", source / "spirals")
    done = train(tmp_path, source, search.replace("SOURCE", str(source)), "data=spirals")
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert "packages=['PACKAGE']" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_package_that_an_entry_point_of_ones_own_names_is_built_and_searched(tmp_path):
    code = (ROOT / "train.py").read_text().replace("cli.main(train)", "cli.main(train, packages=['spirals'])")
    (tmp_path / "own.py").write_text(code.replace('"conf"', f'"{ROOT}/conf"'))
    (tmp_path / "conf").symlink_to(CONF)
    source = ROOT / "examples" / "spirals"
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(source)])}
    command = [sys.executable, "own.py", SEARCH, "data=spirals", "trainer.max_steps=1", "early_stop=none"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
