"""Files of runs and sweeps of which a part is missing or of another type: one line says so."""

import copy
import json
import shutil

import pytest
from small import ROOT, SMALL, composed

from sweepwise import run
from sweepwise.errors import UsageError
from sweepwise.provenance import environment
from sweepwise.provenance.changes import differences
from sweepwise.store import record, shape
from sweepwise.store.history import history
from sweepwise.store.record import DamagedRecord
from sweepwise.store.request import Request
from sweepwise.store.status import current_status, is_fused
from sweepwise.sweep.cluster.ledger import Ledger
from sweepwise.sweep.cluster.plan import Plan

NAMED = ("a text", 7, 1.5, True, None, [], {}, [None], {"a": None}, [{}], float("nan"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A sweep of two runs that have ended, and its ledger and plan."""
    place = tmp_path_factory.mktemp("sweep")
    for seed in (0, 1):
        run.train(composed(*SMALL, "trainer.max_epochs=2", f"seed.value={seed}", f"output_dir={place}"))
    folder = place / "main/.sweep"
    folder.mkdir(exist_ok=True)
    ids = [path.name.rpartition("-")[2] for path in folders(place / "main")]
    head = {"submission": "one", "cluster": "local"}
    lines = [
        {**head, "tasks": [[ids[0]], [ids[1]]], "names": {key: f"run-{key}" for key in ids}, "fresh": []},
        {"submission": "one", "jobs": ["2000000001", "2000000002"]},
    ]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place / "main"


def folders(home):
    return sorted(path.parent for path in home.glob("*/record.json"))


def places(value, path=()):
    """Where something stands in a value of JSON, but for the entries of long lists of the same kind."""
    yield path
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, entry in list(entries)[:12]:
        yield from places(entry, (*path, key))


def changed(value, path, new):
    """The value with something else in a place; `...`: with nothing there."""
    if not path:
        return None if new is ... else new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


READERS = {
    "status": lambda home, one: [home],
    "draw_curves": lambda home, one: [f"runs={home}", f"figure={home.parent / 'figure.png'}"],
    "verify": lambda home, one: [one],
    "reproduce": lambda home, one: [one],
    "cancel": lambda home, one: [home],
}


def read_all(folder):
    """What the readers ask of a record, without what they do then."""
    known = record.read(folder)
    current_status(folder)
    is_fused(known)
    environment.job(known)
    record.best(known)
    differences(known, {"code": {}, "inputs": {}, "environment": {"python": "3"}})
    if known["status"] in shape.ENDED:
        assert known["best"]["epoch"] + known["best"]["step"] + known["stopped"]["epoch"] > -4
        assert isinstance(known["seconds"] + 0.0, float) and known["last"].get("val/loss", 0) != "x"
        assert isinstance(",".join(known["overrides"]), str)
    assert all(isinstance(attempt["started"], str) for attempt in known.get("attempts", []))


def test_every_part_of_a_record_may_be_missing_or_something_else(home, tmp_path):
    whole = json.loads((folders(home)[0] / "record.json").read_text())
    whole["environment"]["places"] = {"SLURM_JOB_ID": "17"}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(whole))
    read_all(tmp_path)
    damaged = 0
    for place in places(whole):
        for new in (..., *NAMED):
            path.write_text(json.dumps(changed(whole, place, new)))
            try:
                read_all(tmp_path)
            except DamagedRecord as error:
                damaged += 1
                text = str(error)
                assert text.startswith(f"{path} is damaged (") and "fresh=true" in text and "\n" not in text
    assert damaged > 150


DAMAGES = {
    "no best": lambda known: known.pop("best"),
    "no last metrics": lambda known: known.pop("last"),
    "no overrides": lambda known: known.pop("overrides"),
    "a best of nothing": lambda known: known.update(best=None),
    "a best without an epoch": lambda known: known["best"].pop("epoch"),
    "a status that is a number": lambda known: known.update(status=3),
}


@pytest.fixture
def copied(home, tmp_path):
    shutil.copytree(home, tmp_path / "main", symlinks=True)
    return tmp_path / "main"


@pytest.mark.parametrize("damage", DAMAGES)
def test_scripts_say_which_record_is_damaged_and_go_on_with_the_others(damage, copied, as_command):
    one, other = folders(copied)
    known = json.loads((one / "record.json").read_text())
    DAMAGES[damage](known)
    (one / "record.json").write_text(json.dumps(known))
    for script, arguments in READERS.items():
        code, out, err = as_command(str(ROOT / "scripts" / f"{script}.py"), *map(str, arguments(copied, one)))
        assert "Traceback" not in err and code == {"draw_curves": 0, "cancel": 0}.get(script, 1), err
        said = " ".join((out + err).split())
        assert script == "cancel" or "record.json is damaged" in said
        if script == "status":
            assert "2 runs: 1 finished, 1 damaged" in said and other.name in said


def test_lines_of_metrics_that_are_not_whole_are_named(copied, as_command):
    one, _ = folders(copied)
    lines = (one / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for bad in (
        b"\0\0\0\n",
        b'{"step": 3\n',
        b'{"train/loss": 1}\n',
        b'{"train/loss": "x", "epoch": 0, "step": 1}\n',
    ):
        (one / "metrics.jsonl").write_bytes(b"".join([lines[0], bad, *lines[1:]]))
        with pytest.raises(shape.Damaged, match=r"metrics.jsonl is damaged \(line 2: .*fresh=true"):
            history(one)
        arguments = [f"runs={copied}", f"figure={copied / 'figure.png'}"]
        code, out, _ = as_command(str(ROOT / "scripts/draw_curves.py"), *arguments)
        assert code == 0 and "left out" in out and "metrics.jsonl" in out
    (one / "metrics.jsonl").write_bytes(b"[1]\n")
    with pytest.raises(shape.Damaged, match="line 1: must be a mapping"):
        history(one)
    (one / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(UsageError, match="no epoch of this run has ended"):
        history(one)


def test_a_ledger_of_another_shape_is_named_with_its_line(copied, as_command):
    path = copied / ".sweep/ledger.jsonl"
    head, jobs = map(json.loads, path.read_text().splitlines())
    told = 0
    for number, whole in enumerate((head, jobs), 1):
        for place in places(whole):
            for new in (..., *NAMED):
                entries = [head, jobs]
                entries[number - 1] = changed(whole, place, new)
                path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
                try:
                    assert all(isinstance(run, str) for run in Ledger(copied).placed())
                except shape.Damaged as error:
                    told += 1
                    assert str(error).startswith(f"{path} is damaged (line ")
    assert told > 150
    path.write_text('{"submission": "one", "tasks": 5}\n')
    for script in ("status", "cancel"):
        code, _, err = as_command(str(ROOT / "scripts" / f"{script}.py"), str(copied))
        assert code == 1 and "ledger.jsonl is damaged (line 1: tasks must be a list)" in " ".join(err.split())


def test_a_plan_of_another_shape_is_named(tmp_path):
    plan = Plan(
        [Request({"fresh": False}, ["a=1"], {"data": "wine"})], [[0]], [], ["train.py"], {"fuse": True}
    )
    path = plan.write(tmp_path)
    whole = json.loads(path.read_text())
    assert Plan.read(path) == plan
    for place in places(whole):
        for new in (..., *NAMED):
            path.write_text(json.dumps(changed(whole, place, new)))
            try:
                Plan.read(path)
            except shape.Damaged as error:
                assert str(error).startswith(f"{path} is damaged (") and "submit its runs again" in str(error)
