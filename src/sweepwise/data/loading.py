"""Batches of an epoch, in an order that is decided beforehand."""

import math
import signal
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sweepwise.data.dataset import Data
from sweepwise.data.part import Part
from sweepwise.data.stored import StoredPart
from sweepwise.seed import seed_worker
from sweepwise.system.signals import STOP_SIGNALS

Batch = tuple[Tensor, Tensor]
FLOAT = 4  # bytes
EVALUATION_BATCH = 2048  # examples
EVALUATION_BYTES = 2**26  # of examples; fewer are taken at once where they are large
BLOCK_BYTES = 2**19  # copied at a time: stays in a core's cache until it is used


def evaluation_batches(part: Part | StoredPart) -> Sequence[Batch]:
    """A part in its own order, in batches that bound the memory; their size changes only rounding."""
    return part.split(min(EVALUATION_BATCH, max(1, EVALUATION_BYTES // (FLOAT * math.prod(part.features)))))


class Batches:
    """The training batches of a group of runs, each run in its own order.

    Args:
        data: on the device that learns.
        order_seeds: one for each run.
        workers: processes that collect the batches; 0 collects them in this one, which is faster for data in
            memory. The batches are the same.
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

        The memory of x is used again for a later batch.

        Args:
            epoch: counted from 0.
            first: how many of its batches are left out at the beginning.
            runs: whose batches are collected, by their places in the group; None: all.
        """
        seeds = self._order_seeds if runs is None else [self._order_seeds[run] for run in runs]
        orders = torch.stack([self._data.order(seed, epoch) for seed in seeds])
        orders = orders[:, first * self._data.batch_size :]
        if self._workers:
            return self._through_workers(orders)
        return self._in_memory(orders)

    def _in_memory(self, orders: Tensor) -> Iterator[Batch]:
        """Collects small batches many at a time: one copy of a block costs less than one for each batch."""
        train = self._data.train
        batches = _folded(orders.to(train.y.device), self._data.batch_size)
        taken = len(orders) * self._data.batch_size
        together = BLOCK_BYTES // (FLOAT * math.prod(train.features) * taken)
        if together < 2:
            yield from map(self._taken, batches)
            return
        for start in range(0, len(batches), together):
            block = batches[start : start + together]
            x, y = self._taken(torch.cat(block))
            sizes = [len(index) for index in block]
            yield from zip(x.split(sizes), y.split(sizes), strict=True)

    def _taken(self, index: Tensor) -> Batch:
        """Examples in memory that stays in a core's cache."""
        train = self._data.train
        if self._memory is None or len(self._memory) < len(index):
            self._memory = torch.empty(len(index), *train.features, device=train.y.device)
        return train.take(index, self._memory[: len(index)])

    def _through_workers(self, orders: Tensor) -> Iterator[Batch]:
        return self._loaded(_folded(orders, self._data.batch_size))

    def _loaded(self, indices: list[Tensor]) -> Iterator[Batch]:
        device = self._data.train.y.device
        self._order.indices = indices
        if self._loader is None:
            self._loader = DataLoader(
                _Taken(self._data.train.to("cpu")),
                sampler=self._order,
                batch_size=None,
                num_workers=self._workers,
                persistent_workers=True,
                worker_init_fn=_begin_worker,
                generator=torch.Generator().manual_seed(self._order_seeds[0]),
            )
        return ((x.to(device), y.to(device)) for x, y in self._loader)


class Portions(Batches):
    """The same batches, where a process wants only its portion of the inputs; the targets are all there.

    Args:
        data: see `Batches`.
        order_seed: see `Batches`.
        workers: see `Batches`.
        portion: of a batch's index, what of it this process wants.
    """

    def __init__(
        self, data: Data, order_seed: int, workers: int, portion: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(data, [order_seed], workers)
        self._portion = portion

    def _in_memory(self, orders: Tensor) -> Iterator[Batch]:
        train = self._data.train
        batches = _folded(orders.to(train.y.device), self._data.batch_size)
        together = max(1, BLOCK_BYTES // (FLOAT * math.prod(train.features) * self._data.batch_size))
        for start in range(0, len(batches), together):
            block = batches[start : start + together]
            own = [self._portion(index) for index in block]
            x, _ = self._taken(torch.cat(own))
            y = train.y.index_select(0, torch.cat(block))
            yield from zip(x.split(list(map(len, own))), y.split(list(map(len, block))), strict=True)

    def _through_workers(self, orders: Tensor) -> Iterator[Batch]:
        batches = _folded(orders, self._data.batch_size)
        taken = self._loaded([self._portion(index) for index in batches])
        y = self._data.train.y
        return ((x, y[index.to(y.device)]) for (x, _), index in zip(taken, batches, strict=True))


class _Order(Sampler[Tensor]):
    """The index of each batch of the coming epoch."""

    def __init__(self) -> None:
        self.indices: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Taken(Dataset[Batch]):
    def __init__(self, part: Part | StoredPart) -> None:
        self._part = part

    def __getitem__(self, index: Tensor) -> Batch:
        return self._part.take(index)


def _folded(orders: Tensor, batch_size: int) -> list[Tensor]:
    """The index of each batch, (runs * batch,), from orders of shape (runs, examples)."""
    return [index.reshape(-1) for index in orders.split(batch_size, 1) if index.shape[1]]


def _begin_worker(worker: int) -> None:
    """Seeds a worker, and leaves it to the process that trains to answer signals that go to all of them."""
    seed_worker(worker)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
