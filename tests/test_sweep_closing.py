"""What is said at the end of a sweep is said again without work where nothing has changed, and only there."""

import json
import os
import shutil
from pathlib import Path

import pytest
import sweeps
from small import composed

from sweepwise.errors import CHANGED
from sweepwise.results import loading, run_folder
from sweepwise.results.page import files
from sweepwise.results.tensorboard import hparams_columns
from sweepwise.store.request import find_folder, known_folders
from sweepwise.sweep import closing
from sweepwise.sweep.local import launch
from sweepwise.sweep.outcome import Outcome, status, told
from sweepwise.sweep.summary import answer_of, tell_tensorboard

VALUES = {("init=xavier",): (0.1, 0.2, 0.15), ("init=lecun",): (0.3, 0.35, 0.4)}


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "out" / "main"
    sweeps.grid(home, VALUES)
    return home


@pytest.fixture
def says(home, capsys):
    """Tells the end; returns what was printed, and whether it was worked out."""

    def says(asked=None, between=lambda: None):
        worked = []

        def say():
            worked.append(1)
            table = answer_of([home])
            written = tell_tensorboard([home])
            between()
            return table if written else None

        closing.tell([home], asked, say)
        return capsys.readouterr().out, bool(worked)

    return says


def test_what_has_not_changed_is_said_again(says, home):
    first, worked = says()
    assert worked and "answer" in first and (home / "report.html").exists()
    assert says() == (first, False)
    assert says(asked="others")[1]


def one_more(home):
    sweeps.run(home, "init=xavier", "seed.value=3", value=0.5)


def one_other(home):
    path = next(home.glob("*/record.json"))
    whole = json.loads(path.read_bytes())
    whole["best"]["value"] = 0.11
    stat = path.stat()
    path.write_text(json.dumps(whole))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def another_config(home):
    path = next(home.glob("*/config.yaml"))
    path.write_text(path.read_text() + "\n")


CHANGES = {
    "a run more": one_more,
    "a run less": lambda home: shutil.rmtree(next(home.glob("*=*"))),
    "another record with the times of before": one_other,
    "another config": another_config,
    "no page": lambda home: (home / "report.html").unlink(),
    "a page of somebody else": lambda home: (home / "report.html").write_text("mine"),
    "no means": lambda home: shutil.rmtree(home / "_mean", ignore_errors=True) or (home / "_mean").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_it_is_worked_out_anew(says, home, change):
    says()
    CHANGES[change](home)
    assert says()[1]


def test_it_is_not_remembered_while_a_run_trains_or_where_one_changed_meanwhile(says, home):
    says(between=lambda: one_more(home))
    assert says()[1] and not says()[1]
    sweeps.run(home, "init=xavier", "seed.value=4", value=None, status="running")
    assert says()[1] and says()[1]


def test_a_folder_that_is_named_in_another_way_is_named_so(home, capsys, monkeypatch):
    said = []
    monkeypatch.chdir(home.parent)
    for name in (home, Path("main")):
        closing.tell([name], None, lambda name=name: answer_of([name]))
        said.append(capsys.readouterr().out)
    assert f"scripts/confirm.py {home}\n" in said[0] and "scripts/confirm.py main\n" in said[1]


def test_another_terminal_or_other_code_is_another_question(says, monkeypatch):
    says()
    with monkeypatch.context() as patched:
        patched.setattr(closing, "_code", lambda: ["other"])
        assert says()[1]
    assert not says()[1]


def test_a_run_is_read_once_while_its_table_is_held(home, monkeypatch):
    table = loading.load(home)
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "_read", lambda folder: pytest.fail(f"{folder} is read again"))
        assert loading.load(home).rows == table.rows
    one_other(home)
    again = loading.load(home)
    assert [row.value for row in again.rows] != [row.value for row in table.rows]


def test_the_end_of_a_run_is_known_without_its_folder(home):
    """What the pool has read of a record is not read again for each line that is said of it."""
    request = composed("init=xavier", "seed.value=1", f"output_dir={home.parent}", f"name={home.name}")
    known = json.loads((request.folder / "record.json").read_bytes())
    read, carried = Outcome(request, 0), Outcome(request, 0, known=told(known))
    assert read.record["best"]["value"] == carried.record["best"]["value"] == 0.2
    assert launch._value(read) == launch._value(carried) == 0.2
    shutil.rmtree(request.folder)
    assert (status(carried), status(read)) == ("finished", "failed") and launch._value(carried) == 0.2


def test_a_folder_is_found_at_once_whatever_was_listed_before(home):
    """Also right after a change, and long after it, when the names are no longer listed each time."""
    for age in (0, 3600):
        os.utime(home, (home.stat().st_mtime - age,) * 2)
        name = f"a-{age:08x}"
        assert find_folder(home, [], 0, f"{age:08x}").name == f"seed=0-{age:08x}"
        (home / name).mkdir()
        assert find_folder(home, [], 0, f"{age:08x}") == home / name
        assert known_folders(home)[f"{age:08x}"] == home / name
        (home / name).rename(home / f"0{name}")
        assert find_folder(home, [], 0, f"{age:08x}") == home / f"0{name}"
        (home / f"0{name}").rmdir()
        assert find_folder(home, [], 0, f"{age:08x}").name == f"seed=0-{age:08x}"


def test_names_are_listed_once_while_the_experiment_stays_as_it_was(home, monkeypatch):
    os.utime(home, (home.stat().st_mtime - 3600,) * 2)
    before = known_folders(home)
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"{path} is listed again"))
    assert known_folders(home) == before and len(before) == 6


def test_what_a_full_disk_has_said_is_not_said_again(says, home, monkeypatch):
    """Once there is room the page is written."""
    with monkeypatch.context() as full:
        full.setattr(files, "beside", lambda answered: (_ for _ in ()).throw(OSError(28, "No space left")))
        text, worked = says()
        assert worked and "no page" in text and not (home / "report.html").exists()
    text, worked = says()
    assert worked and "no page" not in text and (home / "report.html").exists()


def test_means_that_a_full_disk_lacks_are_written_once_there_is_room(says, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(hparams_columns, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert "lacks means or columns" in says()[0]
    text, worked = says()
    assert worked and "lacks" not in text and not says()[1]


def test_why_there_is_no_page_of_many_runs_is_said_again(says, monkeypatch):
    monkeypatch.setattr(files, "MANY", 5)
    first, worked = says()
    assert (
        worked
        and "no page" in first
        and "has 6 runs, and more than 5 take a while" in first.replace("\n             ", "")
    )
    assert says() == (first, False)


def test_a_page_of_somebody_else_is_told_from_none(says, home):
    page = home / "report.html"
    says()
    page.write_text("mine")
    assert "stays" in says()[0]
    page.unlink()
    text, worked = says()
    assert worked and "no page" not in text and page.exists()


def test_a_folder_in_place_of_the_page_is_one_line(says, home):
    (home / "report.html").mkdir()
    text, worked = says()
    assert worked and "answer" in text and "no page" in text


def test_a_sweep_with_a_run_that_was_not_trained_is_worked_out(home, monkeypatch):
    """Why it was not lies beside the folders of the runs, such as in a file that its config names."""
    words = ["init=xavier", f"output_dir={home.parent}", f"name={home.name}"]
    requests = [composed(*words, f"seed.value={seed}") for seed in range(2)]
    monkeypatch.setattr(closing, "tell", lambda *_: pytest.fail("is looked up"))
    launch._tell_end([Outcome(requests[0], 0), Outcome(requests[1], CHANGED)], requests)
