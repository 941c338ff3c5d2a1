"""The training metrics of an epoch, computed from the outputs of its steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweepwise.distributed.world import SINGLE_PROCESS, World
from sweepwise.task import Means, Task

FLUSH_STEPS = 64  # steps whose results are collected before they are copied from the device


class Meter:
    """Averages the metrics of an epoch over its examples, many steps at a time, so that no step waits.

    If several processes share a batch, each adds its own part, and all get the means over the whole.

    Args:
        task: has the metrics.
        runs: number of runs, each with its own averages.
        world: the processes.
    """

    def __init__(self, task: Task, runs: int, world: World = SINGLE_PROCESS) -> None:
        self._task = task
        self._runs = runs
        self._world = world
        self._selected = list(range(runs))
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self._clear()

    def select(self, runs: Sequence[int]) -> None:
        """Sets the runs whose steps are added from now on; call `flush` before."""
        self._selected = list(runs)

    def _clear(self) -> None:
        self._examples = 0
        self._loss = np.zeros(self._runs)
        self._sums = np.zeros((self._runs, 1))

    def state_dict(self, run: int) -> dict[str, Any]:
        """A run's part of the epoch so far: sums, and the steps that are not added to them yet."""
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
        """Restores what `state_dict` returned for each run, in the middle of an epoch."""
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
        """Adds a step of the n selected runs: (n,) losses, (n, batch, outputs) and (n * batch,) targets."""
        self._pending.append((losses, outputs, targets))

    @property
    def full(self) -> bool:
        """Whether `FLUSH_STEPS` steps are waiting for `flush`."""
        return len(self._pending) == FLUSH_STEPS

    @torch.no_grad()
    def flush(self) -> NDArray[np.float64]:
        """Adds the waiting steps to the sums; returns their losses, (steps, runs), NaN for other runs."""
        if not self._pending:
            return np.empty((0, self._runs))
        losses, outputs, targets = zip(*self._pending, strict=True)
        self._pending.clear()
        examples = np.array([len(target) for target in targets]) / len(self._selected)
        values = np.full((len(losses), self._runs), np.nan)
        values[:, self._selected] = torch.stack([loss.view(-1) for loss in losses]).double().numpy(force=True)
        batches = torch.cat(outputs, 1), torch.cat([self._by_run(target) for target in targets], 1)
        selected_sums = self._task.sums(*batches).numpy(force=True)
        sums = np.full((self._runs, selected_sums.shape[1]), np.nan)
        sums[self._selected] = selected_sums
        examples, values, sums = self._sum_over_processes(examples, values, sums)
        self._examples += int(examples.sum())
        # A cumulative sum adds step by step, so rounding is the same for any number of runs.
        self._loss += (examples[:, None] * values).cumsum(0)[-1]
        self._sums = self._sums + sums
        return values

    def _sum_over_processes(self, *own: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The sums of arrays over the processes, in one exchange."""
        row = self._world.sum("the metrics of steps", np.concatenate([array.ravel() for array in own]))
        parts = np.split(row, np.cumsum([array.size for array in own])[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, own, strict=True)]

    def finish_epoch(self) -> tuple[Means, Means]:
        """Returns the epoch's mean loss (runs,) and means of the terms (runs, terms); starts anew."""
        means = self._loss / self._examples, self._sums / self._examples
        self._clear()
        return means
