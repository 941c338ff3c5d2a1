"""What a model keeps besides parameters and buffers, to find out whether a forward pass changes it."""

import io
from collections.abc import Container, Mapping
from pickle import HIGHEST_PROTOCOL, Pickler
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

SMALL = 2**16  # bytes up to which a tensor is compared by value
BY_IDENTITY = (type, BuiltinFunctionType, ModuleType)
PLAIN = (bool, int, float, str, type(None))
LIBRARIES = ("builtins", "torch.", "sweepwise.")  # whose classes keep no state
PARTS = ("_parameters", "_modules", "_buffers")  # whose tensors and modules are compared elsewhere


class ModuleState:
    """The attributes of a model's modules and of their classes, by value: numbers, texts, any objects.

    Functions are compared by identity and by what they hold; classes, and objects that cannot be pickled, by
    identity; large tensors by identity and by how often they were changed in place.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept_alive: list[object] = []  # so that no other object gets their id
        self._own = set(map(id, model.modules()))
        self._values = {
            (name, type(module).__name__, key): self._picture(_empty(value) if key in PARTS else value)
            for name, module in model.named_modules()
            for key, value in vars(module).items()
        } | {
            (None, kind.__name__, key): self._picture(value)
            for kind in {kind for module in model.modules() for kind in type(module).__mro__}
            if not kind.__module__.startswith(LIBRARIES)
            for key, value in vars(kind).items()
        }

    def changed(self, model: nn.Module) -> str:
        """The first attribute that differs now, such as 'Model.calls'; '' if none does."""
        before, now = self._values, ModuleState(model)._values
        for attribute in before | now:
            one, other = before.get(attribute, self), now.get(attribute, self)
            if one is not other and one != other:
                _, kind, name = attribute
                return f"{kind}.{name}"
        return ""

    def _picture(self, value: object) -> object:
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, (dict, list, set, tuple)) and not value:
            return type(value)
        written = io.BytesIO()
        try:
            _Pickler(written, self._kept_alive, self._own).dump(value)
        except Exception:
            self._kept_alive.append(value)
            return b"%d" % id(value)
        return written.getvalue()


def _empty(parts: Mapping[str, object]) -> dict[str, bool]:
    """The names of a module's tensors or modules, and whether each is None."""
    return {name: part is None for name, part in parts.items()}


def _content(cell: CellType) -> object:
    """The value of a closure's variable; None if it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


class _Pickler(Pickler):
    """Writes a value's content, which is compared but never loaded."""

    def __init__(self, file: io.BytesIO, kept_alive: list[object], own: Container[int]) -> None:
        super().__init__(file)
        self._kept_alive, self._own = kept_alive, own
        self._functions: set[int] = set()  # whose content is written already

    def persistent_id(self, value: Any) -> object:
        """The identity of a value whose content is not written; None: it is."""
        if isinstance(value, Tensor):
            if value.nbytes <= SMALL:
                return value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
            identity: tuple[object, ...] = id(value), value._version
        elif isinstance(value, FunctionType):
            identity = id(value), *self._held(value)
        elif isinstance(value, BY_IDENTITY) or id(value) in self._own:
            identity = id(value), 0
        else:
            return None
        self._kept_alive.append(value)
        return identity

    def _held(self, function: FunctionType) -> tuple[object, ...]:
        """What a function holds; nothing if that is written already."""
        if id(function) in self._functions:
            return ()
        self._functions.add(id(function))
        return (
            [_content(cell) for cell in function.__closure__ or ()],
            function.__defaults__,
            function.__kwdefaults__,
            vars(function),
        )

    def reducer_override(self, value: Any) -> Any:
        """Pickle's own way, or the id of a value that pickle cannot write."""
        try:
            value.__reduce_ex__(HIGHEST_PROTOCOL)
        except Exception:
            self._kept_alive.append(value)
            return int, (id(value),)
        return NotImplemented
