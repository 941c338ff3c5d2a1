"""Keys of Hydra's that say where to write: refused with the way out, before anything is made."""

from pathlib import Path

import commands
import pytest
from hydra import compose, initialize_config_dir
from small import CONF, ROOT, TRAIN

from sweepwise import cli
from sweepwise.cli import guard
from sweepwise.errors import UsageError

RUN = [TRAIN, "data=wine", "trainer.max_steps=2", "trainer.device=cpu", "progress=false"]


def faults(*overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        cli.composed(overrides, CONF)
    return caught.value.faults


KEYS = [
    ("hydra.run.dir=there", "output_dir=there"),
    ("hydra.sweep.dir=a/there", "output_dir=a name=there"),
    ("hydra.sweep.dir=there", "output_dir=. name=there"),
    ("hydra.sweep.dir='a b/c d'", "'output_dir=\"a b/c d\"'"),
    ("hydra.run.dir='outputs/${now:%Y}'", "output_dir=FOLDER name=NAME"),
    ("hydra.run.dir=/", "output_dir=FOLDER name=NAME"),
    ("hydra.sweep.subdir='${hydra.job.override_dirname}'", "output_dir=FOLDER name=NAME"),
    ("hydra.output_subdir=.mine", "output_dir=FOLDER name=NAME"),
    ("hydra.job.chdir=true", "output_dir=FOLDER name=NAME"),
    ("hydra.runtime.output_dir=there", "output_dir=FOLDER name=NAME"),
    ("hydra.job.name=mine", "name=mine"),
    ("hydra.job.config.override_dirname.exclude_keys=[seed.value]", "output_dir=FOLDER name=NAME"),
    ("hydra.job.config.override_dirname.kv_sep=':'", "output_dir=FOLDER name=NAME"),
]


@pytest.mark.parametrize("override, way_out", KEYS)
def test_a_script_refuses_it_in_one_line_with_the_way_out(override, way_out):
    (fault,) = faults(override)
    key, _, value = override.partition("=")
    assert fault.startswith(f"{key}=") and value.strip("'[]") in fault and "has no effect" in fault
    assert way_out in fault


SAME = [
    "hydra.run.dir=.",
    "hydra.run.dir=./",
    "hydra.sweep.dir=outputs/main",
    "hydra.sweep.dir='${output_dir}/main'",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra.job.chdir=false",
    "hydra.job.config.override_dirname.item_sep=','",
]


@pytest.mark.parametrize("override", SAME)
def test_what_we_have_ourselves_passes(override):
    assert cli.composed([override], CONF).id == cli.composed([], CONF).id


def test_other_programs_in_the_process_write_where_they_like(tmp_path):
    guard.install()
    silent = "defaults:\n  - override hydra/job_logging: none\n  - override hydra/hydra_logging: none\n"
    (tmp_path / "other.yaml").write_text(f"{silent}model: 1\nhydra:\n  run:\n    dir: there\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose("other", return_hydra_config=True).hydra.run.dir == "there"


def started(folder: Path, *arguments: object) -> tuple[int, str, str]:
    done = commands.run([*RUN, *arguments], cwd=folder)
    return done.returncode, done.stderr, done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["hydra.run.dir=there"],
        ["-m", "seed.value=0,1", "hydra.sweep.dir=there"],
        ["-m", "seed.value=0,1", "hydra.sweep.subdir=there"],
        ["-m", "seed.value=0,1", "hydra.sweep.dir=there", "hydra/launcher=basic"],
        ["hydra.output_subdir=there"],
    ],
)
def test_a_command_ends_with_exit_code_2_and_makes_nothing(arguments, tmp_path):
    code, errors, output = started(tmp_path, *arguments)
    assert (code, output) == (2, "") and errors.count("\n") == 1
    assert errors.startswith(f"error: {arguments[-1] if 'basic' not in arguments[-1] else arguments[2]}: ")
    assert list(tmp_path.iterdir()) == []


def test_the_way_out_of_a_message_works_when_it_is_pasted(tmp_path):
    _, errors, _ = started(tmp_path, "-m", "seed.value=0", "hydra.sweep.dir=a/there")
    words = errors.rpartition("; ")[2].split()[:2]
    assert started(tmp_path, "-m", "seed.value=0", *words)[0] == 0
    assert len([*(tmp_path / "a" / "there").glob("*/record.json")]) == 1


@pytest.mark.parametrize("sweep", [[], ["-m", "seed.value=0,1"]])
def test_an_experiment_that_says_it_is_refused(sweep, tmp_path):
    (tmp_path / "experiment").mkdir()
    lines = "# @package _global_\nhydra:\n  run:\n    dir: there\n  sweep:\n    dir: there/too\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(lines)
    chosen = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"]
    code, errors, _ = started(tmp_path, *sweep, *chosen)
    assert code == 2
    assert [line.partition(": ")[2].partition("=")[0] for line in errors.splitlines()] == [
        "hydra.run.dir",
        "hydra.sweep.dir",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["experiment"]


def test_one_of_several_swept_experiments_that_says_it_stops_the_sweep(tmp_path):
    (tmp_path / "experiment").mkdir()
    for name, lines in {"good": "optimizer: {lr: 0.1}", "odd": "hydra: {run: {dir: there}}"}.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{lines}\n")
    code, errors, _ = started(tmp_path, "-m", f"hydra.searchpath=[file://{tmp_path}]", "experiment=good,odd")
    assert code == 2 and "hydra.run.dir=there: has no effect" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["experiment"]


OWN = "defaults:\n  - train\n  - _self_\nhydra:\n  run:\n    dir: there\n"


def test_a_primary_config_of_ones_own_that_says_it_is_refused(tmp_path):
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "mine.yaml").write_text(OWN)
    code, errors, _ = started(tmp_path, f"--config-dir={conf}", "--config-name=mine")
    assert code == 2 and errors.startswith("error: hydra.run.dir=there: has no effect")
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_a_primary_config_that_says_nothing_of_it_makes_no_folder_of_hydras(tmp_path):
    text = (ROOT / "conf" / "train.yaml").read_text().partition("\n# Folders follow")[0]
    assert "hydra:\n" not in text
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "mine.yaml").write_text(text)
    code, errors, _ = started(tmp_path, f"--config-dir={conf}", "--config-name=mine")
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "outputs"]
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir() if path.name[0] != ".") == ["main"]
    code, errors, _ = started(tmp_path, "-m", "seed.value=5", f"--config-dir={conf}", "--config-name=mine")
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "outputs"]


def test_names_that_the_config_itself_uses_pass(tmp_path):
    code, errors, _ = started(tmp_path, "hydra.job.name=mine", "name=${hydra:job.name}")
    assert (code, errors) == (0, "")
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["mine"]
