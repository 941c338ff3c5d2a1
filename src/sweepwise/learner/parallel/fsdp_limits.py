"""What fully sharded training refuses, and the blocks in which it gathers parameters."""

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from sweepwise.errors import UsageError
from sweepwise.learner.contract import Precision
from sweepwise.optimizer import FlatOptimizer
from sweepwise.regularizer import Regularizer, acting

ON_ROWS = ("penalty", "before_step_", "clip_", "after_step_")
WAY_OUT = "or use trainer.parallel=ddp"


def refuse_unshardable(
    model: nn.Module, regularizers: Sequence[Regularizer], precision: Precision, compile: bool
) -> None:
    """Refuses what several processes with parts of the parameters cannot compute as one process does.

    Args:
        model: initialised and prepared by the regularizers.
        regularizers: all of them.
        precision: of the forward pass.
        compile: whether it is compiled.

    Raises:
        UsageError: with every fault.
    """
    faults = []
    if compile:
        faults.append(
            "trainer.compile=true: must be false with trainer.parallel=fsdp, which gathers parameters in the "
            f"middle of the pass; {WAY_OUT}"
        )
    if precision == "fp16":
        faults.append(
            "trainer.precision=fp16: must be bf16 or fp32 with trainer.parallel=fsdp, as a process does not "
            f"know whether another one's part of the gradient overflows; {WAY_OUT}"
        )
    on_rows = {id(r): r for moment in ON_ROWS for r in acting(regularizers, moment)}
    faults += [
        f"regularizer={type(r).__name__}: must act by element (`by_element`) with trainer.parallel=fsdp, as "
        f"a process has only its part of a matrix; {WAY_OUT}"
        for r in on_rows.values()
        if not r.by_element
    ]
    faults += [
        f"model: {name} must not be parametrized (spectral or weight norm) with trainer.parallel=fsdp, as "
        f"that computes with whole matrices; {WAY_OUT}"
        for name, module in model.named_modules()
        if is_parametrized(module)
    ][:1]
    faults += [
        f"model: {name} must have at least one axis with trainer.parallel=fsdp, and is a scalar; give it the "
        f"shape (1,), {WAY_OUT}"
        for name, parameter in model.named_parameters()
        if not parameter.ndim
    ][:1]
    if faults:
        raise UsageError(faults)


def refuse_by_tensor(optimizer: FlatOptimizer) -> None:
    """Refuses an optimizer whose update of an element depends on the whole tensor.

    Raises:
        UsageError: it is one.
    """
    if not optimizer.by_element:
        name = type(optimizer.optimizer).__name__
        raise UsageError(
            [
                f"optimizer: {name} must act by element with trainer.parallel=fsdp, as a process has only "
                f"its part of a tensor; use optimizer=adamw, {WAY_OUT}"
            ]
        )


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The modules whose parameters are gathered together; the model itself gathers those of no block.

    Blocks are modules that are called one after the other: the children of the model, of an nn.Sequential,
    and of what contains an nn.ModuleList, such as the layers of an nn.TransformerEncoder. Below that a module
    may use its children's parameters without calling them, as nn.MultiheadAttention does. A module that
    shares a parameter with another is no block: the model gathers for both.

    Args:
        model: any.
    """
    owners = _owners(model)
    for module in _called(model):
        inside = _owners(module)
        if inside and all(owners[parameter] == count for parameter, count in inside.items()):
            yield module


def _owners(model: nn.Module) -> Counter[int]:
    """The number of modules that have each parameter, by its id."""
    return Counter(id(own) for module in model.modules() for own in module.parameters(recurse=False))


def _called(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.Sequential) or _has_list(child):
            yield from _called(child)
        else:
            yield child


def _has_list(module: nn.Module) -> bool:
    return any(isinstance(one, (nn.ModuleList, nn.ModuleDict)) for one in module.modules())
