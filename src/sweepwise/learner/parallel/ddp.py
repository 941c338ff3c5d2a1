"""The pass of a batch by several processes: each passes its share, all get the gradient of the whole batch.

torch's DistributedDataParallel adds up the gradients while the backward pass still runs. It averages over
the processes, so each weights its loss by the examples it has: size * own / all.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from sweepwise.distributed.world import World
from sweepwise.learner.parallel.align import Alignment
from sweepwise.learner.parallel.sync_batch_norm import synchronise_
from sweepwise.learner.passes import JointPass, Loss, differentiate, passes
from sweepwise.learner.precision import Model
from sweepwise.learner.without_trace import without_trace

Trial = Callable[[Callable[..., Tensor]], None]  # given a pass (model's pass, x), goes forward and backward


class SharedPasses:
    """The passes of this process's share of each batch.

    It is called as what `passes` returns, but with the targets of the whole batch. It returns what this
    process contributes to the mean loss over the batch, and the outputs of its share.

    Args:
        world: of the processes.
        make_joint_pass: `FlatParameters.joint_pass`, which makes the pass of all processes.
        plain: the model's forward pass in training.
        loss: the mean over the examples of (outputs, targets).
        scale: turns the loss into what is differentiated.
        accumulate: pieces in which the share is passed.
        whole: whether the inputs are those of the whole batch, or only of this process's part.
        alignment: makes alike what the processes' models keep besides trained parameters.

    Attributes:
        aligns: whether it does so before every step, as a pass changes what depends on the examples.
    """

    def __init__(
        self,
        world: World,
        make_joint_pass: Callable[[Trial], JointPass],
        plain: Model,
        loss: Loss,
        scale: Callable[[Tensor], Tensor],
        *,
        accumulate: int,
        whole: bool,
        alignment: Alignment,
    ) -> None:
        self._world, self._make_joint_pass, self._plain = world, make_joint_pass, plain
        self._loss, self._scale = loss, scale
        self._accumulate, self._whole = accumulate, whole
        self._alignment, self.aligns = alignment, False
        self._joint_pass: JointPass | None = None

    def __call__(self, model: Model, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Passes this process's share; without examples one of weight 0, as all processes must take part."""
        wanted = self._world.padded_shard(targets)
        inputs = self._world.padded_shard(x) if self._whole else x
        if self._joint_pass is None:
            self._joint_pass = self._make_joint_pass(partial(self._run_trial, inputs, wanted))
        if self.aligns:
            self._alignment()
        passed, no_sync = self._joint_pass
        own = len(self._world.shard(targets))
        weight = own / len(targets)
        most = -(-len(targets) // self._world.size)
        objective, outputs = passes(
            self._accumulate,
            lambda outputs, wanted: self._loss(outputs, wanted) * weight,
            lambda loss: self._scale(loss * self._world.size),
            no_sync,
            lambda x: max(most, 1),
        )(partial(passed, model), inputs, wanted)
        return objective, outputs[:own]

    def _run_trial(self, inputs: Tensor, wanted: Tensor, passing: Callable[..., Tensor]) -> None:
        differentiate(self._loss(passing(self._plain, inputs), wanted) * 0)
        self.aligns = self._alignment.needed()

    def absent(self, own: Sequence[int], parameters: int) -> list[int]:
        """Together: the numbers of the parameters that no process's last pass uses.

        Args:
            own: those that this process's pass does not use.
            parameters: how many there are.
        """
        used = np.ones(parameters)
        used[list(own)] = 0
        return [int(n) for n in np.flatnonzero(self._world.sum("which parameters took part", used) == 0)]

    def contribution(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What this process's outputs contribute to the loss of a batch whose targets are y."""
        own = self._world.shard(y)
        return self._loss(outputs, own) * (len(own) / len(y)) if len(own) else outputs.new_zeros(())


class _Reaching(torch.autograd.Function):
    """The outputs as they are, but depending on every parameter, if only without a gradient.

    So each parameter is ready in every backward pass, also one that this pass of this process does not use:
    DDP then sums up the gradients of the others, or zeros, and waits for nothing.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, *parameters: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.parameters = len(parameters)
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.parameters


class _Passed(nn.Module):
    """A module with the model's parameters whose forward pass is any pass of the model."""

    def __init__(self, model: nn.Module, trained: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.model = model
        self._trained = list(trained)
        # A sum leads to its parameter even if the model says later that it needs no gradient any more.
        self._sums = [parameter.sum() for parameter in self._trained]

    def forward(self, passing: Model, x: Tensor) -> Tensor:
        outputs = passing(x)
        pairs = zip(self._trained, self._sums, strict=True)
        joined: Tensor = _Reaching.apply(
            outputs, *(own if own.requires_grad else total for own, total in pairs)
        )
        return joined


def joint_pass(
    model: nn.Module, trained: Sequence[nn.Parameter], trial: Trial, order: Sequence[int] = ()
) -> tuple[JointPass, list[int]]:
    """The pass that adds up the gradients of all processes; all get the weights of rank 0.

    Trial passes come first and change nothing. They show in which order the gradients are ready, and let
    torch put its buckets into this order. So the rounding of sums is the same in a resumed run and in one
    that was never interrupted, also if the model uses other parameters by then.

    Args:
        model: on its device.
        trained: its parameters that are trained, also if the model has frozen some for now.
        trial: takes a forward pass (model's pass, x), and goes forward and backward through it.
        order: of the gradients in the run so far, as returned here; empty: it has not begun.

    Returns:
        The pass, and the numbers of the trained parameters in the order in which their gradients are ready.
    """
    device = next(model.parameters()).device
    group = group_on(device)
    synchronise_(model, group, device)
    for parameter in trained:
        parameter.requires_grad_()
    joint = DistributedDataParallel(
        _Passed(model, trained), process_group=group, forward_sync_buffers=False, gradient_as_bucket_view=True
    )
    with without_trace(model):
        order = list(order) or _ready_order(trained, trial)
        for _ in range(2):  # the buckets are ordered at the beginning of the pass after the first
            differentiate(joint(partial(_in_order, trained, order), trained[0]))
            _clear_gradients(trained)
    return (joint, joint.no_sync), order


def _ready_order(trained: Sequence[nn.Parameter], trial: Trial) -> list[int]:
    """The numbers of the parameters in the order of their gradients in a pass; then those without one."""
    order: dict[int, None] = {}

    def hook_of(number: int) -> Callable[[Tensor], None]:
        return lambda gradient: order.setdefault(number)

    hooks = [parameter.register_hook(hook_of(number)) for number, parameter in enumerate(trained)]
    trial(lambda passing, x: passing(x))
    for hook in hooks:
        hook.remove()
    _clear_gradients(trained)
    return list(order | dict.fromkeys(range(len(trained))))


def _in_order(trained: Sequence[nn.Parameter], order: Sequence[int], x: Tensor) -> Tensor:
    """A 0 whose backward pass reaches the parameters in this order: autograd begins with the newest."""
    total = x.new_zeros(())
    for number in reversed(order):
        total = total + trained[number].sum()
    return total * 0


def _clear_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def group_on(device: torch.device) -> dist.ProcessGroup:
    """The process group of all processes, for tensors on a device: nccl for GPUs, gloo for CPUs."""
    if device.type == "cuda":
        group = dist.new_group(backend="nccl", device_id=device)
    else:
        group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)
    return group


def refuse_shares(
    model: nn.Module, size: int, accumulate: int, compile: bool, batch_size: int, examples: int
) -> None:
    """Refuses what several processes cannot compute as one process does.

    Args:
        model: batch norm takes its statistics over all processes.
        size: number of processes.
        accumulate: pieces of each batch.
        compile: whether the forward pass is compiled.
        batch_size: examples of a batch.
        examples: number of training examples.

    Raises:
        ValueError: batch norm would see other batches than in one process.
    """
    normed = any(isinstance(module, _BatchNorm) for module in model.modules())
    least = min(batch_size, examples % batch_size or batch_size)
    if size == 1 or not normed:
        return
    if accumulate > 1:
        raise ValueError(
            f"trainer.accumulate={accumulate}: must be 1 with batch norm and {size} processes, as the "
            "statistics would come from other pieces than in one process; or use layer or group norm"
        )
    if compile:
        raise ValueError(
            f"trainer.compile=true: must be false with batch norm and {size} processes, as they exchange "
            "statistics in the middle of the pass; or use layer or group norm"
        )
    if least < size:
        raise ValueError(
            f"data.batch_size={batch_size}: leaves a last batch of {least} examples for {size} processes, "
            "and batch norm needs one in each; choose another batch size, or layer or group norm"
        )
