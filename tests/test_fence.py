"""A run's folder that is taken from an earlier attempt of the same Slurm job, which goes on writing."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import commands
import pytest
import torch
from small import ENVIRONMENT, PLAIN, TINY, TRAIN

from sweepwise.checkpoint import Checkpoints
from sweepwise.monitor.appended import AppendedFile
from sweepwise.monitor.events import EventFile, truncate_events
from sweepwise.store import claim as claim_module
from sweepwise.store import folders, record, request, takeover
from sweepwise.store.attempt import Attempt
from sweepwise.store.claim import Busy, is_held
from sweepwise.store.record import Record
from sweepwise.store.takeover import TakenOver
from sweepwise.system import atomic
from sweepwise.system.handle import readable
from sweepwise.verify.compare import compare
from sweepwise.verify.fault_injection import Death, die_at, forked

FORK = multiprocessing.get_context("fork")
REPETITIONS = int(os.environ.get("SWEEPWISE_FENCES", "15"))
SLOW = pytest.mark.slow
MOMENTS = ["before", pytest.param("half", marks=SLOW)]  # after an operation is before the next
LINES = "metrics.jsonl"


def attempt(number, job="17"):
    """From now on this process belongs to that attempt; None: to no Slurm job."""
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        os.environ.pop(name, None)
    if number is not None:
        os.environ["SLURM_JOB_ID"] = job
    if number:  # Slurm leaves it out in the first one
        os.environ["SLURM_RESTART_COUNT"] = str(number)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.setenv(name, "")
    attempt(None)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def tree(folder):
    """All that a folder holds, and which file is which."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = content, path.stat().st_ino, path.stat().st_mtime_ns
        else:
            found[str(path.relative_to(folder))] = path.stat().st_ino
    return found


class Writer:
    """Writes to a folder in every way in which a training does; each line of the log names its step."""

    def __init__(self, claim, keep=1):
        self.claim, self.step = claim, 0
        self.record = Record(claim.inside)
        atomic.alone(self.record.begin())
        self.lines = AppendedFile(claim.inside / LINES, 0, b"\n")
        self.events = EventFile(claim.inside)
        self.checkpoints = Checkpoints(claim.inside, keep=keep)

    def ways(self):
        inside, step = self.claim.inside, self.step
        weights = {"a": torch.full((100,), float(step))}
        best = (step - step % 2, {"a": torch.full((100,), float(step - step % 2))})

        def save(store):
            self.lines.flush()
            log = {LINES: self.lines.size} | self.events.mark()
            store(step, weights, best, {"log": log})

        yield lambda: self.lines.add(step, f"{step}\n".encode())
        yield lambda: self.events.scalars(step, {"a": step})
        yield partial(save, self.checkpoints._save)
        yield lambda: atomic.write_atomic(inside / "config.yaml", b"a: 1\n" * 100)
        yield lambda: atomic.point(inside / "checkpoints" / "best", f"step-{step:08d}")
        yield lambda: atomic.alone(self.record.begin())
        yield self.lines.flush
        yield self.events.flush

    def further_ways(self):
        """What would do harm, if it did something to a folder that goes on."""
        inside, step = self.claim.inside, self.step
        yield lambda: self.checkpoints.finish(step, {}, None, {})
        yield lambda: atomic.alone(self.checkpoints.ending(for_good=True))
        yield lambda: Checkpoints(inside).load()
        yield lambda: self.record.end("finished", "")
        yield lambda: AppendedFile(inside / LINES, 0)
        yield lambda: truncate_events(inside, {})
        yield lambda: EventFile(inside)
        yield lambda: folders.probe(inside)
        yield lambda: folders.clear(inside)
        yield lambda: Writer(self.claim).round()

    def round(self, ways=None):
        self.step += 1
        for way in ways or self.ways():
            way()

    def go_on(self):
        """Whatever fails."""
        for ways in (self.ways(), self.ways(), self.further_ways(), self.ways()):
            self.step += 1
            for way in ways:
                with contextlib.suppress(Exception):
                    way()


def blind():
    """The process does not look whether it was fenced, so that what it writes is all tried."""
    takeover.refuse_taken = lambda path: None
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for as long as it lives)


def check_goes_on(claim, least=1):
    """A run can go on: from a checkpoint that is whole, with all of the log that belongs to it."""
    saved = Checkpoints(claim.inside).load()
    assert saved.step >= least and (saved.weights["a"] == saved.step).all()
    size = saved.state["log"].pop(LINES)
    told = (claim.folder / LINES).read_bytes()[:size]
    assert told == b"".join(f"{step}\n".encode() for step in range(1, saved.step + 1))
    for name, size in saved.state["log"].items():
        assert (claim.folder / name).stat().st_size >= size
    assert record.read(claim.folder)["status"] == "running"
    assert (claim.folder / "config.yaml").read_bytes() == b"a: 1\n" * 100


# --- not a byte


def stopped_at(folder, death):
    """A process of attempt 0 that writes, stops within a round at an operation, and goes on when told to."""
    child = os.fork()
    if child:
        return child
    try:
        attempt(0)
        blind()
        writer = Writer(claim_module.claim_folder(folder))
        for _ in range(2):
            writer.round()
        counter = die_at(death)
        with contextlib.suppress(Exception):
            writer.round()
        stopped = next(counter) > death.operation
        writer.go_on()
        with contextlib.suppress(Exception):
            writer.claim.release()
        os._exit(0 if stopped else 1)
    finally:
        os._exit(2)


@pytest.mark.parametrize("when", [pytest.param(MOMENTS[0], marks=pytest.mark.slow), MOMENTS[1]])
def test_a_writer_that_is_stopped_at_any_operation_changes_nothing_later(tmp_path, when):
    for operation in range(1000):
        folder = tmp_path / str(operation) / "run"
        child = stopped_at(folder, Death(signal.SIGSTOP, operation=operation, when=when))
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 1  # there was no such operation
            break
        attempt(1)
        with claim_module.claim_folder(folder) as claim:
            before = tree(folder)
            assert names(folder.parent) == [".lock", "run"]
            os.kill(child, signal.SIGCONT)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert tree(folder) == before
            check_goes_on(claim, least=2)
        assert names(folder.parent) == [".lock", "run"]
        shutil.rmtree(folder.parent)
    assert operation > 30


def test_a_writer_that_never_stops_changes_nothing_later(tmp_path):
    draw = random.Random(0)
    for number in range(REPETITIONS):
        folder = tmp_path / str(number) / "run"
        began, taken, done, answers = FORK.Event(), FORK.Event(), FORK.Event(), FORK.Queue()

        def write(folder=folder, began=began, taken=taken, done=done, answers=answers):
            attempt(0)
            blind()
            writer = Writer(claim_module.claim_folder(folder), keep=2)
            with contextlib.suppress(Exception):
                while True:
                    writer.round()
                    if writer.step == 3:
                        began.set()
            taken.wait()
            writer.go_on()
            answers.put(attempt_to(claim_module.claim_folder, folder))
            done.set()

        child = FORK.Process(target=write)
        child.start()
        assert began.wait(30)
        time.sleep(draw.uniform(0, 0.03))  # any moment will do
        attempt(1)
        with claim_module.claim_folder(folder) as claim:
            before = tree(folder)
            taken.set()
            assert done.wait(30)
            assert tree(folder) == before
            told = f"Busy: {folder}: attempt 0 of job 17 must not write, since attempt 1 of job 17 "
            assert answers.get(timeout=30).startswith(told)
            assert tree(folder) == before
            check_goes_on(claim, least=2)
        child.join()
        assert names(folder.parent) == [".lock", "run"]


def attempt_to(do, *arguments):
    try:
        do(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


# --- who takes what from whom


@contextlib.contextmanager
def held(folder, number, job="17"):
    """Another process of that attempt that holds a folder with a run; it is killed in the end."""
    ready = FORK.Event()

    def hold():
        attempt(number, job)
        writer = Writer(claim_module.claim_folder(folder))
        for _ in range(3):
            writer.round()
        ready.set()
        signal.pause()

    child = FORK.Process(target=hold)
    child.start()
    assert ready.wait(30)
    try:
        yield child
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize(
    ("old", "new"),
    [((0, "17"), (0, "17")), ((0, "17"), (1, "18")), ((None, ""), (1, "17")), ((0, "17"), (None, ""))],
)
def test_what_is_no_earlier_attempt_of_the_same_job_is_left_alone(tmp_path, old, new):
    with held(tmp_path / "run", *old) as child:
        before = tree(tmp_path / "run")
        attempt(*new)
        with pytest.raises(Busy, match=f"run is being trained by process {child.pid} on "):
            claim_module.claim_folder(tmp_path / "run")
        assert tree(tmp_path / "run") == before
    inode = (tmp_path / "run").stat().st_ino
    claim_module.claim_folder(tmp_path / "run").release()  # it is free now
    assert (tmp_path / "run").stat().st_ino == inode


def test_a_killed_attempt_is_fenced_as_it_may_only_have_lost_its_lock(tmp_path):
    with held(tmp_path / "run", 0):
        pass
    inode = (tmp_path / "run").stat().st_ino
    attempt(2)
    with claim_module.claim_folder(tmp_path / "run") as claim:
        assert (tmp_path / "run").stat().st_ino != inode
        check_goes_on(claim, least=3)


def test_an_attempt_that_has_let_go_is_not_fenced(tmp_path):
    attempt(0)
    with claim_module.claim_folder(tmp_path / "run") as claim:
        Record(claim.inside).end("interrupted", "")
    attempt(1)
    with claim_module.claim_folder(tmp_path / "run") as again:
        assert again.folder.stat().st_ino == claim.folder.stat().st_ino


def test_an_old_attempt_is_refused_for_ever(tmp_path):
    folder = tmp_path / "run"
    with held(folder, 0):
        attempt(2)
        claim_module.claim_folder(folder).release()
    told = r"attempt 1 of job 17 must not write, since attempt 2 of job 17 has .*remove \S+/run/\.lock$"
    for other in ((None, ""), (0, "18"), (4, "19"), (None, ""), (3, "18")):  # whoever has had it meanwhile
        attempt(*other)
        claim_module.claim_folder(folder).release()
        attempt(1)
        with pytest.raises(Busy, match=told):
            claim_module.claim_folder(folder)
    attempt(3)
    claim_module.claim_folder(folder).release()


def test_an_attempt_that_may_live_is_fenced_though_another_had_the_folder_since(tmp_path):
    with held(tmp_path / "run", 0):
        pass
    attempt(None)
    claim_module.claim_folder(tmp_path / "run").release()
    inode = (tmp_path / "run").stat().st_ino
    attempt(1)
    claim_module.claim_folder(tmp_path / "run").release()
    assert (tmp_path / "run").stat().st_ino != inode


def test_the_attempt_is_read_from_the_environment():
    read = [
        Attempt.here(environment)
        for environment in (
            {},
            {"SLURM_JOB_ID": ""},
            {"SLURM_RESTART_COUNT": "3"},
            {"SLURM_JOB_ID": "17"},
            {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "3"},
        )
    ]
    assert read == [None, None, None, Attempt("17", 0), Attempt("17", 3)]


def test_one_of_many_that_take_over_at_once_gets_it(tmp_path):
    with held(tmp_path / "run", 0):
        answers, done = FORK.Queue(), FORK.Event()

        def take():
            attempt(1)
            try:
                claim = claim_module.claim_folder(tmp_path / "run")
            except Busy as error:
                answers.put(str(error))
                return
            answers.put("")
            done.wait()
            claim.release()

        children = [FORK.Process(target=take) for _ in range(10)]
        for child in children:
            child.start()
        told = sorted(answers.get(timeout=60) for _ in children)
        done.set()
        for child in children:
            child.join()
    assert told[0] == "" and all("is being trained by process" in text for text in told[1:])
    assert names(tmp_path) == [".lock", "run"]


# --- how it is done


@pytest.fixture
def begun(tmp_path):
    """A run in which an attempt 0 is, and what is in it."""
    attempt(0)
    writer = Writer(claim_module.claim_folder(tmp_path / "home" / "run-1a2b3c4d"), keep=2)
    for _ in range(4):
        writer.round()
    folder = writer.claim.folder
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine")
    (folder / "notes" / "out").symlink_to("../config.yaml")
    yield writer
    writer.claim.release()


def contents(folder):
    """What a run's folder says, whatever its files are."""
    return {
        name: told[0] if isinstance(told, tuple) else told if isinstance(told, str) else "folder"
        for name, told in tree(folder).items()
        if name != ".lock"
    }


def test_all_is_carried_over_but_what_is_unfinished(begun):
    folder = begun.claim.folder
    before, old = contents(folder), tree(folder)
    modified = {path: (folder / path).stat().st_mtime_ns for path in before}
    (folder / "checkpoints" / ".step-00000009.1.tmp").mkdir()
    (folder / ".record.json.1.tmp").touch()
    folder.chmod(0o700)
    attempt(1)
    with claim_module.claim_folder(folder):
        assert contents(folder) == before and folder.stat().st_mode & 0o777 == 0o700
        shared = {
            name for name, told in tree(folder).items() if isinstance(told, tuple) and old[name] == told
        }
        assert shared == {
            name
            for name in old
            if "manifest" in name or "state.pt" in name or "weights" in name or "best.s" in name
        }
        assert {
            path: (folder / path).stat().st_mtime_ns
            for path in before
            if path in modified and (folder / path).is_file()
        } == {path: time for path, time in modified.items() if (folder / path).is_file()}


def test_without_hard_links_files_are_copied(begun, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(takeover.os, "link", refuse)
    before, old = contents(begun.claim.folder), tree(begun.claim.folder)
    attempt(1)
    with claim_module.claim_folder(begun.claim.folder) as claim:
        assert contents(claim.folder) == before
        assert not any(
            old.get(name) == told for name, told in tree(claim.folder).items() if isinstance(told, tuple)
        )


@pytest.mark.slow
@pytest.mark.parametrize("when", MOMENTS)
def test_a_take_over_that_is_killed_is_done_by_the_next(begun, when):
    folder, home = begun.claim.folder, begun.claim.folder.parent
    before, unharmed = contents(folder), 0
    for operation in range(1000):
        attempt(2 * operation + 1)
        code = forked(lambda: claim_module.claim_folder(folder), Death(operation=operation, when=when))
        assert code in (0, -signal.SIGKILL)
        attempt(2 * operation + 2)

        def take():
            claim = claim_module.claim_folder(folder)
            assert contents(folder) == before
            assert names(home) == [".lock", folder.name]
            assert is_held(folder)
            assert claim.folder == folder

        assert forked(take) == 0
        unharmed = 0 if code else unharmed + 1  # some operations fail, and so do not kill after them
        if unharmed == 10:
            break
    assert operation > 50
    with pytest.raises(FileNotFoundError):
        atomic.write_atomic(begun.claim.inside / "file", b"")


def test_a_run_that_is_missing_after_a_kill_is_found_by_its_id(begun, monkeypatch):
    home, folder = begun.claim.folder.parent, begun.claim.folder
    before = contents(folder)
    folder.rename(home / f".{folder.name}.fenced")
    shutil.copytree(home / f".{folder.name}.fenced", home / f".{folder.name}.copy", symlinks=True)
    attempt(1)
    monkeypatch.setattr(request.Request, "id", "1a2b3c4d")
    asked = request.Request(
        {"output_dir": str(home.parent), "name": home.name, "seed": {"value": 0}}, ("a=1",)
    )
    with claim_module.claim_run(asked) as claim:
        assert claim.folder == folder and contents(folder) == before
        assert names(home) == [".lock", folder.name]


def test_a_folder_that_cannot_be_copied_stays_with_the_old_attempt(begun, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(takeover.atomic, "copy", fail)
    attempt(1)
    before = tree(begun.claim.folder)
    with pytest.raises(OSError, match="No space left"):
        claim_module.claim_folder(begun.claim.folder)
    assert tree(begun.claim.folder) == before and names(begun.claim.folder.parent) == [
        ".lock",
        "run-1a2b3c4d",
    ]
    begun.round()
    assert (begun.claim.folder / "checkpoints" / "step-00000005").is_dir()


# --- what the old attempt says


def test_the_fenced_process_ends_at_its_next_checkpoint(begun):
    attempt(1)
    told = rf"^{begun.claim.folder}: this run was taken over by attempt 1 of job 17 on \S+; nothing more is "
    with claim_module.claim_folder(begun.claim.folder):
        for store in (begun.checkpoints.save, begun.checkpoints.finish):
            with pytest.raises(TakenOver, match=told):
                store(9, {}, None, {})
        begun.lines.add(9, b"9\n")
        with pytest.raises(TakenOver, match=told):
            begun.lines.flush()
        with pytest.raises(TakenOver, match=told), begun.claim:
            raise OSError("whatever it is")


def test_closing_the_logs_of_a_fenced_process_says_nothing(begun, capsys):
    attempt(1)
    with claim_module.claim_folder(begun.claim.folder):
        begun.lines.add(9, b"9\n")
        begun.lines.close()
        begun.events.close()
    assert capsys.readouterr().err == ""


def test_errors_name_the_folder_and_not_its_descriptor(begun):
    assert readable(begun.claim.inside / "a") == str(begun.claim.folder / "a")
    with pytest.raises(FileNotFoundError) as raised:
        (begun.claim.inside / "nothing").read_bytes()
    assert folders.explained(Path(), raised.value).startswith(f"{begun.claim.folder / 'nothing'} cannot be")


# --- whole trainings

COMMAND = [TRAIN, *TINY, *PLAIN, "trainer.max_epochs=300", "checkpoint.steps=20"]


def started(place, number):
    attempt(number)  # sets variables, so they are read now
    return commands.popen(
        COMMAND,
        {**os.environ, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def number_of(folder):
    """Which folder it is."""
    with contextlib.suppress(FileNotFoundError):
        return folder.stat().st_ino


@pytest.mark.slow
@pytest.mark.parametrize("wakes", ["meanwhile", "later"])
def test_a_training_is_taken_over_and_ends_with_the_same_bits(tmp_path, wakes):
    places = [tmp_path / "disturbed", tmp_path / "alone"]
    for place in places:
        place.mkdir()
    old = started(places[0], 0)
    while not (found := list(places[0].glob("outputs/*/*/checkpoints/last"))):
        assert old.poll() is None
    folder = found[0].parents[1]
    old.send_signal(signal.SIGSTOP)
    number = number_of(folder)
    new = started(places[0], 1)
    alone = started(places[1], None)
    if wakes == "meanwhile":
        while number_of(folder) in (None, number):  # for microseconds it is not there
            assert new.poll() is None
        old.send_signal(signal.SIGCONT)
    assert new.wait() == 0, new.stderr.read()
    assert alone.wait() == 0
    before = tree(folder)
    old.send_signal(signal.SIGCONT)
    out, err = old.communicate()
    assert old.returncode == 1
    told = f"error: {folder.relative_to(places[0])}: this run was taken over by attempt 1 of job 17 on "
    assert err.splitlines()[-1].startswith(told) and len(err.splitlines()) == 1
    assert tree(folder) == before and names(folder.parent) == [
        ".hparams.json",
        ".lock",
        ".shared",
        folder.name,
    ]
    assert compare(folder, places[1] / folder.relative_to(places[0])) == []
    known = json.loads((folder / "record.json").read_bytes())
    assert [tried["status"] for tried in known["attempts"]] == ["interrupted", "finished"]
    assert "resume" in new.stdout.read() and "error" not in out
