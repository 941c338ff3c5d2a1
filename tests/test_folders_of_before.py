"""Folders that the version before has made: known as ended, gone on with to the bit, compared, used."""

import json
from pathlib import Path

import numpy as np
import pytest
from small import PLAIN, TINY, composed

from sweepwise import run
from sweepwise.data.sklearn_sets import wine
from sweepwise.errors import Failure
from sweepwise.predict import Predictor
from sweepwise.provenance import changes
from sweepwise.results import two_runs
from sweepwise.store import record
from sweepwise.store.status import Ended
from sweepwise.system.atomic import write_atomic
from sweepwise.verify.compare import compare

SMALL = [*TINY, *PLAIN, "monitor=scalars", "trainer.max_epochs=3"]
pytestmark = pytest.mark.usefixtures("empty_folder")


def made_before(folder: Path) -> Path:
    """The folder as the version before would have made it.

    The hashes of all files stood in the record, the network's seed in prediction.json, an empty file for code
    without changes; nothing was shared.
    """
    known = json.loads((folder / "record.json").read_bytes())
    known["code"] = json.loads((folder / "code.json").read_bytes())
    prediction = json.loads((folder / "prediction.json").read_bytes())
    prediction["network"]["init_seed"] = known.pop("init_seed")
    (folder / "code.json").unlink()
    write_atomic(folder / "record.json", json.dumps(known, indent=2).encode() + b"\n")
    write_atomic(folder / "prediction.json", json.dumps(prediction).encode())
    if not (folder / "code.diff").exists():
        (folder / "code.diff").touch()
    return folder


def asked(*overrides):
    return composed(*SMALL, *overrides)


def test_a_run_that_has_ended_is_known_and_nothing_is_written():
    request = asked()
    run.train(request)
    folder = made_before(request.folder)
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("[!.]*")}
    assert changes.already_ended(request) == record.read(folder)
    with pytest.raises(Ended):
        run.train(request)
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("[!.]*")} == before


def test_code_that_has_changed_since_is_named():
    request = asked()
    run.train(request)
    folder = made_before(request.folder)
    known = json.loads((folder / "record.json").read_bytes())
    known["code"]["sweepwise/seed.py"] = "0" * 16
    write_atomic(folder / "record.json", json.dumps(known).encode())
    with pytest.raises(changes.Changed, match=r"versions: sweepwise/seed\.py changed\. fresh=true"):
        changes.already_ended(request)


def test_a_run_goes_on_to_the_bit_and_has_what_a_run_has_now():
    whole, paused = asked("output_dir=whole"), asked("output_dir=paused", "trainer.pause_after=1")
    run.train(whole)
    run.train(paused)
    folder = made_before(paused.folder)
    run.train(asked("output_dir=paused"))
    assert [str(found) for found in compare(whole.folder, folder)] == []
    known = record.read(folder)
    assert known["code"] == record.read(whole.folder)["code"] and known["not_bit_exact"] == []
    for name in ("code.json", "prediction.json"):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert known["init_seed"] == 0


def test_it_predicts_as_before_and_differs_in_nothing_from_the_same_run_of_now():
    now, before = asked("output_dir=now"), asked("output_dir=before")
    run.train(now)
    run.train(before)
    made_before(before.folder)
    rows = wine().x
    outputs = [Predictor.read(request.folder).outputs(rows) for request in (now, before)]
    assert np.array_equal(*outputs)
    said = two_runs.differing(*two_runs.read(now.folder, before.folder))
    assert ("code", two_runs.NOTHING) in said


def test_what_an_ended_run_no_longer_keeps_is_no_difference():
    now, before = asked("output_dir=now"), asked("output_dir=before")
    run.train(now)
    run.train(before)
    last = before.folder / "checkpoints" / "last"
    for name in ("state.pt", "best.safetensors"):
        (last / name).write_bytes(b"of the version before")
    assert compare(now.folder, before.folder) == []


def test_a_run_that_has_ended_is_not_started_over_without_its_record():
    request = asked()
    run.train(request)
    weights = request.folder / record.BEST_WEIGHTS
    before = weights.read_bytes()
    (request.folder / "record.json").unlink()
    with pytest.raises(Failure, match=r"has checkpoints but no record\.json.*fresh=true"):
        run.train(request)
    assert weights.read_bytes() == before
