"""Muon for the hidden matrices of a network, AdamW for everything else."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from sweepwise.config.ranges import Range

UNIT = Range(0, 1, open_high=True)
QUINTIC = 3.4445, -4.7750, 2.0315  # steepest at 0, where most singular values of a gradient lie
ADJUSTMENTS: dict[str, Callable[[int, int], float]] = {
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "original": lambda rows, columns: math.sqrt(max(1, rows / columns)),
}


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum: each step moves all directions of a hidden matrix by the same length.

    Hidden weights take Muon, as `torch.optim.Muon` does it; a kernel (out, in, *kernel) counts as the matrix
    (out, in * kernel). The first and the last weights (input and output layer, embeddings), biases and norm
    gains take AdamW, at `adamw_scale` times the rate.

    Args:
        params: two groups of tensors with their gradients: the weights in the order of the layers, then the
            rest.
        lr: learning rate.
        weight_decay: decoupled: each step shrinks by lr * weight_decay.
        momentum: of Muon, in [0, 1).
        nesterov: whether Muon looks ahead along its momentum.
        adjust_lr_fn: 'match_rms_adamw' multiplies a matrix's rate by 0.2 sqrt(max(out, in)), so that rates
            and decays that suit AdamW suit Muon; 'original' by sqrt(max(1, out / in)), for rates near 0.02.
        ns_steps: Newton-Schulz iterations, 1 to 99.
        adamw_scale: AdamW's rate as a multiple of the rate.
        adamw_betas: AdamW's, in [0, 1).
        adamw_eps: AdamW's.
        first: how many weight tensors at the input side take AdamW; 2 where learned positions follow the
            embedding.
        last: how many weight tensors at the output side take AdamW.

    Raises:
        ValueError: no weight is left between the first and the last.

    Source: Jordan and others, Muon: An optimizer for hidden layers in neural networks (2024),
    kellerjordan.github.io/posts/muon. Liu et al., Muon is Scalable for LLM Training, arXiv:2502.16982,
    section 2.2 (matching AdamW's update).

    Example:
        >>> from sweepwise import FlatOptimizer
        >>> values, gradient = torch.zeros(4), torch.tensor([3.0, 0.0, 0.0, 1.0])
        >>> muon = partial(Muon, first=0, last=0, adjust_lr_fn="original")
        >>> row = {"values": values, "gradient": gradient, "weights": 4, "shapes": [torch.Size([2, 2])]}
        >>> FlatOptimizer(muon, **row).step_(1.0)
        >>> [0.7 < -values[0].item() < 1.2, 0.7 < -values[3].item() < 1.2]  # 3 and 1 in the gradient
        [True, True]
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        *,
        lr: Annotated[float, Range(0)] = 1e-3,
        weight_decay: Annotated[float, Range(0)] = 0.01,
        momentum: Annotated[float, UNIT] = 0.95,
        nesterov: bool = True,
        adjust_lr_fn: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
        ns_steps: Annotated[int, Range(1, 99)] = 5,
        adamw_scale: Annotated[float, Range(0)] = 1.0,
        adamw_betas: tuple[Annotated[float, UNIT], Annotated[float, UNIT]] = (0.9, 0.999),
        adamw_eps: Annotated[float, Range(0)] = 1e-8,
        first: Annotated[int, Range(0)] = 1,
        last: Annotated[int, Range(0)] = 1,
    ) -> None:
        weights, rest = params
        tensors = weights["params"]
        hidden = tensors[first : max(first, len(tensors) - last)]
        if not hidden:
            raise ValueError(
                f"optimizer=muon: must have weights between the first {first} and the last {last}, and the "
                f"model has {len(tensors)} in all; use optimizer=adamw, or optimizer.first=0"
            )
        outer = [*tensors[:first], *tensors[first + len(hidden) :]]
        shared = {"lr": lr, "weight_decay": weight_decay}
        self._momentum, self._nesterov, self._ns_steps = momentum, nesterov, ns_steps
        self._adjust = ADJUSTMENTS[adjust_lr_fn]
        self._adamw: dict[str, Any] = {"beta1": adamw_betas[0], "beta2": adamw_betas[1], "eps": adamw_eps}
        self._adamw_scale = adamw_scale
        groups = [{"params": hidden}, {"params": outer}, rest]
        super().__init__(groups, shared)
        for tensor in hidden:
            self.state[tensor]["momentum_buffer"] = torch.zeros_like(tensor)
        for tensor in (*outer, *rest["params"]):
            self.state[tensor]["step"] = torch.zeros((), device=tensor.device)
            self.state[tensor]["exp_avg"] = torch.zeros_like(tensor)
            self.state[tensor]["exp_avg_sq"] = torch.zeros_like(tensor)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Takes one step of all tensors from their gradients."""
        hidden, *others = self.param_groups
        self._step_muon_(hidden, _with_gradients(hidden))
        for group in others:
            if tensors := _with_gradients(group):
                self._step_adamw_(group, tensors)

    def _step_muon_(self, group: dict[str, Any], tensors: list[Tensor]) -> None:
        rate, shrink = group["lr"], 1 - group["lr"] * group["weight_decay"]
        for tensor, momentum in zip(tensors, self._states(tensors, "momentum_buffer"), strict=True):
            assert tensor.grad is not None
            momentum.lerp_(tensor.grad, 1 - self._momentum)
            update = tensor.grad.lerp(momentum, self._momentum) if self._nesterov else momentum
            update = orthogonalised(update.flatten(1), self._ns_steps)
            tensor.mul_(shrink).add_(update.view_as(tensor), alpha=-rate * self._adjust(*update.shape))

    def _step_adamw_(self, group: dict[str, Any], tensors: list[Tensor]) -> None:
        counts = self._states(tensors, "step")
        torch._foreach_add_(counts, 1)
        torch._fused_adamw_(
            tensors,
            [tensor.grad for tensor in tensors if tensor.grad is not None],
            self._states(tensors, "exp_avg"),
            self._states(tensors, "exp_avg_sq"),
            [],
            counts,
            lr=group["lr"] * self._adamw_scale,
            weight_decay=group["weight_decay"],
            amsgrad=False,
            maximize=False,
            **self._adamw,
        )

    def _states(self, tensors: list[Tensor], name: str) -> list[Tensor]:
        return [self.state[tensor][name] for tensor in tensors]


def _with_gradients(group: dict[str, Any]) -> list[Tensor]:
    """The tensors of a group that take part in a step."""
    return [tensor for tensor in group["params"] if tensor.grad is not None]


def orthogonalised(matrix: Tensor, steps: int) -> Tensor:
    """The matrix with all singular values moved close to 1.

    By Newton-Schulz iterations x <- a x + (b A + c A A) x with A = x x', in the precision of the parameters:
    the reference's bfloat16 takes 20 times as long on a CPU without hardware for it.

    Args:
        matrix: (rows, columns).
        steps: iterations; after 5 the singular values are between 0.7 and 1.2, unless they were close to 0.
    """
    a, b, c = QUINTIC
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    norm = x.norm()
    x = x / (norm.clamp(min=1e-7) + (norm - norm))  # NaN, not zeros, where the norm overflows
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
