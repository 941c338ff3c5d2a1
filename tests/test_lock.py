"""Whose a run's folder is: real locks, forks, kills and file systems."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from small import ROOT, TRAIN, mounted, remount

from sweepwise.store import claim as claim_module
from sweepwise.store import folders, record
from sweepwise.store.claim import Busy, claim_folder, is_held
from sweepwise.store.folders import clear
from sweepwise.store.record import Record
from sweepwise.store.request import Request

MANY = 50
FORK = multiprocessing.get_context("fork")


def asked(home: Path, seed: int = 0, overrides: tuple[str, ...] = ()) -> Request:
    return Request({"output_dir": str(home), "name": "main", "seed": {"value": seed}}, overrides)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HOLD = """
import os, sys, time
from pathlib import Path
from sweepwise.store.claim import claim_folder
claim_folder(Path(sys.argv[1]))
if sys.argv[2] == "fork" and os.fork() == 0:
    sys.stdin.close()
    time.sleep(60)
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(folder: Path, then: str = "wait"):
    """Another process that has claimed the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), then],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# --- one process at a time


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "deep" / "run"
    with holder(folder) as first:
        (folder / "metrics.jsonl").write_text("of the first")
        told = (
            rf"{folder} is being trained by process {first.pid} on \S+ since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d"
        )
        with pytest.raises(Busy, match=told) as raised:
            claim_folder(folder)
        assert "\n" not in str(raised.value)
        assert names(folder) == [".lock", "metrics.jsonl"]  # and nothing was touched
        first.send_signal(signal.SIGKILL)
        first.wait()
        with claim_folder(folder):
            assert names(folder) == [".lock", "metrics.jsonl"]
            assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} ")


def test_a_lock_dies_with_its_holder_though_a_child_of_it_lives_on(tmp_path):
    with holder(tmp_path / "run", "fork") as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        os.killpg(first.pid, 0)  # the child is there
        end = time.monotonic() + 30
        while is_held(tmp_path / "run") and time.monotonic() < end:
            os.sched_yield()  # it may have been born only now, and closes what it has inherited first of all
        claim_folder(tmp_path / "run").release()


def test_what_a_child_does_with_an_inherited_claim_leaves_it_to_the_parent(tmp_path):
    with claim_module.claim_run(asked(tmp_path)) as claim:
        (claim.folder / "kept").touch()

        def in_child() -> None:
            claim.release()  # as a `with` does that a worker leaves by an exception
            other = claim_module.claim_run(asked(tmp_path, 1))  # may get the number of the parent's lock
            claim.release()
            assert is_held(other.folder)

        child = FORK.Process(target=in_child)
        child.start()
        child.join()
        assert child.exitcode == 0
        with pytest.raises(Busy):
            claim_module.claim_run(asked(tmp_path))
    assert not is_held(claim.folder)


def test_a_claim_ends_when_it_is_released_and_only_then(tmp_path):
    claim = claim_module.claim_run(asked(tmp_path))
    (claim.folder / "kept").touch()
    with pytest.raises(Busy, match=f"process {os.getpid()} "):
        claim_module.claim_run(asked(tmp_path))
    claim.release()
    claim.release()
    claim_module.claim_run(asked(tmp_path)).release()
    assert names(claim.folder) == [".lock", "kept"]


def test_who_holds_it_is_told_though_the_line_is_still_being_written(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def write_late() -> None:
            time.sleep(0.1)
            (folder / ".lock").write_text("process 7 on there since then\n")

        child = FORK.Process(target=write_late)
        child.start()
        with pytest.raises(Busy, match=r"by process 7 on there since then$"):
            claim_folder(folder)
        child.join()


def test_a_look_at_a_lock_neither_takes_it_nor_turns_a_claim_away(tmp_path):
    folder = tmp_path / "run"
    assert not is_held(folder) and not folder.exists()
    with claim_folder(folder) as claim:
        (claim.folder / "kept").touch()
        before = (folder / ".lock").read_bytes()
        assert is_held(folder) and (folder / ".lock").read_bytes() == before

    def look(stop) -> None:
        while not stop.is_set():
            is_held(folder)

    stop = FORK.Event()
    watchers = [FORK.Process(target=look, args=(stop,)) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(200):
            claim_folder(folder).release()
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


# --- many at once


def race(requests: list[Request]) -> list[str]:
    """What becomes of as many processes that claim at the same moment; those that win keep what they have."""
    barrier, done, answers = FORK.Barrier(len(requests)), FORK.Event(), FORK.Queue()

    def start(request: Request) -> None:
        barrier.wait()
        try:
            claim = claim_module.claim_run(request)
        except Exception as error:
            answers.put(f"{type(error).__name__}: {error}")
            return
        (claim.folder / "config.yaml").write_text("x")
        answers.put(f"{claim.folder}")
        done.wait()

    processes = [FORK.Process(target=start, args=(request,)) for request in requests]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    done.set()
    for process in processes:
        process.join()
    return found


@pytest.mark.slow
def test_of_fifty_processes_that_want_one_run_one_gets_it(tmp_path):
    home = tmp_path / "results" / "of today"
    found = race([asked(home, overrides=(f"a={n}", "b=1")[:: 1 if n % 2 else -1]) for n in range(MANY)])
    won = [answer for answer in found if not answer.startswith("Busy: ")]
    (folder,) = won
    told = rf"Busy: {re.escape(folder)} is being trained by process \d+ on \S+ since \S+"
    assert all(re.fullmatch(told, answer) for answer in found if answer != folder)
    assert names(home / "main") == [".lock", Path(folder).name]
    assert names(Path(folder)) == [".lock", "config.yaml"]


@pytest.mark.slow
def test_fifty_processes_with_a_run_each_get_fifty_whole_folders(tmp_path):
    home = tmp_path / "results"
    found = race([asked(home, seed) for seed in range(MANY)])
    assert sorted(found) == sorted(str(asked(home, seed).folder) for seed in range(MANY))
    assert len(set(found)) == MANY and len(names(home / "main")) == MANY + 1
    assert all(names(Path(folder)) == [".lock", "config.yaml"] for folder in found)


def test_claims_that_come_and_go_never_meet(tmp_path):
    """Folders that are made for nothing vanish again, under those who are just taking them."""
    failures = FORK.Queue()

    def come_and_go() -> None:
        for _ in range(40):
            with contextlib.suppress(Busy):
                try:
                    with claim_module.claim_run(asked(tmp_path / "home")) as claim:
                        (tmp_path / "inside").mkdir()  # only one process can
                        (tmp_path / "inside").rmdir()
                        assert claim.folder.is_dir()
                except Exception as error:
                    if not isinstance(error, Busy):
                        failures.put(repr(error))
                    raise

    processes = [FORK.Process(target=come_and_go) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    told = [] if failures.empty() else [failures.get(timeout=5)]
    assert not told and all(process.exitcode == 0 for process in processes)
    assert not list(tmp_path.glob("home/main/*-*")) and not (tmp_path / "inside").exists()


# --- nothing half-made


def test_a_group_claims_all_of_its_folders_or_none(tmp_path):
    """With one look at the experiment's folder, whatever its size; one that is held frees the others."""
    requests = [asked(tmp_path, seed) for seed in range(4)]
    claims = claim_module.claim_runs(requests)
    folders_of_runs = [claim.folder for claim in claims]
    assert folders_of_runs == [request.folder for request in requests] and all(map(is_held, folders_of_runs))
    for claim in reversed(claims):
        claim.release()
    assert names(tmp_path) == []
    with holder(requests[2].folder), pytest.raises(Busy):
        claim_module.claim_runs(requests)
    assert names(tmp_path / "main") == [".lock", requests[2].folder.name]


def test_a_group_lists_its_experiment_once(tmp_path, monkeypatch):
    usual, listed = os.listdir, []
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or usual(path))
    for claim in claim_module.claim_runs([asked(tmp_path, seed) for seed in range(20)]):
        claim.release()
    assert listed.count(str(tmp_path / "main")) == 1


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    home = tmp_path / "a" / "b"
    with pytest.raises(KeyboardInterrupt), claim_module.claim_run(asked(home)):
        raise KeyboardInterrupt
    assert names(tmp_path) == []
    with claim_module.claim_run(asked(home)) as claim:
        Record(claim.folder).end("interrupted", "")
    with claim_module.claim_run(asked(home, 1)):
        pass
    assert names(home / "main") == [".lock", claim.folder.name]


@pytest.mark.parametrize("place", ["file", "file/run", "broken"])
def test_a_folder_that_cannot_be_made_is_told_and_leaves_nothing(place, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere" / "else")
    check_unwritable(tmp_path / place, ".* exists|Not a directory|No such file")
    assert names(tmp_path) == ["broken", "file"] and not (tmp_path / "nowhere").exists()


def test_a_path_that_is_too_long_is_told_and_leaves_nothing(tmp_path):
    check_unwritable(tmp_path / "/".join(["x" * 250] * 20), "File name too long")
    assert names(tmp_path) == []


def check_unwritable(home: Path, why: str) -> None:
    with pytest.raises(OSError) as raised:
        claim_module.claim_run(asked(home))
    text = str(raised.value)
    assert re.fullmatch(
        rf".+ cannot be written \((?:{why}).*\); output_dir=FOLDER names another folder", text
    )
    assert str(home)[:40] in text and ".lock" not in text and ".tmp" not in text


@pytest.mark.parametrize("several", [[], ["-m"]], ids=["one", "sweep"])
def test_a_read_only_place_ends_the_command_in_one_line(several, empty_folder, as_command):
    with mounted(empty_folder / "disk", "size=1m") as disk:
        remount(disk, "ro")
        code, out, err = as_command(TRAIN, *several, "data=wine", "output_dir=disk/out")
    refusal = r"error: disk/out\S* cannot be written \(Read-only file system\); output_dir=FOLDER names .*\n"
    assert code == 1 and re.fullmatch(refusal, err) and out == ""
    assert names(empty_folder) == ["disk"]


@pytest.mark.parametrize("there", ["nothing", "experiment", "run"])
def test_a_read_only_file_system_is_told_before_the_training(there, tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        home = disk / "results"
        if there != "nothing":
            with claim_module.claim_run(asked(home, there == "experiment")) as claim:
                (claim.folder / "kept").touch()
        before = sorted(home.rglob("*"))
        remount(disk, "ro")
        check_unwritable(home, "Read-only file system")
        assert sorted(home.rglob("*")) == before


def test_a_full_file_system_is_told_before_the_training_and_left_clean(tmp_path):
    with mounted(tmp_path / "disk", "size=256k"):
        (tmp_path / "disk" / "filler").write_bytes(bytes(220 * 1024))
        check_unwritable(tmp_path / "disk" / "results", "No space left on device")
        assert names(tmp_path / "disk") == ["filler"]
        (tmp_path / "disk" / "filler").write_bytes(bytes(1024))
        claim_module.claim_run(asked(tmp_path / "disk" / "results")).release()


def test_a_folder_of_somebody_else_is_told():
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        with claim_module.claim_run(asked(Path(place))) as claim:
            (claim.folder / "kept").touch()
        claim.folder.chmod(0o555)
        answers = FORK.Queue()

        def as_nobody() -> None:
            if os.geteuid() == 0:
                os.seteuid(65534)
            for seed in (0, 1):
                try:
                    claim_module.claim_run(asked(Path(place), seed))
                except OSError as error:
                    answers.put(str(error))

        child = FORK.Process(target=as_nobody)
        child.start()
        told = [answers.get(timeout=30) for _ in range(1 + (os.geteuid() == 0))]
        child.join()
        claim.folder.chmod(0o755)
    assert all("cannot be written (Permission denied); output_dir=FOLDER names" in text for text in told)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_with_the_way_out(number, tmp_path, monkeypatch):
    def refuse(file, kind):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claim_module.fcntl, "flock", refuse)
    told = (
        rf"^{tmp_path}/x/main: its file system cannot lock files \(.*output_dir=FOLDER .*another file system$"
    )
    with pytest.raises(OSError, match=told):
        claim_module.claim_run(asked(tmp_path / "x"))
    assert names(tmp_path) == []


def test_an_experiment_that_stays_locked_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(claim_module, "PATIENCE_SECONDS", 0.1)
    (tmp_path / "main").mkdir()
    with open(tmp_path / "main" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 7 on there since then\n")
        file.flush()
        with pytest.raises(Busy, match=r"main has been locked for 0 s by process 7 on there"):
            claim_module.claim_run(asked(tmp_path))


# --- clearing


def test_clearing_leaves_the_lock_and_what_links_point_to(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    with claim_folder(tmp_path / "run") as claim:
        folder = claim.folder
        (folder / "checkpoints" / "step-1").mkdir(parents=True)
        (folder / "checkpoints" / "step-1" / "weights.safetensors").write_bytes(b"old")
        (folder / "checkpoints" / "last").symlink_to("step-1")
        (folder / "checkpoints" / "out").symlink_to(elsewhere)
        (folder / "record.json").write_text("{}")
        (folder / "link").symlink_to(elsewhere)
        (folder / "broken").symlink_to(tmp_path / "nowhere")
        clear(folder)
        assert names(folder) == [".lock"]
        with pytest.raises(Busy):
            claim_folder(folder)
    assert (elsewhere / "kept").read_text() == "kept"


def test_clearing_that_is_cut_off_leaves_no_record_of_what_is_gone(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    Record(tmp_path).end("finished", "")

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folders.shutil, "rmtree", fail)
    with pytest.raises(OSError, match="Input/output"):
        clear(tmp_path)
    assert record.read(tmp_path) == {} and (tmp_path / "checkpoints").exists()


def test_where_no_folder_can_be_made_that_is_said():
    """In /proc a folder that is made is not there: nobody has removed it."""
    with pytest.raises(
        OSError, match=r"^/proc/x/main cannot be written \(no folder can be made in /proc, or"
    ) as raised:
        claim_module.claim_run(asked(Path("/proc/x")))
    assert "output_dir=FOLDER names another" in str(raised.value)
