"""Passes of a model that leave no trace in it, and trainings that can be begun again."""

import copy
import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import CellType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweepwise.init.checkpoint import extra_state
from sweepwise.learner.generators import generator_state, is_generator, place_generator
from sweepwise.learner.known import changes_buffers_only
from sweepwise.learner.reach import CONTAINERS, content, reached
from sweepwise.learner.untrained import copied, shares_memory
from sweepwise.seed import draws, way_back_of_generators


@contextmanager
def without_trace(model: nn.Module) -> Iterator[None]:
    """Within it the model may be passed at will: at the end it is as before, and so are global generators.

    Restored are its parameters (a model may move them itself), its buffers, what it has in `state_dict`
    besides, its modes, and whatever its modules hold: numbers, tensors, generators, lists, other objects,
    also those that only its hooks know.

    Args:
        model: any, but not one of torch's sharded ones.
    """
    if changes_buffers_only(model):
        with _restored(model, _modes_and_buffers(model), generators=draws(model)):
            yield
    else:
        with _restored(model, [value for _, value in reached(model)]):
            yield


@contextmanager
def trial_copy(model: nn.Module) -> Iterator[nn.Module]:
    """A copy of a model, which may be passed at will; the model itself, if it cannot or need not be copied.

    It need not if its passes are known to change nothing but buffers. At the end the model is as before, and
    so are global generators. Functions are not copied: what they share with the model is restored as by
    `without_trace`, and so is all of a model that cannot be copied.

    Args:
        model: any, but not one of torch's sharded ones.
    """
    if changes_buffers_only(model):
        with without_trace(model):
            yield model
        return
    try:
        own = copy.deepcopy(model)
    except Exception:
        own = model
    present = [value for _, value in reached(model)]
    known = set(map(id, present))
    with _restored(model, [value for _, value in reached(own) if id(value) in known]):
        yield own


def way_back(model: nn.Module, others: Sequence[Any] = (), without: Sequence[Any] = ()) -> Callable[[], None]:
    """A function that brings a model, and all that it holds, back to how it is now; as often as it is called.

    Args:
        model: as for `without_trace`. Nothing refers to it once it is gone.
        others: objects that are brought back with it.
        without: objects that are left as they are.
    """
    extra, owner = copied(extra_state(model)), weakref.ref(model)
    values = {id(value): value for root in (model, *others) for _, value in reached(root, without)}
    modules = [own for own in values.values() if isinstance(own, nn.Module) and own is not model]
    kinds = [(weakref.ref(own), type(own)) for own in (model, *modules)]
    undo = list(map(_restoring, values.values()))

    @torch.no_grad()
    def go_back() -> None:
        for module, kind in kinds:  # a parametrization gives a layer another class
            if (own := module()) is not None and type(own) is not kind:
                own.__class__ = kind
        for restore in reversed(undo):
            restore()
        if extra and (whole := owner()) is not None:
            whole.load_state_dict({**whole.state_dict(), **copied(extra)})

    return go_back


def _modes_and_buffers(model: nn.Module) -> list[Any]:
    """What a pass of a known model may change, and what `train` and `eval` do."""
    modules = list(model.modules())
    buffers = [own for module in modules for own in module._buffers.values() if own is not None]
    return [*map(vars, modules), *(module._buffers for module in modules if module._buffers), *buffers]


@contextmanager
def _restored(model: nn.Module, values: Sequence[Any], *, generators: bool = True) -> Iterator[None]:
    """Restores these values, which a model holds, and the global generators if that is asked for."""
    extra = copied(extra_state(model)) if any(value is model for value in values) else {}
    undo: list[Callable[[], object]] = [
        *([way_back_of_generators()] if generators else []),
        *map(_restoring, values),
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for restore in reversed(undo):
                restore()
            if extra:
                model.load_state_dict({**model.state_dict(), **extra})


def _restoring(value: Any) -> Callable[[], object]:
    """A function that gives an object its content again."""
    if isinstance(value, Tensor) and not value.is_inference():  # such a one cannot be changed here
        return _restoring_tensor(value)
    if isinstance(value, CONTAINERS):
        return partial(_replace_content, value, value.copy())
    if isinstance(value, CellType):
        return partial(setattr, value, "cell_contents", content(value))
    if is_generator(value):
        return partial(place_generator, value, generator_state(value))
    if isinstance(value, np.ndarray) and value.flags.writeable:
        return partial(np.copyto, value, value.copy())
    return _nothing


def _restoring_tensor(tensor: Tensor) -> Callable[[], object]:
    """A function that gives a tensor its memory and its values again."""
    own = tensor.detach()
    before = own if shares_memory(own) else own.clone()
    trained = tensor.requires_grad

    def restore() -> None:
        if tensor.is_leaf:
            tensor.requires_grad_(trained)
        if before is not own:
            own.copy_(before)
        tensor.data = own

    return restore


def _replace_content(value: Any, before: Any) -> None:
    """Restores a container, unless it is as it was: others may use it at the same time."""
    if not _same(value, before):
        value.clear()
        (value.update if isinstance(value, (dict, set)) else value.extend)(before)


def _same(one: Any, other: Any) -> bool:
    """Whether a container holds the very objects that another one holds."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(operator.is_, one.values(), other.values()))
    if isinstance(one, set):
        return bool(one == other)
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _nothing() -> None:
    """There is nothing to restore."""
