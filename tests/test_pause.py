"""A training that pauses after an epoch of its full length, and goes on to the bits of one that did not."""

import json
import os
import signal
from types import SimpleNamespace

import commands
import pytest
import torch
import yaml
from small import PLAIN, TINY, TRAIN, composed
from torch import nn

from hydra_plugins.sweepwise_plugins import slurm_launcher
from sweepwise import UsageError, build, fit, load, run, split
from sweepwise.data.sklearn_sets import diabetes
from sweepwise.errors import Failure
from sweepwise.predict import Predictor
from sweepwise.results import answer, run_folder, words
from sweepwise.results.choice import best_run
from sweepwise.store import record
from sweepwise.store.status import Ended, current_status, settled
from sweepwise.sweep import job
from sweepwise.sweep.cluster import overview
from sweepwise.sweep.cluster.jobs import State
from sweepwise.sweep.cluster.ledger import Ledger, Submission
from sweepwise.sweep.local import group_size, launch, pool
from sweepwise.sweep.outcome import status
from sweepwise.trainer import Settings
from sweepwise.verify.compare import compare

EPOCHS = 6
SMALL = [*TINY, *PLAIN, "monitor=scalars", f"trainer.max_epochs={EPOCHS}"]
KINDS = {
    "plateau": ["scheduler=plateau", "scheduler.patience=1"],
    "dropout": ["regularizer=[dropout,mixup]", "trainer.ema=0.9"],
    "cosine with warm-up": ["scheduler=cosine", "scheduler.warmup=2", "optimizer=sgd"],
    "early stopping": ["early_stop=patience", "early_stop.patience=2", "optimizer.lr=0.3"],
}
pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture(autouse=True)
def no_power_fails(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def asked(*overrides, pause=None, home="paused"):
    paused = [f"trainer.pause_after={pause}"] if pause else []
    return composed(*SMALL, f"output_dir={home}", *overrides, *paused)


def known(request):
    return record.read(request.folder)


def same(one, other):
    """That two runs are equal to the bit: logs, checkpoints, and all of the record but what must differ."""
    assert [str(found) for found in compare(one.folder, other.folder)] == []
    first, second = known(one), known(other)
    for key in ("attempts", "started", "ended", "seconds", "environment"):
        first.pop(key), second.pop(key)
    for found in (first, second):
        found["overrides"] = [text for text in found["overrides"] if not text.startswith("output_dir=")]
    assert first == second
    first, second = (yaml.safe_load((each.folder / "config.yaml").read_text()) for each in (one, other))
    assert {**first, "output_dir": ""} == {**second, "output_dir": ""}


@pytest.mark.parametrize("kind", KINDS)
def test_paused_twice_it_ends_with_the_same_bits(kind):
    whole = asked(*KINDS[kind], home="whole")
    run.train(whole)
    lines = (whole.folder / "metrics.jsonl").read_text().splitlines()
    for pause in (1, 3):
        request = asked(*KINDS[kind], pause=pause)
        assert request.id == whole.id
        result = run.train(request)
        found = known(request)
        assert (found["status"], result.exit_code) == ("pruned", 0)
        assert found["reason"] == f"pruned at epoch {pause - 1}, after {pause} of {EPOCHS} epochs"
        assert found["stopped"]["epoch"] == pause - 1 and not found["best"]["measured"]
        assert not any(tag.startswith("test/") for tag in found["best"]["metrics"])
        logged = (request.folder / "metrics.jsonl").read_text().splitlines()
        assert logged == lines[: len(logged)] and json.loads(logged[-1])["epoch"] == pause - 1
        best = min(
            (json.loads(line) for line in logged if "val/loss" in line), key=lambda line: line["val/loss"]
        )
        assert (found["best"]["epoch"], found["best"]["value"]) == (best["epoch"], best["val/loss"])
    run.train(asked(*KINDS[kind]))
    same(whole, asked(*KINDS[kind]))
    assert known(whole)["status"] == ("stopped early" if kind == "early stopping" else "finished")


def test_members_of_a_group_pause_at_different_epochs(monkeypatch):
    monkeypatch.setattr(group_size, "_seconds", lambda learner, x, y: 1.0)
    kinds = [[f"seed.value={seed}", *words] for seed, words in enumerate([*KINDS.values()][:1] * 2)]
    kinds += [["seed.value=2", "scheduler=cosine"], ["seed.value=3", "regularizer=dropout"]]
    whole = [asked(*words, home="whole") for words in kinds]
    pool.train_all(whole, max_parallel=1)
    assert all(known(one)["environment"]["fused"] for one in whole)
    for pauses in ([2, 4, None, 1], [3, 4, None, 3], [None] * 4):
        requests = [asked(*words, pause=pause) for words, pause in zip(kinds, pauses, strict=True)]
        outcomes = pool.train_all(requests, max_parallel=1)
        assert [outcome.exit_code for outcome in outcomes] == [0] * 4
        assert [status(outcome) for outcome in outcomes] == [
            "pruned" if pause else "finished" for pause in pauses
        ]
        reached = [known(request)["stopped"]["epoch"] + 1 for request in requests]
        assert reached == [pause or EPOCHS for pause in pauses]
    for one, other in zip(whole, requests, strict=True):
        same(one, other)


def test_one_that_has_come_further_answers_at_once():
    run.train(asked(pause=3))
    before = known(asked())
    for pause in (1, 2, 3):
        with pytest.raises(Ended) as told:
            run.train(asked(pause=pause))
        assert told.value.exit_code == 0
        assert [status(one) for one in pool.train_all([asked(pause=pause)])] == ["pruned"]
    assert known(asked()) == before
    assert not settled(before, asked().config) and not settled(before, asked(pause=4).config)
    run.train(asked())
    assert [status(one) for one in pool.train_all([asked(pause=1)])] == ["finished"]


def test_one_that_was_killed_further_on_is_paused_without_a_step(monkeypatch):
    """Also one killed between the checkpoint at its pause and its record."""
    run.train(asked(pause=4))
    path = asked().folder / "record.json"
    before = json.loads(path.read_text())
    before["status"] = before["attempts"][-1]["status"] = "running"
    path.write_text(json.dumps({key: before[key] for key in before.keys() - {"best", "stopped", "last"}}))
    assert current_status(path.parent) == "interrupted"
    steps = path.parent / "metrics.jsonl"
    logged = steps.read_bytes()
    run.train(asked(pause=2))
    found = known(asked())
    assert (found["status"], found["stopped"]["epoch"], steps.read_bytes()) == ("pruned", 3, logged)
    assert [attempt["status"] for attempt in found["attempts"]] == ["interrupted", "pruned"]
    run.train(asked())
    whole = asked(home="whole")
    run.train(whole)
    same(whole, asked())


@pytest.mark.parametrize("pause", [EPOCHS, EPOCHS + 3])
def test_one_whose_last_epoch_comes_first_finishes(pause):
    assert run.train(asked(pause=pause)).run.status == "finished"
    said = f"trainer.pause_after={pause} never acts: the training has {EPOCHS} epochs"
    assert said in known(asked())["notes"] and known(asked())["best"]["measured"]


def test_it_pauses_where_it_is_validated():
    request = asked("trainer.validate_every=2", pause=3)
    assert run.train(request).run.epoch == 3
    unvalidated = asked("trainer.validate_every=2", "data.validation=0", pause=3)
    assert run.train(unvalidated).run.epoch == 2


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon"])
def test_a_bad_value_is_refused_before_anything_is_written(value, empty_folder):
    with pytest.raises(UsageError, match=rf"trainer\.pause_after={value}: must be"):
        run.train(asked(f"trainer.pause_after={value}"))
    assert not [*empty_folder.iterdir()]


def test_a_bad_value_is_refused_where_the_run_is_paused():
    run.train(asked(pause=1))
    before = known(asked())
    for value in ("0", "soon"):
        with pytest.raises(UsageError, match=rf"trainer\.pause_after={value}: must be"):
            run.train(asked(f"trainer.pause_after={value}"))
    assert known(asked()) == before


def test_the_command_says_how_to_go_on_and_names_no_pause_in_the_folder(empty_folder):
    words_ = [TRAIN, *TINY, *PLAIN, "trainer.max_epochs=3"]
    done = commands.run([*words_, "trainer.pause_after=1"])
    assert done.returncode == 0, done.stderr
    assert "\npruned        at epoch 0, after 1 of 3 epochs, " in done.stdout
    assert (
        "\nto go on      the same command without trainer.pause_after, or with a later epoch" in done.stdout
    )
    again = commands.run([*words_, "trainer.pause_after=1"])
    assert again.returncode == 0 and again.stdout.startswith("pruned before, in ")
    (folder,) = run_folder.folders(empty_folder / "outputs")
    assert "pause" not in folder.name and "pause_after: null" in (folder / "config.yaml").read_text()
    assert not any("pause" in text for text in record.read(folder)["overrides"])
    on = commands.run(words_)
    assert on.returncode == 0 and "resume        from step " in on.stdout and "\nfinished " in on.stdout


def test_a_sweep_of_paused_runs_says_so(capfd, empty_folder):
    requests = [asked(f"seed.value={seed}", "progress=true", pause=2) for seed in range(3)]
    values = [value for _, value in launch.train(requests, launch.LocalSettings(max_parallel=1))]
    assert values == [known(request)["best"]["value"] for request in requests]
    out = capfd.readouterr().out
    assert ": 3 runs: 3 pruned\n" in out and "\nto go on      the same command without trainer.pause_a" in out
    assert "1/3  pruned" in out
    table = load(requests[0].home)
    assert [row.status for row in table.rows] == ["pruned"] * 3 and not any(row.ended for row in table.rows)
    text = words.text(words.summary(answer.answer(table, thorough=False)))
    assert "(3 pruned); the same command goes on without trainer.pause_after" in " ".join(text.split())
    script = commands.run([TRAIN.replace("train.py", "scripts/status.py"), requests[0].home])
    assert script.returncode == 0 and "3 runs: 3 pruned" in script.stdout
    outcomes = pool.train_all([asked(f"seed.value={seed}", "progress=true") for seed in range(3)])
    assert [status(outcome) for outcome in outcomes] == ["finished"] * 3


def test_a_run_killed_before_it_goes_on_is_not_taken_for_one_that_has(monkeypatch):
    """Its old status is that of an earlier request."""
    monkeypatch.setattr(group_size, "_seconds", lambda learner, x, y: 1.0)
    first, later = ([asked(f"seed.value={seed}", pause=pause) for seed in range(2)] for pause in (1, 2))
    pool.train_all(first, max_parallel=1)
    killed = []

    def kill(requests):
        killed.append(os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(run, "train_together", kill)
    outcomes = pool.train_all(later, max_parallel=1)
    assert [status(outcome) for outcome in outcomes] == ["pruned"] * 2
    assert [known(request)["stopped"]["epoch"] for request in later] == [1, 1]


@pytest.mark.parametrize(
    ("state", "expected"),
    [(State("RUNNING"), "queued"), (State("PENDING"), "queued"), (State("GONE"), "pruned")],
)
def test_a_paused_run_in_a_new_job_is_queued(state, expected, monkeypatch):
    request = asked(pause=1)
    run.train(request)
    ledger = Ledger(request.home)
    with ledger.held():
        ledger.announce(Submission("s", "slurm", [[request.id]], {request.id: request.folder.name}))
        ledger.add_result(
            Submission("s", "slurm", [[request.id]], {request.id: request.folder.name}, jobs=["7"])
        )
    monkeypatch.setattr(overview, "states", lambda placed: dict.fromkeys((one.job for one in placed), state))
    assert [(row.status, row.live) for row in overview.look(request.home)] == [
        (expected, expected == "queued")
    ]
    monkeypatch.setattr(overview.environment, "job", lambda known: "7")  # the one that has paused it
    assert [(row.status, row.live) for row in overview.look(request.home)] == [("pruned", False)]


def library(pause=None):
    torch.manual_seed(0)
    data = split(diabetes(), batch_size=64)
    settings = Settings(max_epochs=4, device="cpu", pause_after=pause)
    model = nn.Sequential(nn.Linear(10, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    return build(data=data, model=model, optimizer=torch.optim.Adam, seed=1, settings=settings)


def test_from_python(tmp_path):
    whole = fit(library(), tmp_path / "whole", progress=False)
    paused = fit(library(2), tmp_path / "paused", progress=False)
    assert (paused.status, len(paused.history), paused.final) == ("pruned", 2, {})
    assert "; the same parts without pause_after, or with a later one, go on" in " ".join(
        repr(paused).split()
    )
    again = fit(library(1), tmp_path / "paused", progress=False)
    assert (again.status, len(again.history)) == ("pruned", 2)
    done = fit(library(), tmp_path / "paused", progress=False)
    assert done.status == "finished" and done.history == whole.history and done.metrics == whole.metrics
    assert [str(found) for found in compare(tmp_path / "whole", tmp_path / "paused")] == []


def test_a_task_whose_runs_pause_as_asked_has_succeeded():
    task = job.ClusterTask("local", "1", 0, 0, 1)
    requests = [asked(pause=1)]
    plan = SimpleNamespace(packages=[], of_task=lambda index: requests, pool={})
    for _ in range(2):
        assert job._train(plan, 0, task) == 0 and known(requests[0])["status"] == "pruned"
    requests[0] = asked(pause=2)
    assert job._train(plan, 0, task) == 0 and known(requests[0])["stopped"]["epoch"] == 1


def test_the_launcher_that_waits_is_told_what_a_paused_run_has():
    run.train(asked(pause=2))
    (row,) = overview.look(asked().home)
    assert slurm_launcher._value(asked(pause=2), row, True) == known(asked())["best"]["value"]
    for later in (asked(), asked(pause=3)):
        assert isinstance(slurm_launcher._value(later, row, True), Failure)
        assert slurm_launcher._value(later, row, False) is None


def test_a_paused_run_is_never_the_one_that_is_used():
    run.train(asked(pause=2))
    run.train(asked("optimizer.lr=0.00001"))  # worse, but at its end
    assert best_run(asked().home) == asked("optimizer.lr=0.00001").folder
    assert Predictor.read(asked().folder)  # who names it can look at it
