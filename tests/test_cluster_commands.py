"""A cluster's command that hangs, is missing or refuses: one line, a free ledger, and nothing lost."""

import fcntl
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from small import ROOT

from sweepwise import cli
from sweepwise.errors import Failure
from sweepwise.sweep import job
from sweepwise.sweep.cluster import jobs, submission
from sweepwise.sweep.cluster.ledger import Ledger, Submission
from sweepwise.sweep.cluster.settings import ClusterSettings

CONF = ROOT / "conf"
CANCEL = str(ROOT / "scripts" / "cancel.py")
HANGS = (
    "sleep 1000 & echo $! >>{pids}\nwait"  # as a site's script around the command: its child must end, too
)
LIMIT = 1.0
COMMANDS = ("squeue", "sacct", "scancel", "scontrol", "sbatch", "srun")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A PATH on which Slurm's commands are what a test makes them; all are missing at first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "sleep", "cat", "ps", "pkill", "env"):
        (folder / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(jobs, "SECONDS", LIMIT)

    def make(command, script="exit 0"):
        path = folder / command
        path.write_text("#!/bin/sh\n" + script.format(pids=tmp_path / "pids") + "\n")
        path.chmod(0o755)

    make.left = partial(left, tmp_path / "pids")
    return make


def left(pids: Path) -> list[str]:
    """The children of commands that still live; they were killed, which takes the system a moment."""
    until = time.monotonic() + 10
    while (found := [pid for pid in pids.read_text().split() if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def sweep(home: Path, *known: Submission) -> Ledger:
    ledger = Ledger(home)
    with ledger.held():
        for one in known:
            ledger.announce(one)
            if one.jobs:
                ledger.add_result(one)
    return ledger


def given(name="main-1", jobs=("17",)) -> Submission:
    return Submission(name, "slurm", [["aaaa0000"]], {"aaaa0000": "run"}, jobs=list(jobs))


def is_free(ledger: Ledger) -> bool:
    handle = os.open(ledger.folder / ".lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def test_a_command_that_hangs_ends_with_all_that_it_has_started(cluster):
    cluster("squeue", HANGS)
    began = time.monotonic()
    with pytest.raises(jobs.NoAnswer, match="squeue: gave no answer within 1 s; see whether squeue answers"):
        jobs.run_command("squeue")
    assert time.monotonic() - began < 20 * LIMIT
    assert cluster.left() == []


def test_a_child_that_keeps_the_pipe_open_is_no_endless_wait(cluster):
    cluster("squeue", "sleep 1000 & echo $! >>{pids}\nexit 0")
    with pytest.raises(jobs.NoAnswer):
        jobs.run_command("squeue")
    assert cluster.left() == []


def test_a_command_that_is_missing_refuses_or_prints_no_text(cluster):
    with pytest.raises(Failure, match=r"squeue: there is no such command here; .* a login node"):
        jobs.run_command("squeue")
    cluster("squeue", "echo 'squeue: error: Unable to contact' >&2; exit 1")
    with pytest.raises(Failure, match=r"^squeue: Unable to contact$"):
        jobs.run_command("squeue")
    cluster("squeue", "exit 3")
    with pytest.raises(Failure, match=r"^squeue: exited with code 3$"):
        jobs.run_command("squeue")
    cluster("squeue", r"printf '\377 7\n'")
    assert jobs.run_command("squeue") == "\ufffd 7\n"


@pytest.mark.parametrize("command", COMMANDS[:3])
@pytest.mark.parametrize("script", [HANGS, "", "exit 1"], ids=["hangs", "missing", "refuses"])
def test_cancelling_says_in_a_line_what_happened_and_frees_the_ledger(
    cluster, as_command, tmp_path, command, script
):
    cluster("squeue", "echo '17|RUNNING|n1|None|main-1'")
    cluster("sacct")
    cluster("scancel")
    cluster(command, script)
    if not script:
        (tmp_path / "bin" / command).unlink()
    ledger = sweep(tmp_path / "main", given())
    before = ledger.submissions()
    code, _, complaint = as_command(CANCEL, str(tmp_path / "main"))
    needed = command != "sacct"  # without accounting the controller says all that cancelling needs
    assert code == (1 if needed else 0)
    assert len(complaint.splitlines()) == needed and "Traceback" not in complaint
    assert command in complaint or not needed
    assert is_free(ledger) and ledger.submissions() == before


def test_a_submission_stays_open_while_the_accounting_hangs(cluster, tmp_path):
    """It may know a job that the controller has forgotten; calling the submission void would lose it."""
    cluster("squeue")
    cluster("sacct", HANGS)
    ledger = sweep(tmp_path / "main", given(jobs=()))
    with pytest.raises(Failure, match="sacct: gave no answer"), ledger.held():
        submission.adopt(ledger)
    assert is_free(ledger) and [one.void for one in ledger.submissions()] == [""]
    cluster("sacct", "echo 17")
    submission.adopt(ledger)
    assert [one.jobs for one in ledger.submissions()] == [["17"]]


def order(tmp_path: Path) -> submission.Order:
    run = cli.composed([f"output_dir={tmp_path}", "data=wine"], CONF)
    return submission.Order(Ledger(run.home), [run], ROOT, ClusterSettings(snapshot=False))


def test_an_sbatch_that_hangs_leaves_the_submission_open_until_it_is_known(cluster, tmp_path, capfd):
    cluster("srun")
    cluster("sbatch", HANGS)
    asked_for = order(tmp_path)
    with pytest.raises(Failure, match="not known whether this was submitted"), asked_for.ledger.held():
        submission.submit(asked_for)
    assert "error: sbatch: gave no answer within 1 s" in capfd.readouterr().err
    assert is_free(asked_for.ledger) and cluster.left() == []
    (open_one,) = asked_for.ledger.submissions()
    assert not open_one.jobs and not open_one.void
    cluster("squeue", f"echo '21|PENDING||Priority|{open_one.name}'")
    submission.adopt(asked_for.ledger)
    assert [one.jobs for one in asked_for.ledger.submissions()] == [["21"]]


def test_an_sbatch_that_refuses_or_answers(cluster, tmp_path):
    cluster("srun")
    cluster("sbatch", "echo 'sbatch: error: invalid partition' >&2; echo 'sbatch: error: no' >&2; exit 1")
    asked_for = order(tmp_path)
    with pytest.raises(Failure, match=r"^sbatch refuses: invalid partition; no$"), asked_for.ledger.held():
        submission.submit(asked_for)
    assert asked_for.ledger.submissions()[-1].void
    cluster("sbatch", 'cat "$1" >' + str(tmp_path / "given") + "; echo Submitted batch job 33")
    with asked_for.ledger.held():
        assert submission.submit(asked_for).jobs == ["33"]
    text = (tmp_path / "given").read_text()
    assert "#SBATCH --requeue" in text and "sweepwise.sweep.job" in text
    plan = asked_for.ledger.home_of(asked_for.ledger.submissions()[-1]) / "plan.json"
    assert json.loads(plan.read_text())["tasks"] == [[0]]


@pytest.mark.parametrize("command", ["ps", "pkill"])
def test_without_the_tools_of_this_machine_jobs_are_not_called_ended(cluster, tmp_path, command):
    (tmp_path / "bin" / command).unlink()
    ask = {"ps": partial(jobs.local_states, ["1"]), "pkill": partial(jobs.cancel_local, ["999999999"])}
    with pytest.raises(Failure, match=f"{command}: there is no such command"):
        ask[command]()


@pytest.mark.parametrize(
    ("script", "text", "goes_on"),
    [
        ("exit 0", "back in the queue", True),
        (HANGS, "perhaps not back in the queue (scontrol: gave no answer", True),  # it may still be requeued
        ("exit 1", "not requeued (scontrol: exited with code 1)", False),
        ("", "not requeued (scontrol: there is no such command", False),
    ],
)
def test_a_job_that_asks_for_another_attempt(cluster, tmp_path, capfd, script, text, goes_on):
    cluster("scontrol", script)
    if not script:
        (tmp_path / "bin" / "scontrol").unlink()
    assert job._requeued(job.ClusterTask("slurm", "17", 0, 0, 1)) == goes_on
    complaint = capfd.readouterr().err
    assert text in complaint and len(complaint.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "ended"), [("echo ' CANCELLED by 0'", True), (HANGS, False), (None, False)]
)
def test_a_job_that_waits_to_be_ended(cluster, script, ended):
    if script:
        cluster("sacct", script)
    assert job._cancelled(job.ClusterTask("slurm", "17", 0, 0, 1)) == ended
