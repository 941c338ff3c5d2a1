"""A search on a cluster: whatever becomes of jobs, a node and its launcher, it decides as on this machine."""

import json

import pytest

from sweepwise.search import log
from sweepwise.store.folders import SEARCH, SWEEP

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

RACE = (
    "hydra/sweeper=racing",
    "hydra.sweeper.max_seeds=4",
    "init=xavier,kaiming",
    "optimizer.lr=0.1,0.05,0.02,0.01,0.005,0.002,0.001,0.0005",
    "checkpoint.steps=10",
    "hydra.launcher.fuse=false",
)
PACKED = (*RACE, "hydra.launcher.runs_per_job=8", "hydra.launcher.partition=preemptible")


def decisions(sweep):
    return log.read(sweep.home / SWEEP / SEARCH)


def test_it_ends_as_without_a_preemption_a_lost_node_and_a_killed_launcher(cluster, tmp_path):
    sweep = cluster.sweep(tmp_path, "0.05")
    first = sweep.start(*PACKED)
    cluster.wait_until(sweep.reached(15, runs=4))
    assert {line["what"] for line in decisions(sweep)} == {"begin"}
    cluster.ask("sbatch", "-pnormal", "-N1", "-wn1", "--exclusive", "-o/dev/null", "--wrap=sleep 1")
    cluster.wait_until(lambda: any("REQUEUED" in cluster.history(job) for job in sweep.jobs()))
    first.kill()
    first.wait()
    cluster.crash_node("n2")
    again = sweep.start(*PACKED)
    cluster.wait_until(lambda: any("NODE_FAIL" in cluster.history(job) for job in sweep.jobs()))
    cluster.boot_node("n2")
    cluster.ended(again)
    here = cluster.sweep(tmp_path / "here")
    here.launch(*RACE, "hydra/launcher=local")
    assert decisions(sweep) == decisions(here) and len(decisions(here)) > 2
    runs = [run.name for run in sweep.runs()]
    assert runs == [run.name for run in here.runs()] and len(runs) >= 48
    assert {record["status"] for record in sweep.records()} == {"finished"}
    # Each step stands once in a run's log, so none was trained twice.
    for run in sweep.runs():
        steps = cluster.steps(run)
        assert steps == sorted(set(steps))


def test_runs_pause_and_go_on_in_other_jobs(cluster, sweep, tmp_path):
    halving = (
        *("hydra/sweeper=halving", "init=xavier,kaiming,uniform", "optimizer.lr=0.1,0.01,0.001"),
        *("trainer.max_epochs=9", "trainer.max_steps=null", "hydra.launcher.fuse=false"),
    )
    sweep.launch(*halving, "hydra.launcher.runs_per_job=3")
    here = cluster.sweep(tmp_path / "here")
    here.launch(*halving, "hydra/launcher=local")
    assert decisions(sweep) == decisions(here)
    assert sweep.statuses() == here.statuses() == ["finished", *["pruned"] * 8]
    assert {len(record["attempts"]) for record in sweep.records()} == {1, 2, 3}


def test_the_recommended_order_goes_through_its_stages_in_jobs(cluster, sweep, tmp_path):
    guided = (
        *(
            "hydra/sweeper=guided",
            "hydra.sweeper.runs=24",
            "hydra.sweeper.save=null",
            "hydra.sweeper.seeds=3",
        ),
        *("trainer.max_epochs=6", "trainer.max_steps=null", "hydra.launcher.fuse=false"),
    )
    jobs = (*guided, "hydra.launcher.runs_per_job=4")
    first = sweep.start(*jobs)
    cluster.wait_until(lambda: any(line["what"] != "begin" for line in decisions(sweep)))
    first.kill()
    first.wait()
    cluster.ended(sweep.start(*jobs))
    here = cluster.sweep(tmp_path / "here")
    here.launch(*guided, "hydra/launcher=local")
    assert len(sweep.jobs()) > 3
    assert decisions(sweep) == decisions(here) and sweep.statuses() == here.statuses()
    ours, theirs = (json.loads((one.home / "guided.json").read_text()) for one in (sweep, here))
    assert ours["found"] == theirs["found"] and ours["fresh"] == theirs["fresh"]
