"""The ends of a group reach the disk together; killed at any operation, each run has ended or goes on."""

import os
import shutil
import signal
import threading
from collections import Counter
from functools import partial

import pytest
import torch
from small import PLAIN, TINY, composed

from sweepwise import run
from sweepwise.checkpoint import Checkpoints
from sweepwise.run import group
from sweepwise.store import record
from sweepwise.store.status import ended
from sweepwise.system import disk
from sweepwise.verify.compare import compare
from sweepwise.verify.fault_injection import Death, die_at, forked

RUNS = [
    ["seed.value=0"],
    ["seed.value=1", "early_stop=patience", "early_stop.patience=1", "early_stop.min_delta=9"],
    ["seed.value=2"],
]


@pytest.fixture(autouse=True)
def one_thread():
    """As a run has it: a process that has used several cannot be forked."""
    torch.set_num_threads(1)


def asked(home, *overrides):
    small = [*TINY, *PLAIN, "monitor=scalars", "trainer.max_epochs=3", f"output_dir={home}", *overrides]
    return [composed(*small, *own) for own in RUNS]


def dies_in_its_ends(requests, death):
    """Trains the group; the operations of its ends begin with the first weights that are written aside."""
    usual, ends = Checkpoints.finish, threading.Event()

    def finish(self, *what):
        ends.set()
        usual(self, *what)

    Checkpoints.finish = finish
    die_at(death, counted=ends.is_set)
    group.train_together(requests)


def check_killed_at(tmp_path, reference, when, number, *overrides):
    """Kills a group at an operation of its ends; what is left goes on. Whether it came so far."""
    home = tmp_path / "killed"
    requests = asked(home, *overrides)
    code = forked(partial(dies_in_its_ends, requests, Death(operation=number, when=when)))
    assert code in (0, -signal.SIGKILL)
    for request, (folder, known) in zip(requests, reference, strict=True):
        found = record.read(request.folder)
        if not ended(found):
            assert found["status"] == "running"
            assert forked(partial(run.train, request, fused=True)) == 0
            assert not [*request.folder.glob("checkpoints/step-*"), *request.folder.rglob(".*.tmp")]
        assert record.read(request.folder)["status"] == known["status"]
        assert compare(folder, request.folder) == []
        checkpoints = request.folder / "checkpoints"
        assert all((checkpoints / link / "weights.safetensors").exists() for link in ("best", "last"))
    shutil.rmtree(home)
    return code != 0


@pytest.mark.parametrize("saved", ["checkpoint.steps=4", "checkpoint.steps=0"])
@pytest.mark.parametrize(
    ("when", "every"),
    [("before", 37), *(pytest.param(when, 1, marks=pytest.mark.slow) for when in ("before", "half"))],
)
def test_killed_at_any_operation_of_its_ends(tmp_path, saved, when, every):
    """With checkpoints to go on from, and with none, where a run begins again."""
    whole = asked(tmp_path / "whole", saved)
    assert forked(partial(group.train_together, whole)) == 0
    reference = [(request.folder, record.read(request.folder)) for request in whole]
    assert {known["status"] for _, known in reference} == {"finished", "stopped early"}
    number = 3
    while check_killed_at(tmp_path, reference, when, number, saved):
        number += every
    assert number > 40


def synced(do):
    """How often a function syncs a path, and a file system."""
    counts = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((os, "fsync"), (disk, "syncfs")):
            usual = getattr(place, name)
            patch.setattr(
                place, name, lambda handle, name=name, usual=usual: counts.update([name]) or usual(handle)
            )
        do()
    return counts


def test_a_group_is_synced_a_few_times_a_run_alone_no_more_than_five(tmp_path):
    """Its records at the start; at the end weights and logs, then records, then their names."""
    requests = asked(tmp_path, "checkpoint.minutes=0")
    counts = synced(lambda: group.train_together(requests))
    assert counts["syncfs"] == 2, "for more paths than are synced one by one"
    assert counts.total() <= 5 * len(requests)
    (alone, *_) = asked(tmp_path, "checkpoint.minutes=0", "optimizer.lr=0.5")
    assert synced(lambda: run.train(alone)).total() <= 5


def test_a_run_whose_folder_is_removed_as_all_end_takes_no_other_with_it(tmp_path, monkeypatch):
    requests = asked(tmp_path)
    usual = group.atomic.together

    def together(operations):
        if record.read(requests[1].folder):  # so these are the ends
            shutil.rmtree(requests[1].folder)
        usual(operations)

    monkeypatch.setattr(group.atomic, "together", together)
    with pytest.raises(group.FoldersRemoved) as raised:
        group.train_together(requests)
    assert raised.value.removed == [requests[1].id]
    for number in (0, 2):
        assert record.read(requests[number].folder)["status"] == "finished"
