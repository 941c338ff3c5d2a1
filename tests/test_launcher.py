"""Our launcher and sweeper as Hydra's plugins: with other programs' tasks, other sweepers, and wrong keys."""

import re
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from small import ROOT, TINY, TRAIN

from sweepwise.store import record

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_epochs=2"]


@pytest.fixture
def command(empty_folder, whole_errors, as_command):
    return partial(as_command, TRAIN)


def folders() -> list[Path]:
    return sorted(path.parent for path in Path("outputs").glob("*/*/record.json"))


@pytest.mark.slow
def test_hydras_own_suite():
    """In a process of its own: it wants Hydra as it is before any test of ours."""
    suite = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "tests/hydra_suite.py",
    ]
    done = subprocess.run(suite, cwd=ROOT, capture_output=True, text=True)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed and int(passed[1]) >= 20, done.stdout


def test_hydra_finds_them_without_torch():
    told = (
        "import sys; from hydra.core.plugins import Plugins; found = Plugins.instance().class_name_to_class; "
        "print(*sorted(name for name in found if 'sweepwise' in name)); "
        "print(sorted({'torch', 'numpy', 'sklearn', 'rich', 'submitit'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    home = "hydra_plugins.sweepwise_plugins"
    assert {f"{home}.local_launcher.LocalLauncher", f"{home}.grid_sweeper.GridSweeper"} <= set(names.split())
    assert heavy == "[]"
    assert done.stderr == ""


def test_they_are_plugins():
    found = Plugins.instance()
    assert "LocalLauncher" in {kind.__name__ for kind in found.discover(Launcher)}
    assert "GridSweeper" in {kind.__name__ for kind in found.discover(Sweeper)}


@pytest.mark.slow
def test_a_wheel_ships_them(tmp_path):
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    source = tmp_path / "source"  # building leaves files beside what it builds
    source.mkdir()
    shutil.copytree(ROOT / "src", source / "src")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, str(source)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert (
        "hydra_plugins/sweepwise_plugins/local_launcher.py" in names
        and "hydra_plugins/__init__.py" not in names
    )
    assert "sweepwise/sweep/local/pool.py" in names


# --- with our own task


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (
            "hydra.launcher.foo=1",
            "hydra.launcher.foo=1: hydra/launcher=local has no 'foo'; there is max_parallel",
        ),
        (
            "+hydra.launcher.foo=1",
            "hydra.launcher.foo: unknown; there is max_parallel",
        ),
        (
            "hydra.launcher.max_parallel=0",
            "hydra.launcher.max_parallel=0: must be a whole number in [1, inf)",
        ),
        (
            "hydra.launcher.max_parallel=x",
            "hydra.launcher.max_parallel=x: must be a whole number in [1, inf)",
        ),
        ("hydra/launcher=locale", "hydra/launcher=locale: no such option; did you mean 'local'?"),
        (
            "hydra.sweeper.batch_size=2",
            "hydra.sweeper.batch_size=2: hydra/sweeper=grid has no 'batch_size'; did you mean 'max_batch_siz",
        ),
        (
            "hydra.sweeper.samples=3",
            "hydra.sweeper.samples=3: hydra/sweeper=grid has no 'samples'; random has: use",
        ),
        (
            "+hydra.sweeper.sampels=3",
            "hydra.sweeper.sampels: unknown; did you mean 'samples'?",
        ),
        (
            "hydra.sweeper.params.init=a",
            "hydra.sweeper.params.init=a: is for files of conf/experiment/; on the command line write init=a",
        ),
        (
            "+hydra.sweeper.params.init=a,b",
            "hydra.sweeper.params.init=a,b: is for files of conf/experiment/; on the command line write",
        ),
        ("hydra.swepper.eta=3", "hydra.swepper.eta=3: unknown; did you mean 'sweeper'?"),
        ("hydra.sweep.dirr=a", "hydra.sweep.dirr=a: unknown; did you mean 'dir'?"),
        ("hydra/swepper=racing", "hydra/swepper=racing: unknown; did you mean 'hydra/sweeper'?"),
    ],
)
def test_wrong_keys_are_named(argument, told, command, empty_folder):
    code, out, err = command("-m", *SHORT, argument)
    assert (code, out) == (2, "") and err.startswith(f"error: {told}") and len(err.splitlines()) == 1
    assert not list(empty_folder.iterdir())


def test_wrong_keys_of_a_search_are_named_with_all_other_faults(command, empty_folder):
    words = ["hydra/sweeper=halving", "hydra.sweeper.et=2", "trainer.max_epoch=3", "optimizer.lr=0.1,0.2"]
    code, out, err = command("-m", *words)
    sweeper, trainer = err.splitlines()
    assert (code, out) == (2, "") and not list(empty_folder.iterdir())
    known = "(eta, min_epochs, brackets, at_once, seed, params)"
    fault = f"hydra.sweeper.et=2: hydra/sweeper=halving has no 'et'; did you mean 'eta'? {known}"
    assert sweeper == f"error: {fault}" and "did you mean 'max_epochs'?" in trainer


@pytest.mark.parametrize(
    "wrong", ["init=xavier,xavierr", "optimizer.lrr=1,2", "name=a,../b", "data=table,wine"]
)
def test_a_sweep_that_is_refused_leaves_nothing(wrong, command, empty_folder):
    code, out, err = command("-m", *SHORT, wrong)
    assert (code, out) == (2, "") and "Traceback" not in err and err.startswith("error: ")
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    ("launcher", "sweeper"),
    [
        ("local", "grid"),
        ("basic", "basic"),
        pytest.param("local", "basic", marks=pytest.mark.slow),
        pytest.param("basic", "grid", marks=pytest.mark.slow),
    ],
)
def test_launchers_and_sweepers_go_together(launcher, sweeper, command):
    chosen = [f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}"]
    code, _, err = command("-m", *SHORT, "seed.value=0,1", *chosen)
    assert (code, err) == (0, "") and len(folders()) == 2
    code, _, err = command("-m", *SHORT, "optimizer.lr=-1", *chosen)
    assert code == 2 and "Traceback" not in err


def test_batches(command):
    code, out, err = command("-m", *SHORT, "optimizer.lr=-1,0.1,0.2", "hydra.sweeper.max_batch_size=1")
    assert code == 2 and len(folders()) == 2
    assert out.count("sweep         outputs/main: 1 run: ") == 3 and err.count("refused") == 1


def test_a_finished_sweep_needs_no_torch(command):
    command("-m", *SHORT, "seed.value=0,1")
    told = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print('torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", told, TRAIN, "-m", *SHORT, "seed.value=0,1"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("before") == 2 and done.stdout.splitlines()[-1] == "False"


def test_runs_of_a_sweep_are_as_runs_alone(command):
    command("-m", *SHORT, "seed.value=5", "init=xavier")
    (folder,) = folders()
    before = record.read(folder)
    code, _, err = command(*SHORT, "seed.value=5", "init=xavier", "fresh=true")
    assert (code, err) == (0, "") and folders() == [folder]
    assert record.read(folder)["best"] == before["best"]
