"""Flags of sbatch that are given by name, beside those that sweepwise sets itself."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

LAUNCHER = "hydra.launcher"
PLAIN = re.compile(r"[\w./:@%+-]+")  # what neither the shell nor Hydra reads as more than text
SLURM_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
UNITS = {"K": 2**-20, "M": 2**-10, "": 2**-10, "G": 1.0, "T": 2.0**10}  # in GiB


def _minutes(value: str) -> str:
    """Slurm's time in minutes: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = SLURM_TIME.fullmatch(value)
    if not match:
        return ""
    days, *given = match.groups()
    numbers = [int(number) for number in given if number is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return str(math.ceil(((24 * int(days) + hours) * 3600 + minutes * 60 + seconds) / 60))
    hours, minutes, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    return str(math.ceil((hours * 3600 + minutes * 60 + seconds) / 60))


def _gibibytes(value: str) -> str:
    match = re.fullmatch(r"(\d+)([KMGT]?)B?", value.upper())
    return f"{int(match[1]) * UNITS[match[2]]:g}" if match else ""


def _seconds(value: str) -> str:
    """Of a signal, such as B:USR1@120."""
    return value.rpartition("@")[2] if re.fullmatch(r".*@\d+", value) else ""


def _unchanged(value: str) -> str:
    return value


# The key of hydra.launcher that sets a flag, and what its value is for a value of the flag; '' if unknown.
KEYS: dict[str, tuple[str, Callable[[str], str]]] = {
    "time": ("timeout_min", _minutes),
    "signal": ("signal_delay_s", _seconds),
    "mem": ("mem_gb", _gibibytes),
    "array": ("array_parallelism", lambda value: value.rpartition("%")[2] if "%" in value else ""),
    "ntasks-per-node": ("tasks_per_node", _unchanged),
    "ntasks": ("tasks_per_node", lambda value: ""),
    **{
        name.replace("_", "-"): (name, _unchanged)
        for name in ("partition", "qos", "account", "constraint", "nodes", "cpus_per_task", "gpus_per_node")
    },
    **{
        name: (name, _unchanged)
        for name in ("gres", "exclude", "nodelist", "exclusive", "dependency", "comment")
    },
}
# Flags that no key sets, and why they must stay as they are.
FIXED = {
    "job-name": "jobs are found by it; name=NAME names the sweep",
    "output": "what jobs print is read there",
    "error": "what jobs print is read there",
    "open-mode": "what jobs print is read there",
    "chdir": "jobs must run in the folder of the command",
    "parsable": "what sbatch prints is read",
    "quiet": "what sbatch prints is read",
    "test-only": "nothing would be submitted",
    "wait": "hydra.launcher.wait=true waits",
    "wrap": "the script of a job is ours",
    "clusters": "jobs are looked for in the cluster of the command",
}
OF_SRUN = ("kill-on-bad-exit", "output", "error", "ntasks", "nodes", "ntasks-per-node", "chdir")
SHORT = {"K": "kill-on-bad-exit", "o": "output", "e": "error", "n": "ntasks", "N": "nodes", "D": "chdir"}
# Variables that sbatch heeds more than the flags in a script.
VARIABLES = {
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_SIGNAL": "signal",
    "SBATCH_ARRAY_INX": "array",
    "SBATCH_JOB_NAME": "job-name",
    "SBATCH_OUTPUT": "output",
    "SBATCH_ERROR": "error",
    "SBATCH_OPEN_MODE": "open-mode",
    "SBATCH_CLUSTERS": "clusters",
    "SBATCH_WAIT": "wait",
}


def faults(given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with flags by name, each as 'additional_parameters.NAME=VALUE: rule'.

    Args:
        given: with _ or - between words.
    """
    for name, value in given.items():
        flag = str(name).replace("_", "-")
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        rule = _owned(flag, value)
        if not rule and not re.fullmatch(r"[a-z][a-z0-9-]+", flag):
            rule = "must be named by a long flag of sbatch without its dashes, such as mail-type"
        if not rule and not all(map(_is_scalar, value if isinstance(value, list) else [value])):
            rule = "must be true, a text, a number or a list of them"
        if rule:
            yield f"additional_parameters.{name}={shown}: {rule}"


def written(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as submitit takes them: none that is false or null, and commas between the values of a list."""
    return {
        str(name).replace("_", "-"): ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and value is not False
    }


def srun_faults(arguments: Sequence[str]) -> Iterator[str]:
    """What is wrong with arguments of srun."""
    for argument in arguments:
        word = argument.lstrip("-")
        dashes = argument.removesuffix(word)
        flag = SHORT.get(word[:1], "") if dashes == "-" else word.partition("=")[0] if dashes else ""
        if flag in OF_SRUN:
            yield f"srun_args={argument}: is set by sweepwise; leave it out"


def setup_faults(lines: Sequence[str]) -> Iterator[str]:
    """What is wrong with lines of shell before a job."""
    for line in lines:
        if line.lstrip().startswith("#SBATCH"):
            yield f"setup={line}: sbatch reads no flags there; use {LAUNCHER}.additional_parameters"


def environment_faults(variables: Mapping[str, str]) -> list[str]:
    """What is wrong with environment variables, by which sbatch would override our flags."""
    return [
        f"{name}={variables[name]}: would override what sweepwise sets ({_reason(flag)}); "
        f"start with: env -u {name} python train.py"
        for name, flag in VARIABLES.items()
        if name in variables
    ]


def _owned(flag: str, value: Any) -> str:
    """Why a flag is not to be given; '' if it may be. sbatch takes beginnings of flags, too."""
    owned = [*KEYS, *FIXED]
    names = [flag] if flag in (*owned, "gpus") else [name for name in owned if name.startswith(flag)]
    if not names or names == ["gpus"]:
        return ""
    if names[0] in FIXED:
        return f"is set by sweepwise, as {FIXED[names[0]]}; leave it out"
    key, converted = KEYS[names[0]]
    new = converted(str(value)) if _is_scalar(value) and not isinstance(value, bool) else ""
    new = "true" if value is True and key == "exclusive" else new
    remedy = f", and use {_override(f'{LAUNCHER}.{key}', new)}" if new else ""
    return f"is set by {LAUNCHER}.{key}; leave it out{remedy}"


def _override(key: str, value: str) -> str:
    return f"{key}={value}" if PLAIN.fullmatch(value) else shlex.quote(f'{key}="{value}"')


def _reason(flag: str) -> str:
    return FIXED[flag] if flag in FIXED else f"{LAUNCHER}.{KEYS[flag][0]}"


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
