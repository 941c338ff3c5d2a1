"""What is said of a whole sweep: its runs by name and number; at its end how they ended, and the answer."""

from __future__ import annotations

import contextlib
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweepwise.errors import UNTRIED, UsageError, reason
from sweepwise.improvement import Mode, sign
from sweepwise.store.folders import MEAN
from sweepwise.store.status import ENDED, EXIT_CODES, PRUNED, UNPAUSED
from sweepwise.sweep import failures
from sweepwise.sweep.failures import Failed
from sweepwise.sweep.outcome import status
from sweepwise.system.console import INDENT, command_to_continue, on_terminal, wrapped

if TYPE_CHECKING:
    from sweepwise.results.answer import Answer
    from sweepwise.results.table import Table
    from sweepwise.store.request import Request
    from sweepwise.sweep.outcome import Outcome


NOT_BEGUN = "not begun"
ORDER = (  # in which statuses are listed
    *EXIT_CODES,
    *("running", "queued", "ending", "interrupted", NOT_BEGUN),
    *("failed", "damaged", *UNTRIED.values()),
)
STATUS_LETTERS = max(map(len, ORDER)) + 1
KEY = re.compile(r"(?:^|(?<=,)|(?<=__))[\w.+~@/]+?=")  # in 'init=xavier,seed.value=0', or in a folder's name
NAME_LETTERS = 20  # that at least remain of a run's name on a line


def names(requests: Sequence[Request]) -> dict[tuple[Path, str], str]:
    """A short name for each run: the overrides that not all runs have; the folder of a single run."""
    common = set.intersection(*(set(request.overrides) for request in requests)) if requests else set()
    return {
        (request.home, request.id): ",".join(word for word in request.overrides if word not in common)
        or request.folder.name
        for request in requests
    }


def line(head: str, name: str, tail: str) -> str:
    """A run in one line. Where that is wider than the terminal the keys of its name are left out.

    If that is not enough its beginning is, too. On a narrow terminal it takes several lines instead, and
    nothing is left out.
    """
    whole = f"{head}{name}  {tail}".rstrip()
    columns = shutil.get_terminal_size().columns
    if not on_terminal() or len(whole) <= columns:
        return whole
    if not fits(head, name, tail):
        return textwrap.fill(whole, columns, subsequent_indent="    ")
    room = columns - len(head) - len(tail) - 3
    values = KEY.sub("", name)
    shown = values if len(values) <= room else f"...{values[3 - room :]}"
    return f"{head}{shown}  {tail}".rstrip()


def fits(head: str, name: str, tail: str) -> bool:
    """Whether a run takes one line, at most without the keys or the beginning of its name."""
    room = shutil.get_terminal_size().columns - len(head) - len(tail) - 3
    return not on_terminal() or room >= min(NAME_LETTERS, len(KEY.sub("", name)))


def rank(known: Mapping[str, Any], mode: Mode = "auto") -> tuple[bool, float]:
    """Lower for a record with a better result; first whether it has none.

    Args:
        known: the record.
        mode: see `improvement.sign`.
    """
    best = known.get("best") or {}
    metric, value = best.get("metric"), best.get("value")
    return (True, 0.0) if metric is None or value is None else (False, sign(metric, mode) * value)


def number(runs: int) -> str:
    """A number of runs, as text: '1 run', '2,000 runs'."""
    return f"{runs:,} run{'s' if runs != 1 else ''}"


def counts(statuses: Sequence[str]) -> str:
    """How many runs have each status."""
    count = Counter(statuses)
    return ", ".join(f"{count[word]:,} {word}" for word in ORDER if count[word])


def described(sweep: object, statuses: Sequence[str]) -> str:
    """A sweep in one line."""
    return f"{sweep}: {number(len(statuses))}: {counts(statuses)}"


def tell(outcomes: Sequence[Outcome], requests: Sequence[Request], *, whole: bool = True) -> None:
    """Prints how a sweep on this machine has ended; failures go to the standard error output.

    Args:
        outcomes: of the runs that were started, or had ended before.
        requests: all runs of the sweep, each once.
        whole: False: they are a step of it, so how many have ended is said later.
    """
    homes = ", ".join(dict.fromkeys(str(request.home) for request in requests))
    statuses = [status(outcome) for outcome in outcomes]
    not_begun = [NOT_BEGUN] * (len(requests) - len(outcomes))
    if whole:
        print(wrapped("sweep", described(homes, [*statuses, *not_begun])), flush=True)
    run_names = names(requests)
    failures.tell(
        Failed(
            word,
            run_names[outcome.request.home, outcome.request.id],
            "",
            outcome.last,
            (str(outcome.request.folder), outcome.request.id),
            str(outcome.log or ""),
        )
        for word, outcome in zip(statuses, outcomes, strict=True)
        if word == "failed" or outcome.exit_code in UNTRIED
    )
    if whole and (not_begun or "interrupted" in statuses):
        print(wrapped("to go on", command_to_continue()), flush=True)
    elif whole and PRUNED in statuses:
        print(wrapped("to go on", UNPAUSED), flush=True)


def tell_answer(outcomes: Sequence[Outcome], requests: Sequence[Request]) -> Table | None:
    """Prints what the runs of a sweep say together, with earlier runs that repeat them, and how sure that is.

    Args:
        outcomes: of the runs that were started, or had ended before.
        requests: all runs of the sweep, each once.

    Returns:
        As `answer_of`.
    """
    has_ended = any(status(outcome) in ENDED for outcome in outcomes)
    if has_ended and len(requests) > 1 and any(request.config["progress"] for request in requests):
        homes = [request.home for request in requests]
        return answer_of(homes, [request.config for request in requests])
    return None


def expect_in_tensorboard(requests: Sequence[Request]) -> None:
    """Tells TensorBoard's HParams tab what varies among runs that begin now, before it shows the first."""
    if len(requests) < 2:
        return
    from sweepwise.monitor import columns

    try:
        columns.expect(requests)
    except OSError as error:
        print(wrapped("tensorboard", f"lacks columns: {error}"), flush=True)


def forget_in_tensorboard(requests: Sequence[Request]) -> None:
    """Takes that back where no run has begun, so that no folder is left."""
    if len(requests) < 2:
        return
    from sweepwise.monitor import columns

    for home in dict.fromkeys(request.home for request in requests):
        with contextlib.suppress(OSError):
            columns.forget(home)


def tell_tensorboard(homes: Sequence[Path], mean_runs: bool | None = None) -> bool:
    """Completes what TensorBoard shows of a sweep whose runs have ended; prints what it does not show.

    Args:
        homes: of its experiments.
        mean_runs: whether a mean over the replicates of each setting is written; None: as its runs say.

    Returns:
        Whether all could be written.
    """
    from sweepwise.results import loading
    from sweepwise.results.tensorboard import hparams_columns
    from sweepwise.results.tensorboard import mean_runs as means

    written = True
    for home in dict.fromkeys(homes):
        try:
            found = loading.load(home)
            hparams_columns.write(home, found)
            wanted = [row.run.config.get("mean_runs", True) for row in found.rows]
            left = means.write(home, found) if mean_runs or (mean_runs is None and any(wanted)) else 0
        except UsageError:  # there is no run, which the answer has said
            continue
        except OSError as error:
            print(wrapped("tensorboard", f"lacks means or columns: {error}"), flush=True)
            written = False
            continue
        if left:
            text = f"{home}/{MEAN} has the {means.MOST} best settings, {left:,} are left out"
            print(wrapped("tensorboard", text), flush=True)
    return written


def answer_of(homes: Sequence[Path], configs: Sequence[Mapping[str, Any]] | None = None) -> Table | None:
    """Prints what the runs in some folders say together, and writes the folder's page where they have ended.

    Args:
        homes: of experiments.
        configs: only runs that have, or repeat, one of these; None: all.

    Returns:
        The runs, which nobody reads again while they are held; None if they could not be read, or the page
        could not be written, for a reason that is not in them.
    """
    from sweepwise.results import answer, loading, words  # numpy and scipy take a while

    try:
        found = loading.load(*dict.fromkeys(homes), like=configs)
        answered = answer.answer(found, thorough=False)
        print(words.text(words.summary(answered)), flush=True)
    except (UsageError, OSError) as error:
        print(wrapped("no answer", str(error)), flush=True)
        return None
    if any(config.get("report", True) for config in configs or [row.run.config for row in found.rows]):
        return found if _write_page(answered) else None
    return found


def _write_page(answered: Answer) -> bool:
    """Writes the page of a sweep; whatever goes wrong is one line, as the sweep itself has ended.

    Returns:
        False if it went wrong for a reason that is not in the folders of the runs.
    """
    from sweepwise.results.page import files

    try:
        path = files.beside(answered)
    except Exception as error:
        refused = isinstance(error, UsageError)
        print(wrapped("no page", str(error) if refused else reason(error)), flush=True)
        return refused
    if path:
        print(f"{'page':<{INDENT}}{path}", flush=True)
    return True
