"""Jobs that are sent back into the queue go on where they were, and end with the same bits."""

import pytest

from sweepwise import compare

pytestmark = pytest.mark.slurm

PERIODIC = "checkpoint.steps=10"


def as_here(cluster, sweep, folder, *overrides):
    """Whether the runs of a sweep are those that this machine trains without a break."""
    here = cluster.sweep(folder / "here")
    here.launch(*overrides, "hydra/launcher=local")
    assert [run.name for run in here.runs()] == [run.name for run in sweep.runs()]
    pairs = zip(sweep.runs(), here.runs(), strict=True)
    return [line for pair in pairs for line in compare.compare(*pair)] == []


def requeued_once(cluster, sweep, job):
    """Waits for the end of a job's only run; returns the last step before the break, and the first after it."""
    cluster.wait_until(sweep.finished())
    first, second = sweep.records()[0]["attempts"]
    assert second["status"] == "finished"
    return first, second


def test_usr2_saves_requeues_and_goes_on_at_the_same_step(cluster, paced, tmp_path):
    paced.launch("init=xavier")
    cluster.wait_until(paced.reached(10))
    (job,) = paced.jobs()
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(lambda: paced.statuses() == ["interrupted"])
    at = cluster.last_step(paced.runs()[0]) + 1
    first, second = requeued_once(cluster, paced, job)
    assert first["status"] == "interrupted" and second["from_step"] == at  # not a step is lost
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert as_here(cluster, paced, tmp_path, "init=xavier")


def test_a_signal_before_python_answers_is_not_lost(cluster, paced):
    paced.launch("init=xavier")
    (job,) = paced.jobs()
    cluster.wait_until(cluster.is_in(job, "RUNNING"))
    cluster.wait_until(lambda: cluster.ask("squeue", "--steps", "--noheader", f"--jobs={job}").strip())
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(paced.finished())
    cluster.accounted(job, "REQUEUED", "COMPLETED")


def test_every_run_of_a_packed_job_goes_on(cluster, paced, tmp_path):
    seeds = "seed.value=0,1,2,3"
    paced.launch(seeds, "hydra.launcher.runs_per_job=4", "hydra.launcher.max_parallel=3")
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
    assert as_here(cluster, paced, tmp_path, seeds)


def test_fresh_holds_for_the_first_attempt_only(cluster, paced, tmp_path):
    paced.launch("init=xavier", "hydra.launcher.wait=true")
    before = paced.records()[0]["started"]
    for more, at in (([], 1), (["hydra.launcher.runs_per_job=2"], 2)):
        paced.launch("init=xavier,kaiming"[: 11 if at == 1 else None], "fresh=true", *more)
        job = paced.jobs()[-1]
        cluster.wait_until(lambda job=job: cluster.states()[job] == "RUNNING")
        cluster.wait_until(
            lambda at=at: paced.statuses() == ["running"] * at and paced.reached(10, runs=at)()
        )
        cluster.ask("scancel", "--signal=USR2", job)
        cluster.wait_until(paced.finished(at))
        for known in paced.records():
            assert known["started"] > before
            assert [attempt["status"] for attempt in known["attempts"]] == ["interrupted", "finished"]
            assert known["attempts"][1]["from_step"] > 0
        before = max(known["started"] for known in paced.records())


def test_scontrol_requeue_goes_on_from_the_checkpoint_of_sigterm(cluster, paced, tmp_path):
    paced.launch("init=xavier", PERIODIC)
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(15))
    cluster.ask("scontrol", "requeue", job)
    first, second = requeued_once(cluster, paced, job)
    assert first["status"] == "interrupted" and second["from_step"] >= 15
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert as_here(cluster, paced, tmp_path, "init=xavier", PERIODIC)


def test_preemption_by_the_users_signal(cluster, paced, tmp_path):
    paced.launch("init=xavier", "hydra.launcher.partition=preemptible")
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(10))
    cluster.ask("sbatch", "-pnormal", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 1")
    first, second = requeued_once(cluster, paced, job)
    assert first["status"] == "interrupted" and second["from_step"] >= 10
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert as_here(cluster, paced, tmp_path, "init=xavier")


def test_preemption_by_sigterm(stern_cluster, tmp_path):
    sweep = stern_cluster.sweep(tmp_path, "0.05")
    sweep.launch("init=xavier", "hydra.launcher.partition=preemptible")
    (job,) = sweep.jobs()
    stern_cluster.wait_until(sweep.reached(10))
    stern_cluster.ask("sbatch", "-pnormal", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 1")
    first, second = requeued_once(stern_cluster, sweep, job)
    assert first["status"] == "interrupted" and second["from_step"] >= 10
    stern_cluster.accounted(job, "PREEMPTED", "COMPLETED")
    assert as_here(stern_cluster, sweep, tmp_path, "init=xavier")


def test_scancel_is_never_requeued(cluster, paced):
    paced.launch("init=xavier")
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(10))
    cluster.ask("scancel", job)
    cluster.accounted(job, "CANCELLED")
    assert paced.statuses() == ["interrupted"]
    assert (paced.runs()[0] / "checkpoints" / "last").exists()
    assert "1 interrupted" in paced.script("status")
