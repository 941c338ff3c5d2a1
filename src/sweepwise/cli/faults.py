"""Error messages for a command that cannot be composed: the faulty override, and what would have worked."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweepwise.cli.options import default_options, file_of, load_yaml, options_of, values_of
from sweepwise.config.groups import EXPERIMENT, GROUPS, LAUNCHER, SETTINGS
from sweepwise.config.schema import check
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.store.request import name_fault, output_dir_fault


def check_shape(config: Mapping[str, Any]) -> None:
    """Refuses a composed config in which a key that every run needs is missing or has the wrong type.

    Raises:
        UsageError: with every fault.
    """
    faults = [
        f"{group}: must be one of its options; it was removed or replaced"
        for group in GROUPS
        if not isinstance(config.get(group), Mapping)
    ]
    for key, kind in SETTINGS.items():
        faults += check(key, config[key], kind) if key in config else [f"{key}: must be given"]
    if not faults:
        path_faults = name_fault(str(config["name"])), output_dir_fault(config["output_dir"])
        faults = [fault for fault in path_faults if fault]
    if faults:
        raise UsageError(faults)


def option_faults(arguments: Sequence[str], confs: Sequence[Path]) -> list[str]:
    """Faults that show on the command line alone: unknown options, and folders that Hydra must not make."""
    chosen = [argument.partition("=") for argument in arguments if not argument.startswith(("-", "+", "~"))]
    faults = [
        fault
        for key, _, value in chosen
        if key in (*GROUPS, EXPERIMENT) and (fault := option_fault(key, value, confs))
    ]
    if {"-m", "--multirun"} & set(arguments):  # Hydra makes the folder of a sweep before it checks the runs
        plain = [(key, value.strip("'\"")) for key, _, value in chosen if not re.search(r"[($]", value)]
        path_faults = [name_fault(name) for key, value in plain if key == "name" for name in value.split(",")]
        path_faults += [output_dir_fault(value) for key, value in plain if key == "output_dir"]
        faults += filter(None, path_faults)
    return faults


def chosen_launcher(arguments: Sequence[str]) -> str:
    """The launcher that a command line chooses; '' if it chooses none."""
    asked = [argument.partition("=") for argument in arguments]
    return next((value for key, _, value in reversed(asked) if key == LAUNCHER), "")


def explain(message: str, arguments: Sequence[str], confs: Sequence[Path]) -> str:
    """What is wrong with the overrides that Hydra has refused, and what would have worked.

    Args:
        message: Hydra's own, which is used if no fault is found in an override.
        arguments: of the command line.
        confs: from `options.folders`.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    for override in overrides:
        key, _, value = override.partition("=")
        if key == LAUNCHER and f"'{key}/{value}'" in message:  # not one of another plugin's
            return option_fault(key, value, confs)
    chosen = _choices(overrides, confs)
    faults = [fault for override in overrides if (fault := _fault(override, chosen, confs))]
    return "\n".join(faults) or message


def fault_of(override: str, overrides: Sequence[str], confs: Sequence[Path]) -> str:
    """What is wrong with one of the overrides that Hydra has refused; '' if it seems right."""
    return _fault(override, _choices(overrides, confs), confs)


def _choices(overrides: Sequence[str], confs: Sequence[Path]) -> dict[str, str]:
    chosen = default_options(confs)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in (*GROUPS, LAUNCHER) and value in options_of(confs, key):
            chosen[key] = value
    return chosen


def _fault(override: str, chosen: Mapping[str, str], confs: Sequence[Path]) -> str:
    if override.startswith("~"):
        return f"{override}: nothing can be removed; a group's neutral option is 'none' or 'default'"
    key, equals, value = override.lstrip("+").partition("=")
    above, _, last = key.rpartition(".")
    if above == LAUNCHER.replace("/", "."):
        fault = _key_fault(override, LAUNCHER, last, chosen, confs)
        known = ", ".join(values_of(confs, LAUNCHER, chosen[LAUNCHER]))
        return f"{fault} ({known})" if "mean" in fault else fault
    if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
        return ""
    if not equals:
        return f"{override}: must be KEY=VALUE"
    head, _, rest = key.partition(".")
    if head in GROUPS:
        return (
            option_fault(head, value, confs) if not rest else _key_fault(override, head, rest, chosen, confs)
        )
    if key in SETTINGS:
        return ""
    if key == EXPERIMENT:
        return option_fault(key, value, confs)
    homes = [f"{g}.{key}" for g in GROUPS if key in values_of(confs, g, chosen[g])]
    if homes:
        return f"{override}: unknown; did you mean {homes[0]}={value}?"
    return f"{override}: unknown; {did_you_mean(head, [*GROUPS, EXPERIMENT, *SETTINGS])}"


def words_of(value: str) -> list[str]:
    """The options in an override's value: one, several of a sweep, or a list."""
    return [word for word in re.split(r"[,\[\]\s]+", value.strip("'\"")) if word]


def option_fault(group: str, value: str, confs: Sequence[Path]) -> str:
    """What is wrong with the options that an override chooses; '' if nothing is."""
    options = options_of(confs, group)
    for word in words_of(value):
        if word in options:
            continue
        if group == "seed" and re.fullmatch(r"[-+\d.e]+|range\(.*\)", word):
            written = f"seed.value={value.strip('[]')}"
            if re.search("[,(]", value):
                written = f"-m '{written}'"
            return f"seed={value}: seed is a group of options ({', '.join(options)}); write {written}"
        hint = did_you_mean(word, options)
        return f"{group}={word}: no such option; {hint}" + (
            f" ({', '.join(options)})" if "mean" in hint else ""
        )
    return ""


def _key_fault(override: str, group: str, key: str, chosen: Mapping[str, str], confs: Sequence[Path]) -> str:
    option = chosen[group]
    keys = values_of(confs, group, option)
    if group == "regularizer":
        option, _, key = key.partition(".")
        if option not in options_of(confs, group):
            return f"{override}: write regularizer.OPTION.KEY; options: {', '.join(options_of(confs, group))}"
        keys = values_of(confs, group, option)
        if key in keys:
            return f"{override}: that regularizer is not chosen; add regularizer={option} to the command"
    if key == "_target_" or key.split(".")[0] in keys:
        return ""
    if load_yaml(file_of(confs, group, option)).get("_target_") == "???":
        own = f"{override}: keys that belong to the _target_ of {group}={option} need a + in front"
        return "" if override.startswith("+") else f"{own}: +{override}"
    others = [other for other in options_of(confs, group) if key in values_of(confs, group, other)]
    if others:
        return (
            f"{override}: {group}={option} has no {key!r}; {' and '.join(others)} "
            f"{'has' if len(others) == 1 else 'have'}: add {group}={others[0]}"
        )
    return f"{override}: {group}={option} has no {key!r}; {did_you_mean(key, keys)}"
