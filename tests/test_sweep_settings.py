"""The keys of hydra.launcher for a cluster."""

import pytest
import yaml
from small import CONF
from submitit.slurm.slurm import _make_sbatch_string

from sweepwise.config.schema import filled
from sweepwise.errors import UsageError
from sweepwise.sweep.cluster.settings import ClusterSettings


def settings(given):
    return filled("hydra.launcher", given, ClusterSettings)


FOLDER = CONF / "hydra" / "launcher"


def sbatch(**given):
    return _make_sbatch_string(command="work", folder="/logs", **settings(given).slurm()).splitlines()


def test_the_yaml_says_what_the_code_does():
    told = yaml.safe_load((FOLDER / "slurm.yaml").read_text())
    del told["_target_"]
    assert told == {key: list(v) if isinstance(v, tuple) else v for key, v in vars(ClusterSettings()).items()}


def test_the_yaml_to_copy_has_no_other_keys():
    told = yaml.safe_load((FOLDER / "slurm_gpu.yaml").read_text())
    assert (
        told.pop("defaults") == ["slurm"]
        and told["required"] == ["partition"]
        and told.keys() <= vars(ClusterSettings()).keys()
    )


@pytest.mark.parametrize(
    ("key", "value", "flag"),
    [
        ("timeout_min", 90, "--time=90"),
        ("partition", "gpu", "--partition=gpu"),
        ("qos", "high", "--qos=high"),
        ("account", "lab", "--account=lab"),
        ("constraint", "a100&ib", "--constraint='a100&ib'"),
        ("nodes", 2, "--nodes=2"),
        ("tasks_per_node", 4, "--ntasks-per-node=4"),
        ("cpus_per_task", 8, "--cpus-per-task=8"),
        ("gpus_per_node", 4, "--gpus-per-node=4"),
        ("gpus_per_node", "a100:4", "--gpus-per-node=a100:4"),
        ("gres", "gpu:2", "--gres=gpu:2"),
        ("mem_gb", 1.5, "--mem=1536M"),
        ("exclude", "n[1-2]", "--exclude='n[1-2]'"),
        ("nodelist", "n1", "--nodelist=n1"),
        ("exclusive", True, "--exclusive"),
        ("dependency", "afterok:17", "--dependency=afterok:17"),
        ("comment", "two words", "--comment='two words'"),
        ("signal_delay_s", 30, "--signal=USR2@30"),
        ("additional_parameters", {"mail_type": "FAIL"}, "--mail-type=FAIL"),
        ("additional_parameters", {"requeue": False, "no-requeue": True}, "--no-requeue"),
    ],
)
def test_each_key_becomes_a_flag_of_sbatch(key, value, flag):
    assert f"#SBATCH {flag}" in sbatch(**{key: value})


def test_null_leaves_it_to_the_cluster():
    flags = {line.split("=")[0].split()[1] for line in sbatch() if line.startswith("#SBATCH")}
    expected = {"--job-name", "--time", "--nodes", "--ntasks-per-node", "--signal", "--requeue"}
    assert flags == expected | {"--output", "--error", "--open-mode"}


def test_one_process_that_dies_ends_the_others():
    assert any("--kill-on-bad-exit=1 --mpi=none" in line for line in sbatch(srun_args=["--mpi=none"]))


def test_lines_after_a_job_do_not_hide_its_exit_code():
    assert settings({"setup": ["module load cuda"], "teardown": ["echo 'by'", "true"]}).lines == [
        """trap 'echo '"'"'by'"'"'; true' EXIT""",
        "module load cuda",
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"partion": "gpu"}, "hydra.launcher.partion: unknown; there is .*partition"),
        ({"timeout_min": 0}, "hydra.launcher.timeout_min=0: must be in"),
        ({"timeout_min": "1:00"}, "hydra.launcher.timeout_min=1:00: must be a whole number"),
        ({"cluster": "pbs"}, "hydra.launcher.cluster=pbs: must be one of slurm, local"),
        ({"mem_gb": 0}, "hydra.launcher.mem_gb=0"),
        ({"wait": "yes"}, "hydra.launcher.wait=yes: must be true or false"),
        ({"setup": "module load"}, "hydra.launcher.setup=module load: must be a list"),
        ({"additional_parameters": ["x"]}, "hydra.launcher.additional_parameters"),
        ({"required": ["partition", "qos"], "qos": "high"}, "^hydra.launcher.partition: must be given$"),
        ({"runs_per_job": 2, "nodes": 2}, "hydra.launcher.runs_per_job=2: must be 1"),
    ],
)
def test_what_cannot_be(given, told):
    with pytest.raises(UsageError, match=told):
        settings(given)


def test_all_faults_at_once():
    with pytest.raises(UsageError) as raised:
        settings({"a": 1, "nodes": 0, "poll_s": 0})
    assert len(raised.value.faults) == 3
