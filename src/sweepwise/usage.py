"""What a person may write on the command line, and what to answer when it cannot be composed.

Hydra refuses unknown keys and options, but advises to append them; here the override at fault is found again
from the files in conf/ and answered with what would have worked.
"""

import importlib.util
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sweepwise.config import allowlist
from sweepwise.config.groups import EXPERIMENT, GROUPS, LAUNCHER, SETTINGS
from sweepwise.config.schema import check
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.store.request import name_fault, place_fault

NOTES = "README.md"  # in the folder of a group: what holds for all of its options

SYNTAX = (
    "python train.py [GROUP=OPTION ...] [GROUP.KEY=VALUE ...]        one run",
    "python train.py -m GROUP=OPTION,OPTION GROUP.KEY=VALUE,VALUE    a sweep: every combination",
    "",
    "  python train.py init=xavier scheduler=cosine scheduler.warmup=5 optimizer.lr=0.01",
    "  python train.py -m init=xavier,kaiming 'seed.value=range(5)'",
    "  python train.py regularizer=[l1,dropout] regularizer.l1.coefficient=1e-4",
)
COMPLETION = (
    'eval "$(python train.py -sc install=bash)" makes the shell complete groups, options and keys after',
    "`python train.py`; install=zsh and install=fish do the same for these shells.",
)


def folders(conf: Path, arguments: Sequence[str]) -> list[Path]:
    """Where the config groups are: ours, and what `hydra.searchpath` adds on a command line.

    Raises:
        UsageError: an added place is not there.
    """
    added = [a.partition("=")[2] for a in arguments if a.lstrip("+").startswith("hydra.searchpath=")]
    return [conf, *(place(str(entry)) for entry in (yaml.safe_load(added[-1]) or [] if added else []))]


def place(entry: str) -> Path:
    """The folder that an entry of Hydra's search path names: pkg://package.conf or file://folder.

    Raises:
        UsageError: it is not there, or a package that is not allowed.
    """
    scheme, _, name = entry.rpartition("://")
    try:
        allowlist.refuse_package(entry)
    except ValueError as error:
        raise UsageError([f"hydra.searchpath: {error}"]) from error
    try:
        spec = importlib.util.find_spec(name) if scheme == "pkg" else None
    except ImportError:
        spec = None
    within = spec.submodule_search_locations if spec else None
    path = Path(next(iter(within))) if within else Path(name)
    if scheme not in ("pkg", "file", "") or not path.is_dir():
        raise UsageError(
            [f"hydra.searchpath: {entry} is not there; write pkg://PACKAGE.conf or file://FOLDER"]
        )
    return path


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
    if not faults:
        told = name_fault(str(config["name"])), place_fault(config["output_dir"])
        faults = [fault for fault in told if fault]
    if faults:
        raise UsageError(faults)


def show(text: str) -> None:
    """Prints a text; a reader who has seen enough of it (`| head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end


def page(confs: Sequence[Path], arguments: Sequence[str] = ()) -> str:
    """The text of --help: every group, its options and when to use them, and their keys.

    With groups (init) or options (init=xavier, regularizer=[l1,dropout]) among the arguments, all that their
    files say; for a whole group also what holds for all of its options.

    Raises:
        UsageError: there is no such group or option.
    """
    groups = (*GROUPS, EXPERIMENT, LAUNCHER)
    asked = [a.partition("=") for a in arguments if not a.startswith("-")]
    known = [word for word in asked if word[0] in groups]
    for group, equals, _ in asked:
        if not equals and group not in groups:
            raise UsageError([f"--help {group}: no such group; {did_you_mean(group, groups)}"])
    if known:
        parts: list[str] = []
        for group, _, options in known:
            if not options:
                notes = [f"  {line}".rstrip() for line in _notes(confs, group)]
                parts.append("\n".join([f"{group}:", *notes]))
            named = _words(options) or _options(confs, group)
            parts += [_explained(confs, group, option) for option in named]
        return "\n\n".join(parts)
    chosen = _defaults(confs)
    lines = [
        *SYNTAX,
        "",
        "Options marked * are the default. Keys are set as GROUP.KEY=VALUE, hydra.launcher.KEY=VALUE.",
    ]
    for group in (*GROUPS, EXPERIMENT, LAUNCHER):
        lines += ["", f"{group}:"]
        for option in _options(confs, group):
            mark = "*" if option == chosen.get(group) else " "
            path = _file(confs, group, option)
            told = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
            when = next((line for line in told if not line.startswith("@package")), "")
            values = _values(confs, group, option) if group != EXPERIMENT else {}
            keys = " ".join(f"{key}={_plain(value)}" for key, value in values.items())
            lines += _indented(f" {mark} {option:<17}", when)
            lines += _indented(" " * 20, keys)
    top = {key: value for key, value in _load(confs[0] / "train.yaml").items() if key in SETTINGS}
    lines += ["", "for the run: " + " ".join(f"{key}={_plain(value)}" for key, value in top.items())]
    lines += [
        "",
        "--help GROUP or --help GROUP=OPTION explains every key. --hydra-help: Hydra's own flags.",
        *COMPLETION,
    ]
    return "\n".join(lines)


def markdown(confs: Sequence[Path]) -> str:
    """The text of docs/options.md: what --help prints for every group, and links to each option."""
    groups = (*GROUPS, EXPERIMENT, LAUNCHER)
    chosen = _defaults(confs)
    lines = [
        "# Options",
        "",
        "<!-- Written by `python scripts/write_options.py` from conf/. Do not edit it here. -->",
        "",
        "What `python train.py --help GROUP` prints, for every group. The defaults are in bold.",
        "",
        *_fenced("text", [*SYNTAX, "", *COMPLETION]),
        "",
        "| group | options |",
        "|---|---|",
    ]
    for group in groups:
        links = [
            f"**{link}**" if option == chosen.get(group) else link
            for option in _options(confs, group)
            for link in [f"[{option}](#{_anchor(f'{group}={option}')})"]
        ]
        lines.append(f"| [{group}](#{_anchor(group)}) | {', '.join(links)} |")
    content = (confs[0] / "train.yaml").read_text().splitlines()
    own = [line for line in content if line.split(":")[0] in SETTINGS]
    lines += ["", "## The run", "", "Keys that belong to no group.", "", *_fenced("yaml", own)]
    for group in groups:
        lines += ["", f"## {group}", "", *_notes(confs, group)]
        for option in _options(confs, group):
            heading, *text = _explained(confs, group, option).splitlines()
            lines += ["", f"### {heading}", "", *_fenced("yaml", [line[2:] for line in text])]
    return "\n".join(lines) + "\n"


def _fenced(language: str, lines: Sequence[str]) -> list[str]:
    return [f"```{language}", *lines, "```"]


def _anchor(heading: str) -> str:
    """Where a link to a heading leads, by GitHub's rule: letters, digits, `_` and `-` alone."""
    return re.sub(r"[^\w-]", "", heading)


def _notes(confs: Sequence[Path], group: str) -> list[str]:
    """What holds for all options of a group, from the first folder that says it."""
    paths = [conf / group / NOTES for conf in confs]
    return next((path.read_text().splitlines() for path in paths if path.exists()), [])


def _explained(confs: Sequence[Path], group: str, option: str) -> str:
    """An option's file, without what only the program reads.

    Raises:
        UsageError: there is no such option.
    """
    if fault := _option_fault(group, option, confs):
        raise UsageError([fault])
    lines = _file(confs, group, option).read_text().splitlines()
    told = [line for line in lines if not line.startswith(("# @package", "_target_:"))]
    return "\n".join([f"{group}={option}", *(f"  {line}".rstrip() for line in told)])


def _indented(label: str, text: str) -> list[str]:
    width = min(110, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label))


def option_faults(arguments: Sequence[str], confs: Sequence[Path]) -> list[str]:
    """What is wrong by the command line alone: options that Hydra dies of, and folders that it would make."""
    chosen = [argument.partition("=") for argument in arguments if not argument.startswith(("-", "+", "~"))]
    faults = [
        fault
        for key, _, value in chosen
        if key in (*GROUPS, EXPERIMENT) and (fault := _option_fault(key, value, confs))
    ]
    if {"-m", "--multirun"} & set(arguments):  # the folder of a sweep comes before any check of its runs
        plain = [(key, value.strip("'\"")) for key, _, value in chosen if not re.search(r"[($]", value)]
        told = [name_fault(name) for key, value in plain if key == "name" for name in value.split(",")]
        told += [place_fault(value) for key, value in plain if key == "output_dir"]
        faults += filter(None, told)
    return faults


def launcher(arguments: Sequence[str]) -> str:
    """The launcher that a command line asks for; '' if it asks for none."""
    asked = [argument.partition("=") for argument in arguments]
    return next((value for key, _, value in reversed(asked) if key == LAUNCHER), "")


def explain(message: str, arguments: Sequence[str], confs: Sequence[Path]) -> str:
    """What is wrong with the overrides that Hydra has refused, and what would have worked.

    Args:
        message: Hydra's own, used if no override is found at fault.
        arguments: of the command line.
        confs: from `folders`.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    for override in overrides:
        key, _, value = override.partition("=")
        if key == LAUNCHER and f"'{key}/{value}'" in message:  # not one of another plugin's
            return _option_fault(key, value, confs)
    chosen = _choices(overrides, confs)
    faults = [fault for override in overrides if (fault := _fault(override, chosen, confs))]
    return "\n".join(faults) or message


def fault_of(override: str, overrides: Sequence[str], confs: Sequence[Path]) -> str:
    """What is wrong with one of the overrides that Hydra has refused; '' if it seems right."""
    return _fault(override, _choices(overrides, confs), confs)


def _choices(overrides: Sequence[str], confs: Sequence[Path]) -> dict[str, str]:
    chosen = _defaults(confs)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in (*GROUPS, LAUNCHER) and value in _options(confs, key):
            chosen[key] = value
    return chosen


def _fault(override: str, chosen: Mapping[str, str], confs: Sequence[Path]) -> str:
    if override.startswith("~"):
        return f"{override}: nothing can be removed; a group's neutral option is 'none' or 'default'"
    key, equals, value = override.lstrip("+").partition("=")
    above, _, last = key.rpartition(".")
    if above == LAUNCHER.replace("/", "."):
        fault = _key_fault(override, LAUNCHER, last, chosen, confs)
        known = ", ".join(_values(confs, LAUNCHER, chosen[LAUNCHER]))
        return f"{fault} ({known})" if "mean" in fault else fault
    if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
        return ""
    if not equals:
        return f"{override}: must be KEY=VALUE"
    head, _, rest = key.partition(".")
    if head in GROUPS:
        return (
            _option_fault(head, value, confs) if not rest else _key_fault(override, head, rest, chosen, confs)
        )
    if key in SETTINGS:
        return ""
    if key == EXPERIMENT:
        return _option_fault(key, value, confs)
    homes = [f"{g}.{key}" for g in GROUPS if key in _values(confs, g, chosen[g])]
    if homes:
        return f"{override}: unknown; did you mean {homes[0]}={value}?"
    return f"{override}: unknown; {did_you_mean(head, [*GROUPS, EXPERIMENT, *SETTINGS])}"


def _words(value: str) -> list[str]:
    """The options in an override's value: one, several of a sweep, or a list."""
    return [word for word in re.split(r"[,\[\]\s]+", value.strip("'\"")) if word]


def _option_fault(group: str, value: str, confs: Sequence[Path]) -> str:
    options = _options(confs, group)
    for word in _words(value):
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
    keys = _values(confs, group, option)
    if group == "regularizer":
        option, _, key = key.partition(".")
        if option not in _options(confs, group):
            return f"{override}: write regularizer.OPTION.KEY; options: {', '.join(_options(confs, group))}"
        keys = _values(confs, group, option)
        if key in keys:
            return f"{override}: that regularizer is not chosen; add regularizer={option}"
    if key == "_target_" or key.split(".")[0] in keys:
        return ""
    if _load(_file(confs, group, option)).get("_target_") == "???":
        own = f"{override}: the keys of {group}={option} that belong to its _target_ have a + in front"
        return "" if override.startswith("+") else f"{own}: +{override}"
    others = [other for other in _options(confs, group) if key in _values(confs, group, other)]
    if others:
        return (
            f"{override}: {group}={option} has no {key!r}; {' and '.join(others)} "
            f"{'has' if len(others) == 1 else 'have'}: add {group}={others[0]}"
        )
    return f"{override}: {group}={option} has no {key!r}; {did_you_mean(key, keys)}"


def _options(confs: Sequence[Path], group: str) -> list[str]:
    return sorted({path.stem for conf in confs for path in (conf / group).glob("*.yaml")})


def _file(confs: Sequence[Path], group: str, option: str) -> Path:
    """Where an option stands: in the first folder that has it, as Hydra finds it."""
    paths = [conf / group / f"{option}.yaml" for conf in confs]
    return next((path for path in paths if path.exists()), paths[0])


def _defaults(confs: Sequence[Path]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for entry in _load(confs[0] / "train.yaml")["defaults"]:
        if isinstance(entry, dict):
            chosen |= {str(group).removeprefix("override "): option for group, option in entry.items()}
    return chosen


def _values(confs: Sequence[Path], group: str, option: str) -> dict[str, Any]:
    """The keys of an option with their values, those it takes over from its own defaults included."""
    content = _load(_file(confs, group, option))
    values: dict[str, Any] = {}
    for other in content.pop("defaults", []):
        values |= _values(confs, group, other) if other != "_self_" else {}
    return values | {key: value for key, value in content.items() if key != "_target_"}


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
