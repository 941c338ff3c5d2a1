"""Batches of an epoch, against plain indexing by the data's order."""

import itertools
import os
import select
import signal
import time

import pytest
import torch

from sweepwise.data import Data, Part, loading
from sweepwise.data.loading import Batches, evaluation_batches
from sweepwise.system.parent import end_with


def dataset(examples: int = 22, batch_size: int = 8, features: tuple[int, ...] = (4,)) -> Data:
    """Every feature and target tells which example it is of."""
    y = torch.arange(examples)
    x = y.float().view(-1, *[1] * len(features)).expand(-1, *features).contiguous()
    held = Part(x[:5], y[:5])
    return Data("counted", Part(x, y), held, held, batch_size, examples, 0.0, 1.0, "")


def expected(data: Data, seeds: list[int], epoch: int) -> list[list[int]]:
    """The examples of each batch, run after run."""
    orders = [data.order(seed, epoch).tolist() for seed in seeds]
    starts = range(0, len(data.train.y), data.batch_size)
    return [
        list(itertools.chain(*(order[start : start + data.batch_size] for order in orders)))
        for start in starts
    ]


def collected(batches: Batches, epoch: int) -> list[list[int]]:
    found = []
    for x, y in batches.epoch(epoch):
        assert len(x) == len(y)
        assert torch.equal(x, y.float().view(-1, *[1] * (x.ndim - 1)).expand(x.shape))
        found.append(y.tolist())
    return found


@pytest.mark.parametrize("features", [(4,), (1, 2, 3)])
@pytest.mark.parametrize("seeds", [[0], [5], [0, 1, 2], [7, 7]])
def test_each_run_has_its_own_order_folded_into_the_first_axis(seeds, features):
    data = dataset(features=features)
    batches = Batches(data, seeds)
    for epoch in (0, 1, 5, 0):
        assert collected(batches, epoch) == expected(data, seeds, epoch)


def test_every_example_comes_once_an_epoch_in_another_order():
    data = dataset()
    batches = Batches(data, [0])
    epochs = [list(itertools.chain(*collected(batches, epoch))) for epoch in range(3)]
    assert all(sorted(order) == list(range(22)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(
    "examples, batch_size, sizes",
    [(22, 8, [8, 8, 6]), (24, 8, [8, 8, 8]), (9, 8, [8, 1]), (5, 5, [5]), (3, 1, [1, 1, 1])],
)
def test_the_last_batch_holds_what_is_left(examples, batch_size, sizes):
    data = dataset(examples, batch_size)
    for seeds in ([3], [3, 4, 5]):
        batches = Batches(data, seeds)
        assert len(batches) == len(sizes)
        assert [len(y) for _, y in batches.epoch(0)] == [size * len(seeds) for size in sizes]


# A batch of 8 examples of 4 floats has 128 bytes for each run.
@pytest.mark.parametrize("block_bytes", [1, 127, 128, 129, 255, 256, 257, 383, 384, 385, 640, 10**9])
@pytest.mark.parametrize("seeds", [[0], [1, 2]])
def test_blocks_change_no_batch(seeds, block_bytes, monkeypatch):
    data = dataset(38)  # batches of 8, 8, 8, 8 and 6
    monkeypatch.setattr(loading, "BLOCK_BYTES", block_bytes)
    assert collected(Batches(data, seeds), 2) == expected(data, seeds, 2)


def test_a_block_is_copied_as_a_whole_and_bounded(monkeypatch):
    data = dataset(38)
    copies = []
    take = Part.take
    monkeypatch.setattr(Part, "take", lambda part, *to: copies.append(len(to[0])) or take(part, *to))
    monkeypatch.setattr(loading, "BLOCK_BYTES", 2 * 128)
    list(Batches(data, [0]).epoch(0))
    assert copies == [16, 16, 6]


def test_batches_draw_nothing_from_the_global_generator_and_do_not_depend_on_it():
    data = dataset()
    for workers in (0, 1):
        torch.manual_seed(1)
        first = collected(Batches(data, [0], workers), 0)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        again = collected(Batches(data, [0], workers), 0)
        assert torch.equal(torch.get_rng_state(), before)
        assert first == again == expected(data, [0], 0)


def test_workers_are_forked_whatever_pythons_default_is(monkeypatch):
    """From Python 3.14 on the default pickles the whole data set."""
    asked = {}
    monkeypatch.setattr(loading, "DataLoader", lambda *others, **options: asked.update(options) or [])
    list(Batches(dataset(), [0], 1).epoch(0))
    assert asked["multiprocessing_context"] == "fork"


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_bring_the_same_batches(workers):
    data = dataset()
    for seeds in ([0], [4, 9]):
        batches = Batches(data, seeds, workers)
        for epoch in (0, 1, 0):
            assert collected(batches, epoch) == expected(data, seeds, epoch)


def test_a_worker_ends_with_its_process_also_while_it_begins(monkeypatch):
    """torch's own workers stay for ever then, with all that they have inherited."""
    begun, of_worker = os.pipe()

    def waiting(worker):
        os.write(of_worker, b"1")
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(loading, "seed_worker", waiting)
    pid = os.fork()
    if pid == 0:
        try:
            next(iter(Batches(dataset(), [0], 1).epoch(0)))
        finally:
            os._exit(1)
    os.close(of_worker)
    assert os.read(begun, 1) == b"1"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    ended, *_ = select.select([begun], [], [], 60)
    assert ended and os.read(begun, 1) == b"", "a worker lives"


def test_a_process_whose_parent_has_ended_is_told_so():
    lives, of_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        parent = os.getpid()
        if os.fork() == 0:
            while os.getppid() == parent:
                time.sleep(0.01)
            os.write(of_child, repr(end_with(parent, signal.SIGKILL)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(lives, 9) == b"False"
    os.close(lives)
    os.close(of_child)


def test_an_epoch_that_was_left_in_the_middle_does_not_reach_into_the_next():
    data = dataset()
    for workers in (0, 2):
        batches = Batches(data, [0], workers)
        next(iter(batches.epoch(0)))
        assert collected(batches, 1) == expected(data, [0], 1)


@pytest.mark.parametrize("limit, sizes", [(1, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (2048, [5])])
def test_evaluation_keeps_the_order_and_bounds_the_batch(limit, sizes, monkeypatch):
    monkeypatch.setattr(loading, "EVALUATION_BATCH", limit)
    part = dataset().test
    batches = evaluation_batches(part)
    assert [len(y) for _, y in batches] == sizes
    assert torch.equal(torch.cat([x for x, _ in batches]), part.x)
    assert torch.equal(torch.cat([y for _, y in batches]), part.y)


# An example of 4 floats has 16 bytes.
@pytest.mark.parametrize("limit, sizes", [(1, [1] * 5), (31, [1] * 5), (32, [2, 2, 1]), (80, [5])])
def test_large_examples_are_evaluated_fewer_at_a_time(limit, sizes, monkeypatch):
    monkeypatch.setattr(loading, "EVALUATION_BYTES", limit)
    assert [len(y) for _, y in evaluation_batches(dataset().test)] == sizes
