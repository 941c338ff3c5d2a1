"""Batch norm over the whole batch, of which each process has a share."""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over all processes, for CPUs too; torch's SyncBatchNorm works on GPUs only.

    First the mean, then the mean square of the deviations, as E[x^2] - E[x]^2 would cancel. The backward pass
    differentiates both sums through the exchange, so the gradient is that of the whole batch.

    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167, algorithm 1.
    """

    process_group: dist.ProcessGroup

    def _check_input_dim(self, input: Tensor) -> None:
        """Nothing to check: the plain layer has checked it in the first pass."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises over all examples and positions; in evaluation as the plain layer."""
        if not (self.training or self.running_mean is None):
            return super().forward(input)
        over = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        count = torch.full((1,), input.numel() / input.shape[1], dtype=input.dtype, device=input.device)
        first = all_reduce(torch.cat([input.sum(over), count]), group=self.process_group)
        total = first[-1].detach()
        mean = first[:-1] / total
        centred = input - mean.view(shape)
        variance = all_reduce(centred.square().sum(over), group=self.process_group) / total
        self._remember(mean.detach(), variance.detach(), total)
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is None:
            return normed
        return normed * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if not self.training or self.running_mean is None:
            return
        counter, running = cast(Tensor, self.num_batches_tracked), cast(Tensor, self.running_var)
        counter.add_(1)
        rate = 1 / counter.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        running.lerp_((variance * (total / (total - 1))).to(running.dtype), rate)


def synchronise_(model: nn.Module, group: dist.ProcessGroup, device: torch.device) -> None:
    """Makes torch's batch norms in a model compute their statistics over all processes, in place.

    Only the class of a module changes: its hooks, name and parameters stay.

    Args:
        model: any.
        group: of all processes.
        device: of the model.
    """
    for module in model.modules():
        if type(module) in PLAIN:
            module.__class__ = nn.SyncBatchNorm if device.type == "cuda" else SyncedNorm
            cast(SyncedNorm, module).process_group = group
