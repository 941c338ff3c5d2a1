"""What is in the way of a run: each fault with its exit code, what is said, and what is left on the disk.

Each command is a process of its own, forked when all is imported, so that it costs no more than its training.
"""

import json
import os
import re
import resource
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file
from small import ENVIRONMENT, PLAIN, ROOT, TINY, TRAIN, WINE, mounted, remount

from sweepwise.learner.fused import FusedLearner
from sweepwise.provenance.hashes import Hashes
from sweepwise.store import record
from sweepwise.store.folders import CODE
from sweepwise.system.signals import StopFlag

SMALL = [*TINY, *PLAIN]
SHORT = [*SMALL, "trainer.max_epochs=3"]
LONG = [*SMALL, "trainer.max_epochs=4000", "checkpoint.steps=20"]
SECONDS = 30  # after which a condition that does not come true is a failure


class Command:
    """train.py with arguments, in a forked process; its output goes to files."""

    def __init__(self, place: Path, *arguments: str, before: Callable[[], object] = lambda: None) -> None:
        self._files = [place / f"{name}-{time.monotonic_ns()}" for name in ("out", "err")]
        self.pid = os.fork()
        if not self.pid:
            self._run(arguments, before)
        self.code: int | None = None

    def _run(self, arguments: tuple[str, ...], before: Callable[[], object]) -> None:
        code = 70
        try:
            for handle, path in enumerate(self._files, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), handle)
            sys.stdout, sys.stderr = (os.fdopen(handle, "w", buffering=1) for handle in (1, 2))
            sys.argv = [TRAIN, *arguments]
            os.environ["HYDRA_FULL_ERROR"] = "1"
            before()
            GlobalHydra.instance().clear()
            try:
                runpy.run_path(TRAIN, run_name="__main__")
                code = 0
            except SystemExit as ended:
                code = ended.code or 0
            except Exception:
                traceback.print_exc()
                code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @property
    def out(self) -> str:
        return self._files[0].read_text() if self._files[0].exists() else ""

    @property
    def err(self) -> str:
        return self._files[1].read_text() if self._files[1].exists() else ""

    def ended(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def wait(self) -> int:
        until(self.ended)
        assert self.code is not None
        return self.code


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@pytest.fixture
def start(tmp_path, monkeypatch) -> Iterator[Callable[..., Command]]:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    (tmp_path / "said").mkdir()
    commands: list[Command] = []

    def begin(*arguments: str, before: Callable[[], object] = lambda: None) -> Command:
        commands.append(Command(tmp_path / "said", *arguments, before=before))
        return commands[-1]

    yield begin
    for command in commands:
        if not command.ended():
            os.kill(command.pid, signal.SIGKILL)
            command.wait()


def the_folder(home: Path = Path("outputs")) -> Path:
    (folder,) = (path for path in home.glob("*/[!.]*") if path.is_dir())
    return folder


def has_checkpoints(home: Path = Path("outputs"), number: int = 1) -> bool:
    return len(list(home.glob("*/*/checkpoints/last"))) >= number


# --- the same command


def test_a_run_that_has_ended_says_so_and_writes_nothing(start):
    assert start(*SHORT).wait() == 0
    before = {path: path.lstat().st_mtime_ns for path in Path("outputs").rglob("*")}
    again = start(*SHORT)
    assert again.wait() == 0 and again.err == "" and again.out.startswith("finished before, in outputs/")
    assert {path: path.lstat().st_mtime_ns for path in Path("outputs").rglob("*")} == before


def with_other_code(changed: dict[str, str | None]) -> dict[str, str]:
    """What a record says of code in which these files differ, or are not there; writes their table."""
    path = the_folder() / CODE
    files = json.loads(path.read_bytes()) | changed
    code = Hashes({name: of_file for name, of_file in files.items() if of_file})
    path.unlink()  # it is a shared one
    path.write_bytes(code.content)
    return {"code": code.digest}


@pytest.mark.slow
def test_code_that_has_changed_is_named_and_asked_about(start):
    assert start(*SHORT).wait() == 0
    path = the_folder() / "record.json"
    known = json.loads(path.read_text())
    changed = {
        "sweepwise/trainer/loop.py": "0" * 16,
        "sweepwise/gone.py": "1" * 16,
        "sweepwise/seed.py": None,
    }
    known |= with_other_code(changed)
    known["environment"]["numpy"] = "1.0"
    path.write_text(json.dumps(known))
    asked = start(*SHORT)
    assert asked.wait() == 1 and asked.out == ""
    (line,) = asked.err.splitlines()
    told = "finished, but was produced with different code, inputs or versions: sweepwise/gone.py is gone; "
    assert told + "sweepwise/seed.py is new; sweepwise/trainer/loop.py changed; numpy 1.0 -> " in line
    assert "fresh=true trains it again, over what is there; accept_changes=true uses it as it is" in line
    accepted = start(*SHORT, "accept_changes=true")
    assert accepted.wait() == 0 and accepted.out.startswith("finished before")
    anew = start(*SHORT, "fresh=true")
    assert anew.wait() == 0 and "fresh         replaces the earlier run in this folder" in anew.out
    assert start(*SHORT).wait() == 0 and record.read(the_folder())["code"] != known["code"]


def test_a_run_goes_on_with_other_code_only_if_that_is_accepted(start):
    first = start(*LONG)
    until(has_checkpoints)
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait() == 143
    path = the_folder() / "record.json"
    known = json.loads(path.read_text()) | with_other_code({"sweepwise/trainer/loop.py": "0"})
    path.write_text(json.dumps(known))
    asked = start(*LONG)
    assert (
        asked.wait() == 1
        and "interrupted, but was produced with different code, inputs or versions: sweepwise/trainer/loop.py"
        in asked.err
    )
    assert "accept_changes=true continues it" in asked.err
    going = start(*LONG, "accept_changes=true")
    until(lambda: "folder" in going.out)
    assert "not bit-exact: sweepwise/trainer/loop.py changed" in going.out


def test_another_machine_is_told_and_the_run_goes_on(start):
    first = start(*LONG)
    until(has_checkpoints)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    path = the_folder() / "record.json"
    known = json.loads(path.read_text())
    known["environment"] |= {"host": "elsewhere", "cpu_capability": "AVX1024", "torch": "2.0"}
    path.write_text(json.dumps(known))
    going = start(*LONG)
    until(lambda: "folder" in going.out)
    told = " ".join(going.out.split())
    assert "resume from step " in told and "not bit-exact: torch 2.0 -> " in told
    assert "CPU capability AVX1024 -> " in told and "elsewhere" not in told


def test_other_data_under_the_same_name_are_asked_about(start):
    rows = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(100)]
    Path("table.csv").write_text("\n".join(["x,y,kind", *rows, ""]))
    table = ["data=table", "data.path=table.csv", *SHORT[1:], "data.batch_size=16"]
    assert start(*table).wait() == 0
    Path("table.csv").write_text("\n".join(["x,y,kind", *rows[1:], "6,6,a", ""]))
    asked = start(*table)
    assert asked.wait() == 1 and "data.path=table.csv changed" in asked.err


# --- signals


@pytest.mark.parametrize(
    "sent, code", [("INT", 130), ("TERM", 143), ("HUP", 143), ("USR1", 143), ("USR2", 143)]
)
def test_a_signal_saves_and_ends_with_the_command_that_goes_on(sent, code, start):
    first = start(*LONG)
    until(has_checkpoints)
    os.kill(first.pid, getattr(signal, f"SIG{sent}"))
    assert first.wait() == code and first.err == ""
    found = record.read(the_folder())
    assert found["status"] == "interrupted" and found["reason"] == f"after step {found['stopped']['step']}"
    assert first.out.splitlines()[-1] == f"to go on      python {TRAIN} {' '.join(LONG)}".replace(
        "model.hidden=[8]", "'model.hidden=[8]'"
    )
    again = start(*LONG)
    until(lambda: "folder" in again.out)
    assert f"resume        from step {found['stopped']['step'] + 1}," in again.out


def test_a_second_ctrl_c_ends_at_once_and_leaves_the_checkpoint_before(start, monkeypatch):
    step = FusedLearner.step

    def stuck(self, x, y, rates, number, watch):
        if number == 50:
            print("stuck", flush=True)
            while True:
                time.sleep(0.01)
        return step(self, x, y, rates, number, watch)

    note = StopFlag._note

    def noted(self, number, frame):
        note(self, number, frame)
        print("noted", flush=True)

    monkeypatch.setattr(FusedLearner, "step", stuck)
    monkeypatch.setattr(StopFlag, "_note", noted)
    first = start(*LONG)
    until(lambda: "stuck" in first.out)  # before, the first signal alone would end it
    os.kill(first.pid, signal.SIGINT)
    until(lambda: "noted" in first.out)
    assert not first.ended()
    os.kill(first.pid, signal.SIGINT)
    assert first.wait() == 130 and first.err == "error: stopped by SIGINT\n"
    assert record.read(the_folder())["status"] == "interrupted"
    assert (the_folder() / "checkpoints" / "last").readlink() == Path("step-00000040")


def test_a_signal_before_the_training_leaves_nothing_that_blocks_the_next(start, monkeypatch):
    def slow(*arguments, **keywords):
        print("slow", flush=True)
        time.sleep(SECONDS)

    for place in ("run.from_config.build", "diagnosis.advice.diagnose", "run.messages.opening"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sweepwise.{place}", slow)
            first = start(*SHORT)
            until(lambda first=first: "slow" in first.out)
            os.kill(first.pid, signal.SIGTERM)
            assert first.wait() == 143 and first.err == "error: stopped by SIGTERM\n"
    again = start(*SHORT)
    assert again.wait() == 0 and "finished" in again.out


@pytest.mark.slow
def test_a_real_start_up_can_be_ended_at_any_moment(tmp_path, monkeypatch):
    """As soon as Python answers signals at all."""
    monkeypatch.chdir(tmp_path)
    for delay in (0.0, 0.2, 0.5, 0.8):
        process = subprocess.Popen(
            [sys.executable, TRAIN, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )

        def answers(pid: int = process.pid) -> bool:
            line = next(s for s in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in s)
            return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

        until(answers)
        time.sleep(delay)  # the moment is what is varied
        process.terminate()
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 143 and b"Traceback" not in err


# --- readers


@pytest.mark.parametrize(
    "reader",
    ["| head -1", *(pytest.param(end, marks=pytest.mark.slow) for end in ("> /dev/full", ">&- 2>&-"))],
)
def test_a_run_outlives_those_who_read_what_it_prints(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = shlex.join([sys.executable, TRAIN, *SHORT, "progress=true"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {reader}"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert record.read(the_folder())["status"] == "finished"


@pytest.mark.parametrize(
    "arguments",
    [pytest.param([], id="its result", marks=pytest.mark.slow), pytest.param(["--help"], id="--help")],
)
def test_a_script_has_failed_if_what_it_prints_finds_no_room(arguments):
    script = shlex.join([sys.executable, str(ROOT / "scripts/show_seed.py"), *arguments])
    done = subprocess.run(
        ["bash", "-c", f"{script} > /dev/full"], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: what is printed could not be written: No space left on device\n",
    )


@pytest.mark.slow
def test_fifty_starts_in_the_same_second_are_one_run_and_forty_nine_refusals(start):
    commands = [start(*LONG) for _ in range(50)]
    until(lambda: sum(command.ended() for command in commands) == 49, 240)
    (trains,) = (command for command in commands if command.code is None)
    others = [command for command in commands if command is not trains]
    assert all(command.code == 1 for command in others)
    assert all(f"is being trained by process {trains.pid} on " in command.err for command in others)
    assert len(list(Path("outputs/main").glob("[!.]*/"))) == 1
    os.kill(trains.pid, signal.SIGTERM)
    assert trains.wait() == 143
    assert record.read(the_folder())["status"] == "interrupted"


@pytest.mark.slow
def test_fifty_runs_in_the_same_second_are_fifty_whole_folders(start):
    commands = [start(*SMALL, "trainer.max_epochs=2", f"seed.value={seed}") for seed in range(50)]
    until(lambda: all(command.ended() for command in commands), 240)
    assert {command.code for command in commands} == {0}
    folders = list(Path("outputs/main").glob("[!.]*/"))
    assert len(folders) == 50
    for folder in folders:
        assert record.read(folder)["status"] == "finished"
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2 + 1
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1
        assert load_file(folder / "checkpoints/best/weights.safetensors")


# --- disks


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(start, tmp_path):
    with mounted(tmp_path / "disk", "ro") as disk:
        refused = start(*SHORT, f"output_dir={disk}/outputs")
        assert refused.wait() == 1
        (line,) = refused.err.splitlines()
        assert line.startswith(f"error: {disk}") and "Read-only file system" in line and "output_dir=" in line
        assert "train " not in refused.out and not list(disk.iterdir())


# 0.55 MB, with Adam's 1.6 MB
WIDE = [*WINE, "model.hidden=[512,256]", *PLAIN, *LONG[len(SMALL) :], "monitor=none"]


def test_a_disk_that_fills_up_costs_a_checkpoint_and_not_the_training(start, tmp_path):
    with mounted(tmp_path / "disk", "size=1500k") as disk:
        first = start(*WIDE, f"output_dir={disk}")
        until(lambda: first.err.count("no room") >= 2)
        line = first.err.splitlines()[0]
        assert line.startswith("warning: no room for checkpoints/step-00000020: it needs ")
        needed, free = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]{4,}\b", line)[1:])
        assert 1_600_000 < needed < 1_850_000 and 0 < free < 1_500_000 and "bytes" in line
        assert line.endswith("; the earlier checkpoints are kept; the training continues")
        assert not first.ended()
        remount(disk, "size=50m")
        until(lambda: has_checkpoints(disk))
        os.kill(first.pid, signal.SIGTERM)
        assert first.wait() == 143 and record.read(the_folder(disk))["status"] == "interrupted"


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_end_costs_no_training_once_there_is_room(start, tmp_path):
    stop = [*WIDE, "trainer.max_epochs=10", "checkpoint.full_disk=stop"]
    with mounted(tmp_path / "disk", "size=6m") as disk:
        arguments = [*stop, f"output_dir={disk}", "checkpoint.steps=50"]
        first = start(*arguments, "checkpoint.keep=1")
        assert first.wait() == 0
        folder = the_folder(disk)
        shutil.rmtree(folder)
        (disk / "ballast").write_bytes(bytes(3_700_000))
        second = start(*arguments, "checkpoint.keep=9")  # the first needs 2.2 MB, and weights alone 0.55 MB
        assert second.wait() == 1 and "no room for checkpoints/" in second.err
        found = record.read(folder)
        assert found["status"] == "failed" and "no room" in found["reason"]
        assert len(list(folder.glob("checkpoints/step-*"))) == 1
        (disk / "ballast").unlink()
        third = start(*arguments, "checkpoint.keep=1")
        assert third.wait() == 0 and "resume        from step 50," in third.out
        assert record.read(folder)["status"] == "finished"


@pytest.mark.slow
def test_a_disk_that_is_full_of_logs_does_not_end_the_training(start, tmp_path):
    loud = [*LONG[:-1], "checkpoint=end", "monitor=everything", "trainer.max_epochs=800"]
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "ballast").write_bytes(bytes(700_000))
        first = start(*loud, f"output_dir={disk}")
        until(lambda: "cannot be written" in first.err)
        (disk / "ballast").unlink()  # room for the weights, not for all logs
        until(first.ended, seconds=120)
        assert first.code == 0, first.err
        folder = the_folder(disk)
        found = record.read(folder)
        assert found["status"] == "finished" and found["stopped"]["step"] == 800 * 7 - 1
        assert re.search(r"warning: events\.out\.tfevents\S+ lacks steps \d+ to 5599 \(No space", first.err)
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

        (path,) = folder.glob("events.out.tfevents.*")
        # Whole records only, or it would raise; none if metrics.jsonl has taken the room first.
        assert sum(map(len, RawEventFileLoader(str(path)).Load())) <= path.stat().st_size


def test_a_folder_that_is_removed_ends_the_run(start):
    first = start(*LONG)
    until(has_checkpoints)
    the_folder().rename("gone")
    until(first.ended)
    assert first.code == 1 and "was removed while the run trained" in first.err
    assert "Traceback" not in first.err
    assert not list(Path("outputs").glob("*/*/*/*"))


# --- memory and numbers


def test_a_model_that_is_too_large_is_a_failure_with_a_way_out(start):
    first = start(*SHORT, "model.hidden=[100000000000]")
    assert first.wait() == 1 and not Path("outputs").exists()
    (line,) = first.err.splitlines()
    assert line.startswith("error: out of memory") and "data.batch_size" in line


def test_memory_that_ends_in_the_training_is_a_failure_with_a_way_out(start):
    def bounded() -> None:
        step = FusedLearner.step

        def greedy(self, x, y, rates, number, watch):
            if number == 30:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, resource.RLIM_INFINITY))
                torch.empty(2**27).fill_(0.0)
            return step(self, x, y, rates, number, watch)

        FusedLearner.step = greedy

    first = start(*LONG, before=bounded)
    assert first.wait() == 1 and "Traceback" not in first.err
    assert first.err.startswith("error: out of memory") and "trainer.accumulate=2" in first.err
    found = record.read(the_folder())
    assert found["status"] == "failed" and found["reason"].startswith("out of memory")
    assert has_checkpoints()


def test_a_run_that_has_failed_goes_on_where_it_was_saved(start, monkeypatch):
    whole = start(*SMALL, "trainer.max_epochs=9", "name=whole")
    assert whole.wait() == 0
    step = FusedLearner.step

    def broken(self, x, y, rates, number, watch):
        if number == 50:
            raise RuntimeError("no luck")
        return step(self, x, y, rates, number, watch)

    arguments = [*SMALL, "trainer.max_epochs=9", "checkpoint.steps=20"]
    with monkeypatch.context() as patch:
        patch.setattr(FusedLearner, "step", broken)
        first = start(*arguments)
        assert first.wait() == 1 and "RuntimeError: no luck" in first.err
    (folder,) = Path("outputs/main").glob("[!.]*/")
    assert record.read(folder)["status"] == "failed"
    again = start(*arguments)
    assert again.wait() == 0 and "resume        from step 40, epoch 5" in again.out
    weights = [
        load_file(next(Path("outputs", name).glob("*/checkpoints/last/weights.safetensors")))
        for name in ("whole", "main")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_loss_that_is_not_finite_is_divergence(start):
    first = start(*SMALL, "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=20")
    assert first.wait() == 1 and record.read(the_folder())["status"] == "diverged"
    again = start(*SMALL, "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=20")
    assert again.wait() == 1 and again.out.startswith("diverged before")


# --- checkpoints that cannot be believed


@pytest.mark.slow
def test_damaged_checkpoints_are_never_started_over_from(start):
    first = start(*LONG)
    until(lambda: len(list(Path("outputs").glob("*/*/checkpoints/step-*"))) == 2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    steps = sorted(the_folder().glob("checkpoints/step-*"))
    path = steps[-1] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if len(steps) > 1:
        second = start(*LONG)
        until(lambda: "folder" in second.out)
        told = " ".join(second.out.split())
        assert f"damaged checkpoints/{steps[-1].name}: weights.safetensors has sha256" in told
        assert f"resume from step {int(steps[-2].name[5:])}," in told
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
    for path in the_folder().glob("checkpoints/step-*/state.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in the_folder().rglob("*") if path.is_file()}
    third = start(*LONG)
    assert third.wait() == 1 and "no checkpoint is intact" in third.err and "fresh=true" in third.err
    after = {path: path.read_bytes() for path in the_folder().rglob("*") if path.is_file()}
    assert {p.name: c for p, c in before.items() if p.name != ".lock"} == {
        p.name: c for p, c in after.items() if p.name != ".lock"
    }


def test_a_record_that_is_gone_or_damaged_is_never_started_over_from(start):
    first = start(*LONG)
    until(has_checkpoints)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    path = the_folder() / "record.json"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    damaged = start(*LONG)
    assert damaged.wait() == 1 and "record.json is damaged" in damaged.err and "fresh=true" in damaged.err
    path.unlink()
    gone = start(*LONG)
    assert gone.wait() == 1 and "has checkpoints but no record.json" in gone.err and "fresh=true" in gone.err
    path.write_bytes(content)
    going = start(*LONG)
    until(lambda: "folder" in going.out)
    assert "resume        from step " in going.out


@pytest.mark.slow
def test_logs_that_are_gone_are_named_once_and_the_run_goes_on(start):
    def killed_after_another() -> Command:
        before = {path.name for path in Path("outputs").glob("*/*/checkpoints/step-*")}
        command = start(*LONG)
        until(lambda: {path.name for path in Path("outputs").glob("*/*/checkpoints/step-*")} - before)
        until(lambda: has_checkpoints() and (the_folder() / "checkpoints" / "last").exists())
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        return command

    killed_after_another()
    for path in (*the_folder().glob("events.out.tfevents.*"), the_folder() / "metrics.jsonl"):
        path.unlink()
    told = killed_after_another().err.splitlines()
    assert len(told) == 2 and all("has lost its last" in line for line in told)
    assert killed_after_another().err == ""
