"""What the files of a checkpoint hold, and reading it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from sweepwise.checkpoint.manifest import (
    MALFORMED,
    MANIFEST,
    WEIGHTS,
    deserialize,
    order,
    read_verified,
    serialize,
)
from sweepwise.errors import Failure
from sweepwise.store.folders import CHECKPOINTS
from sweepwise.store.stamp import stamped
from sweepwise.system.handle import readable

BEST, STATE = "best.safetensors", "state.pt"
WITHOUT_TYPE = (torch.complex32, torch.complex128)  # dtypes that safetensors does not know

Weights = Mapping[str, Any]  # tensors, and what else a model's state_dict holds
Files = dict[str, bytes]  # content by name


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read back.

    Attributes:
        step: how many steps had been taken.
        weights: parameters and buffers by name, on the CPU.
        best: the best ones so far; empty if there were none.
        state: as given to `Checkpoints.save`.
        damaged: newer checkpoints that are damaged, and how.
    """

    step: int
    weights: Weights
    best: Weights
    state: Mapping[str, Any]
    damaged: tuple[str, ...] = field(default=())


def read_weights(folder: Path, which: Literal["best", "last"]) -> Weights:
    """The best or the newest weights of a run, which may be training meanwhile.

    Args:
        folder: the run's.
        which: of the two.

    Returns:
        Parameters and buffers by name, on the CPU; of the newest also averages, see `ema.AVERAGE`.

    Raises:
        Failure: there are none yet, or they are damaged.
    """
    while True:
        path = _newest(folder / CHECKPOINTS, which)
        if path is None:
            other = "" if which == "last" else "; checkpoint=last takes the newest, if there are any"
            raise Failure(f"{readable(folder)}: has no {which} weights{other}")
        try:
            files = read_verified(path)
            return _weights(WEIGHTS, files)
        except (ValueError, *MALFORMED) as error:
            if path == _newest(folder / CHECKPOINTS, which):  # else the run has replaced it just now
                raise Failure(f"{readable(path)}: cannot be used: {error}") from error


def _newest(folder: Path, which: Literal["best", "last"]) -> Path | None:
    """The folder that the link leads to, or would if copying had not made a folder of it."""
    link = folder / which
    if link.is_symlink() and link.is_dir():
        return link.resolve()
    kinds = ("best",) if which == "best" else ("best", "ended", "step")  # of one step the last
    found = [
        (order(path)[0], rank, order(path), path)
        for rank, kind in enumerate(kinds)
        for path in folder.glob(f"{kind}-*")
    ]
    return max(found)[-1] if found else None


def extra_of(name: str) -> str:
    """The name of the file with the rest of a model, beside the file of weights of this name."""
    return name.removesuffix(".safetensors") + ".extra.pt"


def contents(step: int, weights: Weights) -> Files:
    """The file of the weights after so many steps and, if they are not all of the model, that of the rest."""
    tensors = {name: value for name, value in weights.items() if _is_plain(value)}
    rest = {name: value for name, value in weights.items() if name not in tensors}
    if rest:
        return {WEIGHTS: to_bytes(tensors), extra_of(WEIGHTS): serialize(rest)}
    return {WEIGHTS: stamped(step, to_bytes(tensors))}


def _weights(name: str, files: Mapping[str, bytes]) -> Weights:
    """The weights in the file of this name, with the rest."""
    rest = files.get(extra_of(name))
    return {**from_bytes(files[name]), **(deserialize(rest) if rest else {})}


def _is_plain(value: object) -> bool:
    """Whether a safetensors file can hold a value: a dense tensor of a type that it knows."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
        return False
    return value.dtype not in WITHOUT_TYPE


def read(folder: Path, damaged: tuple[str, ...]) -> Saved:
    """Reads a checkpoint.

    Raises:
        ValueError: it is damaged; says how.
    """
    files = read_verified(folder)
    extra = {extra_of(name) for name in files.keys() & {WEIGHTS, BEST}}
    if not {STATE, WEIGHTS} <= files.keys() <= {STATE, WEIGHTS, BEST} | extra:
        told = f"names {', '.join(files) or 'no files'}" if (folder / MANIFEST).exists() else "is missing"
        raise ValueError(f"{MANIFEST} {told}")
    try:
        state = deserialize(files[STATE])
        if state["step"] != order(folder)[0] or isinstance(state["best_step"], int) != (BEST in files):
            raise ValueError(f"{STATE} belongs to another checkpoint")
        best = _weights(BEST, files) if BEST in files else {}
        return Saved(state["step"], _weights(WEIGHTS, files), best, state, damaged)
    except MALFORMED as error:
        raise ValueError(
            f"has content that no checkpoint has ({str(error).partition(chr(10))[0]})"
        ) from error
