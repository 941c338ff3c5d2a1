"""What must survive is put in place by system/atomic.py alone, under names that no other process takes."""

import ast
import os
from pathlib import Path

import pytest
from small import ROOT

from sweepwise.monitor.hparams import EXPERIMENT_FILE, experiment_columns, write_experiment
from sweepwise.system import atomic

WRITER = "atomic.py"
# Renames of folders that are there already, not of what was written aside.
MOVES = {
    "takeover.py": "a run's folder and its copy change places",
    "checkpoints.py": "a damaged one is put by",
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


def test_a_description_that_another_node_writes_at_the_same_time(tmp_path, monkeypatch):
    """Both replace the file of the experiment's folder; the other one begins and ends in between."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    usual, between = os.replace, []

    def write(name):
        write_experiment(tmp_path, {name: None}, ["loss"])

    def replace(source, target, **options):
        if not between:
            between.append(target)
            write("other")
        usual(source, target, **options)

    monkeypatch.setattr(os, "replace", replace)
    write("mine")
    assert list(experiment_columns(tmp_path)) == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == [EXPERIMENT_FILE]


def test_what_is_written_aside_is_no_event_file(tmp_path, monkeypatch):
    """TensorBoard reads every file whose name has 'tfevents' in it, one that is not in place too."""
    seen = []
    monkeypatch.setattr(atomic, "_write", lambda path, content: seen.append(path.name) or path.touch())
    write_experiment(tmp_path, {"rate": None}, ["loss"])
    assert len(seen) == 1 and "tfevents" not in seen[0]
