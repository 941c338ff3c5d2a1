"""Jobs that give way to others go on where they were, and end with the same bits."""

import pytest

pytestmark = pytest.mark.slurm


@pytest.fixture
def preempted():
    """Starts a run, has its job preempted, and waits for the end."""

    def run(cluster, sweep):
        sweep.launch("init=xavier", "hydra.launcher.partition=preemptible")
        (job,) = sweep.jobs()
        cluster.wait_until(sweep.reached(10))
        cluster.ask("sbatch", "-pnormal", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 1")
        cluster.wait_until(sweep.finished())
        first, second = sweep.records()[0]["attempts"]
        assert (first["status"], second["status"]) == ("interrupted", "finished")
        assert second["from_step"] >= 10
        return job

    return run


def test_by_the_users_signal(cluster, paced, preempted, tmp_path):
    job = preempted(cluster, paced)
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    assert cluster.as_here(paced, tmp_path, "init=xavier")


def test_by_sigterm(stern_cluster, preempted, tmp_path):
    sweep = stern_cluster.sweep(tmp_path, "0.05")
    job = preempted(stern_cluster, sweep)
    stern_cluster.accounted(job, "PREEMPTED", "COMPLETED")
    assert stern_cluster.as_here(sweep, tmp_path, "init=xavier")
