"""Flags of sbatch by name: those that sweepwise sets are refused with their key, others written clearly."""

import math
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sweepwise.cli import guard
from sweepwise.config.schema import filled
from sweepwise.errors import UsageError
from sweepwise.sweep.cluster import flags
from sweepwise.sweep.cluster.settings import ClusterSettings


def settings(**given) -> ClusterSettings:
    return filled("hydra.launcher", given, ClusterSettings)


def flags_of(**given) -> dict:
    return settings(additional_parameters=given).slurm()["additional_parameters"]


def refusal(**given) -> str:
    with pytest.raises(UsageError) as caught:
        settings(**given)
    (fault,) = caught.value.faults
    return fault


def read(text: str) -> object:
    guard.install()
    return OmegaConf.to_container(OmegaConf.create(text))


OWNED = {
    "time": ("1:30:00", "timeout_min=90"),
    "signal": ("B:USR1@120", "signal_delay_s=120"),
    "mem": ("4G", "mem_gb=4"),
    "array": ("0-9%4", "array_parallelism=4"),
    "ntasks-per-node": (4, "tasks_per_node=4"),
    "ntasks": (4, "is set by hydra.launcher.tasks_per_node; leave it out"),
    "partition": ("gpu", "partition=gpu"),
    "qos": ("high", "qos=high"),
    "account": ("lab", "account=lab"),
    "constraint": ("a100&ib", """'hydra.launcher.constraint="a100&ib"'"""),
    "nodes": (1, "nodes=1"),
    "cpus-per-task": (8, "cpus_per_task=8"),
    "cpus_per_task": (8, "cpus_per_task=8"),
    "gpus-per-node": ("a100:4", "gpus_per_node=a100:4"),
    "gres": ("gpu:2", "gres=gpu:2"),
    "exclude": ("n1", "exclude=n1"),
    "nodelist": ("n1", "nodelist=n1"),
    "exclusive": (True, "exclusive=true"),
    "dependency": ("afterok:17", "dependency=afterok:17"),
    "comment": ("two words", """'hydra.launcher.comment="two words"'"""),
    "part": ("gpu", "partition=gpu"),
    "tim": (5, "timeout_min=5"),
}


@pytest.mark.parametrize("flag", OWNED)
def test_a_flag_of_ours_is_refused_with_its_key(flag):
    value, remedy = OWNED[flag]
    fault = refusal(additional_parameters={flag: value})
    shown = "true" if value is True else value  # 1 is not true
    assert fault.startswith(f"hydra.launcher.additional_parameters.{flag}={shown}: is set by hydra.launcher.")
    assert fault.endswith(remedy)


@pytest.mark.parametrize("flag", [flag for flag, (_, remedy) in OWNED.items() if "leave" not in remedy])
def test_the_remedy_works_when_pasted(flag):
    value, _ = OWNED[flag]
    (word,) = shlex.split(refusal(additional_parameters={flag: value}).rpartition("and use ")[2])
    override = OverridesParser.create().parse_override(word)
    key = override.key_or_group.removeprefix("hydra.launcher.")
    assert settings(**{key: override.value()})


@pytest.mark.parametrize(
    "flag", ["job-name", "output", "error", "open_mode", "chdir", "parsable", "quiet", "wait", "wrap", "job"]
)
def test_a_flag_that_no_key_sets_is_refused_with_the_reason(flag):
    assert "is set by sweepwise, as" in refusal(additional_parameters={flag: "x"})


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("0:30", 1),
        ("1:30:00", 90),
        ("1-0", 24 * 60),
        ("1-2:30", 26.5 * 60),
        ("1-2:30:01", math.ceil(26.5 * 60 + 1 / 60)),
    ],
)
def test_times_of_slurm_in_minutes(text, minutes):
    assert refusal(additional_parameters={"time": text}).endswith(f"hydra.launcher.timeout_min={minutes:g}")


@pytest.mark.parametrize(("text", "gib"), [("4G", "4"), ("512M", "0.5"), ("2048", "2"), ("1T", "1024")])
def test_memory_of_slurm_in_gib(text, gib):
    assert refusal(additional_parameters={"mem": text}).endswith(f"hydra.launcher.mem_gb={gib}")


def test_a_time_in_a_yaml_is_a_text_and_no_number_to_base_60():
    assert refusal(**read("additional_parameters: {time: 1:30:00}")) == (
        "hydra.launcher.additional_parameters.time=1:30:00: is set by hydra.launcher.timeout_min; "
        "leave it out, and use hydra.launcher.timeout_min=90"
    )
    assert read("{begin: 16:00, deadline: 2:30.5}") == {"begin": "16:00", "deadline": "2:30.5"}
    assert read("[5400, 1.5, 1e-3, -3, true, null]") == [5400, 1.5, 1e-3, -3, True, None]
    assert "timeout_min=1:30:00: must be a whole number" in refusal(**read("timeout_min: 1:30:00"))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"mail_type": ["FAIL", "END"]}, {"mail-type": "FAIL,END"}),
        ({"begin": "16:00"}, {"begin": "16:00"}),
        ({"hold": True}, {"hold": True}),
        ({"hold": False, "mail-user": None}, {}),
        ({"gpus": 3, "mem-per-cpu": "2G"}, {"gpus": 3, "mem-per-cpu": "2G"}),
    ],
)
def test_other_flags_are_written_as_sbatch_reads_them(given, written):
    assert flags_of(**given) == {"requeue": True, **written}


def test_false_takes_a_flag_of_ours_away():
    assert flags_of(requeue=False) == {}


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"mail-type": {"a": 1}}, "must be true, a text, a number or a list"),
        ({"mail-type": [["a"]]}, "must be true, a text, a number or a list"),
        ({"--mail-type": "FAIL"}, "must be named by a long flag"),
        ({"x y": 1}, "must be named by a long flag"),
    ],
)
def test_what_cannot_be_written_is_refused(given, rule):
    assert rule in refusal(additional_parameters=given)


@pytest.mark.parametrize(
    "argument", ["--kill-on-bad-exit=0", "-K0", "--output=x", "-n4", "--ntasks=4", "-N2"]
)
def test_arguments_of_srun_that_are_ours_are_refused(argument):
    assert (
        refusal(srun_args=[argument])
        == f"hydra.launcher.srun_args={argument}: is set by sweepwise; leave it out"
    )
    assert settings(srun_args=["--mpi=none", "--cpu-bind=cores"])


def test_flags_in_the_setup_which_sbatch_does_not_read_are_refused():
    assert "use hydra.launcher.additional_parameters" in refusal(setup=["#SBATCH --mail-type=FAIL"])


def test_variables_that_override_our_flags_are_refused():
    assert flags.environment_faults({"SBATCH_ACCOUNT": "lab", "PATH": "/bin"}) == []
    (fault,) = flags.environment_faults({"SBATCH_TIMELIMIT": "5"})
    assert fault == (
        "SBATCH_TIMELIMIT=5: would override what sweepwise sets (hydra.launcher.timeout_min); start with: "
        "env -u SBATCH_TIMELIMIT python train.py"
    )
