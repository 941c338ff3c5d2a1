"""A batch that several processes pass together: each its share, with the gradient of the whole batch in all.

torch's DistributedDataParallel adds the gradients up while the backward pass still runs. It averages over
the processes, so each weighs its loss by the examples it has: size * own / all.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sweepwise.distributed.world import World
from sweepwise.learner.parallel.sync_batch_norm import synchronise_
from sweepwise.learner.passes import Joint, Loss, differentiate, passes
from sweepwise.learner.precision import Model
from sweepwise.seed import generators, place_generators

Trial = Callable[[Callable[..., Tensor]], None]  # of a pass (model's pass, x): goes forward and backward


class SharedPasses:
    """The passes of this process's share of each batch.

    Called as what `passes` returns, but with the targets of the whole batch. The loss it returns is what this
    process contributes to the mean over the batch, and the outputs are those of its share.

    Args:
        world: of the processes.
        join: of a trial, see `FlatParameters.joined`: how they pass the model.
        plain: its forward pass in training.
        loss: the mean over the examples of (outputs, targets).
        scale: what to differentiate instead of a loss.
        accumulate: pieces in which the share is passed.
        whole: whether the inputs are those of the whole batch; else of this process's portion.
    """

    def __init__(
        self,
        world: World,
        join: Callable[[Trial], Joint],
        plain: Model,
        loss: Loss,
        scale: Callable[[Tensor], Tensor],
        *,
        accumulate: int,
        whole: bool,
    ) -> None:
        self._world, self._join, self._plain = world, join, plain
        self._loss, self._scale = loss, scale
        self._accumulate, self._whole = accumulate, whole
        self._joint: Joint | None = None

    def __call__(self, model: Model, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Passes a share; one without examples passes one of weight 0, for all must take part."""
        wanted = self._world.padded_shard(targets)
        inputs = self._world.padded_shard(x) if self._whole else x
        if self._joint is None:
            self._joint = self._join(partial(self._trial, inputs, wanted))
        passed, unfinished = self._joint
        own = len(self._world.shard(targets))
        weight = own / len(targets)
        most = -(-len(targets) // self._world.size)
        objective, outputs = passes(
            self._accumulate,
            lambda outputs, wanted: self._loss(outputs, wanted) * weight,
            lambda loss: self._scale(loss * self._world.size),
            unfinished,
            lambda x: max(most, 1),
        )(partial(passed, model), inputs, wanted)
        return objective, outputs[:own]

    def _trial(self, inputs: Tensor, wanted: Tensor, passing: Callable[..., Tensor]) -> None:
        differentiate(self._loss(passing(self._plain, inputs), wanted) * 0)

    def contribution(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Of this process's outputs to the loss of a batch whose targets are y."""
        own = self._world.shard(y)
        return self._loss(outputs, own) * (len(own) / len(y)) if len(own) else outputs.new_zeros(())


class _Passed(nn.Module):
    """Any forward pass of a model, as a module that has the model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, passing: Model, x: Tensor) -> Tensor:
        return passing(x)


def joined(model: nn.Module, trial: Trial) -> Joint:
    """Passes with the gradients of all processes; rank 0's weights are everybody's from now on.

    Passes that leave no trace come first. By a plain one it is known which parameters take no part: their
    gradients would be waited for. By another one torch puts its buckets into their final order, so that sums
    are rounded alike in a run that goes on and in one that has never stopped.

    Args:
        model: on its device.
        trial: of a forward pass (model's pass, x): goes forward and backward.
    """
    device = next(model.parameters()).device
    group = group_on(device)
    before = generators()
    buffers = [buffer.clone() for buffer in model.buffers()]
    parameters = dict(model.named_parameters())
    trial(lambda passing, x: passing(x))
    unused = [f"model.{name}" for name, parameter in parameters.items() if parameter.grad is None]
    _forget(list(parameters.values()))
    synchronise_(model, group, device)
    whole = _Passed(model)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(whole, unused)
    joint = DistributedDataParallel(
        whole, process_group=group, forward_sync_buffers=False, gradient_as_bucket_view=True
    )
    for _ in range(2):  # the buckets are ordered at the beginning of the pass after the first
        trial(joint)
        _forget(list(parameters.values()))
    for buffer, kept in zip(model.buffers(), buffers, strict=True):
        buffer.data.copy_(kept)
    place_generators(before)
    return joint, joint.no_sync


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def group_on(device: torch.device) -> dist.ProcessGroup:
    """Of all processes, for what lies on a device: nccl between GPUs, gloo between CPUs."""
    if device.type == "cuda":
        group = dist.new_group(backend="nccl", device_id=device)
    else:
        group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


def refuse_shares(
    model: nn.Module, size: int, accumulate: int, compile: bool, batch_size: int, examples: int
) -> None:
    """Refuses what several processes cannot do as one does.

    Args:
        model: batch norm takes its statistics over all processes.
        size: of the world.
        accumulate: pieces a batch.
        compile: whether the forward pass is compiled.
        batch_size: examples.
        examples: of the training part.

    Raises:
        ValueError: naming the way out.
    """
    normed = any(isinstance(module, _BatchNorm) for module in model.modules())
    least = min(batch_size, examples % batch_size or batch_size)
    if size == 1 or not normed:
        return
    if accumulate > 1:
        raise ValueError(
            f"trainer.accumulate={accumulate}: must be 1 in a world of {size} processes with batch norm, "
            "which would take its statistics from other pieces than in one; or use layer or group norm"
        )
    if compile:
        raise ValueError(
            f"trainer.compile=true: must be false in a world of {size} processes with batch norm, whose "
            "statistics are exchanged in the middle of the pass; or use layer or group norm"
        )
    if least < size:
        raise ValueError(
            f"data.batch_size={batch_size}: leaves a last batch of {least} examples for {size} processes, "
            "and batch norm needs one in each; choose another batch size, or layer or group norm"
        )
