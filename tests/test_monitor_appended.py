"""A log whose file cannot always be written: whole lines, tried again, and lost ones named."""

import errno
import os
import shutil

import pytest
from small import mounted

from sweepwise.monitor import Monitor, appended
from sweepwise.monitor.appended import AppendedFile
from sweepwise.monitor.read import lines, records


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(appended.time, "monotonic", lambda: now[0])
    return now


class Disk:
    """One that takes so many bytes more; None: any number."""

    def __init__(self, monkeypatch, room=None):
        self.room, self.usual = room, os.write
        monkeypatch.setattr(appended.os, "write", self.write)

    def write(self, handle, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.usual(handle, data[: self.room])
        if self.room is not None:
            self.room -= taken
        return taken


def content(tmp_path):
    return (tmp_path / "log").read_bytes()


def test_appended_when_two_seconds_old(tmp_path, clock):
    file = AppendedFile(tmp_path / "log")
    file.add(0, b"a")
    assert content(tmp_path) == b""
    clock[0] += 2
    file.add(1, b"b")
    assert content(tmp_path) == b"ab"
    file.add(2, b"c")
    assert content(tmp_path) == b"ab"
    assert file.flush()
    assert content(tmp_path) == b"abc"
    assert file.size == 3


@pytest.mark.parametrize(
    ("size", "left"), [(None, b"0123456789"), (10, b"0123456789"), (4, b"0123"), (0, b"")]
)
def test_cut_at_the_start(tmp_path, size, left):
    (tmp_path / "log").write_bytes(b"0123456789")
    file = AppendedFile(tmp_path / "log", size)
    assert content(tmp_path) == left
    file.add(0, b"more")
    file.close()
    assert content(tmp_path) == left + b"more"


def test_a_file_that_has_lost_its_end_is_named(tmp_path, capsys):
    (tmp_path / "log").write_bytes(b"0123")
    AppendedFile(tmp_path / "log", 10)
    assert capsys.readouterr().err == "warning: log has lost its last 6 bytes\n"


def test_a_part_that_was_taken_goes_on(tmp_path, monkeypatch):
    usual = os.write
    monkeypatch.setattr(appended.os, "write", lambda handle, data: usual(handle, data[:3]))
    file = AppendedFile(tmp_path / "log")
    file.add(0, b"0123456789")
    file.close()
    assert content(tmp_path) == b"0123456789"


@pytest.mark.parametrize("room", [0, 1, 5, 6])
def test_an_append_is_whole_or_undone(tmp_path, monkeypatch, capsys, room):
    disk = Disk(monkeypatch)
    file = AppendedFile(tmp_path / "log")
    file.add(0, b"first\n")
    assert file.flush()
    disk.room = room
    file.add(1, b"second\n")
    assert not file.flush()
    assert content(tmp_path) == b"first\n"
    assert not file.flush()
    disk.room = None
    file.add(2, b"third\n")
    file.close()
    assert content(tmp_path) == b"first\nsecond\nthird\n"
    said = capsys.readouterr().err
    assert said == "warning: log cannot be written (No space left on device); the training continues\n"


def test_what_cannot_be_taken_back_is_so_later(tmp_path, monkeypatch):
    """The disk is so broken that even the beginning of an append stays."""
    disk = Disk(monkeypatch, 3)
    file = AppendedFile(tmp_path / "log")
    file.add(0, b"first\n")
    with monkeypatch.context() as patch:
        patch.setattr(appended.os, "ftruncate", lambda *arguments: Disk.write(disk, 0, b""))
        assert not file.flush()
    assert content(tmp_path) == b"fir"
    disk.room = None
    file.close()
    assert content(tmp_path) == b"first\n"


def test_interrupted_in_the_middle(tmp_path, monkeypatch):
    """A second Ctrl-C comes between two parts of a write; the end then writes all of it once."""
    usual = os.write
    file = AppendedFile(tmp_path / "log")
    file.add(0, b"0123456789")

    def interrupted(handle, data):
        usual(handle, data[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(appended.os, "write", interrupted)
        file.flush()
    file.close()
    assert content(tmp_path) == b"0123456789"


def test_the_end_names_what_is_lost(tmp_path, monkeypatch, capsys):
    disk = Disk(monkeypatch)
    file = AppendedFile(tmp_path / "log")
    file.add(3, b"a\n")
    file.flush()
    disk.room = 0
    for step in (4, 7, 9):
        file.add(step, b"b\n")
    file.close()
    assert content(tmp_path) == b"a\n"
    assert file.lost == [(4, 9)]
    assert "warning: log lacks steps 4 to 9 (No space left on device)" in capsys.readouterr().err


def test_more_than_is_kept_is_lost(tmp_path, monkeypatch, capsys):
    """Twice, with room in between: each time is named."""
    monkeypatch.setattr(appended, "MAX_PENDING", 20)
    disk = Disk(monkeypatch, 0)
    file = AppendedFile(tmp_path / "log")
    written = []
    for step in range(12):
        line = b"step %02d\n" % step  # two of them fit
        disk.room = 0 if step not in (5, 6) else None
        file.add(step, line)
        if file.flush():
            written.append(step)
    assert written == [5, 6]
    disk.room = None
    file.close()
    assert content(tmp_path).decode().split("\n")[:-1] == [f"step {step:02d}" for step in (0, 1, 6, 7, 8)]
    assert file.lost == [(2, 5), (9, 11)]
    said = capsys.readouterr().err
    assert "log lacks steps 2 to 5 (" in said
    assert "log lacks steps 9 to 11 (" in said


def test_what_is_not_refused_has_no_limit(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(appended, "MAX_PENDING", 20)
    file = AppendedFile(tmp_path / "log")
    for step in range(100):
        file.add(step, b"0123456789")
    file.close()
    assert content(tmp_path) == b"0123456789" * 100
    assert file.lost == []


def test_a_folder_that_was_removed(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    file = AppendedFile(folder / "log")
    shutil.rmtree(folder)
    file.add(1, b"a")
    assert not file.flush()
    file.close()
    assert not folder.exists()
    assert "log cannot be written (No such file or directory)" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB of its own."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        yield disk


def test_a_monitor_on_a_full_disk(small_disk, clock, capsys):
    """Both logs stay readable to the last whole record; with room they go on, and no step is lost."""
    filling = small_disk / "filling"
    monitor = Monitor(small_disk, graph=False)

    def log(steps):
        for step in steps:
            clock[0] += 3
            monitor.epoch(step, 0, {f"val/tag_{i}": step / (i + 1) for i in range(30)})

    def steps_read():
        (events,) = small_disk.glob("events.*")
        assert len(list(records(events))) > 1
        return list(dict.fromkeys(entry.step for entry in lines(small_disk)))

    log(range(3))
    with filling.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1024))
    log(range(3, 30))
    first = steps_read()
    assert first == list(range(len(first)))
    assert len(first) < 30
    filling.unlink()
    log(range(30, 33))
    assert steps_read() == list(range(33))
    monitor.close("finished")
    said = capsys.readouterr().err
    assert "metrics.jsonl cannot be written (No space left on device); the training continues" in said
    assert "lacks" not in said


def test_a_monitor_on_a_disk_that_stays_full(small_disk, clock, capsys):
    monitor = Monitor(small_disk, graph=False)
    for step in range(200):
        clock[0] += 3
        monitor.epoch(step, 0, {f"val/tag_{i}": step / (i + 1) for i in range(30)})
    monitor.close("finished")
    last = [entry.step for entry in lines(small_disk)][-1]
    said = capsys.readouterr().err
    assert f"metrics.jsonl lacks steps {last + 1} to 199 (No space left on device)" in said
    assert said.count("lacks steps") == 2, "the event file says so too"


@pytest.mark.parametrize("kept, left", [(b"ab\ncd\ne", b"ab\ncd\n"), (b"ab", b""), (b"ab\n", b"ab\n")])
def test_a_torn_last_line_is_no_beginning_of_the_next(tmp_path, kept, left, capsys):
    path = tmp_path / "lines"
    path.write_bytes(kept)
    file = AppendedFile(path, 100, b"\n")
    file.add(0, b"new\n")
    file.close()
    assert path.read_bytes() == left + b"new\n" and file.size == len(left) + 4
    assert "has lost its last" in capsys.readouterr().err
