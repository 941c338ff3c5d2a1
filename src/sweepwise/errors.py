"""Exceptions whose message a person reads, and the exit codes of the program."""

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence

from sweepwise.system.handle import readable

# Exit codes of the program; `system.signals.exit_code` gives that of one which a signal has ended.
DONE, FAILED, BAD_USAGE = 0, 1, 2
# Exit codes by which a run's process in a sweep says that it has not tried to train, and the word for each.
REFUSED, ELSEWHERE, CHANGED = BAD_USAGE, 75, 76
UNTRIED = {ELSEWHERE: "elsewhere", CHANGED: "changed", REFUSED: "refused"}
OUT_OF_MEMORY = "out of memory"
REPORTED = "reported"  # a note on an exception whose message has been printed already


class Failure(RuntimeError):
    """An error that one line explains better than a traceback; the program ends with exit code 1."""


class Untried(Failure):
    """A run of a sweep that was not trained: another process does, or it would be another run."""


def reason(error: BaseException) -> str:
    """An exception in one line, with a way out where one is known."""
    text = readable(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        detail = f" ({text})" if text else ""
        return (
            f"{OUT_OF_MEMORY}{detail}: a smaller data.batch_size needs less, and so does "
            "trainer.accumulate=2, which passes each batch in two pieces"
        )
    return f"{type(error).__name__}: {readable(error)}".strip(": ")


def explained(error: Exception) -> Failure | None:
    """A `Failure` to raise instead of an out-of-memory error, which one line explains; else None."""
    why = reason(error)
    return Failure(why) if why.startswith(OUT_OF_MEMORY) else None


class UsageError(ValueError):
    r"""The command or config is wrong; each fault is a line with the key, its value and the rule.

    Example:
        >>> str(UsageError(["data.batch_size=0: must be at least 1", "seed.value=-1: must be at least 0"]))
        'data.batch_size=0: must be at least 1\nseed.value=-1: must be at least 0'
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to a misspelt one, or else all of them."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(known)}" if known else "it has none"


def shell_override(key: str, value: str | Sequence[str]) -> str:
    r"""An override as it can be pasted into a shell, whatever characters the value has.

    Example:
        >>> print(shell_override("data.target", "y"), shell_override("data.drop", ["weight (kg)", "it's"]))
        data.target=y 'data.drop=["weight (kg)","it'"'"'s"]'
    """
    written = hydra_word(value) if isinstance(value, str) else f"[{','.join(map(hydra_word, value))}]"
    return shlex.quote(f"{key}={written}")


def hydra_word(word: str) -> str:
    """A text in Hydra's grammar: quoted unless it is a plain name, and not a word for a value of its own."""
    if re.fullmatch(r"(?!(null|true|false|inf|nan)$)[A-Za-z_][A-Za-z0-9_]*", word, re.ASCII | re.IGNORECASE):
        return word
    # Backslashes count before a quote, the end, and "${", which would be an interpolation.
    special = {'"': '\\"', "${": "\\${", "": ""}
    return '"' + re.sub(r'(\\*)("|\$\{|$)', lambda found: found[1] * 2 + special[found[2]], word) + '"'
