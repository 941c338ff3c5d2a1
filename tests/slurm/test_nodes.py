"""Nodes that lose their power, or their network."""

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PERIODIC = "checkpoint.steps=10"


def test_a_run_whose_node_crashes_goes_on_elsewhere(cluster, tmp_path):
    sweep = cluster.sweep(tmp_path, "0.25")
    nodes = "hydra.launcher.cpus_per_task=3"  # a run a node
    waiting = sweep.start("seed.value=0,1", PERIODIC, nodes, "hydra.launcher.wait=true")
    cluster.wait_until(sweep.reached(15, runs=2))
    where = {cluster.node_of(job): job for job in sweep.jobs()}
    assert set(where) == {"n1", "n2"}
    cluster.crash_node("n1")
    assert "2 finished" in cluster.ended(waiting)
    cluster.accounted(where["n1"], "NODE_FAIL", "COMPLETED")
    cluster.accounted(where["n2"], "COMPLETED")
    attempts = sorted((record["attempts"] for record in sweep.records()), key=len)
    assert len(attempts[0]) == 1
    assert [attempt["status"] for attempt in attempts[1]] == ["interrupted", "finished"]
    assert attempts[1][1]["from_step"] >= 10 and attempts[1][1]["host"] == "n2"


@pytest.mark.parametrize("lose", ["unplug_node", "kill_slurmd"])
def test_a_process_that_slurm_has_lost_writes_nothing_after_its_successor(cluster, tmp_path, lose):
    sweep = cluster.sweep(tmp_path, "0.5")
    sweep.launch("init=xavier", PERIODIC)
    (job,) = sweep.jobs()
    cluster.wait_until(sweep.reached(12))
    lost = cluster.node_of(job)
    getattr(cluster, lose)(lost)
    cluster.wait_until(lambda: len(sweep.records()[0]["attempts"]) == 2)
    (run,) = sweep.runs()
    old = next(path for path in sweep.logs.iterdir() if path.name == f"{job}.0.log")
    cluster.wait_until(sweep.finished(), 120)
    cluster.accounted(job, "NODE_FAIL", "COMPLETED")
    first, second = sweep.records()[0]["attempts"]
    assert first["host"] == lost != second["host"] and second["from_step"] >= 10
    # Each step stands once in the log, in order: nobody else has written into it.
    steps = cluster.steps(run)
    assert steps == sorted(set(steps)) and steps[-1] == 119
    assert "finished" not in old.read_text()
