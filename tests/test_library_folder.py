"""The folder of a fit: of one run alone, and with a checkpoint when a signal ends the training."""

import hashlib
import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small import ENVIRONMENT
from torch import nn
from torch.optim import SGD

from sweepwise import Regularizer, Settings, UsageError, build, checkpoint, cli, fit, load, split
from sweepwise.data.sklearn_sets import wine
from sweepwise.library import fitting
from sweepwise.library import folder as folder_module
from sweepwise.model.mlp import mlp
from sweepwise.results import confirmation
from sweepwise.results.answer import answer as answer_of
from sweepwise.results.further_runs import worth_running
from sweepwise.results.run_folder import epochs
from sweepwise.store import record
from sweepwise.store.status import current_status
from sweepwise.sweep.cluster.overview import look


class Signalled(Regularizer):
    """Sends this process a signal during a step."""

    def __init__(self, number=signal.SIGINT, step=9, times=1):
        self.number, self.step, self.times, self.steps = number, step, times, 0

    def after_step_(self, weights, rate):
        if self.steps == self.step:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        self.steps += 1


def small(epochs=3, regularizers=(), dropout=0.0, seed=0, lr=0.1, **settings):
    return build(
        data=split(wine(), batch_size=16),
        model=partial(mlp, hidden=[4], dropout=dropout),
        optimizer=partial(SGD, lr=lr),
        settings=Settings(max_epochs=epochs, device="cpu", **settings),
        regularizers=regularizers,
        seed=seed,
    )


@pytest.mark.parametrize("gone", [[], ["metrics.jsonl"], ["checkpoints"]])
def test_a_second_run_does_not_overwrite_the_first(tmp_path, gone):
    fit(small(), tmp_path / "one")
    before = (tmp_path / "one" / "metrics.jsonl").read_bytes()
    for name in gone:
        (tmp_path / "one" / name).rename(tmp_path / name)
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    second = small(epochs=1)
    with pytest.raises(UsageError, match=r"one: has a run already \(.*\); give another folder, or remove it"):
        fit(second, tmp_path / "one")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")} == left
    assert (tmp_path / ("" if "metrics.jsonl" in gone else "one") / "metrics.jsonl").read_bytes() == before
    assert fit(second, tmp_path / "two").status == "finished"  # another folder, as it says


def test_a_folder_with_other_files_can_be_a_run_s(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fit(small(), str(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "metrics.jsonl").stat().st_size


def test_ctrl_c_leaves_a_checkpoint_of_the_running_step(tmp_path):
    parts = small(regularizers=[Signalled(step=9)])
    with pytest.raises(KeyboardInterrupt):
        fit(parts, tmp_path / "stopped")
    saved = checkpoint.Checkpoints(tmp_path / "stopped").load()
    assert (saved.step, saved.state["epoch"]) == (10, 1)  # 7 steps an epoch
    fit(small(max_steps=10), tmp_path / "ten")
    last = load_file(tmp_path / "ten" / "checkpoints" / "last" / "weights.safetensors")
    assert last.keys() == saved.weights.keys()
    assert all(torch.equal(last[name], tensor) for name, tensor in saved.weights.items())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_folder_ctrl_c_ends_the_training_after_the_step():
    parts = small(regularizers=[Signalled(step=9)])
    with pytest.raises(KeyboardInterrupt):
        fit(parts)
    assert parts.regularizers[0].steps == 10


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    parts = small(regularizers=[Signalled(step=9, times=2)])
    with pytest.raises(KeyboardInterrupt):
        fit(parts, tmp_path)
    assert parts.regularizers[0].steps == 9
    assert checkpoint.Checkpoints(tmp_path).load() is None


def test_a_signal_in_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(small(regularizers=[Signalled(step=20)]), tmp_path)
    assert (tmp_path / "checkpoints" / "last").resolve().name.endswith("-00000021")


def test_a_handler_of_one_s_own_stays_and_decides(tmp_path):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        fitted = fit(small(regularizers=[Signalled(signal.SIGUSR1)]), tmp_path)
        assert seen == [signal.SIGUSR1] and fitted.status == "finished"
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert fit(small(regularizers=[Signalled(signal.SIGUSR1)])).status == "finished"
    finally:
        signal.signal(signal.SIGUSR1, before)


SCRIPT = """
import sys
from sweepwise.monitor import appended
from test_library_folder import Signalled, fit, small
appended.FLUSH_SECONDS = 0.1
print("begins", flush=True)
fit(small(epochs=20000), sys.argv[1])
print("goes on")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_process_ends_as_by_the_signal(tmp_path, number):
    path = f"{ENVIRONMENT['PYTHONPATH']}:{'/'.join(__file__.split('/')[:-1])}"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")],
        env=ENVIRONMENT | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "begins\n"
        lines = tmp_path / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output) == (-number, "")
    assert checkpoint.Checkpoints(tmp_path / "run").load().step > 0


# --- at a prompt, and going on


@pytest.fixture
def at_a_prompt(monkeypatch):
    """As in a notebook or an interactive Python."""
    monkeypatch.setattr(fitting, "at_a_prompt", lambda: True)
    monkeypatch.setattr(fitting, "_interrupted", [-math.inf])


def test_at_a_prompt_an_interrupt_gives_what_there_is(at_a_prompt):
    parts = small(epochs=5, regularizers=[Signalled(step=23)])  # in the fourth epoch
    whole = fit(small(epochs=5)).history
    fitted = fit(parts)
    assert (fitted.status, fitted.reason) == ("interrupted", "after step 23")
    assert fitted.history == whole[:3] and not fitted.model.training
    best = min(line["val/loss"] for line in whole[:3])
    x, y = parts.data.validation.x, parts.data.validation.y
    with torch.no_grad():
        assert nn.functional.cross_entropy(fitted.model(x), y).item() == pytest.approx(best)
    assert fitted.best.value == best
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_of_two_interrupts_ends_a_loop_as_well(at_a_prompt, monkeypatch):
    assert fit(small(regularizers=[Signalled()])).status == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        fit(small(regularizers=[Signalled()]))
    monkeypatch.setattr(fitting, "_interrupted", [time.monotonic() - fitting.TWICE_SECONDS])
    assert fit(small(regularizers=[Signalled()])).status == "interrupted"


def test_other_signals_act_as_ever_at_a_prompt(at_a_prompt):
    seen = []
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        raised = fitting.signal.raise_signal
        fitting.signal.raise_signal = lambda number: (
            seen.append(number) or (None if len(seen) > 1 else raised(number))
        )
        fit(small(regularizers=[Signalled(signal.SIGUSR1)]))
        assert seen == [signal.SIGUSR1, signal.SIGUSR1]
    finally:
        fitting.signal.raise_signal = raised
        signal.signal(signal.SIGUSR1, before)


def stopped_at(step, folder, epochs=4):
    """A run that was interrupted, as a script leaves it."""
    with pytest.raises(KeyboardInterrupt):
        fit(small(epochs, dropout=0.3, regularizers=[Signalled(step=step)]), folder)


@pytest.mark.parametrize("step", [9, 13])  # within an epoch, and at the end of one
def test_the_same_call_goes_on_to_the_same_bits(tmp_path, step):
    whole = fit(small(4, dropout=0.3, regularizers=[Signalled(step=step, times=0)]), tmp_path / "whole")
    stopped_at(step, tmp_path / "stopped")
    known = record.read(tmp_path / "stopped")
    assert known["status"] == "interrupted" and known["best"]["epoch"] >= 0
    # The option that says when it is interrupted is one of the run's, so it must be the same one.
    parts = small(4, dropout=0.3, regularizers=[Signalled(step=step)])
    parts.regularizers[0].times = 0
    fitted = fit(parts, tmp_path / "stopped")
    assert (fitted.status, fitted.history, fitted.metrics) == ("finished", whole.history, whole.metrics)
    for which in ("best", "last"):
        pair = [
            tmp_path / home / "checkpoints" / which / "weights.safetensors" for home in ("whole", "stopped")
        ]
        assert pair[0].read_bytes() == pair[1].read_bytes()
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (
        tmp_path / "stopped" / "metrics.jsonl"
    ).read_text()
    attempts = record.read(tmp_path / "stopped")["attempts"]
    assert [(one["status"], one["from_step"]) for one in attempts] == [
        ("interrupted", 0),
        ("finished", step + 1),
    ]


def test_other_parts_do_not_go_on(tmp_path):
    stopped_at(9, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for other in (
        small(5, dropout=0.3, regularizers=[Signalled(step=9)]),
        small(4, dropout=0.2, regularizers=[Signalled(step=9)]),
        small(4, dropout=0.3, regularizers=[Signalled(step=9)], seed=1),
        small(4, dropout=0.3),
    ):
        with pytest.raises(
            UsageError, match="has a run already, of other parts, which was interrupted; give"
        ):
            fit(other, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_without_a_checkpoint_begins_again_and_leaves_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    parts = small(regularizers=[Signalled(step=9, times=2)])
    with pytest.raises(KeyboardInterrupt):
        fit(parts, tmp_path)
    assert record.read(tmp_path)["status"] == "interrupted"
    parts.regularizers[0].times = 0
    again = small(regularizers=[Signalled(step=9, times=2)])
    again.regularizers[0].times = 0
    assert fit(again, tmp_path).history == fit(small()).history
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_damaged_record_is_refused_with_a_way_out_that_fit_has(tmp_path):
    fit(small(), tmp_path)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(
        UsageError, match=r"record\.json is damaged \(.*\); give another folder, or remove it"
    ):
        fit(small(), tmp_path)


def test_damaged_checkpoints_are_refused_with_a_way_out_that_fit_has(tmp_path):
    stopped_at(9, tmp_path)
    for path in tmp_path.glob("checkpoints/step-*/state.pt"):
        path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"no checkpoint is intact: .*; give another folder, or remove it"):
        fit(small(4, dropout=0.3, regularizers=[Signalled(step=9)]), tmp_path)


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with (
        folder_module._locked(tmp_path) as sign,
        pytest.raises(UsageError, match=f"is being trained in by process {os.getpid()} on "),
    ):
        sign()
        fit(small(), tmp_path)
    assert fit(small(), tmp_path).status == "finished"


# --- what the folder tells


def test_the_folder_is_known_to_all_that_read_runs(tmp_path, capsys):
    for seed in (0, 1):
        for lr in (0.1, 0.01):
            fit(small(seed=seed, lr=lr), tmp_path / f"lr={lr} {seed}")
    table = load(tmp_path)
    assert (table.settings, table.replicates, len(table.rows)) == (("optimizer.lr",), ("seed.value",), 4)
    assert {row.status for row in table.rows} == {"finished"} and not table.damaged
    run = tmp_path / "lr=0.1 0"
    assert yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["_target_"] == "torch.optim.SGD"
    known = record.read(run)
    assert known["environment"]["torch"] == importlib.metadata.version("torch") and known["seconds"] > 0
    assert known["best"]["value"] == min(line["val/loss"] for line in epochs(run))
    assert len(known["id"]) == 8 and known["start_sha256"] and current_status(run) == "finished"
    assert {row.status for row in look(tmp_path)} == {"finished"} and len(look(tmp_path)) == 4


def test_commands_that_train_again_refuse_it(tmp_path):
    for lr in (0.1, 0.01):
        fit(small(lr=lr), tmp_path / f"lr={lr}")
    with pytest.raises(UsageError, match="was trained from Python, so no config trains it again"):
        cli.recorded(tmp_path / "lr=0.1")
    answer = answer_of(load(tmp_path))
    with pytest.raises(UsageError, match="was trained from Python, so no command confirms it"):
        confirmation.plan(answer, 5, 3)
    assert "next" not in dict(worth_running(answer))


def test_notes_are_in_the_record(tmp_path):
    parts = build(
        data=split(wine(), batch_size=16),
        model=nn.Linear(13, 3),
        optimizer=partial(SGD, lr=0.1),
        settings=Settings(max_epochs=1, device="cpu"),
    )
    fit(parts, tmp_path)
    assert record.read(tmp_path)["notes"] == list(parts.notes)
    assert parts.notes[0].startswith("model: was made before the seed was set")


def test_while_it_trains_the_record_says_so(tmp_path):
    seen = []

    class Watching(Regularizer):
        def after_step_(self, weights, rate):
            seen.append(current_status(tmp_path))

    fit(small(epochs=1, regularizers=[Watching()]), tmp_path)
    assert set(seen) == {"running"} and current_status(tmp_path) == "finished"


def test_a_run_that_fails_is_recorded_as_failed(tmp_path):
    class Failing(Regularizer):
        def after_step_(self, weights, rate):
            raise ValueError("no such step")

    with pytest.raises(ValueError, match="no such step"):
        fit(small(regularizers=[Failing()]), tmp_path)
    known = record.read(tmp_path)
    assert (known["status"], known["reason"]) == ("failed", "ValueError: no such step")


def test_a_folder_has_the_table_of_the_code_and_one_of_before_goes_on(tmp_path):
    parts = small(regularizers=[Signalled(step=15)])  # of 21: the second attempt takes 5
    folder = tmp_path / "one"
    with pytest.raises(KeyboardInterrupt):
        fit(parts, folder)
    path, code = folder / "record.json", (folder / "code.json").read_bytes()
    known = json.loads(path.read_bytes())
    assert known["code"] == hashlib.sha256(code).hexdigest()[:16] and known["init_seed"] == parts.seeds.init
    (folder / "code.json").unlink()
    path.write_text(json.dumps(known | {"code": json.loads(code)}, indent=2))  # as the version before has it
    assert fit(small(regularizers=[Signalled(step=15)]), folder).status == "finished"
    assert (folder / "code.json").read_bytes() == code and record.read(folder)["code"] == known["code"]
