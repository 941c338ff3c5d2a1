"""What a person may write on the command line, and what to answer when it cannot be composed.

Hydra refuses unknown keys and options, but advises to append them; here the override at fault is found again
from the files in conf/ and answered with what would have worked.
"""

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sweepwise.record import SAFE_NAME
from sweepwise.schema import UsageError, check, did_you_mean

GROUPS = (
    "seed",
    "data",
    "model",
    "init",
    "optimizer",
    "scheduler",
    "regularizer",
    "early_stop",
    "trainer",
    "monitor",
)
EXPERIMENT = "experiment"  # a group of whole settings, above all others; none is chosen by default
SETTINGS = {"name": str | int, "output_dir": str, "fresh": bool, "progress": bool}


def check_shape(config: Mapping[str, Any]) -> None:
    """Refuses a composed config in which something that every run needs is missing or of the wrong kind.

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
    if not faults and not SAFE_NAME.fullmatch(str(config["name"])):
        faults.append(f"name={config['name']}: must be letters, digits and any of . _ + - =, and no path")
    if faults:
        raise UsageError(faults)


def page(conf: Path) -> str:
    """The text of --help: every group, its options and when to use them, and their keys."""
    chosen = _defaults(conf)
    lines = [
        "python train.py [GROUP=OPTION ...] [GROUP.KEY=VALUE ...]        one run",
        "python train.py -m GROUP=OPTION,OPTION GROUP.KEY=VALUE,VALUE    a sweep: every combination",
        "",
        "  python train.py init=xavier scheduler=cosine scheduler.warmup=5 optimizer.lr=0.01",
        "  python train.py -m init=xavier,kaiming 'seed.value=range(5)'",
        "  python train.py regularizer=[l1,dropout] regularizer.l1.coefficient=1e-4",
        "",
        "Options marked * are the default. Keys are set as GROUP.KEY=VALUE.",
    ]
    for group in (*GROUPS, EXPERIMENT):
        lines += ["", f"{group}:"]
        for option in _options(conf, group):
            mark = "*" if option == chosen.get(group) else " "
            path = conf / group / f"{option}.yaml"
            told = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
            when = next((line for line in told if not line.startswith("@package")), "")
            values = _values(conf, group, option) if group in GROUPS else {}
            keys = " ".join(f"{key}={_plain(value)}" for key, value in values.items())
            lines += _indented(f" {mark} {option:<17}", when)
            lines += _indented(" " * 20, keys)
    top = {key: value for key, value in _load(conf / "train.yaml").items() if key in SETTINGS}
    lines += ["", "for the run: " + " ".join(f"{key}={_plain(value)}" for key, value in top.items())]
    lines += [
        "",
        "Every key is explained in its file, conf/GROUP/OPTION.yaml. --hydra-help: Hydra's own flags.",
    ]
    return "\n".join(lines)


def _indented(label: str, text: str) -> list[str]:
    width = min(110, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label))


def option_faults(arguments: Sequence[str], conf: Path) -> list[str]:
    """Options that do not exist, found from the command line alone: Hydra dies of some of them."""
    chosen = (argument.partition("=") for argument in arguments if not argument.startswith(("-", "+", "~")))
    return [
        fault
        for key, _, value in chosen
        if key in (*GROUPS, EXPERIMENT) and (fault := _option_fault(key, value, conf))
    ]


def explain(message: str, arguments: Sequence[str], conf: Path) -> str:
    """What is wrong with the overrides that Hydra has refused, and what would have worked.

    Args:
        message: Hydra's own, used if no override is found at fault.
        arguments: of the command line.
        conf: the folder of the config groups.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    chosen = _defaults(conf)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in GROUPS and (conf / key / f"{value}.yaml").exists():
            chosen[key] = value
    faults = [fault for override in overrides if (fault := _fault(override, chosen, conf))]
    return "\n".join(faults) or message


def _fault(override: str, chosen: Mapping[str, str], conf: Path) -> str:
    if override.startswith("~"):
        return f"{override}: nothing can be removed; a group's neutral option is 'none' or 'default'"
    key, equals, value = override.lstrip("+").partition("=")
    if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
        return ""
    if not equals:
        return f"{override}: must be KEY=VALUE"
    head, _, rest = key.partition(".")
    if head in GROUPS:
        return (
            _option_fault(head, value, conf) if not rest else _key_fault(override, head, rest, chosen, conf)
        )
    if key in SETTINGS:
        return ""
    if key == EXPERIMENT:
        return _option_fault(key, value, conf)
    homes = [f"{g}.{key}" for g in GROUPS if key in _values(conf, g, chosen[g])]
    if homes:
        return f"{override}: unknown; did you mean {homes[0]}={value}?"
    return f"{override}: unknown; {did_you_mean(head, [*GROUPS, EXPERIMENT, *SETTINGS])}"


def _option_fault(group: str, value: str, conf: Path) -> str:
    options = _options(conf, group)
    for word in re.split(r"[,\[\]\s]+", value.strip("'\"")):
        if not word or word in options:
            continue
        if group == "seed" and re.fullmatch(r"[-+\d.e]+|range\(.*\)", word):
            return (
                f"seed={value}: seed is a group of options ({', '.join(options)}); write seed.value={value}"
            )
        return f"{group}={word}: no such option; {did_you_mean(word, options)} ({', '.join(options)})"
    return ""


def _key_fault(override: str, group: str, key: str, chosen: Mapping[str, str], conf: Path) -> str:
    option = chosen[group]
    keys = _values(conf, group, option)
    if group == "regularizer":
        option, _, key = key.partition(".")
        if option not in _options(conf, group):
            return f"{override}: write regularizer.OPTION.KEY; options: {', '.join(_options(conf, group))}"
        keys = _values(conf, group, option)
        if key in keys:
            return f"{override}: that regularizer is not chosen; add regularizer={option}"
    if key in keys or key.split(".")[0] in keys:
        return ""
    others = [other for other in _options(conf, group) if key in _values(conf, group, other)]
    if others:
        return (
            f"{override}: {group}={option} has no {key!r}; {' and '.join(others)} "
            f"{'has' if len(others) == 1 else 'have'}: add {group}={others[0]}"
        )
    return f"{override}: {group}={option} has no {key!r}; {did_you_mean(key, keys)}"


def _options(conf: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def _defaults(conf: Path) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for entry in _load(conf / "train.yaml")["defaults"]:
        if isinstance(entry, dict):
            chosen |= entry
    return chosen


def _values(conf: Path, group: str, option: str) -> dict[str, Any]:
    """The keys of an option with their values, those it takes over from its own defaults included."""
    content = _load(conf / group / f"{option}.yaml")
    values: dict[str, Any] = {}
    for other in content.pop("defaults", []):
        values |= _values(conf, group, other) if other != "_self_" else {}
    return values | {key: value for key, value in content.items() if key != "_target_"}


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
