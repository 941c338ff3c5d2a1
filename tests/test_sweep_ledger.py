"""What was given to a cluster, written line by line."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from sweepwise.sweep.cluster.ledger import Ledger, Submission

ONE = Submission("main-1", "slurm", [["a", "b"], ["c"]], {"a": "run-a", "b": "run-b", "c": "run-c"}, ["b"])


def announced(home, submission=ONE):
    ledger = Ledger(home)
    with ledger.held():
        ledger.announce(submission)
    return ledger


def test_a_sweep_that_was_never_sent_has_nothing(tmp_path):
    assert Ledger(tmp_path / "none").submissions() == [] and Ledger(tmp_path).placed() == {}


def test_announced_before_its_jobs_are_known(tmp_path):
    ledger = announced(tmp_path)
    assert ledger.submissions() == [ONE] and ledger.placed() == {}
    ledger.add_result(replace(ONE, jobs=["7_0", "7_1"]))
    assert ledger.submissions() == [replace(ONE, jobs=["7_0", "7_1"])]
    assert {run: place.job for run, place in ledger.placed().items()} == {"a": "7_0", "b": "7_0", "c": "7_1"}


def test_the_latest_job_of_a_run_counts(tmp_path):
    ledger = announced(tmp_path)
    ledger.add_result(replace(ONE, jobs=["7_0", "7_1"]))
    again = Submission("main-2", "slurm", [["b"]], {"b": "run-b"})
    ledger.announce(again)
    assert ledger.placed()["b"].job == "7_0"  # not known yet
    ledger.add_result(replace(again, jobs=["9"]))
    assert {run: place.job for run, place in ledger.placed().items()} == {"a": "7_0", "b": "9", "c": "7_1"}


def test_a_refused_submission_has_no_jobs(tmp_path):
    ledger = announced(tmp_path)
    ledger.add_result(replace(ONE, void="no such partition"))
    assert ledger.submissions() == [replace(ONE, void="no such partition")] and ledger.placed() == {}


def test_torn_anywhere_it_holds_what_was_written_before(tmp_path):
    ledger = announced(tmp_path)
    ledger.add_result(replace(ONE, jobs=["7_0", "7_1"]))
    path = ledger.folder / "ledger.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        expected = [ONE] if length >= first else []
        assert ledger.submissions() == expected
        ledger.announce(replace(ONE, name="main-2"))  # the next line is not glued to the torn one
        kept = [ONE.name] if length >= first - 1 else []  # whole but for its end, it is ended by the next one
        assert [s.name for s in ledger.submissions()] == [*kept, "main-2"]


def test_only_one_holds_it(tmp_path):
    ledger = Ledger(tmp_path)
    told = tmp_path / "told"
    code = (
        "import sys, pathlib; from sweepwise.sweep.cluster.ledger import Ledger\n"
        f"print('waits', flush=True)\nwith Ledger(pathlib.Path({str(tmp_path)!r})).held():\n"
        f"    pathlib.Path({str(told)!r}).touch()"
    )
    with ledger.held():
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None and other.stdout.readline() == "waits\n"
        until = time.monotonic() + 20
        while f"{other.pid}" not in Path("/proc/locks").read_text() and time.monotonic() < until:
            os.sched_yield()  # until the kernel lists it among those that wait
        assert not told.exists()
    assert other.wait(20) == 0 and told.exists()


def test_lines_are_json(tmp_path):
    ledger = announced(tmp_path)
    ledger.add_result(replace(ONE, jobs=["7_0", "7_1"]))
    lines = (ledger.folder / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["submission"] for line in lines] == ["main-1", "main-1"]
