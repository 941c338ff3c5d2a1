"""The command line: what it answers, what it leaves behind and with which code it ends.

Most commands run in this process, through train.py as Python would run it; what concerns time, signals and
imports gets a process of its own.
"""

import contextlib
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import commands
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from small import CONF, ENVIRONMENT, ROOT, TINY, TRAIN, composed, option_of

from sweepwise import parts, run, trainer
from sweepwise.cli import checks, faults, options
from sweepwise.errors import UsageError
from sweepwise.run import group
from sweepwise.run import single as single_module
from sweepwise.store import claim, record
from sweepwise.store.status import current_status

SMALL = [*TINY, "monitor=none"]
SHORT = [*SMALL, "early_stop=none", "trainer.max_epochs=2"]

pytestmark = pytest.mark.usefixtures("empty_folder", "whole_errors")


@pytest.fixture
def command(as_command):
    return partial(as_command, TRAIN)


def folders() -> list[Path]:
    return sorted(path.parent for path in Path("outputs").glob("*/*/record.json"))


def lines_of(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]  # a last line without an end is being written


def builds(*overrides: str) -> parts.Parts:
    return run.build(composed(*overrides))


# --- what is refused

# arguments, what the answer says, and arguments that the answer advises, which must work
REFUSED = {
    "unknown key": ("optimizer.lrr=0.1", ["optimizer.lrr=0.1", "did you mean 'lr'?"], "optimizer.lr=0.1"),
    "unknown group": ("optimiser.lr=0.1", ["optimiser.lr=0.1", "did you mean 'optimizer'?"], ""),
    "unknown group with option": ("inits=xavier", ["inits=xavier", "did you mean 'init'?"], "init=xavier"),
    "unknown option": ("init=xavir", ["init=xavir", "did you mean 'xavier'?", "kaiming"], "init=xavier"),
    "unknown top key": ("nam=x", ["nam=x", "did you mean 'name'?"], "name=x"),
    "seed without value": ("seed=3", ["seed=3", "write seed.value=3"], "seed.value=3"),
    "seeds without value": ("seed=range(5)", ["seed=range(5)", "write -m 'seed.value=range(5)'"], ""),
    "a list of seeds": ("seed=[1,2]", ["seed=[1,2]", "write -m 'seed.value=1,2'"], ""),
    "option of another kind": ("init=3", ["init=3", "no such option", "xavier"], ""),
    "key of another option": (
        "early_stop=none early_stop.patience=3",
        ["early_stop.patience=3", "early_stop=none has no 'patience'", "early_stop=patience"],
        "early_stop=patience early_stop.patience=3",
    ),
    "key of a class that is named": (
        "scheduler=other scheduler._target_=torch.optim.swa_utils.SWALR scheduler.swa_lr=0.1",
        [
            "scheduler.swa_lr=0.1: keys that belong to the _target_ of scheduler=other",
            ": +scheduler.swa_lr=0.1",
        ],
        "scheduler=other scheduler._target_=torch.optim.swa_utils.SWALR +scheduler.swa_lr=0.1",
    ),
    "key of a scheduler not chosen": (
        "scheduler.gamma=0.5",
        ["scheduler.gamma=0.5", "scheduler=constant has no 'gamma'", "scheduler=exponential"],
        "scheduler=exponential scheduler.gamma=0.5",
    ),
    "key of a regularizer not chosen": (
        "regularizer.l1.coefficient=1",
        ["regularizer.l1.coefficient=1", "add regularizer=l1"],
        "regularizer=l1 regularizer.l1.coefficient=1",
    ),
    "key of a regularizer beside those chosen": (
        "regularizer=[l2,dropout] regularizer.l1.coefficient=1",
        ["regularizer.l1.coefficient=1", "is not chosen; write regularizer=[l2,dropout,l1]"],
        "regularizer=[l2,dropout,l1] regularizer.l1.coefficient=1",
    ),
    "key of a regularizer beside the one chosen": (
        "regularizer=l2 regularizer.l1.coefficient=1",
        ["regularizer.l1.coefficient=1", "is not chosen; write regularizer=[l2,l1]"],
        "regularizer=[l2,l1] regularizer.l1.coefficient=1",
    ),
    "no key": ("=1", ["=1: must begin with a key"], ""),
    "regularizer without its key": (
        "regularizer=[l2,dropout] regularizer.l1=0.1",
        ["regularizer.l1=0.1: must name one of its keys, as in regularizer.l1.coefficient=VALUE"],
        "regularizer=[l1,dropout] regularizer.l1.coefficient=0.1",
    ),
    "regularizer of none in a list": (
        "regularizer=[none] regularizer.l1.coefficient=1",
        ["add regularizer=l1 to the command"],
        "",
    ),
    "key of a chosen regularizer added": (
        "regularizer=[l1,dropout] +regularizer.l1.coefficient=0.1",
        ["is there already; write it without the +: regularizer.l1.coefficient=0.1"],
        "regularizer=[l1,dropout] regularizer.l1.coefficient=0.1",
    ),
    "regularizer without option": ("regularizer.coefficient=1", ["regularizer.OPTION.KEY", "l1", "l2"], ""),
    "unknown regularizer in a list": ("regularizer=[l1,droput]", ["droput", "did you mean 'dropout'?"], ""),
    "key without its group": ("lr=0.1", ["lr=0.1", "optimizer.lr=0.1"], "optimizer.lr=0.1"),
    "word for a number": ("seed.value=abc", ["seed.value=abc", "whole number", "[0, 4294967295]"], ""),
    "fraction for a whole number": ("trainer.max_epochs=1.5", ["trainer.max_epochs=1.5", "whole"], ""),
    "word for a truth": ("fresh=perhaps", ["fresh=perhaps", "true or false"], "fresh=true"),
    "list too short": ("optimizer.betas=[0.9]", ["optimizer.betas=[0.9]", "2 values"], ""),
    "negative rate": ("optimizer.lr=-5", ["optimizer.lr=-5", "[0, inf)"], ""),
    "negative seed": ("seed.value=-1", ["seed.value=-1", "[0, 4294967295]"], ""),
    "large seed": ("seed.value=4294967296", ["seed.value=4294967296", "[0, 4294967295]"], ""),
    "no epochs": ("trainer.max_epochs=0", ["trainer.max_epochs=0", "[1, inf)"], ""),
    "infinite rate": ("optimizer.lr=inf", ["optimizer.lr=inf", "finite"], ""),
    "rate that is no number": ("optimizer.lr=nan", ["optimizer.lr=nan", "finite"], ""),
    "rate past float64": ("optimizer.lr=1e400", ["optimizer.lr=", "finite"], ""),
    "no rate": ("optimizer.lr=null", ["optimizer.lr=null", "a number"], ""),
    "missing value": ("optimizer.lr=???", ["optimizer.lr"], ""),
    "unknown interpolation": ("optimizer.lr=${rate}", ["optimizer.lr", "rate"], ""),
    "open bracket": ("optimizer.betas=[0.9", ["optimizer.betas=[0.9"], ""),
    "group removed": ("~model", ["model", "must be one of its options"], ""),
    "group null": ("model=null", ["model=null", "no such option", "mlp"], ""),
    "key removed": ("~optimizer.lr", ["optimizer.lr"], ""),
    "setting removed": ("~name", ["name", "must be given"], ""),
    "key added": ("+optimizer.speed=3", ["optimizer.speed", "unknown"], ""),
    "name with a path": ("name=../x", ["name=../x", "must not be a path"], "name=x"),
    "absolute name": ("name=/x", ["name=/x", "must not be a path"], ""),
    "name of dots": ("name=..", ["name=..", "must not be a path"], ""),
    "empty name": ("name=", ["name=", "letters"], ""),
    "patience above the epochs": (
        "early_stop.patience=5 trainer.max_epochs=5",
        ["early_stop.patience=5", "below the 5 epochs", "early_stop=none"],
        "early_stop=none trainer.max_epochs=5",
    ),
    "warm-up above the total": (
        "scheduler.warmup=100 trainer.max_epochs=20",
        ["scheduler.warmup=100", "shorter than the training of 20 epochs"],
        "scheduler.warmup=19 trainer.max_epochs=20",
    ),
    "metric never logged": (
        "early_stop.metric=val/f1",
        ["early_stop.metric=val/f1", "never logged", "val/accuracy"],
        "early_stop.metric=val/accuracy",
    ),
    "metric of the test part": ("early_stop.metric=test/loss", ["test/loss", "never logged"], ""),
    "metric of the plateau never logged": (
        "scheduler=plateau scheduler.metric=val/r2",
        ["scheduler.metric=val/r2", "never logged", "val/accuracy"],
        "",
    ),
    "metric of another task": (
        "data=diabetes early_stop.metric=val/accuracy",
        ["early_stop.metric=val/accuracy", "val/r2"],
        "data=diabetes early_stop.metric=val/r2",
    ),
    "batch above the data": (
        "data=wine data.batch_size=108",
        ["data.batch_size=108", "107 training examples"],
        "data=wine data.batch_size=107",
    ),
    "fraction out of range": ("data.validation=1", ["data.validation=1", "[0, 1)"], ""),
    "nothing left to train on": ("data.validation=0.5 data.test=0.5", ["data.validation=0.5"], ""),
    "no such device": ("trainer.device=foo", ["trainer.device=foo", "cannot be used here"], ""),
    "dropout without its layers": (
        "model=linear regularizer=dropout",
        ["regularizer=dropout", "no dropout layer"],
        "",
    ),
    "dropout twice": (
        "model.dropout=0.2 regularizer=dropout",
        ["regularizer.dropout.p=0.5", "0.2", "one of the two"],
        "model.dropout=0.2",
    ),
    "decay twice": (
        "optimizer=adamw regularizer=weight_decay",
        ["optimizer.weight_decay=0.01", "must be 0 with regularizer=weight_decay"],
        "optimizer=adamw optimizer.weight_decay=0 regularizer=weight_decay",
    ),
    "a batch of one for batch norm": (
        "data=wine data.batch_size=53 model.norm=batch",
        ["data.batch_size=53", "last batch of 1 example"],
        "data=wine data.batch_size=54 model.norm=batch",
    ),
    "foreign target": ("model._target_=os.system", ["model._target_=os.system"], ""),
    "no value": ("optimizer", ["optimizer", "KEY=VALUE"], ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named_with_its_rule_and_leaves_no_folder(case, command, empty_folder):
    arguments, told, way_out = REFUSED[case]
    code, out, err = command(*arguments.split())
    assert code == 2, err
    lines = err.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines), err
    assert len(lines) <= 4 and "Traceback" not in err
    for words in told:
        assert words in err
    assert not list(empty_folder.iterdir())
    assert out == ""
    if way_out:
        builds(*way_out.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is answered without a GPU")
def test_a_gpu_that_is_not_there(command, empty_folder):
    code, _, err = command("trainer.device=cuda")
    assert code == 2 and "error: trainer.device=cuda: cannot be used here" in err
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (
            ["optimizer.lr=-5", "seed.init=abc", "trainer.max_epochs=0"],
            ["optimizer.lr", "seed.init", "trainer.max_epochs"],
        ),
        (["optimizer.lrr=1", "modl.hidden=[3]", "lr=1"], ["optimizer.lrr", "modl.hidden", "lr"]),
        (["init=xavir", "scheduler=cosin", "seed=3"], ["init", "scheduler", "seed"]),
        (["name=../x", "~model"], ["model"]),
        (
            ["early_stop.metric=val/f1", "early_stop.patience=99"],
            ["early_stop.metric", "early_stop.patience"],
        ),
    ],
    ids=["values", "keys", "options", "removed", "together"],
)
def test_several_faults_are_told_at_once(arguments, keys, command, empty_folder):
    code, _, err = command("trainer.max_epochs=9", *arguments)
    assert code == 2
    for key in keys:
        assert any(line.startswith(f"error: {key}") for line in err.splitlines()), err
    assert not list(empty_folder.iterdir())


def test_a_path_that_hydra_cannot_read_is_shown_with_its_quotes(command, empty_folder):
    path = "outputs/main/init=xavier__seed=0-01234567/checkpoints/best/weights.safetensors"
    quoted = f'init.path="{path}"'
    code, out, err = command("init=checkpoint", f"init.path={path}")
    assert (code, out) == (2, "") and quoted in err
    code, _, err = command("init=checkpoint", quoted)
    assert code == 2 and err.startswith(f"error: init.path={path}: ") and "No such file" in err
    assert not list(empty_folder.iterdir())


def test_a_fault_is_told_once_although_other_seeds_follow_it(command):
    _, _, err = command("seed.value=abc")
    assert err.count("error: seed.value=abc") == 1


def test_explain_finds_the_override_at_fault_among_right_ones():
    confs = options.of_folder(CONF)
    told = faults.explain("Hydra's own", ["init=xavier", "optimizer.lr=1", "optimizer.lrr=0.1"], confs)
    assert told.splitlines() == ["optimizer.lrr=0.1: optimizer=adam has no 'lrr'; did you mean 'lr'?"]
    assert faults.explain("Hydra's own", ["init=xavier", "hydra.verbose=true"], confs) == "Hydra's own"


def test_the_shape_of_a_config_is_checked_before_anything_else():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", []), resolve=True)
    checks.check_shape(config)
    broken = {**config, "model": None, "fresh": 1, "name": "a/b"}
    del broken["seed"], broken["progress"]
    with pytest.raises(UsageError) as refused:
        checks.check_shape(broken)
    told = [fault.split(":")[0].split("=")[0] for fault in refused.value.faults]
    assert sorted(told) == ["fresh", "model", "progress", "seed"]
    for name in ("a/b", "..", ".", "", "a b", "ä", "x.", "a\n"):
        with pytest.raises(UsageError):
            checks.check_shape({**config, "name": name})
    for name in ("main", "a.b", "2024-01-01", 7, "lr=0.1", ".hidden"):
        checks.check_shape({**config, "name": name})


# --- what is answered


def test_a_run_says_what_it_does_in_a_few_lines(command):
    code, out, err = command(*SMALL, "early_stop=none", "trainer.max_epochs=40")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    shown = [line for line in lines if line.startswith("epoch ")]
    assert len(lines) - len(shown) <= 15 and 5 <= len(shown) <= 12
    (folder,) = folders()
    found = record.read(folder)
    assert any(line.startswith("finished") and "step 279" in line for line in lines)
    assert any(line.split() == ["folder", str(folder)] for line in lines)
    best = found["best"]
    assert any(line.startswith("best") and f"epoch {best['epoch']} " in line for line in lines)
    assert any(line.split() == ["weights", f"{folder}/{record.BEST_WEIGHTS}"] for line in lines)
    assert (folder / record.BEST_WEIGHTS).exists()
    assert any("tensorboard --logdir outputs" in line for line in lines)
    assert all("val/loss" in line and "lr 0.001" in line for line in shown)
    rates = {line["epoch"]: line["val/loss"] for line in lines_of(folder)}
    assert f"val/loss {rates[0]:.4g}" in shown[0]


def test_no_progress_if_none_is_wanted(command):
    code, out, _ = command(*SHORT, "progress=false")
    assert code == 0 and "epoch    " not in out and "finished" in out


def test_a_finished_run_is_not_trained_again_unless_it_shall_be(command):
    command(*SHORT)
    (folder,) = folders()
    before = (folder / "metrics.jsonl").stat().st_mtime_ns
    first = record.read(folder)
    code, out, err = command(*SHORT)
    assert (code, err) == (0, "") and "finished before" in out and "fresh=true" in out
    assert f"best          val/loss {first['best']['value']:.6g}" in out
    assert (folder / "metrics.jsonl").stat().st_mtime_ns == before and record.read(folder) == first
    code, out, _ = command(*SHORT, "fresh=true")
    assert code == 0 and "finished before" not in out
    assert folders() == [folder]
    assert (folder / "metrics.jsonl").stat().st_mtime_ns > before
    again = record.read(folder)
    assert again["best"] == first["best"] and again["id"] == first["id"]


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_has_not_ended_is_trained(status, command):
    command(*SHORT)
    (folder,) = folders()
    path = folder / "record.json"
    path.write_text(json.dumps(record.read(folder) | {"status": status, "best": None}))
    code, out, _ = command(*SHORT)
    assert code == 0 and "before" not in out
    assert record.read(folder)["status"] == "finished"


def test_the_same_run_is_known_under_another_way_of_asking(command):
    command(*SHORT)
    code, out, _ = command(*SHORT, "optimizer.lr=0.001", "monitor=default", "progress=false")
    assert code == 0 and "finished before" in out and len(folders()) == 1
    code, out, _ = command(*SHORT, "optimizer.lr=0.002")
    assert code == 0 and "before" not in out and len(folders()) == 2


def test_a_run_that_stops_early_is_a_success(command):
    stop = ["early_stop.patience=1", "early_stop.min_delta=100", "trainer.max_epochs=9"]
    code, out, _ = command(*SMALL, *stop)
    assert code == 0 and "stopped early" in out
    code, out, _ = command(*SMALL, *stop)
    assert code == 0 and "stopped early before" in out


def test_a_diverged_run_is_a_failure_with_a_record(command):
    wild = [*SMALL, "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=20"]
    code, out, _ = command(*wild)
    assert code == 1
    (folder,) = folders()
    found = record.read(folder)
    assert found["status"] == "diverged" and "learning rate 1e+30" in found["reason"]
    assert any(line.startswith("diverged") and "1e+30" in line for line in out.splitlines())
    assert found["best"]["value"] is None and found["best"]["epoch"] == -1
    code, out, _ = command(*wild)
    assert code == 1 and "diverged before" in out


def test_a_folder_that_cannot_be_written_is_named(command, empty_folder):
    (empty_folder / "file").write_text("")
    code, _, err = command(*SHORT, "output_dir=file")
    assert code == 1 and err.startswith("error: ") and "file" in err and "Traceback" not in err


def test_a_run_that_another_process_trains_is_refused(command):
    command(*SHORT)
    (folder,) = folders()
    with claim.claim_folder(folder):
        code, _, err = command(*SHORT, "fresh=true")
    assert code == 1 and f"is being trained by process {os.getpid()}" in err


# --- sweeps


def test_a_sweep_trains_every_combination_in_folders_of_their_own(command):
    code, _, err = command("-m", *SHORT, "seed.value=0,1", "init=xavier,default")
    assert (code, err) == (0, "")
    names = [folder.name for folder in folders()]
    assert len(names) == 4
    for seed in (0, 1):
        assert sum(f"seed={seed}-" in name for name in names) == 2
        assert sum(name.startswith("init=xavier__data=wine__") for name in names) == 2
    found = [record.read(folder) for folder in folders()]
    assert {entry["status"] for entry in found} == {"finished"}
    assert len({entry["id"] for entry in found}) == len({entry["best"]["value"] for entry in found}) == 4
    assert {path.name for path in Path("outputs/main").iterdir() if path.is_dir()} == {
        ".shared",
        ".sweep",
        *names,
    }


@pytest.mark.parametrize("rates", ["-1,0.1", "0.1,-1"])
def test_a_bad_run_of_a_sweep_does_not_stop_the_others(rates, command):
    code, _, err = command("-m", *SHORT, f"optimizer.lr={rates}")
    assert code == 2
    (folder,) = folders()
    assert "optimizer.lr=0.1" in folder.name and record.read(folder)["status"] == "finished"
    assert err.count("refused") == 1 and "optimizer.lr=-1" in err.split("refused")[1].split("\n")[0]
    assert err.count("error: optimizer.lr=-1: must be in [0, inf)") == 1
    assert "Traceback" not in err


def test_a_run_that_fails_of_itself_does_not_stop_the_others(command, monkeypatch):
    fit = trainer.fit

    def fail_first(*arguments):
        if arguments[3][0].order_seed == 0:
            raise OSError(28, "No space left on device")
        fit(*arguments)

    for home in (single_module, group):
        monkeypatch.setattr(home, "fit", fail_first)
    code, _, err = command("-m", *SHORT, "seed.value=0,1")
    assert code == 1 and "No space left on device" in err
    assert sorted(record.read(folder)["status"] for folder in folders()) == ["failed", "finished"]


# --- help


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_group_option_and_key(flag, command, empty_folder):
    code, out, err = command(flag)
    assert (code, err) == (0, "") and not list(empty_folder.iterdir())
    sections = {
        part.splitlines()[0].removesuffix(":"): part
        for part in out.split("\n\n")
        if part.splitlines()[0].endswith(":")
    }
    defaults = {}
    for name in ("train", "_hydra"):
        for entry in yaml.safe_load((CONF / f"{name}.yaml").read_text())["defaults"]:
            defaults |= entry if isinstance(entry, dict) else {}
    defaults["hydra/launcher"] = defaults["override /hydra/launcher"]
    paths = sorted([*CONF.glob("*/*.yaml"), *CONF.glob("hydra/launcher/*.yaml")])
    assert set(sections) == {str(path.parent.relative_to(CONF)) for path in paths} | {"experiment"}
    for path in paths:
        group, option = str(path.parent.relative_to(CONF)), path.stem
        words = [line.split() for line in sections[group].splitlines()[1:] if not line.startswith("    ")]
        mark = ["*", option] if defaults.get(group) == option else [option]
        assert any(line[: len(mark)] == mark and len(line) > len(mark) for line in words), path
        for key in option_of(path) if group != "experiment" else ():
            assert key in ("_target_", "defaults") or f"{key}=" in sections[group], (path, key)
    for key in ("name=", "output_dir=", "fresh=", "progress=", "mean_runs="):
        assert key in out
    assert max(map(len, out.splitlines())) <= 120


def test_help_explains_a_group_or_an_option(command, empty_folder):
    code, group, err = command("--help", "init")
    assert (code, err) == (0, "")
    options = sorted(path.stem for path in (CONF / "init").glob("*.yaml"))
    headings = ["init:", *(f"init={o}" for o in options)]
    assert [line for line in group.splitlines() if line and line[0] != " "] == headings
    assert (
        command("--help", "scheduler=cosine", "early_stop=none")[1]
        .split("\n\n")[1]
        .startswith("early_stop=none")
    )
    for path in sorted(CONF.glob("*/*.yaml")):
        code, out, err = command(f"{path.parent.name}={path.stem}", "--help")
        told = [line.strip() for line in out.splitlines()]
        said = [line for line in path.read_text().splitlines() if line.strip()]
        hidden = [line for line in said if line.startswith(("_target_:", "# @package"))]
        assert [line.strip() for line in said if line not in hidden] == [line for line in told[1:] if line], (
            path
        )
        assert not set(hidden) & set(told)
    both = "\n\n".join(command("--help", f"regularizer={one}")[1].strip() for one in ("l1", "dropout"))
    for several in ("regularizer=[l1,dropout]", "regularizer=l1,dropout"):
        assert command("--help", several)[1].strip() == both
    alone = command("--help", "scheduler=step")[1]
    assert command("--help", "scheduler=step", "scheduler.gamma=0.5")[1] == alone
    for wrong, hint in [
        ("init=xavierr", "init=xavierr: no such option; did you mean 'xavier'?"),
        ("regularizer=[l1,dropoot]", "regularizer=dropoot: no such option; did you mean 'dropout'?"),
        ("schedular", "--help schedular: no such group; did you mean 'scheduler'?"),
        ("optimizer.lr", "--help optimizer.lr: no such group; did you mean 'optimizer'?"),
    ]:
        code, out, err = command("--help", wrong)
        assert (code, out) == (2, "") and hint in err
    assert not list(empty_folder.iterdir())


def test_help_may_be_cut_short():
    line = f"set -o pipefail; {shlex.quote(sys.executable)} {shlex.quote(TRAIN)} --help | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("python train.py")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("init=xav", {"init=xavier", "init=xavier_uniform"}), ("optimizer.l", {"optimizer.lr="})],
)
def test_the_shell_completes_groups_options_and_keys(typed, offered):
    line = f"python train.py {typed}"
    environment = {**ENVIRONMENT, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run(
        [sys.executable, TRAIN, "-sc", "query=bash"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and set(done.stdout.split()) == offered


def test_the_flag_of_a_sweep_may_stand_anywhere(command):
    code, _, err = command(*SHORT, "seed.value=0,1", "-m")
    assert (code, err) == (0, "") and len(folders()) == 2


def test_examples_of_the_help_work(command):
    _, out, _ = command("--help")
    shown = [line.split("  ")[1] for line in out.splitlines() if line.startswith("  python train.py")]
    assert len(shown) >= 3
    for line in shown:
        arguments = [word.strip("'") for word in line.split()[2:] if word != "-m"]
        single = [argument for argument in arguments if "," not in argument or "[" in argument]
        builds(*[argument for argument in single if "range(" not in argument])


# --- processes


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("arguments", ["optimizer.lrr=0.1", "optimizer.lr=-5", "seed=3"])
def test_an_answer_takes_less_than_five_seconds(arguments, empty_folder):
    before = cpu_seconds()  # of the processor, as the machine may be busy with other things
    done = subprocess.run(
        [sys.executable, TRAIN, *arguments.split()],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
    )
    assert cpu_seconds() - before < 5
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stdout == ""
    assert not list(empty_folder.iterdir())


def test_a_finished_run_is_recognised_without_torch(command):
    command(*SHORT)
    told = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", told, TRAIN, *SHORT], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "finished before" in done.stdout and done.stdout.splitlines()[-1] == "False"


def test_help_needs_no_torch():
    told = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']; runpy.run_path(sys.argv[0], "
        "run_name='__main__'); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", told, TRAIN], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False"


@contextlib.contextmanager
def started(*arguments: str):
    process = commands.popen([TRAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def validated() -> bool:
    return any(sum("val/loss" in line for line in lines_of(folder)) >= 3 for folder in folders())


APART = ["hydra.launcher.max_parallel=1", "hydra.launcher.fuse=false"]
LONG = [*SMALL, "early_stop=none", "trainer.max_epochs=20000", "progress=false"]


@pytest.mark.parametrize("library", ["hydra", "omegaconf"])
def test_ctrl_c_during_the_imports_ends_as_later(library, tmp_path):
    """What Python raises then, while one of them is loaded."""
    (tmp_path / f"{library}.py").write_text("raise KeyboardInterrupt")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    done = subprocess.run([sys.executable, TRAIN], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.usefixtures("written_soon")
@pytest.mark.parametrize(
    "sent, code, sweep",
    [
        (signal.SIGINT, 130, False),
        pytest.param(signal.SIGTERM, 143, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, True, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_with_its_best_weights_on_disk(sent, code, sweep):
    arguments = ["-m", *LONG, "seed.value=0,1", *APART] if sweep else LONG
    with started(*arguments) as process:
        wait_for(validated, process)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in err
    (folder,) = folders()  # the second run of a sweep does not begin
    found = record.read(folder)
    assert found["status"] == "interrupted" and found["reason"].startswith("after step")
    where = f"at epoch {found['stopped']['epoch']}, step {found['stopped']['step']}, "
    assert re.search(rf"interrupted +{where}[0-9.]+ s\n", out) or sweep
    epochs = [line for line in lines_of(folder) if "val/loss" in line]
    losses = [line["val/loss"] for line in epochs]
    assert (found["best"]["value"], found["best"]["epoch"]) == (min(losses), losses.index(min(losses)))
    assert found["stopped"]["step"] >= epochs[-1]["step"]
    assert f"after step {found['stopped']['step']}" == found["reason"]
    from safetensors.torch import load_file

    built = builds(*LONG)
    built.model.load_state_dict(load_file(folder / record.BEST_WEIGHTS))
    with torch.no_grad():
        outputs = built.model.eval()(built.data.validation.x)
    loss = torch.nn.functional.cross_entropy(outputs, built.data.validation.y)
    assert loss.item() == pytest.approx(min(losses), rel=1e-5)
    assert (folder / "checkpoints" / "last" / "weights.safetensors").exists()


@pytest.mark.slow
def test_a_killed_run_frees_its_folder(command):
    with started(*LONG) as process:
        wait_for(validated, process)
        (folder,) = folders()
        code, _, err = command(*LONG)
        assert code == 1 and f"is being trained by process {process.pid}" in err
        process.kill()
        process.wait()
        assert record.read(folder)["status"] == "running"
        assert current_status(folder) == "interrupted"
        claim.claim_folder(folder).release()
