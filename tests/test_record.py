"""What is written of a run: real files and processes."""

import json
import math
import os
import platform
import subprocess
import sys
import time
from datetime import datetime

import commands
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import ROOT, TRAIN

from sweepwise.store import claim, record, shape, status, strict_json
from sweepwise.store.record import DamagedRecord, Record
from sweepwise.store.status import current_status
from sweepwise.system import atomic

ID = "1a2b3c4d"


def begun(folder, **fields):
    log = Record(folder, **fields)
    atomic.alone(log.begin())
    return log


# --- going on


def test_a_record_that_goes_on_keeps_its_start_and_adds_its_attempts_up(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    first = begun(tmp_path, id=ID, data_sha256="d", notes=["a"])
    last = tmp_path / record.LAST
    last.mkdir(parents=True)
    before = record.read(tmp_path)
    saved = datetime.fromisoformat(before["started"]).timestamp() + 5
    os.utime(last, (saved, saved))  # and killed some time later
    assert before["status"] == "running" and first.fields["id"] == ID
    second = begun(tmp_path, going_on=True, from_step=40, notes=["b"])
    found = record.read(tmp_path)
    assert (found["status"], found["reason"], found["started"]) == ("running", "", before["started"])
    assert (found["id"], found["data_sha256"], found["notes"]) == (ID, "d", ["b"])
    assert "ended" not in found and "seconds" not in found
    assert [attempt["status"] for attempt in found["attempts"]] == ["interrupted", "running"]
    clock[0] += 2
    second.end("interrupted", "after step 60")
    third = begun(tmp_path, going_on=True, from_step=61)
    clock[0] += 3
    third.end("finished", "", notes=["c"])
    found = record.read(tmp_path)
    assert (found["status"], found["seconds"], found["started"]) == ("finished", 10.0, before["started"])
    assert [attempt["seconds"] for attempt in found["attempts"]] == [5.0, 2.0, 3.0]
    assert [attempt["from_step"] for attempt in found["attempts"]] == [0, 40, 61]
    assert [attempt["status"] for attempt in found["attempts"]] == ["interrupted", "interrupted", "finished"]
    assert [attempt["ended"] is None for attempt in found["attempts"]] == [True, False, False]
    host = {(attempt["host"], attempt["pid"]) for attempt in found["attempts"]}
    assert host == {(platform.node(), os.getpid())}
    assert found["ended"] == found["attempts"][-1]["ended"]


TEXTS = st.text(max_size=8)
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, NESTED, max_size=4))
def test_a_record_is_strict_json_of_its_values_whatever_they_are(fields):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(strict_json.text(fields), parse_constant=refuse) == strict_json.jsonable(fields)


def test_a_record_is_written_for_a_person():
    fields = {
        "id": ID,
        "empty": {},
        "best": {"epoch": 3, "at": {"x": math.inf}},
        "all": [{"a": 1}, {"a": [2, 3]}],
    }
    assert strict_json.text(fields) == (
        '{\n "id": "1a2b3c4d",\n "empty": {},\n "best": {\n  "epoch": 3,\n  "at": {"x": null}\n },\n'
        ' "all": [\n  {"a": 1},\n  {\n   "a": [2,3]\n  }\n ]\n}'
    )


def test_numbers_that_are_only_shown_have_six_digits():
    value = {"a": [math.pi * 1e9, (math.nan, -math.inf), 7], "b": True, "c": "x", "d": None}
    assert strict_json.rounded(value) == {
        "a": [3141590000.0, [None, None], 7],
        "b": True,
        "c": "x",
        "d": None,
    }


def test_a_record_that_does_not_go_on_starts_over(tmp_path):
    Record(tmp_path, id=ID, best=1).end("failed", "x")
    begun(tmp_path, id=ID)
    found = record.read(tmp_path)
    assert len(found["attempts"]) == 1 and "best" not in found and found["reason"] == ""
    begun(tmp_path / "..", going_on=True)  # without one to go on with
    assert len(record.read(tmp_path / "..")["attempts"]) == 1


def test_a_clock_that_is_set_back_changes_no_duration(tmp_path, monkeypatch):
    now = [1_700_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    log = Record(tmp_path)
    now[0] += 3e9 - 1e7
    log.end("finished", "")
    found = record.read(tmp_path)
    assert 0 <= found["seconds"] < 60 and 0 <= found["attempts"][0]["seconds"] < 60
    assert found["started"].startswith("2023-") and found["ended"].startswith("2118-")


# --- how it stands


@pytest.mark.parametrize("status", ["finished", "stopped early", "diverged", "failed", "interrupted"])
def test_a_run_that_has_ended_stands_as_its_record_says(status, tmp_path):
    Record(tmp_path).end(status, "")
    with claim.claim_folder(tmp_path):
        assert current_status(tmp_path) == status


def test_a_run_is_running_as_long_as_somebody_holds_it(tmp_path):
    folder = tmp_path / "run"
    assert current_status(folder) == "" and not folder.exists()
    with claim.claim_folder(folder):
        assert current_status(folder) == "running"  # and has not come to its record yet
        begun(folder)
        assert current_status(folder) == "running"
    assert current_status(folder) == "interrupted"
    assert record.read(folder)["status"] == "running"  # a look writes nothing
    (folder / "record.json").unlink()
    assert current_status(folder) == ""


def test_a_run_that_ends_while_it_is_looked_at_has_ended(tmp_path, monkeypatch):
    log = begun(tmp_path)

    def end_now(folder):
        log.end("finished", "")
        return False

    monkeypatch.setattr(status, "is_held", end_now)
    assert current_status(tmp_path) == "finished"


def test_where_a_lock_cannot_be_read_the_record_is_believed(tmp_path, monkeypatch):
    begun(tmp_path)

    def refuse(folder):
        raise PermissionError

    monkeypatch.setattr(status, "is_held", refuse)
    assert current_status(tmp_path) == "running"


def test_how_a_run_stands_is_known_without_torch(tmp_path):
    Record(tmp_path).end("finished", "")
    code = (
        "import sys; from pathlib import Path; from sweepwise.store.status import current_status\n"
        "print(current_status(Path(sys.argv[1])), {'torch', 'numpy'} & set(sys.modules) or '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout.split() == ["finished"]


# --- damage


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\0" * 100, b"\xff\xfe{}", b"[]", b'"text"', b'{"status": "fin']
)
def test_a_damaged_record_is_told_with_its_name_and_the_way_out(content, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    for look in (record.read, current_status, lambda folder: Record(folder, going_on=True)):
        with pytest.raises(DamagedRecord) as raised:
            look(tmp_path)
        text = str(raised.value)
        assert text.startswith(f"{path} is damaged (") and "fresh=true" in text and "\n" not in text
    assert path.read_bytes() == content


@pytest.mark.slow
def test_a_damaged_record_ends_the_command_unless_the_run_is_trained_anew(tmp_path):
    def command(*more: str) -> subprocess.CompletedProcess:
        small = ["data=wine", "model.hidden=[4]", "monitor=none", "early_stop=none", "trainer.max_epochs=1"]
        return commands.run([TRAIN, *small, "trainer.device=cpu", *more], cwd=tmp_path)

    assert command().returncode == 0
    (path,) = tmp_path.glob("outputs/main/*/record.json")
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    done = command()
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert f"{path.relative_to(tmp_path)} is damaged" in done.stderr and path.read_bytes() == content[:-20]
    assert command("fresh=true").returncode == 0
    assert record.read(path.parent)["status"] == "finished"


def test_the_metrics_of_the_best_weights_and_the_last_ones_are_apart_also_in_earlier_records():
    best = {"metric": "val/loss", "value": 0.25, "epoch": 3, "step": 9}
    kept, tested, last = {"val/loss": 0.25}, {"test/loss": 0.5}, {"train/loss": 0.125, "val/loss": 0.375}
    parts = {"val": {"loss": 0.25}, "test": {"loss": 0.5}}
    now = {"best": best | {"metrics": kept | tested, "measured": parts}, "last": last}
    earlier = {"best": best | {"metrics": kept}, "metrics": last | tested, "final": parts}
    for known in (now, earlier):
        assert shape.record({"status": "finished", **known}) == ""
        assert record.best_metrics(known) == {"val/loss": 0.25, "test/loss": 0.5}
        assert record.last_metrics(known) == last
        assert record.measured(known) == parts
    for known in ({}, {"best": None}, {"status": "running"}):
        assert record.best_metrics(known) == record.last_metrics(known) == record.measured(known) == {}
