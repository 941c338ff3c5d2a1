"""Whole trainings that are killed, started again until they end, and compared with an uninterrupted one.

SWEEPWISE_KILLS says how many deaths each of the four trainings of `test_killed_again_and_again` gets. 750
of them, 3,000 in all, take a quarter of an hour: SWEEPWISE_KILLS=750 pytest -m slow tests/test_survival.py
"""

import os
import random
import re
import signal
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import commands
import pytest
import torch
from small import ENVIRONMENT, ROOT, composed

from sweepwise import run
from sweepwise.optimizer import FlatOptimizer
from sweepwise.store import record
from sweepwise.verify import crash_recovery
from sweepwise.verify.crash_recovery import Reference, Unexpected, deaths, survive, train_reference
from sweepwise.verify.fault_injection import Death

KILLS = int(os.environ.get("SWEEPWISE_KILLS", "25"))
SMALL = [
    "data.examples=200",
    "data.batch_size=24",
    "trainer.max_epochs=3",
    "trainer.device=cpu",
    "monitor.scalars_every=2",
    "monitor.histograms_every=3",
    "progress=false",
]
TRAININGS = {
    "plain": ["model.hidden=[16]", "regularizer=dropout", "scheduler=plateau"],
    "averaged": [
        *("model.hidden=[16]", "model.norm=batch", "optimizer=sgd", "regularizer=mixup"),
        *("trainer.ema=0.9", "trainer.accumulate=2", "early_stop.patience=1"),
    ],
    "half precision": [
        "model=gru",
        "model.width=8",
        "trainer.precision=fp16",
        "scheduler=onecycle",
        "model.dropout=0.2",
    ],
    "workers": [
        *("model.hidden=[16,12]", "optimizer=muon", "regularizer=spectral_norm"),
        *("trainer.workers=2", "trainer.validate_every=2", "trainer.max_steps=13"),
    ],
}


@pytest.fixture(autouse=True)
def one_thread():
    """As a run has it: a process that has used several cannot be forked."""
    torch.set_num_threads(1)


def call(*command, **variables):
    """Runs a program of this checkout in a process of its own."""
    return commands.run(command, {**ENVIRONMENT, **variables}, cwd=ROOT)


def trained(tmp_path, *overrides):
    """A run that has ended; its folder."""
    done = call("train.py", f"output_dir={tmp_path}", *SMALL, *overrides)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("main/*/record.json")
    return path.parent


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_killed_again_and_again(tmp_path, name):
    """Through the script that a person would call, in a process that has trained nothing else."""
    folder = trained(tmp_path / "runs", *TRAININGS[name])
    before = contents(folder)
    done = call("scripts/verify.py", folder, f"kills={KILLS}", "every=3", TMPDIR=tmp_path)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("identical to the bit\n")
    assert f" {KILLS} kills, " in done.stdout
    assert contents(folder) == before
    assert not list(tmp_path.glob("sweepwise-verify-*"))


@pytest.mark.slow
def test_verify(tmp_path):
    folder = trained(tmp_path / "runs", *TRAININGS["plain"])
    done = call("scripts/verify.py", folder, "kills=3", "seed=1", "max_steps=8", TMPDIR=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    first, *trainings, together, last = done.stdout.splitlines()
    assert re.fullmatch(
        r"reference     [\d.]+ s, \d+ operations on the disk, a checkpoint every 1 steps", first
    )
    assert all(re.match(r"training \d+ +identical: (SIG|no death)", line) for line in trainings)
    assert re.fullmatch(rf"in total      {len(trainings)} trainings, 3 kills, \d+ starts", together)
    assert last == "identical to the bit"


BROKEN = """
import runpy, sys
from sweepwise.optimizer import FlatOptimizer
FlatOptimizer.load_state_dict = lambda self, memory, own: None
sys.argv[0] = "scripts/verify.py"
runpy.run_path("scripts/verify.py", run_name="__main__")
"""


@pytest.mark.slow
def test_verify_finds_what_is_not_remembered(tmp_path):
    folder = trained(tmp_path / "runs", "model.hidden=[16]")
    (tmp_path / "broken.py").write_text(BROKEN)
    done = call(tmp_path / "broken.py", folder, "kills=8", "every=3", TMPDIR=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "  differs: SIG" in done.stdout
    assert "last/weights.safetensors: linear0.bias: " in done.stdout
    assert "identical to the bit" not in done.stdout
    (kept,) = tmp_path.glob("sweepwise-verify-*")
    assert f"all folders are kept in {kept}" in done.stdout


@pytest.mark.parametrize("script", ["verify", "reproduce"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "RUN: must be given"),
        (["nowhere"], "nowhere: is not the folder of a run"),
        ([".", "epochs=3"], "epochs=3: is not a setting of this script"),
        ([".", "word"], "word: must be KEY=VALUE"),
    ],
)
def test_bad_usage(script, arguments, told):
    done = call(f"scripts/{script}.py", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {told}")
    assert done.stdout == ""


@pytest.mark.parametrize("text", ["kills=0", "kills=x", "every=-1", "seed=0.5"])
def test_numbers_of_verify(text):
    done = call("scripts/verify.py", ".", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {text}: must be a whole number" in done.stderr


@pytest.mark.slow
def test_reproduce(tmp_path):
    folder = trained(tmp_path / "runs", *TRAININGS["plain"])
    before = contents(folder)
    done = call("scripts/reproduce.py", folder, TMPDIR=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1] == "identical to the bit"
    assert contents(folder) == before
    assert not list(tmp_path.glob("sweepwise-reproduce-*"))


@pytest.mark.slow
def test_reproduce_names_what_differs_and_what_has_changed(tmp_path):
    folder = trained(tmp_path / "runs", *TRAININGS["plain"])
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace('"lr/lr": 0.001', '"lr/lr": 0.002', 1))
    path = folder / "record.json"
    path.write_text(re.sub(r'"torch": "[^"]*"', '"torch": "1.0"', path.read_text()))
    done = call("scripts/reproduce.py", folder, TMPDIR=tmp_path)
    assert done.returncode == 1
    assert "differs       metrics.jsonl: step 0, lr/lr: 0.002 and 0.001\n" in done.stdout
    assert f"changed       torch 1.0 -> {version('torch')}\n" in done.stdout
    assert list(tmp_path.glob("sweepwise-reproduce-*"))


@pytest.mark.slow
def test_reproduce_wants_an_end(tmp_path):
    folder = trained(tmp_path / "runs")
    path = folder / "record.json"
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "interrupted"'))
    done = call("scripts/reproduce.py", folder)
    assert done.returncode == 2
    assert f"error: {folder}: must have ended, but is interrupted" in done.stderr


@pytest.fixture
def request_(tmp_path):
    overrides = [*SMALL, *TRAININGS["plain"], "checkpoint.minutes=0", "checkpoint.steps=3"]
    return composed(*overrides, f"output_dir={tmp_path}")


@pytest.fixture
def scratch(tmp_path):
    """Makes empty folders."""

    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        return folder

    return make


def test_every_kind_of_signal(request_, scratch):
    """A killed training and one that was asked to end leave their exit codes, and both go on."""
    alone = train_reference(run.train, request_, scratch("alone"))
    assert alone.operations > 100
    middle = alone.operations // 2
    coming = [
        Death(signal.SIGKILL, operation=40),
        *(Death(kind, operation=middle) for kind in crash_recovery.SIGNALS),
    ]
    survivor = survive(run.train, request_, scratch("other"), alone, iter(coming))
    assert survivor.deaths[0] == coming[0]
    assert survivor.differences == []
    known = record.read(survivor.folder)
    assert known["status"] == "finished"
    assert len(known["attempts"]) >= 2


def test_what_is_not_remembered_is_found(request_, scratch, monkeypatch):
    alone = train_reference(run.train, request_, scratch("alone"))
    monkeypatch.setattr(FlatOptimizer, "load_state_dict", lambda self, memory, own: None)
    coming = iter([Death(operation=alone.operations * 2 // 3)])
    survivor = survive(run.train, request_, scratch("other"), alone, coming)
    kinds = [found.kind for found in survivor.differences]
    assert kinds[0] == "metrics.jsonl"
    assert "last/weights.safetensors" in kinds


def test_an_attempt_that_fails_is_unexpected(request_, scratch):
    def train(request):
        raise RuntimeError("out of order")

    with pytest.raises(Unexpected, match=r"(?s)exited with code 1:.*RuntimeError: out of order"):
        train_reference(train, request_, scratch("alone"))
    alone = Reference(scratch("nothing"), 1.0, 1)
    with pytest.raises(Unexpected, match=r"(?s)exited with code 1 after no death:.*out of order"):
        survive(train, request_, scratch("other"), alone, iter([]))


def test_deaths():
    some = list(islice(deaths(random.Random(0), Reference(Path(), 2.0, 50)), 1000))
    assert {death.signal for death in some} == {signal.SIGKILL, *crash_recovery.SIGNALS}
    timed = [death for death in some if death.operation < 0]
    assert 400 < len(timed) < 600
    assert max(death.seconds for death in timed) < 2.2
    assert {death.operation for death in some if death.operation >= 0} == set(range(50))
    assert some == list(islice(deaths(random.Random(0), Reference(Path(), 2.0, 50)), 1000))
    assert str(Death(signal.SIGTERM, 0.5)) == "SIGTERM after 0.50 s"
    assert str(Death(operation=3, when="half")) == "SIGKILL in the middle of operation 3"
