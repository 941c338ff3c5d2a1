"""Whatever value a key is given: it is taken, or refused in one line with exit code 2."""

import inspect
import json

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from small import CONF, TRAIN

from hydra_plugins.sweepwise_plugins import _compose as compose
from sweepwise import run
from sweepwise.cli import guard, options
from sweepwise.config import groups
from sweepwise.config.schema import filled
from sweepwise.data import download
from sweepwise.errors import Failure, UsageError
from sweepwise.run.from_config import ENVELOPES
from sweepwise.store.request import Request, folder_name
from sweepwise.sweep.cluster.settings import ClusterSettings
from sweepwise.sweep.local import launch, machine
from sweepwise.sweep.local.groups import _kind

CONFS = options.of_folder(CONF)
HUGE = "1" + "0" * 30
PLAIN = [
    *("0", "-1", "1", "1.5", "-0.5", HUGE, "1e400", "nan", "true", "null", "abc", "''", f"'{'x' * 300}'"),
    *("[]", "[1]", "[0]", "[-1]", "[1.5]", "[abc]", "[null]", "[nan]", "[[1]]", "['']", "'a/../b'"),
]
NESTED = ["{}", "{a: 1}", "{1: a, b: 2}", "[{a: 1}]"]  # which Hydra composes for each job anew, and slowly
IN_A_TURN = 3  # values a key in the fast test; each key gets others
PARTS = 4  # of the slow test, side by side


def keys() -> list[tuple[str, str]]:
    """Every key of every option of conf/, with the choice of that option."""
    found = [
        (f"{group}={path.stem}", f"{group}.{path.stem}.{key}" if group == "regularizer" else f"{group}.{key}")
        for group in groups.GROUPS
        for path in sorted((CONF / group).glob("*.yaml"))
        for key in [*options.values_of(CONFS, group, path.stem), "_target_"]
    ]
    return [*found, *(("", key) for key in groups.SETTINGS), *(("", group) for group in groups.GROUPS)]


def taker(choice: str, key: str) -> tuple[str, str]:
    """What takes a key; one for all options of a group: of `_target_`, and of the function around them."""
    group, _, name = key.partition(".")
    envelope = ENVELOPES.get(group)
    shared = name.endswith("_target_") or (envelope and name in inspect.signature(envelope).parameters)
    return ("", f"{group}.{name.rpartition('.')[2]}") if shared else (choice, key)


def jobs(
    values: list[str], each: int | None = None, others: int = IN_A_TURN, *, defaults: bool = False
) -> list[list[str]]:
    """Overrides that give keys values.

    Args:
        values: of which each key gets others.
        each: how many a key gets; all, if not given.
        others: how many at most where an earlier key has the same taker.
        defaults: only keys of the options that conf/ chooses by default.
    """
    made = []
    taken = set()
    chosen = {"", *(f"{group}={option}" for group, option in options.chosen_options(CONFS).items())}
    wanted = [(choice, key) for choice, key in keys() if not defaults or choice in chosen]
    for place, (choice, key) in enumerate(wanted):
        turns = len(values) if each is None else each
        if taker(choice, key) in taken:
            turns = min(turns, others)
        taken.add(taker(choice, key))
        own = [values[(place * turns + turn) % len(values)] for turn in range(turns)]
        cpu = [] if key in ("trainer", "trainer.device") else ["trainer.device=cpu"]
        made += [[*filter(None, [choice]), *cpu, f"{key}={value}"] for value in own]
    return made


def asked(composer, job: list[str]) -> Request:
    """A run, with all that is asked of it before it begins, alone or in a sweep."""
    request = composer.request(job, 0)
    assert len(request.id) == 8 and len(request.new_folder.name) < 130
    assert "/" not in folder_name(job, request.config["seed"]["value"], request.id)
    request.folder.exists()
    assert machine.slots([request, request], None)
    _kind(request)
    return request


def faults_of(tried: list[list[str]], do) -> list[str]:
    """The jobs that end in anything but a refusal in one line."""
    wrong = []
    guard.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = compose._Composer(loader, loader.load_configuration("train", [], RunMode.MULTIRUN))
        for job in tried:
            try:
                do(asked(composer, job))
            except UsageError as error:
                wrong += [f"{job}: {fault!r}" for fault in error.faults if "\n" in fault or not fault.strip()]
            except Failure as error:  # no room for it; said in a line
                wrong += [f"{job}: {error}"] if "\n" in str(error) else []
            except Exception as error:
                wrong.append(f"{job}: {type(error).__name__}: {str(error)[:200]}")
    GlobalHydra.instance().clear()
    return wrong


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "_retrieve", lambda *arguments: "there is no network")


def test_any_value_is_taken_or_refused():
    assert (
        faults_of(jobs(PLAIN, IN_A_TURN, defaults=True), lambda request: run.bind_all(request.config)) == []
    )


@pytest.mark.parametrize("value", NESTED)
@pytest.mark.parametrize("key", ["seed.value", "trainer.threads", "seed", "trainer", "scheduler", "name"])
def test_a_nested_value_is_refused(key, value):
    assert faults_of([["data=wine", f"{key}={value}"]], lambda request: run.bind_all(request.config)) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_any_value_is_taken_or_refused_in_every_combination(part):
    own = []
    for every in (jobs(PLAIN), jobs(NESTED, 1, others=0)):
        size = -(-len(every) // PARTS)
        own += every[part * size : (part + 1) * size]
    assert faults_of(own, lambda request: run.bind_all(request.config)) == []


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.5, 10**30, float("inf"), float("nan"), True, None, "abc", "", [], [1], {}, {"a": 1}, [None]],
)
@pytest.mark.parametrize("launcher", ["local", "slurm", "slurm_gpu"])
def test_any_value_of_a_launcher_is_taken_or_refused(launcher, value):
    kind = launch.LocalSettings if launcher == "local" else ClusterSettings
    clusters = [{}] if launcher == "local" else [{"cluster": "slurm"}, {"cluster": "local"}]
    for key in options.values_of(CONFS, "hydra/launcher", launcher):
        for given in clusters:
            try:
                settings = filled("hydra.launcher", {**given, key: value}, kind)
            except UsageError as error:
                assert all(key in fault and "\n" not in fault for fault in error.faults)
            else:
                if isinstance(settings, ClusterSettings):
                    json.dumps(settings.slurm() if settings.cluster == "slurm" else settings.local())
                    assert settings.lines is not None


@pytest.mark.parametrize("value", ["0", "abc", "null", "[1]", "nan"])
def test_a_sweep_whose_threads_cannot_be(as_command, value):
    code, _, complaint = as_command(
        TRAIN, "-m", f"trainer.threads={value}", "seed.value=0,1", "data=wine", "monitor=none"
    )
    assert code == 2 and "trainer.threads" in complaint and "Traceback" not in complaint


@pytest.mark.parametrize(
    "override", ["hydra.launcher.max_parallel=0", "hydra.launcher.fuse=abc", "hydra.launcher.group_size=[1]"]
)
def test_a_launcher_that_cannot_be(as_command, override):
    code, _, complaint = as_command(TRAIN, "-m", override, "seed.value=0,1", "data=wine")
    assert code == 2 and override.split("=")[0] in complaint and len(complaint.splitlines()) == 1
