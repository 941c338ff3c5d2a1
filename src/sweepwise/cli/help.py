"""The text of --help and of docs/options.md, from the configs that Hydra finds."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import yaml

from sweepwise.cli.faults import option_fault
from sweepwise.cli.options import (
    Confs,
    chosen_options,
    named,
    notes_of,
    options_of,
    primary_of,
    text_of,
    values_of,
)
from sweepwise.config.groups import EXPERIMENT, GROUPS, LAUNCHER, SETTINGS
from sweepwise.errors import UsageError, did_you_mean

NOTES = "README.md"  # in the folder of a group: notes for all of its options

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


def show(text: str) -> None:
    """Prints a text; it is no error if the reader closes the pipe before its end (`| head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end


def page(confs: Confs, arguments: Sequence[str] = ()) -> str:
    """The text of --help: every group, its options and when to use them, and their keys.

    For each group (init) or option (init=xavier, regularizer=[l1,dropout]) among the arguments: the whole
    text of their files; for a group also its notes.

    Raises:
        UsageError: there is no such group or option.
    """
    groups = (*GROUPS, EXPERIMENT, LAUNCHER)
    asked = [word for word in arguments if not word.startswith("-")]
    parts: list[str] = []
    for word in asked:
        for choice in confs.parsed([word]) if "=" in word else []:
            if choice.key_or_group in groups or confs.repository.group_exists(choice.key_or_group):
                parts += [_explained(confs, choice.key_or_group, option) for option in named(choice)]
        if "=" not in word:
            if word not in groups and not confs.repository.group_exists(word):
                raise UsageError([f"--help {word}: no such group; {did_you_mean(word, groups)}"])
            notes = [f"  {line}".rstrip() for line in notes_of(confs, word, NOTES).splitlines()]
            parts.append("\n".join([f"{word}:", *notes]))
            parts += [_explained(confs, word, option) for option in options_of(confs, word)]
    if parts:
        return "\n\n".join(parts)
    chosen = chosen_options(confs, confs.parsed(asked))
    lines = [
        *SYNTAX,
        "",
        "Options marked * are the default. Keys are set as GROUP.KEY=VALUE, hydra.launcher.KEY=VALUE.",
    ]
    for group in (*GROUPS, EXPERIMENT, LAUNCHER):
        lines += ["", f"{group}:"]
        for option in options_of(confs, group):
            mark = "*" if option == chosen.get(group) else " "
            text = text_of(confs, group, option)
            comments = [line[2:] for line in text.splitlines() if line.startswith("# ")]
            when = next((line for line in comments if not line.startswith("@package")), "")
            values = values_of(confs, group, option) if group != EXPERIMENT else {}
            keys = " ".join(f"{key}={_plain(value)}" for key, value in values.items())
            lines += _indented(f" {mark} {option:<17}", when)
            lines += _indented(" " * 20, keys)
    _, keys_of_run = primary_of(confs)
    top = {key: value for key, value in keys_of_run.items() if key in SETTINGS}
    lines += ["", "for the run: " + " ".join(f"{key}={_plain(value)}" for key, value in top.items())]
    lines += [
        "",
        "--help GROUP or --help GROUP=OPTION explains every key. --hydra-help: Hydra's own flags.",
        *COMPLETION,
    ]
    return "\n".join(lines)


def markdown(confs: Confs) -> str:
    """The text of docs/options.md: what --help prints for every group, and links to each option."""
    groups = (*GROUPS, EXPERIMENT, LAUNCHER)
    chosen = chosen_options(confs)
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
            for option in options_of(confs, group)
            for link in [f"[{option}](#{_anchor(f'{group}={option}')})"]
        ]
        lines.append(f"| [{group}](#{_anchor(group)}) | {', '.join(links)} |")
    primary, _ = primary_of(confs)
    own = [line for line in primary.splitlines() if line.split(":")[0] in SETTINGS]
    lines += ["", "## The run", "", "Keys that belong to no group.", "", *_fenced("yaml", own)]
    for group in groups:
        lines += ["", f"## {group}", "", *notes_of(confs, group, NOTES).splitlines()]
        for option in options_of(confs, group):
            heading, *text = _explained(confs, group, option).splitlines()
            lines += ["", f"### {heading}", "", *_fenced("yaml", [line[2:] for line in text])]
    return "\n".join(lines) + "\n"


def _fenced(language: str, lines: Sequence[str]) -> list[str]:
    return [f"```{language}", *lines, "```"]


def _anchor(heading: str) -> str:
    """Where a link to a heading leads, by GitHub's rule: letters, digits, `_` and `-` alone."""
    return re.sub(r"[^\w-]", "", heading)


def _explained(confs: Confs, group: str, option: str) -> str:
    """The file of an option, without the lines that only the program reads.

    Raises:
        UsageError: there is no such option.
    """
    if fault := option_fault(group, option, confs):
        raise UsageError([fault])
    lines = text_of(confs, group, option).splitlines()
    shown = [line for line in lines if not line.startswith(("# @package", "_target_:"))]
    return "\n".join([f"{group}={option}", *(f"  {line}".rstrip() for line in shown)])


def _indented(label: str, text: str) -> list[str]:
    width = min(110, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label))


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
