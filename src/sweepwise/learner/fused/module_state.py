"""What a model keeps beside its parameters and buffers, so that it can be seen whether a pass changes it."""

import io
from collections.abc import Container, Mapping
from pickle import HIGHEST_PROTOCOL, Pickler
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

SMALL = 2**16  # bytes of a tensor that is looked into
IDENTICAL = (type, BuiltinFunctionType, ModuleType)
PLAIN = (bool, int, float, str, type(None))
LIBRARIES = ("builtins", "torch.", "sweepwise.")  # whose classes remember nothing
PARTS = ("_parameters", "_modules", "_buffers")  # whose tensors and modules are looked at elsewhere


class Remembered:
    """The attributes of a model's modules and of their classes, by value: numbers, texts, any objects.

    Functions are told apart by which they are and what they hold, classes and what cannot be pickled by which
    they are, large tensors also by how often they have been changed in place.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept: list[object] = []  # no other object can have their place meanwhile
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
        """The first attribute that is another now, such as 'Model.calls'; '' if none is."""
        before, now = self._values, Remembered(model)._values
        for place in before | now:
            one, other = before.get(place, self), now.get(place, self)
            if one is not other and one != other:
                _, kind, key = place
                return f"{kind}.{key}"
        return ""

    def _picture(self, value: object) -> object:
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, (dict, list, set, tuple)) and not value:
            return type(value)
        written = io.BytesIO()
        try:
            _Pickler(written, self._kept, self._own).dump(value)
        except Exception:
            self._kept.append(value)
            return b"%d" % id(value)
        return written.getvalue()


def _empty(parts: Mapping[str, object]) -> dict[str, bool]:
    """Which of a module's tensors or modules there are, and which are None."""
    return {name: part is None for name, part in parts.items()}


def _content(cell: CellType) -> object:
    """What a function's own variable is; None, too, if it has none yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


class _Pickler(Pickler):
    """Writes what a value consists of; what is pickled here is compared, and never loaded."""

    def __init__(self, file: io.BytesIO, kept: list[object], own: Container[int]) -> None:
        super().__init__(file)
        self._kept, self._own = kept, own
        self._functions: set[int] = set()  # that have been looked into

    def persistent_id(self, value: Any) -> object:
        """Of what is not looked into: which it is."""
        if isinstance(value, Tensor):
            if value.nbytes <= SMALL:
                return value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
            found: tuple[object, ...] = id(value), value._version
        elif isinstance(value, FunctionType):
            found = id(value), *self._held(value)
        elif isinstance(value, IDENTICAL) or id(value) in self._own:
            found = id(value), 0
        else:
            return None
        self._kept.append(value)
        return found

    def _held(self, function: FunctionType) -> tuple[object, ...]:
        """What a function holds, the first time that it is met."""
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
        """As pickle does it, or which it is."""
        try:
            value.__reduce_ex__(HIGHEST_PROTOCOL)
        except Exception:
            self._kept.append(value)
            return int, (id(value),)
        return NotImplemented
