"""The batches of an epoch, in the order that `Data.order` gives."""

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sweepwise.data.dataset import Data
from sweepwise.data.part import Part
from sweepwise.data.stored import StoredPart
from sweepwise.seed import seed_worker
from sweepwise.system.parent import end_with
from sweepwise.system.signals import STOP_SIGNALS

Batch = tuple[Tensor, Tensor]
FLOAT = 4  # bytes
EVALUATION_BATCH = 2048  # examples
EVALUATION_BYTES = 2**26  # of examples; fewer are taken at once where they are large
BLOCK_BYTES = 2**19  # copied at a time, so that they stay in the cache until they are used


def evaluation_batches(part: Part | StoredPart) -> Sequence[Batch]:
    """A part in its own order, in batches of limited memory; their size affects rounding only.

    An empty part has none.
    """
    return part.split(evaluation_batch_size(part)) if len(part.y) else ()


def evaluation_batch_size(part: Part | StoredPart) -> int:
    """The number of examples in each of the `evaluation_batches` but the last."""
    return min(EVALUATION_BATCH, max(1, EVALUATION_BYTES // (FLOAT * math.prod(part.features))))


class Batches:
    """The training batches of a group of runs, each run in its own order.

    Args:
        data: on the learner's device.
        order_seeds: one for each run.
        workers: processes that load the batches; 0: this process does, which is faster for data in memory.
            The batches are the same.
    """

    def __init__(self, data: Data, order_seeds: Sequence[int], workers: int = 0) -> None:
        self._data = data
        self._order_seeds = list(order_seeds)
        self._workers = workers
        self._order = _Order()
        self._loader: DataLoader[Batch] | None = None
        self._memory: Tensor | None = None

    def __len__(self) -> int:
        return self._data.steps_per_epoch

    def epoch(self, epoch: int, first: int = 0, runs: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yields x: (runs * batch, *features) and y: (runs * batch,); the last batch may be smaller.

        A later batch reuses the memory of x.

        Args:
            epoch: counted from 0.
            first: number of batches to skip at the beginning.
            runs: indices of the runs whose batches are wanted; None: all.
        """
        seeds = self._order_seeds if runs is None else [self._order_seeds[run] for run in runs]
        orders = torch.stack([self._data.order(seed, epoch) for seed in seeds])
        orders = orders[:, first * self._data.batch_size :]
        if self._workers:
            return self._by_workers(orders)
        return self._in_memory(orders)

    def _in_memory(self, orders: Tensor) -> Iterator[Batch]:
        """Copies small batches many at a time, as that is cheaper than one copy for each batch."""
        train = self._data.train
        batches = _batch_indices(orders.to(train.y.device), self._data.batch_size)
        examples = len(orders) * self._data.batch_size
        block_size = BLOCK_BYTES // (FLOAT * math.prod(train.features) * examples)
        if block_size < 2:
            yield from map(self._copied, batches)
            return
        for start in range(0, len(batches), block_size):
            block = batches[start : start + block_size]
            x, y = self._copied(torch.cat(block))
            sizes = [len(index) for index in block]
            yield from zip(x.split(sizes), y.split(sizes), strict=True)

    def _copied(self, index: Tensor) -> Batch:
        """Copies examples into memory that is reused, so that it stays in the cache."""
        train = self._data.train
        if self._memory is None or len(self._memory) < len(index):
            self._memory = torch.empty(len(index), *train.features, device=train.y.device)
        return train.take(index, self._memory[: len(index)])

    def _by_workers(self, orders: Tensor) -> Iterator[Batch]:
        return self._load(_batch_indices(orders, self._data.batch_size))

    def _load(self, indices: list[Tensor]) -> Iterator[Batch]:
        device = self._data.train.y.device
        self._order.indices = indices
        if self._loader is None:
            self._loader = DataLoader(
                _Examples(self._data.train.to("cpu")),
                sampler=self._order,
                batch_size=None,
                num_workers=self._workers,
                persistent_workers=True,
                multiprocessing_context="fork",  # Python 3.14's default would pickle the whole data set
                worker_init_fn=partial(_begin_worker, os.getpid()),
                generator=torch.Generator().manual_seed(self._order_seeds[0]),
            )
        return ((x.to(device), y.to(device)) for x, y in self._loader)


class Portions(Batches):
    """The same batches for one of several processes: its portion of the inputs, but all targets.

    Args:
        data: see `Batches`.
        order_seed: see `Batches`.
        workers: see `Batches`.
        portion: returns this process's portion of a batch's index.
    """

    def __init__(
        self, data: Data, order_seed: int, workers: int, portion: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(data, [order_seed], workers)
        self._portion = portion

    def _in_memory(self, orders: Tensor) -> Iterator[Batch]:
        train = self._data.train
        batches = _batch_indices(orders.to(train.y.device), self._data.batch_size)
        block_size = max(1, BLOCK_BYTES // (FLOAT * math.prod(train.features) * self._data.batch_size))
        for start in range(0, len(batches), block_size):
            block = batches[start : start + block_size]
            own = [self._portion(index) for index in block]
            x, _ = self._copied(torch.cat(own))
            y = train.y.index_select(0, torch.cat(block))
            yield from zip(x.split(list(map(len, own))), y.split(list(map(len, block))), strict=True)

    def _by_workers(self, orders: Tensor) -> Iterator[Batch]:
        batches = _batch_indices(orders, self._data.batch_size)
        inputs = self._load([self._portion(index) for index in batches])
        y = self._data.train.y
        return ((x, y[index.to(y.device)]) for (x, _), index in zip(inputs, batches, strict=True))


class _Order(Sampler[Tensor]):
    """The index of each batch of the next epoch."""

    def __init__(self) -> None:
        self.indices: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Examples(Dataset[Batch]):
    def __init__(self, part: Part | StoredPart) -> None:
        self._part = part

    def __getitem__(self, index: Tensor) -> Batch:
        return self._part.take(index)


def _batch_indices(orders: Tensor, batch_size: int) -> list[Tensor]:
    """The index of each batch, (runs * batch,), from orders of shape (runs, examples)."""
    return [index.reshape(-1) for index in orders.split(batch_size, 1) if index.shape[1]]


def _begin_worker(parent: int, worker: int) -> None:
    """Seeds a worker, and makes it ignore stop signals, which the training process answers.

    It ends with that process: torch (2.13) looks for it every five seconds, and not at all if it was killed
    before now. A worker holds what it has inherited, the lock of the run's folder too.
    """
    if not end_with(parent, signal.SIGKILL):
        os._exit(1)
    seed_worker(worker)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
