"""Files that runs of an experiment have in common: one content once on the disk, whole in each folder."""

import errno
import multiprocessing
import os
import shutil
import signal

import pytest

from sweepwise.store import shared
from sweepwise.store.folders import SHARED
from sweepwise.system.atomic import clear_aside
from sweepwise.verify.fault_injection import Death, forked

CONTENT = b'{"a": "b"}\n' * 50


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / f"run-{number:08x}" for number in range(3)]
    for folder in folders:
        folder.mkdir()
    return folders


def share(folder, content=CONTENT, name="code.json"):
    shared.share(folder.parent, folder / name, content)


def inodes(folders, name="code.json"):
    return {(folder / name).stat().st_ino for folder in folders}


def test_one_content_is_on_the_disk_once_and_whole_in_each_folder(runs, tmp_path):
    for folder in runs:
        share(folder)
        share(folder)  # as a run that goes on does
    assert len(inodes(runs)) == 1 and (runs[0] / "code.json").stat().st_nlink == 4
    assert not any(path.name.endswith(".tmp") for path in tmp_path.rglob("*"))
    copy = shutil.copytree(runs[0], tmp_path / "elsewhere")
    for folder in runs:
        shutil.rmtree(folder)
    assert (copy / "code.json").read_bytes() == CONTENT
    runs[1].mkdir()
    share(runs[1])  # of a process that knows none of the others
    assert (runs[1] / "code.json").stat().st_nlink == 2


def test_other_content_or_another_name_is_another_file(runs):
    share(runs[0])
    share(runs[1], CONTENT[::-1])
    share(runs[2], name="prediction.json")
    assert (runs[1] / "code.json").read_bytes() == CONTENT[::-1]
    numbers = {*inodes(runs[:1]), *inodes(runs[1:2]), *inodes(runs[2:], "prediction.json")}
    assert len(numbers) == 3


def test_a_run_that_gets_other_content_parts_from_the_others(runs):
    for folder in runs:
        share(folder)
    share(runs[0], b"other\n")
    assert (runs[0] / "code.json").read_bytes() == b"other\n"
    assert (runs[1] / "code.json").read_bytes() == CONTENT


def test_a_shared_file_cannot_be_written_into_and_a_damaged_one_is_not_handed_on(runs, tmp_path):
    share(runs[0])
    (source,) = (tmp_path / SHARED).iterdir()
    assert source.stat().st_mode & 0o777 == 0o444
    source.chmod(0o644)
    source.write_bytes(CONTENT[:-3])
    share(runs[1])
    assert (runs[1] / "code.json").read_bytes() == source.read_bytes() == CONTENT


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK])
def test_where_no_link_is_possible_there_is_a_copy(number, runs, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    for folder in runs[:2]:
        share(folder)
        assert (folder / "code.json").read_bytes() == CONTENT
        assert [path.name for path in folder.iterdir()] == ["code.json"]
    assert len(inodes(runs[:2])) == 2


def test_when_a_file_has_as_many_links_as_there_may_be_another_takes_its_place(runs, monkeypatch):
    link = os.link

    def full(source, target):
        if os.stat(source).st_nlink > 2:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    for folder in runs:
        share(folder)
    assert inodes(runs[:2]) != inodes(runs[2:]) and len(inodes(runs[:2])) == 1
    assert all((folder / "code.json").read_bytes() == CONTENT for folder in runs)


def test_what_no_run_has_any_more_is_removed_and_nothing_else(runs, tmp_path):
    share(runs[0])
    share(runs[1], b"1")
    shutil.rmtree(runs[1])
    shared.tidy(tmp_path)
    assert len([*(tmp_path / SHARED).iterdir()]) == 1 and (runs[0] / "code.json").read_bytes() == CONTENT
    shutil.rmtree(runs[0])
    shared.tidy(tmp_path)
    assert not (tmp_path / SHARED).exists()
    shared.tidy(tmp_path)  # nothing was shared here


@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_killed_at_any_operation_a_file_is_whole_or_missing_and_the_next_call_makes_it(when, runs, tmp_path):
    for operation in range(30):
        death = Death(operation=operation, when=when)
        code = forked(lambda: share(runs[0]), death)
        path = runs[0] / "code.json"
        assert not path.exists() or path.read_bytes() == CONTENT
        for source in (tmp_path / SHARED).glob("[!.]*"):
            assert source.read_bytes() == CONTENT
        for folder in runs[:2]:
            share(folder)
            clear_aside(folder)
            assert [file.name for file in folder.iterdir()] == ["code.json"]
        assert len(inodes(runs[:2])) == 1
        for folder in runs[:2]:
            (folder / "code.json").unlink()
        shutil.rmtree(tmp_path / SHARED)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert 5 < operation < 29


def _share_often(folder):
    for number in range(200):
        shared.share(folder.parent, folder / "code.json", b"%d\n" % (number % 3))
        assert (folder / "code.json").read_bytes() == b"%d\n" % (number % 3)
        if number % 5 == 0:
            shared.tidy(folder.parent)


def test_processes_that_share_and_tidy_at_once_do_not_disturb_one_another(runs):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_share_often, args=(folder,)) for folder in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert all((folder / "code.json").read_bytes() == b"1\n" for folder in runs)
