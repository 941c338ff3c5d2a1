"""What all forms of an account share: names of settings, which of them are shown, costs, the command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

from sweepwise.results.further_runs import UNREPEATED
from sweepwise.results.markup import one_line
from sweepwise.search.guided.account import Account, Chapter, Compared, Cost
from sweepwise.store.request import keys

PROGRAM = ("python", "train.py")
DEFAULT = "the default"
UNCHANGED = "as decided before"  # the name of a setting without overrides, once a stage has decided some
NO_VALUE = "no value"
OMITTED = "..."
# Keys that say where a run goes and what is shown of it, not what it is.
NOT_THE_RUN = frozenset({*UNREPEATED, "name", "output_dir", "experiment", "hydra", "_search_"})
DETERMINISTIC = "deterministic"  # the one key of the group `seed` that is no seed


def of_the_run(overrides: Sequence[str]) -> tuple[str, ...]:
    """Of overrides those that say what a run is: no seeds, nothing of Hydra's; the last one of each key.

    Example:
        >>> of_the_run(("name=a", "init=zeros", "seed.value=1", "hydra/launcher=slurm", "init=kaiming"))
        ('init=kaiming',)
    """
    last = dict(zip(keys(overrides), overrides, strict=True))
    return tuple(text for key, text in last.items() if key == "experiment" or says_the_run(key))


def says_the_run(key: str) -> bool:
    """Whether a key, such as 'optimizer.lr', is part of what a run is, whichever its seed.

    Example:
        >>> [says_the_run(key) for key in ("optimizer.lr", "seed", "seed.deterministic", "seed.init", "name")]
        [True, True, True, False, False]
    """
    first, _, rest = key.partition(".")
    return first.partition("/")[0] not in NOT_THE_RUN and not (
        first == "seed" and rest and rest != DETERMINISTIC
    )


def command(account: Account, saved: str = "", program: Sequence[str] = PROGRAM) -> str:
    """The command that trains the result.

    Args:
        account: of the search.
        saved: the experiment that it was saved as; '' if it was not.
        program: how it is called, in words.
    """
    said = [f"experiment={saved}"] if saved else of_the_run((*account.base, *account.found))
    return shlex.join([*program, *said])


def names(account: Account) -> list[str]:
    """For each stage the name of its setting without overrides: what the stages before have decided.

    Of the last stage it is the default, with which it compares.
    """
    decided, found = False, []
    for chapter in account.chapters:
        found.append(UNCHANGED if decided and chapter.stage != "final" else DEFAULT)
        decided = decided or bool(chapter.overrides)
    return found


def name(compared: Compared, unchanged: str = UNCHANGED) -> str:
    """A setting by its overrides; without any it is `unchanged`.

    Example:
        >>> name(Compared(("init=zeros", "optimizer.lr=0.1"))), name(Compared(()))
        ('init=zeros optimizer.lr=0.1', 'as decided before')
    """
    return one_line(" ".join(compared.overrides)) or unchanged


def finite(values: Mapping[int, float]) -> dict[int, float]:
    """Of values those that are numbers, by seed."""
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def mean(compared: Compared) -> float | None:
    """The mean of a setting's values; None if it has none."""
    values = finite(compared.values).values()
    return math.fsum(values) / len(values) if values else None


def in_short(value: float | None) -> str:
    """A value to four digits, all of them shown.

    Example:
        >>> in_short(0.417), in_short(12345.0), in_short(None)
        ('0.4170', '1.234e+04', 'no value')
    """
    return NO_VALUE if value is None else f"{value:#.4g}".removesuffix(".")


def is_decided(compared: Compared, chapter: Chapter) -> bool:
    """Whether a setting is what its stage has decided."""
    return compared.overrides == chapter.overrides


def shown(chapter: Chapter, most: int) -> tuple[list[Compared], int]:
    """The settings of a stage that are shown: the best, and in any case what was decided and what was before.

    Args:
        chapter: the stage.
        most: settings, at least 2.

    Returns:
        The settings in their order, and how many are left out.
    """
    every = chapter.compared
    needed = [at for at, one in enumerate(every) if is_decided(one, chapter) or not one.overrides][:2]
    best = [at for at in range(len(every)) if at not in needed][: most - len(needed)]
    kept = sorted([*needed, *best])
    return [every[at] for at in kept], len(every) - len(kept)


def seeds(n: int) -> str:
    """A number of seeds, in words."""
    return f"{n:,} seed{'s' * (n != 1)}"


def cost(spent: Cost) -> str:
    """What trainings took, in words.

    Example:
        >>> cost(Cost(1200, 30_000, 5400.0)), cost(Cost())
        ('1,200 runs, 30,000 epochs, 90 minutes', 'nothing that was not known before')
    """
    if not spent.runs:
        return "nothing that was not known before"
    runs, epochs = (
        f"{n:,} {word}{'s' * (n != 1)}" for n, word in ((spent.runs, "run"), (spent.epochs, "epoch"))
    )
    return f"{runs}, {epochs}, {minutes(spent.seconds)}"


def minutes(seconds: float) -> str:
    """A time in minutes, in words.

    Example:
        >>> minutes(20), minutes(60), minutes(150), minutes(86_400)
        ('0.3 minutes', '1 minute', '2.5 minutes', '1,440 minutes')
    """
    long = seconds / 60
    text = f"{long:,.0f}" if long >= 10 else f"{long:.1f}".removesuffix(".0")
    return f"{text} minute{'s' * (text != '1')}"


def shortened(text: str, letters: int) -> str:
    """A text in one line, without its last words if it is longer; of one long word without its end.

    Example:
        >>> shortened("init=zeros lr=0.1", 17), shortened("init=zeros lr=0.1", 16), shortened("x" * 9, 8)
        ('init=zeros lr=0.1', 'init=zeros...', 'xxxxx...')
    """
    line = " ".join(one_line(text).split())
    if len(line) <= letters:
        return line
    kept = line[: letters - len(OMITTED) + 1]
    return (kept.rpartition(" ")[0].rstrip(";,: ") or kept[:-1]) + OMITTED


def sentence(text: str) -> str:
    """A text in one line that ends with a full stop; '' of ''.

    Example:
        >>> sentence("by five seeds"), sentence("is it?"), sentence("")
        ('by five seeds.', 'is it?', '')
    """
    line = " ".join(one_line(text).split())
    return line if not line or line[-1] in ".!?:" else f"{line}."


def capital(text: str) -> str:
    """A text that begins with a capital: of our own words, as names of options keep their letters."""
    return text[:1].upper() + text[1:]
