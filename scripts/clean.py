"""Removes runs that are not wanted any more, and what killed processes have left.

  python scripts/clean.py outputs/main                       what killed processes have left
  python scripts/clean.py outputs/main diverged failed       runs that have diverged or failed
  python scripts/clean.py outputs changed older=30d yes=true without asking, in all experiments

The first argument is an experiment's folder, or one above several. Words choose
runs: diverged, failed, interrupted, pruned, and changed, those that were made by
other code, inputs or versions than are here now. Each word adds runs; these narrow:

  older=30d    ended as long ago: 90m, 12h, 30d, 2w
  KEY=VALUE    has this value, such as init=zeros

Without a word all runs are meant that these leave. First it shows what would be
removed, each run in words, then it asks. yes=true does not ask; without a
terminal and without yes=true nothing is removed.

A run that a process or a job of the cluster has is never removed, nor is a folder
with files in it that are no part of a run, nor anything behind a link in FOLDER. What is
removed is gone: the same command trains the run again. After a kill at any moment
no half of a run is left; what is, the next call removes.

Exit codes: 0, also if nothing was removed, 1 if something could not be, 2 bad usage.
"""

import re
import shlex
import sys
from pathlib import Path

from sweepwise import cli
from sweepwise.errors import UsageError, did_you_mean
from sweepwise.store import removal
from sweepwise.sweep import cleaning
from sweepwise.sweep.cleaning import WORDS, Found, Wish
from sweepwise.sweep.summary import STATUS_LETTERS, number
from sweepwise.system.console import on_terminal, print_line
from sweepwise.tools import scripting


def main(arguments: list[str]) -> int:
    """Shows what would be removed, asks, and removes it."""
    (top,), wish, yes = _read(arguments)
    found = cleaning.look_at_all(cleaning.homes(Path(top)), wish)
    runs = sum(len(one.unwanted) for one in found)
    rest = [path for one in found for path in one.leftovers]
    for one in found:
        _show(one, wish)
    total = sum(run.size for one in found for run in one.unwanted) + sum(map(removal.size, rest))
    if not runs and not rest:
        print_line("nothing", "to remove")
        return 0
    what = " and ".join(
        filter(None, [number(runs) if runs else "", f"{len(rest)} left by killed processes" if rest else ""])
    )
    if not yes and not _agreed(f"remove {what}, {_bytes(total)}? [y/N] "):
        again = shlex.join(["python", "scripts/clean.py", *arguments, "yes=true"])
        print_line("nothing", f"was removed; {again} removes {what}, {_bytes(total)}")
        return 0
    return _remove([one for one in found if one.unwanted or one.leftovers], wish)


def _read(arguments: list[str]) -> tuple[list[str], Wish, bool]:
    """The folder, which runs are meant, and whether nobody is asked."""
    first = {"FOLDER": "an experiment's folder, such as outputs/main, or one above several"}
    words = [word for word in arguments[1:] if "=" not in word]
    if unknown := [word for word in words if word not in WORDS]:
        raise UsageError([f"{word}: no word for runs; {did_you_mean(word, WORDS)}" for word in unknown])
    rest = [word for word in arguments[1:] if "=" in word]
    if not arguments or re.match(r"[\w.]+=", arguments[0]):
        scripting.leading([], first)
    own, others = scripting.settings(rest, older="", yes="false")
    if own["yes"] not in ("true", "false"):
        raise UsageError([f"yes={own['yes']}: must be true or false"])
    where = dict(other.split("=", 1) for other in others)
    older = cleaning.seconds(own["older"]) if own["older"] else 0.0
    return arguments[:1], Wish(words, older, where), own["yes"] == "true"


def _show(found: Found, wish: Wish) -> None:
    if found.unwanted or wish.any:
        print_line("sweep", f"{found.home}: {len(found.unwanted)} of {number(found.number)}")
    for one in found.unwanted:
        print(
            f"{one.why:<{STATUS_LETTERS}}{one.words}  {_bytes(one.size)}  {one.run.folder.name}", flush=True
        )
    for path in found.leftovers:
        print_line("left over", f"{path}  {_bytes(removal.size(path))}")
    for text in found.left:
        print_line("stays", text)


def _agreed(question: str) -> bool:
    if not (on_terminal() and sys.stdin and sys.stdin.isatty()):
        return False
    print(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(found: list[Found], wish: Wish) -> int:
    code = 0
    for one in found:
        removed, faults = cleaning.clean(one, wish)
        if removed:
            print_line(
                "removed", f"{one.home}: {number(len(removed))}, {_bytes(sum(r.size for r in removed))}"
            )
        gone = [path for path in one.leftovers if not path.exists() and not path.is_symlink()]
        if gone:
            print_line("removed", f"{one.home}: {len(gone)} left by killed processes")
        for fault in faults:
            print_line("not removed", fault, sys.stderr)
            code = 1
        for text in cleaning.refresh(one.home) if removed else ():
            print_line("stale", text)
    return code


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


if __name__ == "__main__":
    cli.script(main, __doc__)
