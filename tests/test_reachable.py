"""Which files of sweepwise count for a run: those that it can reach, and no others."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT

import sweepwise
from sweepwise.config import allowlist
from sweepwise.provenance import sources

HOME = Path(sweepwise.__file__).resolve().parent
TARGETS = ("sweepwise.data.digits.digits", "sweepwise.model.mlp.mlp")


def parsed(file: Path) -> set[str]:
    """What a file imports of sweepwise, as Python's parser sees it; blocks for types alone are left out."""
    tree = ast.parse(file.read_text())
    types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports relatively, which the search does not see"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "sweepwise"}


@pytest.mark.parametrize(
    "file", sorted(HOME.rglob("*.py")), ids=lambda file: file.relative_to(HOME).as_posix()
)
def test_imports_are_those_that_python_sees(file):
    assert parsed(file) <= set(sources._imported(file.read_text()))


def test_a_run_reaches_what_trains_it_and_not_what_only_looks_at_runs():
    reached = sources.code(TARGETS)
    trained = {
        "run/single",
        "run/group",
        "run/follow",
        "trainer/loop",
        "parts",
        "learner/module",
        "learner/fused/learner",
        "data/digits",
        "model/mlp",
    }
    assert {f"sweepwise/{name}.py" for name in trained} <= reached.keys()
    assert (
        not {
            f"sweepwise/{name}.py"
            for name in ("tools/figure", "tools/scripting", "verify/compare", "sweep/local/pool")
        }
        & reached.keys()
    )
    assert "sweepwise/data/mnist.py" not in reached
    assert "sweepwise/data/mnist.py" in sources.code(["sweepwise.data.mnist.mnist"])
    assert all((HOME.parent / f"{root.replace('.', '/')}.py").is_file() for root in sources.ROOTS)


def test_what_is_loaded_by_a_training_is_reached():
    """Whatever of sweepwise Python loads for the roots is among the files that are found."""
    names = "[m for m in sys.modules if m.startswith('sweepwise')]"
    code = f"import sys, {', '.join(sources.ROOTS)}; print(*{names})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    files = {Path(sys.modules[name].__file__).resolve() for name in loaded if name in sys.modules}
    reached = {HOME.parent / name for name in sources.reachable(HOME, sources.ROOTS)}
    assert files and files <= reached


def test_late_imports_count_and_those_for_types_do_not(tmp_path):
    home = tmp_path / "sweepwise"
    home.mkdir()
    late = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from sweepwise.types import T\n\n\n"
    late += "def f():\n    from sweepwise import (\n        a,  # why\n        b as c,\n    )\n"
    (home / "root.py").write_text(late)
    for name in ("__init__", "types", "a", "b", "c"):
        (home / f"{name}.py").write_text("")
    reached = sources.reachable(home, frozenset({"sweepwise.root"}))
    assert reached == {f"sweepwise/{name}.py" for name in ("__init__", "root", "a", "b")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "edited, words", [("tools/figure.py", "finished before"), ("trainer/loop.py", "trainer/loop.py changed")]
)
def test_only_what_can_be_reached_changes_a_finished_run(tmp_path, edited, words):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    command = [sys.executable, "train.py", "data.examples=200", "trainer.max_epochs=1", "trainer.device=cpu"]

    def run():
        done = subprocess.run(
            [*command, "progress=false"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        return done.stdout + done.stderr

    output = run()
    assert "finished" in output, output
    with (tmp_path / "src" / "sweepwise" / edited).open("a") as file:
        file.write("# another word\n")
    assert words in run()


@pytest.mark.parametrize(
    "group, target",
    [
        ("monitor", "sweepwise.monitor.events.EventFile"),
        ("monitor", "sweepwise.monitor.events.NoEvents"),
        ("init", "sweepwise.init.rules"),
        ("early_stop", "sweepwise.early_stop.Best"),
        ("early_stop", "sweepwise.early_stop.sign"),
        ("data", "sweepwise.data.split"),
        ("data", "sweepwise.data.Arrays"),
        ("scheduler", "sweepwise.scheduler.Schedule"),
        ("scheduler", "sweepwise.scheduler.warmup_steps"),
        ("init", "sweepwise.init.initialize_"),
        ("model", "sweepwise.model.recurrent.Literal"),
    ],
)
def test_what_is_no_component_is_refused(group, target):
    with pytest.raises(ValueError, match=r"must be a|is defined in"):
        allowlist.find(target, group)


def test_every_option_of_ours_is_a_component():
    lines = [(file, file.read_text()) for file in (ROOT / "conf").glob("*/*.yaml")]
    targets = [
        (file.parent.name, line.split()[1])
        for file, text in lines
        for line in text.splitlines()
        if line.startswith("_target_: sweepwise.")
    ]
    assert len(targets) > 40
    for group, target in targets:
        allowlist.find(target, group)


def test_parts_of_ones_own_need_only_behave_alike(tmp_path, monkeypatch):
    (tmp_path / "mine_alike.py").write_text(
        "class Watcher:\n    def __init__(self, folder, begin):\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(allowlist, "_allowed", {"mine_alike"})
    assert allowlist.find("mine_alike.Watcher", "monitor").__name__ == "Watcher"
