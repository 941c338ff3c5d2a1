"""The training metrics of an epoch, taken from the outputs that the steps make anyway."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.task import Means, Task

FLUSH_STEPS = 64  # steps whose results are kept before they are looked at: no step waits for the device


class Meter:
    """Averages an epoch's metrics over its examples, some steps at a time: no step waits for the device.

    Where several processes share a batch, each adds its own part, and all get the means over the whole.

    Args:
        task: whose metrics they are.
        runs: that are averaged apart.
        world: of the processes.
    """

    def __init__(self, task: Task, runs: int, world: World = SINGLE_PROCESS) -> None:
        self._task = task
        self._runs = runs
        self._world = world
        self._selected = list(range(runs))
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self._clear()

    def select(self, runs: Sequence[int]) -> None:
        """Whose steps come from now on; none must wait to be looked at."""
        self._selected = list(runs)

    def _clear(self) -> None:
        self._examples = 0
        self._loss = np.zeros(self._runs)
        self._sums = np.zeros((self._runs, 1))

    def state_dict(self, run: int) -> dict[str, Any]:
        """What has been seen of a run in this epoch: sums, and the steps that have not been looked at yet."""
        row = self._selected.index(run)
        own = [
            [losses.view(-1)[row].detach(), outputs[row].detach(), self._by_run(targets)[row]]
            for losses, outputs, targets in self._pending
        ]
        return {
            "examples": self._examples,
            "loss": float(self._loss[run]),
            "sums": self._sums[run].tolist(),
            "seen": [
                [tensor.to("cpu", copy=True) for tensor in step]
                for step in self._world.steps("the steps of a checkpoint", own)
            ],
        }

    def load_state_dict(self, states: Sequence[Mapping[str, Any]], device: torch.device) -> None:
        """Takes up what `state_dict` gave of each run, in the middle of an epoch."""
        self._examples = states[0]["examples"]
        self._loss = np.array([state["loss"] for state in states])
        self._sums = np.array([state["sums"] for state in states])
        for steps in zip(*(state["seen"] for state in states), strict=True):
            losses, outputs, targets = zip(*steps, strict=True)
            loss = torch.stack(losses) * self._world.leads  # the sum over the processes, which rank 0 adds
            own = [torch.stack([self._world.shard(rows) for rows in part]) for part in (outputs, targets)]
            self._pending.append((loss.to(device), own[0].to(device), own[1].flatten().to(device)))

    def _by_run(self, targets: Tensor) -> Tensor:
        """(selected, batch) from (selected * batch,)."""
        return targets.view(len(self._selected), -1)

    def add(self, losses: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Keeps a step of n selected runs: losses (n,), outputs (n, batch, outputs), targets (n * batch,)."""
        self._pending.append((losses, outputs, targets))

    @property
    def full(self) -> bool:
        """Whether it is time to flush."""
        return len(self._pending) == FLUSH_STEPS

    @torch.no_grad()
    def flush(self) -> NDArray[np.float64]:
        """Adds the kept steps to the sums; returns their losses, (steps, runs), NaN of others."""
        if not self._pending:
            return np.empty((0, self._runs))
        losses, outputs, targets = zip(*self._pending, strict=True)
        self._pending.clear()
        examples = np.array([len(target) for target in targets]) / len(self._selected)
        values = np.full((len(losses), self._runs), np.nan)
        values[:, self._selected] = torch.stack([loss.view(-1) for loss in losses]).double().numpy(force=True)
        every = torch.cat(outputs, 1), torch.cat([self._by_run(target) for target in targets], 1)
        of_these = self._task.sums(*every).numpy(force=True)
        sums = np.full((self._runs, of_these.shape[1]), np.nan)
        sums[self._selected] = of_these
        examples, values, sums = self._sum_over_processes(examples, values, sums)
        self._examples += int(examples.sum())
        self._loss += (examples[:, None] * values).cumsum(0)[-1]  # in turn, so alike for any number of runs
        self._sums = self._sums + sums
        return values

    def _sum_over_processes(self, *own: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Arrays added up over the processes, in one exchange."""
        row = self._world.sum("the metrics of steps", np.concatenate([array.ravel() for array in own]))
        parts = np.split(row, np.cumsum([array.size for array in own])[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, own, strict=True)]

    def finish_epoch(self) -> tuple[Means, Means]:
        """The epoch's mean loss (runs,) and means of the terms (runs, terms); the next one begins at zero."""
        means = self._loss / self._examples, self._sums / self._examples
        self._clear()
        return means
