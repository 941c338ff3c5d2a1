"""Power that fails in the middle of a checkpoint: what was not synced may be lost, in any mixture.

The operations of a save are recorded, and replayed on a model of a disk that keeps two views: what a program
sees, and what is on the disk for certain. After each operation the worst disks that may be left are made.
"""

import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sweepwise.checkpoint import Checkpoints, CheckpointsDamaged, manifest, read_weights
from sweepwise.checkpoint.contents import BEST, STATE
from sweepwise.checkpoint.manifest import WEIGHTS
from sweepwise.monitor import Monitor
from sweepwise.store import record
from sweepwise.store.folders import CHECKPOINTS, LINES
from sweepwise.system import atomic
from sweepwise.system import disk as disk_module
from sweepwise.trainer.ending import ending

RECORDED = (
    *("open", "write", "pwrite", "fsync", "ftruncate", "mkdir", "rename", "replace", "link", "symlink"),
    *("unlink", "rmdir"),
)


class Node:
    """A file, link or folder: what a program sees of it, and what is on the disk for certain."""

    def __init__(self, *, content=None, target=None):
        self.content, self.synced = content, None
        self.target = target
        self.names, self.kept = {}, {}
        self.pending = []  # changes of names, each of which may be on the disk or not

    def change(self, *changes):
        """Sets names, or removes those whose node is None, all at once."""
        self.pending.append(changes)
        self.names = changed(self.names, changes)

    def sync(self):
        self.synced = self.content
        self.kept, self.pending = dict(self.names), []


def changed(names, changes):
    names = dict(names)
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node
    return names


class Disk:
    """What a disk may hold when the power fails."""

    def __init__(self, root):
        self.root_path, self.root = root, self._known(root)

    def _known(self, path):
        if path.is_symlink():
            return Node(target=os.readlink(path))
        node = Node(content=None if path.is_dir() else path.read_bytes())
        if path.is_dir():
            node.names = {inner.name: self._known(inner) for inner in path.iterdir()}
        node.sync()
        return node

    def at(self, path):
        node = self.root
        for name in os.path.relpath(path, self.root_path).split(os.sep):
            node = node if name == "." else node.names[name]
        return node

    def do(self, kind, path, extra):
        if kind == "syncfs":
            for node in self._all():
                node.sync()
            return
        path = os.path.normpath(path)
        if not Path(path).is_relative_to(self.root_path):
            return  # the folder above, which is on the disk
        folder, name = (
            self.at(os.path.dirname(path)) if path != str(self.root_path) else None,
            os.path.basename(path),
        )
        if kind == "open" and name not in folder.names:
            folder.change((name, Node(content=b"")))
        elif kind == "open" and extra & os.O_TRUNC:
            self.at(path).content = b""
        elif kind == "write":
            self.at(path).content += extra
        elif kind == "ftruncate":
            self.at(path).content = self.at(path).content[:extra]
        elif kind == "pwrite":  # of a lock
            self.at(path).content = extra
        elif kind == "fsync":
            self.at(path).sync()
        elif kind == "link":
            self.at(os.path.dirname(extra)).change((os.path.basename(extra), self.at(path)))
        elif kind == "mkdir":
            folder.change((name, Node()))
        elif kind == "symlink":
            folder.change((name, Node(target=extra)))
        elif kind in ("rename", "replace"):
            assert os.path.dirname(extra) == os.path.dirname(path)
            folder.change((name, None), (os.path.basename(extra), folder.names[name]))
        elif kind in ("unlink", "rmdir"):
            folder.change((name, None))

    def states(self, draw):
        """The worst that may be left, each once: nested tuples for `make`."""
        pending = [(id(node), number) for node in self._all() for number in range(len(node.pending))]
        everything = set(pending)
        chosen = [set(), everything, *({one} for one in pending), *(everything - {one} for one in pending)]
        chosen += [{one for one in pending if draw.random() < 0.5} for _ in range(3)]
        images = (self._image(self.root, kept, share) for kept in chosen for share in (0, 0.5))
        return list(dict.fromkeys(images))

    def _all(self):
        found, left = {}, [self.root]
        while left:
            node = left.pop()
            if id(node) not in found:
                found[id(node)] = node
                left += [*node.names.values(), *node.kept.values()]
                left += [new for changes in node.pending for _, new in changes if new]
        return found.values()

    def _image(self, node, kept, share):
        if node.target is not None:
            return "link", node.target
        if node.content is not None:
            left = node.synced or b""
            if node.content != node.synced:
                left = max(node.content[: int(share * len(node.content))], left, key=len)
            return "file", left
        names = node.kept
        for number, changes in enumerate(node.pending):
            if (id(node), number) in kept:
                names = changed(names, changes)
        return "folder", tuple((name, self._image(names[name], kept, share)) for name in sorted(names))


def make(image, path):
    kind, what = image
    if kind == "link":
        os.symlink(what, path)
    elif kind == "file":
        path.write_bytes(what)
    else:
        path.mkdir()
        for name, inner in what:
            make(inner, path / name)


def recorded(do):
    """The operations by which something changes the disk: (kind, path, what else)."""
    found = []

    def recording(name, usual):
        def operation(*arguments, dir_fd=None, **options):
            first = arguments[0]
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fspath(first)
            if dir_fd is not None:
                path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
            extra = None if len(arguments) < 2 else arguments[1]
            extra = (
                bytes(extra)
                if name in ("write", "pwrite")
                else os.fspath(extra)
                if name in ("rename", "replace", "link")
                else extra
            )
            if name == "symlink":
                path, extra = os.fspath(extra), path
            result = usual(*arguments, **options, **({} if dir_fd is None else {"dir_fd": dir_fd}))
            if name != "open" or extra & (os.O_WRONLY | os.O_RDWR):
                found.append((name, path, extra))
            return result

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in RECORDED:
            patch.setattr(os, name, recording(name, getattr(os, name)))
        patch.setattr(disk_module, "syncfs", recording("syncfs", disk_module.syncfs))
        do()
    return found


def weights(step):
    return {"weight": torch.full((30,), float(step))}


class Training:
    """Steps of a run that logs and saves."""

    def __init__(self, folder):
        self.checkpoints = Checkpoints(folder, minutes=0)
        saved = self.checkpoints.load()
        begin = {"begin": saved.state} if saved else {}
        self.monitor = Monitor(folder, **begin, graph=False)

    def save(self, step):
        self.monitor.epoch(step - 1, 0, {"val/loss": 1 / step})
        state = {"log": self.monitor.mark()}
        self.checkpoints.save(step, weights(step), (step, weights(step)), state)
        self.checkpoints._wait()


def is_sound(folder, expected):
    """That a run can go on from what is left, with logs as long as its checkpoint says."""
    saved = Checkpoints(folder).load()
    step = saved.step if saved else 0
    assert step in expected
    if saved:
        assert torch.equal(saved.weights["weight"], weights(step)["weight"])
        assert torch.equal(saved.best["weight"], weights(step)["weight"])
        for name, size in saved.state["log"].items():
            assert (folder / name).stat().st_size >= size, name
        for link in ("last", "best"):
            manifest.read_verified((folder / CHECKPOINTS / link).resolve(strict=True))
    return step


@pytest.fixture
def one_by_one(monkeypatch):
    """A file system that is never synced as a whole."""
    monkeypatch.setattr(disk_module, "MANY", 10**6)


@pytest.mark.parametrize("before", [[], [3], [3, 6]])
@pytest.mark.parametrize("synced", ["as a whole", "one by one"])
def test_power_failure_at_any_moment_of_a_save(tmp_path, before, synced, request):
    """With none, one and two checkpoints before it: the third removes the first."""
    if synced == "one by one":
        request.getfixturevalue("one_by_one")
    folder, left = tmp_path / "run", tmp_path / "left"
    folder.mkdir()
    step = 3 * len(before) + 3
    for earlier in before:
        Training(folder).save(earlier)
    disk, draw, steps, images = Disk(folder), random.Random(0), set(), set()
    done = recorded(lambda: Training(folder).save(step))
    assert ("syncfs" in [kind for kind, *_ in done]) == (synced == "as a whole")
    for operation in [None, *done]:
        if operation:
            disk.do(*operation)
        for image in {*disk.states(draw)} - images:
            images.add(image)
            make(image, left)
            steps.add(is_sound(left, {step, *(before[-1:] or [0])}))
            shutil.rmtree(left)
    assert steps == {step, *(before[-1:] or [0])}
    assert len(images) > len(done) > 20
    for image in disk.states(draw):  # once it has returned, nothing can be lost
        make(image, left)
        is_sound(left, {step})
        shutil.rmtree(left)


def test_the_model_of_the_disk_sees_everything(tmp_path):
    """What it says that a program sees is what is there; and without a sync it loses what it may."""
    folder, left = tmp_path / "run", tmp_path / "left"
    folder.mkdir()
    disk = Disk(folder)
    for operation in recorded(lambda: [Training(folder).save(step) for step in (3, 6, 9)]):
        disk.do(*operation)

    def listed(root):
        return {
            str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
            for path in root.rglob("*")
        }

    for node in disk._all():
        node.sync()
    make(disk.states(random.Random(0))[0], left)
    there, expected = listed(left), listed(folder)
    assert there.keys() == expected.keys()
    assert {name for name in there if there[name] != expected[name]} == set()


@pytest.mark.parametrize("files", [True, False])
def test_a_missing_sync_is_found(tmp_path, files):
    """The tests above would fail if files, or folders, were not synced."""
    folder, left, lost = tmp_path / "run", tmp_path / "left", 0
    folder.mkdir()
    disk = Disk(folder)
    for kind, path, extra in recorded(lambda: Training(folder).save(3)):
        if kind == "syncfs":
            for node in disk._all():
                if (node.content is None) == files:
                    node.sync()
        elif (
            kind != "fsync" or (os.path.basename(path) in (WEIGHTS, BEST, STATE, manifest.MANIFEST)) != files
        ):
            disk.do(kind, path, extra)
    for image in disk.states(random.Random(0)):
        make(image, left)
        try:
            is_sound(left, {3})
        except (AssertionError, OSError, CheckpointsDamaged):
            lost += 1
        shutil.rmtree(left)
    assert lost


class Ending:
    """A run that has come to its end: it has trained to step 6, and this is not in its record yet."""

    def __init__(self, folder, status, best):
        training = Training(folder)
        self.log = record.Record(folder)
        atomic.alone(self.log.begin())
        training.monitor.epoch(5, 1, {"val/loss": 1 / 6})
        self.lines = 1 + len(list(folder.glob("checkpoints/step-*")))  # one for each epoch
        state = {"log": training.monitor.mark()} if status == "pruned" else {}
        training.checkpoints.finish(6, weights(6), (best, weights(best)), state)
        run = SimpleNamespace(status=status, reason="", outcome=dict)
        self.operation = ending(run, self.log, training.monitor, training.checkpoints)


def begin(folder, before):
    """A run that has begun, with a checkpoint at step 3, or none yet."""
    folder.mkdir(parents=True)
    atomic.alone(record.Record(folder).begin())
    if before:
        Training(folder).save(3)


SAMPLE = 3  # of the disks that may be left after each operation
ENDS = {"same": ("finished", 6, True), "other": ("stopped early", 3, True), "first": ("diverged", 6, False)}
ENDS |= {"paused": ("pruned", 6, True)}


def end_together(home):
    """Four runs of one group, which end in each way."""
    ends = {name: Ending(home / name, status, best) for name, (status, best, _) in ENDS.items()}
    atomic.together([end.operation for end in ends.values()])
    return {name: end.lines for name, end in ends.items()}


def how_it_stands(folder, status, best, before):
    """The status in the record; what it promises is there."""
    known = record.read(folder)
    if known.get("status") not in ("running", None):
        assert known["status"] == status
        for which, step in (("best", best), ("last", 6)):
            assert torch.equal(read_weights(folder, which)["weight"], weights(step)["weight"])
        assert (folder / LINES).read_bytes().count(b"\n") == 1 + before
    if status != "pruned" and known.get("status") == status:
        return status
    assert is_sound(folder, {0, 3, 6} if status == "pruned" else {3 if before else 0}) or not before
    return known.get("status")


@pytest.mark.parametrize("synced", ["as a whole", "one by one"])
def test_power_failure_at_any_moment_of_the_end_of_a_group(tmp_path, synced, request):
    """Each run has ended, with weights and logs, or goes on from where it could before."""
    if synced == "one by one":
        request.getfixturevalue("one_by_one")
    home, left = tmp_path / "home", tmp_path / "left"
    for name, (_, _, before) in ENDS.items():
        begin(home / name, before)
    disk, draw, images, seen = Disk(home), random.Random(0), set(), set()
    done = recorded(lambda: end_together(home))
    for operation in [None, *done]:
        if operation:
            disk.do(*operation)
        states = disk.states(draw)
        for image in {*draw.sample(states, min(SAMPLE, len(states)))} - images:
            images.add(image)
            make(image, left)
            seen |= {(name, how_it_stands(left / name, *how)) for name, how in ENDS.items()}
            shutil.rmtree(left)
    assert seen == {(name, status) for name, (own, *_) in ENDS.items() for status in (own, "running")}
    for image in disk.states(draw):  # once it has returned, nothing can be lost
        make(image, left)
        assert [how_it_stands(left / name, *how) for name, how in ENDS.items()] == [
            own for own, *_ in ENDS.values()
        ]
        shutil.rmtree(left)
    assert ("syncfs" in [kind for kind, *_ in done]) == (synced == "as a whole")
