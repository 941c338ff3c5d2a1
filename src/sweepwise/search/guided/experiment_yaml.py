"""The result of a guided search as a file of conf/experiment/, which one command trains."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from pathlib import Path

from sweepwise.config.groups import GROUPS
from sweepwise.errors import UsageError
from sweepwise.results.markup import one_line
from sweepwise.search.guided.account import Account
from sweepwise.search.guided.account_result import reached
from sweepwise.search.guided.experiment_keys import Given, dumped, entries, keys_of
from sweepwise.system.atomic import make_folder, write_atomic

PACKAGE = "# @package _global_"  # by which Hydra knows that the keys are those of the whole config
MARK = "# Found by hydra/sweeper=guided"  # of a file that a later search may replace
SAVE = "hydra.sweeper.save"
NAME = re.compile(r"(?!(null|true|false|inf|nan)$)[A-Za-z][A-Za-z0-9_-]{0,99}", re.IGNORECASE | re.ASCII)
HEAD = 4096  # bytes of a file in which its first lines are looked for


def path_of(folder: Path, name: str) -> Path:
    """Where an experiment is saved.

    Args:
        folder: conf/experiment.
        name: of the experiment.

    Raises:
        UsageError: Hydra would not take the name for an option, or it is none of a file.
    """
    if not NAME.fullmatch(name):
        shown = name if name.isprintable() else repr(name)
        raise UsageError(
            [f"{SAVE}={shown}: must begin with a letter, and have letters, digits, _ and - only, at most 100"]
        )
    return folder / f"{name}.yaml"


def refuse_foreign(path: Path) -> None:
    """Refuses a file that is there and that no guided search has written.

    Raises:
        UsageError: there is one.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(HEAD).decode(errors="replace").splitlines()
    except FileNotFoundError:
        if not path.is_symlink():
            return
        lines = []
    except OSError:  # a folder, or a file that cannot be read
        lines = []
    if not any(line.startswith(MARK) for line in lines[:2]):
        raise UsageError(
            [
                f"{SAVE}={path.stem}: {path} is there, and no guided search has written it; "
                f"{SAVE}=OTHER saves beside it"
            ]
        )


def write(path: Path, text: str) -> None:
    """Writes an experiment; one that an earlier guided search has written is replaced.

    Raises:
        UsageError: there is a file that no guided search has written.
        OSError: it could not be written; what was there is there.
    """
    refuse_foreign(path)
    make_folder(path.parent)
    write_atomic(path, text.encode())


def experiment(
    account: Account,
    given: Given,
    name: str,
    *,
    command: str,
    when: datetime.datetime,
    groups: Collection[str] = GROUPS,
) -> str:
    """The text of an experiment that trains the result of a search.

    Seeds, `name`, `output_dir`, Hydra's own keys and those that only say what is shown are left out; runs of
    the experiment go to a folder of its name.

    Args:
        account: of the search.
        given: all overrides of the result, those of `account.base` before those of `account.found`; see
            `experiment_keys.keys_of`.
        name: of the experiment.
        command: by which it was found, or the experiment that it began with.
        when: it was found.
        groups: of the configs.

    Raises:
        UsageError: an override does what no yaml can, such as removing a key.
    """
    found = keys_of(given, groups)
    listed = [f"  {line}" for line in entries(found)]
    lines = [
        PACKAGE,
        f"{MARK} on {when:%Y-%m-%d}: {_comment(reached(account))}",
        f"# by: {_comment(command)}",
        f"# python train.py experiment={name}    trains it; with -m 'seed.value=range(5)' it is repeated",
        *(["defaults:", *listed] if listed else []),
        dumped({"name": name, **found.values}),
    ]
    return "\n".join(lines)


def _comment(text: str) -> str:
    """A text that can stand in one line of a comment, whatever it holds."""
    line = one_line(text)
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
