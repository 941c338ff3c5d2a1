"""Ranges as they are written: range(0.1,0.5,0.1) holds 0.3, where Hydra's has 0.30000000000000004.

Hydra adds the step as the binary fraction next to what is written, so that sums drift, and now and then the
end is a value too. Its sort() begins a step before the end: sort(range(1,10,4),reverse=true) is 6,2,-2.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from hydra._internal.grammar import grammar_functions
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Transformer, ValueType

from sweepwise.errors import UsageError

MOST_SHOWN = 6  # values of a range in a note


def parsed(lines: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """Overrides in Hydra's grammar, whose ranges hold the values that are written.

    Raises:
        UsageError: a range has no end, or no step.
    """
    functions = create_functions()
    functions.functions["sort"] = _sort
    overrides = OverridesParser(functions, config_loader=loader).parse_overrides(list(lines))
    faults = [fault for override in overrides if (fault := _fault(override))]
    if faults:
        raise UsageError(faults)
    for override in overrides:
        if isinstance(override._value, RangeSweep):
            override._value, override.value_type = _choice(override._value), ValueType.CHOICE_SWEEP
    return overrides


def notes(overrides: Sequence[Override], loader: ConfigLoader) -> list[str]:
    """A line for each range whose values are not those of Hydra.

    Args:
        overrides: from `parsed`.
        loader: Hydra's.
    """
    lines = []
    plain = OverridesParser.create(config_loader=loader)
    for override in overrides:
        line = override.input_line or ""
        if isinstance(override._value, ChoiceSweep) and "range" in line:
            ours = list(map(Transformer.str, override._value.list))
            hydras = list(plain.parse_override(line).sweep_string_iterator())
            if sorted(ours) != sorted(hydras):
                others = [value for value in hydras if value not in ours]
                of_hydra = f"Hydra's own range has {_shown(others)}" if others else "Hydra's own has fewer"
                lines.append(f"{line}: is {_shown(ours)}, as it is written; {of_hydra}")
    return lines


def _shown(values: Sequence[str]) -> str:
    if len(values) <= MOST_SHOWN:
        return ",".join(values)
    return f"{','.join(values[:3])},...,{values[-1]} ({len(values):,} values)"


def _fault(override: Override) -> str:
    sweep = override._value
    if not isinstance(sweep, RangeSweep):
        return ""
    numbers = [number for number in (sweep.start, sweep.stop, sweep.step) if number is not None]
    if not all(map(math.isfinite, numbers)):
        return f"{override.input_line}: start, stop and step of a range must be finite"
    return "" if sweep.step else f"{override.input_line}: the step of a range must not be 0"


def _choice(sweep: RangeSweep) -> ChoiceSweep:
    return ChoiceSweep(tags=sweep.tags, list=[*_values(sweep)], shuffle=sweep.shuffle)


def _values(sweep: RangeSweep) -> list[Any]:
    """The values of a range, after the casts around it, which Hydra 1.4 keeps apart from start and stop."""
    values: list[Any] = _numbers(sweep)
    for cast in getattr(sweep, "transformers", ()):
        values = list(map(cast, values))
    return values


def _numbers(sweep: RangeSweep) -> list[Any]:
    """start, start + step, ... before stop, by exact arithmetic on the numbers as they are written."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None and stop is not None
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return list(range(start, stop, step))
    first, end, by = (Fraction(str(number)) for number in (start, stop, step))
    return [float(first + index * by) for index in range(math.ceil((end - first) / by))]


def _sort(*args: Any, sweep: Any = None, list: Any = None, reverse: bool = False) -> Any:
    """Hydra's, but for a range: its own values, sorted."""
    one = sweep if sweep is not None else args[0] if len(args) == 1 else None
    if not isinstance(one, RangeSweep) or list is not None:
        return grammar_functions.sort(*args, sweep=sweep, list=list, reverse=reverse)
    if not one.step:
        return one  # which `parsed` refuses
    return ChoiceSweep(tags=one.tags, list=[*sorted(_values(one), reverse=reverse)])
