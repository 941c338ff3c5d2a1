"""What is made of the answers of Slurm's commands; of a real Slurm in tests/slurm."""

import os
import subprocess
import sys

import pytest

from sweepwise.errors import Failure
from sweepwise.sweep import job
from sweepwise.sweep.cluster import jobs
from sweepwise.sweep.cluster.jobs import GONE, State
from sweepwise.sweep.cluster.plan import Plan
from sweepwise.system.signals import STOP_SIGNALS


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands of Slurm that print what a test has written for them, and count how often they are asked."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def says(command, text, code=0):
        (tmp_path / command).write_text(text)
        script = tmp_path / "bin" / command
        script.write_text(
            f'#!/bin/sh\necho "$@" >>{tmp_path}/{command}.asked\ncat {tmp_path}/{command}\nexit {code}\n'
        )
        script.chmod(0o755)

    def asked(command):
        path = tmp_path / f"{command}.asked"
        return path.read_text().splitlines() if path.exists() else []

    says.asked = asked
    return says


def test_the_controller_is_asked_once_for_all(cluster):
    cluster("squeue", "7_0|RUNNING|n1|None|main-1\n7_1|PENDING||Priority|main-1\n9|RUNNING|n2|None|else\n")
    cluster("sacct", "")
    found = jobs.slurm_states(["7_0", "7_1"])
    assert found == {"7_0": State("RUNNING", "n1"), "7_1": State("PENDING", "", "Priority")}
    assert len(cluster.asked("squeue")) == 1 and not cluster.asked("sacct")


def test_what_the_controller_has_forgotten_the_accounting_knows(cluster):
    cluster("squeue", "7_0|COMPLETED|n1|None|main-1\n")
    cluster("sacct", "7_1|FAILED|n1\n7_2|CANCELLED by 1000|None assigned\n7_3|RUNNING|n1\n")
    found = jobs.slurm_states([f"7_{task}" for task in range(5)])
    words = {job: state.word for job, state in found.items()}
    # The accounting is late: what has left the controller runs no more.
    assert words == {"7_0": "COMPLETED", "7_1": "FAILED", "7_2": "CANCELLED", "7_3": "GONE", "7_4": "GONE"}
    assert len(cluster.asked("sacct")) == 1 and "7_1,7_2,7_3,7_4" in cluster.asked("sacct")[0]
    assert not any(state.live for state in found.values())


def test_a_cancelled_job_whose_processes_live_is_ending(cluster):
    cluster(
        "squeue", "7_0|COMPLETING|n1|None|main-1\n7_1|COMPLETING|n1|None|main-1\n7_2|RUNNING|n1|None|main-1\n"
    )
    cluster("sacct", "7_0|CANCELLED by 1000|n1\n7_1|RUNNING|n1\n")
    found = jobs.slurm_states(["7_0", "7_1", "7_2"])
    assert [found[job].word for job in sorted(found)] == ["ENDING", "COMPLETING", "RUNNING"]
    assert [found[job].live for job in sorted(found)] == [False, True, True]
    assert cluster.asked("sacct")[0].endswith("--jobs=7_0,7_1")


def test_how_jobs_have_ended(cluster):
    cluster("sacct", "7_0|0:9\n7_1|3:0\n7_2|0:0\n")
    wanted = {"7_0": "signal 9", "7_1": "exit code 3", "7_2": "exit code 0"}
    assert jobs.slurm_exits(["7_0", "7_1", "7_2"]) == wanted
    cluster("sacct", "", code=1)
    assert jobs.slurm_exits(["7_0"]) == jobs.slurm_exits([]) == {}


def test_without_accounting(cluster):
    cluster("squeue", "7|RUNNING|n1|None|main-1\n")
    cluster("sacct", "", code=1)
    assert jobs.slurm_states(["7", "8"]) == {"7": State("RUNNING", "n1"), "8": GONE}


def test_no_answer_is_not_the_end_of_jobs(cluster):
    cluster("squeue", "", code=1)
    with pytest.raises(Failure, match="does not answer"):
        jobs.slurm_states(["7"])
    assert jobs.slurm_states([]) == {}


@pytest.mark.parametrize("word", sorted(jobs.PENDING | jobs.RUNNING))
def test_live_states(word):
    assert State(word).live and State(word).waits == (word in jobs.PENDING)


@pytest.mark.parametrize(
    "word",
    ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE"],
)
def test_ended_states(word):
    assert not State(word).live


def test_by_name(cluster):
    cluster("squeue", "7_1|PENDING||Priority|main-1\n9|RUNNING|n2|None|else\n")
    cluster("sacct", "12_0\n12_1\n")
    assert (jobs.slurm_named("main-1"), jobs.slurm_named("else"), jobs.slurm_named("main-2")) == (
        "7",
        "9",
        "12",
    )
    cluster("sacct", "")
    assert jobs.slurm_named("main-2") is None


def test_a_process_of_another_program_is_no_job():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert jobs.local_states([str(other.pid)]) == {str(other.pid): GONE}
    other.communicate(b"\n")


LATE_SIGNAL = """
import atexit, os, sys, threading
from sweepwise.sweep import job
from sweepwise.system import signals


def train(*task):  # numeric libraries leave threads behind that block no signal
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    if {stopped}:
        raise signals.Stopped({number})
    return {code}


atexit.register(lambda: os.kill(os.getpid(), {number}))
job._train = train
sys.exit(job.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "code", "stopped"),
    [
        *((number, code, False) for number in STOP_SIGNALS for code in (0, 1)),
        *((number, job.LOCAL_AGAIN, True) for number in job.WARNINGS),
    ],
)
def test_a_signal_while_python_ends_changes_nothing(tmp_path, number, code, stopped):
    folder = tmp_path / ".sweep" / "submissions" / "one"
    folder.mkdir(parents=True)
    plan = Plan([], [[]], [], ["train.py"]).write(folder)
    task = {"JOB_ID": "1", "GLOBALID": "0", "NTASKS": "1"}
    env = {**os.environ, "SUBMITIT_EXECUTOR": "local", **{f"SUBMITIT_LOCAL_{k}": v for k, v in task.items()}}
    program = LATE_SIGNAL.format(number=int(number), code=code, stopped=stopped)
    done = subprocess.run([sys.executable, "-c", program, str(plan), "0"], env=env, timeout=60)
    assert done.returncode == code
