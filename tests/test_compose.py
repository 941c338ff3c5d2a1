"""Jobs of a sweep composed together are what Hydra would compose, one by one."""

import random
import time
from contextlib import contextmanager

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from small import CONF

from hydra_plugins.sweepwise_plugins import _compose as compose
from sweepwise import cli
from sweepwise.cli import guard, hooks
from sweepwise.errors import UsageError

# Overrides of every kind: choices, values, lists, strings, nothing, what others depend on, what is appended.
CHOICES = {
    "data": ["digits", "wine", "table"],
    "init": ["xavier", "checkpoint", "orthogonal"],
    "scheduler": ["constant", "cosine", "onecycle", "linear", "polynomial", "other"],
    "optimizer": ["adam", "sgd", "other"],
    "regularizer": ["none", "l1", "[l1,dropout]", "[]"],
    "early_stop": ["none", "patience"],
    "experiment": ["init", "schedule"],
}
VALUES = [
    *("seed.value=0", "seed.value=7", "seed.data=3", "seed.data=null", "seed.noise=${seed.value}"),
    *("optimizer.lr=0.1", "optimizer.lr=1e-3", "optimizer.lr=null", "optimizer.betas=[0.9,0.99]"),
    *("optimizer.lr=${seed.value}", "+optimizer.amsgrad=true", "++optimizer.lr=0.5", "optimizer.lrr=1"),
    *("scheduler.warmup=5", "scheduler.end=3", "scheduler.T_max=7", "scheduler.total_iters=9"),
    *("scheduler.max_lr=0.3", "+scheduler._target_=torch.optim.lr_scheduler.StepLR", "~scheduler.warmup"),
    *(
        "model.hidden=[8]",
        "model.hidden=[]",
        "model.hidden=8",
        "model.activation='tanh'",
        "model={hidden: [3]}",
    ),
    *("regularizer.l1.coefficient=0.5", "regularizer.dropout.rate=0.1", "trainer.metrics=[accuracy,ece]"),
    *("trainer.max_steps=null", "trainer.class_weights=[1,2,3]", "trainer.max_epochs='3'", "trainer.ema=a b"),
    *(
        "data.path=x.csv",
        "data.path=???",
        "init.path='a=b, c'",
        "fresh=true",
        "name=other",
        "name=../no",
        "seed=5",
    ),
    *(
        "trainer={ema: 0.5}",
        "trainer.ema={a: 1}",
        "trainer.nothing.at.all=1",
        "early_stop=5",
        "+name=x",
        "a b=1",
    ),
    *(
        "name=${data.validation}",
        "model.hidden=[1,'${seed.value}']",
        "hydra.verbose=true",
        "seed.value='${name}'",
    ),
    *("trainer.metrics.x=1", "trainer.max_epochs=${oc.decode:'3'}", "trainer.device='${hydra:job.num}'"),
]


@contextmanager
def composing(*overrides: str):
    guard.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("train", list(overrides), RunMode.MULTIRUN)


def drawn(draw: random.Random) -> list[str]:
    chosen = [
        f"{group}={draw.choice(CHOICES[group])}" for group in draw.sample(sorted(CHOICES), draw.randint(0, 3))
    ]
    job = chosen + draw.sample(VALUES, draw.randint(0, 4))
    draw.shuffle(job)
    return job


def by_hydra(loader, config, job, number):
    """The run, or its faults."""
    try:
        return compose._Composer(loader, config)._by_hydra(job, number)
    except UsageError as error:
        return error.faults


def at_once(loader, config, jobs):
    composer = compose._Composer(loader, config)
    for number, job in enumerate(jobs):
        try:
            yield composer.request(job, number)
        except UsageError as error:
            yield error.faults


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
def test_jobs_composed_together_are_what_hydra_composes(seed):
    with composing() as (loader, config):
        draw = random.Random(seed)
        jobs = [drawn(draw) for _ in range(60 if seed else 8)]
        for number, found in enumerate(at_once(loader, config, jobs)):
            assert found == by_hydra(loader, config, jobs[number], number), jobs[number]


@pytest.mark.slow
def test_choices_that_are_independent_are_composed_once_each(monkeypatch):
    jobs = [
        [
            f"init={init}",
            f"scheduler={schedule}",
            f"optimizer={optimizer}",
            f"seed.value={seed}",
            "optimizer.lr=0.02",
        ]
        for init in ("xavier", "kaiming", "orthogonal")
        for schedule in ("step", "cosine", "plateau")
        for optimizer in ("adam", "sgd")
        for seed in (0, 1)
    ]
    with composing() as (loader, config):
        expected = [by_hydra(loader, config, job, number) for number, job in enumerate(jobs)]
        calls, own = [], loader.load_sweep_config
        monkeypatch.setattr(loader, "load_sweep_config", lambda *given: calls.append(given) or own(*given))
        assert list(at_once(loader, config, jobs)) == expected
    assert len(calls) == 1 + 2 + 2 + 1


def test_a_choice_that_reaches_into_another_group_is_left_to_hydra(tmp_path):
    """An option with defaults of its own, as an experiment has them."""
    group = tmp_path / "init"
    group.mkdir()
    (group / "mine.yaml").write_text("defaults: [xavier, _self_]\ngain: 3.0\n")
    (group / "other.yaml").write_text("# @package _global_\ntrainer: {max_epochs: 7}\ninit: {a: 1}\n")
    path = f"hydra.searchpath=[file://{tmp_path}]"
    jobs = [
        [f"init={init}", f"scheduler={schedule}", f"optimizer={optimizer}"]
        for init in ("xavier", "mine", "other")
        for schedule in ("step", "cosine")
        for optimizer in ("adam", "sgd")
    ]
    with composing(path) as (loader, config):
        expected = [by_hydra(loader, config, job, number) for number, job in enumerate(jobs)]
        assert list(at_once(loader, config, jobs)) == expected


def test_they_are_what_a_single_run_composes():
    jobs = [
        ["init=xavier", f"seed.value={seed}", "regularizer=[l1,dropout]", "optimizer.lr=0.5"]
        for seed in (0, 3)
    ]
    with composing() as (loader, config):
        found, _ = compose.requests(loader, config, jobs)
    assert found == [cli.composed(job, CONF) for job in jobs]
    assert found[1].config["seed"]["data"] == 3 and found[0].config["seed"]["data"] == 0
    found[0].config["model"]["hidden"].append(1)  # nothing is shared
    assert found[1].config["model"]["hidden"] != found[0].config["model"]["hidden"]


def test_what_depends_on_a_swept_value_follows_it():
    with composing("scheduler=onecycle") as (loader, config):
        jobs = [["scheduler=onecycle", f"optimizer.lr={rate}"] for rate in (0.1, 0.2)]
        found, _ = compose.requests(loader, config, jobs)
    assert [run.config["scheduler"]["max_lr"] for run in found] == [0.1, 0.2]


def test_the_number_of_a_job_is_known_to_it():
    with composing() as (loader, config):
        jobs = [["seed.value=${hydra:job.num}"]] * 2
        found, _ = compose.requests(loader, config, jobs, first=5)
    assert [run.config["seed"]["value"] for run in found] == [5, 6]


def test_all_faults_are_told_each_once():
    jobs = [["init=xavierr", f"seed.value={seed}"] for seed in range(3)]
    jobs += [["seed.value=3"], ["optimizer.lrr=1"], ["data=table"], ["name=../x"]]
    with composing() as (loader, config), pytest.raises(UsageError) as caught:
        compose.requests(loader, config, jobs)
    first, second, third, fourth = caught.value.faults
    assert first.startswith("run 0 (init=xavierr,seed.value=0) and 2 more runs: init=xavierr: no such option")
    assert second.startswith("run 4 (optimizer.lrr=1): optimizer.lrr=1: ") and "did you mean 'lr'?" in second
    assert third == "run 5 (data=table): data.path: must be given"
    assert fourth.startswith("run 6 (name=../x): name=../x: must consist of letters")


def test_a_fault_of_all_runs_names_none_of_them():
    assert compose.gathered([("run 0", "a"), ("run 1", "a"), ("run 1", "b")], 2) == ["a", "run 1: b"]
    assert compose.gathered([("run 0", "a"), ("run 2", "a")], 3) == ["run 0 and 1 more run: a"]
    assert compose.gathered([], 3) == []


def cpu_of(jobs: list[list[str]]) -> float:
    with composing() as (loader, config):
        began = time.process_time()
        assert len(compose.requests(loader, config, jobs)[0]) == len(jobs)
        return time.process_time() - began


def test_a_thousand_jobs_take_a_few_seconds():
    jobs = [
        [f"init={init}", f"scheduler={schedule}", f"seed.value={seed}", f"optimizer.lr={seed * 1e-4}"]
        for init in ("xavier", "kaiming")
        for schedule in ("cosine", "onecycle")
        for seed in range(250)
    ]
    assert cpu_of(jobs) < 5


@pytest.mark.slow
def test_a_thousand_faulty_jobs_take_a_few_seconds():
    jobs = [[f"optimizer.lrr={number % 10}", f"seed.value={number}"] for number in range(1000)]
    with composing() as (loader, config):
        began = time.process_time()
        with pytest.raises(UsageError) as caught:
            compose.requests(loader, config, jobs)
        assert time.process_time() - began < 10
    assert len(caught.value.faults) == 10


@pytest.mark.slow
def test_ten_thousand_jobs_take_less_than_a_minute():
    assert (
        cpu_of(
            [[f"init={init}", f"seed.value={seed}"] for init in ("xavier", "zeros") for seed in range(5000)]
        )
        < 60
    )


@pytest.mark.parametrize("more", [(), ("init=xavier,kaiming",), ("hydra/launcher=slurm",)])
def test_what_hydra_composes_for_the_mode_is_what_it_composes_for_the_sweep(more):
    """It is composed once, and equal to what another loader composes anew."""
    hooks.install()
    overrides = ["data=blobs", "seed.value=0,1", *more]

    def composed(loader, words, **options):
        return loader.load_configuration("train", words, RunMode.MULTIRUN, **options)

    first, other = (ConfigLoaderImpl(create_config_search_path(str(CONF))) for _ in range(2))
    asked = composed(first, overrides, validate_sweep_overrides=False)
    swept = composed(first, [*overrides, "hydra.mode=MULTIRUN"])
    assert swept is asked and swept == composed(other, [*overrides, "hydra.mode=MULTIRUN"])
    assert composed(first, [*overrides, "hydra.mode=MULTIRUN"]) is not asked
