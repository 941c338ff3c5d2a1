"""Initialisation by the weights of an earlier training."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from sweepwise.init.default import keep_all
from sweepwise.store.stamp import stamp_of

LARGEST_HEADER = 10_000_000  # bytes; some 100,000 tensors


class Checkpoint:
    """Copies parameters and buffers from a safetensors file by name; its precision may differ.

    What else is in the model's `state_dict` (`get_extra_state`) comes from the file beside it whose name ends
    in .extra.pt instead of .safetensors, where a run's checkpoint keeps it.

    Args:
        path: of the file, such as a run's checkpoints/best/weights.safetensors.
        strict: whether the file must hold exactly the model's parameters and buffers. Otherwise those that
            fit by name and shape are copied, the others stay as the model built them, and the record says so.
            Buffers that torch does not save (not persistent) may always be missing.

    Raises:
        ValueError: from `complete_`: the file cannot be read, is not a safetensors file, is not what it was
            when a run wrote it, holds values that are not finite, or does not fit the model; with everything
            that does not fit.

    Example:
        >>> from safetensors.torch import save_file
        >>> from tempfile import NamedTemporaryFile
        >>> model = nn.Linear(1, 1)
        >>> with NamedTemporaryFile(suffix=".safetensors") as file:
        ...     save_file({"weight": torch.tensor([[2.0]]), "bias": torch.tensor([3.0])}, file.name)
        ...     how = Checkpoint(path=file.name).complete_(model, torch.empty(0), torch.Generator())
        >>> model.weight.item(), model.bias.item(), sorted(how)
        (2.0, 3.0, ['bias', 'weight'])
    """

    rule = staticmethod(keep_all)

    def __init__(self, *, path: str, strict: bool = True) -> None:
        self._path = Path(path).expanduser()
        self._strict = strict

    def __call__(self, tensor: Tensor) -> Tensor:
        """Returns the tensor unchanged; `complete_` fills it."""
        return tensor

    @torch.no_grad()
    def complete_(self, model: nn.Module, examples: Tensor, generator: Generator) -> dict[str, str]:
        """Fills the model; returns how each parameter and buffer was filled, by name."""
        file = self._read()
        saved, kept = model.state_dict(), extra_state(model)
        extra = self._read_extra() | {name: file.pop(name) for name in kept if name in file}
        present = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        fits = {name for name in present.keys() & file.keys() if _fits(file[name], present[name])}
        missing = [name for name in present if name not in file and name in saved]
        missing += [name for name in kept if name not in extra]
        differing = {
            name: f"{_described(file[name])} in the file, {_described(tensor)} in the model"
            for name, tensor in present.items()
            if name in file and name not in fits
        }
        faults = [f"{name} is missing" for name in missing]
        faults += [f"{name} is not in the model" for name in file if name not in present]
        faults += [f"{name} is not in the model" for name in extra if name not in kept]
        faults += [f"{name} is {differs}" for name, differs in differing.items()]
        if faults and (self._strict or not fits):
            way_out = "init.strict=false copies what fits" if fits else "nothing in it fits"
            raise ValueError(f"{self._named}: does not fit the model ({way_out}): {'; '.join(faults)}")
        source = f"checkpoint sha256 {self._digest()[:12]}"
        for name in fits:
            if not present[name].copy_(file[name]).isfinite().all():
                raise ValueError(
                    f"{self._named}: has values in {name} that are not finite in the model's precision"
                )
        if both := extra.keys() & kept.keys():
            model.load_state_dict(saved | {name: extra[name] for name in both})
        filled = dict.fromkeys(missing, f"as built: not in {source}")
        filled |= {name: f"as built: {differs}, {source}" for name, differs in differing.items()}
        filled |= {
            name: source + ("" if file[name].dtype == tensor.dtype else f", was {_kind(file[name])}")
            for name, tensor in present.items()
            if name in fits
        }
        filled |= dict.fromkeys(both, source)
        return {name: filled[name] for name in [*present, *kept] if name in filled}

    @property
    def _named(self) -> str:
        return f"init.path={self._path}"

    def _read(self) -> dict[str, Tensor]:
        """The tensors by name; each stays in the file until it is copied."""
        if self._path.is_dir():
            raise ValueError(
                f"{self._named}: must be a file, not a folder; a run's weights are in "
                "checkpoints/best/weights.safetensors"
            )
        try:
            size = self._path.stat().st_size
            if not self._path.is_file():
                raise ValueError(f"{self._named}: must be a file, not a device or pipe")
            with self._path.open("rb") as file:
                header = int.from_bytes(file.read(8), "little")
        except OSError as error:
            raise ValueError(f"{self._named}: cannot be read ({error.strerror})") from error
        try:
            if not 0 < header <= min(size - 8, LARGEST_HEADER):
                raise ValueError(f"it claims a header of {header:,} bytes in a file of {size:,}")
            tensors = load_file(self._path)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self._named}: must be a complete safetensors file ({error})") from error
        with self._path.open("rb") as file:
            stamp = stamp_of(file)
        if stamp and stamp.found != stamp.sha256:
            raise ValueError(
                f"{self._named}: is not as a run wrote it, with sha256 {stamp.found} and not {stamp.sha256}; "
                "take a copy that is, or, if it was changed on purpose, save it without these metadata"
            )
        return tensors

    def _read_extra(self) -> dict[str, Any]:
        """What a checkpoint keeps of a model besides tensors; {} if there is no such file."""
        path = self._path.with_suffix(".extra.pt")
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except FileNotFoundError:
            return {}
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{self._named}: {path.name} beside it cannot be read ({reason})") from error

    def _digest(self) -> str:
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def extra_state(model: nn.Module) -> dict[str, Any]:
    """What is in a model's `state_dict` but is neither a parameter nor a buffer, by its key there."""
    named = model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    tensors = {name for pairs in named for name, _ in pairs}
    return {key: value for key, value in model.state_dict().items() if key not in tensors}


def _fits(stored: Tensor, tensor: Tensor) -> bool:
    """Whether a stored tensor can be copied into the other: same shape, and both real, whole or complex."""
    same_kind = stored.is_floating_point() == tensor.is_floating_point()
    return stored.shape == tensor.shape and same_kind and stored.is_complex() == tensor.is_complex()


def _described(tensor: Tensor) -> str:
    return f"{_kind(tensor)} {tuple(tensor.shape)}"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
