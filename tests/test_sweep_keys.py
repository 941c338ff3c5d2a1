"""Keys that only some of a sweep's options have: set where they are, told where not, refused if nowhere."""

import shlex
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from small import CONF, TINY, TRAIN

from hydra_plugins.sweepwise_plugins import _absent, _compose, _ranges, _tolerate
from hydra_plugins.sweepwise_plugins.grid_sweeper import GridSweeper
from sweepwise import cli
from sweepwise.cli import faults, hooks
from sweepwise.cli.options import of_folder
from sweepwise.errors import UsageError
from sweepwise.store import record
from sweepwise.store.request import Request

SHORT = [*TINY, "monitor=none", "early_stop=none", "trainer.max_steps=2", "progress=false"]


@contextmanager
def composing(words: str):
    hooks.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("train", shlex.split(words), RunMode.MULTIRUN)


def jobs_of(loader, config) -> list[list[str]]:
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    overrides = _ranges.parsed([*params, *task], loader)
    return [job for batch in GridSweeper.split_arguments(overrides, None) for job in batch]


def composed(loader, config, jobs, told: set[tuple[str, str]] | None = None) -> list[Request]:
    found, notes = _compose.requests(loader, config, jobs)
    _absent.print_notes(notes, set() if told is None else told)
    return found


def runs(words: str) -> list[Request]:
    """The runs of a sweep, each once."""
    with composing(words) as (loader, config):
        found = composed(loader, config, jobs_of(loader, config))
    return list({run.id: run for run in found}.values())


def refusal(words: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        runs(words)
    return caught.value.faults


def alone(*overrides: str) -> str:
    """The identity of a run that is asked for by itself."""
    return cli.composed(overrides, CONF).id


def notes(printed: str) -> list[str]:
    """The notes on keys, in whole lines."""
    parts = " ".join(printed.split()).split("keys ")
    return [part.strip() for part in parts if part]


# --- a key of every swept option that the default has not


@pytest.mark.parametrize(
    ("group", "options", "key"),
    [
        ("init", ["xavier", "kaiming"], "init.output_scale=1"),
        ("model", ["gru", "lstm"], "model.width=8"),
        ("optimizer", ["sgd", "rmsprop"], "optimizer.momentum=0.5"),
    ],
)
def test_a_key_of_every_swept_option_is_set_in_every_run(group, options, key, capsys):
    found = runs(f"{group}={','.join(options)} {key}")
    assert [run.id for run in found] == [alone(f"{group}={option}", key) for option in options]
    assert [list(run.overrides) for run in found] == [[f"{group}={option}", key] for option in options]
    assert capsys.readouterr().out == ""


def test_a_value_with_an_interpolation_is_set_too():
    found = runs("init=xavier,kaiming 'init.output_scale=${optimizer.lr}'")
    assert [run.config["init"]["output_scale"] for run in found] == [0.001, 0.001]


# --- a key of some


def test_a_key_is_set_where_it_exists_and_the_other_runs_are_told(capsys):
    found = runs("scheduler=step,cosine scheduler.step_size=7 seed.value=0,1,2")
    assert [list(run.overrides) for run in found] == [
        *(["scheduler=step", "scheduler.step_size=7", f"seed.value={seed}"] for seed in range(3)),
        *(["scheduler=cosine", f"seed.value={seed}"] for seed in range(3)),
    ]
    assert [run.id for run in found] == [alone(*run.overrides) for run in found]
    assert "step_size" not in found[-1].folder.name
    assert notes(capsys.readouterr().out) == [
        "scheduler.step_size=7: for the 3 runs with scheduler=step; "
        "not for scheduler=cosine, which has no such key"
    ]


def test_the_copies_that_a_swept_key_makes_where_it_does_not_apply_are_one_run(capsys):
    found = runs("init=normal,xavier,orthogonal init.std=.05,.1")
    assert [list(run.overrides) for run in found] == [
        ["init=normal", "init.std=0.05"],
        ["init=normal", "init.std=0.1"],
        ["init=xavier"],
        ["init=orthogonal"],
    ]
    assert notes(capsys.readouterr().out) == [
        "init.std=0.05,0.1: for the 2 runs with init=normal; "
        "not for init=xavier and init=orthogonal, which have no such key"
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "regularizer=[l1],[dropout] regularizer.l1.coefficient=1e-3,1e-2",
            [
                ["regularizer=[l1]", "regularizer.l1.coefficient=0.001"],
                ["regularizer=[l1]", "regularizer.l1.coefficient=0.01"],
                ["regularizer=[dropout]"],
            ],
        ),
        (
            "regularizer=none,[l1,dropout] regularizer.dropout.p=0.1",
            [["regularizer=none"], ["regularizer=[l1,dropout]", "regularizer.dropout.p=0.1"]],
        ),
        (  # two keys, each of one option
            "init=normal,xavier init.std=0.1 init.gain=2",
            [["init=normal", "init.std=0.1"], ["init=xavier", "init.gain=2"]],
        ),
        (  # two groups
            "init=normal,xavier scheduler=step,cosine init.std=0.1 scheduler.gamma=0.5",
            [
                ["init=normal", "scheduler=step", "init.std=0.1", "scheduler.gamma=0.5"],
                ["init=normal", "scheduler=cosine", "init.std=0.1"],
                ["init=xavier", "scheduler=step", "scheduler.gamma=0.5"],
                ["init=xavier", "scheduler=cosine"],
            ],
        ),
        (  # values that only Hydra can set
            "init=normal,xavier 'init.std=${optimizer.lr}'",
            [["init=normal", r"init.std=$\{optimizer.lr\}"], ["init=xavier"]],
        ),
        (
            "'init=glob(xavier*)' init.gain=2",
            [["init=xavier", "init.gain=2"], ["init=xavier_uniform", "init.gain=2"]],
        ),
        (
            "'optimizer=choice(sgd,adam)' optimizer.momentum=0.5",
            [["optimizer=sgd", "optimizer.momentum=0.5"], ["optimizer=adam"]],
        ),
    ],
)
def test_keys_of_some_options_of_every_kind(words, expected):
    assert [list(run.overrides) for run in runs(words)] == expected


def conf_with(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"'hydra.searchpath=[file://{folder}]'"


def test_experiments_that_choose_otherwise(tmp_path, capsys):
    path = conf_with(
        tmp_path,
        experiment__a="# @package _global_\ndefaults: [{override /init: normal}]\n",
        experiment__b="# @package _global_\ndefaults: [{override /init: xavier}]\n",
    )
    found = runs(f"{path} experiment=a,b init.std=0.5")
    assert [list(run.overrides) for run in found] == [["experiment=a", "init.std=0.5"], ["experiment=b"]]
    assert [run.config["init"].get("std") for run in found] == [0.5, None]
    assert "for the 1 run with experiment=a; not for experiment=b, which" in notes(capsys.readouterr().out)[0]


def test_what_an_experiment_sweeps_over_counts_as_on_the_command_line(tmp_path, capsys):
    text = (
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: "
        "{init: 'normal,xavier', init.mean: 1, seed.value: '0,1'}}}\n"
    )
    found = runs(f"{conf_with(tmp_path, experiment__mine=text)} experiment=mine init.std=0.5")
    assert [list(run.overrides) for run in found if run.config["seed"]["value"] == 0] == [
        ["init=normal", "init.mean=1", "seed.value=0", "experiment=mine", "init.std=0.5"],
        ["init=xavier", "seed.value=0", "experiment=mine"],
    ]
    told = notes(capsys.readouterr().out)
    assert [line.split(":")[0] for line in told] == ["init.mean=1", "init.std=0.5"]


def test_groups_in_a_group(tmp_path, capsys):
    """model/backbone is there for one model only, and its width for one backbone only."""
    path = conf_with(
        tmp_path,
        model__a="defaults: [backbone: x, _self_]\n_target_: a\n",
        model__b="_target_: b\nhead: 1\n",
        model__backbone__x="width: 1\n",
        model__backbone__y="depth: 1\n",
    )
    found = runs(f"{path} model=a,b model/backbone=x,y model.backbone.width=8,9 model.head=2")
    assert [list(run.overrides) for run in found] == [
        ["model=a", "model/backbone=x", "model.backbone.width=8"],
        ["model=a", "model/backbone=x", "model.backbone.width=9"],
        ["model=a", "model/backbone=y"],
        ["model=b", "model.head=2"],
    ]
    told = {line.split("=")[0]: line for line in notes(capsys.readouterr().out)}
    assert "not for model/backbone=y and model=b" in told["model.backbone.width"]
    assert "not for model=b, which has no such key" in told["model/backbone"]


# --- refused


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "scheduler=step,cosine scheduler.stepsize=7,8 seed.value=0,1",
            "scheduler.stepsize: none of scheduler=step,cosine has such a key; "
            "did you mean 'scheduler.step_size'?",
        ),
        (
            "init=xavier,kaiming init.std=.1,.2",
            "init.std: none of init=xavier,kaiming has such a key; normal and sparse and truncated_normal "
            "have: sweep over init=xavier,kaiming,normal, or leave init.std out",
        ),
        (
            "regularizer=[l2],[dropout] regularizer.l1.coefficient=1,2",
            "regularizer.l1.coefficient: none of regularizer=[l2],[dropout] has such a key; [l1] has: "
            "sweep over regularizer=[l2],[dropout],[l1], or leave regularizer.l1.coefficient out",
        ),
        (
            "init=xavier,kaiming optimizer.lrr=1",
            "optimizer.lrr=1: optimizer=adam has no 'lrr'; did you mean 'lr'?",
        ),
        (
            "regularizer=none,l2,dropout regularizer.l2.coeficient=1 regularizer.dropout.p=0.1,0.2",
            "regularizer.l2.coeficient: none of regularizer=none,l2,dropout has such a key; "
            "did you mean 'regularizer.l2.coefficient'?",
        ),
        (
            "init=xavier seed.value=0,1 init.std=1",
            "init.std=1: init=xavier has no 'std'; normal and sparse and truncated_normal have: "
            "use init=normal, or leave init.std out",
        ),
    ],
)
def test_a_key_that_no_swept_option_has_is_one_line_with_what_would_have_worked(words, told, capsys):
    if "seed.value=0,1 init" in words:  # no group is swept, so Hydra refuses before there are jobs
        with pytest.raises(HydraException) as caught:
            runs(words)
        assert str(cli.refusal(caught.value, words.split())) == told
    else:
        assert refusal(words) == [told]
    assert capsys.readouterr().out == ""


def test_what_a_refusal_advises_works():
    assert len(runs("init=xavier,kaiming,normal init.std=.1,.2")) == 4
    assert len(runs("regularizer=[l2],[dropout],[l1] regularizer.l1.coefficient=1,2")) == 4


def test_a_key_that_is_added_goes_to_every_run_as_in_hydra(capsys):
    for added in ("+init.extra=1", "++init.std=1"):
        key = added.lstrip("+").removeprefix("init.").removesuffix("=1")
        assert [run.config["init"][key] for run in runs(f"init=normal,xavier {added}")] == [1, 1]
    (told,) = refusal("init=normal,xavier +init.std=1")
    assert told.endswith("+init.std=1: is there already; write it without the +")
    assert capsys.readouterr().out == ""


def test_a_single_run_is_still_refused():
    with pytest.raises(UsageError, match="init=xavier has no 'std'"):
        cli.composed(["init=xavier", "init.std=1"], CONF)


def test_a_key_of_swept_options_is_no_fault_beside_another():
    for words in (
        "init=xavier,kaiming init.output_scale=1",
        "regularizer=[l1,dropout] regularizer.l1.coefficient=1",
        "regularizer=l1 regularizer.l1.coefficient=1",
    ):
        told = faults.explain("Hydra's own", [*words.split(), "optimizer.lrr=1"], of_folder(CONF))
        assert told == "optimizer.lrr=1: optimizer=adam has no 'lrr'; did you mean 'lr'?"


def test_what_hydras_own_sweeper_and_launcher_do_not_set_is_told_of_sweeps_alone():
    message = "Could not override 'init.std'."
    told = faults.explain(message, ["init=normal,xavier", "init.std=1"], of_folder(CONF))
    assert told.startswith("init.std: not every swept option has such a key; hydra/sweeper=grid or")
    assert faults.explain(message, ["init=normal", "init.std=1"], of_folder(CONF)) == message


# --- sweepers and launchers of others, batches


def test_a_loader_composes_the_jobs_of_other_sweepers_alike(capsys):
    with composing("init=normal,xavier init.std=.05") as (loader, config):
        _tolerate.tolerate(loader, config, tell=True)
        for options in (["init=normal"], ["init=xavier"], ["init=xavier", "seed.value=1"]):
            job = loader.load_sweep_config(config, [*options, "init.std=0.05"])
            kept = [*options, "init.std=0.05"] if "init=normal" in options else options
            assert job.hydra.overrides.task == kept
        with pytest.raises(HydraException):
            loader.load_sweep_config(config, ["init=xavier", "init.stdd=0.05"])
        del loader.load_sweep_config
    assert notes(capsys.readouterr().out) == ["init.std=0.05: not for init=xavier, which has no such key"]


def test_options_that_a_sweeper_of_others_has_drawn_count_as_swept(capsys):
    with composing("") as (loader, config):
        jobs = [["init=normal", "init.std=0.1"], ["init=xavier", "init.std=0.1"]]
        found = composed(loader, config, jobs)
    assert [list(run.overrides) for run in found] == [jobs[0], ["init=xavier"]]


def test_a_batch_knows_the_options_of_the_whole_sweep_and_each_is_told_once(capsys):
    told: set[tuple[str, str]] = set()
    with composing("init=xavier,normal init.std=1 hydra.sweeper.max_batch_size=1") as (loader, config):
        jobs = jobs_of(loader, config)
        found = [composed(loader, config, [job], told)[0] for job in [*jobs, *jobs]]
    assert [list(run.overrides) for run in found[:2]] == [["init=xavier"], ["init=normal", "init.std=1"]]
    assert notes(capsys.readouterr().out) == ["init.std=1: not for init=xavier, which has no such key"]


def test_ten_options_with_a_thousand_values_are_composed_once_each(monkeypatch):
    values = ",".join(str(number / 1000) for number in range(1, 501))
    with composing(f"scheduler=step,cosine scheduler.gamma={values}") as (loader, config):
        calls, own = [], loader.load_sweep_config
        monkeypatch.setattr(loader, "load_sweep_config", lambda *given: calls.append(given) or own(*given))
        found = composed(loader, config, jobs_of(loader, config))
    assert len(found) == 1000 and len({run.id for run in found}) == 501 and len(calls) == 2


# --- as commands


@pytest.fixture
def command(empty_folder, whole_errors, as_command):
    return partial(as_command, TRAIN)


def test_a_command_trains_each_run_once_and_counts_it_once(command):
    code, out, err = command("-m", *SHORT, "init=normal,xavier", "init.std=.05,.1")
    assert (code, err) == (0, "")
    assert notes(out.partition("sweep ")[0]) == [
        "init.std=0.05,0.1: for the 2 runs with init=normal; not for init=xavier, which has no such key"
    ]
    assert "outputs/main: 3 runs: 3 finished" in out
    found = {folder.name: record.read(folder)["overrides"] for folder in Path("outputs/main").glob("*-*")}
    assert len(found) == 3
    (plain,) = (name for name in found if "init=xavier" in name)
    assert "init.std" not in plain and "init.std" not in "".join(found[plain])


def test_the_commands_that_an_answer_advises_compose_and_train_the_same_settings(command):
    shown = [word for word in SHORT if word != "progress=false"]
    code, out, err = command("-m", *shown, "init=normal,xavier", "init.std=.05,.1", "init.output_scale=1")
    assert (code, err) == (0, "")
    advised = [shlex.split(line)[4:] for line in out.splitlines() if line.startswith("next ")]
    assert len(advised) == 2
    found = [run for words in advised for run in runs(shlex.join(words))]
    inits = {str(run.config["init"]) for run in found}
    before = [record.read(folder)["overrides"] for folder in Path("outputs/main").glob("*-*")]
    assert inits == {str(cli.composed(overrides, CONF).config["init"]) for overrides in before}
    assert len(inits) == 3


@pytest.mark.slow
def test_a_new_process_tells_once_in_batches(empty_folder):
    """It composes the first batch in another process, while it imports torch."""
    arguments = [*SHORT, "init=xavier,normal,kaiming", "init.std=.1", "hydra.sweeper.max_batch_size=1"]
    done = subprocess.run([sys.executable, TRAIN, "-m", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("not for init=xavier, which") == 1 == done.stdout.count("not for init=kaiming")
    assert done.stdout.count("no such key") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "sweeper"), [("local", "basic"), ("basic", "grid"), ("basic", "basic")])
def test_other_launchers_and_sweepers(launcher, sweeper, command):
    chosen = [f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}"]
    code, out, err = command("-m", *SHORT, "init=normal,xavier", "init.std=.05,.1", *chosen)
    if (launcher, sweeper) == ("basic", "basic"):  # none of ours is asked
        assert code == 2 and err.startswith("error: init.std: not every swept option has such a key")
        return
    assert (code, err) == (0, "")
    assert len(list(Path("outputs/main").glob("*-*"))) == 3
    assert out.count("no such key") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("optimizer.lr=interval(0.1,0.2)", "a grid has lists, no intervals; write optimizer.lr=0.1,0.2 or"),
        ("seed.value=0,1 hydra/sweeper=ax", "pip install hydra-ax-sweeper"),
        ("seed.value=0,1 hydra/launcher=joblib", "write hydra/launcher=local hydra.launcher.max_parallel=2"),
        (
            "seed.value=0,1 hydra/launcher=submitit_slurm",
            "write hydra/launcher=slurm hydra.launcher.partition=NAME",
        ),
        ("seed.value=range(0,3,0)", "the step of a range must not be 0"),
        ("optimizer.lr=range(0,inf,1)", "must be finite"),
    ],
)
def test_sweepers_launchers_and_values_that_are_not_there_are_told_with_a_line_to_write(
    arguments, told, command
):
    code, out, err = command("-m", *SHORT, *arguments.split())
    assert (code, out) == (2, "") and told in err and len(err.splitlines()) == 1
    assert not Path("outputs").exists()


def test_what_is_written_instead_of_an_interval_works():
    with composing("'optimizer.lr=interval(0.1,0.2)'") as (loader, config):
        fault = _interval_fault(loader, config)
    ways = [
        shlex.split(way)[0] for way in fault.partition("write ")[2].partition(", or draw")[0].split(" or ")
    ]
    assert [len(runs(shlex.quote(way))) for way in ways] == [2, 4]


def _interval_fault(loader, config) -> str:
    from hydra_plugins.sweepwise_plugins._sweeper import refuse_intervals

    with pytest.raises(UsageError) as refused:
        refuse_intervals(_ranges.parsed(config.hydra.overrides.task, loader), "a grid")
    (fault,) = refused.value.faults
    return fault
