"""scripts/clean.py: what it removes, what it never does, and what a kill in between leaves."""

import contextlib
import json
import os
import pty
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import commands
import pytest
import sweeps
from small import ROOT

from sweepwise.provenance import sources
from sweepwise.provenance.environment import versions
from sweepwise.results import loading, run_folder
from sweepwise.results.in_words import in_words
from sweepwise.store import claim, removal, shared
from sweepwise.store.folders import SHARED
from sweepwise.store.request import Request, known_folders
from sweepwise.sweep.cluster import jobs
from sweepwise.sweep.cluster.jobs import State
from sweepwise.sweep.cluster.ledger import Ledger, Submission

CLEAN = str(ROOT / "scripts" / "clean.py")


@pytest.fixture
def clean(as_command, empty_folder, whole_errors):
    return lambda *arguments: as_command(CLEAN, *map(str, arguments))


@pytest.fixture
def home(tmp_path):
    """Two settings with two seeds, of which one run has diverged and one failed; and one that was killed."""
    home = tmp_path / "outputs" / "main"
    for init, statuses in (("xavier", ("finished", "diverged")), ("zeros", ("failed", "stopped early"))):
        for seed, status in enumerate(statuses):
            write(home, f"init={init}", f"seed.value={seed}", status=status)
    write(home, "init=xavier", "seed.value=2", status="running", ended=None)
    return home


def write(home: Path, *overrides: str, status: str = "finished", **fields) -> Path:
    folder = sweeps.run(home, "data=wine", *overrides, value=0.5, status=status, **fields)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "weights.safetensors").write_bytes(bytes(1000))
    (folder / ".lock").touch()
    return folder


def statuses(home: Path) -> list[str]:
    return sorted(run_folder.read(folder).status for folder in run_folder.folders(home))


def entries(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if not path.name.startswith(".lock"))


# --- what is chosen


def test_without_a_terminal_it_only_shows(clean, home):
    before = entries(home)
    code, out, err = clean(home, "diverged", "failed")
    assert (code, err) == (0, "") and entries(home) == before
    lines = out.splitlines()
    assert lines[0].split() == ["sweep", f"{home}:", "2", "of", "5", "runs"]
    assert (
        lines[1].startswith("diverged ")
        and "xavier init, seed 1" in lines[1]
        and " kB  data=wine__init=xavier_" in lines[1]
    )
    assert lines[2].startswith("failed ") and "zeros init, seed 0" in lines[2]
    assert lines[3].startswith("nothing       was removed; python scripts/clean.py ") and len(lines) == 4
    again = lines[3].partition("clean.py ")[2].partition(" removes ")[0].split()
    code, out, _ = clean(*again)
    assert code == 0 and "removed" in out
    assert statuses(home) == ["finished", "interrupted", "stopped early"]


@pytest.mark.parametrize(
    "asked, stay",
    [
        (["diverged"], ["failed", "finished", "interrupted", "stopped early"]),
        (["interrupted"], ["diverged", "failed", "finished", "stopped early"]),
        (["init=zeros"], ["diverged", "finished", "interrupted"]),
        (["diverged", "failed", "init=zeros"], ["diverged", "finished", "interrupted", "stopped early"]),
        (["seed.value=0", "init=xavier"], ["diverged", "failed", "interrupted", "stopped early"]),
        (["failed", "older=1d"], ["diverged", "finished", "interrupted", "stopped early"]),
        (["older=100000w"], ["diverged", "failed", "finished", "interrupted", "stopped early"]),
        (["older=1d"], ["interrupted"]),  # its record was written a moment ago
        ([], ["diverged", "failed", "finished", "interrupted", "stopped early"]),
    ],
)
def test_words_add_and_values_narrow(asked, stay, clean, home):
    assert clean(home, *asked, "yes=true")[0] == 0
    assert statuses(home) == stay


def test_runs_of_other_code_or_versions_are_changed(clean, tmp_path):
    home = tmp_path / "outputs" / "main"
    now = Request(run_folder.read(write(home, "seed.value=9")).config)
    same = {"code": sources.code(now.targets), "environment": {**sweeps.ENVIRONMENT, **versions()}}
    kept = write(home, "seed.value=0", **same)
    write(home, "seed.value=1", **same | {"code": {**same["code"], "sweepwise/seed.py": "0" * 16}})
    write(home, "seed.value=2", **same | {"environment": {**same["environment"], "torch": "1.0"}})
    code, out, _ = clean(home, "changed", "yes=true")
    assert code == 0 and out.count("changed ") == 3
    assert entries(home) == [kept.name]


def test_what_no_run_has_any_more_goes_with_the_last_run_that_had_it(clean, home):
    for folder in run_folder.folders(home):
        shared.share(home, folder / "code.json", b"{}\n")
        shared.share(home, folder / "code.diff", run_folder.read(folder).status.encode())
    code, _, _ = clean(home, "failed", "diverged", "yes=true")
    assert code == 0
    left = {path.read_bytes() for path in (home / SHARED).iterdir()}
    assert left == {b"{}\n", *(status.encode() for status in statuses(home))} and len(left) == 4
    for init in ("xavier", "zeros"):
        assert clean(home, f"init={init}", "yes=true")[0] == 0
    assert entries(home) == []


def test_all_experiments_below_a_folder(clean, home):
    write(home.parent / "other", "seed.value=0", status="failed")
    code, out, _ = clean(home.parent, "failed", "yes=true")
    assert code == 0 and f"{home}: 1 of 5" in out and "other: 1 of 1" in out
    assert "failed" not in statuses(home.parent)


def test_a_value_that_only_one_of_several_experiments_has_narrows_all(clean, home):
    only = write(home.parent / "other", "optimizer=sgd", "optimizer.momentum=0.5")
    before = statuses(home)
    code, out, err = clean(home.parent, "optimizer.momentum=0.5", "yes=true")
    assert (code, err) == (0, "") and not only.exists() and statuses(home) == before
    code, out, err = clean(home.parent, "optimizer.momentum=0.7", "yes=true")
    assert code == 2 and out == "" and "no run has" in err and statuses(home) == before


@pytest.mark.parametrize(
    "arguments, fault",
    [
        ([], "FOLDER: must be given"),
        (["nowhere"], "nowhere: must be an experiment's folder"),
        (["empty"], "empty: must be an experiment's folder, or one above several, but holds no run"),
        (["{home}", "divergd"], "divergd: no word for runs; did you mean 'diverged'?"),
        (["{home}", "older=month"], "older=month: must be a number of minutes, hours, days or weeks"),
        (["{home}", "yes=maybe"], "yes=maybe: must be true or false"),
        (["{home}", "ini=zeros"], "ini: no run has such a key; did you mean 'init'?"),
        (["{run}", "failed"], "is that of a run; "),
    ],
)
def test_bad_usage_is_one_line_and_removes_nothing(arguments, fault, clean, home):
    before = entries(home)
    (home.parent.parent / "empty").mkdir()
    names = {"home": home, "run": next(run_folder.folders(home))}
    code, out, err = clean(*(word.format(**names) for word in arguments))
    assert code == 2 and out == "" and err.count("\n") == 1 and fault in err
    assert entries(home) == before


# --- what is asked


def answered(home: Path, answer: str, *words: str) -> tuple[int, str]:
    """Runs it on a terminal, where a person answers."""
    outer, inner = pty.openpty()
    started = commands.popen([CLEAN, home, *words], stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    os.write(outer, f"{answer}\n".encode())
    said = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(outer, 4096):
            said += part
    os.close(outer)
    return started.wait(60), said.decode()


def test_on_a_terminal_a_person_is_asked(home):
    code, said = answered(home, "", "diverged")
    assert code == 0 and "remove 1 run, " in said and "? [y/N] " in said and "was removed" in said
    assert "diverged" in statuses(home)
    code, said = answered(home, "y", "diverged")
    assert code == 0 and f"removed       {home}: 1 run, " in said
    assert "diverged" not in statuses(home)


# --- what stays


def test_a_run_that_is_held_stays(clean, home):
    held = next(home.glob("*init=zeros*seed=0-*"))
    with claim.claim_folder(held):
        code, out, _ = clean(home, "failed", "diverged", "yes=true")
    assert code == 0 and f"stays         {held.name}: is being trained by process {os.getpid()}" in out
    assert statuses(home) == ["failed", "finished", "interrupted", "stopped early"]


def test_a_run_that_was_taken_up_after_it_was_shown_stays(home):
    folder = next(home.glob("*init=zeros*seed=0-*"))
    known = run_folder.read(folder).known
    with claim.claim_folder(folder), pytest.raises(claim.Busy, match="is being trained"):
        removal.remove(folder, known)
    (folder / "record.json").write_text(json.dumps({**known, "status": "finished"}))
    with pytest.raises(claim.Busy, match="has changed"):
        removal.remove(folder, known)
    assert folder.is_dir()
    shutil.rmtree(folder)
    with pytest.raises(claim.Busy, match="has changed"):
        removal.remove(folder, known)
    assert not folder.exists()


def test_links_and_what_others_have_put_there_stay(clean, home, tmp_path):
    elsewhere = write(tmp_path / "far" / "main", "seed.value=7", status="failed")
    (home / elsewhere.name).symlink_to(elsewhere)
    (home / "notes.txt").write_text("mine")
    stranger = home / "figures-0123abcd"
    stranger.mkdir()
    (stranger / "a.png").touch()
    (home / "by-hand").mkdir()
    (home / "by-hand" / "record.json").write_text('{"status": "failed"}')
    renamed = next(home.glob("*init=zeros*seed=0-*"))
    renamed = renamed.rename(home / "my-best-00000000")
    mine = next(home.glob("*init=xavier*seed=1-*")) / "notes.md"
    mine.write_text("why it diverged")
    before = entries(home)
    code, out, err = clean(home, "failed", "diverged", "yes=true")
    assert (code, err) == (0, "") and entries(home) == before
    assert f"{mine.parent.name}: holds what is no part of a run: notes.md" in out
    assert (elsewhere / "record.json").exists() and renamed.is_dir()


def test_a_damaged_record_is_nobodys(clean, home):
    damaged = next(home.glob("*init=zeros*seed=0-*"))
    (damaged / "record.json").write_text('{"status": "fai')
    assert clean(home, "failed", "yes=true")[0] == 0
    assert damaged.is_dir()


# --- what a sweep knows


def submitted(home: Path, folder: Path, *more: Path) -> Ledger:
    runs = [path.name.rpartition("-")[2] for path in (folder, *more)]
    names = {run: path.name for run, path in zip(runs, (folder, *more), strict=True)}
    ledger, one = Ledger(home), Submission("main-1", "local", [runs], names)
    with ledger.held():
        ledger.announce(one)
        ledger.add_result(replace(one, jobs=["17"]))
    (ledger.home_of(one)).mkdir(parents=True)
    (ledger.folder / "logs").mkdir()
    for run in runs:
        (ledger.folder / "logs" / f"{run}.17.0.log").write_text("printed")
    return ledger


def test_a_run_of_a_live_job_stays(clean, home, monkeypatch):
    folder = next(home.glob("*init=zeros*seed=0-*"))
    submitted(home, folder)
    monkeypatch.setitem(jobs.STATES, "local", lambda ids: {job: State("RUNNING", "node1") for job in ids})
    code, out, _ = clean(home, "failed", "interrupted", "yes=true")
    assert code == 0 and folder.is_dir() and f"{folder.name}: is in the cluster's job 17" in out
    assert "interrupted" not in statuses(home)


def test_nothing_is_removed_where_the_cluster_does_not_answer(clean, home, monkeypatch):
    def no_answer(ids):
        raise jobs.NoAnswer("squeue does not answer")

    submitted(home, next(home.glob("*init=zeros*seed=0-*")))
    monkeypatch.setitem(jobs.STATES, "local", no_answer)
    before = entries(home)
    code, _, err = clean(home, "failed", "yes=true")
    assert code == 1 and "squeue does not answer" in err and entries(home) == before


def test_ledger_plan_and_logs_forget_what_was_removed(clean, as_command, home, monkeypatch):
    failed, other = (next(home.glob(f"*init=zeros*seed={seed}-*")) for seed in (0, 1))
    ledger = submitted(home, failed, other)
    monkeypatch.setitem(jobs.STATES, "local", lambda ids: dict.fromkeys(ids, jobs.GONE))
    assert clean(home, "failed", "yes=true")[0] == 0
    assert [*ledger.placed()] == [other.name.rpartition("-")[2]]
    assert [path.name for path in (ledger.folder / "logs").iterdir()] == [f"{other.name[-8:]}.17.0.log"]
    assert ledger.home_of(ledger.submissions()[0]).is_dir()
    _, out, _ = as_command(str(ROOT / "scripts" / "status.py"), str(home))
    assert failed.name not in out and other.name in out
    assert clean(home, "init=zeros", "yes=true")[0] == 0
    assert ledger.placed() == {} and not ledger.home_of(ledger.submissions()[0]).exists()


def test_a_run_that_is_submitted_again_is_known_again(home):
    failed = next(home.glob("*init=zeros*seed=0-*"))
    ledger, run = submitted(home, failed), failed.name[-8:]
    ledger.forget(run)
    again = Submission("main-2", "local", [[run]], {run: failed.name})
    ledger.announce(again)
    ledger.add_result(replace(again, jobs=["18"]))
    assert ledger.placed()[run].job == "18"


def test_page_and_means_show_what_is_left_or_are_said_to_be_stale(clean, home, as_command):
    assert as_command(str(ROOT / "scripts" / "report.py"), str(home))[0] == 0
    gone = next(home.glob("*init=xavier*seed=1-*"))
    assert gone.name in (home / "report.html").read_text()
    _, out, _ = clean(home, "diverged", "yes=true")
    assert gone.name not in (home / "report.html").read_text() or "stale" in out
    _, out, _ = clean(home, "older=0.0001m", "yes=true")
    assert statuses(home) == [] and "stale" in out and str(home / "report.html") in out


# --- kills


def kill_at(number: int, do) -> bool:
    """Calls a function in a fork that is killed before its n-th change of a name; returns whether it was."""
    pid = os.fork()
    if pid == 0:
        changes = 0

        def count(event: str, arguments: tuple) -> None:
            nonlocal changes
            if event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                return
            changes += 1
            if changes == number:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(count)
            do()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_killed_at_any_moment_it_leaves_a_whole_run_or_none(clean, tmp_path):
    home = tmp_path / "outputs" / "main"
    folder = write(home, "seed.value=0", status="failed")
    content = {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    }
    known = run_folder.read(folder).known
    shutil.copytree(folder, tmp_path / "copy")
    halves = 0
    for number in range(1, 100):
        if not kill_at(number, lambda: removal.remove(folder, known)):
            break
        if folder.exists():
            assert {path: path.read_bytes() for path in content} == content
            assert [*known_folders(home).values()] == [folder]
        else:
            halves += 1
            assert [*run_folder.folders(home)] == [] == [*removal.runs(home)] and known_folders(home) == {}
            assert Request({"output_dir": str(home.parent), "name": "main", "seed": {"value": 0}}).folder
            for empty in (path for path in home.glob(".*.tmp") if not any(path.iterdir())):
                os.utime(empty, (time.time() - 7200,) * 2)  # might be another process's of a moment ago
            code, out, _ = clean(home, "yes=true")
            assert code == 0 and "1 left by killed processes" in out
        assert [name for name in entries(home) if name != folder.name] == []
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "copy", folder)
    assert halves >= 4 and number > 5
    assert entries(home) == []


def test_what_killed_processes_have_left_is_removed_and_nothing_else(clean, home):
    (home / ".0123456789abcdef.tmp").write_text("half a page")
    (home / ".fedcba9876543210.tmp").write_text("being written now")
    os.utime(home / ".0123456789abcdef.tmp", (time.time() - 7200,) * 2)
    bare = home / "init=he__seed=0-0a1b2c3d"
    bare.mkdir()
    (bare / ".lock").touch()
    run = next(home.glob("*init=zeros*seed=0-*"))
    (run / ".00000000000000aa.tmp").write_text("half a record")
    (home / f".{run.name}.copy").mkdir()
    (home / ".not-ours.tmp").touch()
    count = len(entries(home))
    code, out, _ = clean(home)
    assert code == 0 and out.count("left over") == 4 and len(entries(home)) == count
    code, out, _ = clean(home, "yes=true")
    assert code == 0 and "4 left by killed processes" in out
    hidden = [name for name in entries(home) if name.startswith(".")]
    assert hidden == [".fedcba9876543210.tmp", ".not-ours.tmp"] and not bare.exists()
    assert len(statuses(home)) == 5 and not (run / ".00000000000000aa.tmp").exists()


def test_a_full_disk_does_not_prevent_it(clean, home, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert clean(home, "failed", "yes=true")[0] == 0
    assert "failed" not in statuses(home)


# --- names in words


def test_a_run_in_words_says_what_differs(tmp_path):
    home = tmp_path / "main"
    for init, rate in (("xavier", "0.1"), ("kaiming", "0.01")):
        for seed in (0, 3):
            write(home, f"init={init}", f"optimizer.lr={rate}", "scheduler=cosine", f"seed.value={seed}")
    write(
        home,
        "init=xavier",
        "optimizer.lr=0.01",
        "scheduler.warmup=2",
        "regularizer=[l1,dropout]",
        "seed.value=0",
    )
    runs = [row.run for row in loading.load(home).rows]
    words = {run.folder.name: text for run, text in zip(runs, in_words(runs), strict=True)}
    assert len(set(words.values())) == 5
    one = next(text for name, text in words.items() if "kaiming" in name and "seed=3" in name)
    assert one.startswith("kaiming init, ") and "lr 0.01" in one and one.endswith(", seed 3")
    alone = in_words(runs[:1])
    assert alone[0].startswith("wine data, ") and alone[0].endswith(f"seed {runs[0].settings['seed.value']}")
    (none,) = in_words([run_folder.read(write(tmp_path / "other", "early_stop=none", "optimizer.lr=0.5"))])
    assert none == "wine data, no early stop, lr 0.5"
