"""What is written of a run: real files and processes."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweepwise import record
from sweepwise.record import Record

ROOT = Path(__file__).parents[1]
ID = "1a2b3c4d"

# --- files


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_scrap(tmp_path, monkeypatch, broken):
    path = tmp_path / "record.json"
    record.write_aside(path, b"old")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OSError, match="No space left"):
            record.write_aside(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]
    record.write_aside(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_write_is_synced_before_it_replaces_and_its_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync") or fsync(number))
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append("replace") or replace(self, to))
    record.write_aside(tmp_path / "x", b"1")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_kill_in_the_middle_of_writing_leaves_one_of_the_contents(tmp_path):
    code = (
        "import sys; from pathlib import Path; from sweepwise.record import write_aside\n"
        "path = Path(sys.argv[1])\n"
        "while True:\n"
        "    for letter in b'ab':\n"
        "        write_aside(path, bytes([letter]) * 1_000_000)\n"
        "        print('written', flush=True)\n"
    )
    path = tmp_path / "content"
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT / "src")},
        )
        for _ in range(3):
            process.stdout.readline()
        process.kill()
        process.communicate()
        content = path.read_bytes()
        assert content in (b"a" * 1_000_000, b"b" * 1_000_000)


def test_a_record_says_running_at_once_and_then_how_it_ended(tmp_path):
    assert record.read(tmp_path) == {}
    log = Record(tmp_path, id=ID, notes=("one",))
    found = record.read(tmp_path)
    assert (found["status"], found["reason"], found["id"], found["notes"]) == ("running", "", ID, ["one"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", found["started"])
    assert "ended" not in found and "seconds" not in found
    log.end("diverged", "loss nan", metrics={"val/loss": math.nan, "val/accuracy": 0.5})
    text = (tmp_path / "record.json").read_text()
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (found["status"], found["reason"], found["id"]) == ("diverged", "loss nan", ID)
    assert found["metrics"] == {"val/loss": None, "val/accuracy": 0.5}
    assert found["seconds"] >= 0 and found["ended"] >= found["started"]
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_record_left_by_an_error_says_failed(tmp_path):
    with pytest.raises(RuntimeError), Record(tmp_path, id=ID):
        raise RuntimeError("out of luck")
    found = record.read(tmp_path)
    assert (found["status"], found["reason"]) == ("failed", "RuntimeError: out of luck")
    with pytest.raises(RuntimeError), Record(tmp_path, id=ID) as log:
        log.end("diverged", "loss inf")
        raise RuntimeError("later")
    assert record.read(tmp_path)["status"] == "diverged"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(JSON)
def test_jsonable_is_strict_json_and_changes_only_what_is_not_finite(value):
    def same(left, right):
        if isinstance(left, dict):
            return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
        if isinstance(left, (list, tuple)):
            return len(left) == len(right) and all(map(same, left, right))
        if isinstance(left, float) and not math.isfinite(left):
            return right is None
        return left == right and type(left) is type(right)

    found = record.jsonable(value)
    assert same(value, found)
    assert same(found, json.loads(json.dumps(found, allow_nan=False)))
