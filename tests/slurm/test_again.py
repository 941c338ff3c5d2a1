"""The same command again, at once, and after launchers that were killed: no run is ever in two jobs."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections import Counter

import pytest

from sweepwise.sweep.cluster.ledger import Ledger

pytestmark = pytest.mark.slurm

HOLD = "hydra.launcher.additional_parameters={hold:true}"
RUNS = "seed.value=0,1,2"


def slow_sbatch(sweep, folder, *, before="", after=""):
    """Puts an `sbatch` in the way that tells its id before or after the real one, and then does something."""
    real = shutil.which("sbatch", path=sweep.env["PATH"])
    script = folder / "bin" / "sbatch"
    script.parent.mkdir(exist_ok=True)
    here = f"echo $$ $PPID >{folder}/here; mv {folder}/here {folder}/asked;"
    steps = [before and here + before, f'"{real}" "$@" >{folder}/said || exit', after and here + after]
    script.write_text("\n".join(["#!/bin/sh", *steps, f"cat {folder}/said", ""]))
    script.chmod(0o755)
    sweep.env["PATH"] = f"{script.parent}:{sweep.env['PATH']}"


def kill(cluster, process, folder, *, sbatch=True, submission=True):
    """Kills a launcher that has come to `sbatch`; with it the process that submits, and sbatch, or not."""
    cluster.wait_until((folder / "asked").exists)
    process.kill()
    process.wait()
    own, above = map(int, (folder / "asked").read_text().split())
    for number in [above] * submission + [own] * sbatch:
        os.kill(number, signal.SIGKILL)


def and_again(cluster, sweep, folder, *more):
    """The same command by the real sbatch: each run is in one job then."""
    sweep.env["PATH"] = sweep.env["PATH"].removeprefix(f"{folder / 'bin'}:")
    said = sweep.launch(RUNS, *(more or [HOLD]))
    assert set(given(sweep).values()) == {1} and len(given(sweep)) == 3
    if not more:
        assert in_the_queue(cluster) == sorted(sweep.jobs())
    return said


def in_the_queue(cluster):
    """Jobs that wait or run, of any sweep."""
    return sorted(job for job, state in cluster.states().items() if state in ("PENDING", "RUNNING"))


def given(sweep):
    """How many jobs that the ledger knows each run was given to."""
    submissions = Ledger(sweep.home).submissions()
    return Counter(run for one in submissions if one.jobs for task in one.tasks for run in task)


def test_live_and_ended_runs_are_not_submitted_again(cluster, sweep):
    sweep.launch("seed.value=0", "hydra.launcher.wait=true")
    sweep.launch("seed.value=1", HOLD)
    said = sweep.launch(RUNS, HOLD)
    assert "ended         1" in said and "in live jobs  1" in said
    assert "submitted     1 as job" in said
    assert len(sweep.jobs()) == 3 and set(given(sweep).values()) == {1}
    again = sweep.launch(RUNS)
    assert "in live jobs  2" in again and "submitted" not in again
    assert len(sweep.jobs()) == 3 == len(in_the_queue(cluster)) + 1


def test_runs_that_are_trained_anew_are_in_one_job_too(cluster, sweep):
    sweep.launch("seed.value=0,1", "hydra.launcher.wait=true")
    sweep.launch("seed.value=0,1", "fresh=true", HOLD)
    again = sweep.launch("seed.value=0,1", "fresh=true", HOLD)
    assert "in live jobs  2: 2 queued" in again and "submitted" not in again
    assert "2 queued" in sweep.script("status")
    held = in_the_queue(cluster)
    assert len(held) == 2 and len(sweep.jobs()) == 4
    cluster.ask("scontrol", "release", held[0].partition("_")[0])
    for job in held:
        cluster.accounted(job, "COMPLETED")
    assert "2 finished" in sweep.script("status")
    assert "ended         2: 2 finished" in sweep.launch("seed.value=0,1")


def test_the_same_command_right_after_a_cancel(cluster, paced):
    paced.launch("seed.value=0,1")
    cluster.wait_until(paced.reached(5, runs=2))
    paced.script("cancel")
    said = paced.launch("seed.value=0,1", HOLD)
    assert "submitted     2 as job" in said
    assert in_the_queue(cluster) == sorted(paced.jobs()[2:])


def test_what_has_failed_is_submitted_again(cluster, sweep):
    fates = "+regularizer.paced.fate=fine,raise"
    sweep.launch(fates, "hydra.launcher.wait=true", code=1)
    said = sweep.launch(fates, HOLD)
    assert "ended         1" in said and "submitted     1 as job" in said
    assert "1 finished, 1 queued" in sweep.script("status")


def test_two_launchers_at_once(cluster, sweep):
    both = [sweep.start(RUNS, HOLD) for _ in range(2)]
    said = [cluster.ended(process) for process in both]
    assert sorted("submitted" in text for text in said) == [False, True]
    assert set(given(sweep).values()) == {1} and len(given(sweep)) == 3
    assert in_the_queue(cluster) == sorted(sweep.jobs())


@pytest.mark.parametrize("after", [0.3, 0.6, 0.9, 1.2])
def test_a_launcher_that_was_killed_early(cluster, sweep, after):
    process = sweep.start(RUNS, HOLD)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.kill()
    process.wait()
    sweep.launch(RUNS, HOLD)
    assert set(given(sweep).values()) == {1} and len(given(sweep)) == 3
    assert in_the_queue(cluster) == sorted(sweep.jobs())


def test_a_waiting_launcher_that_was_killed(cluster, paced):
    wait = "hydra.launcher.wait=true"
    waiting = paced.start("seed.value=0,1", wait)
    cluster.wait_until(paced.reached(3, runs=2))
    waiting.kill()
    assert "in live jobs  2" in paced.launch("seed.value=0,1", wait)
    assert [len(record["attempts"]) for record in paced.records()] == [1, 1]
    assert set(given(paced).values()) == {1} and paced.statuses() == ["finished"] * 2


def test_killed_with_sbatch_before_it_has_submitted(cluster, sweep, tmp_path):
    slow_sbatch(sweep, tmp_path, before="exec sleep 60")
    kill(cluster, sweep.start(RUNS, HOLD), tmp_path)
    assert in_the_queue(cluster) == []
    and_again(cluster, sweep, tmp_path)


def test_killed_after_sbatch_has_submitted(cluster, sweep, tmp_path):
    slow_sbatch(sweep, tmp_path, after="exec sleep 60")
    kill(cluster, sweep.start(RUNS, HOLD), tmp_path)
    held = in_the_queue(cluster)
    assert len(held) == 3 and sweep.jobs() == []
    assert "3 queued" in sweep.script("status") and sorted(sweep.jobs()) == held
    said = and_again(cluster, sweep, tmp_path)
    assert "in live jobs  3" in said and in_the_queue(cluster) == held


def test_cancel_finds_the_jobs_of_a_killed_launcher(cluster, sweep, tmp_path):
    slow_sbatch(sweep, tmp_path, after="exec sleep 60")
    kill(cluster, sweep.start(RUNS, HOLD), tmp_path)
    held = in_the_queue(cluster)
    said = sweep.script("cancel")
    assert all(job in said for job in held)
    assert in_the_queue(cluster) == []


def test_a_submission_outlives_its_launcher_and_the_next_one_waits_for_it(cluster, sweep, tmp_path):
    slow_sbatch(sweep, tmp_path, before=f"until [ -e {tmp_path}/go ]; do sleep 0.1; done")
    kill(cluster, sweep.start(RUNS, HOLD), tmp_path, sbatch=False, submission=False)
    second = sweep.start(RUNS, HOLD)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(3)
    (tmp_path / "go").touch()
    assert "in live jobs  3" in cluster.ended(second)
    assert set(given(sweep).values()) == {1} and in_the_queue(cluster) == sorted(sweep.jobs())


def test_an_sbatch_that_submits_after_its_launcher_was_given_up(cluster, sweep, tmp_path):
    slow_sbatch(sweep, tmp_path, before=f"until [ -e {tmp_path}/go ]; do sleep 0.1; done")
    kill(cluster, sweep.start(RUNS), tmp_path, sbatch=False)
    said = and_again(cluster, sweep, tmp_path, "hydra.launcher.wait=true")
    assert "submitted     3" in said
    (tmp_path / "go").touch()
    cluster.wait_until(lambda: len(strangers(cluster, sweep)) == 3)
    for job in strangers(cluster, sweep):
        cluster.wait_until(cluster.is_in(job, "FAILED"))
    assert [len(record["attempts"]) for record in sweep.records()] == [1, 1, 1]


def strangers(cluster, sweep):
    """Jobs of this sweep that the ledger does not know."""
    names = {one.name for one in Ledger(sweep.home).submissions()}
    told = cluster.ask("squeue", "--noheader", "--array", "--states=all", "--format=%i %j").splitlines()
    return [job for job, name in map(str.split, told) if name in names and job not in sweep.jobs()]
