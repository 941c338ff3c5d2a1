"""A key that no part of a run reads is refused, from wherever it comes."""

import commands
import pytest
from small import CONF, TINY, TRAIN
from test_compose import composing

from hydra_plugins.sweepwise_plugins import _compose as compose
from sweepwise import cli, run
from sweepwise.errors import UsageError
from sweepwise.sweep.cluster.settings import ClusterSettings
from sweepwise.sweep.local.launch import LocalSettings

UNREAD = {
    "+foo=1": "foo: unknown; there is seed, data, model",
    "+nam=x": "nam: unknown; did you mean 'name'?",
    "+optimzer.lr=1": "optimzer: unknown; did you mean 'optimizer'?",
    "+lr=0.1": "lr: unknown; did you mean optimizer.lr?",
    "+note.x=1": "note: unknown",
    "+x.y=${optimizer.lr}": "x: unknown",
    "++foo=1": "foo: unknown",
    "+hydra.job.foo=1": "hydra.job.foo: unknown",
    "+hydra.foo=1": "hydra.foo: unknown",
}
OF_A_GROUP = {
    "+trainer.x=1": "trainer.x: unknown",
    "+seed.x=1": "seed.x: unknown",
    "+checkpoint.x=1": "checkpoint.x: unknown",
    "+monitor.x=1": "monitor.x: unknown",
    "+regularizer.foo=1": "regularizer.foo: has no _target_",
    "+regularizer.l1.coefficient=1": "regularizer.l1: has no _target_; if it is an option, add",
    "model=linear +model.bias=false": "model.bias=false: has no effect with model.hidden=[]",
    "model.hidden=[] model.norm=batch": "model.norm=batch: has no effect with model.hidden=[]",
    "scheduler=cosine +scheduler.metric=val/loss": "scheduler.metric=val/loss: must be left out",
    "scheduler=plateau +scheduler.end=3": "scheduler.end=3: must be null",
    "scheduler=plateau scheduler.per=step": "scheduler.per=step: must be epoch",
}
THERE = {
    "+optimizer.lr=1": "+optimizer.lr=1: is there already; write it without the +",
    "regularizer=l1 +regularizer.l1.coefficient=1": "is there already; write it without the +",
}


def refusal(overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        run.build(cli.composed(["data=wine", *overrides.split()], CONF))
    return str(caught.value)


@pytest.mark.parametrize("overrides", [*UNREAD, *OF_A_GROUP, *THERE])
def test_a_key_that_nothing_reads_is_refused(overrides):
    assert (UNREAD | OF_A_GROUP | THERE)[overrides] in refusal(overrides)


@pytest.mark.parametrize("key", [key for key in UNREAD if "hydra" not in key])
def test_a_sweep_refuses_the_same_keys(key):
    with composing() as (loader, config), pytest.raises(UsageError) as caught:
        compose.requests(loader, config, [[key, f"seed.value={seed}"] for seed in (0, 1)])
    (fault,) = caught.value.faults
    assert fault.startswith(UNREAD[key])


def test_a_key_that_others_are_made_of_is_read():
    words = ["+rate=0.03", "optimizer.lr=${rate}"]
    assert cli.composed(words, CONF).config["optimizer"]["lr"] == 0.03
    with composing() as (loader, config):
        jobs = [[f"+rate={rate}", "optimizer.lr=${rate}", "seed.value=1"] for rate in (0.03, 0.04)]
        rates = [request.config["optimizer"]["lr"] for request in compose.requests(loader, config, jobs)[0]]
    assert rates == [0.03, 0.04]


@pytest.mark.parametrize("several", [[], ["-m", "seed.value=0,1"]])
def test_the_command_ends_with_2_and_leaves_no_folder(tmp_path, several):
    ended = commands.run([TRAIN, *several, *TINY, f"output_dir={tmp_path}/out", "+foo=1"], cwd=tmp_path)
    assert ended.returncode == 2 and "error: foo: unknown" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_key_of_an_experiment_that_nothing_reads_is_refused(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\nlearning_rate: 0.1\n")
    words = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"]
    with pytest.raises(UsageError, match=r"^learning_rate: unknown"):
        cli.composed(words, CONF)


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        ("init=kaiming init.a=0.2", "init.a=0.2: has no effect with init.nonlinearity=relu"),
        (
            "optimizer=sgd optimizer.momentum=0 optimizer.dampening=0.1",
            "optimizer.dampening=0.1: has no effect",
        ),
        (
            "scheduler=cyclic +scheduler.gamma=0.9",
            "scheduler.gamma=0.9: has no effect with scheduler.mode=triangular; leave it out, or use "
            "scheduler.mode=exp_range",
        ),
        (
            "scheduler=wsd scheduler.decay_fraction=0 scheduler.end_factor=0.1",
            "scheduler.end_factor=0.1: has no",
        ),
    ],
)
def test_an_option_that_another_leaves_without_effect_is_noted(overrides, note):
    words = ["data=wine", "early_stop=none", *overrides.split()]
    notes = run.build(cli.composed(words, CONF)).notes
    assert [text for text in notes if note in text]


@pytest.mark.parametrize(
    "overrides",
    [
        "model=linear",
        "model.hidden=[]",
        "model.hidden=[4] model.norm=batch",
        "init=kaiming init.a=0.2 init.nonlinearity=leaky_relu",
        "optimizer=sgd optimizer.dampening=0.1",
        "scheduler=cyclic +scheduler.gamma=0.9 scheduler.mode=exp_range",
    ],
)
def test_an_option_that_is_read_needs_no_note(overrides):
    words = ["data=wine", "early_stop=none", *overrides.split()]
    assert not [text for text in run.build(cli.composed(words, CONF)).notes if "no effect" in text]


def test_a_share_for_a_test_part_that_the_set_has_is_refused():
    assert "data.test=0.3: has no effect, as mnist1d has its own" in refusal("data=mnist1d +data.test=0.3")
    assert not run.build(cli.composed(["data=wine", "data.test=0.3"], CONF)).notes


@pytest.mark.parametrize("settings", [LocalSettings, ClusterSettings])
def test_the_size_of_groups_is_refused_where_there_are_none(settings):
    with pytest.raises(UsageError, match=r"group_size=8: has no effect with fuse=false"):
        settings(fuse=False, group_size=8)
    assert settings(fuse=False, group_size=None) and settings(group_size=8)


@pytest.mark.parametrize("key", ["hydra.launcher.max_parallel=2", "hydra.sweeper.max_batch_size=2"])
def test_a_key_of_sweeps_is_refused_for_a_single_run(as_command, empty_folder, key):
    told = f"error: {key}: is for the runs of a sweep; add -m to the command\n"
    assert as_command(TRAIN, *TINY, key) == (2, "", told)
    assert not list(empty_folder.iterdir())
    assert as_command(TRAIN, "--cfg", "job", key)[0] == 0  # which trains nothing


@pytest.mark.parametrize("word", ["hydra/launcher=slurm", "hydra/sweeper=racing"])
def test_a_launcher_or_a_search_is_refused_for_a_single_run(as_command, word):
    told = f"error: {word}: trains the runs of a sweep; add -m to the command\n"
    assert as_command(TRAIN, *TINY, word) == (2, "", told)
