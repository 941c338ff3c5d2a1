"""What the launcher submits, says and refuses, and what status.py and cancel.py make of it."""

import json
import re

import pytest

from sweepwise.sweep.cluster.ledger import Ledger

pytestmark = pytest.mark.slurm


def test_three_runs_are_one_array_and_three_folders(cluster, sweep):
    said = sweep.launch("seed.value=0,1,2", "hydra.launcher.wait=true")
    job = sweep.jobs()[0].split("_")[0]
    assert re.search(rf"^submitted +3 as job {job} \(3 tasks\)$", said, re.M), said
    assert sweep.jobs() == [f"{job}_0", f"{job}_1", f"{job}_2"]
    assert sweep.statuses() == ["finished"] * 3
    for name in sweep.jobs():
        cluster.accounted(name, "COMPLETED")
    assert sorted(path.name for path in sweep.logs.iterdir()) == [f"{name}.0.log" for name in sweep.jobs()]
    told = sweep.script("status")
    assert "3 finished" in told and re.search(r"^answer +1 setting x 3 seeds", told, re.M)


def test_one_run_is_a_job_without_an_array_and_is_the_same_as_here(cluster, sweep, tmp_path):
    sweep.launch("init=xavier", "hydra.launcher.wait=true")
    assert sweep.jobs() == [sweep.jobs()[0].split("_")[0]]
    assert cluster.as_here(sweep, tmp_path, "init=xavier")


def test_the_launcher_comes_back_while_the_jobs_run(cluster, paced):
    said = paced.launch("seed.value=0,1")
    assert f"python scripts/status.py {paced.home}" in said
    assert f"python scripts/cancel.py {paced.home}" in said
    assert all(cluster.states()[job] in ("PENDING", "RUNNING") for job in paced.jobs())
    cluster.wait_until(paced.reached(1, runs=2))
    assert re.search(r"^running .*seed=0.* n[12]\b", paced.script("status"), re.M)


def test_a_run_that_raises_and_one_that_dies_leave_the_others_alone(cluster, sweep):
    fates = "+regularizer.paced.fate=fine,raise,die"
    said = sweep.launch(fates, "hydra.launcher.wait=true", code=1)
    fine, raised, died = sweep.jobs()
    cluster.accounted(fine, "COMPLETED")
    cluster.accounted(raised, "FAILED")
    cluster.accounted(died, "FAILED")
    assert cluster.exit_codes(raised) == ["1:0"] and cluster.exit_codes(died) == ["7:0"]
    for told in (said, sweep.script("status", code=1)):
        assert "1 finished" in told and "2 failed" in told
        assert re.search(rf"^failed +\S+\s+\(job {raised}: FAILED n[12], exit code 1\)", told, re.M), told
        assert re.search(rf"^failed +\S+\s+\(job {died}: FAILED n[12], exit code 7\)", told, re.M), told
        assert "the part has raised" in told


def test_one_process_of_a_run_that_dies_ends_the_others(cluster, sweep):
    said = sweep.launch(
        "+regularizer.paced.fate=lose", "hydra.launcher.tasks_per_node=2", "hydra.launcher.wait=true", code=1
    )
    (job,) = sweep.jobs()
    cluster.accounted(job, "FAILED")
    assert "1 failed" in said and len(sweep.runs()) == 1


def test_each_attempt_has_a_log_of_its_own(cluster, paced):
    paced.launch("init=xavier")
    cluster.wait_until(paced.reached(5))
    (job,) = paced.jobs()
    cluster.ask("scancel", "--signal=USR2", job)
    cluster.completed(job)  # its log is whole then
    first, second = sorted(paced.logs.iterdir())
    assert (first.name, second.name) == (f"{job}.0.log", f"{job}.1.log")
    assert "back in the queue" in first.read_text() and "finished" not in first.read_text()
    assert "finished" in second.read_text()


@pytest.mark.parametrize(
    ("wrong", "quoted"),
    [
        ("hydra.launcher.partition=none", "invalid partition specified: none"),
        ("hydra.launcher.constraint=none", "Invalid feature specification"),
        ("hydra.launcher.gpus_per_node=9", "Requested node configuration is not available"),
        ("hydra.launcher.additional_parameters={no-such-flag:1}", "unrecognized option '--no-such-flag=1'"),
    ],
)
def test_what_sbatch_refuses_is_quoted_and_leaves_nothing(cluster, sweep, wrong, quoted):
    before = cluster.states()
    said = sweep.launch("seed.value=0,1", wrong, code=1)
    assert "sbatch" in said and quoted in said
    assert "Traceback" not in said
    new = {state for job, state in cluster.states().items() if job not in before}
    assert new <= {"FAILED"}  # Slurm keeps some of what it has refused at once
    assert sweep.runs() == [] and sweep.jobs() == []
    assert all(submission.void for submission in Ledger(sweep.home).submissions())
    # The same command without the fault submits all.
    sweep.launch("seed.value=0,1", "hydra.launcher.additional_parameters={hold:true}")
    assert len(sweep.jobs()) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["+hydra.launcher.partitions=normal"], "partition"),
        (["hydra.launcher.partitions=normal"], "partition"),
        (["hydra.launcher.timeout_min=0"], "hydra.launcher.timeout_min"),
        (["hydra.launcher.nodes=two"], "hydra.launcher.nodes"),
        (["hydra/launcher=slurm_gpu"], "hydra.launcher.partition: must be given"),
        (["hydra.launcher.timeout_min=1"], "hydra.launcher.signal_delay_s=90: must be less than"),
        (["hydra.launcher.cluster=local", "hydra.launcher.nodes=2"], "hydra.launcher.nodes=2: must be 1"),
        (["hydra.launcher.required=[partitoin]"], "did you mean 'partition'"),
        (["hydra.launcher.tasks_per_node=2", "hydra.launcher.runs_per_job=2"], "hydra.launcher.runs_per_job"),
        (["init=xaver"], "xaver"),
    ],
)
def test_what_is_wrong_before_sbatch_is_asked_makes_nothing(cluster, sweep, wrong, told):
    before = cluster.states()
    said = sweep.launch("seed.value=0,1", *wrong, code=2)
    assert told in said and "Traceback" not in said
    assert cluster.states() == before and not sweep.output.exists()


def test_cancelled_runs_are_interrupted_and_the_same_command_goes_on(cluster, paced):
    paced.launch("seed.value=0,1", "hydra.launcher.array_parallelism=1")
    running, pending = paced.jobs()
    cluster.wait_until(paced.reached(5))
    said = paced.script("cancel")
    assert running in said and pending in said
    cluster.wait_until(cluster.is_in(running, "CANCELLED"))
    cluster.wait_until(cluster.is_in(pending, "CANCELLED"))
    assert "2 interrupted" in paced.script("status")
    assert "nothing" in paced.script("cancel")
    at = cluster.last_step(paced.runs()[0])
    paced.launch("seed.value=0,1")
    assert len(paced.jobs()) == 4
    cluster.wait_until(paced.finished(2))
    (begun,) = (known for known in paced.records() if len(known["attempts"]) == 2)
    assert 0 < begun["attempts"][1]["from_step"] <= at + 1
    cluster.accounted(running, "CANCELLED")


def test_a_thousand_runs_are_submitted_at_once_without_torch(cluster, sweep, tmp_path):
    poison = tmp_path / "poison" / "torch"
    poison.mkdir(parents=True)
    (poison / "__init__.py").write_text("raise SystemExit('the launcher has imported torch')\n")
    sweep.env["PYTHONPATH"] = f"{poison.parent}:{sweep.env['PYTHONPATH']}"
    process = sweep.start(
        "seed.value=range(1000)",
        "hydra.launcher.runs_per_job=32",
        "hydra.launcher.additional_parameters={hold:true}",
        training=["data=blobs"],
    )
    said = cluster.ended(process, seconds=30)
    assert re.search(r"^submitted +1000 as job \d+ \(32 tasks\)$", said, re.M), said
    assert len(sweep.jobs()) == 32 and len({job.split("_")[0] for job in sweep.jobs()}) == 1
    assert "1,000 queued" in sweep.script("status")
    cluster.ask("scancel", sweep.jobs()[3])  # of which Slurm then knows nothing any more
    sweep.script("cancel")
    assert "1,000 interrupted" in sweep.script("status")


def test_submitits_local_executor_trains_too(cluster, sweep):
    sweep.launch("init=xavier,kaiming", "hydra.launcher.cluster=local", "hydra.launcher.wait=true")
    assert sweep.statuses() == ["finished"] * 2
    assert "2 finished" in sweep.script("status")


def test_submitits_local_executor_cancels_too(cluster, paced):
    paced.env["PACE"] = "1"
    paced.launch("init=xavier", "hydra.launcher.cluster=local")
    cluster.wait_until(paced.reached(1))
    (job,) = paced.jobs()
    assert job in paced.script("cancel")
    cluster.wait_until(lambda: paced.statuses() == ["interrupted"])


def test_ctrl_c_of_a_waiting_launcher_leaves_the_jobs_alone(cluster, paced):
    waiting = paced.start("init=xavier", "hydra.launcher.wait=true")
    cluster.wait_until(paced.reached(3))
    waiting.send_signal(2)
    said = cluster.ended(waiting, code=130)
    assert f"python scripts/cancel.py {paced.home}" in said
    assert f"python scripts/status.py {paced.home}" in said
    cluster.wait_until(paced.finished())
    assert len(paced.records()[0]["attempts"]) == 1


def test_a_waiting_launcher_can_be_started_again(cluster, paced):
    paced.launch("init=xavier")
    said = paced.launch("init=xavier", "hydra.launcher.wait=true")
    assert "in live jobs  1" in said and "submitted" not in said
    assert paced.statuses() == ["finished"]
    assert json.loads((paced.runs()[0] / "record.json").read_bytes())["status"] == "finished"


def test_settings_that_a_run_refuses_are_told(cluster, sweep):
    said = sweep.launch("trainer.max_epochs=1,-1", "hydra.launcher.wait=true", code=1)
    assert "1 finished, 1 failed" in said and "trainer.max_epochs=-1" in said


def test_status_and_cancel_of_what_is_no_sweep(cluster, sweep):
    for script in ("status", "cancel"):
        told = sweep.script(script, code=2)
        assert str(sweep.home) in told and "Traceback" not in told
