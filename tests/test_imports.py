"""Who imports whom: components stand alone, data flows forwards, torch comes late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT

SRC = ROOT / "src"
PACKAGE = SRC / "sweepwise"
COMPONENTS = ("init", "scheduler", "regularizer", "early_stop", "model", "data", "optimizer")
SHARED = ("allowlist", "interrupt", "schema", "seed")  # what every component may use
CONFIG_LIBRARIES = {"hydra", "omegaconf"}
HEAVY = {"torch", "safetensors", "tensorboard", "sklearn"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = SRC.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def imports_of(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules a file imports; with `top_level` only those that loading it imports."""
    package = module_name(path).split(".") if path.is_relative_to(SRC) else [""]
    if path.name != "__init__.py":
        package = package[:-1]

    def walk(node: ast.AST):
        for child in ast.iter_child_nodes(node):
            late = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if not (top_level and (late or typing)):
                yield child
                yield from walk(child)

    found: set[str] = set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*home, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found |= {name if base.startswith("sweepwise") and is_module(name) else base for name in names}
    return found


def files(*parts: str) -> list[Path]:
    """The files of modules or packages of sweepwise."""
    found = [
        path
        for part in parts
        for path in [PACKAGE / f"{part}.py", *sorted((PACKAGE / part).rglob("*.py"))]
        if path.exists()
    ]
    assert found, parts
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def inside(names: set[str], *parts: str) -> set[str]:
    return {n for n in names for p in parts if n == f"sweepwise.{p}" or n.startswith(f"sweepwise.{p}.")}


EVERY_FILE = sorted(PACKAGE.rglob("*.py"))


def test_the_reader_of_imports_sees_all_forms(tmp_path):
    text = (
        "import a.b\nfrom c import d\nfrom sweepwise import cli\nfrom . import run\n"
        "from sweepwise.data import Data\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import e\ndef f():\n    import g\n"
    )
    path = PACKAGE / "record.py"  # relative names need a place in the package
    found = {}
    for top_level in (False, True):
        original = Path.read_text
        try:
            Path.read_text = lambda self: text
            found[top_level] = imports_of(path, top_level=top_level)
        finally:
            Path.read_text = original
    outer = {"a.b", "c", "sweepwise.cli.main", "sweepwise.run.single", "sweepwise.data.dataset", "typing"}
    assert found == {True: outer, False: outer | {"e", "g"}}


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_imports_the_shared_and_no_other(component):
    for path in files(component):
        names = imports_of(path)
        own = inside(names, component, *SHARED)
        assert {name for name in names if name.startswith("sweepwise")} == own, path
        assert not roots(names) & CONFIG_LIBRARIES, path


@pytest.mark.parametrize("module", SHARED)
def test_the_shared_import_no_part_of_the_program(module):
    for path in files(module):
        names = imports_of(path)
        assert {name for name in names if name.startswith("sweepwise")} == inside(names, *SHARED), path
        assert not roots(names) & CONFIG_LIBRARIES, path


def test_the_loop_and_what_it_drives_know_nothing_of_configs_and_commands():
    for path in files(
        "trainer", "meter", "learner", "task", "checkpoint", "interrupt", "progress", "monitor"
    ):
        names = imports_of(path)
        assert not roots(names) & CONFIG_LIBRARIES, path
        assert not inside(names, "run", "cli", "usage", "report", "conflicts"), path
    for path in files("learner", "task", "checkpoint", "interrupt", "progress", "monitor"):
        assert not inside(imports_of(path), "trainer"), path


def test_the_loop_knows_the_contract_only():
    names = imports_of(PACKAGE / "trainer.py")
    assert "sweepwise.learner.contract" in names
    assert not inside(names, "learner.module", "learner.flat", "optimizer", "regularizer", "init", "model")
    assert not inside(names, "monitor", "checkpoint", "progress", "interrupt", "record")


@pytest.mark.parametrize("path", EVERY_FILE, ids=module_name)
def test_hydra_stays_at_the_edge(path):
    names = roots(imports_of(path))
    if path.name not in ("cli.py", "guard.py"):
        assert "hydra" not in names
    if path.name not in ("cli.py", "guard.py", "run.py", "report.py"):
        assert "omegaconf" not in names


@pytest.mark.parametrize("path", EVERY_FILE, ids=module_name)
def test_data_flows_forwards(path):
    names = imports_of(path)
    outer = path.name in ("cli.py", "run.py", "report.py", "importing.py") or path.parent.name == "sweep"
    assert outer or not inside(names, "run", "report"), "only what starts runs and tells of them knows them"
    assert path.parent.name == "sweep" or not inside(names, "sweep"), "a run knows of no other"
    assert not inside(names, "cli"), "nothing imports the command line"


def test_nothing_in_the_package_imports_scripts_tests_or_benchmarks():
    for path in EVERY_FILE:
        assert not roots(imports_of(path)) & {"scripts", "tests", "benchmarks", "train"}, path


def reached(start: str) -> set[str]:
    """All modules that loading one loads, as far as they are of sweepwise; of the others the names."""
    seen: set[str] = set()
    waiting = [start, "sweepwise"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.startswith("sweepwise"):
            place = SRC.joinpath(*name.split("."))
            path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            waiting += imports_of(path, top_level=True)
    return seen


@pytest.mark.parametrize(
    "module",
    [
        *("cli", "usage", "record", "provenance", "schema", "interrupt", "progress"),
        *("sweep.dispatch", "sweep.overview", "sweep.local", "sweep.pool", "sweep.job"),
    ],
)
def test_what_answers_at_once_loads_no_torch(module):
    assert not roots(reached(f"sweepwise.{module}")) & HEAVY


def test_train_py_loads_no_torch():
    names = imports_of(ROOT / "train.py")
    assert roots(names) == {"hydra", "omegaconf", "sweepwise"}


@pytest.mark.parametrize("statement", ["import sweepwise.cli", "import runpy; runpy.run_path('train.py')"])
def test_the_command_line_is_there_without_torch(statement):
    told = f"import sys; {statement}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", told],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(SRC), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.split() == []
