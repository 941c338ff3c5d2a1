"""Keeps what a model changes by itself alike in all processes: each of them passes other examples."""

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

from sweepwise.distributed.world import World
from sweepwise.learner.untrained import Untrained, on_cpu


class Alignment:
    """Gives all processes what rank 0's model keeps besides trained parameters.

    Parameters that are not trained are compared with what they were at first, and sent only if the model has
    moved them: they may be large.

    Args:
        world: of the processes.
        untrained: of this process's model.
    """

    def __init__(self, world: World, untrained: Untrained) -> None:
        self._world, self._untrained = world, untrained
        self._at_first = _digest(untrained.parameters().values())

    def __call__(self) -> None:
        """Together: aligns the model."""
        parameters, buffers = self._untrained.parameters(), self._untrained.buffers()
        form = {name: (*tensor.shape, str(tensor.dtype)) for name, tensor in buffers.items()}
        code = zlib.crc32(repr(form).encode())
        moved = _digest(parameters.values()) != self._at_first
        greatest, least, any_moved = self._world.max("the form of buffers", [code, -code, moved])
        alike = greatest == -least
        tensors = parameters if any_moved else {}
        self._world.align_("buffers", [*tensors.values(), *(buffers.values() if alike else ())])
        if state := ({} if alike else buffers) | self._untrained.extra():
            sent = self._world.on_rank_0("what else a model keeps", lambda: on_cpu(state), to_others=dict)
            if not self._world.leads:
                self._untrained.restore_(sent)

    def needed(self) -> bool:
        """Together: whether the processes' models differ now."""
        kept = repr(on_cpu(self._untrained.extra())).encode()
        code = zlib.crc32(kept, _digest(self._untrained.tensors().values()))
        greatest, least = self._world.max("what a pass has changed", [code, -code])
        return greatest != -least


def _digest(tensors: Iterable[Tensor]) -> int:
    """A checksum of the content of tensors."""
    code = 0
    for tensor in tensors:
        dense = tensor.detach().cpu().to_dense().contiguous().reshape(-1)
        code = zlib.crc32(dense.view(torch.uint8).numpy().tobytes(), code)
    return code
