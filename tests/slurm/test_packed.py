"""Several runs in one job: each ends as it does alone, and a job that goes on does so with all of them."""

import re

import pytest

pytestmark = pytest.mark.slurm

WAIT = "hydra.launcher.wait=true"
PERIODIC = "checkpoint.steps=10"


def packed(runs: int) -> tuple[str, ...]:
    """All in one job, side by side."""
    return (
        f"hydra.launcher.runs_per_job={runs}",
        f"hydra.launcher.max_parallel={runs}",
        "hydra.launcher.fuse=false",
    )


def test_a_run_that_raises_and_one_that_dies_leave_the_others_alone(cluster, sweep):
    fates = "+regularizer.paced.fate=fine,raise,die"
    said = sweep.launch(fates, *packed(3), WAIT, code=1)
    (job,) = sweep.jobs()
    cluster.accounted(job, "FAILED")
    assert cluster.exit_codes(job) == ["1:0"]
    for told in (said, sweep.script("status", code=1)):
        assert "1 finished" in told and "2 failed" in told and "the part has raised" in told
        assert (
            len(re.findall(rf"^failed +\S+\s+\(job {job}: FAILED n[12], exit code 1\)$", told, re.M)) == 2
        ), told
    # The same command tries the two again, and leaves the third alone.
    again = sweep.launch(fates, *packed(3), "hydra.launcher.additional_parameters={hold:true}")
    assert "ended         1" in again and "submitted     2 as job" in again
    assert "1 finished, 2 queued" in sweep.script("status")


@pytest.mark.slow
def test_every_run_goes_on_after_a_crash_of_the_node(cluster, tmp_path):
    seeds = "seed.value=0,1,2"
    sweep = cluster.sweep(tmp_path, "0.2")
    waiting = sweep.start(seeds, PERIODIC, *packed(3), WAIT)
    cluster.wait_until(sweep.reached(15, runs=3))
    (job,) = sweep.jobs()
    crashed = cluster.node_of(job)
    cluster.crash_node(crashed)
    assert "3 finished" in cluster.ended(waiting)
    cluster.accounted(job, "NODE_FAIL", "COMPLETED")
    for known in sweep.records():
        first, second = known["attempts"]
        assert first["host"] == crashed != second["host"]
        assert second["from_step"] >= 10
    assert cluster.as_here(sweep, tmp_path, seeds, PERIODIC)


def test_runs_of_a_job_are_trained_together_and_go_on_so(cluster, tmp_path):
    seeds = "seed.value=0,1,2,3"
    sweep = cluster.sweep(tmp_path, "0.03")
    sweep.launch(seeds, "hydra.launcher.runs_per_job=4", "hydra.launcher.group_size=2")
    (job,) = sweep.jobs()
    cluster.wait_until(sweep.reached(10, runs=2))
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(sweep.finished(4))
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert "fused 4 of 4 runs in 2 groups" in (sweep.logs / f"{job}.0.log").read_text()
    assert all(known["environment"]["fused"] for known in sweep.records())
    assert max(len(known["attempts"]) for known in sweep.records()) == 2
    assert cluster.as_here(sweep, tmp_path, seeds, apart=False)
