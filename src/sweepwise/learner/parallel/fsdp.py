"""Fully sharded training: each process has a part of every parameter, gradient and optimizer state.

torch's fully_shard (FSDP2) gathers the parameters of a block for its forward and its backward pass, frees
them again, and adds up its gradient into the parts of all processes. Between two passes each process works
on its own part, in a flat row as in a single process.

Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models,
arXiv:1910.02054, section 5 (stage 3); Zhao et al., PyTorch FSDP, arXiv:2304.11277.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from sweepwise.distributed.world import World
from sweepwise.learner.ema import AVERAGE
from sweepwise.learner.flat import Layout, shapes_of, trainable
from sweepwise.learner.parallel.ddp import Trial, group_on
from sweepwise.learner.parallel.fsdp_limits import blocks
from sweepwise.learner.parallel.sync_batch_norm import synchronise_
from sweepwise.learner.passes import JointPass
from sweepwise.learner.precision import Model


class ShardedParameters(Layout):
    """This process's parts of a model's trainable parameters; see `FlatParameters`.

    A parameter (rows, ...) is cut into parts of ceil(rows / processes) rows, as torch cuts it. A shorter last
    part is padded with zeros, so that all processes have the same layout. The gradient of the padding is 0,
    and an element-wise update leaves it 0.

    Until the first pass the model stays whole on the CPU, so that one process can use it alone; then it goes
    to the device block by block, and of each block only this process's part is left. Frozen parameters stay
    whole.

    Args:
        model: on the CPU.
        world: of the processes.
        device: of this process.

    Attributes:
        values: (1, elements of this process) weights first.
        gradient: (1, elements of this process).
        all_weights: of the model, not of this process alone.
        parameters: the model's own, as torch shards them; none before the first pass.
    """

    def __init__(self, model: nn.Module, world: World, device: torch.device) -> None:
        weights, rest = trainable(model)
        self._whole = shapes_of({**weights, **rest})
        cut = {name: _part_shape(shape, world.size) for name, shape in self._whole.items()}
        super().__init__({name: cut[name] for name in weights}, {name: cut[name] for name in rest})
        self._model, self._world, self._device = model, world, device
        self.all_weights = sum(parameter.numel() for parameter in weights.values())
        self.parameters: list[nn.Parameter] = []
        elements, like = sum(shape.numel() for shape in self.shapes), next(iter({**weights, **rest}.values()))
        self.values = torch.zeros(1, elements, dtype=like.dtype, device=device)
        self.gradient = torch.zeros_like(self.values)
        for name, slot in self.views(self.values).items():
            slot.copy_(self._part(model.get_parameter(name).detach()))

    def begin_(self) -> None:
        """See `FlatParameters.begin_`: from now on the model's parameters are parts, and lie in the row."""
        if self.parameters:
            return
        self._group = group_on(self._device)
        synchronise_(self._model, self._group, self._device)
        frozen = {p for p in self._model.parameters() if not p.requires_grad}
        for parameter in frozen:
            parameter.data = parameter.data.to(self._device)
        mesh = DeviceMesh.from_group(self._group, self._device.type)
        slots = self.views(self.values)
        for block in [*blocks(self._model), self._model]:
            block.register_forward_hook(_copied_view)
            sharded = fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
            sharded.set_force_sum_reduction_for_comms(True)  # gloo cannot average
            self._share_memory_(sharded, slots)
        named = dict(self._model.named_parameters())
        self.parameters = [named[name] for name in self.names]

    def _share_memory_(self, block: FSDPModule, slots: Mapping[str, Tensor]) -> None:
        """Makes torch gather a block's parameters from the row, which has the current values.

        torch has no public way to set the memory of a part. It gathers `_sharded_param_data`, padded with
        zeros, and the model's parameter is a view of it without the padding.
        """
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        for group in block._get_fsdp_state()._fsdp_param_groups:
            for held in group.fsdp_params:
                slot, parameter = slots[names[id(held.sharded_param)]], cast(DTensor, held.sharded_param)
                held._sharded_param_data = slot.view(-1)
                parameter._local_tensor = slot[: len(parameter._local_tensor)]

    def joint_pass(self, trial: Trial) -> JointPass:
        """See `FlatParameters.joint_pass`. Each piece's gradient is cut into parts at once."""
        self.begin_()
        return _call, nullcontext

    def rejoin_(self) -> None:
        """See `FlatParameters.rejoin_`; the model has no parameters of its own here that it could move."""

    def forget_gradients(self) -> None:
        """See `FlatParameters.forget_gradients`."""
        for parameter in self.parameters:
            parameter.grad = None

    def absent(self) -> list[int]:
        """See `FlatParameters.absent`."""
        return [number for number, parameter in enumerate(self.parameters) if parameter.grad is None]

    def gradients(self) -> list[Tensor]:
        """See `FlatParameters.gradients`; of this process's parts."""
        self.begin_()  # a resumed run may ask for them before its first pass
        slots = self.views(self.values).values()
        return [_padded_gradient(p.grad, slot) for p, slot in zip(self.parameters, slots, strict=True)]

    def collect(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """See `FlatParameters.collect`."""
        return self.copied_into(gradients, self.gradient)

    def norms(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `FlatParameters.norms`."""
        own = torch.stack(list(map(torch.linalg.vector_norm, tensors)))
        return list(torch.linalg.vector_norm(self._all_gather(own), dim=0))

    def row_norms(self, rows: Tensor) -> Tensor:
        """See `FlatParameters.row_norms`."""
        own = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return torch.linalg.vector_norm(self._all_gather(own), dim=0)

    def sum_over_processes(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """See `FlatParameters.sum_over_processes`."""
        return list(self._all_gather(torch.stack(list(sums))).sum(0)) if sums else []

    def _all_gather(self, own: Tensor) -> Tensor:
        """The tensor of each process, (processes, ...), by rank; without leaving the device."""
        self.begin_()
        every = own.new_empty(self._world.size * own.numel())
        dist.all_gather_single(every, own.reshape(-1), group=self._group)
        return every.view(-1, *own.shape)

    def gather_tensors(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """See `FlatParameters.gather_tensors`; on the CPU of rank 0, one by one; {} in other ranks."""
        whole = {
            name: self._gather_parameter(name, part) for name, part in zip(self.names, tensors, strict=True)
        }
        return whole if self._world.leads else {}

    def to_gathered_device(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `FlatParameters.to_gathered_device`; to the CPU."""
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def gather_row_by_name(self, row: Tensor) -> dict[str, Tensor]:
        """See `FlatParameters.gather_row_by_name`; {} in other ranks."""
        return self.gather_tensors(list(self.views(row).values()))

    def local_parts(self, whole: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `FlatParameters.local_parts`.

        Raises:
            ValueError: a tensor has another shape than the parameter.
        """
        shapes = self._whole | {AVERAGE + name: shape for name, shape in self._whole.items()}
        differing = [name for name in whole.keys() & shapes.keys() if whole[name].shape != shapes[name]]
        if differing:
            raise ValueError(f"the checkpoint is of another model: {', '.join(sorted(differing))}")
        return {name: self._part(tensor) if name in shapes else tensor for name, tensor in whole.items()}

    def gather_row(self, part: Tensor, first: int) -> Tensor:
        """See `FlatParameters.gather_row`; empty in other ranks."""
        cut = self._parameters_at(self.shapes, part.numel(), first)
        shaped = zip(self.names[cut], _split(part, self.shapes[cut]), strict=True)
        return torch.cat([self._gather_parameter(name, own).reshape(-1) for name, own in shaped])

    def local_row(self, whole: Tensor, first: int) -> Tensor:
        """See `FlatParameters.local_row`."""
        shapes = list(self._whole.values())
        cut = self._parameters_at(shapes, whole.numel(), first)
        return torch.cat([self._part(tensor).reshape(-1) for tensor in _split(whole, shapes[cut])])

    def _parameters_at(self, shapes: Sequence[torch.Size], elements: int, first: int) -> slice:
        """The parameters that begin at element `first` of the row and have `elements` elements in all."""
        begin = [0, *accumulate(shape.numel() for shape in self.shapes)].index(first)
        ends = list(accumulate(shape.numel() for shape in shapes[begin:]))
        return slice(begin, begin + ends.index(elements) + 1)

    def _part(self, whole: Tensor) -> Tensor:
        """This process's part of a tensor."""
        shape = _part_shape(whole.shape, self._world.size)
        own = whole[self._world.rank * shape[0] :][: shape[0]]
        part = whole.new_zeros(shape)
        part[: len(own)] = own
        return part

    def _gather_parameter(self, name: str, part: Tensor) -> Tensor:
        """Together: the whole parameter from the parts of all processes, on the CPU; empty but in rank 0."""
        parts = self._world.gather("a parameter", part)
        whole = self._whole[name]
        ends = [max(0, whole[0] - number * len(part)) for number in range(len(parts))]
        return torch.cat([own[:end] for own, end in zip(parts, ends, strict=True)] or [torch.empty(0)])


def _part_shape(whole: torch.Size, size: int) -> torch.Size:
    return torch.Size((-(-whole[0] // size), *whole[1:]))


def _split(row: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = row.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _padded_gradient(gradient: Tensor | None, like: Tensor) -> Tensor:
    """A part's gradient, with zeros for the padding of the part."""
    if gradient is None:
        return torch.zeros_like(like)
    own = cast(DTensor, gradient).to_local()
    if own.shape == like.shape:
        return own
    filled = torch.zeros_like(like)
    filled[: len(own)] = own
    return filled


def _copied_view(block: nn.Module, inputs: object, output: object) -> object:
    """A block's output, copied if it is a view: a change of a view in place would remove torch's hooks."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def _call(passing: Model, x: Tensor) -> Tensor:
    return passing(x)
