"""The HParams tab of a whole sweep, as TensorBoard's own handlers answer."""

import shutil

import pytest
import sweeps
from small import composed
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from sweepwise.monitor import columns
from sweepwise.monitor.events import EventFile
from sweepwise.monitor.hparams import settings
from sweepwise.results.loading import load
from sweepwise.results.tensorboard import hparams_columns
from sweepwise.store.request import keys
from sweepwise.sweep.summary import expect_in_tensorboard, forget_in_tensorboard, tell_tensorboard

SCALARS = {"Val/loss": 0.3, "Val/accuracy": 0.9, "Train/loss": 0.2}
BEST = {"best/val/loss": 0.25, "best/val/accuracy": 0.95, "best/test/loss": 0.28, "best/test/accuracy": 0.9}
ENDS = {"finished": "SUCCESS", "stopped early": "SUCCESS", "diverged": "FAILURE", "failed": "FAILURE"}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "outputs" / "main"


def test_a_run_that_adds_nothing_writes_nothing_and_describes_nothing_anew(home, monkeypatch):
    """Its cost does not depend on how many settings there are, nor on how many runs have begun."""
    requests = [composed(f"seed.value={seed}", f"output_dir={home.parent}") for seed in range(4)]
    columns.expect(requests)
    folders = [home / f"run-{seed:08x}" for seed in range(4)]
    runs = [settings(request.choices, request.config) for request in requests]
    for folder in folders:
        folder.mkdir()
    columns.add(folders[0], runs[0], ["seed.value"], ["val/loss"], True)
    written = {path: path.read_bytes() for path in (home / columns.KNOWN, folders[0] / columns.EVENTS)}
    times = {path: path.stat().st_mtime_ns for path in written}
    for name in ("experiment", "asdict"):
        monkeypatch.setattr(columns, name, None)
    for folder, run in zip(folders[1:], runs[1:], strict=True):
        columns.add(folder, run, ["seed.value"], ["val/loss"], True)
        assert {path: path.stat().st_mtime_ns for path in written} == times
    (folders[0] / columns.EVENTS).write_bytes(b"damaged")
    columns.add(folders[3], runs[3], ["seed.value"], ["val/loss"], True)
    assert {path: path.read_bytes() for path in written} == written


def trained(home, *overrides, status="finished"):
    """A run with its event file; its columns are lost, as if another one had begun at the same instant."""
    folder = sweeps.run(home, *overrides, value=0.3, status=status)
    request = composed(*overrides, f"output_dir={home.parent}", f"name={home.name}")
    with EventFile(folder) as file:
        file.hparams(settings(request.choices, request.config))
        file.scalars(9, SCALARS)
        if status in ("finished", "stopped early"):
            file.scalars(9, BEST)
        if status in ENDS:
            file.hparams_end(ENDS[status])
    return folder


def tab(folder):
    """Columns and rows, the rows by the names of their runs."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = Context(TBContext(logdir=str(folder), data_provider=provider))
    every = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=list(api_pb2.Status.values()), start_index=0, slice_size=999
    )
    rows = list_session_groups.Handler(RequestContext(), context, "", every).run()
    described = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    return described, {row.name: row for row in rows.session_groups}


def plain(values):
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()}


def first(described):
    """The settings that the tab ticks before others."""
    return sorted(info.name for info in described.hparam_infos if info.differs)


def carriers(home):
    return [path.parent.name for path in home.rglob("*tfevents") if path.name == columns.EVENTS]


def test_every_column_is_there_whichever_run_wrote_last(home):
    for init, schedule in (("xavier", "step"), ("kaiming", "cosine"), ("orthogonal", "constant")):
        for seed in (0, 1):
            trained(home, f"init={init}", f"scheduler={schedule}", "optimizer.lr=0.1", f"seed.value={seed}")
    (home / "earlier").mkdir()
    columns.add(home / "earlier", {"init": "xavier", "gone": 1}, ["init"], ["val/top5"], True)
    hparams_columns.write(home, load(home))
    described, rows = tab(home)
    named = {info.name: info for info in described.hparam_infos}
    assert len(rows) == 6
    assert set(named) == {"gone"}.union(*(row.hparams for row in rows.values()))
    assert {"scheduler.gamma", "init.a", "init.gain"} <= set(named)  # each of one option alone
    # of all that varies with init, by default or one to one, as many as the tab ticks
    assert first(described) == ["init", "init.a", "init.gain", "scheduler", "seed.value"]
    interval = named["seed.value"].domain_interval
    assert (interval.min_value, interval.max_value) == (0, 1)
    assert not any(info.HasField("domain_discrete") for info in named.values())  # it would hide runs
    shown = {metric.name.tag: metric.display_name for metric in described.metric_infos}
    assert [tag for tag in shown if "top5" not in tag] == [*BEST, *SCALARS]
    assert all(shown[tag] == tag for tag in BEST) and shown["Val/loss"] == "last/val/loss"
    for name, row in rows.items():
        values = plain(row.hparams)
        assert f"init={values['init']}" in name and f"seed={values['seed.value']:g}-" in name
        found = {metric.name.tag: metric.value for metric in row.metric_values}
        assert found == pytest.approx({**SCALARS, **BEST})


def test_the_description_is_in_the_folder_of_one_run_and_no_run_of_its_own(home):
    for seed in (0, 1, 2):
        folder = trained(home, f"seed.value={seed}")
        columns.add(folder, {"seed.value": seed}, ["seed.value"], ["val/loss"], True)
    assert carriers(home) == [columns.read(home).carrier]
    (home / columns.EARLIER).touch()
    shutil.copy(home / columns.read(home).carrier / columns.EVENTS, folder)
    hparams_columns.write(home, load(home))
    assert carriers(home) == [columns.read(home).carrier]
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(home)).Reload()
    assert len(multiplexer.Runs()) == 3 and "." not in multiplexer.Runs()
    carrier = multiplexer.GetAccumulator(columns.read(home).carrier)
    assert len(carrier.Tensors("Val/loss")) == 1  # its own events are read after the description


def test_a_run_whose_folder_is_removed_is_replaced(home):
    folders = [trained(home, f"seed.value={seed}") for seed in (0, 1, 2)]
    columns.add(folders[0], {"seed.value": 0}, [], ["val/loss"], True)
    shutil.rmtree(folders[0])
    columns.add(folders[1], {"seed.value": 1}, [], ["val/loss"], True)
    assert carriers(home) == [folders[1].name]
    shutil.rmtree(folders[1])
    hparams_columns.write(home, load(home))
    assert carriers(home) == [folders[2].name]


def test_what_varies_comes_first_before_all_runs_of_a_sweep_have_begun(home):
    """The first run alone shows what varies in the whole sweep, and not what is given but the same in all."""
    given = ["data=digits", "early_stop=patience", "model=mlp", "trainer.max_epochs=3"]
    given += ["optimizer=adam", "scheduler=cosine"]
    of_run = [f"output_dir={home.parent}", f"name={home.name}"]
    requests = [
        composed(*given, f"init={init}", f"seed.value={seed}", *of_run)
        for init in ("xavier", "kaiming")
        for seed in (0, 1)
    ]
    expect_in_tensorboard(requests)
    forget_in_tensorboard(requests)
    assert list(home.iterdir()) == []  # as after a sweep whose runs were all refused
    expect_in_tensorboard(requests)
    assert list(home.iterdir()) == [home / columns.KNOWN]
    folder = trained(home, *given, "init=xavier", "seed.value=0")
    own = settings(requests[0].choices, requests[0].config)
    columns.add(folder, own, keys(requests[0].overrides), ["val/loss"], True)
    forget_in_tensorboard(requests)
    described, rows = tab(home)
    ticked = [info.name for info in described.hparam_infos][:5]
    assert len(rows) == 1 and first(described) == ticked
    assert ticked[:4] == ["init", "init.a", "init.gain", "init.mode"]  # some of kaiming, which has not begun
    assert ticked[4] == "seed.value"


def test_of_single_runs_what_was_given_comes_first_until_something_varies(home):
    for place, (rate, init) in enumerate([(0.1, "xavier"), (0.2, "xavier"), (0.2, "kaiming")]):
        folder = trained(home, f"optimizer.lr={rate}", f"init={init}", "seed.value=0")
        values = {"optimizer.lr": rate, "init": init, "seed.value": 0, "data": "digits"}
        columns.add(folder, values, ["optimizer.lr", "init", "seed.value"], ["val/loss"], True)
        wanted = [["init", "optimizer.lr", "seed.value"], ["optimizer.lr"], ["init", "optimizer.lr"]]
        assert first(tab(home)[0]) == wanted[place]


def test_the_status_of_each_run(home):
    statuses = [*ENDS, "interrupted"]
    for seed, status in enumerate(statuses):
        trained(home, f"seed.value={seed}", status=status)
    hparams_columns.write(home, load(home))
    _, rows = tab(home)
    found = {
        plain(row.hparams)["seed.value"]: api_pb2.Status.Name(row.sessions[0].status) for row in rows.values()
    }
    assert found == {seed: f"STATUS_{ENDS.get(status, 'UNKNOWN')}" for seed, status in enumerate(statuses)}


def test_mean_runs_are_no_rows(home):
    for seed in (0, 1):
        folder = trained(home, f"seed.value={seed}")
        (folder / "metrics.jsonl").write_text('{"step": 9, "epoch": 0, "val/loss": 0.3}\n')
    tell_tensorboard([home])
    assert len(list((home / "_mean").iterdir())) == 1
    assert len(tab(home)[1]) == 2


def test_a_later_run_keeps_the_columns_and_hides_none(home):
    for seed in (0, 1):
        trained(home, "scheduler=step", f"seed.value={seed}")
    hparams_columns.write(home, load(home))
    before = set(columns.read(home).settings)
    folder = trained(home, "seed.value=7")
    columns.add(folder, {"seed.value": 7}, ["seed.value"], ["val/loss"], True)
    assert set(columns.read(home).settings) == before
    described, rows = tab(home)
    (interval,) = [info.domain_interval for info in described.hparam_infos if info.name == "seed.value"]
    assert len(rows) == 3 and (interval.min_value, interval.max_value) == (0, 7)


ELSEWHERE = b'{"settings": {}, "metrics": [], "tested": true, "carrier": "../.."}'
HALF = b'{"settings": {"\\ud800": {"value": 1}}, "metrics": [], "tested": true, "carrier": ""}'


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[1]", b'{"settings": {"a": 1}}', b"\xff\xfe", 9999 * b"[", ELSEWHERE, HALF],
    ids=range(8),
)
def test_columns_that_have_not_changed_are_not_written_again_and_damaged_ones_are(home, damage):
    for seed in (0, 1):
        trained(home, f"seed.value={seed}")
    hparams_columns.write(home, load(home))
    known = columns.read(home)
    path = home / known.carrier / columns.EVENTS
    whole = path.stat()
    hparams_columns.write(home, load(home))
    assert path.stat().st_ino == whole.st_ino
    path.write_bytes(path.read_bytes()[:-40])
    (home / columns.KNOWN).write_bytes(damage)
    hparams_columns.write(home, load(home))
    assert path.stat().st_size == whole.st_size
    assert columns.read(home) == known


def test_nothing_is_written_for_runs_without_event_files(home):
    sweeps.run(home, "monitor=none", value=0.1)
    hparams_columns.write(home, load(home))
    expect_in_tensorboard([composed("monitor=none", f"seed.value={seed}") for seed in (0, 1)])
    assert columns.read(home) == columns.Columns() and not (home / columns.KNOWN).exists()
