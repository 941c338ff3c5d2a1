"""Runs that four processes on two nodes train together: as one, whatever becomes of one of them."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from sweepwise.verify import compare

pytestmark = pytest.mark.slurm

# With momentum alone a rounding stays one; Adam divides by what is nearly nothing.
RUN = ("init=xavier", "optimizer=sgd")
WORLD = (*RUN, "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2")
WAIT = "hydra.launcher.wait=true"
PERIODIC = "checkpoint.steps=10"
ELSEWHERE = "export MASTER_ADDR=localhost MASTER_PORT=1 RANK=0 LOCAL_RANK=0 WORLD_SIZE=1"


def losses(run: Path) -> list[tuple[int, str, float]]:
    """Every loss that a run has logged: of steps, of epochs, and at the end."""
    found = []
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        found += [(line["step"], key, value) for key, value in line.items() if key.endswith("loss")]
    return found


def process_of(sweep, rank: int) -> int:
    """The process that has a rank in the only live job of a sweep, as this machine numbers it."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is not ours to look at
            words = (folder / "cmdline").read_text().split("\0")
            variables = (folder / "environ").read_text().split("\0")
            trains = words[0] == sys.executable and any(word.startswith(str(sweep.home)) for word in words)
            if trains and f"SLURM_PROCID={rank}" in variables:
                return int(folder.name)
    raise AssertionError(f"no process has rank {rank}")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_four_on_two_nodes_train_as_one(cluster, sweep, tmp_path, parallel):
    sweep.launch(*WORLD, WAIT, f"trainer.parallel={parallel}")
    (job,) = sweep.jobs()
    assert cluster.node_of(job) == "n[1-2]"
    cluster.accounted(job, "COMPLETED")
    here = cluster.sweep(tmp_path / "here")
    here.launch(*RUN, "hydra/launcher=local")
    (four,), (one,) = sweep.runs(), here.runs()
    assert four.name == one.name
    found, expected = losses(four), losses(one)
    assert [place[:2] for place in found] == [place[:2] for place in expected]
    assert len(found) > 120
    assert [place[2] for place in found] == pytest.approx([place[2] for place in expected], rel=1e-4)
    # One of them writes.
    assert len(list(four.glob("events.out.tfevents.*"))) == 1
    logs = {path.name: path.read_text() for path in sweep.logs.iterdir()}
    assert "finished" in logs.pop(f"{job}.0.log")
    assert logs == {f"{job}.0.{rank}.log": "" for rank in (1, 2, 3)}


def test_variables_of_another_world_do_not_lead_astray(cluster, sweep):
    sweep.launch(*WORLD, "trainer.max_steps=5", WAIT, f"hydra.launcher.setup=['{ELSEWHERE}']")
    cluster.accounted(*sweep.jobs(), "COMPLETED")
    assert sweep.statuses() == ["finished"]


def test_usr2_stops_all_at_the_same_step_and_they_go_on(cluster, paced, tmp_path):
    paced.launch(*WORLD)
    (job,) = paced.jobs()
    cluster.wait_until(paced.reached(10))
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.wait_until(lambda: paced.statuses() == ["interrupted"])
    at = cluster.last_step(paced.runs()[0]) + 1
    cluster.wait_until(paced.finished(), 120)
    cluster.accounted(job, "REQUEUED", "COMPLETED")
    first, second = paced.records()[0]["attempts"]
    assert (first["status"], first["from_step"]) == ("interrupted", 0)
    assert second["from_step"] == at  # not a step is lost
    unbroken = cluster.sweep(tmp_path / "unbroken")
    unbroken.launch(*WORLD, WAIT)
    assert compare.compare(*paced.runs(), *unbroken.runs()) == []


@pytest.mark.parametrize("rank", [0, 3])
def test_the_death_of_one_ends_the_job_and_the_same_command_goes_on(cluster, paced, rank):
    waiting = paced.start(*WORLD, PERIODIC, WAIT)
    cluster.wait_until(paced.reached(15))
    (job,) = paced.jobs()
    os.kill(process_of(paced, rank), signal.SIGKILL)
    cluster.wait_until(cluster.is_in(job, "FAILED"), 30)  # and not at its limit
    told = cluster.ended(waiting, 1)
    assert "1 failed" in told and f"(job {job}: FAILED" in told
    cluster.accounted(job, "FAILED")
    paced.launch(*WORLD, PERIODIC, WAIT, pace="0")
    attempts = paced.records()[0]["attempts"]
    assert len(attempts) == 2 and attempts[1]["from_step"] >= 10
    assert paced.statuses() == ["finished"]


@pytest.mark.slow
def test_a_node_that_crashes_under_two_is_waited_for(cluster, paced):
    waiting = paced.start(*WORLD, PERIODIC, WAIT, pace="0.1")
    cluster.wait_until(paced.reached(15))
    (job,) = paced.jobs()
    cluster.crash_node("n2")
    cluster.wait_until(cluster.is_in(job, "PENDING"))
    assert waiting.poll() is None
    cluster.boot_node("n2")
    assert "1 finished" in cluster.ended(waiting)
    cluster.completed(job)
    _, second, *_ = paced.records()[0]["attempts"]
    assert second["from_step"] >= 10
