"""Batches of an epoch, in an order that is decided beforehand."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sweepwise.data import Data, Part
from sweepwise.seed import seed_worker

Batch = tuple[Tensor, Tensor]


class Batches:
    """The training batches of a group of runs, each run in its own order.

    Args:
        data: on the device that learns.
        order_seeds: one for each run.
        workers: processes that collect the batches; 0 indexes them in memory, which is faster for data that
            fits there. The batches are the same.
    """

    def __init__(self, data: Data, order_seeds: Sequence[int], workers: int = 0) -> None:
        self._data = data
        self._order_seeds = list(order_seeds)
        self._workers = workers
        self._order = _Order()
        self._loader: DataLoader[Batch] | None = None

    def __len__(self) -> int:
        return -(-len(self._data.train.y) // self._data.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yields x: (runs, batch, *features) and y: (runs, batch); the last batch may be smaller."""
        orders = torch.stack([self._data.order(seed, epoch) for seed in self._order_seeds])
        if self._workers:
            return self._through_workers(orders)
        train = self._data.train
        return (_take(train, index) for index in orders.to(train.x.device).split(self._data.batch_size, 1))

    def _through_workers(self, orders: Tensor) -> Iterator[Batch]:
        device = self._data.train.x.device
        self._order.indices = list(orders.split(self._data.batch_size, 1))
        if self._loader is None:
            self._loader = DataLoader(
                _Taken(self._data.train.to("cpu")),
                sampler=self._order,
                batch_size=None,
                num_workers=self._workers,
                persistent_workers=True,
                worker_init_fn=seed_worker,
                generator=torch.Generator().manual_seed(self._order_seeds[0]),
            )
        return ((x.to(device), y.to(device)) for x, y in self._loader)


class _Order(Sampler[Tensor]):
    """The index of each batch of the coming epoch."""

    def __init__(self) -> None:
        self.indices: list[Tensor] = []

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class _Taken(Dataset[Batch]):
    def __init__(self, part: Part) -> None:
        self._part = part

    def __getitem__(self, index: Tensor) -> Batch:
        return _take(self._part, index)


def _take(part: Part, index: Tensor) -> Batch:
    flat = index.reshape(-1)
    x = part.x.index_select(0, flat).view(*index.shape, *part.x.shape[1:])
    return x, part.y.index_select(0, flat).view(index.shape)
