"""Checkpoints that are damaged, killed in the making, out of room, forged; the real files of each."""

import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from small import mounted

from sweepwise.checkpoint import Checkpoints, CheckpointsDamaged, manifest, read_weights
from sweepwise.checkpoint import checkpoints as checkpoints_module
from sweepwise.checkpoint.contents import BEST, STATE
from sweepwise.checkpoint.manifest import MANIFEST, WEIGHTS
from sweepwise.errors import Failure
from sweepwise.store.folders import CHECKPOINTS
from sweepwise.store.stamp import stamped
from sweepwise.system import atomic, disk
from sweepwise.verify.fault_injection import Death, forked

FLIPS = 1000


def weights(step, size=40):
    generator = torch.Generator().manual_seed(step)
    return {"layer.weight": torch.randn(size, generator=generator), "layer.bias": torch.full((), float(step))}


def state(step):
    moments = {"exp_avg": torch.arange(20.0) * step, "step": torch.tensor(float(step))}
    return {
        "epoch": step // 3,
        "history": [{"step": step, "val/loss": 1 / step}],
        "learner": [moments],
        "log": {},
    }


def save(checkpoints, step, *, best=None, size=40):
    kept = step if best is None else best
    checkpoints.save(step, weights(step, size), (kept, weights(kept, size)), state(step))


def finish(checkpoints, step, weights, best, state):
    checkpoints.finish(step, weights, best, state)
    atomic.alone(checkpoints.ending(for_good=not state))


def load(folder, **options):
    return Checkpoints(folder, **options).load()


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def is_whole(saved, step, best=None, size=40):
    assert saved.step == step
    assert equal(saved.weights, weights(step, size))
    assert equal(saved.best, weights(step if best is None else best, size))
    told = {key: value for key, value in saved.state.items() if key not in ("step", "best_step")}
    moments, expected = told.pop("learner")[0], state(step).pop("learner")[0]
    assert equal(moments, expected)
    assert told == {key: value for key, value in state(step).items() if key != "learner"}


def links_lead_somewhere(folder):
    for link in ("last", "best"):
        path = folder / CHECKPOINTS / link
        assert path.is_symlink()
        manifest.read_verified(path.resolve(strict=True))


@pytest.fixture
def folder(tmp_path):
    """With checkpoints after steps 3 and 6, of which those of step 6 are the best."""
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoints = Checkpoints(folder)
    for step in (3, 6):
        save(checkpoints, step)
    checkpoints.close()
    return folder


def test_none_yet(tmp_path):
    assert load(tmp_path) is None


def test_the_newest_is_loaded(folder):
    is_whole(load(folder), 6)
    links_lead_somewhere(folder)
    assert sorted(os.listdir(folder / CHECKPOINTS)) == [
        "best",
        "best-00000006",
        "last",
        "step-00000003",
        "step-00000006",
    ]


def test_the_newest_goes_by_its_number(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (10**8 - 1, 10**8, 10**8 + 1):
        save(checkpoints, step)
    checkpoints.close()
    assert load(tmp_path).step == 10**8 + 1
    shutil.rmtree(tmp_path / CHECKPOINTS / f"step-{10**8 + 1}")
    assert load(tmp_path).step == 10**8
    assert (tmp_path / CHECKPOINTS / "best").resolve().name == f"best-{10**8}"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_keep(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in range(1, 7):
        save(checkpoints, step, best=2 if step > 1 else 1)
    checkpoints.close()
    there = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
    assert there == ["best", "best-00000002", "last", *(f"step-{step:08d}" for step in range(7 - keep, 7))]


def test_two_of_the_same_step(folder):
    """The first before its epoch was closed, the second after; both stay, and the second is newer."""
    for _ in range(2):
        checkpoints = Checkpoints(folder)
        finish(checkpoints, 6, weights(6), (6, weights(6)), state(6) | {"epoch": 7})
    assert sorted(path.name for path in (folder / CHECKPOINTS).glob("step-*")) == [
        "step-00000006",
        "step-00000006.1",
    ]
    saved = load(folder)
    assert (saved.step, saved.state["epoch"]) == (6, 7)
    assert (folder / CHECKPOINTS / "last").resolve().name == "step-00000006.1"
    (folder / CHECKPOINTS / "step-00000006.1" / STATE).write_bytes(b"")
    is_whole(load(folder), 6)
    assert (folder / CHECKPOINTS / "damaged-step-00000006.1").is_dir()
    checkpoints = Checkpoints(folder)
    finish(checkpoints, 9, weights(9), (6, weights(6)), state(9))
    assert sorted(path.name for path in (folder / CHECKPOINTS).glob("step-*")) == [
        "step-00000006",
        "step-00000009",
    ]


def test_without_a_best(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    finish(checkpoints, 1, weights(1), None, state(1))
    saved = load(tmp_path)
    assert saved.best == {}
    assert not (tmp_path / CHECKPOINTS / "best").is_symlink()


@pytest.mark.parametrize(
    ("best", "left"),
    [(3, ["best", "best-00000003", "ended-00000008", "last"]), (8, ["best", "best-00000008", "last"])],
)
def test_an_end_for_good_leaves_the_best_and_the_last_weights(folder, best, left):
    """Until the record says so, which comes between, the run can go on from where it was."""
    checkpoints = Checkpoints(folder)
    checkpoints.finish(8, weights(8), (best, weights(best)), {})
    ending = checkpoints.ending(for_good=True)
    for _ in range(2):
        next(ending)
    there = folder.parent / "killed"
    shutil.copytree(folder, there, symlinks=True)
    is_whole(load(there), 6)
    assert sorted(os.listdir(there / CHECKPOINTS)) == [
        "best",
        "best-00000006",
        "last",
        "step-00000003",
        "step-00000006",
    ]
    assert next(ending, None) is None
    assert sorted(os.listdir(folder / CHECKPOINTS)) == left
    links_lead_somewhere(folder)
    for which, step in (("best", best), ("last", 8)):
        assert equal(read_weights(folder, which), weights(step))


def test_an_end_that_is_none_in_the_end_leaves_all(folder):
    """As when the test part could not be measured."""
    checkpoints = Checkpoints(folder)
    before = sorted(os.listdir(folder / CHECKPOINTS))
    checkpoints.finish(8, weights(8), (8, weights(8)), {})
    atomic.alone(checkpoints.ending(for_good=False))
    assert sorted(os.listdir(folder / CHECKPOINTS)) == before
    is_whole(load(folder), 6)


def test_weights_lie_once_on_the_disk(tmp_path):
    """In a checkpoint of the best step all are one file; in a later one its own are others."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 3)
    save(checkpoints, 6, best=3)
    checkpoints.close()
    best = (tmp_path / CHECKPOINTS / "best-00000003" / WEIGHTS).stat().st_ino
    first, second = (tmp_path / CHECKPOINTS / f"step-{step:08d}" for step in (3, 6))
    for path in (first / WEIGHTS, first / BEST, second / BEST):
        assert path.stat().st_ino == best
    assert (second / WEIGHTS).stat().st_ino != best
    is_whole(load(tmp_path), 6, best=3)


def test_where_no_file_can_have_two_names_it_is_copied(tmp_path, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    save(Checkpoints(tmp_path), 3)
    is_whole(load(tmp_path), 3)


def test_weights_that_stand_alone_name_their_step_and_sum(folder):
    """The sum is that of the file with zeros in place of it; the safetensors library reads both."""
    path = folder / CHECKPOINTS / "best-00000006" / WEIGHTS
    assert os.listdir(path.parent) == [WEIGHTS]
    with safe_open(path, "pt") as file:
        told = file.metadata()
    assert told["step"] == "6" and set(told) == {"step", "sha256"}
    zeros = path.read_bytes().replace(told["sha256"].encode(), b"0" * 64)
    assert told["sha256"] == hashlib.sha256(zeros).hexdigest()
    assert equal(load_file(path), weights(6))
    assert equal(from_bytes(stamped(7, to_bytes({}))), {})


def test_every_byte_of_weights_that_stand_alone_is_checked(folder):
    path = folder / CHECKPOINTS / "best-00000006" / WEIGHTS
    whole = path.read_bytes()
    assert equal(read_weights(folder, "best"), weights(6))
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(Failure, match="cannot be used"):
            read_weights(folder, "best")
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(Failure, match="cannot be used"):
            read_weights(folder, "best")
    path.write_bytes(whole)
    path.parent.rename(path.parent.with_name("best-00000007"))
    with pytest.raises(Failure, match=r"of step 7"):
        read_weights(folder, "best")


def older(folder):
    """Makes a folder what the version before has written: a copy of each file, and a manifest everywhere."""
    for path in (folder / CHECKPOINTS).iterdir():
        if path.is_symlink():
            continue
        files = manifest.read_verified(path)
        for name in files.keys() & {WEIGHTS, BEST}:
            files[name] = to_bytes(from_bytes(files[name]))
        step = manifest.order(path)[0]
        shutil.rmtree(path)
        path.mkdir()
        for name, content in (files | {MANIFEST: manifest.manifest(step, files)}).items():
            (path / name).write_bytes(content)


def test_a_folder_of_the_version_before_is_read_and_gone_on_with(folder):
    older(folder)
    assert equal(read_weights(folder, "best"), weights(6))
    assert equal(read_weights(folder, "last"), weights(6))
    is_whole(load(folder), 6)
    links_lead_somewhere(folder)
    goes_on(folder)


def test_the_last_weights_of_the_version_before_are_read(folder):
    """Of a run that had ended, with a whole checkpoint at its last step."""
    older(folder)
    shutil.rmtree(folder / CHECKPOINTS / "step-00000003")
    (folder / CHECKPOINTS / "last").unlink()  # copied by what does not know links
    assert equal(read_weights(folder, "last"), weights(6))
    (folder / CHECKPOINTS / "step-00000006" / MANIFEST).unlink()
    with pytest.raises(Failure, match=f"has no sha256 of its own, and {MANIFEST} is missing"):
        read_weights(folder, "last")


def test_due():
    class Still(Checkpoints):
        def __init__(self, **options):
            super().__init__(Path(os.devnull).parent / "nowhere", **options)

    with pytest.MonkeyPatch.context() as patch:
        now = [100.0]
        patch.setattr(checkpoints_module.atomic, "make_folder", lambda folder, durable: None)
        patch.setattr(checkpoints_module.time, "monotonic", lambda: now[0])
        never, steps, epochs, minutes = (
            Still(minutes=0),
            Still(minutes=0, steps=4),
            Still(minutes=0, epochs=2),
            Still(),
        )
        assert [step for step in range(1, 13) if steps.due(step)] == [4, 8, 12]
        assert [epoch for epoch in range(1, 6) if epochs.due(10 * epoch, epoch)] == [2, 4]
        assert not epochs.due(4)
        assert not minutes.due(1)
        now[0] = 160.0
        assert minutes.due(1)
        assert not never.due(1, 1)


def found_out(folder, name, reason):
    """That a changed checkpoint of step 6 is not believed, and that of step 3 is."""
    saved = load(folder)
    is_whole(saved, 3)
    (text,) = saved.damaged
    assert text.startswith(f"{CHECKPOINTS}/step-00000006: ")
    assert reason in text, text
    aside = folder / CHECKPOINTS / "damaged-step-00000006"
    assert (aside / name).exists()
    links_lead_somewhere(folder)
    assert (folder / CHECKPOINTS / "best").resolve().name == "best-00000003"
    return aside


def put_back(folder, aside):
    aside.rename(folder / CHECKPOINTS / "step-00000006")


@pytest.mark.parametrize("name", [WEIGHTS, BEST, STATE, MANIFEST])
def test_truncated_at_every_64th_byte(folder, name):
    path = folder / CHECKPOINTS / "step-00000006" / name
    whole = path.read_bytes()
    path.unlink()  # its other names keep what they have
    for size in range(0, len(whole), 64):
        path.write_bytes(whole[:size])
        aside = found_out(folder, name, "damaged" if name == MANIFEST else f"{name} has {size:,} bytes")
        put_back(folder, aside)
    path.write_bytes(whole)
    is_whole(load(folder), 6)


@pytest.mark.slow
def test_flipped_bits(folder):
    """Of all files together, each place equally likely."""
    draw = random.Random(0)
    step = folder / CHECKPOINTS / "step-00000006"
    files = {name: (step / name).read_bytes() for name in (WEIGHTS, BEST, STATE, MANIFEST)}
    names = draw.choices(list(files), weights=[len(content) for content in files.values()], k=FLIPS)
    assert set(names) == set(files)
    for name in files:
        (step / name).unlink()  # its other names keep what they have
        (step / name).write_bytes(files[name])
    for name in names:
        flipped = bytearray(files[name])
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        (step / name).write_bytes(flipped)
        aside = found_out(folder, name, MANIFEST if name == MANIFEST else f"{name} has sha256")
        put_back(folder, aside)
        (step / name).write_bytes(files[name])
    is_whole(load(folder), 6)


@pytest.mark.parametrize("name", [WEIGHTS, BEST, STATE, MANIFEST])
def test_a_file_that_is_missing(folder, name):
    (folder / CHECKPOINTS / "step-00000006" / name).unlink()
    saved = load(folder)
    is_whole(saved, 3)
    assert name in saved.damaged[0]


def test_all_damaged(folder):
    for path in (folder / CHECKPOINTS).glob("step-*"):
        (path / STATE).write_bytes(b"")
    before = sorted(str(path) for path in folder.rglob("*"))
    for _ in range(2):
        with pytest.raises(CheckpointsDamaged) as refused:
            load(folder)
        for word in ("step-00000003", "step-00000006", STATE, "fresh=true"):
            assert word in str(refused.value)
        assert sorted(str(path) for path in folder.rglob("*")) == before


def test_after_a_fallback_it_goes_on(folder):
    (folder / CHECKPOINTS / "step-00000006" / STATE).write_bytes(b"")
    checkpoints = Checkpoints(folder)
    assert checkpoints.load().step == 3
    save(checkpoints, 6)
    save(checkpoints, 9, best=6)
    checkpoints.close()
    is_whole(load(folder), 9, best=6)
    assert (folder / CHECKPOINTS / "damaged-step-00000006").is_dir()


def test_damaged_best_weights_are_written_again(folder):
    path = folder / CHECKPOINTS / "best-00000006" / WEIGHTS
    path.unlink()  # what was written in place would be written to the checkpoint too
    path.write_bytes(b"")
    is_whole(load(folder), 6)
    links_lead_somewhere(folder)
    assert path.stat().st_ino == (folder / CHECKPOINTS / "step-00000006" / BEST).stat().st_ino


def die_later_and_later(folder, do):
    """Does something to copies of a folder, in children that die at every operation; yields each copy.

    To die after an operation is to die before the next.
    """
    for when in ("before", "half"):
        for number in range(1000):
            copy = folder.parent / "copy"
            shutil.copytree(folder, copy, symlinks=True)
            code = forked(partial(do, copy), Death(operation=number, when=when))
            assert code in (0, -signal.SIGKILL)
            yield copy
            shutil.rmtree(copy)
            if code == 0:
                break
        else:
            raise AssertionError("it never went through")


def goes_on(copy):
    save(checkpoints := Checkpoints(copy), 12)
    checkpoints.close()
    is_whole(load(copy), 12)
    links_lead_somewhere(copy)
    there = sorted(
        path.name for path in (copy / CHECKPOINTS).iterdir() if path.name.startswith((".", "best-"))
    )
    assert there == ["best-00000012"]


def one_save(copy):
    save(Checkpoints(copy), 9)


@pytest.mark.slow
def test_killed_at_every_operation_of_a_save(folder):
    seen = set()
    for copy in die_later_and_later(folder, one_save):
        links_lead_somewhere(copy)
        saved = load(copy)
        seen.add(saved.step)
        is_whole(saved, saved.step)
        assert not saved.damaged
        links_lead_somewhere(copy)
        goes_on(copy)
    assert seen == {6, 9}


@pytest.mark.slow
def test_killed_at_every_operation_of_a_load(folder):
    """Of one that has much to do: the newest is damaged, and an unfinished one is there."""
    (folder / CHECKPOINTS / "step-00000006" / WEIGHTS).write_bytes(b"")
    atomic.write_folder(folder / CHECKPOINTS / ".step-00000009.1.tmp", {WEIGHTS: b""})
    for copy in die_later_and_later(folder, load):
        is_whole(load(copy), 3)
        links_lead_somewhere(copy)
        goes_on(copy)


@pytest.mark.slow
def test_killed_at_every_operation_of_the_first_save(tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    seen = set()
    for copy in die_later_and_later(folder, one_save):
        saved = load(copy)
        seen.add(saved and saved.step)
        if saved:
            is_whole(saved, 9)
        goes_on(copy)
    assert seen == {None, 9}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB of its own."""
    with mounted(tmp_path / "disk", "size=256k") as disk:
        yield disk


def fill(disk):
    path = disk / "filling"
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_keeps_the_old_one(small_disk, capsys):
    checkpoints = Checkpoints(small_disk)
    save(checkpoints, 3)
    filling = fill(small_disk)
    save(checkpoints, 6)
    checkpoints._wait()
    (failure,) = checkpoints.failures
    assert "no room for checkpoints/best-00000006: it needs" in failure
    assert "0 are free" in failure
    assert "kept" in failure
    assert "the training continues" in capsys.readouterr().err
    links_lead_somewhere(small_disk)
    is_whole(Checkpoints(small_disk).load(), 3)
    filling.unlink()
    save(checkpoints, 9)
    checkpoints.close()
    is_whole(load(small_disk), 9)
    assert len(checkpoints.failures) == 1


def test_a_disk_that_has_room_for_a_part_only(small_disk):
    checkpoints = Checkpoints(small_disk)
    save(checkpoints, 3)
    save(checkpoints, 6, best=5, size=40_000)  # 160 kB each: the best weights fit, the checkpoint does not
    checkpoints._wait()
    (failure,) = checkpoints.failures
    assert "no room for checkpoints/step-00000006: it needs 16" in failure
    links_lead_somewhere(small_disk)
    is_whole(load(small_disk), 3)
    save(checkpoints, 9)
    checkpoints.close()
    is_whole(load(small_disk), 9)


def test_a_full_disk_stops_the_training_if_that_is_wanted(small_disk):
    checkpoints = Checkpoints(small_disk, full_disk="stop")
    save(checkpoints, 3)
    fill(small_disk)
    with pytest.raises(OSError, match=r"it needs [\d,]+ bytes, 0 are free") as refused:
        for step in (6, 9):  # a thread says so one save later
            save(checkpoints, step)
    assert refused.value.errno == errno.ENOSPC
    is_whole(load(small_disk), 3)


def test_the_last_one_must_be_written(small_disk):
    checkpoints = Checkpoints(small_disk)
    save(checkpoints, 3)
    fill(small_disk)
    with pytest.raises(OSError, match="no room"):
        finish(checkpoints, 6, weights(6), None, state(6))


@pytest.mark.parametrize("removed", [".", CHECKPOINTS])
def test_a_folder_that_was_removed(folder, removed):
    checkpoints = Checkpoints(folder)
    shutil.rmtree(folder / removed)
    with pytest.raises(OSError, match="was removed while the run trained") as refused:
        for step in (9, 12):
            save(checkpoints, step)
    assert refused.value.errno == errno.ENOENT
    assert not (folder / CHECKPOINTS).exists()


def test_another_fault_is_not_excused(folder, monkeypatch):
    def refused(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    checkpoints = Checkpoints(folder)
    monkeypatch.setattr(atomic, "write_new", refused)
    with pytest.raises(PermissionError):
        for step in (9, 12):
            save(checkpoints, step)
    assert not checkpoints.failures


def forge(folder, content):
    """Puts another state into the newest checkpoint, with a manifest that fits."""
    step = folder / CHECKPOINTS / "step-00000006"
    (step / STATE).write_bytes(content)
    files = {name: (step / name).read_bytes() for name in (WEIGHTS, BEST, STATE)}
    (step / MANIFEST).write_bytes(manifest.manifest(6, files))


WHOLE = {"step": 6, "best_step": 6}


def saved_with(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_packed_state_is_refused(folder):
    """A few bytes that would fill the memory."""
    whole, packed = saved_with(WHOLE | {"zeros": torch.zeros(100_000)}), io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    forge(folder, packed.getvalue())
    saved = load(folder)
    is_whole(saved, 3)
    assert "is compressed, which torch never does" in saved.damaged[0]


def test_a_state_that_claims_too_much_is_refused(folder):
    """Two entries of a zip file that share their bytes."""
    content = bytearray(saved_with(WHOLE | {"zeros": torch.zeros(1000)}))
    end = content.rindex(b"PK\x05\x06")
    first = int.from_bytes(content[end + 16 : end + 20], "little")
    directory = bytes(content[first : first + int.from_bytes(content[end + 12 : end + 16], "little")])
    count = int.from_bytes(content[end + 10 : end + 12], "little")
    tail = bytearray(content[end:])
    tail[8:10] = tail[10:12] = (20 * count).to_bytes(2, "little")
    tail[12:16] = (20 * len(directory)).to_bytes(4, "little")
    forge(folder, bytes(content[:first]) + 20 * directory + bytes(tail))
    saved = load(folder)
    is_whole(saved, 3)
    assert "claims to hold more bytes than its file has" in saved.damaged[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"no zip at all",
        saved_with([1]),
        saved_with({"epoch": 1}),
        saved_with(WHOLE | {"step": {1}}),
        saved_with(WHOLE | {"best_step": None}),
        saved_with(WHOLE | {"step": 3}),
    ],
)
def test_a_state_that_is_none_is_refused(folder, content):
    forge(folder, content)
    saved = load(folder)
    is_whole(saved, 3)
    assert "step-00000006" in saved.damaged[0]


def test_a_state_with_code_is_refused(folder, tmp_path):
    made = tmp_path / "made"
    forge(folder, saved_with(WHOLE | {"learner": Hostile(made)}))
    saved = load(folder)
    is_whole(saved, 3)
    assert "step-00000006" in saved.damaged[0]
    assert not made.exists()
    torch.load(folder / CHECKPOINTS / "damaged-step-00000006" / STATE, weights_only=False)
    assert made.exists(), "the code would have run"


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "more"])
def test_a_manifest_that_names_other_files_is_refused(folder, name):
    step = folder / CHECKPOINTS / "step-00000006"
    (folder / "outside").write_bytes(b"x")
    (step / "more").write_bytes(b"x")
    files = {known: (step / known).read_bytes() for known in (WEIGHTS, BEST, STATE)}
    (step / MANIFEST).write_bytes(manifest.manifest(6, files | {name: b"x"}))
    is_whole(load(folder), 3)


def test_a_checkpoint_under_another_name_is_refused(folder):
    shutil.copytree(folder / CHECKPOINTS / "step-00000006", folder / CHECKPOINTS / "step-00000009")
    saved = load(folder)
    is_whole(saved, 6)
    assert "step-00000009" in saved.damaged[0]


def test_the_manifest_holds_the_sums(folder):
    step = folder / CHECKPOINTS / "step-00000006"
    told = json.loads((step / MANIFEST).read_text())
    assert told["step"] == 6
    for name, about in told["files"].items():
        content = (step / name).read_bytes()
        assert about == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


class SlowDisk:
    """One on which the first sync waits until it is let go, and can then be refused."""

    def __init__(self, monkeypatch):
        self.reached, self.go = threading.Event(), threading.Event()
        self.refuse = False
        self.usual = os.fsync
        monkeypatch.setattr(disk.os, "fsync", self.fsync)
        monkeypatch.setattr(disk, "syncfs", lambda handle: False)

    def fsync(self, handle):
        self.reached.set()
        assert self.go.wait(60)
        if self.refuse:
            raise OSError(errno.EIO, "Input/output error")
        self.usual(handle)


@pytest.fixture
def slow(folder, monkeypatch):
    """A run whose checkpoints a thread writes, and the disk that holds it up."""
    monkeypatch.setattr(checkpoints_module, "AFFORDABLE", 0.0)  # each save costs too much
    checkpoints = Checkpoints(folder)
    save(checkpoints, 9)
    assert checkpoints._writer
    return checkpoints, SlowDisk(monkeypatch)


def test_a_slow_disk_is_left_to_a_thread(folder, slow):
    checkpoints, disk = slow
    save(checkpoints, 12)  # comes back
    assert disk.reached.wait(60)
    assert not (folder / CHECKPOINTS / "step-00000012").exists()
    disk.go.set()
    checkpoints.close()
    is_whole(load(folder), 12)


def test_a_save_waits_for_the_one_before(folder, slow):
    checkpoints, disk = slow
    save(checkpoints, 12)
    assert disk.reached.wait(60)
    second = threading.Thread(target=save, args=(checkpoints, 15))
    second.start()
    assert second.is_alive()
    disk.go.set()
    second.join(60)
    assert (folder / CHECKPOINTS / "step-00000012").exists()
    checkpoints.close()
    is_whole(load(folder), 15)


def test_a_fault_in_the_thread_is_raised_at_the_next_save(folder, slow):
    checkpoints, disk = slow
    save(checkpoints, 12)
    disk.refuse = True
    disk.go.set()
    with pytest.raises(OSError, match="Input/output"):
        save(checkpoints, 15)
    disk.refuse = False
    is_whole(load(folder), 9)


def test_the_end_waits_and_raises(folder, slow):
    checkpoints, disk = slow
    save(checkpoints, 12)
    assert disk.reached.wait(60)
    disk.go.set()
    finish(checkpoints, 15, weights(15), (15, weights(15)), state(15))
    is_whole(load(folder), 15)
    disk.refuse = True
    with pytest.raises(OSError, match="Input/output"):
        finish(checkpoints, 18, weights(18), (18, weights(18)), state(18))


def test_a_cheap_save_stays_without_a_thread(folder, monkeypatch):
    monkeypatch.setattr(checkpoints_module, "AFFORDABLE", 1e9)
    checkpoints = Checkpoints(folder)
    for step in (9, 12):
        save(checkpoints, step)
    assert checkpoints._writer is None
