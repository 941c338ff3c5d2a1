"""Jobs that are sent back into the queue go on where they were, and end with the same bits."""

import subprocess

import pytest

pytestmark = pytest.mark.slurm

PERIODIC = "checkpoint.steps=10"


def requeued_once(cluster, sweep):
    """Waits for the end of the only run of a sweep; returns its two attempts."""
    cluster.wait_until(sweep.finished())
    first, second = sweep.records()[0]["attempts"]
    assert (first["status"], second["status"]) == ("interrupted", "finished")
    return first, second


def test_usr2_saves_requeues_and_goes_on_at_the_same_step(cluster, paced, tmp_path):
    paced.launch("init=xavier")
    cluster.wait_until(paced.reached(10))
    (job,) = paced.jobs()
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(lambda: paced.statuses() == ["interrupted"])
    at = cluster.last_step(paced.runs()[0]) + 1
    first, second = requeued_once(cluster, paced)
    assert first["from_step"] == 0 and second["from_step"] == at  # not a step is lost
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert cluster.as_here(paced, tmp_path, "init=xavier")


def test_a_signal_before_python_answers_is_not_lost(cluster, paced):
    paced.launch("init=xavier")
    (job,) = paced.jobs()
    cluster.wait_until(cluster.is_in(job, "RUNNING"))
    python = rf"^[^ ]*python[^ ]* -u -P -m sweepwise\.sweep\.job {paced.home}"
    cluster.wait_until(lambda: not subprocess.run(["pgrep", "-f", python], capture_output=True).returncode)
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(paced.finished())
    cluster.accounted(job, "REQUEUED", "COMPLETED")


def test_every_run_of_a_packed_job_goes_on(cluster, paced, tmp_path):
    seeds = "seed.value=0,1,2,3"
    packing = ("hydra.launcher.runs_per_job=4", "hydra.launcher.max_parallel=3")
    paced.launch(seeds, *packing, "hydra.launcher.fuse=false")
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(10, runs=3))  # the fourth waits for one of them
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(paced.finished(4))
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    attempts = sorted(len(known["attempts"]) for known in paced.records())
    assert attempts == [1, 2, 2, 2]
    assert all(
        known["attempts"][-1]["from_step"] > 0 for known in paced.records() if len(known["attempts"]) > 1
    )
    names = sorted(path.name for path in paced.logs.glob(f"*.{job}.*.log"))
    assert len(names) == 7 and all(name.endswith((f".{job}.0.log", f".{job}.1.log")) for name in names)
    assert cluster.as_here(paced, tmp_path, seeds)


@pytest.mark.parametrize("packing", [(), ("hydra.launcher.runs_per_job=2", "hydra.launcher.max_parallel=2")])
def test_fresh_holds_for_the_first_attempt_only(cluster, paced, packing):
    seeds = "seed.value=0,1"
    paced.launch(seeds, "hydra/launcher=local", pace="0")
    paced.launch(seeds, "fresh=true", *packing)
    cluster.wait_until(lambda: paced.statuses() == ["running"] * 2 and paced.reached(10, runs=2)())
    cluster.ask("scancel", "--signal=USR2", paced.jobs()[0].partition("_")[0])
    cluster.wait_until(paced.finished(2))
    for known in paced.records():
        assert [attempt["status"] for attempt in known["attempts"]] == ["interrupted", "finished"]
        assert known["attempts"][0]["from_step"] == 0 < known["attempts"][1]["from_step"]


def test_scontrol_requeue_goes_on_from_the_checkpoint_of_sigterm(cluster, paced, tmp_path):
    paced.launch("init=xavier", PERIODIC)
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(15))
    cluster.ask("scontrol", "requeue", job)
    _, second = requeued_once(cluster, paced)
    assert second["from_step"] >= 15
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert cluster.as_here(paced, tmp_path, "init=xavier", PERIODIC)


def test_scancel_is_never_requeued(cluster, paced):
    paced.launch("init=xavier")
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(10))
    cluster.ask("scancel", job)
    cluster.accounted(job, "CANCELLED")
    cluster.wait_until(lambda: paced.statuses() == ["interrupted"])
    assert (paced.runs()[0] / "checkpoints" / "last").exists()
    cluster.wait_until(lambda: "1 interrupted" in paced.script("status"))
