"""The copy of the code that a sweep's jobs import from, without a cluster."""

import os
import shutil

import pytest

from sweepwise.provenance import origin
from sweepwise.sweep.cluster import snapshot
from sweepwise.system import atomic, disk

TARGETS = ["sweepwise.model.mlp.mlp"]


@pytest.fixture
def small_code(tmp_path, monkeypatch):
    """A package of two files in the place of sweepwise."""
    home = tmp_path / "sweepwise"
    home.mkdir()
    (home / "__init__.py").write_text("")
    (home / "part.py").write_text("a = 1\n")
    monkeypatch.setattr(snapshot.sources, "code_folders", lambda names: {"sweepwise": home})


def is_whole(folder):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
    return names == ["sweepwise/__init__.py", "sweepwise/part.py"]


def entries(sweep):
    return [path.name for path in (sweep / snapshot.SNAPSHOTS).iterdir()]


def test_the_same_code_is_copied_once(tmp_path, small_code):
    first = snapshot.take(tmp_path / "sweep", TARGETS, [])
    assert is_whole(first)
    assert snapshot.take(tmp_path / "sweep", TARGETS, []) == first
    assert entries(tmp_path / "sweep") == [first.name]


def test_a_leftover_of_a_process_with_the_same_number_is_no_hindrance(tmp_path, small_code):
    first = snapshot.take(tmp_path / "sweep", TARGETS, [])
    leftover = first.with_name(f".{first.name}.{os.getpid()}{atomic.ASIDE}")
    os.rename(first, leftover)
    folder = snapshot.take(tmp_path / "sweep", TARGETS, [])
    assert folder == first and is_whole(folder)


def test_another_launcher_that_is_faster(tmp_path, small_code, monkeypatch):
    """It puts its copy in place after this one has looked; renaming a folder over it gives ENOTEMPTY."""
    usual, raced = os.rename, []

    def rename(source, target, **options):
        if os.path.basename(os.path.dirname(target)) == snapshot.SNAPSHOTS and not raced:
            shutil.copytree(source, target)
            raced.append(target)
        return usual(source, target, **options)

    monkeypatch.setattr(os, "rename", rename)
    folder = snapshot.take(tmp_path / "sweep", TARGETS, [])
    assert raced and is_whole(folder)
    assert entries(tmp_path / "sweep") == [folder.name]


def test_a_copy_that_fails_leaves_nothing_and_says_so(tmp_path, small_code, monkeypatch):
    """Even where the error is one that a lost race could have given."""

    def refuse(*arguments, **options):
        raise FileExistsError(17, "File exists", "elsewhere")

    monkeypatch.setattr(shutil, "copytree", refuse)
    with pytest.raises(FileExistsError):
        snapshot.take(tmp_path / "sweep", TARGETS, [])
    assert entries(tmp_path / "sweep") == []


def test_a_copy_is_on_the_disk_before_it_has_its_name(tmp_path, small_code, monkeypatch):
    synced, usual = [], os.rename
    monkeypatch.setattr(disk, "sync", lambda path: synced.append(path.name))
    before = []
    monkeypatch.setattr(os, "rename", lambda *names: before.extend(synced) or usual(*names))
    snapshot.take(tmp_path / "sweep", TARGETS, [])
    assert {"__init__.py", "part.py", "sweepwise", origin.ORIGIN} <= set(before)
