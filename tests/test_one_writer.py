"""What must survive is put in place by system/atomic.py alone, under names that no other process takes."""

import ast
import os
from pathlib import Path

import pytest
from small import ROOT

from sweepwise.monitor import columns
from sweepwise.system import atomic

WRITER = "atomic.py"
# Renames of folders that are there already, not of what was written aside.
MOVES = {
    "takeover.py": "a run's folder and its copy change places",
    "checkpoints.py": "a damaged one is put by",
    "removal.py": "a run's folder gets a temporary name before it is removed",
}
RENAMING = ("rename", "renames", "replace", "mkstemp", "mkdtemp", "NamedTemporaryFile")
SCRATCH = {"git.py", "verify.py", "reproduce.py"}  # folders in the system's place for them, for the process


def renames(path: Path) -> list[str]:
    """Calls by which a file puts something in place: os.rename, os.replace, Path.rename, Path.replace."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, of_os = node.func.attr, ast.unparse(node.func.value) in ("os", "shutil", "tempfile")
            # str.replace takes two arguments, dataclasses.replace is called without a dot.
            one = len(node.args) == 1 and not node.keywords
            if (name in RENAMING and (of_os or one)) or (of_os and name in ("move", "getpid")):
                found.append(ast.unparse(node))
    return found


def test_no_other_file_puts_something_in_place():
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("scripts/*.py")]
    found = {path.name: calls for path in files if (calls := [c for c in renames(path) if "getpid" not in c])}
    assert set(found) - SCRATCH == {WRITER, *MOVES}, found


@pytest.mark.parametrize("text", ["os.replace(a, b)", "a.rename(b)", "a.replace(b)", "tempfile.mkstemp()"])
def test_the_search_finds_each_form(tmp_path, text):
    (tmp_path / "file.py").write_text(f"{text}\n'text'.replace('a', 'b')\n")
    assert renames(tmp_path / "file.py") == [text]


def test_two_machines_may_have_a_process_of_the_same_number(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 7)
    names = {atomic.aside_of(tmp_path / "file") for _ in range(100)}
    assert len(names) == 100


def test_runs_that_begin_at_the_same_instant_lose_no_column_and_one_describes_them(tmp_path):
    """Each in a process of its own, released together."""
    (waits, start), names = os.pipe(), [f"run{number}" for number in range(8)]
    children = []
    for name in names:
        (tmp_path / "home" / name).mkdir(parents=True)
        if not (child := os.fork()):
            os.close(start)
            os.read(waits, 1)
            columns.add(tmp_path / "home" / name, {name: 1}, [name], ["train/loss"], False)
            os._exit(0)
        children.append(child)
    os.close(waits)
    os.close(start)
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {0}
    known = columns.read(tmp_path / "home")
    assert sorted(known.settings) == names and known.carrier in names
    assert [path.parent.name for path in tmp_path.rglob("*tfevents*")] == [known.carrier]


def test_what_is_written_aside_is_no_event_file(tmp_path, monkeypatch):
    """TensorBoard reads every file whose name has 'tfevents' in it, one that is not in place too."""
    seen = []
    monkeypatch.setattr(atomic, "write_new", lambda path, content: seen.append(path.name) or path.touch())
    (tmp_path / "run").mkdir()
    columns.add(tmp_path / "run", {"rate": 1}, [], ["train/loss"], False)
    assert len(seen) == 1 and "tfevents" not in seen[0]
