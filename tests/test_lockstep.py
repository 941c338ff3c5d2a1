"""Processes that do not make the same exchanges: all end with the labels of both, and none waits for ever."""

import time

import numpy as np
import pytest
from worlds import folder_of, started, together

from sweepwise.distributed.join import join_world
from sweepwise.learner.module import ModuleLearner
from sweepwise.store.record import read

SECONDS = 30  # also where the machine is busy; torch itself would wait for half an hour


def ended(folder, do):
    """Exit codes of two processes that each do something with their world, and what they print."""

    def work() -> int:
        with join_world() as world:
            do(world)
        return 0

    processes = started(folder, 2, work)
    codes = [process.wait(SECONDS) for process in processes]
    return codes, [process.output.read_text() for process in processes]


def in_other_kinds(world):
    """Without labels these two wait for each other, or mix up their numbers."""
    if world.rank:
        world.max("one too many", [1])
    world.sum("what all do", np.ones(3))


def in_the_same_kind(world):
    world.max("the first" if world.rank else "the second", [1])


def of_other_lengths(world):
    world.max("numbers", [1] if world.rank else [1, 2])


def told_by_rank_0(world):
    if not world.leads:
        world.max("one too many", [1])
    world.on_rank_0("what all do", lambda: None)


@pytest.mark.parametrize(
    "do, labels",
    [
        (in_other_kinds, ("one too many", "what all do")),
        (in_the_same_kind, ("the first", "the second")),
        (of_other_lengths, ("numbers",)),
        (told_by_rank_0, ("one too many", "what all do")),
    ],
)
def test_both_end_with_both_labels(tmp_path, do, labels):
    codes, outputs = ended(tmp_path, do)
    assert codes == [1, 1], outputs
    for output in outputs:
        for label in labels:
            assert f"at exchange 1, {label!r}" in output


@pytest.mark.slow
def test_one_exchange_more_in_the_middle_of_a_training(tmp_path, monkeypatch):
    """The other process waits for gradients meanwhile, in torch's own exchange."""
    step = ModuleLearner.step

    def asking(self, x, y, rates, number, watch):
        if number == 7 and self._world.rank == 1:
            self._world.max("one too many", [1])
        return step(self, x, y, rates, number, watch)

    monkeypatch.setattr(ModuleLearner, "step", asking)
    began = time.monotonic()
    codes, output = together(tmp_path, 2, "trainer.max_epochs=3")
    assert codes == [1, 1], output
    assert time.monotonic() - began < SECONDS
    why = read(folder_of(tmp_path))["reason"]
    for text in (output, why):
        assert "'one too many'" in text and "'a training step'" in text
        assert "are out of step" in text


@pytest.mark.slow
def test_one_exchange_less(tmp_path, monkeypatch):
    """Rank 0 waits for what rank 1 leaves out."""
    from sweepwise.run.follow import StepSync

    pulse = StepSync.__call__

    def sleeping(self):
        return False if self._world.rank == 1 and self._step == 7 else pulse(self)

    monkeypatch.setattr(StepSync, "__call__", sleeping)
    codes, output = together(tmp_path, 2, "trainer.max_epochs=3")
    assert codes == [1, 1], output
    assert "'what comes after a step'" in output and "'a training step'" in output


@pytest.mark.slow
def test_who_is_only_slow_is_waited_for(tmp_path):
    def slow(world):
        world.on_rank_0("the folder", lambda: time.sleep(3.5))
        time.sleep(2.5 * world.rank)
        assert world.max("numbers", [3 + world.rank, -world.rank]) == [4, 0]

    codes, outputs = ended(tmp_path, slow)
    assert codes == [0, 0], outputs
