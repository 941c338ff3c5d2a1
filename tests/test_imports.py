"""Who imports whom: a package only those to its left, and no files in a circle.

Imports inside functions and under TYPE_CHECKING count.
"""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT

SRC = ROOT / "src"
PACKAGE = SRC / "sweepwise"
FACE = "sweepwise"
# A package imports only those of the lines above its own; packages of one line never import each other.
ORDER = (
    "version",
    "system",
    "errors",
    "config",
    "seed improvement",
    "store",
    "distributed",
    "provenance",
    "data model init optimizer scheduler regularizer early_stop task",
    "learner",
    "trainer",
    "checkpoint monitor",
    "parts",
    "arguments conflicts predict",
    "diagnosis library",
    "run",
    "results",
    "sweep cli verify tools",
    "search",
)
LEVEL = {name: level for level, line in enumerate(ORDER) for name in line.split()}
# The same inside two packages: part -> level.
INSIDE = {
    "sweep": {"outcome": 0, "summary": 0, "cluster": 1, "local": 2, "cleaning": 2, "job": 3},
    "learner": {"fused": 1},
    "results": {"statistics": -1, "replay": 1, "critique": 1, "tensorboard": 1, "page": 2},
}
HYDRA = ("cli",)
OMEGACONF = (*HYDRA, "run.description")
# Faces whose names are loaded when they are asked for.
LAZY = {"sweepwise", "sweepwise.run", "sweepwise.monitor"}
HEAVY = {"torch", "safetensors", "tensorboard", "sklearn", "pyarrow"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_in(text: str, *, top_level: bool = False) -> set[str]:
    """The modules that a text imports; with `top_level` only those that loading it imports."""

    def walk(node: ast.AST):
        for child in ast.iter_child_nodes(node):
            late = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if not (top_level and (late or typing)):
                yield child
                yield from walk(child)

    names: set[str] = set()
    for node in walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            whole = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {full if full in FILES else str(node.module) for full in whole.values()}
    return names


@functools.cache
def imports_of(name: str, *, top_level: bool = False) -> frozenset[str]:
    return frozenset(imports_in(FILES[name].read_text(), top_level=top_level))


def roots(names: set[str] | frozenset[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def room(name: str) -> str:
    """The package of a module, without `sweepwise` in front; of the face itself ''."""
    return name.split(".")[1] if "." in name else ""


def wrong_ways(name: str, imported: set[str] | frozenset[str]) -> list[str]:
    """What a module of ours imports against the order."""
    faults = []
    for other in sorted(imported):
        if roots({other}) != {FACE}:
            continue
        if other == FACE:
            faults.append(f"{name} imports the face")
        elif name != FACE and room(name) == room(other):
            levels, (own, its) = INSIDE.get(room(name), {}), (part.split(".")[2:3] for part in (name, other))
            own_level, its_level = (levels.get(*part or [""], 0) for part in (own, its))
            if own and own != its and (its_level > own_level or its_level == own_level > 0):
                faults.append(f"{name} imports {other}, which is not to its left")
        elif name != FACE and LEVEL[room(other)] >= LEVEL[room(name)]:
            faults.append(f"{name} imports {other}, which is not to its left")
    return faults


def test_the_reader_of_imports_sees_all_forms():
    text = (
        "import a.b\nfrom c import d\nfrom sweepwise import cli\n"
        "from sweepwise.data import Data\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import e\ndef f():\n    import g\n"
    )
    outer = {"a.b", "c", "sweepwise.cli", "sweepwise.data", "typing"}
    assert imports_in(text, top_level=True) == outer
    assert imports_in(text) == outer | {"e", "g"}


def test_every_file_has_its_room():
    rooms = {room(name) for name in FILES} - {""}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("name", FILES)
def test_a_package_imports_only_those_to_its_left(name):
    assert wrong_ways(name, imports_of(name)) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("sweepwise.store.request", "from sweepwise.provenance import git"),
        ("sweepwise.data.digits", "def f():\n    from sweepwise.model.mlp import mlp"),
        ("sweepwise.trainer.loop", "from sweepwise.monitor import Monitor"),
        ("sweepwise.cli.help", "from sweepwise.sweep.summary import tell"),
        ("sweepwise.learner.module", "from sweepwise.learner.fused import FusedLearner"),
        ("sweepwise.sweep.summary", "from sweepwise.sweep.local.pool import train_all"),
        ("sweepwise.sweep.cluster.plan", "from sweepwise.sweep import job"),
        ("sweepwise.run.single", "from sweepwise import build"),
        ("sweepwise.errors", "TYPE_CHECKING = 0\nif TYPE_CHECKING:\n    from sweepwise.config import schema"),
    ],
)
def test_an_import_to_the_right_is_seen(name, line):
    text = FILES[name].read_text() + "\n" + line + "\n"
    assert len(wrong_ways(name, imports_in(text))) == 1


def test_no_circle_of_files():
    graph = {name: {other for other in imports_of(name) if other in FILES} for name in FILES}
    del graph[FACE]
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the files
    graph["sweepwise.errors"] = graph["sweepwise.errors"] | {"sweepwise.run.single"}
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", FILES)
def test_hydra_stays_at_the_edge(name):
    for library, homes in (("hydra", HYDRA), ("omegaconf", OMEGACONF)):
        allowed = any(f"{name}.".startswith(f"sweepwise.{home}.") for home in homes)
        assert allowed or library not in roots(imports_of(name)), library


def test_the_loop_knows_the_contract_only():
    rooms = {"learner", "trainer", "monitor", "checkpoint", "optimizer", "regularizer", "init", "model"}
    known = {name for name in imports_of("sweepwise.trainer.loop") if room(name) in rooms}
    assert "sweepwise.learner" in known or "sweepwise.learner.contract" in known
    assert {room(name) for name in known} == {"learner", "trainer"}
    assert not known & {"sweepwise.learner.module", "sweepwise.learner.flat", "sweepwise.learner.fused"}


def test_a_face_only_hands_names_on():
    """An `__init__.py` has a docstring, imports and `__all__`."""
    for name, path in FILES.items():
        if path.name != "__init__.py" or name in LAZY:
            continue
        for statement in ast.parse(path.read_text()).body:
            assert isinstance(statement, (ast.ImportFrom, ast.Expr)) or (
                isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
            ), f"{name}: {ast.unparse(statement)}"


def test_nothing_in_the_package_imports_scripts_tests_or_benchmarks():
    for name in FILES:
        assert not roots(imports_of(name)) & {"scripts", "tests", "benchmarks", "train"}, name


def reached(start: str) -> set[str]:
    """All modules that loading one loads, as far as they are of sweepwise; of the others the names."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in FILES:
            parts = name.split(".")
            waiting += [".".join(parts[:end]) for end in range(1, len(parts))]
            waiting += imports_of(name, top_level=True)
    return seen


LIGHT = (
    *("version", "system", "errors", "config", "store", "provenance", "results", "cli", "sweep.cluster"),
    "search",
)


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in FILES if any(f"{name}.".startswith(f"sweepwise.{light}.") for light in LIGHT)),
        *(f"sweepwise.distributed.{part}" for part in ("place", "world", "join")),
        *(f"sweepwise.run.{part}" for part in ("load", "messages", "description")),
        *(f"sweepwise.sweep.{part}" for part in ("outcome", "summary", "job")),
        *(f"sweepwise.sweep.local.{part}" for part in ("launch", "pool", "groups", "child")),
    ],
)
def test_what_answers_at_once_loads_no_torch(name):
    assert not roots(reached(name)) & HEAVY


def test_train_py_loads_no_torch():
    names = imports_in((ROOT / "train.py").read_text())
    assert roots(names) == {"hydra", "omegaconf", "sweepwise"}


@pytest.mark.parametrize(
    "statement",
    [
        "import sweepwise",
        "import sweepwise.cli",
        "import runpy; runpy.run_path('train.py')",
        *(
            f"import runpy, sys; sys.argv = {arguments!r}; "
            'exec(\'try: runpy.run_path("train.py", run_name="__main__")\\nexcept SystemExit: pass\')'
            for arguments in (["train.py", "--help"], ["train.py", "init=xaver"])
        ),
    ],
    ids=["face", "cli", "train", "help", "refused"],
)
def test_the_command_line_is_there_without_torch(statement):
    text = f"import sys; {statement}; print('loaded', *sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(SRC), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.splitlines()[-1:] == ["loaded"], done.stdout[-500:] + done.stderr[-500:]
