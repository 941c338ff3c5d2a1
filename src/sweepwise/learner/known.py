"""Models of which it is known what a pass changes, as nothing but layers of torch's and ours takes part."""

import weakref
from operator import itemgetter
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

HOMES = ("torch.nn.modules.", "sweepwise.model.")  # whose modules keep nothing but buffers from pass to pass
PLAIN = (bool, int, float, str, torch.dtype, torch.device, type(None))
HELD = (*PLAIN, nn.Parameter, weakref.ReferenceType)  # recurrent layers have lists of their parameters
TENSORS = (nn.Parameter, torch.Tensor, type(None))
OWN = frozenset(vars(nn.Module()))  # what every module has; hooks are among them
_hooks = itemgetter(*(name for name in OWN if "hooks" in name and name != "_is_full_backward_hook"))


def changes_buffers_only(model: nn.Module) -> bool:
    """Whether a pass is known to change only buffers and the global generators.

    So it is if all modules are torch's own layers or of our models, without hooks or a forward pass of their
    own, and hold nothing but tensors, numbers and texts.

    Example:
        >>> changes_buffers_only(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        True
        >>> layer = nn.Linear(2, 3)
        >>> _ = layer.register_forward_hook(print)
        >>> changes_buffers_only(layer)
        False
    """
    return not _has_any_global_hook() and all(map(_is_known, model.modules()))


def layers_of(model: nn.Module) -> list[Any] | None:
    """All that a known model is, but for the values of its tensors; None: it is not known.

    Models of which it is equal pass the same examples, and their passes do the same to them.
    """
    if not changes_buffers_only(model):
        return None
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    names = {id(own): name for name, own in named}
    tensors = [
        (name, names[id(own)], own.shape, own.dtype, own.device, own.requires_grad) for name, own in named
    ]
    modules = [
        (name, type(module), module.training, [pair for pair in vars(module).items() if _counts(*pair)])
        for name, module in model.named_modules(remove_duplicate=False)
    ]
    return [tensors, modules]


def _counts(name: str, value: Any) -> bool:
    """Whether an attribute of a module is a setting; lists of parameters hold those that have names."""
    return name not in OWN and _is_plain(value, PLAIN)


def _is_known(module: nn.Module) -> bool:
    own = vars(module)
    if not type(module).__module__.startswith(HOMES) or not own.keys() >= OWN or any(_hooks(own)):
        return False
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if type(tensor) not in TENSORS or getattr(tensor, "_backward_hooks", None):
            return False
    if own.get("max_norm") is not None:  # an embedding then scales its weights in its pass
        return False
    return all(_is_plain(own[name]) for name in own.keys() - OWN)


def _is_plain(value: Any, kinds: tuple[type, ...] = HELD) -> bool:
    """Whether it is of one of these kinds, or a list of such."""
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one, kinds) for one in value)
    return isinstance(value, kinds)
