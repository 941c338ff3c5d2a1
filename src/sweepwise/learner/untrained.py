"""What of a model no optimizer moves: other parameters, buffers, and what else is in its `state_dict`."""

import copy
import io
from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sweepwise.errors import Failure, reason
from sweepwise.init.checkpoint import extra_state


class Untrained:
    """A model's state outside the row of trained parameters.

    These are parameters that are not trained (frozen ones, a teacher, a codebook), buffers, and what modules
    put into `state_dict` besides, by `get_extra_state` or a hook. The model may change all of it in its
    passes; it may also replace a buffer by one of another shape, or make one that was None.

    Args:
        model: any.
        trained: names of the trained parameters.

    Raises:
        ValueError: its modules keep something that a checkpoint cannot hold.
    """

    def __init__(self, model: nn.Module, trained: Container[str]) -> None:
        self._model, self._trained = model, trained
        self._frozen = {name: own for name, own in model.named_parameters() if name not in trained}
        try:
            extra = extra_state(model)
        except Exception as error:
            raise ValueError(
                f"model: its state_dict cannot be taken, as a checkpoint does, and raises {reason(error)}"
            ) from error
        self._adds = bool(extra)
        self._refuse_unsaved(extra)

    def _refuse_unsaved(self, extra: Mapping[str, Any]) -> None:
        """Refuses values that the model would not get back from a checkpoint."""
        for name, value in extra.items():
            file = io.BytesIO()
            try:
                torch.save(on_cpu(value), file)
                file.seek(0)
                own = torch.load(file, weights_only=True)
            except Exception as error:
                raise ValueError(
                    f"model: {name} in its state_dict is of a kind that a checkpoint cannot hold, "
                    f"{type(value).__name__}; get_extra_state must return tensors, numbers, texts and None, "
                    "in dictionaries, lists and tuples"
                ) from error
            try:
                self.restore_({name: own})
            except Exception as error:
                raise ValueError(
                    f"model: its set_extra_state must take what its get_extra_state has returned, and "
                    f"raises {reason(error)}"
                ) from error

    def refuse_thawed(self) -> None:
        """Refuses parameters that are not in the row and begin to require a gradient: nothing trains them.

        Raises:
            Failure: there are some.
        """
        if thawed := [name for name, parameter in self._frozen.items() if parameter.requires_grad]:
            raise Failure(
                f"model: {', '.join(thawed)} must require a gradient from the beginning to be trained later; "
                "freeze them in the first pass instead (requires_grad_(False)), and thaw them later"
            )

    def refuse_replaced(self, row: Mapping[str, nn.Parameter]) -> None:
        """Refuses a model in which other parameters have come in place of those in the row, or beside them.

        The optimizer and the best weights would go on with those that the model no longer uses. One that is
        tied to another one of the row is right: its own values play no part.

        Args:
            row: the trained parameters, by name.

        Raises:
            Failure: there are some.
        """
        now = dict(self._model.named_parameters(remove_duplicate=False))
        kept = {id(own) for name, own in row.items() if now.get(name) is own}
        replaced = [name for name in row if id(now.get(name)) not in kept]
        known = kept | set(map(id, row.values()))
        new = [name for name, own in now.items() if own.requires_grad and id(own) not in known]
        if replaced := list(dict.fromkeys([*replaced, *new])):
            raise Failure(
                f"model: {', '.join(replaced)} replaced while training: change it in place, with "
                "torch.no_grad() and copy_; layers and parameters must be there from the beginning"
            )

    def parameters(self) -> dict[str, Tensor]:
        """The parameters that are not trained, by name."""
        named = self._model.named_parameters()
        return {name: own.detach() for name, own in named if name not in self._trained}

    def buffers(self) -> dict[str, Tensor]:
        """The buffers, by name."""
        return dict(self._model.named_buffers())

    def tensors(self) -> dict[str, Tensor]:
        """Both."""
        return self.parameters() | self.buffers()

    def extra(self) -> dict[str, Any]:
        """What is in `state_dict` but is neither a parameter nor a buffer, by its key there."""
        return extra_state(self._model) if self._adds else {}

    def copied(self) -> dict[str, Any]:
        """Copies of all of it by name, each tensor on its device."""
        return {name: copied(value) for name, value in (self.tensors() | self.extra()).items()}

    def misfits(self, saved: Mapping[str, Any]) -> list[str]:
        """The names in which a copy is that of another model; its buffers may have other shapes.

        Args:
            saved: as `copied` returns it.
        """
        current = self.tensors() | self.extra()
        parameters = dict(self._model.named_parameters())
        return [
            *current.keys() - saved.keys(),
            *(name for name in saved.keys() - current.keys() if not self._can_hold(name)),
            *(n for n in saved.keys() & parameters.keys() if saved[n].shape != parameters[n].shape),
        ]

    def _can_hold(self, name: str) -> bool:
        """Whether a buffer of this name may be set: it is None now, or its module makes it in its pass."""
        path, _, last = name.rpartition(".")
        try:
            owner = self._model.get_submodule(path)
        except AttributeError:
            return False
        return last in owner._buffers or (last.isidentifier() and not hasattr(owner, last))

    @torch.no_grad()
    def restore_(self, saved: Mapping[str, Any]) -> None:
        """Puts back what `copied` returned, or a part of it.

        Args:
            saved: on any device; it stays as it is.
        """
        device = next(self._model.parameters()).device
        extra = {key: copied(saved[key]) for key in self.extra() if key in saved}
        if extra:  # with all the rest, as a module may ask for it
            self._model.load_state_dict({**self._model.state_dict(), **extra})
        current = self.tensors()
        for name in saved.keys() - extra.keys():
            value, now = saved[name], current.get(name)
            if now is not None and _fits(now, value):
                now.copy_(value)
            else:
                path, _, last = name.rpartition(".")
                own = value.to(device if now is None else now.device, copy=True)
                _set(self._model.get_submodule(path), last, own)


def copied(value: Any) -> Any:
    """A copy of a value; tensors in its lists and dictionaries stay on their device, without a graph."""
    return tree_map(lambda leaf: _clone(leaf) if isinstance(leaf, Tensor) else copy.deepcopy(leaf), value)


def on_cpu(value: Any) -> Any:
    """As `copied`, with the tensors on the CPU and contiguous, as a file holds them."""
    return tree_map(lambda leaf: _to_cpu(leaf) if isinstance(leaf, Tensor) else copy.deepcopy(leaf), value)


def _clone(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _to_cpu(tensor: Tensor) -> Tensor:
    own = tensor.detach().to("cpu", copy=True)
    return own.contiguous() if own.layout is torch.strided else own


def _fits(now: Tensor, value: Tensor) -> bool:
    """Whether a value can be copied into a tensor."""
    return now.shape == value.shape and now.dtype == value.dtype and not shares_memory(now)


def shares_memory(tensor: Tensor) -> bool:
    """Whether elements of a tensor share their memory, so that nothing can be copied into it."""
    if tensor.layout is not torch.strided:
        return False
    return any(size > 1 and not step for size, step in zip(tensor.shape, tensor.stride(), strict=True))


def _set(owner: nn.Module, name: str, value: Tensor) -> None:
    """Gives a module a new buffer, or the parameter of this name new values."""
    if name in owner._parameters:
        owner.get_parameter(name).data = value
    elif name in owner._buffers:
        owner._buffers[name] = value
    else:
        owner.register_buffer(name, value)
