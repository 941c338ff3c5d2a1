"""Runs of a sweep side by side: failures stay with their run, signals reach all, nobody outlives it."""

import faulthandler
import itertools
import json
import math
import os
import select
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import commands
import pytest
import sweeps
from small import PLAIN, TINY, TRAIN, composed

from sweepwise import run, trainer
from sweepwise.errors import Failure, UsageError
from sweepwise.provenance import changes
from sweepwise.results.words import MOST_LINES
from sweepwise.run import group, load, single
from sweepwise.store import claim, record
from sweepwise.sweep import shown
from sweepwise.sweep.cluster.ledger import Ledger, Submission
from sweepwise.sweep.local import beforehand, launch, machine, pool
from sweepwise.sweep.local.observer import Unobserved
from sweepwise.sweep.outcome import status
from sweepwise.sweep.summary import tell
from sweepwise.system import signals
from sweepwise.verify.compare import compare

SMALL = [*TINY, *PLAIN, "monitor=none"]
SHORT = [*SMALL, "trainer.max_epochs=2"]
LONG = [*SMALL, "trainer.max_epochs=20000"]
LOGS = Path("outputs/main/.sweep/logs")

pytestmark = pytest.mark.usefixtures("empty_folder", "written_soon")


def asked(*overrides: str, short: bool = True):
    return composed(*(SHORT if short else LONG), *overrides)


APART = launch.LocalSettings(fuse=False)


def trained(*requests, **options):
    return pool.train_all(requests, fuse=False, **options)


def value(outcome):
    return record.read(outcome.request.folder)["best"]["value"]


def failing(monkeypatch, do):
    """Lets the run of seed 1 do something else in the place of its training."""
    fit = trainer.fit

    def fit_or_fail(learner, data, task, runs, *others):
        if runs[0].order_seed == 1:
            do()
        fit(learner, data, task, runs, *others)

    for home in (single, group):
        monkeypatch.setattr(home, "fit", fit_or_fail)


# --- what becomes of runs


def test_runs_are_trained_in_processes_and_told_in_order(capfd, monkeypatch):
    monkeypatch.setattr(shown, "QUIET_SECONDS", math.inf)  # on a machine that is busy
    requests = [asked(f"seed.value={seed}", "progress=true") for seed in (2, 0, 1)]
    found = list(launch.train(requests, launch.LocalSettings(max_parallel=2, fuse=False)))
    assert [request for request, _ in found] == requests
    for request, best_value in found:
        known = record.read(request.folder)
        assert known["status"] == "finished" and best_value == known["best"]["value"]
        assert known["attempts"][0]["pid"] != os.getpid()
        assert "finished" in (LOGS / f"{request.id}.log").read_text()
    lines = capfd.readouterr().out.splitlines()
    assert [line[:3] for line in lines[:3]] == ["1/3", "2/3", "3/3"]
    assert lines[3] == "sweep         outputs/main: 3 runs: 3 finished"
    assert lines[4].startswith("answer        1 setting x 3 seeds; val/loss") and len(lines) <= 4 + MOST_LINES
    assert sorted(line.split()[2] for line in lines[:3]) == [f"seed.value={seed}" for seed in range(3)]
    assert all(record.best(record.read(request.folder), ".4g") in " ".join(lines) for request in requests)


def test_what_a_run_learns_does_not_depend_on_the_sweep():
    outcome, _ = trained(asked("seed.value=3"), asked("seed.value=4"))
    alone = run.train(asked("seed.value=3", "output_dir=alone"))
    assert value(outcome) == alone.run.best.value
    assert compare(outcome.request.folder, asked("seed.value=3", "output_dir=alone").folder) == []


def test_runs_that_have_ended_are_taken_without_a_process(monkeypatch, capfd):
    requests = [asked(f"seed.value={seed}", "progress=true") for seed in (0, 1)]
    first = list(launch.train(requests, APART))
    logs = {path: path.stat().st_mtime_ns for path in LOGS.iterdir()}
    monkeypatch.setattr(pool, "start_child", None)
    capfd.readouterr()
    assert list(launch.train(requests, APART)) == first
    told = capfd.readouterr().out
    assert told.count("before") == 2 and ": 2 runs: 2 finished\nanswer  " in told
    assert logs == {path: path.stat().st_mtime_ns for path in LOGS.iterdir()}


def test_a_run_that_is_asked_for_twice_is_trained_once():
    ended = []

    class Listener(Unobserved):
        def ended(self, outcome):
            ended.append(outcome)

    requests = asked("seed.value=0"), asked("seed.value=0", "monitor=scalars"), asked("seed.value=1")
    outcomes = trained(*requests, observer=Listener())
    assert [outcome.exit_code for outcome in outcomes] == [0, 0, 0] and len(ended) == 2
    assert value(outcomes[0]) == value(outcomes[1]) != value(outcomes[2])
    assert len(list(Path("outputs/main").glob("*/record.json"))) == 2


def test_a_run_that_diverges_is_a_result():
    (outcome,) = trained(asked("optimizer=sgd", "optimizer.lr=1e30"))
    assert (outcome.exit_code, status(outcome)) == (1, "diverged")


@pytest.mark.parametrize(
    ("do", "code", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9, "killed by SIGKILL; perhaps the memory was full"),
        (lambda: (faulthandler.disable(), os.abort()), -6, "killed by SIGABRT"),
        (lambda: os._exit(0), 1, "its process exited with code 0"),
        (lambda: os._exit(7), 7, "its process exited with code 7"),
        (lambda: 1 / 0, 1, "ZeroDivisionError: division by zero"),
        (lambda: (_ for _ in ()).throw(Failure("it is so")), 1, "it is so"),
        (lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")), 1, "No space left on device"),
    ],
)
def test_a_run_that_dies_stops_no_other(do, code, said, monkeypatch, capfd):
    failing(monkeypatch, do)
    outcomes = []
    monkeypatch.setattr(
        launch,
        "tell",
        lambda told, *all_of_them, **how: (outcomes.extend(told), tell(told, *all_of_them, **how)),
    )
    values = list(launch.train([asked(f"seed.value={seed}") for seed in range(3)], APART))
    assert [isinstance(best_value, Failure) for _, best_value in values] == [False, True, False]
    (dead,) = [outcome for outcome in outcomes if outcome.request.config["seed"]["value"] == 1]
    assert (dead.exit_code, status(dead)) == (code, "failed") and dead.log.exists()
    assert said in dead.last[-1] == dead.log.read_text().splitlines()[-1]
    out, err = capfd.readouterr()
    assert out.endswith("2 finished, 1 failed\n")
    told = " ".join(err.split())
    assert told.startswith("failed seed.value=1") and said in told and str(dead.log) in told


def test_a_run_that_closes_what_it_did_not_open_is_waited_for_in_peace(monkeypatch):
    looks, look = [], select.select

    def close():
        os.closerange(3, 1000)
        time.sleep(0.3)  # it lives on meanwhile
        os._exit(7)

    failing(monkeypatch, close)
    monkeypatch.setattr(select, "select", lambda *ends: (looks.append(ends), look(*ends))[1])
    (outcome,) = trained(asked("seed.value=1"))
    assert outcome.exit_code == 7
    assert len(looks) < 100


def test_runs_that_cannot_be_built_are_told_before_the_first_is_trained(empty_folder):
    """Whether it is the value itself, another setting or the model that refuses it."""
    early = ["early_stop=patience", "early_stop.patience=99"]
    small = ["model.norm=batch", "data.batch_size=53"]  # leaves one example for batch norm
    sets = [[], small, ["optimizer.lr=0.1"], early, ["optimizer.lr=-1"], [*small, "optimizer.lr=0.1"]]
    requests = [asked(*extra) for extra in sets]
    ends = []

    class Told(Unobserved):
        def ended(self, outcome):
            ends.append((requests.index(outcome.request), status(outcome)))

    outcomes = pool.train_all(requests, max_parallel=1, observer=Told())
    assert sorted(ends[:4]) == [(place, "refused") for place in (1, 3, 4, 5)]
    assert sorted(ends[4:]) == [(0, "finished"), (2, "finished")]
    for place, words in (
        (1, "a last batch of 1 example"),
        (3, "patience=99"),
        (4, "lr=-1"),
        (5, "batch of 1"),
    ):
        assert words in outcomes[place].last[0] and outcomes[place].log is None
        assert not requests[place].folder.exists()


def test_many_runs_that_differ_in_numbers_are_built_once(monkeypatch):
    requests = [asked(f"seed.value={seed}", f"optimizer.lr=0.{seed + 1}") for seed in range(40)]
    built = []
    build = beforehand._build
    monkeypatch.setattr(beforehand, "_build", lambda request: [built.append(request), build(request)][1])
    monkeypatch.setattr(beforehand, "run_in_child", lambda ask: json.loads(json.dumps(ask())))
    assert beforehand.look(requests).faults == {} and built == requests[:1]


@pytest.mark.parametrize("patient", [True, False])
def test_what_runs_note_is_known_before_the_first_is_trained(monkeypatch, patient):
    """Those that are not built note what they would note alone; of the other seeds also without a look."""
    unread = ["optimizer.momentum=0", "optimizer.dampening=0.1"]
    numbers = [[], ["optimizer.lr=0.01"], ["scheduler.step_size=1"], unread]
    late = ["scheduler=step", "scheduler.step_size=30", "optimizer=sgd"]
    sets = [[*late, *extra] for extra in numbers] + [["init=xavier"]]
    requests = [asked(f"seed.value={seed}", *extra) for extra in sets for seed in (0, 1)]
    if not patient:  # one look at each setting is all there is time for
        looked = itertools.count()
        monkeypatch.setattr(beforehand, "run_in_child", lambda ask: json.loads(json.dumps(ask())))
        monkeypatch.setattr(beforehand.time, "process_time", lambda: next(looked) / (len(sets) + 1))
    alone = [list(run.build(request).notes) for request in requests]
    assert beforehand.look(requests).notes == dict(enumerate(alone))
    assert any("stays at 0.01" in note for note in alone[2]) and alone[4] != alone[2]


def test_refused_runs_leave_nothing_and_are_told_once(empty_folder, capfd):
    requests = [asked(f"seed.value={seed}", "optimizer.lr=-1") for seed in range(3)]
    for _, error in launch.train(requests, APART):
        assert isinstance(error, UsageError) and error.faults == [
            "error: optimizer.lr=-1: must be in [0, inf)"
        ]
    out, err = capfd.readouterr()
    assert out.endswith(": 3 refused\n") and err.startswith("refused       seed.value=")
    assert err.count(" and 2 more\n") == err.count("must be in") == 1
    assert list(empty_folder.iterdir()) == []


def test_runs_that_began_with_other_code_are_told_before_a_process_starts(monkeypatch, empty_folder, capfd):
    monkeypatch.setattr(pool, "start_child", None)
    given = [f"output_dir={empty_folder}/outputs", "name=main"]
    requests = [composed(f"seed.value={seed}", *given, "progress=true") for seed in range(3)]
    for seed in range(3):
        sweeps.run(empty_folder / "outputs" / "main", f"seed.value={seed}", value=None, status="interrupted")
    outcomes = pool.train_all(requests)
    assert [status(outcome) for outcome in outcomes] == ["changed"] * 3
    tell(outcomes, requests)
    out, err = capfd.readouterr()
    assert out.startswith("sweep         ") and ": 3 runs: 3 changed" in " ".join(out.split())
    assert " ".join(err.split()).count("accept_changes=true continues it") == err.count(" and 2 more\n") == 1
    accepted = composed("seed.value=0", *given, "accept_changes=true")
    assert changes.already_ended(accepted) is None


def test_a_run_that_another_process_trains_is_elsewhere(capfd):
    request = asked("seed.value=1")
    with claim.claim_run(request):
        (_, best_value), (_, error) = launch.train([asked("seed.value=0"), request], APART)
    assert isinstance(best_value, float) and isinstance(error, Failure)
    assert f"is being trained by process {os.getpid()}" in str(error)
    assert not pool._logs(request).joinpath(f"{request.id}.log").exists()  # the other's
    out, err = capfd.readouterr()
    assert out.endswith("1 finished, 1 elsewhere\n") and err.startswith("elsewhere     seed.value=1")


def test_a_run_that_a_cluster_has_in_its_queue_is_elsewhere(tmp_path, monkeypatch, capfd):
    request = asked("seed.value=1")
    ledger = Ledger(request.home)
    with ledger.held():
        given = Submission("main-1", "slurm", [[request.id]], {request.id: "a-run"})
        ledger.announce(given)
        ledger.add_result(replace(given, jobs=["17"]))
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho '17|PENDING||Priority|main-1'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    (_, best_value), (_, error) = launch.train([asked("seed.value=0"), request], APART)
    assert isinstance(best_value, float) and "will be trained by the cluster's job 17" in str(error)
    squeue.write_text("#!/bin/sh\nexit 1\n")  # nobody knows, and there may be no cluster
    assert all(isinstance(found, float) for _, found in launch.train([request], APART))


def test_a_run_that_was_made_otherwise_is_told_so_and_trained_by_nobody(monkeypatch, capfd):
    first = asked("seed.value=0")
    trained(first)
    monkeypatch.setattr(changes, "versions", lambda: {"torch": "0.0"})
    (_, error), (_, best_value) = launch.train([first, asked("seed.value=1")], APART)
    assert "was produced with different code" in str(error) and isinstance(best_value, float)
    out, err = capfd.readouterr()
    assert out.endswith("1 finished, 1 changed\n") and err.startswith("changed       seed.value=0")


def test_a_log_that_cannot_be_written_is_an_error_of_the_sweep():
    request = asked("seed.value=0")
    pool._logs(request).joinpath(f"{request.id}.log").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        list(launch.train([request], APART))
    assert not request.folder.exists()


def test_a_damaged_record_fails_its_run_only(capfd):
    requests = [asked(f"seed.value={seed}") for seed in (0, 1)]
    trained(*requests)
    (requests[0].folder / "record.json").write_text("{")
    outcomes = trained(*requests)
    assert [outcome.exit_code for outcome in outcomes] == [1, 0] and "is damaged" in outcomes[0].last[0]
    (_, error), (_, best_value) = launch.train(requests, APART)
    assert "is damaged" in str(error) and isinstance(best_value, float)
    assert capfd.readouterr().out.endswith("1 finished, 1 failed\n")


def test_a_log_keeps_what_earlier_attempts_have_printed():
    request = asked("seed.value=0", "fresh=true")
    (first,) = trained(request)
    before = first.log.read_text()
    (second,) = trained(request)
    assert second.log == first.log and second.log.read_text().startswith(before)
    assert second.log.stat().st_size > len(before)


@pytest.mark.parametrize("moment", ["ended", "tick"])
def test_an_error_of_the_pool_itself_leaves_nobody_behind(moment):
    seen = []

    def fail(*given):
        seen.append(given)
        if len(seen) == 2:
            raise ArithmeticError("of a caller's own")

    observer = Unobserved()
    setattr(observer, moment, fail)
    requests = [asked(f"seed.value={seed}", short=moment != "tick") for seed in range(3)]
    with pytest.raises(ArithmeticError):
        trained(*requests, max_parallel=2, observer=observer)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # there is none


def test_a_process_has_nothing_to_read(monkeypatch):
    failing(monkeypatch, lambda: print("read", os.read(0, 9)))
    (outcome,) = trained(asked("seed.value=1"))
    assert "read b''" in outcome.log.read_text()


# --- how many at once, and on what


def test_as_many_runs_at_once_as_are_allowed():
    requests = [asked(f"seed.value={seed}") for seed in range(4)]
    trained(*requests, max_parallel=1)
    found = sorted(record.read(request.folder)["attempts"][0]["pid"] for request in requests)
    assert len(set(found)) == 4
    changes = [(request.folder / "record.json").stat().st_mtime_ns for request in requests]
    assert changes == sorted(changes)  # one after the other, in order


def test_slots(monkeypatch):
    requests = [asked(f"seed.value={seed}", "trainer.device=auto", "trainer.threads=2") for seed in range(9)]
    own = [asked("trainer.device=cuda:1"), asked("trainer.device=cpu")]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [])  # of /dev
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    assert machine.slots(requests, None) == [None] * 4
    assert len(machine.slots(requests[:3], None)) == 3 and len(machine.slots(requests, 7)) == 7
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert len(machine.slots(requests, None)) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(1))
    assert len(machine.slots(requests, None)) == 1
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("/dev/nvidia0"), Path("/dev/nvidia1")])
    assert machine.slots(requests, None) == ["0", "1"] and machine.slots(requests, 3) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert machine.slots(requests, None) == ["5", "GPU-7"]
    assert machine.slots(own, None) == [None]


def test_a_process_sees_its_own_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    seen = "print('sees', os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setattr(load, "trainer", lambda: lambda request, fused: exec(seen) or 1 / 0)
    monkeypatch.setattr(pool, "_prepare", lambda requests: None)
    requests = [asked(f"seed.value={seed}", "trainer.device=auto") for seed in range(2)]
    outcomes = trained(*requests)
    assert [outcome.log.read_text().splitlines()[0] for outcome in outcomes] == ["sees 3", "sees 5"]


# --- signals


def wait_for(condition, process) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def begun() -> list[Path]:
    """Runs that have validated at least three times."""
    found = []
    for path in Path("outputs/main").glob("*/metrics.jsonl"):
        if sum("val/loss" in line for line in path.read_text().splitlines()) > 3:
            found.append(path.parent)
    return found


def sweep(*arguments: str) -> subprocess.Popen:
    command = [
        TRAIN,
        "-m",
        *LONG,
        "seed.value=0,1,2",
        "hydra.launcher.max_parallel=2",
        "hydra.launcher.fuse=false",
    ]
    return commands.popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoints" / "last").exists()


QUICK = [(signal.SIGINT, True)]  # Ctrl-C reaches the whole group; kill, which is among ALL, one process
ALL = [(sent, group) for sent in signals.STOP_SIGNALS for group in (False, True)]


@pytest.mark.parametrize(
    ("sent", "group"),
    [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in ALL if one not in QUICK)],
)
def test_a_signal_ends_all_runs_with_their_checkpoints(sent, group):
    with sweep() as process:
        wait_for(lambda: len(begun()) == 2, process)
        (os.killpg if group else os.kill)(process.pid, sent)
        out, err = process.communicate(timeout=120)
    assert process.returncode == (130 if sent == signal.SIGINT else 143)
    assert err == f"error: stopped by {sent.name}\n"
    assert "sweep         outputs/main: 3 runs: 2 interrupted, 1 not begun\n" in out
    assert "to go on      python " in out
    folders = list(Path("outputs/main").glob("*/record.json"))
    assert len(folders) == 2
    for path in folders:
        assert json.loads(path.read_text())["status"] == "interrupted" and has_checkpoint(path.parent)


@pytest.mark.slow
def test_runs_make_a_checkpoint_when_the_sweep_is_killed():
    with sweep() as process:
        wait_for(lambda: len(begun()) == 2, process)
        folders = begun()
        process.kill()
        process.communicate(timeout=60)
    end = time.monotonic() + 60
    while any(record.read(folder)["status"] == "running" for folder in folders):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert all(
        record.read(folder)["status"] == "interrupted" and has_checkpoint(folder) for folder in folders
    )


@pytest.mark.slow
def test_the_same_command_goes_on():
    with sweep() as process:
        wait_for(lambda: len(begun()) == 2, process)
        process.terminate()
        process.communicate(timeout=120)
    folder = begun()[0]
    step = record.read(folder)["stopped"]["step"]
    with sweep() as process:
        wait_for(lambda: record.read(folder)["status"] == "running", process)
        process.terminate()
        process.communicate(timeout=120)
    attempts = record.read(folder)["attempts"]
    assert len(attempts) == 2 and attempts[1]["from_step"] == step + 1
