"""Files and folders that are in place as a whole or not at all, whenever the process dies."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from sweepwise.system import atomic, disk
from sweepwise.system.atomic import (
    alone,
    clear_aside,
    make_folder,
    making,
    point,
    put,
    replacing,
    together,
    write_atomic,
    write_folder,
)
from sweepwise.verify.fault_injection import Death, forked

MOMENTS = ("before", "half", "after")
OLD, NEW = {"a": b"old" * 100}, {"a": b"new" * 100, "b": b""}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refuse(monkeypatch, name, number=errno.ENOSPC):
    usual = getattr(os, name)

    def refused(*arguments, **options):
        if name == "open" and not arguments[1] & os.O_WRONLY:
            return usual(*arguments, **options)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, name, refused)


def killed_at_every_operation(do):
    """Does something in children that die later and later, until one does not; yields after each death."""
    for when in MOMENTS:
        for number in range(1000):
            code = forked(do, Death(operation=number, when=when))
            assert code in (0, -signal.SIGKILL)
            yield number, when
            if code == 0:
                break
        else:
            raise AssertionError("it never went through")


def test_write_aside(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"x" * 3_000_000, b"short"):
        write_atomic(path, content)
        assert contents(tmp_path) == {"file": content}


def test_write_aside_killed(tmp_path):
    path = tmp_path / "file"
    seen = set()
    path.write_bytes(b"old" * 100)
    for _ in killed_at_every_operation(lambda: write_atomic(path, b"new" * 100)):
        seen.add(path.read_bytes())
        clear_aside(tmp_path)
        assert list(contents(tmp_path)) == ["file"]
        path.write_bytes(b"old" * 100)
    assert seen == {b"old" * 100, b"new" * 100}


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "replace"])
def test_write_aside_refused(tmp_path, monkeypatch, operation):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    refuse(monkeypatch, operation)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert contents(tmp_path) == {"file": b"old"}


def test_a_write_that_takes_a_part_goes_on(tmp_path, monkeypatch):
    usual = os.write
    monkeypatch.setattr(atomic.os, "write", lambda handle, data: usual(handle, data[:7]))
    write_atomic(tmp_path / "file", bytes(range(100)))
    assert contents(tmp_path) == {"file": bytes(range(100))}


def test_write_folder(tmp_path):
    write_folder(tmp_path / "folder", NEW)
    assert contents(tmp_path / "folder") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_write_folder_killed(tmp_path):
    folder = tmp_path / "folder"
    seen = []
    for _ in killed_at_every_operation(lambda: write_folder(folder, NEW)):
        seen.append(folder.exists())
        if folder.exists():
            assert contents(folder) == NEW
            atomic.remove(folder)
        clear_aside(tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert True in seen
    assert False in seen


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "rename", "mkdir"])
def test_write_folder_refused(tmp_path, monkeypatch, operation):
    refuse(monkeypatch, operation)
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "folder", NEW)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_of_the_same_number_has_left(tmp_path):
    """It is not touched, for on another machine the process may live; whoever owns the folder clears it."""
    aside = tmp_path / f".folder.{os.getpid()}.tmp"
    aside.mkdir()
    (aside / "stale").touch()
    (tmp_path / f".link.{os.getpid()}.tmp").touch()
    write_folder(tmp_path / "folder", NEW)
    point(tmp_path / "link", "folder")
    assert contents(tmp_path / "folder") == NEW
    clear_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


def test_a_folder_that_is_there_already_stays(tmp_path):
    write_folder(tmp_path / "folder", OLD)
    with pytest.raises(FileExistsError, match="folder"):
        write_folder(tmp_path / "folder", NEW)
    assert contents(tmp_path / "folder") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_point_killed(tmp_path):
    for name, files in (("one", OLD), ("two", NEW)):
        write_folder(tmp_path / name, files)
    link = tmp_path / "link"
    link.symlink_to("one")
    seen = set()
    for _ in killed_at_every_operation(lambda: point(link, "two")):
        seen.add(os.readlink(link))
        clear_aside(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "one", "two"]
        link.unlink()
        link.symlink_to("one")
    assert seen == {"one", "two"}


def test_point_refused(tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to("one")
    refuse(monkeypatch, "replace")
    with pytest.raises(OSError, match="No space"):
        point(link, "two")
    assert os.readlink(link) == "one"
    assert list(tmp_path.iterdir()) == [link]


def test_point_again_writes_nothing(tmp_path, monkeypatch):
    link = tmp_path / "link"
    point(link, "one")
    refuse(monkeypatch, "symlink")
    point(link, "one")
    assert os.readlink(link) == "one"


def test_clear_aside_leaves_the_rest(tmp_path):
    for name in (".a.1.tmp", ".link.2.tmp", "b.tmp", ".lock", "c"):
        (tmp_path / name).mkdir() if name == ".a.1.tmp" else (tmp_path / name).touch()
    clear_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "b.tmp", "c"]


def test_make_folder(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b" / "c")
        assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        make_folder(tmp_path / "file" / "a")


# --- several at once


def contents_of(*folders):
    return [contents(folder) for folder in folders]


@pytest.fixture
def places(tmp_path):
    """Five folders, each with a file."""
    folders = [tmp_path / name for name in "abcde"]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_bytes(b"old")
    return folders


@pytest.fixture
def syncs(monkeypatch):
    """What is synced: paths, and file systems by 'all'."""
    told, whole, each = [], disk.syncfs, os.fsync
    monkeypatch.setattr(disk, "syncfs", lambda handle: told.append("all") or whole(handle))
    monkeypatch.setattr(
        os, "fsync", lambda handle: told.append(Path(os.readlink(f"/proc/self/fd/{handle}"))) or each(handle)
    )
    return told


def test_together_each_stage_is_synced_once(places, syncs):
    together([replacing(folder / "file", b"new") for folder in places])
    assert contents_of(*places) == [{"file": b"new"}] * 5
    assert syncs == ["all", "all"]


def test_a_few_are_synced_one_by_one(places, syncs):
    together([replacing(folder / "file", b"new") for folder in places[:4]])
    assert len(syncs) == 8 and "all" not in syncs and syncs[4:] == places[:4]


def test_a_file_system_that_cannot_be_trusted_is_synced_path_by_path(places, syncs, monkeypatch):
    monkeypatch.setattr(disk, "SYNCED_AS_A_WHOLE", {})
    together([replacing(folder / "file", b"new") for folder in places])
    assert len(syncs) == 10 and "all" not in syncs


def test_where_a_file_system_fails_to_sync_the_one_that_fails_is_found(places, monkeypatch):
    """It may be anybody's file; that of the second cannot be written."""
    usual = disk.sync

    def refused(path):
        if path.parent == places[1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        usual(path)

    monkeypatch.setattr(disk, "syncfs", lambda handle: False)
    monkeypatch.setattr(disk, "sync", refused)
    with pytest.raises(OSError, match="Input/output"):
        together([replacing(folder / "file", b"new") for folder in places])
    new = {"file": b"new"}
    assert contents_of(*places) == [new, {"file": b"old"}, new, new, new]


def test_one_that_fails_takes_no_other_with_it(places):
    shutil.rmtree(places[2])
    with pytest.raises(FileNotFoundError):
        together([replacing(folder / "file", b"new") for folder in places])
    assert contents_of(*places[:2], *places[3:]) == [{"file": b"new"}] * 4
    assert not places[2].exists()


def test_an_error_of_syncing_is_raised_where_it_can_be_answered(tmp_path, monkeypatch):
    def answers():
        try:
            yield [tmp_path / "missing"]
        except OSError:
            yield from replacing(tmp_path / "why", b"missing")
            raise

    with pytest.raises(FileNotFoundError):
        together([answers()])
    assert contents(tmp_path) == {"why": b"missing"}


def test_an_interrupted_one_leaves_nothing_beside(places, monkeypatch):
    def interrupted(paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "sync_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        together([replacing(folder / "file", b"new") for folder in places])
    assert contents_of(*places) == [{"file": b"old"}] * 5


def test_together_killed(places):
    """After the first sync each file is the old one or the new one; and the sync itself is an operation."""
    seen, deaths = set(), 0

    def do():
        together([replacing(folder / "file", b"new") for folder in places])

    for _ in killed_at_every_operation(do):
        deaths += 1
        for folder in places:
            clear_aside(folder)
            assert list(contents(folder)) == ["file"]
        seen.add(tuple(contents(folder)["file"] for folder in places))
        for folder in places:
            (folder / "file").write_bytes(b"old")
    assert seen == {(b"new",) * n + (b"old",) * (5 - n) for n in range(6)}
    assert deaths == len(MOMENTS) * (5 * 3 + 2 + 1)  # opened, written, replaced; two syncs; one that survives


def test_a_folder_shares_files_that_are_there(tmp_path):
    (tmp_path / "there").write_bytes(b"same")
    alone(making(tmp_path / "new", {"a": b"same", "b": b"other"}, {"a": tmp_path / "there"}))
    assert contents(tmp_path / "new") == {"a": b"same", "b": b"other"}
    assert (tmp_path / "new" / "a").stat().st_ino == (tmp_path / "there").stat().st_ino


def test_put_syncs_nothing(tmp_path, syncs):
    put(tmp_path / "file", b"new")
    assert contents(tmp_path) == {"file": b"new"} and syncs == []
