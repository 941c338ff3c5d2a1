"""What is edited after a submission changes nothing in the queue."""

import re
import shutil

import pytest
import yaml

pytestmark = pytest.mark.slurm

HOLD = "hydra.launcher.additional_parameters={hold:true}"


@pytest.fixture
def checkout(sweep, tmp_path):
    """A sweep that is started from a copy of the checkout."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("src", "conf", "scripts", "train.py"):
        one = sweep.source / name
        shutil.copytree(one, copy / name) if one.is_dir() else shutil.copy(one, copy)
    sweep.env["PYTHONPATH"] = re.sub(r"^[^:]+", str(copy / "src"), sweep.env["PYTHONPATH"])
    sweep.source = copy
    return sweep


def edit(checkout):
    """Breaks the code, and gives a yaml another value."""
    path = checkout.source / "src" / "sweepwise" / "trainer" / "loop.py"
    path.write_text(f"{path.read_text()}\nraise SystemExit('edited')\n")
    path = checkout.source / "conf" / "data" / "blobs.yaml"
    text = path.read_text()
    path.write_text(re.sub(r"^std: 1\.0", "std: 3.0", text, flags=re.M))
    assert path.read_text() != text


def test_edits_of_code_and_yaml_change_nothing(cluster, checkout):
    checkout.launch("init=xavier", HOLD)
    edit(checkout)
    (job,) = checkout.jobs()
    cluster.ask("scontrol", "release", job)
    cluster.wait_until(checkout.finished())
    config = yaml.safe_load((checkout.runs()[0] / "config.yaml").read_text())
    assert config["data"]["std"] == 1.0


def test_edits_while_a_job_waits_to_be_started_again(cluster, checkout):
    checkout.env["PACE"] = "0.05"
    checkout.launch("init=xavier")
    cluster.wait_until(checkout.reached(10))
    (job,) = checkout.jobs()
    cluster.ask("scancel", "--signal=USR2", job)
    edit(checkout)
    cluster.wait_until(checkout.finished())
    (record,) = checkout.records()
    assert [attempt["status"] for attempt in record["attempts"]] == ["interrupted", "finished"]


def test_without_a_copy_edits_reach_the_queue(cluster, checkout):
    checkout.launch("init=xavier", HOLD, "hydra.launcher.snapshot=false")
    edit(checkout)
    (job,) = checkout.jobs()
    cluster.ask("scontrol", "release", job)
    cluster.wait_until(cluster.is_in(job, "FAILED"))
    assert "edited" in (checkout.logs / f"{job}.0.log").read_text()
