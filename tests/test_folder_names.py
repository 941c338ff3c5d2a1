"""Names of the folders of a sweep's runs: what differs comes first, and other tools take them."""

import os
import re

import commands
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import CONF, TRAIN
from tensorboard.backend.event_processing.data_ingester import _parse_event_files_spec

from hydra_plugins.sweepwise_plugins import _compose
from sweepwise.cli import guard
from sweepwise.store.request import folder_name, identity
from sweepwise.sweep.cluster.plan import Plan

ID = "1a2b3c4d"
LONG = [
    "data=table",
    "data.path=/projects/of/our/group/2026/measurements/final/second/really-final.parquet",
    "data.target=strength",
    "model.hidden=[256,256,256]",
    "trainer.max_epochs=200",
    "early_stop.patience=25",
]


def words(name: str) -> list[str]:
    return name.removesuffix(f"-{ID}").split("__")


def test_what_differs_comes_first_and_is_kept_whole():
    given_words = [*LONG, "optimizer.lr=0.01", "init=xavier", "seed.value=3"]
    name = folder_name(given_words, 3, ID, ("init", "optimizer.lr", "seed.value"))
    assert words(name)[:2] == ["lr=0.01", "init=xavier"]
    assert words(name)[2:] == [
        "data=table",
        "target=strength",
        "hidden=_256_256_256",
        "max_epochs=200",
        "patience=25",
        "seed=3",
    ]
    assert len(name) <= 120


def test_what_fits_is_not_shortened():
    name = folder_name(["data=wine", "optimizer.lr=0.01"], 0, ID, ("optimizer.lr",))
    assert name == f"optimizer.lr=0.01__data=wine__seed=0-{ID}"


def test_groups_stay_where_keys_would_be_the_same_without_them():
    long = [f"model.x{'y' * 90}=1", "optimizer.lr=0.01", "model.lr=2", "init=he", "seed.init=5", "x.init=1"]
    name = folder_name(long, 0, ID, ("optimizer.lr", "model.lr", "init", "seed.init", "x.init"))
    assert words(name) == ["optimizer.lr=0.01", "model.lr=2", "init=he", "seed.init=5", "x.init=1", "seed=0"]


def test_long_words_that_differ_keep_both_ends():
    paths = [f"data.path=/projects/{'deep/' * 30}fold{fold}.csv" for fold in (1, 2)]
    names = [folder_name([path, "optimizer.lr=0.1"], 0, ID, ("data.path", "optimizer.lr")) for path in paths]
    assert names[0] != names[1]
    for fold, name in zip((1, 2), names, strict=True):
        path, rate, _ = words(name)
        assert path.startswith("path=_projects_deep") and path.endswith(f"fold{fold}.csv") and ".." in path
        assert rate == "lr=0.1" and len(name) == 120


@settings(suppress_health_check=[HealthCheck.too_slow])  # its tables of letters are made once
@given(st.lists(st.text(max_size=60), max_size=12), st.sets(st.integers(0, 11)), st.integers(0, 2**32 - 1))
def test_any_name_is_a_level_of_a_path_for_every_tool(overrides, places, seed):
    varying = [text.partition("=")[0] for place, text in enumerate(overrides) if place in places]
    name = folder_name(overrides, seed, ID, varying)
    assert len(name) <= 120 and name.endswith(f"seed={seed}-{ID}")
    assert re.fullmatch(r"[A-Za-z0-9_.=+-]+", name)  # no comma, nothing that a shell or Windows reads


def swept(*overrides: str, jobs: list[list[str]]):
    guard.install()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("train", list(overrides), RunMode.MULTIRUN)
        requests, _ = _compose.requests(loader, config, jobs)
        return requests


def test_the_requests_of_a_sweep_know_what_differs_and_keep_their_overrides_in_order():
    jobs = [["data=wine", f"init={init}", "optimizer.lr=0.1", "seed.value=0"] for init in ("xavier", "zeros")]
    asked = ["data=wine", "init=xavier,zeros", "optimizer.lr=0.1", "seed.value=0"]
    requests = swept(*asked, jobs=jobs)
    assert [request.varying for request in requests] == [("init",), ("init",)]
    assert [request.overrides for request in requests] == jobs
    assert requests[1].new_folder.name == f"init=zeros__data=wine__optimizer.lr=0.1__seed=0-{requests[1].id}"
    (alone,) = swept(*asked, jobs=jobs[1:])  # of a batch of one, or of a sweeper that asks one by one
    assert (alone, alone.varying) == (requests[1], ("init",))
    by_params = swept(
        "data=wine", "+hydra.sweeper.params={init: 'xavier,zeros', optimizer.lr: 0.1}", jobs=jobs
    )
    assert [request.varying for request in by_params] == [("init", "seed.value")] * 2


def test_what_differs_is_no_part_of_what_a_run_is():
    one, other = (
        swept(*asked, jobs=[["init=zeros"]])[0] for asked in (["init=zeros"], ["init=zeros,xavier"])
    )
    assert (one.varying, other.varying) == ((), ("init",))
    assert one.id == other.id == identity(other.config)


def test_a_plan_keeps_what_differs_and_reads_one_of_before(tmp_path):
    (request,) = swept("init=zeros,xavier", jobs=[["init=zeros"]])
    path = Plan([request], [[0]], [], ["train.py"]).write(tmp_path)
    assert Plan.read(path).runs[0].new_folder == request.new_folder
    path.write_text(path.read_text().replace('"varying": ["init"]', '"before": 1'))
    assert Plan.read(path).runs[0].varying == ()


RUN = ["trainer.device=cpu", "data=wine", "model.hidden=[8]", "trainer.max_steps=2", "progress=false"]
RUN += ["trainer.metrics=[accuracy]", "early_stop=none", "trainer.threads=1", "data.batch_size=32"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    done = commands.run([TRAIN, "-m", *RUN, "init=xavier,zeros", "optimizer.lr=0.1,0.01"], cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_folders_of_a_sweep_begin_with_what_was_swept(sweep):
    names = sorted(path.parent.name for path in (sweep / "outputs/main").glob("*/record.json"))
    begin = [f"init={init}__lr={rate}__" for init in ("xavier", "zeros") for rate in ("0.01", "0.1")]
    assert [name[: len(start)] for name, start in zip(names, begin, strict=True)] == begin
    assert all(len(name) <= 120 and "__seed=0-" in name for name in names)


def test_tensorboard_takes_several_folders_as_one_specification(sweep):
    folders = sorted(path.parent for path in (sweep / "outputs/main").glob("*/record.json"))
    text = ",".join(f"run{place}:{folder}" for place, folder in enumerate(folders))
    assert _parse_event_files_spec(text) == {
        os.path.realpath(folder): f"run{place}" for place, folder in enumerate(folders)
    }


def test_a_folder_with_commas_of_before_is_found_and_stays(sweep):
    home = sweep / "outputs/main"
    new = next(home.glob("init=zeros__lr=0.01__*"))
    old = new.rename(new.with_name(new.name.replace("__", ",")))
    done = commands.run([TRAIN, "init=zeros", "optimizer.lr=0.01", *RUN], cwd=sweep)
    assert done.returncode == 0 and f"finished before, in outputs/main/{old.name}" in done.stdout
    assert not new.exists()
