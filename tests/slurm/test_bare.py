"""A cluster without accounting: what the controller says is enough."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm


def test_a_waiting_launcher_sees_how_every_run_ends(bare_cluster, tmp_path):
    sweep = bare_cluster.sweep(tmp_path)
    fates = "+regularizer.paced.fate=fine,raise,die"
    said = sweep.launch(fates, "hydra.launcher.wait=true", code=1)
    died = sweep.jobs()[2]
    for told in (said, sweep.script("status", code=1)):
        assert "1 finished" in told and "2 failed" in told and "the part has raised" in told
        assert re.search(rf"^failed +\S+\s+\(job {died}: FAILED n[12]\)$", told, re.M), told


def test_cancelled_jobs_are_seen_to_be_cancelled(bare_cluster, tmp_path):
    sweep = bare_cluster.sweep(tmp_path, "0.05")
    sweep.launch("seed.value=0,1", "hydra.launcher.array_parallelism=1")
    bare_cluster.wait_until(sweep.reached(5))
    said = sweep.script("cancel")
    assert all(job in said for job in sweep.jobs())
    bare_cluster.wait_until(lambda: "2 interrupted" in sweep.script("status"))


def test_requeued_and_ended(bare_cluster, tmp_path):
    sweep = bare_cluster.sweep(tmp_path, "0.05")
    waiting = sweep.start("init=xavier", "hydra.launcher.wait=true")
    bare_cluster.wait_until(sweep.reached(5))
    bare_cluster.ask("scancel", "--signal=USR2", *sweep.jobs())
    assert "1 finished" in bare_cluster.ended(waiting)
    assert len(sweep.records()[0]["attempts"]) == 2


def test_jobs_that_the_controller_has_forgotten(bare_cluster, tmp_path):
    sweep = bare_cluster.sweep(tmp_path)
    sweep.launch("+regularizer.paced.fate=fine,raise", "hydra.launcher.wait=true", code=1)
    before = sweep.jobs()
    bare_cluster.forget()
    assert not set(before) & bare_cluster.states().keys()
    told = sweep.script("status", code=1)
    assert "1 finished" in told and "1 failed" in told
    sweep.launch("+regularizer.paced.fate=fine,raise", "hydra.launcher.wait=true", code=1)
    assert len(sweep.jobs()) == 3


def test_a_controller_that_does_not_answer(bare_cluster, tmp_path):
    sweep = bare_cluster.sweep(tmp_path)
    sweep.launch("init=xavier", "hydra.launcher.wait=true")
    config = tmp_path / "slurm.conf"
    here = Path(sweep.env["SLURM_CONF"]).read_text()
    config.write_text(re.sub(r"^SlurmctldHost=.*", "SlurmctldHost=nobody(198.18.0.250)", here, flags=re.M))
    sweep.env["SLURM_CONF"] = str(config)
    for name in ("status", "cancel"):
        told = sweep.script(name, code=1)
        assert "Slurm does not answer" in told and "Traceback" not in told
    told = sweep.launch("init=xavier,kaiming", code=1)
    assert "Slurm does not answer" in told and "Traceback" not in told
    assert len(sweep.jobs()) == 1
